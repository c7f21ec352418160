"""Which name a device gets, and how a name tells whose it is (RFC 4701)."""

import hashlib
import re
from collections.abc import Iterable

MAX_LABEL = 63
_SUFFIX_DIGITS = 6
RESERVED = frozenset(
    {
        *("wpad", "isatap", "localhost", "local", "_", "ns", "dns", "www", "mail", "gateway"),
        *("proxy", "autodiscover", "autoconfig"),
    }
)
"""Labels that a device cannot choose for itself: others look there for something else."""


def label_of(text: str) -> str:
    """The host name label in what a device or an administrator calls it; empty when none is left.

    Letters, digits and hyphens (RFC 1123), in lower case, of the first part of a host name, a
    user@host or a distinguished name.
    """
    text = text.strip()
    common_name = re.search(r"(?:^|,)\s*CN\s*=\s*([^,]+)", text, re.IGNORECASE)
    if common_name:
        text = common_name[1]
    first = re.split(r"[.@]", text.strip().lower(), maxsplit=1)[0]
    kept = re.sub(r"[^a-z0-9]+", "-", first.replace("'", "")).strip("-")
    return kept[:MAX_LABEL].strip("-")


def candidates(*, configured: str, wanted: str, identity: str) -> Iterable[str]:
    """Labels for a device, the best first: the administrator's, the device's, its identity's.

    The last one is always there and nobody else's.
    """
    seen = set()
    for text, trusted in ((configured, True), (wanted, False), (identity, False)):
        label = label_of(text)
        if label and label not in seen and (trusted or label not in RESERVED):
            if not trusted and label.isdecimal():
                continue  # an address's first part says nothing
            seen.add(label)
            yield label
    base = label_of(configured) or label_of(wanted) or label_of(identity) or "device"
    digits = hashlib.sha256(identity.encode()).hexdigest()[:_SUFFIX_DIGITS]
    yield f"{base[: MAX_LABEL - _SUFFIX_DIGITS - 1].strip('-')}-{digits}"


def dhcid(identity: str, name: str) -> bytes:
    """RDATA of the DHCID record that says who has ``name``, a domain name in lower case.

    RFC 4701 section 3.5 with identifier type 1, whose text is the IKE identity behind type 0 (RFC
    2132 section 9.14: not a hardware address), so that DHCP servers that follow RFC 4703 and we
    leave each other's names alone.
    """
    identifier = b"\0" + identity.encode()
    wire = b"".join(bytes([len(one)]) + one for one in name.encode().split(b".")) + b"\0"
    return b"\0\x01\x01" + hashlib.sha256(identifier + wire).digest()
