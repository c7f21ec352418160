"""EAP-TLS (RFC 5216, and RFC 9190 for TLS 1.3): both sides, certificates demanded of both."""

import enum
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from gateway.domain.wire import WireError
from gateway.eap.method import EapMethod, Progress, Stage
from gateway.eap.tls_fragments import ACKNOWLEDGEMENT, START, Flags, Fragments

if TYPE_CHECKING:
    from OpenSSL import SSL

    from gateway.eap.tls_session import TlsSession

CheckCertificate = Callable[[tuple[bytes, ...], str], str | None]
"""Refuses a verified chain, with a reason, or takes it with None.

The arguments: the certificates in DER, leaf first, anchor last; and the user name that the peer
gave (empty for a server's certificate, and when nobody asked).
"""


class TlsParty:
    """Our own certificate and those we trust, for many conversations.

    The first conversation loads OpenSSL and prepares it; the others share that.
    """

    __slots__ = ("_certificates", "_contexts", "_lock", "_private_key", "_wall_clock", "anchors")

    def __init__(
        self,
        certificates: Sequence[x509.Certificate],
        private_key: PrivateKeyTypes,
        anchors: Sequence[x509.Certificate],
        wall_clock: Callable[[], datetime] | None = None,
    ) -> None:
        """``certificates``: leaf first. Raises :class:`ValueError` if one of the lists is empty.

        ``wall_clock`` tells by which time (UTC) certificates are valid; without it OpenSSL looks.
        """
        if not certificates or not anchors:
            raise ValueError("EAP-TLS needs an own certificate and at least one trusted one")
        self.anchors = tuple(anchors)
        self._certificates = tuple(certificates)
        self._private_key = private_key
        self._wall_clock = wall_clock
        self._contexts: dict[bool, SSL.Context] = {}
        self._lock = threading.Lock()

    def prepare(self, *, server: bool) -> None:
        """Load OpenSSL for a role. Raises :class:`ValueError` if it does not take what is ours."""
        self._context(server=server)

    def open(self, *, server: bool) -> "TlsSession":
        """A new handshake. Raises :class:`ValueError` as :meth:`prepare` does."""
        from gateway.eap import tls_session  # noqa: PLC0415 loaded already

        context = self._context(server=server)
        if self._wall_clock is not None:
            tls_session.set_time(context, self._wall_clock())
        return tls_session.TlsSession(context, server=server)

    def _context(self, *, server: bool) -> "SSL.Context":
        from gateway.eap import tls_session  # noqa: PLC0415 costs memory only where EAP-TLS is used

        with self._lock:
            context = self._contexts.get(server)
            if context is None:
                context = tls_session.new_context(
                    server=server,
                    certificates=self._certificates,
                    private_key=self._private_key,
                    anchors=self.anchors,
                )
                self._contexts[server] = context
        return context


class _Phase(enum.Enum):
    START = "start"
    HANDSHAKE = "handshake"
    COMMITTED = "committed"
    """Server: all is sent that the peer needs; its acknowledgement ends the method."""
    ALERTED = "alerted"
    """An alert is on its way; whatever follows, the method has failed."""
    END = "end"


class _Tls:
    """What both sides have in common."""

    __slots__ = ("_check", "_fragments", "_phase", "_session", "_verdict")

    method = EapMethod.TLS

    def __init__(self, session: "TlsSession", check: CheckCertificate | None) -> None:
        self._session = session
        self._check = check
        self._fragments = Fragments()
        self._phase = _Phase.START
        self._verdict = Progress(Stage.FAILED)

    def _reassembled(self, data: bytes) -> Progress | bytes:
        """All TLS data of a turn, or what to send until it is complete."""
        if self._fragments.sending:
            # Only flags: the reserved bits of an acknowledgement are nobody's business.
            if len(data) != 1 or data[0] & (Flags.LENGTH | Flags.MORE | Flags.START):
                raise WireError("something else than the acknowledgement of a fragment")
            return Progress(Stage.GOING, self._fragments.next(), reason=self._verdict.reason)
        whole = self._fragments.receive(data)
        if whole is None:
            return Progress(Stage.GOING, ACKNOWLEDGEMENT)
        return whole

    def _send(self, output: bytes) -> Progress:
        try:
            data = self._fragments.send(output) if output else ACKNOWLEDGEMENT
        except ValueError as error:
            return self._fail(str(error))
        return Progress(Stage.GOING, data)

    def _alert(self, output: bytes, reason: str) -> Progress:
        """Let the other side know (RFC 5216 section 2.1.3); nothing can follow but the end.

        Without an alert of our own, this acknowledges that of the other side.
        """
        verdict = self._fail(reason)
        self._phase = _Phase.ALERTED
        going = self._send(output)
        return replace(going, reason=reason, remedy=verdict.remedy)

    def _fail(self, reason: str) -> Progress:
        self._phase = _Phase.END
        remedy = "Check both sides' certificates and the trusted authorities of this connection."
        self._verdict = Progress(Stage.FAILED, reason=reason, remedy=remedy)
        return self._verdict

    def _judge(self, user: str) -> Progress:
        """The handshake is complete: is it the right certificate? DONE with the key if so."""
        chain = self._session.chain()
        refusal = self._check(chain, user) if self._check else None
        if refusal is not None:
            return self._fail(refusal)
        return Progress(Stage.DONE, user=user, msk=self._session.msk(), certificate=chain[0])


