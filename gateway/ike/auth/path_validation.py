"""From a peer's certificate to a trust anchor (RFC 5280 section 6, RFC 4945 section 5)."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.ike.auth import name_constraints
from gateway.ike.auth.certificates import CertificateRefused, ParsedCertificate, title_of
from gateway.ike.auth.identity import Identity, escape

MAX_SIGNATURE_CHECKS = 24
"""While looking for a path; same-named authorities may force more than the path is long."""
MAX_SHOWN_NAMES = 8

_USAGES = frozenset(
    (
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.IPSEC_IKE,
        # The retired IPsec end system, tunnel and user (RFC 4945 section 5.1.3.12).
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    )
)


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _check_validity(parsed: ParsedCertificate, now: datetime) -> None:
    if now > parsed.not_after:
        raise CertificateRefused(
            f"the certificate of {parsed.title} is expired since {_date(parsed.not_after)}"
        )
    if now < parsed.not_before:
        raise CertificateRefused(
            f"the certificate of {parsed.title} is not valid before {_date(parsed.not_before)}"
        )


def _check_signature_hash(parsed: ParsedCertificate) -> None:
    try:
        algorithm = parsed.certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        raise CertificateRefused(
            f"the certificate of {parsed.title} is signed with an unknown algorithm"
        ) from None
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        raise CertificateRefused(
            f"the certificate of {parsed.title} is signed with {algorithm.name}, which is broken"
        )


def _check_authority(parsed: ParsedCertificate, below: int) -> None:
    """``below`` counts the authorities between it and the leaf that are not self-issued."""
    if not parsed.is_ca:
        raise CertificateRefused(f"{parsed.title} certified others but is no authority (no CA)")
    if parsed.usage is not None and not parsed.usage.key_cert_sign:
        raise CertificateRefused(f"the key usage of {parsed.title} does not allow certifying")
    if parsed.path_length is not None and below > parsed.path_length:
        raise CertificateRefused(
            f"{parsed.title} allows {parsed.path_length} authorities below it, there are {below}"
        )


class _Search:
    """Depth first, anchors before intermediates, with a bound on the signatures checked."""

    def __init__(
        self, supplied: Sequence[ParsedCertificate], anchors: Sequence[ParsedCertificate]
    ) -> None:
        self._supplied = supplied
        self._anchors = anchors
        self._checks = MAX_SIGNATURE_CHECKS

    def paths(self, path: list[ParsedCertificate]) -> Iterator[list[ParsedCertificate]]:
        """Complete paths, leaf first, anchor last."""
        last = path[-1]
        for anchor in self._anchors:
            if anchor.subject == last.issuer and self._issued(last, anchor):
                yield [*path, anchor]
        for one in self._supplied:
            if one.subject != last.issuer or any(one.der == used.der for used in path):
                continue
            if self._issued(last, one):
                yield from self.paths([*path, one])

    def _issued(self, certificate: ParsedCertificate, issuer: ParsedCertificate) -> bool:
        self._checks -= 1
        if self._checks < 0:
            raise CertificateRefused(
                f"no path to a trusted authority after {MAX_SIGNATURE_CHECKS} signature checks"
            )
        try:
            certificate.certificate.verify_directly_issued_by(issuer.certificate)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
            return False
        return True


def find_path(
    leaf: ParsedCertificate,
    supplied: Sequence[ParsedCertificate],
    anchors: Sequence[ParsedCertificate],
    now: datetime,
) -> list[ParsedCertificate]:
    """A valid path, leaf first, anchor last; a leaf that is itself an anchor needs no other.

    Raises :class:`CertificateRefused` with the reason of the first path that failed, or with the
    authority that is missing.
    """
    _check_validity(leaf, now)
    if any(anchor.der == leaf.der for anchor in anchors):
        return [leaf]
    first_refusal: CertificateRefused | None = None
    for path in _Search(supplied, anchors).paths([leaf]):
        try:
            _check_path(path, now)
        except CertificateRefused as refused:
            first_refusal = first_refusal or refused
        else:
            return path
    if first_refusal is not None:
        raise first_refusal
    raise CertificateRefused(_unknown_authority(leaf, supplied, anchors))


def _unknown_authority(
    leaf: ParsedCertificate,
    supplied: Sequence[ParsedCertificate],
    anchors: Sequence[ParsedCertificate],
) -> str:
    known = ", ".join(anchor.title for anchor in anchors[:MAX_SHOWN_NAMES])
    end = leaf
    for _ in supplied:
        above = next((s for s in supplied if s.subject == end.issuer and s is not end), None)
        if above is None or above.self_issued:
            break
        end = above
    issuer = title_of(end.certificate.issuer)
    if any(anchor.subject == end.issuer for anchor in anchors):
        return (
            f"the certificate of {end.title} names {issuer} as its issuer "
            "but was not signed with the key of the trusted one"
        )
    return (
        f"the certificate of {end.title} is issued by {issuer}, "
        f"which is not among the trusted CAs: [{known}]"
    )


def _check_path(path: list[ParsedCertificate], now: datetime) -> None:
    below = 0
    budget = name_constraints.MAX_COMPARISONS
    for index, parsed in enumerate(path):
        _check_validity(parsed, now)
        if index == 0:
            _check_signature_hash(parsed)
            continue
        _check_authority(parsed, below)
        budget = name_constraints.check(parsed, path[:index], budget)
        if index < len(path) - 1:
            _check_signature_hash(parsed)
        if not parsed.self_issued:
            below += 1


def check_leaf(leaf: ParsedCertificate, identity: Identity) -> None:
    """The peer's own certificate: it may sign for IKE, and names the identity.

    Raises :class:`CertificateRefused`.
    """
    usage = leaf.usage
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise CertificateRefused(f"the key usage of {leaf.title} does not allow signatures")
    extended = leaf.extended_usage
    if extended is not None and not any(one in _USAGES for one in extended):
        allowed = ", ".join(one.dotted_string for one in list(extended)[:MAX_SHOWN_NAMES])
        raise CertificateRefused(
            f"the extended key usage of {leaf.title} allows only {allowed}; "
            "clientAuth, serverAuth, ipsecIKE or any is needed"
        )
    # An ill-formed identity proves nobody, even where a certificate repeats it octet for octet.
    if identity.problem() or not any(identity.same_as(one) for one in leaf.identities):
        named = ", ".join(f'"{escape(str(one), 80)}"' for one in leaf.identities[:MAX_SHOWN_NAMES])
        raise CertificateRefused(
            f'identity "{identity}" is not in the certificate, which names [{named}]'
        )
