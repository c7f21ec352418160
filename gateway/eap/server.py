"""The server's side of one EAP conversation (RFC 3748, as IKEv2 uses it: RFC 7296 section 2.16).

Everything but the expected message ends in EAP-Failure. RFC 3748 would silently discard much of
it, because its link layers lose and repeat packets; below IKEv2 nothing is lost, every request of
IKE needs an answer, and so strongSwan fails too.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.domain.user_auth import Answer
from gateway.domain.wire import WireError
from gateway.eap.gtc import GtcServer
from gateway.eap.method import MSK_OCTETS, EapMethod, Progress, ServerMethod, Stage
from gateway.eap.mschapv2 import FindUser, Mschapv2Server
from gateway.eap.packet import Code, EapPacket, EapType, numbered_title, type_title, user_text
from gateway.eap.tls import CheckCertificate, TlsParty, TlsServer

MAX_ROUND_TRIPS = 64
"""Of one conversation, repetitions included: a long certificate chain each way takes about 30."""
MAX_CONVERSATION_OCTETS = 131_072
"""Received in one conversation."""


class Outcome(enum.Enum):
    """What a conversation has come to."""

    CONTINUE = "continue"
    ASK = "ask"
    """Ask whether ``password`` is that of ``user``; the answer goes to ``answered``."""
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Step:
    """What the server does next."""

    outcome: Outcome
    send: bytes | None = field(default=None, repr=False)
    """An EAP packet for the peer."""
    user: str = ""
    """Proven with SUCCESS, except EAP-TLS: there the certificate is, and ``user`` what the peer
    said. With any other outcome only what the peer claims."""
    password: bytes = field(default=b"", repr=False)
    msk: bytes = field(default=b"", repr=False)
    """With SUCCESS: 64 octets, or none from EAP-GTC."""
    method: EapMethod | None = None
    certificate: bytes = field(default=b"", repr=False)
    """With SUCCESS of EAP-TLS: the peer's certificate in DER."""
    reason: str = ""
    """Why it failed. With CONTINUE: why it is going to fail, for peers that leave without the
    last message. In an administrator's words, never for the peer."""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server offers. Raises :class:`ValueError` if a method lacks what it needs."""

    methods: tuple[EapMethod, ...]
    """In order of preference."""
    ask_identity: bool = True
    find_user: FindUser | None = None
    """For EAP-MSCHAPv2."""
    tls: TlsParty | None = None
    """For EAP-TLS."""
    check_certificate: CheckCertificate | None = None
    """For EAP-TLS: may refuse a certificate that OpenSSL has verified."""
    name: bytes = b"gateway"
    """Shown to peers of EAP-MSCHAPv2."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("no EAP method is offered")
        if EapMethod.MSCHAPV2 in self.methods and self.find_user is None:
            raise ValueError("EAP-MSCHAPv2 needs a user base")
        if EapMethod.TLS in self.methods:
            if self.tls is None:
                raise ValueError("EAP-TLS needs a certificate and trusted authorities")
            self.tls.prepare(server=True)


class _Phase(enum.Enum):
    IDENTITY = "identity"
    METHOD = "method"
    ASKING = "asking"
    OVER = "over"


