"""ESP of one SA with its key contexts kept: for whoever handles every packet of it.

The octets are those of :class:`gateway.dataplane.packet.esp.EspCipher`. What is left out here is
the IP header before, the choice of the sequence number and what the padding says.
"""

import hmac
from collections.abc import Callable
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC

from gateway.dataplane.packet.esp import AEAD_ICV, AEAD_IV, CBC_BLOCK, HASHES, SALT_LENGTH
from gateway.domain.child_sa import Encryption, EspKeys, EspSuite

_HEADER: Final = 8
_CBC_CONTENT: Final = _HEADER + CBC_BLOCK


class KeyedEsp(Protocol):
    """One direction of one SA."""

    block: int
    """What is sealed is padded to a multiple of so many octets."""
    overhead: int
    """Octets that sealing adds: header, IV and ICV."""

    def seal(self, header: bytes, sequence: int, iv: bytes, plain: bytes) -> bytes:
        """What follows the ESP ``header`` of 8 octets: IV, ciphertext and ICV.

        ``plain`` ends with its padding, pad length and next header. ``iv`` has 8 octets that no
        other packet under this key has; with CBC 16 unpredictable ones, of which an IV is made.
        """

    def open(self, packet: bytes, start: int, end: int, sequence: int) -> bytes | None:
        """What was sealed in the ESP packet at ``packet[start:end]``, padding and all.

        ``sequence`` is the full number whose low half the packet has. None when the ICV is wrong.
        """


def keyed(suite: EspSuite, keys: EspKeys) -> KeyedEsp:
    """Expand the keys. Raises :class:`ValueError` when their lengths are wrong."""
    return _Aead(suite, keys) if suite.encryption.is_aead else _Cbc(suite, keys)


class _Aead:
    __slots__ = ("_decrypt", "_encrypt", "_esn", "_salt", "block", "overhead")

    def __init__(self, suite: EspSuite, keys: EspKeys) -> None:
        kind = AESGCM if suite.encryption is Encryption.AES_GCM_16 else ChaCha20Poly1305
        key = keys.encryption[:-SALT_LENGTH]
        if len(key) * 8 != suite.key_bits:
            raise ValueError(f"key of {len(keys.encryption)} octets for {suite}")
        aead = kind(key)
        self._encrypt: Callable[[bytes, bytes, bytes], bytes] = aead.encrypt
        self._decrypt: Callable[[bytes, bytes, bytes], bytes] = aead.decrypt
        self._salt = keys.encryption[-SALT_LENGTH:]
        self._esn = suite.esn
        self.block = 4
        self.overhead = _HEADER + AEAD_IV + AEAD_ICV

    def seal(self, header: bytes, sequence: int, iv: bytes, plain: bytes) -> bytes:
        if self._esn:
            header = header[:4] + sequence.to_bytes(8, "big")
        return iv + self._encrypt(self._salt + iv, plain, header)

    def open(self, packet: bytes, start: int, end: int, sequence: int) -> bytes | None:
        at = start + 8
        if self._esn:
            associated = packet[start : start + 4] + sequence.to_bytes(8, "big")
        else:
            associated = packet[start:at]
        try:
            return self._decrypt(self._salt + packet[at : at + 8], packet[at + 8 : end], associated)
        except InvalidTag:
            return None


class _Cbc:
    """One context for all packets of a direction, which costs a third of one for each.

    Whatever a decryptor has seen before only matters for the first block after: given the IV as
    that block, what follows comes out right. An encryptor turns 16 unpredictable octets into an
    IV as unpredictable (NIST SP 800-38A appendix C), and goes on from there.
    """

    __slots__ = ("_decryptor", "_encryptor", "_esn", "_icv", "_mac", "block", "overhead")

    def __init__(self, suite: EspSuite, keys: EspKeys) -> None:
        if len(keys.encryption) * 8 != suite.key_bits:
            raise ValueError(f"key of {len(keys.encryption)} octets for {suite}")
        algorithm, self._icv = HASHES[suite.integrity]
        cipher = Cipher(algorithms.AES(keys.encryption), modes.CBC(bytes(CBC_BLOCK)))
        self._encryptor = cipher.encryptor()
        self._decryptor = cipher.decryptor()
        self._mac = HMAC(keys.integrity, algorithm)
        self._esn = suite.esn
        self.block = CBC_BLOCK
        self.overhead = _CBC_CONTENT + self._icv

    def _code(self, covered: bytes, sequence: int) -> bytes:
        mac = self._mac.copy()
        mac.update(covered)
        if self._esn:
            mac.update((sequence >> 32).to_bytes(4, "big"))
        return mac.finalize()[: self._icv]

    def seal(self, header: bytes, sequence: int, iv: bytes, plain: bytes) -> bytes:
        sealed = self._encryptor.update(iv + plain)
        return sealed + self._code(header + sealed, sequence)

    def open(self, packet: bytes, start: int, end: int, sequence: int) -> bytes | None:
        end -= self._icv
        size = end - start - _CBC_CONTENT
        if size <= 0 or size % CBC_BLOCK:
            return None
        code = self._code(packet[start:end], sequence)
        if not hmac.compare_digest(code, packet[end : end + self._icv]):
            return None
        return self._decryptor.update(packet[start + _HEADER : end])[CBC_BLOCK:]
