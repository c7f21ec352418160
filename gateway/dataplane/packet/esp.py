"""ESP packets as pure functions (RFC 4303) with the gateway's suites.

AES-GCM (RFC 4106), ChaCha20-Poly1305 (RFC 7634), AES-CBC (RFC 3602) with HMAC-SHA2 (RFC 4868),
extended sequence numbers (RFC 4304).
"""

import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC

from gateway.domain.child_sa import Encryption, EspKeys, EspSuite, Integrity
from gateway.domain.wire import WireError

HEADER_LENGTH: Final = 8
SALT_LENGTH: Final = 4
AEAD_IV: Final = 8
AEAD_ICV: Final = 16
CBC_BLOCK: Final = 16
"""Also the length of its IV."""
HASHES: Final = {
    Integrity.HMAC_SHA2_256_128: (hashes.SHA256(), 16),
    Integrity.HMAC_SHA2_384_192: (hashes.SHA384(), 24),
    Integrity.HMAC_SHA2_512_256: (hashes.SHA512(), 32),
}
"""And the octets of their ICVs."""


class IntegrityCheckError(ValueError):
    """The ICV is not that of these octets under this key and sequence number."""


@dataclass(frozen=True, slots=True)
class EspPayload:
    """What an ESP packet carried."""

    octets: bytes
    next_header: int


def parse_header(esp: bytes) -> tuple[int, int]:
    """SPI and the low 32 bits of the sequence number. Raises :class:`WireError`."""
    if len(esp) < HEADER_LENGTH:
        raise WireError(f"ESP header cut short: {len(esp)} octets")
    return int.from_bytes(esp[:4], "big"), int.from_bytes(esp[4:8], "big")


class EspCipher:
    """One direction of a child SA.

    It keeps the key and expands it for each packet, which takes 2 microseconds: only packets
    from unknown sources are checked here, and OpenSSL's contexts of all SAs would fill memory.
    """

    __slots__ = ("_aead", "_esn", "_hash", "_icv", "_keys", "_salt")

    def __init__(self, suite: EspSuite, keys: EspKeys) -> None:
        self._esn = suite.esn
        self._aead: type[AESGCM | ChaCha20Poly1305] | None = None
        self._keys = keys
        if suite.encryption.is_aead:
            self._salt = keys.encryption[-SALT_LENGTH:]
            self._aead = AESGCM if suite.encryption is Encryption.AES_GCM_16 else ChaCha20Poly1305
            self._icv = AEAD_ICV
        else:
            self._hash, self._icv = HASHES[suite.integrity]

    @property
    def shortest(self) -> int:
        """The length of the shortest packet that can be right."""
        if self._aead is not None:
            return HEADER_LENGTH + AEAD_IV + 4 + self._icv
        return HEADER_LENGTH + 2 * CBC_BLOCK + self._icv

    def _associated(self, esp: bytes, sequence: int) -> bytes:
        if self._esn:
            return esp[:4] + sequence.to_bytes(8, "big")
        return esp[:HEADER_LENGTH]

    def _keyed(self, aead: type[AESGCM | ChaCha20Poly1305]) -> AESGCM | ChaCha20Poly1305:
        return aead(self._keys.encryption[:-SALT_LENGTH])

    def _mac(self, covered: bytes, sequence: int) -> bytes:
        if self._esn:
            covered += (sequence >> 32).to_bytes(4, "big")
        mac = HMAC(self._keys.integrity, self._hash)
        mac.update(covered)
        return mac.finalize()[: self._icv]

    def verify(self, esp: bytes, sequence: int) -> bytes:
        """Check the ICV for the full ``sequence`` number.

        Returns what the check has decrypted (AEAD) or the ciphertext with its IV (CBC). Raises
        :class:`IntegrityCheckError`.
        """
        if len(esp) < self.shortest or sequence & 0xFFFFFFFF != int.from_bytes(esp[4:8], "big"):
            raise IntegrityCheckError
        if self._aead is not None:
            nonce = self._salt + esp[8:16]
            try:
                return self._keyed(self._aead).decrypt(
                    nonce, esp[16:], self._associated(esp, sequence)
                )
            except InvalidTag:
                raise IntegrityCheckError from None
        covered = esp[: -self._icv]
        if not hmac.compare_digest(self._mac(covered, sequence), esp[-self._icv :]):
            raise IntegrityCheckError
        return covered[HEADER_LENGTH:]

    def open(self, esp: bytes, sequence: int) -> EspPayload:
        """Check and decrypt.

        Raises :class:`IntegrityCheckError`, or :class:`WireError` when what the peer has sealed
        is not padded as RFC 4303 section 2.4 says.
        """
        plain = self.verify(esp, sequence)
        if self._aead is None:
            if len(plain) % CBC_BLOCK:
                raise WireError(f"ESP ciphertext of {len(plain)} octets is not whole blocks")
            cipher = Cipher(algorithms.AES(self._keys.encryption), modes.CBC(plain[:16]))
            decryptor = cipher.decryptor()
            plain = decryptor.update(plain[16:]) + decryptor.finalize()
        if len(plain) < 2 or plain[-2] + 2 > len(plain):
            raise WireError("ESP pad length exceeds the payload")
        return EspPayload(plain[: len(plain) - 2 - plain[-2]], plain[-1])

    def seal(self, spi: int, sequence: int, payload: bytes, next_header: int, iv: bytes) -> bytes:
        """Make a packet.

        ``iv`` is 8 octets never used before with this key (AEAD), or 16
        unpredictable ones (CBC). Raises :class:`ValueError` for another length.
        """
        block = 4 if self._aead is not None else CBC_BLOCK
        if len(iv) != (AEAD_IV if self._aead is not None else CBC_BLOCK):
            raise ValueError(f"IV of {len(iv)} octets")
        padding = -(len(payload) + 2) % block
        plain = payload + bytes(range(1, padding + 1)) + bytes((padding, next_header))
        header = spi.to_bytes(4, "big") + (sequence & 0xFFFFFFFF).to_bytes(4, "big")
        if self._aead is not None:
            aead = self._keyed(self._aead)
            sealed = aead.encrypt(self._salt + iv, plain, self._associated(header, sequence))
            return header + iv + sealed
        encryptor = Cipher(algorithms.AES(self._keys.encryption), modes.CBC(iv)).encryptor()
        covered = header + iv + encryptor.update(plain) + encryptor.finalize()
        return covered + self._mac(covered, sequence)
