"""From the method negotiation to a client that may ask for leases."""

from ipaddress import IPv4Address
from typing import Final

from gateway.domain.nar import Delivery
from gateway.domain.wire import WireError
from gateway.nar.client import words
from gateway.nar.client.asks import Mode
from gateway.nar.client.link import Link, Sent
from gateway.nar.client.phases import Phase
from gateway.nar.client.settings import NarClientSettings, usable
from gateway.nar.client_outputs import L2tpAgreed, ModeAgreed, SessionAgreed
from gateway.nar.codec.leases import (
    NEW_SESSION,
    L2tpAssociate,
    L2tpReply,
    Session,
    SessionReply,
)
from gateway.nar.codec.negotiation import MethodOffer, PasswordRequest
from gateway.nar.codec.numbers import Method, NarCommand, NarFlag, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest

_FLAGS: Final = {
    Delivery.IP_IP: NarFlag(0),
    Delivery.GRE: NarFlag.GRE,
    Delivery.L2TP: NarFlag.L2TP,
    Delivery.TRANSLATED: NarFlag.TRANSLATED,
}
_KNOWN_FLAGS: Final = NarFlag.TRANSLATED | NarFlag.GRE | NarFlag.L2TP | NarFlag.LEASES
_WORTH_TRYING_AGAIN: Final = (
    Reply.GENERAL_FAILURE,
    Reply.NETWORK_UNREACHABLE,
    Reply.HOST_UNREACHABLE,
)


class Opening:
    """Login, NAR-MODE, SESSION and L2TP-ASSOCIATE, in this order."""

    def __init__(self, link: Link, settings: NarClientSettings) -> None:
        self._link = link
        self._settings = settings
        self._asked: IPv4Address | str = settings.target
        self._session_here = self._l2tp_here = False
        self._l2tp: L2tpAgreed | None = None
        self.token = settings.token
        self.resumed = False
        """Whether the leases of before go on."""

    def begin(self) -> None:
        """Say hello on a new connection."""
        self._session_here = self._l2tp_here = self.resumed = False
        password = (Method.PASSWORD,) if self._settings.user is not None else ()
        self._link.write(MethodOffer(bytes((*password, Method.NONE))).to_octets())

    def forget(self) -> None:
        """The session of before is over."""
        self.token = NEW_SESSION
        self._l2tp = None

    def login_step(self) -> bool:
        """Handle the next message before NAR mode; False when it is not there yet.

        Raises:
            WireError: the server breaks the protocol.
        """
        if self._link.phase is Phase.METHODS:
            return self._methods()
        status = self._link.stream.password_status()
        if status is None:
            return False
        if status.status:
            self._link.fail(words.wrong_login(self._settings.user or ""), again=False)
        else:
            self.ask_mode(self._settings.target)
        return True

    def _methods(self) -> bool:
        choice = self._link.stream.method_choice()
        if choice is None:
            return False
        user, password = self._settings.user, self._settings.password
        if choice.method == Method.NONE:
            self.ask_mode(self._settings.target)
        elif choice.method == Method.PASSWORD and user is not None and password is not None:
            self._link.enter(Phase.LOGIN)
            self._link.write(PasswordRequest(user, password).to_octets())
        elif choice.method == Method.UNACCEPTABLE:
            self._link.fail(words.NO_METHOD, again=False)
        else:
            raise WireError(f"method {choice.method}, which was not offered")
        return True

    def ask_mode(self, target: IPv4Address | str) -> None:
        """NAR-MODE, the first or for another target."""
        flags = _FLAGS[self._settings.delivery]
        if self._settings.leases:
            flags |= NarFlag.LEASES
        self._asked = target
        self._link.enter(Phase.MODE)
        request = SocksRequest(SocksCommand.NAR_MODE, target, 0, flags)
        self._link.command(Sent(SocksCommand.NAR_MODE), request.to_octets())

    def mode_granted(self, reply: SocksReply) -> None:
        """The server is in NAR mode. Raises WireError."""
        if not isinstance(reply.address, IPv4Address) or not usable(reply.address):
            raise WireError("NAR-MODE with an address that nobody can use")
        flags = NarFlag(reply.flags) & _KNOWN_FLAGS
        delivery = _delivery(flags)
        leases = self._settings.leases and NarFlag.LEASES in flags
        if delivery is Delivery.L2TP and not leases:
            raise WireError("L2TP without a way to agree on its session")
        if delivery not in self._settings.acceptable:
            self._link.fail(words.unacceptable(delivery), again=False)
            return
        self._link.leases_known = leases
        self._link.mode = Mode(self._asked, reply.address, delivery)
        self._link.say(ModeAgreed(reply.address, delivery, leases))
        self.go_on()

    def mode_refused(self, reply: Reply) -> None:
        """The server does not do NAR for this client and target."""
        why = words.refusal(SocksCommand.NAR_MODE, reply)
        if reply is Reply.COMMAND_NOT_SUPPORTED:
            why = words.NO_NAR
        self._link.fail(why, again=reply in _WORTH_TRYING_AGAIN)

    def go_on(self) -> None:
        """What is to be agreed on next, or nothing."""
        link = self._link
        if link.leases_known and not self._session_here:
            link.enter(Phase.SESSION)
            link.command(Sent(NarCommand.SESSION), Session(self.token).to_octets())
        elif link.mode.delivery is Delivery.L2TP and not self._l2tp_here:
            link.enter(Phase.L2TP)
            link.command(Sent(NarCommand.L2TP_ASSOCIATE), L2tpAssociate().to_octets())
        else:
            link.enter(Phase.READY)

    def session_answered(self, reply: SessionReply) -> None:
        """Taken up again, or a new one. Raises WireError."""
        resumed = self.token != NEW_SESSION
        if reply.reply is not Reply.SUCCEEDED:
            if not resumed:
                why = words.refusal(NarCommand.SESSION, reply.reply)
                self._link.fail(why, again=True)
                return
            self.forget()
            self._link.command(Sent(NarCommand.SESSION), Session().to_octets())
            return
        if reply.token == NEW_SESSION:
            raise WireError("a session without a token")
        self.token, self._session_here, self.resumed = reply.token, True, resumed
        self._link.clock.leased(reply.lease_s, reply.grace_s)
        self._link.say(SessionAgreed(reply.token, reply.lease_s, reply.grace_s, resumed))
        self.go_on()

    def l2tp_answered(self, reply: L2tpReply) -> None:
        """The session that delivers."""
        if reply.reply is not Reply.SUCCEEDED:
            self._link.fail(words.refusal(NarCommand.L2TP_ASSOCIATE, reply.reply), again=True)
            return
        self._l2tp_here = True
        agreed = L2tpAgreed(reply.session(self._link.local))
        if agreed != self._l2tp:
            self._l2tp = agreed
            self._link.say(agreed)
        self.go_on()


def _delivery(flags: NarFlag) -> Delivery:
    """What the flags of a reply mean (draft 004 section 3.1)."""
    if NarFlag.TRANSLATED in flags:
        return Delivery.TRANSLATED
    if NarFlag.GRE in flags:
        return Delivery.GRE
    return Delivery.L2TP if NarFlag.L2TP in flags else Delivery.IP_IP
