"""Distinguished names as octets (X.501, RFC 5280 section 4.1.2.4) and as text.

The text is in the order of the encoding, ``C=CH, O=Example, CN=alice``, as OpenSSL shows it.
"""

from cryptography import x509
from cryptography.x509.oid import NameOID

from gateway.ike.auth.der import OID, SEQUENCE, SET, dotted, elements, only

MAX_OCTETS = 2048
MAX_ATTRIBUTES = 32

_KEYS: dict[str, x509.ObjectIdentifier] = {
    "CN": NameOID.COMMON_NAME,
    "C": NameOID.COUNTRY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "STREET": NameOID.STREET_ADDRESS,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
    "SN": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME,
    "T": NameOID.TITLE,
}
_ALIASES = {"E": "EMAILADDRESS", "EMAIL": "EMAILADDRESS", "S": "ST", "G": "GN"}
_SHORT = {oid.dotted_string: key for key, oid in _KEYS.items()}
_SHORT[NameOID.EMAIL_ADDRESS.dotted_string] = "emailAddress"
_SHORT[NameOID.SERIAL_NUMBER.dotted_string] = "serialNumber"

_STRINGS = {
    12: "utf-8",
    18: "ascii",
    19: "ascii",
    20: "latin-1",
    22: "ascii",
    28: "utf-32-be",
    30: "utf-16-be",
}

Attribute = tuple[str, str]
"""Dotted object identifier and value."""
Name = tuple[tuple[Attribute, ...], ...]
"""Relative distinguished names in the order of the encoding, each with its attributes."""


def _attribute(content: bytes) -> Attribute:
    parts = list(elements(content))
    if len(parts) != 2 or parts[0][0] != OID:
        raise ValueError("broken ASN.1: attribute of a name")
    tag, value = parts[1]
    coding = _STRINGS.get(tag)
    # What is no string keeps its tag, so that it never equals one.
    text = f"#{tag:02x}{value.hex()}" if coding is None else value.decode(coding)
    return dotted(parts[0][1]), text


def from_der(data: bytes) -> Name:
    """Read an encoded name. Raises :class:`ValueError` if broken or too large."""
    if len(data) > MAX_OCTETS:
        raise ValueError(f"distinguished name of {len(data)} octets, at most {MAX_OCTETS} allowed")
    name: list[tuple[Attribute, ...]] = []
    count = 0
    for tag, content in elements(only(data, SEQUENCE)):
        if tag != SET:
            raise ValueError("broken ASN.1: relative distinguished name")
        attributes = []
        for inner, value in elements(content):
            if inner != SEQUENCE:
                raise ValueError("broken ASN.1: attribute of a name")
            attributes.append(_attribute(value))
        count += len(attributes)
        if not attributes or count > MAX_ATTRIBUTES:
            raise ValueError(f"a distinguished name has 1 to {MAX_ATTRIBUTES} attributes")
        name.append(tuple(attributes))
    return tuple(name)


def normalised(name: Name) -> Name:
    """For comparison: letter case and runs of blanks do not count (RFC 5280 section 7.1)."""
    return tuple(
        tuple(sorted((oid, " ".join(value.split()).casefold()) for oid, value in rdn))
        for rdn in name
    )


def to_text(name: Name) -> str:
    """Show a name, ``C=CH, O=Example, CN=alice``; control characters are the caller's concern."""
    return ", ".join(
        "+".join(f"{_SHORT.get(oid, oid)}={_escaped(value)}" for oid, value in rdn) for rdn in name
    )


def _escaped(value: str) -> str:
    return "".join(f"\\{letter}" if letter in ',+"\\;<>' else letter for letter in value)


def _split(text: str, separators: str) -> list[str]:
    parts, current, escaped, quoted = [], "", False, False
    for letter in text:
        if escaped:
            current += letter if letter in separators or letter in '\\"=;<># ' else "\\" + letter
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
        elif letter in separators and not quoted:
            parts.append(current)
            current = ""
        else:
            current += letter
    if escaped or quoted:
        raise ValueError("ends within an escape or quotes")
    parts.append(current)
    return parts


def parse_text(text: str) -> bytes:
    """The encoding of ``C=CH, O=Example, CN=alice``, in the order written.

    Raises :class:`ValueError` naming the part that is wrong and the attributes that are known.
    """
    attributes = []
    for part in _split(text.strip().strip("/"), ",/" if text.strip().startswith("/") else ","):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not value:
            raise ValueError(f"{part.strip()[:60]!r} is not of the form CN=value")
        upper = key.upper()
        oid = _KEYS.get(_ALIASES.get(upper, upper))
        if oid is None:
            try:
                oid = x509.ObjectIdentifier(key)
            except ValueError:
                known = ", ".join(_KEYS)
                raise ValueError(
                    f"unknown attribute {key[:40]!r}; allowed: {known}, or a dotted number"
                ) from None
        try:
            attributes.append(x509.NameAttribute(oid, value))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    if len(attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"more than {MAX_ATTRIBUTES} attributes")
    return x509.Name(attributes).public_bytes()


def fits(pattern: Name, name: Name) -> bool:
    """Whether a name is the one configured, read from either end.

    Tools show names in the order of the encoding (OpenSSL) or reversed (RFC 4514); whoever copies
    one into the configuration should not have to know. A value ``*`` stands for any value.
    """
    wanted, given = normalised(pattern), normalised(name)
    return len(wanted) == len(given) > 0 and (_same(wanted, given) or _same(wanted[::-1], given))


def _same(wanted: Name, given: Name) -> bool:
    return all(
        len(one) == len(other)
        and all(
            a_oid == b_oid and a_value in ("*", b_value)
            for (a_oid, a_value), (b_oid, b_value) in zip(one, other, strict=True)
        )
        for one, other in zip(wanted, given, strict=True)
    )
