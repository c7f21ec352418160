"""Keys, hashes and initialization vectors of IKEv1 (RFC 2409 section 5 and appendix B)."""

import hashlib
import struct
from dataclasses import dataclass

from gateway.ike.crypto.prf import Prf
from gateway.ike.crypto.transforms import CIPHERS, encryption_key_octets
from gateway.ike.registry import PrfId

_HASHES = {
    PrfId.HMAC_SHA1: "sha1",
    PrfId.HMAC_SHA2_256: "sha256",
    PrfId.HMAC_SHA2_384: "sha384",
    PrfId.HMAC_SHA2_512: "sha512",
}
"""The negotiated hash of each pseudorandom function: in IKEv1 one follows from the other."""


@dataclass(frozen=True, slots=True, repr=False)
class PhaseOneKeys:
    """SKEYID and what is derived from it; never shown."""

    skeyid: bytes
    d: bytes
    """SKEYID_d: for the keys of child SAs."""
    a: bytes
    """SKEYID_a: authenticates phase 2."""
    e: bytes
    """SKEYID_e: encrypts."""

    def __repr__(self) -> str:
        return "PhaseOneKeys(hidden)"


def digest(prf: Prf, data: bytes) -> bytes:
    """The negotiated hash of ``data``, as for NAT-D payloads and initialization vectors."""
    return hashlib.new(_HASHES[prf.id], data, usedforsecurity=False).digest()


def skeyid_of_preshared_key(prf: Prf, secret: bytes, nonce_i: bytes, nonce_r: bytes) -> bytes:
    """SKEYID = prf(pre-shared-key, Ni_b | Nr_b)."""
    return prf.digest(secret, nonce_i + nonce_r)


def skeyid_of_signatures(prf: Prf, nonce_i: bytes, nonce_r: bytes, shared: bytes) -> bytes:
    """SKEYID = prf(Ni_b | Nr_b, g^xy)."""
    return prf.digest(nonce_i + nonce_r, shared)


def derive(
    prf: Prf, skeyid: bytes, shared: bytes, cookie_i: bytes, cookie_r: bytes
) -> PhaseOneKeys:
    """SKEYID_d, SKEYID_a and SKEYID_e (section 5); ``shared`` is g^xy in the group's length."""
    tail = shared + cookie_i + cookie_r
    d = prf.digest(skeyid, tail + b"\0")
    a = prf.digest(skeyid, d + tail + b"\1")
    e = prf.digest(skeyid, a + tail + b"\2")
    return PhaseOneKeys(skeyid, d, a, e)


def expand(prf: Prf, key: bytes, size: int) -> bytes:
    """The first ``size`` octets of ``key``, made longer where that is needed (appendix B).

    Ka = K1 | K2 | ..., K1 = prf(key, 0), Kn = prf(key, Kn-1). A weak 3DES key is not looked for:
    it comes up with a probability of 2^-50.
    """
    if size <= len(key):
        return key[:size]
    blocks = [prf.digest(key, b"\0")]
    while len(blocks) * prf.length < size:
        blocks.append(prf.digest(key, blocks[-1]))
    return b"".join(blocks)[:size]


def encryption_key(prf: Prf, keys: PhaseOneKeys, encr: int, key_bits: int | None) -> bytes:
    """The key of the ISAKMP SA's cipher."""
    return expand(prf, keys.e, encryption_key_octets(encr, key_bits))


def hash_i(  # noqa: PLR0917 - in the order of section 5
    prf: Prf,
    keys: PhaseOneKeys,
    public_i: bytes,
    public_r: bytes,
    cookie_i: bytes,
    cookie_r: bytes,
    sa_body: bytes,
    id_body: bytes,
) -> bytes:
    """HASH_I; ``sa_body`` is the initiator's SA payload and ``id_body`` its ID payload.

    Both after their generic headers.
    """
    material = public_i + public_r + cookie_i + cookie_r + sa_body + id_body
    return prf.digest(keys.skeyid, material)


def hash_r(  # noqa: PLR0917 - in the order of section 5
    prf: Prf,
    keys: PhaseOneKeys,
    public_i: bytes,
    public_r: bytes,
    cookie_i: bytes,
    cookie_r: bytes,
    sa_body: bytes,
    id_body: bytes,
) -> bytes:
    """HASH_R; ``sa_body`` is still the initiator's SA payload, ``id_body`` the responder's ID."""
    material = public_r + public_i + cookie_r + cookie_i + sa_body + id_body
    return prf.digest(keys.skeyid, material)


def phase1_iv(prf: Prf, public_i: bytes, public_r: bytes, encr: int) -> bytes:
    """The initialization vector of the first encrypted message of phase 1."""
    return digest(prf, public_i + public_r)[: CIPHERS[encr].block]


def phase2_iv(prf: Prf, last_block: bytes, message_id: int, encr: int) -> bytes:
    """That of the first message of a later exchange; ``last_block`` is phase 1's last one."""
    material = last_block + struct.pack("!I", message_id)
    return digest(prf, material)[: CIPHERS[encr].block]


def quick_keymat(  # noqa: PLR0917 - in the order of section 5.5
    prf: Prf,
    skeyid_d: bytes,
    protocol: int,
    spi: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    size: int,
    shared: bytes = b"",
) -> bytes:
    """KEYMAT of the SA with this SPI (section 5.5): ``size`` octets.

    ``spi`` is that of the side that receives with these keys; ``shared`` is g(qm)^xy with PFS.
    """
    seed = shared + bytes((protocol,)) + spi + nonce_i + nonce_r
    blocks = [prf.digest(skeyid_d, seed)]
    while len(blocks) * prf.length < size:
        blocks.append(prf.digest(skeyid_d, blocks[-1] + seed))
    return b"".join(blocks)[:size]
