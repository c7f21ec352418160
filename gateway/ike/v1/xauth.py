"""XAUTH: the user of the device logs in after phase 1 (draft-beaulieu-ike-xauth-02).

The gateway asks for name and password, the device answers, the gateway sets the result, the
device acknowledges it. Each side takes only the message that its own step expects, once.
"""

import enum

from gateway.domain.user_auth import (
    Accepted,
    Answer,
    PasswordQuestion,
    Rejected,
    Unavailable,
)
from gateway.ike import closing, users
from gateway.ike.auth.identity import escape
from gateway.ike.core import Core, TimerKind
from gateway.ike.policy import UserAuth
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import NotifyType as Reason
from gateway.ike.v1 import exchange, failing, phase1, setup, transaction
from gateway.ike.v1.codec import Attribute, Configuration
from gateway.ike.v1.codec.registry import CfgAttribute, CfgType, XauthStatus, XauthType
from gateway.ike.v1.sa import Evidence, IkeSa, State

STEP = "XAUTH"
MAX_PASSWORD_OCTETS = 256
_KNOWN = frozenset(
    {
        CfgAttribute.XAUTH_TYPE,
        CfgAttribute.XAUTH_USER_NAME,
        CfgAttribute.XAUTH_USER_PASSWORD,
        CfgAttribute.XAUTH_MESSAGE,
        CfgAttribute.XAUTH_DOMAIN,
    }
)


class Step(enum.Enum):
    """Where a login is. The gateway passes the first three, the device the last two."""

    ASKED = "the user is asked"
    JUDGED = "the backend is asked"
    TOLD = "the result is on its way"
    EXPECTED = "the gateway is expected to ask"
    ANSWERED = "name and password are sent"


class Login:
    """What an SA keeps of the login: ``sa.xauth``; None once it is over."""

    __slots__ = ("refused", "step", "user")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.user = ""
        self.refused: Refused | None = None
        """Why the user is not let in, once that is known."""


def _login(sa: IkeSa, *steps: Step) -> Login | None:
    """The SA's login if it is at one of these steps."""
    login = sa.xauth
    if sa.state is State.AUTHENTICATED and isinstance(login, Login) and login.step in steps:
        return login
    return None


def begin(core: Core, sa: IkeSa, now: float) -> None:
    """Phase 1 is proven: ask, or expect to be asked."""
    if not sa.user_must_prove_itself:
        sa.xauth = Login(Step.EXPECTED)
        return
    sa.xauth = Login(Step.ASKED)
    AskUser(exchange.new_message_id(core, sa), initiator=True, now=now).start(
        core,
        sa,
        CfgType.REQUEST,
        (
            Attribute(CfgAttribute.XAUTH_TYPE, XauthType.GENERIC),
            Attribute(CfgAttribute.XAUTH_USER_NAME),
            Attribute(CfgAttribute.XAUTH_USER_PASSWORD),
        ),
        now,
    )


# -- the gateway ----------------------------------------------------------------------------


class AskUser(transaction.Ask):
    """We ask for name and password."""

    __slots__ = ()
    name = STEP

    def take_answer(self, core: Core, sa: IkeSa, answer: Configuration, now: float) -> None:
        """Let the backend judge them."""
        login = _login(sa, Step.ASKED)
        connection = sa.connection
        auth = connection.peer_auth.user if connection is not None else None
        if login is None or auth is None:
            core.count("transactions_out_of_state")
            return
        try:
            login.user, password = _credentials(answer)
            _check_name(auth, login.user)
        except Refused as refused:
            _judged(core, sa, login, refused, now)
            return
        login.step = Step.JUDGED
        core.ask(sa, PasswordQuestion(auth.backend, login.user, password, users.asker(sa)))


def _credentials(answer: Configuration) -> tuple[str, bytes]:
    """Name and password of a reply. Raises Refused."""
    status, kind = answer.get(CfgAttribute.XAUTH_STATUS), answer.get(CfgAttribute.XAUTH_TYPE)
    if status is not None:
        raise Refused(Reason.AUTHENTICATION_FAILED, "the client gave up the login")
    if kind is not None and kind.number != XauthType.GENERIC:
        raise Refused(Reason.AUTHENTICATION_FAILED, f"XAUTH type {kind.number} is not supported")
    name = answer.get(CfgAttribute.XAUTH_USER_NAME)
    password = answer.get(CfgAttribute.XAUTH_USER_PASSWORD)
    if name is None or password is None or not name.octets or not password.octets:
        raise Refused(
            Reason.AUTHENTICATION_FAILED,
            "the client sent no user name or no password",
            "enter both in the client",
        )
    if len(name.octets) > users.MAX_USER_OCTETS or len(password.octets) > MAX_PASSWORD_OCTETS:
        raise Refused(
            Reason.AUTHENTICATION_FAILED,
            f"user name of {len(name.octets)} octets, password of {len(password.octets)};"
            f" at most {users.MAX_USER_OCTETS} and {MAX_PASSWORD_OCTETS} are allowed",
        )
    try:
        # Some clients count a final NUL of C among the name.
        text = name.octets.removesuffix(b"\0").decode()
    except UnicodeDecodeError:
        raise Refused(Reason.AUTHENTICATION_FAILED, "the user name is not UTF-8") from None
    if not text or not text.isprintable():
        raise Refused(Reason.AUTHENTICATION_FAILED, f"{escape(text, 80)!r} is no usable user name")
    return text, password.octets


def _check_name(auth: UserAuth, user: str) -> None:
    if not users.may_log_in(auth, user):
        raise Refused(
            Reason.AUTHENTICATION_FAILED,
            f"user {escape(user, 80)} may not log in by this connection",
            "extend identities of the connection's user section",
            theirs=escape(user, 80),
            ours=str(auth.identities),
        )


