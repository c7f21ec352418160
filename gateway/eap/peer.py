"""The client's side of one EAP conversation (RFC 3748, RFC 7296 section 2.16)."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.domain.wire import WireError
from gateway.eap.gtc import GtcPeer
from gateway.eap.method import MSK_OCTETS, EapMethod, PeerMethod, Progress, Stage
from gateway.eap.mschapv2 import Mschapv2Peer
from gateway.eap.packet import (
    MAX_IDENTITY_OCTETS,
    Code,
    EapPacket,
    EapType,
    nak,
    numbered_title,
    type_title,
)
from gateway.eap.server import MAX_CONVERSATION_OCTETS, MAX_ROUND_TRIPS, Outcome
from gateway.eap.tls import CheckCertificate, TlsParty, TlsPeer

MAX_IDENTITY_REQUESTS = 3
MAX_NOTIFICATIONS = 3
MAX_NAKS = 3


@dataclass(frozen=True, slots=True)
class PeerStep:
    """What the client does next: CONTINUE, SUCCESS or FAILURE."""

    outcome: Outcome
    send: bytes | None = field(default=None, repr=False)
    """An EAP packet for the server."""
    msk: bytes = field(default=b"", repr=False)
    """With SUCCESS: 64 octets, or none from EAP-GTC."""
    method: EapMethod | None = None
    certificate: bytes = field(default=b"", repr=False)
    """With SUCCESS of EAP-TLS: the server's certificate in DER."""
    reason: str = ""
    """Why it failed; with CONTINUE, why it is going to."""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """What the client can log in with.

    Raises :class:`ValueError` if a method lacks what it needs or a name or password cannot be.
    """

    name: str
    methods: tuple[EapMethod, ...]
    """Allowed, in order of preference. EAP-GTC gives the server the password itself: list it only
    if the server has proven itself by a certificate."""
    password: bytes = field(default=b"", repr=False)
    """UTF-8."""
    tls: TlsParty | None = None
    check_certificate: CheckCertificate | None = None
    """For EAP-TLS: may refuse the server's certificate after OpenSSL has verified it."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("no EAP method is allowed")
        if not 0 < len(self.name.encode()) <= MAX_IDENTITY_OCTETS:
            raise ValueError(f"the user name must have 1 to {MAX_IDENTITY_OCTETS} octets")
        if EapMethod.TLS in self.methods:
            if self.tls is None:
                raise ValueError("EAP-TLS needs a certificate and trusted authorities")
            self.tls.prepare(server=False)
        if {EapMethod.MSCHAPV2, EapMethod.GTC} & set(self.methods):
            if not self.password:
                raise ValueError("the password is empty")
            try:
                self.password.decode()
            except UnicodeDecodeError:
                raise ValueError("the password is not UTF-8") from None


class _Phase(enum.Enum):
    OPENING = "opening"
    METHOD = "method"
    DONE = "done"
    """The method's own success state: the only one in which EAP-Success is believed."""
    OVER = "over"


