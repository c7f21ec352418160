"""The durable state as a whole: its health, export, import, backup."""

import re
from typing import TypedDict

from gateway.control.operation import NAME, Operation, Parameter, Role

MAX_PASSPHRASE_CHARACTERS = 1024
MAX_PART_OCTETS = 128 * 1024
"""Of a file, in one request or answer."""
MAX_FILE_OCTETS = 1 << 30

TRANSFER_ID = re.compile(r"[0-9a-f]{32}")
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)

_PASSPHRASE = Parameter("passphrase", str, maximum=MAX_PASSPHRASE_CHARACTERS, secret=True)


def _id(*, required: bool = True) -> Parameter:
    return Parameter(
        "id",
        str,
        required=required,
        maximum=32,
        pattern=TRANSFER_ID,
        allowed="32 hexadecimal digits, as `export` or `import-part` gave them",
        secret=True,
    )


_OFFSET = Parameter("offset", int, default=0, maximum=MAX_FILE_OCTETS)

STORE_OPERATIONS: tuple[Operation, ...] = (
    Operation("store", "Where the durable state is, whether it can be written, its backups."),
    Operation(
        "export",
        "Write everything that is stored to one file, to be read with `export-read`. Secrets are"
        " sealed under the passphrase, and left out without one.",
        (_PASSPHRASE, Parameter("records", bool, default=False)),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "export-read",
        "A part of an exported file, from an offset on.",
        (_id(), _OFFSET),
        Role.ADMINISTRATOR,
    ),
    Operation(
        "import-part",
        "Give a part of a file to be imported; without an id, the first one of a new file.",
        (
            _id(required=False),
            _OFFSET,
            Parameter(
                "content",
                str,
                required=True,
                maximum=MAX_PART_OCTETS * 4 // 3 + 4,
                pattern=BASE64,
                allowed="octets in base64",
                secret=True,
            ),
        ),
        Role.ADMINISTRATOR,
    ),
    Operation(
        "import",
        "Put a file that was given in parts in place of everything that is configured: all of it"
        " or nothing.",
        (_id(), _PASSPHRASE, Parameter("dry_run", bool, default=False)),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "backup",
        "Copy the database to a file on the gateway, while it runs.",
        (
            Parameter(
                "file",
                str,
                maximum=63,
                pattern=NAME,
                allowed="a file name of letters, digits, dot, hyphen and underscore, no folder",
            ),
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
)


class Backup(TypedDict):
    """One file."""

    file: str
    octets: int
    made_at: str
    """ISO 8601, UTC."""


class StoreFacts(TypedDict):
    """Result of ``store``."""

    database: str
    """File or URL, without a password."""
    state: str
    """good, failing, read-only or empty."""
    reason: str | None
    """Why it is not good."""
    counters: dict[str, int]
    backups: list[Backup]
    """Newest first."""


class ExportedFile(TypedDict):
    """Result of ``export``."""

    id: str
    octets: int
    rows: int
    sha256: str
    has_secrets: bool


class FilePart(TypedDict):
    """Result of ``export-read``."""

    content: str
    """Base64."""
    next: int | None
    """Offset of the next part; null after the last one."""


class TakenPart(TypedDict):
    """Result of ``import-part``."""

    id: str
    octets: int
    """So far; the next part's offset."""


class ImportResult(TypedDict):
    """Result of ``import``. Objects are named ``kind/name``, at most 1000 of each."""

    dry_run: bool
    made_at: str
    program: str
    created: list[str]
    changed: list[str]
    removed: list[str]
    rows: dict[str, int]
    left_out: dict[str, str]
    """What of the file was not taken, and why."""
    changes: list[dict[str, object]]
    problems: list[str]
    """Objects that were left out when it was put in force."""