class TlsServer(_Tls):
    """Demands a certificate of the user's device."""

    __slots__ = ("_user",)

    def __init__(self, party: TlsParty, check: CheckCertificate | None, user: str) -> None:
        """Raises :class:`ValueError` if OpenSSL does not take our certificate."""
        super().__init__(party.open(server=True), check)
        self._user = user

    def begin(self, identifier: int) -> bytes:  # noqa: ARG002 the protocol's shape
        """EAP-TLS/Start."""
        self._phase = _Phase.HANDSHAKE
        return START

    def receive(self, data: bytes) -> Progress:
        """Take a fragment, an acknowledgement, or the end of a turn."""
        turn = self._reassembled(data)
        if isinstance(turn, Progress):
            return turn
        match self._phase:
            case _Phase.HANDSHAKE if turn:
                return self._advance(turn)
            case _Phase.COMMITTED if not turn:
                self._phase = _Phase.END
                return self._verdict
            case _Phase.COMMITTED:
                return self._fail("the peer did not take our end of the handshake (an alert)")
            case _Phase.ALERTED:
                self._phase = _Phase.END
                return self._verdict
        raise WireError("an EAP-TLS message out of turn")

    def _advance(self, turn: bytes) -> Progress:
        flight = self._session.advance(turn)
        if flight.error and not flight.output:
            return self._fail(flight.error)  # the alert was the peer's
        if flight.error:
            return self._alert(flight.output, flight.error)
        if not self._session.finished:
            return self._send(flight.output)
        verdict = self._judge(self._user)
        if verdict.stage is not Stage.DONE:
            return verdict
        output = flight.output
        if self._session.has_commitment:
            output += self._session.commit()
        self._verdict = verdict
        self._phase = _Phase.COMMITTED
        return self._send(output)


class TlsPeer(_Tls):
    """Proves ourselves with a certificate, and demands one of the server."""

    __slots__ = ()

    def __init__(self, party: TlsParty, check: CheckCertificate | None) -> None:
        """Raises :class:`ValueError` if OpenSSL does not take our certificate."""
        super().__init__(party.open(server=False), check)

    def receive(self, data: bytes) -> Progress:
        """Take the start, a fragment, an acknowledgement, or the end of a turn."""
        if self._phase is _Phase.START:
            if len(data) != 1 or not data[0] & Flags.START:
                raise WireError("no EAP-TLS start")
            self._phase = _Phase.HANDSHAKE
            return self._handshake(b"")
        turn = self._reassembled(data)
        if isinstance(turn, Progress):
            return turn
        if not turn:
            raise WireError("an EAP-TLS acknowledgement of nothing")
        match self._phase:
            case _Phase.HANDSHAKE:
                return self._handshake(turn)
            case _Phase.COMMITTED:
                return self._finish(turn)
        raise WireError("an EAP-TLS message out of turn")

    def _handshake(self, turn: bytes) -> Progress:
        flight = self._session.advance(turn)
        if flight.error:
            return self._alert(flight.output, flight.error)
        if not self._session.finished:
            return self._send(flight.output)
        verdict = self._judge("")
        if verdict.stage is not Stage.DONE:
            return verdict
        self._verdict = verdict
        if self._session.has_commitment:
            # Our own certificate may still be refused: the server's commitment is to come.
            self._phase = _Phase.COMMITTED
            return self._send(flight.output)
        return self._end()

    def _finish(self, turn: bytes) -> Progress:
        try:
            committed = self._session.take_commitment(turn)
        except WireError as error:
            return self._alert(b"", str(error))
        return self._end() if committed else Progress(Stage.GOING, ACKNOWLEDGEMENT)

    def _end(self) -> Progress:
        self._phase = _Phase.END
        verdict = self._verdict
        return Progress(
            Stage.DONE, ACKNOWLEDGEMENT, msk=verdict.msk, certificate=verdict.certificate
        )
