"""Identities of IKE peers (RFC 7296 section 3.5) and what the configuration says of them."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509

from gateway.ike.auth import distinguished_name as dn
from gateway.ike.registry import IdType

MAX_OCTETS = 1024
MAX_TEXT = 256
"""Characters of an identity in logs; longer ones end in three dots."""

_PREFIXES = {
    "fqdn": IdType.FQDN,
    "email": IdType.RFC822_ADDR,
    "dn": IdType.DER_ASN1_DN,
    "keyid": IdType.KEY_ID,
}
_EXAMPLES = "host.example.com, user@example.com, 192.0.2.1, CN=alice, O=Example or keyid:name"


def escape(text: str, limit: int = MAX_TEXT) -> str:
    """Text from the network made safe for one log line: printable, no newline, bounded."""
    cut = text[: limit + 1]
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in cut
    )
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


@dataclass(frozen=True, slots=True)
class Identity:
    """The content of an IDi or IDr payload. Any octets make one; :meth:`problem` judges."""

    type: int
    """An :class:`IdType`, or a number that we do not know."""
    data: bytes

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """Read what an administrator writes.

        An address, ``user@host``, ``CN=alice, O=Example`` (in the order of the certificate), a
        host name; ``fqdn:``, ``email:``, ``dn:`` or ``keyid:`` in front forces the type, and
        ``keyid:0x...`` gives octets. Raises :class:`ValueError` with what is wrong.
        """
        text = text.strip()
        if not text:
            raise ValueError(f"empty identity; allowed: {_EXAMPLES}")
        try:
            address = ip_address(text)
        except ValueError:
            pass
        else:
            kind = IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR
            return cls(kind, address.packed)
        prefix, colon, rest = text.partition(":")
        kind = _PREFIXES[prefix.lower()] if colon and prefix.lower() in _PREFIXES else _guess(text)
        if colon and prefix.lower() in _PREFIXES:
            text = rest.strip()
        identity = cls(kind, _encode(kind, text))
        problem = identity.problem()
        if problem is not None:
            raise ValueError(f"{escape(text, 80)!r} {problem}; allowed: {_EXAMPLES}")
        return identity

    @classmethod
    def of_subject(cls, certificate: x509.Certificate) -> "Identity":
        """The subject of a certificate, octet for octet."""
        return cls(IdType.DER_ASN1_DN, certificate.subject.public_bytes())

    def problem(self) -> str | None:
        """What is wrong with the octets, in words that follow the identity; None if nothing is."""
        if not self.data:
            return "is empty"
        if len(self.data) > MAX_OCTETS:
            return f"has {len(self.data)} octets, at most {MAX_OCTETS} are allowed"
        size = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}.get(self.type)  # type: ignore[call-overload]
        if size is not None:
            return None if len(self.data) == size else f"is not an address of {size} octets"
        if self.type in (IdType.FQDN, IdType.RFC822_ADDR):
            return _name_problem(self.type, self.data)
        if self.type == IdType.DER_ASN1_DN:
            return None if self.distinguished_name() is not None else "is no distinguished name"
        if self.type == IdType.KEY_ID:
            return None
        return f"is of type {self.type}, which is not supported"

    def distinguished_name(self) -> dn.Name | None:
        """The name that a DER_ASN1_DN holds; None for other types and broken encodings."""
        if self.type != IdType.DER_ASN1_DN:
            return None
        try:
            return dn.from_der(self.data) or None
        except ValueError:
            return None

    def same_as(self, other: "Identity") -> bool:
        """Whether both name the same peer; letter case does not count in names."""
        if self.type != other.type:
            return False
        if self.data == other.data:
            return True
        if self.type in (IdType.FQDN, IdType.RFC822_ADDR):
            return _folded(self) == _folded(other)
        mine, theirs = self.distinguished_name(), other.distinguished_name()
        return (
            mine is not None and theirs is not None and dn.normalised(mine) == dn.normalised(theirs)
        )

    def comparable(self) -> str:
        """One text for all spellings that :meth:`same_as` takes for the same peer. Never raises."""
        name = self.distinguished_name()
        if name is not None:
            return dn.to_text(dn.normalised(name))
        if self.type in (IdType.FQDN, IdType.RFC822_ADDR):
            return _folded(self) or self._text()
        return self._text()

    def __str__(self) -> str:
        """For logs: never raises, printable, at most 256 characters."""
        return escape(self._text())

    def _text(self) -> str:
        data = self.data
        if self.type == IdType.IPV4_ADDR and len(data) == 4:
            return str(IPv4Address(data))
        if self.type == IdType.IPV6_ADDR and len(data) == 16:
            return str(IPv6Address(data))
        if self.type in (IdType.FQDN, IdType.RFC822_ADDR):
            return data[: 2 * MAX_TEXT].decode("utf-8", "backslashreplace")
        name = self.distinguished_name()
        if name is not None:
            return dn.to_text(name)
        if self.type == IdType.KEY_ID:
            text = data[: 2 * MAX_TEXT].decode("utf-8", "replace")
            if text and text.isprintable() and "\ufffd" not in text:
                return f"keyid:{text}"
            return f"keyid:0x{data[:MAX_TEXT].hex()}"
        return f"type {self.type}:0x{data[:MAX_TEXT].hex()}"


def _guess(text: str) -> IdType:
    if "=" in text:
        return IdType.DER_ASN1_DN
    return IdType.RFC822_ADDR if "@" in text else IdType.FQDN


def _encode(kind: IdType, text: str) -> bytes:
    if kind is IdType.DER_ASN1_DN:
        return dn.parse_text(text)
    if kind is IdType.KEY_ID and text[:2].lower() == "0x":
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            raise ValueError(f"keyid:{escape(text, 80)} is not hexadecimal") from None
    return text.encode()


def _name_problem(kind: int, data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    if not text.isprintable() or (kind == IdType.FQDN and " " in text):
        return "contains control characters or blanks"
    if kind == IdType.FQDN and "*" in text:
        return "contains *"
    if kind == IdType.RFC822_ADDR:
        local, at, domain = text.rpartition("@")
        if not at or not local or not domain:
            return "is not of the form user@host"
        quoted = len(local) >= 2 and local[0] == local[-1] == '"'
        if not quoted and ("@" in local or '"' in local or " " in local):
            return "needs quotes around what stands before the @"
        if '"' in domain or " " in domain:
            return "has quotes or blanks after the @"
    return None


def _folded(identity: Identity) -> str | None:
    """The name in lower case without a final dot; None for what is not well formed."""
    if identity.problem() is not None:
        return None
    return identity.data.decode().lower().removesuffix(".")


@dataclass(frozen=True, slots=True)
class IdentityPattern:
    """Which identities a connection is for. Ill-formed identities fit no pattern.

    ``*`` is any identity, ``*@example.com`` any user of that domain, ``*.example.com`` any host
    below it at any depth, anything else exactly that identity; in a distinguished name a value of
    ``*`` stands for any value.
    """

    text: str
    exact: Identity | None = None
    """None for the three forms that begin with ``*``."""

    @classmethod
    def parse(cls, text: str) -> "IdentityPattern":
        """Read a pattern. Raises :class:`ValueError` with what is wrong."""
        text = text.strip()
        if text == "*":
            return cls(text)
        if text.startswith(("*@", "*.")) and "=" not in text:
            rest = text[2:]
            if not rest or any(c in rest for c in "*@ ") or rest.startswith("."):
                raise ValueError(f"{escape(text, 80)!r} is not of the form *{text[1]}example.com")
            return cls(text[:2] + rest.lower().removesuffix("."))
        if "*" in text and "=" not in text:
            raise ValueError(f"{escape(text, 80)!r}: * stands alone, before @ or before a dot only")
        return cls(text, Identity.parse(text))

    def matches(self, identity: Identity) -> bool:
        """Whether the connection is for this identity. Never raises."""
        if identity.problem() is not None:
            return False
        if self.text == "*":
            return True
        if self.exact is None:
            folded = _folded(identity) if identity.type in _WILDCARD_TYPES else None
            kind = IdType.RFC822_ADDR if self.text[1] == "@" else IdType.FQDN
            suffix = self.text[1:]
            return (
                folded is not None
                and identity.type == kind
                and folded.endswith(suffix)
                and len(folded) > len(suffix)
            )
        wanted, given = self.exact.distinguished_name(), identity.distinguished_name()
        if wanted is not None and given is not None:
            return dn.fits(wanted, given)
        return self.exact.same_as(identity)

    def __str__(self) -> str:
        return self.text


_WILDCARD_TYPES = (IdType.FQDN, IdType.RFC822_ADDR)


def certificate_identities(certificate: x509.Certificate) -> tuple[Identity, ...]:
    """What a certificate names: its subject, then DNS names, e-mail addresses and addresses.

    Raises :class:`ValueError` where the certificate's extensions cannot be read.
    """
    found = []
    subject = Identity.of_subject(certificate)
    if subject.distinguished_name() is not None:
        found.append(subject)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return tuple(found)
    for name in names:
        if isinstance(name, x509.DNSName):
            found.append(Identity(IdType.FQDN, name.value.encode()))
        elif isinstance(name, x509.RFC822Name):
            found.append(Identity(IdType.RFC822_ADDR, name.value.encode()))
        elif isinstance(name, x509.IPAddress) and isinstance(name.value, IPv4Address | IPv6Address):
            kind = IdType.IPV4_ADDR if name.value.version == 4 else IdType.IPV6_ADDR
            found.append(Identity(kind, name.value.packed))
    return tuple(found)
