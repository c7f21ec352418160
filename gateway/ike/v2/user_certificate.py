"""The certificate that a user shows in EAP-TLS: its validity, and whose it is.

OpenSSL has verified the signatures by then; this is the same judgement that device certificates
get, with the same anchors, and the name that the user goes by from here on.
"""

from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from gateway.ike.auth.credentials import CertificateRefused, RevocationPending, TrustAnchors
from gateway.ike.auth.identity import certificate_identities, escape
from gateway.ike.v2.proof import OcspNeeded

MAX_NAMES = 16
MAX_CERTIFICATES = 8
_USER_PRINCIPAL_NAME = "1.3.6.1.4.1.311.20.2.3"
_UTF8_STRING = 0x0C


class UserCertificates:
    """Judges the chain of one login."""

    __slots__ = ("_anchors", "_chain", "_refusal", "_user", "_wall_clock")

    def __init__(
        self,
        anchors: TrustAnchors | None,
        wall_clock: Callable[[], datetime],
        refusal: Callable[[str, str], str | None] | None = None,
    ) -> None:
        """``refusal`` says why an identity or a user may not log in; None: it may."""
        self._refusal = refusal
        self._anchors = anchors
        self._wall_clock = wall_clock
        self._chain: tuple[bytes, ...] = ()
        self._user = ""

    def check(self, chain: tuple[bytes, ...], user: str) -> str | None:
        """Inside the EAP method: the refusal, or None. What only OCSP can tell waits."""
        self._chain, self._user = chain, user
        try:
            self.judge()
        except OcspNeeded:
            return None
        except ValueError as refused:
            return str(refused)
        return None

    def judge(self) -> str:
        """The user's name as the certificate has it.

        Raises:
            ValueError: the certificate is refused, or is not this user's.
            OcspNeeded: a responder must be asked first.
        """
        anchors, chain = self._anchors, self._chain
        if anchors is None or not chain:
            raise ValueError("there is no certificate to judge")
        try:
            leaf = validate(anchors, chain, self._wall_clock())
        except RevocationPending as pending:
            raise OcspNeeded(anchors, pending.request) from None
        self._refuse_blocked(leaf)
        return self._name(leaf)

    def _refuse_blocked(self, leaf: x509.Certificate) -> None:
        """By any of its names: a user chooses which of them to go by. Raises ValueError."""
        if self._refusal is None:
            return
        for name in [*map(str, certificate_identities(leaf)), *names_in(leaf)]:
            why = self._refusal(name, name)
            if why is not None:
                raise ValueError(why)

    def _name(self, leaf: x509.Certificate) -> str:
        names = names_in(leaf)
        if not self._user and names:
            return names[0]
        for name in names:
            if name.casefold() == self._user.casefold():
                return name
        shown = ", ".join(escape(name, 80) for name in names) or "nobody"
        raise ValueError(f"the certificate is that of {shown}, not of {escape(self._user, 80)}")


def validate(anchors: TrustAnchors, chain: tuple[bytes, ...], now: datetime) -> x509.Certificate:
    """The leaf of a chain that is valid for somebody, whoever that is.

    Raises :class:`CertificateRefused` (a :class:`ValueError`), and of that the
    :class:`RevocationPending`.
    """
    leaf = x509.load_der_x509_certificate(chain[0])
    usable = (one for one in certificate_identities(leaf) if one.problem() is None)
    identity = next(usable, None)
    if identity is None:
        raise CertificateRefused("the certificate names nobody")
    return anchors.validate(chain[:MAX_CERTIFICATES], identity, now)


def names_in(leaf: x509.Certificate) -> list[str]:
    """User names in a certificate: principal names, e-mail addresses, host and common names."""
    names: list[str] = []
    try:
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        for one in alternatives:
            if isinstance(one, x509.OtherName):
                names += _principal_name(one)
        names += [one.value for one in alternatives if isinstance(one, x509.RFC822Name)]
        names += [one.value for one in alternatives if isinstance(one, x509.DNSName)]
    names += [
        one.value
        for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if isinstance(one.value, str)
    ]
    usable = [name for name in dict.fromkeys(names) if name and name.isprintable()]
    return usable[:MAX_NAMES]


def _principal_name(name: x509.OtherName) -> list[str]:
    """The text of a Windows user principal name: a short DER UTF8String."""
    value = name.value
    if name.type_id.dotted_string != _USER_PRINCIPAL_NAME or len(value) < 2:
        return []
    if value[0] != _UTF8_STRING or value[1] != len(value) - 2 or value[1] > 127:
        return []
    try:
        return [value[2:].decode()]
    except UnicodeDecodeError:
        return []
