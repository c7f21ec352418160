"""Who may use the REST interface: tokens, administrators, their logins, and the audit."""

import re
from dataclasses import replace

from gateway.control.operation import NAME, PAGE, ROLES, TEXT, Operation, Parameter, Role

MAX_PASSWORD_CHARACTERS = 1024
MIN_TOKEN_LIFE_S = 60
MAX_TOKEN_LIFE_S = 10 * 366 * 86_400
OUTCOMES = ("done", "refused", "failed")

TOKEN_ID = re.compile(r"[0-9a-f]{16}")
TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?", re.ASCII
)
TIME_WORDS = "a time such as 2026-01-31T12:00:00Z; without Z or offset it is UTC"

_NAME = Parameter(
    "name",
    str,
    required=True,
    maximum=63,
    pattern=NAME,
    allowed="letters, digits, dot, hyphen and underscore, the first a letter or digit",
)
_ROLE = Parameter(
    "role",
    str,
    maximum=9,
    pattern=re.compile("|".join(ROLES)),
    allowed=f"one of {', '.join(ROLES)}",
)
_PASSWORD = Parameter("password", str, maximum=MAX_PASSWORD_CHARACTERS, secret=True)
_VERSION = Parameter("version", int, minimum=1, maximum=2**31 - 1)


def _required(parameter: Parameter) -> Parameter:
    return replace(parameter, required=True)


def _time(name: str) -> Parameter:
    return Parameter(name, str, maximum=35, pattern=TIME, allowed=TIME_WORDS)


_SESSIONS = (
    Operation(
        "login",
        "Log an administrator in. The session is the credential of later requests.",
        (_NAME, _required(_PASSWORD)),
        Role.NOBODY,
    ),
    Operation("whoami", "Who asks, with what role, until when."),
    Operation("logout", "End the session that asks."),
    Operation(
        "own-password",
        "Change the password of the administrator who asks; other sessions of theirs end.",
        (replace(_PASSWORD, name="current", required=True), _required(_PASSWORD)),
        changes=True,
    ),
)

_TOKENS = (
    Operation("tokens", "Bearer tokens, a page at a time.", PAGE, Role.ADMINISTRATOR),
    Operation(
        "token-create",
        "Make a bearer token; only this answer ever shows it.",
        (
            _NAME,
            _required(_ROLE),
            Parameter("expires_in_s", int, minimum=MIN_TOKEN_LIFE_S, maximum=MAX_TOKEN_LIFE_S),
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "token-delete",
        "Remove a bearer token; requests with it are refused from now on.",
        (
            Parameter(
                "id",
                str,
                required=True,
                maximum=16,
                pattern=TOKEN_ID,
                allowed="16 hexadecimal digits, as `tokens` lists them",
            ),
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
)

_ADMINISTRATORS = (
    Operation("administrators", "Who can log in, a page at a time.", PAGE, Role.ADMINISTRATOR),
    Operation(
        "administrator-create",
        "Let somebody log in.",
        (_NAME, _required(_ROLE), _required(_PASSWORD)),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "administrator-change",
        "Give a new role or a new password; sessions of theirs end.",
        (_NAME, _ROLE, _PASSWORD, _VERSION),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "administrator-delete",
        "Let somebody log in no more; their sessions end.",
        (_NAME, _VERSION),
        Role.ADMINISTRATOR,
        changes=True,
    ),
)

_SETUP = (
    Operation(
        "setup-code",
        "Make the one-time code with which the first administrator is made in a browser.",
        (),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "setup-claim",
        "Make an administrator with the one-time code, and log in.",
        (
            Parameter("code", str, required=True, maximum=64, secret=True),
            _NAME,
            _required(_PASSWORD),
        ),
        Role.NOBODY,
    ),
)

_AUDIT = (
    Operation(
        "audit",
        "Who changed what, the newest first, a page at a time.",
        (
            Parameter("who", str, maximum=253, pattern=TEXT, allowed="a part of a name"),
            Parameter("action", str, maximum=63, pattern=NAME, allowed="an operation's name"),
            Parameter("target", str, maximum=253, pattern=TEXT, allowed="a part of a name"),
            Parameter(
                "outcome",
                str,
                maximum=7,
                pattern=re.compile("|".join(OUTCOMES)),
                allowed=f"one of {', '.join(OUTCOMES)}",
            ),
            _time("since"),
            _time("until"),
            *PAGE,
        ),
    ),
)

ACCESS_OPERATIONS: tuple[Operation, ...] = (
    *_SESSIONS,
    *_TOKENS,
    *_ADMINISTRATORS,
    *_SETUP,
    *_AUDIT,
)
