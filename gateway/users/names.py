"""What users and groups may be called."""

import unicodedata

MAX_NAME_OCTETS = 253
"""What fits into a RADIUS User-Name (RFC 2865 section 5.1)."""
_REFUSED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control and format characters, surrogates, line ends: they can fake what a log line says."""


class NameRefusedError(ValueError):
    """No such thing can be a name; the text says why."""


def canonical_name(name: str, what: str = "user name") -> str:
    """``name`` in Unicode's normalisation form C; case counts.

    Raises:
        NameRefusedError: empty, longer than 253 octets of UTF-8, with control characters or with
            spaces at an end.
    """
    if len(name) > MAX_NAME_OCTETS:
        raise NameRefusedError(f"the {what} is longer than {MAX_NAME_OCTETS} octets; shorten it")
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if not name:
        raise NameRefusedError(f"the {what} is empty; give one")
    if any(unicodedata.category(c) in _REFUSED for c in name):
        raise NameRefusedError(f"the {what} has a control character; remove it")
    if name != name.strip():
        raise NameRefusedError(f"the {what} begins or ends with a space; remove it")
    if len(name.encode()) > MAX_NAME_OCTETS:
        raise NameRefusedError(f"the {what} is longer than {MAX_NAME_OCTETS} octets; shorten it")
    return name
