"""Takes secrets out of what is to leave the host: by the names of keys, and by their looks."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

HIDDEN: Final = "(removed)"
_SECRET_KEY: Final = re.compile(
    r"(^|[_.\-])(secret|password|passwd|passphrase|psk|token|cookie|csrf|credential|sealed|ticket"
    r"|nt_?hash|seed|auth_?key|enc_?key|private_?key|key)(s|es)?($|[_.\-])",
    re.IGNORECASE,
)
_HARMLESS_KEY: Final = re.compile(
    r"_(file|files|exchanges|exchange|per_s|put_off)$|^key_exchanges|^store_key_file$|reload.*key"
    r"|^(mode|kind)$",
    re.IGNORECASE,
)
"""Names of files and counters, not what is in them."""
_LOOKS: Final = tuple(
    (re.compile(pattern, flags), replacement)
    for pattern, flags, replacement in (
        (
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
            HIDDEN,
        ),
        (r"\bgw_[A-Za-z0-9_\-]{20,}", 0, HIDDEN),
        (r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/\-]{8,}=*", 0, rf"\1 {HIDDEN}"),
        (r"(?i)\b(__Host-session|session_id|csrf)=[^;\s\"]+", 0, rf"\1={HIDDEN}"),
        # user:password@host of a URL.
        (r"([a-z][a-z0-9+.\-]*://[^/\s:@\"]*):[^@\s\"]+@", 0, rf"\1:{HIDDEN}@"),
        (r"([?&](?:password|passwd|token|secret|key)=)[^&\s\"]+", re.IGNORECASE, rf"\1{HIDDEN}"),
        (
            (
                r"(?i)\b((?:[a-z]+[_\- ])?(?:password|passwd|passphrase|secret|psk|token)s?"
                r"[\"']?\s*[=:]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}\]]+)"
            ),
            0,
            rf"\1{HIDDEN}",
        ),
        (r"\$(?:scrypt|argon2[a-z]*|[0-9a-z]{1,2})\$[^\s\"']+", 0, HIDDEN),
        (r"\bscrypt\$[^\s\"']+", 0, HIDDEN),
        # Keys as `ip xfrm state` writes them, and any long run of digits like one.
        (r"\b((?:auth|enc|aead|auth-trunc|comp)\s+\S+\s+)0x[0-9a-fA-F]+", 0, rf"\1{HIDDEN}"),
        (r"\b0x[0-9a-fA-F]{32,}\b", 0, HIDDEN),
        (r"(?<![0-9A-Za-z_])[0-9a-fA-F]{48,}(?![0-9A-Za-z])", 0, HIDDEN),
        (r"/d/[A-Za-z0-9_\-]{16,}", 0, f"/d/{HIDDEN}"),
    )
)


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """A text without what looks like a secret, and without the secrets that are ``known``."""
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, HIDDEN)
    for pattern, replacement in _LOOKS:
        text = pattern.sub(replacement, text)
    return text


def document_without_secrets(value: object, known: Iterable[str] = ()) -> object:
    """A JSON-like value without secrets; what a key with a secret's name holds is hidden."""
    known = tuple(known)
    if isinstance(value, Mapping):
        return {
            str(name): HIDDEN
            if _is_secret(str(name)) and inner not in (None, "", False, True)
            else document_without_secrets(inner, known)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [document_without_secrets(inner, known) for inner in value]
    if isinstance(value, str):
        return without_secrets(value, known)
    if isinstance(value, int | float | bool) or value is None:
        return value
    return without_secrets(str(value), known)


def _is_secret(name: str) -> bool:
    return _SECRET_KEY.search(name) is not None and _HARMLESS_KEY.search(name) is None