class EapPeer:
    """One conversation: :meth:`receive` for every packet of the server; it never raises."""

    __slots__ = (
        "_counts",
        "_identifier",
        "_last_packet",
        "_last_step",
        "_login",
        "_method",
        "_octets",
        "_phase",
        "_random",
        "_result",
        "_round_trips",
    )

    def __init__(self, login: Login, random: Callable[[int], bytes]) -> None:
        self._login = login
        self._random = random
        self._phase = _Phase.OPENING
        self._method: PeerMethod | None = None
        self._identifier = -1
        """Of our last response; none yet."""
        self._result = Progress(Stage.FAILED)
        self._counts: dict[EapType, int] = {}
        self._round_trips = 0
        self._octets = 0
        self._last_packet: bytes | None = None
        self._last_step = PeerStep(Outcome.CONTINUE)

    def receive(self, packet: bytes) -> PeerStep:
        """Take a packet of the server. A repeated request gets the same answer again.

        A failure is final: whatever comes after it gets the same step.
        """
        if self._phase is _Phase.OVER:
            if self._last_step.outcome is Outcome.FAILURE:
                return self._last_step
            return self._fail("the server goes on with EAP after its end")
        self._round_trips += 1
        self._octets += len(packet)
        if self._round_trips > MAX_ROUND_TRIPS or self._octets > MAX_CONVERSATION_OCTETS:
            return self._fail(
                f"more than {MAX_ROUND_TRIPS} messages or {MAX_CONVERSATION_OCTETS} octets"
            )
        if packet == self._last_packet:
            return self._last_step
        try:
            step = self._process(EapPacket.decode(packet))
        except WireError as error:
            step = self._fail(f"bad EAP message: {error}")
        self._last_packet, self._last_step = packet, step
        return step

    def _process(self, packet: EapPacket) -> PeerStep:
        match packet.code:
            case Code.SUCCESS:
                return self._succeed(packet)
            case Code.FAILURE:
                reason = self._result.reason or "the server refused the login"
                remedy = self._result.remedy or "Look into the server's log."
                return self._fail(reason, remedy)
            case Code.RESPONSE:
                return self._fail(f"the server sent a response, {type_title(packet)}")
        self._identifier = packet.identifier
        if packet.eap_type == EapType.NOTIFICATION:
            self._count(EapType.NOTIFICATION, MAX_NOTIFICATIONS)
            return self._respond(packet.eap_type, b"")
        if self._phase is _Phase.OPENING:
            return self._open(packet)
        if self._phase is _Phase.METHOD and self._method is not None:
            if packet.eap_type == self._method.method.value:
                return self._follow(self._method.receive(packet.data))
            return self._fail(f"the server switched to {type_title(packet)} in mid-conversation")
        return self._fail(f"the server asks {type_title(packet)} after the method's end")

    def _open(self, packet: EapPacket) -> PeerStep:
        """Before a method: say who we are, and agree on a method."""
        if packet.eap_type == EapType.IDENTITY:
            self._count(EapType.IDENTITY, MAX_IDENTITY_REQUESTS)
            return self._respond(packet.eap_type, self._login.name.encode())
        for method in self._login.methods:
            if method.value == packet.eap_type:
                self._method = self._new(method)
                self._phase = _Phase.METHOD
                return self._follow(self._method.receive(packet.data))
        if packet.eap_type == EapType.NAK:
            return self._fail("the server sent a Nak, which only clients send")
        self._count(EapType.NAK, MAX_NAKS)
        allowed = [method.value for method in self._login.methods]
        names = ", ".join(numbered_title(one) for one in allowed)
        reason = f"the server asks for {type_title(packet)}; allowed here: {names}"
        remedy = "Allow this method here, or set up the server for one that is allowed."
        self._result = Progress(Stage.FAILED, reason=reason, remedy=remedy)
        send = nak(packet, allowed).encode()
        return PeerStep(Outcome.CONTINUE, send, reason=reason, remedy=remedy)

    def _new(self, method: EapMethod) -> PeerMethod:
        login = self._login
        self._result = Progress(Stage.FAILED)
        if method is EapMethod.MSCHAPV2:
            return Mschapv2Peer(login.name, login.password, self._random)
        if method is EapMethod.TLS and login.tls is not None:
            return TlsPeer(login.tls, login.check_certificate)
        if method is EapMethod.GTC:
            return GtcPeer(login.password)
        raise ValueError(f"{numbered_title(method.value)} is not set up")

    def _follow(self, progress: Progress) -> PeerStep:
        self._result = progress
        if progress.stage not in (Stage.GOING, Stage.DONE) or progress.data is None:
            return self._fail(progress.reason or "the method failed", progress.remedy)
        if progress.stage is Stage.DONE:
            self._phase = _Phase.DONE
        eap_type = self._method.method.value if self._method else 0
        step = self._respond(eap_type, progress.data)
        return PeerStep(
            Outcome.CONTINUE,
            step.send,
            method=step.method,
            reason=progress.reason,
            remedy=progress.remedy,
        )

    def _succeed(self, packet: EapPacket) -> PeerStep:
        """Believe EAP-Success, which anybody can send, only after the method's own success."""
        method = self._method.method if self._method else None
        if self._phase is not _Phase.DONE or method is None:
            reason = self._result.reason or "the server has not proven itself"
            return self._fail(f"EAP-Success before the method's end: {reason}")
        if packet.identifier != self._identifier:
            return self._fail("EAP-Success for another request than the last")
        if method.makes_msk and len(self._result.msk) != MSK_OCTETS:
            return self._fail(f"{numbered_title(method.value)} ended without a key")
        self._phase = _Phase.OVER
        return PeerStep(
            Outcome.SUCCESS,
            msk=self._result.msk,
            method=method,
            certificate=self._result.certificate,
        )

    def _count(self, eap_type: EapType, limit: int) -> None:
        """Count a request that brings the login no further. Raises :class:`WireError` at last."""
        count = self._counts.get(eap_type, 0) + 1
        self._counts[eap_type] = count
        if count > limit:
            raise WireError(f"more than {limit} requests to be answered with {eap_type.name}")

    def _respond(self, eap_type: int, data: bytes) -> PeerStep:
        send = EapPacket(Code.RESPONSE, self._identifier, eap_type, data).encode()
        method = self._method.method if self._method else None
        return PeerStep(Outcome.CONTINUE, send, method=method)

    def _fail(self, reason: str, remedy: str = "") -> PeerStep:
        self._phase = _Phase.OVER
        method = self._method.method if self._method else None
        self._last_step = PeerStep(Outcome.FAILURE, method=method, reason=reason, remedy=remedy)
        return self._last_step
