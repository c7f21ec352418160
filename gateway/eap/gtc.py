"""EAP-GTC (RFC 3748 section 5.6): the password in clear, which only the tunnel protects."""

from gateway.domain.user_auth import Accepted, Answer, Rejected, Unavailable
from gateway.domain.wire import WireError
from gateway.eap.method import EapMethod, Progress, Stage

MAX_PASSWORD_OCTETS = 256

_PROMPT = b"Password"


class GtcServer:
    """Asks the peer for the password, and a user base or RADIUS server whether it is right."""

    __slots__ = ("_asked", "_user")

    method = EapMethod.GTC

    def __init__(self, user: str) -> None:
        self._user = user
        self._asked = False

    def begin(self, identifier: int) -> bytes:  # noqa: ARG002 the protocol's shape
        """The prompt."""
        return _PROMPT

    def receive(self, data: bytes) -> Progress:
        """Take the password; somebody has to say whether it is right."""
        if self._asked:
            raise WireError("a second password before the first was judged")
        self._asked = True
        if not self._user:
            return Progress(
                Stage.FAILED,
                reason="the peer did not say which user it is",
                remedy="Let this connection ask for the EAP identity.",
            )
        if not 0 < len(data) <= MAX_PASSWORD_OCTETS:
            raise WireError(f"a password of {len(data)} octets")
        return Progress(Stage.ASKING, user=self._user, password=data)

    def answered(self, answer: Answer) -> Progress:
        """Take the judgement."""
        match answer:
            case Accepted(user=user):
                return Progress(Stage.DONE, user=user or self._user)
            case Rejected(reason=reason):
                remedy = "Check the user's password and whether the user may log in."
                return Progress(Stage.FAILED, user=self._user, reason=reason, remedy=remedy)
            case Unavailable(reason=reason):
                remedy = "Check the user base or the RADIUS servers of this connection."
                return Progress(Stage.FAILED, user=self._user, reason=reason, remedy=remedy)
            case _:
                return Progress(
                    Stage.FAILED,
                    user=self._user,
                    reason="a password was answered with an EAP challenge",
                    remedy="Use eap-radius for RADIUS servers that ask further questions.",
                )


class GtcPeer:
    """Gives the password, once. Only for servers whose certificate has been checked."""

    __slots__ = ("_given", "_password")

    method = EapMethod.GTC

    def __init__(self, password: bytes) -> None:
        self._password = password
        self._given = False

    def receive(self, data: bytes) -> Progress:  # noqa: ARG002 the prompt is for people
        """Answer the prompt; the server's EAP-Success is the only judgement there is."""
        if self._given:
            raise WireError("the server asks for the password again")
        self._given = True
        return Progress(Stage.DONE, self._password)
