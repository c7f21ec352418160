"""The algorithms this gateway has, under the names that administrators know from strongSwan.

Numbers are IANA's (RFC 7296 section 3.3.2). Whatever is not in :data:`WORDS` cannot be
configured, and whatever was not configured is never chosen.
"""

import difflib
import re
from dataclasses import dataclass
from enum import IntEnum

from gateway.ike.registry import DhGroup, EncrId, EsnId, IntegId, PrfId, TransformType

AEAD = frozenset((EncrId.AES_GCM_16, EncrId.CHACHA20_POLY1305))
"""Ciphers that authenticate as well: RFC 5282, RFC 7634."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a proposal string and the transform it stands for."""

    name: str
    type: TransformType
    id: IntEnum
    key_bits: int | None = None
    """The Key Length attribute; None for algorithms whose key has only one size."""
    weak: bool = False
    """Never part of a default, used only when named."""
    prf: PrfId | None = None
    """The pseudorandom function that an IKE proposal without one takes from this word."""


@dataclass(frozen=True, slots=True)
class Cipher:
    """Sizes of an encryption transform, in octets."""

    salt: int
    iv: int
    block: int
    icv: int
    """0 where a separate integrity transform makes the ICV."""
    default_key_bits: int | None = None
    """The key size where there is no Key Length attribute; None where there must be one."""


CIPHERS: dict[int, Cipher] = {
    EncrId.AES_GCM_16: Cipher(salt=4, iv=8, block=1, icv=16),
    EncrId.CHACHA20_POLY1305: Cipher(salt=4, iv=8, block=1, icv=16, default_key_bits=256),
    EncrId.AES_CBC: Cipher(salt=0, iv=16, block=16, icv=0),
    EncrId.TRIPLE_DES: Cipher(salt=0, iv=8, block=8, icv=0, default_key_bits=192),
}


@dataclass(frozen=True, slots=True)
class Mac:
    """Sizes of an integrity transform, in octets, and its hash (RFC 2404, RFC 4868)."""

    key: int
    icv: int
    hash: str


MACS: dict[int, Mac] = {
    IntegId.HMAC_SHA1_96: Mac(20, 12, "sha1"),
    IntegId.HMAC_SHA2_256_128: Mac(32, 16, "sha256"),
    IntegId.HMAC_SHA2_384_192: Mac(48, 24, "sha384"),
    IntegId.HMAC_SHA2_512_256: Mac(64, 32, "sha512"),
}


def encryption_key_octets(encr: int, key_bits: int | None) -> int:
    """Octets of key material that a cipher takes, its salt included.

    Raises :class:`ValueError` for an unknown cipher or one whose key length is missing.
    """
    cipher = CIPHERS.get(encr)
    bits = key_bits or (cipher.default_key_bits if cipher else None)
    if cipher is None or bits is None:
        raise ValueError(f"no key size is known for encryption transform {encr}/{key_bits}")
    return bits // 8 + cipher.salt


def integrity_key_octets(integ: int) -> int:
    """Octets of key material that an integrity transform takes; 0 for NONE.

    Raises :class:`ValueError` for an unknown one.
    """
    if integ == IntegId.NONE:
        return 0
    if integ not in MACS:
        raise ValueError(f"no key size is known for integrity transform {integ}")
    return MACS[integ].key


def _encr(name: str, encr: EncrId, bits: int | None, *, weak: bool = False) -> Word:
    return Word(name, TransformType.ENCR, encr, bits, weak)


def _integ(name: str, integ: IntegId, prf: PrfId, *, weak: bool = False) -> Word:
    return Word(name, TransformType.INTEG, integ, None, weak, prf)


def _prf(name: str, prf: PrfId, *, weak: bool = False) -> Word:
    return Word(name, TransformType.PRF, prf, None, weak)


def _group(name: str, group: DhGroup, *, weak: bool = False) -> Word:
    return Word(name, TransformType.KE, group, None, weak)


_WORDS = (
    _encr("aes128gcm16", EncrId.AES_GCM_16, 128),
    _encr("aes192gcm16", EncrId.AES_GCM_16, 192),
    _encr("aes256gcm16", EncrId.AES_GCM_16, 256),
    _encr("chacha20poly1305", EncrId.CHACHA20_POLY1305, None),
    _encr("aes128", EncrId.AES_CBC, 128),
    _encr("aes192", EncrId.AES_CBC, 192),
    _encr("aes256", EncrId.AES_CBC, 256),
    _encr("3des", EncrId.TRIPLE_DES, None, weak=True),
    _integ("sha256", IntegId.HMAC_SHA2_256_128, PrfId.HMAC_SHA2_256),
    _integ("sha384", IntegId.HMAC_SHA2_384_192, PrfId.HMAC_SHA2_384),
    _integ("sha512", IntegId.HMAC_SHA2_512_256, PrfId.HMAC_SHA2_512),
    _integ("sha1", IntegId.HMAC_SHA1_96, PrfId.HMAC_SHA1, weak=True),
    _prf("prfsha256", PrfId.HMAC_SHA2_256),
    _prf("prfsha384", PrfId.HMAC_SHA2_384),
    _prf("prfsha512", PrfId.HMAC_SHA2_512),
    _prf("prfsha1", PrfId.HMAC_SHA1, weak=True),
    _group("x25519", DhGroup.X25519),
    _group("ecp256", DhGroup.ECP_256),
    _group("ecp384", DhGroup.ECP_384),
    _group("ecp521", DhGroup.ECP_521),
    _group("modp2048", DhGroup.MODP_2048),
    _group("modp3072", DhGroup.MODP_3072),
    _group("modp4096", DhGroup.MODP_4096),
    _group("modp1536", DhGroup.MODP_1536, weak=True),
    _group("modp1024", DhGroup.MODP_1024, weak=True),
    _group("nopfs", DhGroup.NONE),
    Word("esn", TransformType.ESN, EsnId.ESN),
    Word("noesn", TransformType.ESN, EsnId.NO_ESN),
)