def answered(core: Core, sa: IkeSa, answer: Answer, now: float) -> None:
    """What the backend says of the user."""
    login = _login(sa, Step.JUDGED)
    if login is None:
        core.count("answers_unexpected")
        return
    refused: Refused | None = None
    shown = escape(login.user, 80)
    if isinstance(answer, Accepted):
        try:
            users.admit(core, sa, answer)
        except Refused as not_admitted:
            refused = not_admitted
    elif isinstance(answer, Rejected):
        refused = Refused(Reason.AUTHENTICATION_FAILED, f"user {shown}: {answer.reason}")
    elif isinstance(answer, Unavailable):
        refused = Refused(
            Reason.AUTHENTICATION_FAILED,
            f"nobody could tell whether the password of {shown} is right: {answer.reason}",
            "check the user backend of the connection",
        )
    else:
        refused = Refused(Reason.AUTHENTICATION_FAILED, f"user {shown}: the backend wants EAP")
    _judged(core, sa, login, refused, now)


def _judged(core: Core, sa: IkeSa, login: Login, refused: Refused | None, now: float) -> None:
    """Tell the device."""
    login.step = Step.TOLD
    login.refused = refused
    status = XauthStatus.OK
    if refused is None:
        sa.evidence |= Evidence.USER
    else:
        status = XauthStatus.FAIL
        core.count("logins_refused")
        who = f"{sa.peer_name} (user {escape(login.user, 80)})" if login.user else sa.peer_name
        report_refusal(
            core, refused, who, sa.path.remote, STEP, connection=sa.connection_name, now=now, sa=sa
        )
    SetStatus(exchange.new_message_id(core, sa), initiator=True, now=now).start(
        core, sa, CfgType.SET, (Attribute(CfgAttribute.XAUTH_STATUS, status),), now
    )


class SetStatus(transaction.Ask):
    """We tell the result; acknowledged, the SA is established or over."""

    __slots__ = ()
    name = STEP

    def take_answer(self, core: Core, sa: IkeSa, answer: Configuration, now: float) -> None:
        """The device knows."""
        del answer
        login = _login(sa, Step.TOLD)
        if login is None:
            core.count("transactions_out_of_state")
            return
        if login.refused is not None:
            failing.wrap_up(core, sa, login.refused.reason, now)
            return
        sa.auth = f"{sa.auth}, XAUTH" if sa.auth else "XAUTH"
        _over(core, sa, now)

    def unanswered(self, core: Core, sa: IkeSa, now: float) -> None:
        """Gone without a word, as clients do that were refused."""
        failing.wrap_up(core, sa, "the client did not acknowledge the result of XAUTH", now)


def _over(core: Core, sa: IkeSa, now: float) -> None:
    sa.xauth = None
    phase1.establish(core, sa, now)
    if sa.state is State.ESTABLISHED:
        setup.proceed(core, sa, now)


# -- the device -----------------------------------------------------------------------------


def asked(
    core: Core, sa: IkeSa, arrival: exchange.Arrival, request: Configuration, now: float
) -> None:
    """The gateway asks for name and password. It has proven itself in phase 1."""
    login = _login(sa, Step.EXPECTED)
    if login is None:
        core.count("transactions_out_of_state")
        return
    connection = sa.connection
    credential = connection.user_credential if connection is not None else None
    unknown = [
        one.type
        for one in request.attributes
        if one.type not in _KNOWN
        and CfgAttribute.XAUTH_TYPE <= one.type <= CfgAttribute.XAUTH_ANSWER
    ]
    kind = request.get(CfgAttribute.XAUTH_TYPE)
    if unknown or (kind is not None and kind.number != XauthType.GENERIC) or credential is None:
        why = (
            "the gateway asks for a user, the connection has no user_credential"
            if credential is None
            else "the gateway asks for more than a user name and a password"
        )
        fail = (Attribute(CfgAttribute.XAUTH_STATUS, XauthStatus.FAIL),)
        transaction.answer(core, sa, arrival, request, fail, now)
        _end(core, sa, Refused(Reason.AUTHENTICATION_FAILED, why), now)
        return
    login.step = Step.ANSWERED
    login.user = credential.name
    attributes = [
        Attribute(CfgAttribute.XAUTH_USER_NAME, credential.name.encode()),
        Attribute(CfgAttribute.XAUTH_USER_PASSWORD, credential.password),
    ]
    if kind is not None:
        attributes.insert(0, Attribute(CfgAttribute.XAUTH_TYPE, XauthType.GENERIC))
    transaction.answer(core, sa, arrival, request, attributes, now)


def status_set(
    core: Core, sa: IkeSa, arrival: exchange.Arrival, told: Configuration, now: float
) -> None:
    """The gateway tells the result."""
    login = _login(sa, Step.ANSWERED)
    status = told.get(CfgAttribute.XAUTH_STATUS)
    if login is None or status is None:
        core.count("transactions_out_of_state")
        return
    acknowledged = (Attribute(CfgAttribute.XAUTH_STATUS),)
    transaction.answer(core, sa, arrival, told, acknowledged, now)
    if status.number == XauthStatus.OK:
        core.timers.cancel((TimerKind.GIVE_UP, sa.local_spi))
        _over(core, sa, now)
        return
    refused = Refused(
        Reason.AUTHENTICATION_FAILED,
        f"the gateway refused user {escape(login.user, 80)}",
        "check name and password of user_credential; see the gateway's log",
    )
    _end(core, sa, refused, now)


def _end(core: Core, sa: IkeSa, refused: Refused, now: float) -> None:
    report_refusal(
        core, refused, sa.peer_name, sa.path.remote, STEP, connection=sa.connection_name, sa=sa
    )
    closing.close(core, sa, refused.reason, now, hint=refused.remedy)
