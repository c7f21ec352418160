"""Pseudorandom functions and prf+ (RFC 7296 sections 2.13 and 2.14; RFC 4868)."""

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.ike.registry import PrfId

_HASHES: dict[int, hashes.HashAlgorithm] = {
    PrfId.HMAC_SHA1: hashes.SHA1(),  # noqa: S303 - only when named in a proposal
    PrfId.HMAC_SHA2_256: hashes.SHA256(),
    PrfId.HMAC_SHA2_384: hashes.SHA384(),
    PrfId.HMAC_SHA2_512: hashes.SHA512(),
}

MAX_PLUS_BLOCKS = 255
"""prf+ counts its blocks in one octet."""


class Prf:
    """A negotiated pseudorandom function. Immutable and cheap; :meth:`of` shares instances.

    Raises :class:`ValueError` for a transform that is not supported.
    """

    __slots__ = ("_hash", "id", "length")

    def __init__(self, prf: int) -> None:
        if prf not in _HASHES:
            raise ValueError(f"pseudorandom function {prf} is not supported")
        self.id = PrfId(prf)
        self._hash = _HASHES[prf]
        self.length = self._hash.digest_size
        """Octets of output, which is also the preferred key size."""

    @staticmethod
    def of(prf: int) -> "Prf":
        """The shared instance of a transform."""
        found = _SHARED.get(prf)
        return found if found is not None else Prf(prf)

    def digest(self, key: bytes, data: bytes) -> bytes:
        """prf(key, data), :attr:`length` octets."""
        mac = hmac.HMAC(key, self._hash)
        mac.update(data)
        return mac.finalize()

    def plus(self, key: bytes, seed: bytes, size: int) -> bytes:
        """prf+(key, seed), cut to ``size`` octets (section 2.13).

        HKDF-Expand (RFC 5869) is the same construction with the same counter, so the library's
        own does the work. Raises :class:`ValueError` beyond 255 blocks.
        """
        if not 0 < size <= MAX_PLUS_BLOCKS * self.length:
            raise ValueError(f"prf+ cannot give {size} octets")
        return HKDFExpand(self._hash, size, seed).derive(key)


_SHARED = {int(prf): Prf(prf) for prf in _HASHES}
