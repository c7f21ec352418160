"""Name constraints of certification authorities (RFC 5280 section 4.2.1.10)."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509

from gateway.ike.auth import distinguished_name as dn
from gateway.ike.auth.certificates import CertificateRefused, ParsedCertificate
from gateway.ike.auth.identity import escape

MAX_COMPARISONS = 10_000
"""Names times constraints of one chain: both come from certificates, so bound the product."""


def _host_below(host: str, base: str) -> bool:
    host, base = host.lower().rstrip("."), base.lower().rstrip(".")
    if not base:
        return True
    if base.startswith("."):
        return host.endswith(base) and len(host) > len(base)
    return host == base or host.endswith("." + base)


def _mailbox_within(address: str, base: str) -> bool:
    if "@" in base:
        local, _, host = address.rpartition("@")
        base_local, _, base_host = base.rpartition("@")
        return local == base_local and host.lower() == base_host.lower()
    host = address.rpartition("@")[2].lower()
    if base.startswith("."):
        return host.endswith(base.lower())
    return not base or host == base.lower()


def _name_within(name: x509.Name, base: x509.Name) -> bool:
    mine = dn.normalised(dn.from_der(name.public_bytes()))
    wanted = dn.normalised(dn.from_der(base.public_bytes()))
    return mine[: len(wanted)] == wanted


def _within(name: x509.GeneralName, base: x509.GeneralName) -> bool | None:
    """Whether a name lies in a subtree; None if they are of different or unknown forms."""
    if type(name) is not type(base):
        return None
    if isinstance(name, x509.DNSName) and isinstance(base, x509.DNSName):
        return _host_below(name.value, base.value)
    if isinstance(name, x509.RFC822Name) and isinstance(base, x509.RFC822Name):
        return _mailbox_within(name.value, base.value)
    if isinstance(name, x509.DirectoryName) and isinstance(base, x509.DirectoryName):
        return _name_within(name.value, base.value)
    if isinstance(name, x509.IPAddress) and isinstance(base, x509.IPAddress):
        if isinstance(base.value, IPv4Address | IPv6Address) or not isinstance(
            name.value, IPv4Address | IPv6Address
        ):
            return None
        return name.value in base.value
    # A form that we cannot compare: whoever constrains it has not allowed it here.
    raise ValueError(f"name form {type(name).__name__} is constrained and cannot be checked")


def names_of(parsed: ParsedCertificate) -> tuple[x509.GeneralName, ...]:
    """All names of a certificate that constraints apply to, e-mail of the subject included."""
    names: list[x509.GeneralName] = list(parsed.alternative_names)
    subject = parsed.certificate.subject
    if list(subject):
        names.append(x509.DirectoryName(subject))
    has_mailbox = any(isinstance(name, x509.RFC822Name) for name in names)
    if not has_mailbox:
        for attribute in subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS):
            value = attribute.value
            if isinstance(value, str):
                names.append(x509.RFC822Name(value))
    return tuple(names)


def check(
    authority: ParsedCertificate, below: Iterable[ParsedCertificate], budget: int = MAX_COMPARISONS
) -> int:
    """Check everything an authority certified, directly or not; returns the budget left.

    Self-issued certificates in the middle are exempt, the leaf (the first of ``below``) is not.
    Raises :class:`CertificateRefused`.
    """
    constraints = authority.constraints
    if constraints is None:
        return budget
    permitted = list(constraints.permitted_subtrees or ())
    excluded = list(constraints.excluded_subtrees or ())
    for index, parsed in enumerate(below):
        if index and parsed.self_issued:
            continue
        names = names_of(parsed)
        budget -= len(names) * (len(permitted) + len(excluded))
        if budget < 0:
            raise CertificateRefused("the chain has too many names and name constraints")
        for name in names:
            _check_name(authority, parsed, name, permitted, excluded)
    return budget


def _check_name(
    authority: ParsedCertificate,
    parsed: ParsedCertificate,
    name: x509.GeneralName,
    permitted: list[x509.GeneralName],
    excluded: list[x509.GeneralName],
) -> None:
    shown = escape(str(name.value), 120)
    try:
        inside = [_within(name, base) for base in permitted]
        banned = any(_within(name, base) for base in excluded)
    except (ValueError, TypeError) as error:
        raise CertificateRefused(
            f"the name constraints of {authority.title} cannot be applied to {parsed.title}: "
            f"{escape(str(error), 120)}"
        ) from None
    known = [one for one in inside if one is not None]
    if banned or (known and not any(known)):
        raise CertificateRefused(
            f'{authority.title} must not certify the name "{shown}" of {parsed.title} '
            "(name constraints)"
        )
