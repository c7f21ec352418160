"""Keys of IKE SAs and child SAs (RFC 7296 sections 2.14, 2.17 and 2.18)."""

from dataclasses import dataclass

from gateway.domain.child_sa import Encryption, EspKeys, EspSuite, Integrity
from gateway.ike.crypto.prf import Prf
from gateway.ike.crypto.proposals import IkeSuite
from gateway.ike.crypto.sk import SkCipher
from gateway.ike.crypto.transforms import encryption_key_octets, integrity_key_octets
from gateway.ike.registry import PrfId

_ESP_SALT = {
    Encryption.AES_GCM_16: 4,
    Encryption.CHACHA20_POLY1305: 4,
    Encryption.AES_CBC: 0,
}
_ESP_INTEGRITY = {
    Integrity.NONE: 0,
    Integrity.HMAC_SHA2_256_128: 32,
    Integrity.HMAC_SHA2_384_192: 48,
    Integrity.HMAC_SHA2_512_256: 64,
}


@dataclass(frozen=True, slots=True, repr=False)
class IkeKeys:
    """The seven keys of an IKE SA; never shown."""

    sk_d: bytes
    sk_ai: bytes
    sk_ar: bytes
    sk_ei: bytes
    sk_er: bytes
    sk_pi: bytes
    sk_pr: bytes

    def __repr__(self) -> str:
        return "IkeKeys(hidden)"


def derive_ike_keys(  # noqa: PLR0917 - in the order of section 2.14
    suite: IkeSuite,
    nonce_i: bytes,
    nonce_r: bytes,
    shared: bytes,
    spi_i: bytes,
    spi_r: bytes,
    old_sk_d: bytes | None = None,
    old_prf: PrfId | None = None,
    additional: bytes = b"",
) -> IkeKeys:
    """Keys of a new IKE SA (section 2.14), or of its successor (section 2.18).

    ``shared`` is g^ir in the group's length. ``old_sk_d`` and ``old_prf`` are those of the SA that
    is being replaced. ``additional`` is the secrets of IKE_FOLLOWUP_KE, one after the other
    (RFC 9370 section 2.2.4). Raises :class:`ValueError` if only one of the two is given.
    """
    prf = Prf.of(suite.prf)
    if old_sk_d is None and old_prf is None:
        skeyseed = prf.digest(nonce_i + nonce_r, shared)
    elif old_sk_d is not None and old_prf is not None:
        skeyseed = Prf.of(old_prf).digest(old_sk_d, shared + nonce_i + nonce_r + additional)
    else:
        raise ValueError("rekeying needs SK_d and the pseudorandom function of the old SA")
    integ = integrity_key_octets(suite.integ)
    encr = encryption_key_octets(suite.encr, suite.key_bits)
    size = prf.length
    material = prf.plus(
        skeyseed, nonce_i + nonce_r + spi_i + spi_r, 3 * size + 2 * integ + 2 * encr
    )
    parts = []
    at = 0
    for length in (size, integ, integ, encr, encr, size, size):
        parts.append(material[at : at + length])
        at += length
    return IkeKeys(*parts)


def sk_ciphers(suite: IkeSuite, keys: IkeKeys) -> tuple[SkCipher, SkCipher]:
    """The ciphers for what the initiator sends and for what the responder sends."""
    return (
        SkCipher(suite.encr, suite.key_bits, suite.integ, keys.sk_ei, keys.sk_ai),
        SkCipher(suite.encr, suite.key_bits, suite.integ, keys.sk_er, keys.sk_ar),
    )


def child_keymat(  # noqa: PLR0917 - in the order of section 2.17
    suite: EspSuite, prf: PrfId, sk_d: bytes, nonce_i: bytes, nonce_r: bytes, shared: bytes = b""
) -> tuple[EspKeys, EspKeys]:
    """Keys for what the initiator of the exchange sends and for what the responder sends.

    ``prf`` and ``sk_d`` are the IKE SA's. ``shared`` is the g^ir of this CREATE_CHILD_SA
    exchange, empty without PFS (section 2.17).
    """
    encr = suite.key_bits // 8 + _ESP_SALT[suite.encryption]
    integ = _ESP_INTEGRITY[suite.integrity]
    material = Prf.of(prf).plus(sk_d, shared + nonce_i + nonce_r, 2 * (encr + integ))
    half = encr + integ
    return (
        EspKeys(material[:encr], material[encr:half]),
        EspKeys(material[half : half + encr], material[half + encr :]),
    )
