"""One TLS handshake in memory (pyOpenSSL), with certificates demanded of both sides.

Only :mod:`gateway.eap.tls` imports this file, and only when EAP-TLS is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from gateway.domain.wire import WireError
from gateway.eap.method import MSK_OCTETS

OP_LEGACY_SERVER_CONNECT = 0x4
"""OpenSSL's; the ssl module names it from Python 3.12 on."""
MAX_CHAIN_CERTIFICATES = 8

_KEY_MATERIAL_OCTETS = 2 * MSK_OCTETS
_EAP_TLS = b"\x0d"
_COMMITMENT = b"\0"
_READ_OCTETS = 65_536

_VERIFY_ERRORS = {
    2: "its issuer is unknown",
    3: "no revocation list was found for it",
    7: "its signature is wrong",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed and not trusted",
    19: "its chain ends in an authority that is not trusted",
    20: "its issuer is not trusted or not sent",
    21: "its issuer is not trusted or not sent",
    22: "its chain is too long",
    23: "it is revoked",
    24: "an issuer of it is no authority",
    26: "its extended key usage does not allow this use",
    27: "its issuer is not trusted",
    66: "its key is too small",
    67: "an authority's key is too small",
    68: "its signature's digest is too weak",
}


@dataclass(frozen=True, slots=True)
class Flight:
    """What a handshake made of some TLS data."""

    output: bytes = field(repr=False)
    """To be sent; an alert when there is an error."""
    error: str = ""


def new_context(
    *,
    server: bool,
    certificates: Sequence[x509.Certificate],
    private_key: PrivateKeyTypes,
    anchors: Sequence[x509.Certificate],
) -> SSL.Context:
    """Settings for many handshakes: TLS 1.2 and 1.3, no resumption, no renegotiation.

    The anchors are trusted as such, whether they are authorities or leaf certificates. Raises
    :class:`ValueError` if OpenSSL does not take a certificate or key.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    if not server:
        # strongSwan's TLS 1.2 does not announce RFC 5746; without renegotiation there is no need.
        context.set_options(OP_LEGACY_SERVER_CONNECT)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    try:
        context.use_certificate(certificates[0])
        for issuer in certificates[1:]:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(private_key)  # type: ignore[arg-type]  # it refuses other kinds
        context.check_privatekey()
    except (SSL.Error, TypeError) as error:
        raise ValueError(
            f"the certificate or key cannot be used for TLS: {_words(error)}"
        ) from None
    store = context.get_cert_store()
    if store is None:
        raise ValueError("OpenSSL has no certificate store")
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
    context.set_verify_depth(MAX_CHAIN_CERTIFICATES)
    return context


def set_time(context: SSL.Context, now: datetime) -> None:
    """Judge the validity of certificates at ``now`` (UTC) from here on."""
    store = context.get_cert_store()
    if store is not None:
        store.set_time(now)


class _Refusal:
    """Why OpenSSL refused a certificate.

    Not part of the session: that would be a cycle, which keeps the memory of failed handshakes
    until the garbage collector comes.
    """

    __slots__ = ("reason",)

    def __init__(self) -> None:
        self.reason = ""

    def __call__(
        self, _: SSL.Connection, certificate: crypto.X509, error: int, __: int, ok: int
    ) -> bool:
        if not ok:
            why = _VERIFY_ERRORS.get(error, f"OpenSSL says error {error}")
            subject = certificate.to_cryptography().subject.rfc4514_string()
            self.reason = f"the certificate of {subject[:200]!r} is refused: {why}"
        return bool(ok)


class TlsSession:
    """The handshake of one conversation."""

    __slots__ = ("_connection", "_refusal", "finished")

    def __init__(self, context: SSL.Context, *, server: bool) -> None:
        self._refusal = _Refusal()
        self.finished = False
        """The handshake is complete, so the peer's certificate is proven."""
        self._connection = SSL.Connection(context, None)
        demand = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        self._connection.set_verify(demand, self._refusal)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()

    @property
    def has_commitment(self) -> bool:
        """TLS 1.3: EAP-TLS ends with one octet of data from the server (RFC 9190 section 2.1.1)."""
        return self._connection.get_protocol_version() >= SSL.TLS1_3_VERSION

    def advance(self, data: bytes) -> Flight:
        """Give the handshake what arrived, take what it sends."""
        try:
            if data:
                self._connection.bio_write(data)
            self._connection.do_handshake()
        except SSL.WantReadError:
            return Flight(self._pending())
        except SSL.Error as error:
            return Flight(self._pending(), self._refusal.reason or _words(error))
        self.finished = True
        return Flight(self._pending())

    def commit(self) -> bytes:
        """The server's commitment message, encrypted."""
        self._connection.send(_COMMITMENT)
        return self._pending()

    def take_commitment(self, data: bytes = b"") -> bool:
        """Whether the server's commitment message has arrived.

        Raises :class:`WireError` for an alert and for other data.
        """
        try:
            if data:
                self._connection.bio_write(data)
            received = self._connection.recv(len(_COMMITMENT) + 1)
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise WireError(_words(error)) from None
        if received != _COMMITMENT:
            raise WireError("the server sent data that EAP-TLS does not have")
        return True

    def chain(self) -> tuple[bytes, ...]:
        """The verified certificates of the other side in DER, leaf first, anchor last.

        Raises :class:`WireError` if there is none.
        """
        chain = self._connection.get_verified_chain(as_cryptography=True)
        if not self.finished or not chain:
            raise WireError("the other side has no verified certificate")
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)

    def msk(self) -> bytes:
        """The MSK (RFC 5216 section 2.3, RFC 9190 section 2.3): 64 octets.

        Raises :class:`WireError` before the handshake is complete.
        """
        if not self.finished:
            raise WireError("no key before the handshake is complete")
        label, context = b"client EAP encryption", None
        if self.has_commitment:
            label, context = b"EXPORTER_EAP_TLS_Key_Material", _EAP_TLS
        material = self._connection.export_keying_material(label, _KEY_MATERIAL_OCTETS, context)
        return material[:MSK_OCTETS]

    def _pending(self) -> bytes:
        pieces = []
        try:
            while True:
                pieces.append(self._connection.bio_read(_READ_OCTETS))
        except SSL.WantReadError:
            return b"".join(pieces)
        except SSL.Error:
            return b"".join(pieces)


def _words(error: Exception) -> str:
    """OpenSSL's own reasons, without its internals."""
    reasons = error.args[0] if error.args else ()
    if isinstance(reasons, list) and reasons:
        return f"TLS: {reasons[-1][-1]}"
    return "TLS: the handshake broke off" if isinstance(error, SSL.Error) else str(error)