_KEMS = {
    word.name: word
    for word in (_group("mlkem768", DhGroup.ML_KEM_768), _group("mlkem1024", DhGroup.ML_KEM_1024))
}
"""Used beside a classic group only, as an additional key exchange."""
_ADDITIONAL = re.compile(r"ke([1-7])_(\w+)")

WORDS: dict[str, Word] = {word.name: word for word in _WORDS}
"""Every word of a proposal string."""

ALIASES = {
    "aes128gcm": "aes128gcm16",
    "aes192gcm": "aes192gcm16",
    "aes256gcm": "aes256gcm16",
    "curve25519": "x25519",
    "modpnone": "nopfs",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
}

_NAMES: dict[tuple[int, int, int | None], str] = {
    (word.type, word.id, word.key_bits): word.name for word in _WORDS
}
_NAMES[TransformType.INTEG, IntegId.NONE, None] = "no-integrity"
_FOREIGN: dict[tuple[int, int], str] = {
    (1, 2): "des",
    (1, 11): "null",
    (1, 12): "aes-cbc",
    (1, 13): "aesctr",
    (1, 18): "aesgcm8",
    (1, 19): "aesgcm12",
    (1, 20): "aesgcm16",
    (1, 23): "camellia",
    (2, 1): "prfmd5",
    (2, 4): "prfaesxcbc",
    (2, 8): "prfaescmac",
    (3, 1): "md5",
    (3, 5): "aesxcbc",
    (3, 8): "aescmac",
    (4, 1): "modp768",
    (4, 17): "modp6144",
    (4, 18): "modp8192",
    (4, 22): "modp1024s160",
    (4, 23): "modp2048s224",
    (4, 24): "modp2048s256",
    (4, 25): "ecp192",
    (4, 26): "ecp224",
    (4, 28): "ecp256bp",
    (4, 29): "ecp384bp",
    (4, 30): "ecp512bp",
    (4, 32): "x448",
    (4, 35): "mlkem512",
    **{(4, int(word.id)): name for name, word in _KEMS.items()},
}
_TYPE_NAMES = {1: "encr", 2: "prf", 3: "integ", 4: "group", 5: "esn"}


def lookup(name: str) -> Word:
    """The meaning of a word, in any case.

    Raises :class:`ValueError` that names the word and the allowed ones nearest to it.
    """
    lower = name.strip().lower()
    word = WORDS.get(ALIASES.get(lower, lower))
    if word is not None:
        return word
    additional = _ADDITIONAL.fullmatch(lower)
    if additional is not None:
        return _additional(lower, int(additional[1]), additional[2])
    if lower in _KEMS:
        raise ValueError(f"{lower} is used beside a classic group only: write ke1_{lower}")
    near = difflib.get_close_matches(lower, [*WORDS, *ALIASES], n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}" if near else f"allowed: {', '.join(WORDS)}"
    raise ValueError(f"unknown algorithm {lower[:40]!r}; {hint}")


def _additional(name: str, number: int, method: str) -> Word:
    """``ke1_mlkem768`` and the like (RFC 9370); ``ke1_none`` makes it the peer's choice."""
    kind = TransformType(TransformType.ESN + number)
    if method == "none":
        return Word(name, kind, DhGroup.NONE)
    word = _KEMS.get(method) or WORDS.get(ALIASES.get(method, method))
    if word is None or word.type is not TransformType.KE or word.id is DhGroup.NONE:
        groups = [w.name for w in _WORDS if w.type is TransformType.KE and w.id]
        allowed = ", ".join((*_KEMS, *groups, "none"))
        raise ValueError(f"{method[:40]!r} is no key exchange method; allowed: {allowed}")
    return Word(name, kind, word.id, None, word.weak)


def transform_name(type_: int, id_: int, key_bits: int | None) -> str:
    """A transform for people, also one we have never heard of. Never raises."""
    if TransformType.ADDITIONAL_KE_1 <= type_ <= TransformType.ADDITIONAL_KE_7:
        method = transform_name(TransformType.KE, id_, key_bits) if id_ else "none"
        return f"ke{type_ - TransformType.ESN}_{method}"
    name = _NAMES.get((type_, id_, key_bits))
    if name is None:
        kind = _TYPE_NAMES.get(type_, f"type{type_}")
        name = _FOREIGN.get((type_, id_)) or _NAMES.get((type_, id_, None)) or f"{kind}#{id_}"
        if key_bits is not None:
            name += f"/{key_bits}"
    return name
