"""Certificate revocation lists: read once, then asked by serial number (RFC 5280 section 5)."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from gateway.ike.auth.certificates import BROKEN, ParsedCertificate, quiet, title_of
from gateway.ike.auth.identity import escape
from gateway.ike.auth.signatures import SignedObject

MAX_FILE_OCTETS = 64 * 1024 * 1024
"""In PEM about a million entries."""
MAX_LISTS = 64
"""In one file."""
MAX_JUDGED = 64
"""Issuers whose signature on a list was checked and remembered."""
MAX_SERIAL_OCTETS = 20
"""RFC 5280 section 4.1.2.2."""
CLOCK_SKEW = timedelta(minutes=5)
"""How far the clock of an issuer may be ahead of ours."""

_PEM_BEGIN = b"-----BEGIN X509 CRL-----"
_PEM_END = b"-----END X509 CRL-----"
_REASONS = (None, *x509.ReasonFlags)
_RECORD = Struct(">20sqB")
_HANDLED = frozenset(
    (
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CRL_NUMBER,
        ExtensionOID.ISSUING_DISTRIBUTION_POINT,
    )
)
_HANDLED_OF_ENTRIES = frozenset((CRLEntryExtensionOID.CRL_REASON,)) | {
    CRLEntryExtensionOID.INVALIDITY_DATE
}


class CrlRefused(ValueError):  # noqa: N818 - named for what it is
    """A CRL cannot be used. The text is a sentence for the administrator."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """When and why a certificate was revoked."""

    at: datetime
    reason: str | None
    """As RFC 5280 section 5.3.1 writes it (``keyCompromise``), None if not given."""

    def __str__(self) -> str:
        why = "" if self.reason is None else f" ({self.reason})"
        return f"was revoked on {date(self.at)}{why}"


def date(moment: datetime) -> str:
    """A date for messages."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a list is about (issuing distribution point, RFC 5280 section 5.2.5)."""

    only_users: bool = False
    only_authorities: bool = False
    points: frozenset[x509.GeneralName] | None = None


class Crl:
    """One full CRL of a certification authority. Immutable but for the signatures judged."""

    __slots__ = (
        "_judged",
        "_records",
        "_scope",
        "_signed",
        "issuer",
        "issuer_title",
        "next_update",
        "number",
        "source",
        "this_update",
    )

    def __init__(
        self, crl: x509.CertificateRevocationList, signed: SignedObject, source: str
    ) -> None:
        self.source = source
        with quiet():
            self.issuer = crl.issuer.public_bytes()
            self.issuer_title = title_of(crl.issuer)
            self.number, self._scope = _read_extensions(crl)
        if crl.next_update_utc is None:
            raise CrlRefused("says no time of the next update")
        self.this_update = crl.last_update_utc
        self.next_update = crl.next_update_utc
        self._records = _index(crl)
        self._signed = signed
        self._judged: dict[bytes, str | None] = {}

    def __len__(self) -> int:
        return len(self._records) // _RECORD.size

    def __repr__(self) -> str:
        return f"Crl({self.source!r}, {self.issuer_title}, {len(self)} entries)"

    def find(self, serial: int) -> Revoked | None:
        """The entry of a serial number, which costs the same in a list of any length."""
        try:
            wanted = serial.to_bytes(MAX_SERIAL_OCTETS, "big", signed=True)
        except OverflowError:
            return None
        records, size = self._records, _RECORD.size
        at = bisect_left(
            range(len(self)),
            wanted,
            key=lambda i: records[i * size : i * size + MAX_SERIAL_OCTETS],
        )
        if at == len(self):
            return None
        found, moment, reason = _RECORD.unpack_from(records, at * size)
        if found != wanted:
            return None
        flag = _REASONS[reason]
        return Revoked(datetime.fromtimestamp(moment, UTC), None if flag is None else flag.value)

    def problem_with(self, issuer: ParsedCertificate) -> str | None:
        """Why the list is not this authority's, in words that follow "the CRL ..."; None if it is.

        Each authority's signature is checked once.
        """
        try:
            return self._judged[issuer.der]
        except KeyError:
            pass
        if len(self._judged) >= MAX_JUDGED:
            self._judged.clear()
        problem = self._judged[issuer.der] = self._judge(issuer)
        return problem

    def _judge(self, issuer: ParsedCertificate) -> str | None:
        if issuer.subject != self.issuer:
            return f"is of {self.issuer_title}, not of {issuer.title}"
        if issuer.usage is not None and not issuer.usage.crl_sign:
            return f"is of {issuer.title}, whose key usage does not allow signing CRLs"
        if not self._signed.signed_by(issuer.key):
            return f"is not signed with the key of {issuer.title}"
        return None

    def stale(self, now: datetime, grace: timedelta) -> str | None:
        """Why the list says nothing of ``now`` any more, or not yet; None if it is fresh."""
        if now > self.next_update + grace:
            return f"is out of date since {date(self.next_update)}"
        if now < self.this_update - CLOCK_SKEW:
            return f"is dated {date(self.this_update)}, which is in the future"
        return None

    def covers(self, certificate: ParsedCertificate) -> bool:
        """Whether a certificate of this issuer would be in the list if it were revoked."""
        scope = self._scope
        if certificate.is_ca and scope.only_users:
            return False
        if scope.only_authorities and not certificate.is_ca:
            return False
        return scope.points is None or not scope.points.isdisjoint(_points_of(certificate))