class EapServer:
    """One conversation. :meth:`start` once, then :meth:`receive` for every packet of the peer.

    No method raises for anything that a peer can do.
    """

    __slots__ = (
        "_answered",
        "_identifier",
        "_last_packet",
        "_last_step",
        "_method",
        "_nak_taken",
        "_octets",
        "_offer",
        "_phase",
        "_random",
        "_round_trips",
        "_user",
    )

    def __init__(self, offer: Offer, random: Callable[[int], bytes], user: str = "") -> None:
        """``user``: who the peer is when it is not asked, or gives an empty identity."""
        self._offer = offer
        self._random = random
        self._user = user
        self._identifier = random(1)[0]
        self._phase = _Phase.IDENTITY if offer.ask_identity else _Phase.METHOD
        self._method: ServerMethod | None = None
        self._answered = False
        """The peer has gone along with the method: no Nak any more."""
        self._nak_taken = False
        self._round_trips = 0
        self._octets = 0
        self._last_packet: bytes | None = None
        self._last_step = Step(Outcome.CONTINUE)

    def start(self) -> bytes:
        """The first packet for the peer."""
        if self._phase is _Phase.IDENTITY:
            return self._request(EapType.IDENTITY, b"")
        step = self._begin(self._offer.methods[0])
        self._last_step = step
        return step.send or b""

    def receive(self, packet: bytes) -> Step:
        """Take a packet of the peer. A repeated one gets the same answer again.

        A failure is final: whatever comes after it gets the same step.
        """
        if self._phase is _Phase.OVER:
            if self._last_step.outcome is Outcome.FAILURE:
                return self._last_step
            return self._fail("the peer goes on with EAP after its end")
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
        self._last_packet = packet
        # A question is asked once, whatever the peer repeats.
        asks = step.outcome is Outcome.ASK
        self._last_step = Step(Outcome.CONTINUE, method=step.method) if asks else step
        return step

    def answered(self, answer: Answer) -> Step:
        """Take the answer to the question of an ASK step; any other is a failure."""
        if self._phase is not _Phase.ASKING or not isinstance(self._method, GtcServer):
            return self._fail("an answer without a question")
        return self._follow(self._method.answered(answer))

    def _process(self, packet: EapPacket) -> Step:
        if packet.code is not Code.RESPONSE:
            return self._fail(f"the peer sent {type_title(packet)} where only a response can come")
        if packet.identifier != self._identifier:
            return self._fail(
                f"a response to request {packet.identifier}, the last one was {self._identifier}"
            )
        if self._phase is _Phase.IDENTITY:
            return self._take_identity(packet)
        if self._phase is _Phase.METHOD and self._method is not None:
            if packet.eap_type == self._method.method.value:
                self._answered = True
                return self._follow(self._method.receive(packet.data))
            if packet.eap_type == EapType.NAK and not self._answered:
                return self._take_nak(packet.data)
            return self._fail(f"the peer switched to {type_title(packet)} in mid-conversation")
        return self._fail("the peer went on before its password was judged")

    def _take_identity(self, packet: EapPacket) -> Step:
        if packet.eap_type != EapType.IDENTITY:
            return self._fail(f"the peer answered {type_title(packet)} when asked who it is")
        user = user_text(packet.data)
        if user is None:
            return self._fail("the EAP identity is too long or not readable text")
        self._user = user or self._user
        self._phase = _Phase.METHOD
        return self._begin(self._offer.methods[0])

    def _take_nak(self, wanted: bytes) -> Step:
        refused = self._method.method if self._method else None
        names = ", ".join(numbered_title(one) for one in wanted[:8] if one) or "no method"
        if not self._nak_taken:
            self._nak_taken = True
            for method in self._offer.methods:
                if method.value in wanted and method is not refused:
                    return self._begin(method)
        offered = ", ".join(numbered_title(one.value) for one in self._offer.methods)
        return self._fail(
            f"the peer wants {names}; offered: {offered}",
            "Offer one of the peer's methods in this connection, or change it on the peer.",
        )

    def _begin(self, method: EapMethod) -> Step:
        self._method = self._new(method)
        identifier = (self._identifier + 1) & 0xFF
        data = self._method.begin(identifier)
        return Step(
            Outcome.CONTINUE, self._request(method.value, data), user=self._user, method=method
        )

    def _new(self, method: EapMethod) -> ServerMethod:
        offer = self._offer
        if method is EapMethod.MSCHAPV2 and offer.find_user is not None:
            return Mschapv2Server(offer.find_user, self._random, offer.name)
        if method is EapMethod.TLS and offer.tls is not None:
            return TlsServer(offer.tls, offer.check_certificate, self._user)
        if method is EapMethod.GTC:
            return GtcServer(self._user)
        raise ValueError(f"{numbered_title(method.value)} is not set up")

    def _follow(self, progress: Progress) -> Step:
        """Turn a method's progress into what is to be done: the only way to SUCCESS."""
        user = progress.user or self._user
        method = self._method.method if self._method else None
        match progress.stage:
            case Stage.DONE if method is not None:
                if method.makes_msk and len(progress.msk) != MSK_OCTETS:
                    return self._fail(f"{numbered_title(method.value)} ended without a key")
                self._phase = _Phase.OVER
                return Step(
                    Outcome.SUCCESS,
                    EapPacket(Code.SUCCESS, self._identifier).encode(),
                    user=user,
                    msk=progress.msk,
                    method=method,
                    certificate=progress.certificate,
                )
            case Stage.ASKING:
                self._phase = _Phase.ASKING
                return Step(Outcome.ASK, user=user, password=progress.password, method=method)
            case Stage.GOING if method is not None and progress.data is not None:
                return Step(
                    Outcome.CONTINUE,
                    self._request(method.value, progress.data),
                    user=user,
                    method=method,
                    reason=progress.reason,
                    remedy=progress.remedy,
                )
        self._user = user
        return self._fail(progress.reason or "the method failed", progress.remedy)

    def _request(self, eap_type: int, data: bytes) -> bytes:
        self._identifier = (self._identifier + 1) & 0xFF
        return EapPacket(Code.REQUEST, self._identifier, eap_type, data).encode()

    def _fail(self, reason: str, remedy: str = "") -> Step:
        self._phase = _Phase.OVER
        self._last_step = Step(
            Outcome.FAILURE,
            EapPacket(Code.FAILURE, self._identifier).encode(),
            user=self._user,
            method=self._method.method if self._method else None,
            reason=reason,
            remedy=remedy,
        )
        return self._last_step