def _points_of(certificate: ParsedCertificate) -> Iterator[x509.GeneralName]:
    """The names of a certificate's distribution points: compared with the list's, never fetched."""
    try:
        value = certificate.certificate.extensions.get_extension_for_class(
            x509.CRLDistributionPoints
        ).value
    except x509.ExtensionNotFound:
        return
    for point in value:
        if point.crl_issuer is None and point.full_name is not None:
            yield from point.full_name


def _read_extensions(crl: x509.CertificateRevocationList) -> tuple[int | None, _Scope]:
    number, scope = None, _Scope()
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.CRLNumber):
            number = value.crl_number
        elif isinstance(value, x509.IssuingDistributionPoint):
            scope = _read_scope(value)
        elif extension.critical and extension.oid not in _HANDLED:
            oid = extension.oid.dotted_string
            raise CrlRefused(f"has the critical extension {oid}, which is not known")
    return number, scope


def _read_scope(point: x509.IssuingDistributionPoint) -> _Scope:
    if point.indirect_crl:
        raise CrlRefused("is indirect: it lists certificates of other issuers; use each one's own")
    if point.only_contains_attribute_certs:
        raise CrlRefused("is about attribute certificates only")
    if point.only_some_reasons is not None:
        raise CrlRefused("is about some reasons of revocation only; use one about all of them")
    if point.relative_name is not None:
        raise CrlRefused("has a distribution point whose name is relative, which is not known")
    names = None if point.full_name is None else frozenset(point.full_name)
    return _Scope(point.only_contains_user_certs, point.only_contains_ca_certs, names)


def _index(crl: x509.CertificateRevocationList) -> bytes:
    """Records of one size in the order of their serial numbers: 29 octets for each entry."""
    numbers = {flag: index for index, flag in enumerate(_REASONS)}
    records: list[bytes] = []
    for entry in crl:
        reason = 0
        for extension in entry.extensions:
            value = extension.value
            if isinstance(value, x509.CRLReason):
                reason = numbers[value.reason]
            elif isinstance(value, x509.CertificateIssuer):
                raise CrlRefused("is indirect: an entry names another issuer")
            elif extension.critical and extension.oid not in _HANDLED_OF_ENTRIES:
                oid = extension.oid.dotted_string
                raise CrlRefused(f"has an entry with the critical extension {oid}, not known")
        try:
            serial = entry.serial_number.to_bytes(MAX_SERIAL_OCTETS, "big", signed=True)
        except OverflowError:
            raise CrlRefused(
                f"has a serial number of more than {MAX_SERIAL_OCTETS} octets"
            ) from None
        moment = int(entry.revocation_date_utc.timestamp())
        records.append(_RECORD.pack(serial, moment, reason))
    records.sort()
    return b"".join(records)


def read(data: bytes, source: str) -> tuple[Crl, ...]:
    """The full CRLs of a file in PEM (one or more) or DER; ``source`` names it in messages.

    Costs seconds of CPU per million entries, so not for an event loop. No signature is checked
    yet. Raises :class:`CrlRefused` if one of them is broken, or there is none but delta CRLs.
    """
    if len(data) > MAX_FILE_OCTETS:
        raise CrlRefused(f"CRL {source} has {len(data)} octets, allowed are {MAX_FILE_OCTETS}")
    try:
        found = [_parse(one) for one in _lists(data)]
        full = tuple(Crl(crl, signed, source) for crl, signed in found if not _is_delta(crl))
    except CrlRefused as refused:
        raise CrlRefused(f"CRL {source} {refused}") from None
    except BROKEN as error:
        raise CrlRefused(f"CRL {source} is broken: {escape(str(error), 160)}") from None
    if not full:
        raise CrlRefused(f"CRL {source} is a delta CRL, which is not used; give the full one")
    return full


def _lists(data: bytes) -> list[bytes]:
    if _PEM_BEGIN not in data:
        if data[:1] != b"\x30":
            raise CrlRefused("is no CRL in PEM or DER")
        return [data]
    blocks = data.split(_PEM_BEGIN, MAX_LISTS + 1)[1:]
    if len(blocks) > MAX_LISTS:
        raise CrlRefused(f"has more than {MAX_LISTS} lists")
    for block in blocks:
        if _PEM_END not in block:
            raise CrlRefused("ends in the middle of a list")
    return [_PEM_BEGIN + block.partition(_PEM_END)[0] + _PEM_END + b"\n" for block in blocks]


def _parse(one: bytes) -> tuple[x509.CertificateRevocationList, SignedObject]:
    if one.startswith(_PEM_BEGIN):
        crl = x509.load_pem_x509_crl(one)
        one = crl.public_bytes(Encoding.DER)
    else:
        crl = x509.load_der_x509_crl(one)
    return crl, SignedObject.split(one, inner_algorithm=True)


def _is_delta(crl: x509.CertificateRevocationList) -> bool:
    with quiet():
        return any(isinstance(one.value, x509.DeltaCRLIndicator) for one in crl.extensions)
