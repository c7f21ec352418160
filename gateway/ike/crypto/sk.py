"""The protection of the Encrypted payload, SK or SKF (RFC 7296 section 3.14, RFC 5282, RFC 7634).

A sealed message is ``prefix | IV | ciphertext | ICV``. The prefix runs from the first octet of
the IKE header to the last octet before the IV (for SKF with the fragment numbers, RFC 7383) and
already carries the final lengths.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from gateway.ike.crypto.transforms import (
    AEAD,
    CIPHERS,
    MACS,
    encryption_key_octets,
    integrity_key_octets,
)
from gateway.ike.registry import EncrId

MAX_SEALED = 2**63
"""Messages under one AEAD key: the IV is a counter and never comes again."""

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - only when named in a proposal
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


class IntegrityError(ValueError):
    """The message was not sealed with this key, or not correctly. Says nothing about the key."""


class SkCipher:
    """Seals or opens the messages of one direction; lives as long as the IKE SA.

    It keeps the key and expands it for each message: OpenSSL's context of a cipher has 2.5 kB,
    which thousands of idle SAs would hold, and making it takes 2 microseconds.

    ``encryption_key`` includes the salt (see :func:`encryption_key_octets`); ``integ`` is NONE and
    ``integrity_key`` empty with an AEAD. Raises :class:`ValueError` for keys of the wrong size.
    A cipher that seals must not be rebuilt from the same keys: AEAD IVs would come again, unless
    it goes on with a number of sealed messages that no other reached (see :meth:`go_on`).
    """

    __slots__ = (
        "_aead",
        "_algorithm",
        "_block",
        "_encryption_key",
        "_icv",
        "_iv",
        "_key",
        "_mac",
        "_salt",
        "_sealed",
    )

    def __init__(
        self,
        encr: int,
        key_bits: int | None,
        integ: int,
        encryption_key: bytes,
        integrity_key: bytes = b"",
    ) -> None:
        if len(encryption_key) != encryption_key_octets(encr, key_bits):
            raise ValueError(f"encryption key of {len(encryption_key)} octets has the wrong size")
        if len(integrity_key) != integrity_key_octets(integ):
            raise ValueError(f"integrity key of {len(integrity_key)} octets has the wrong size")
        sizes = CIPHERS[encr]
        self._block = sizes.block
        self._iv = sizes.iv
        self._sealed = 0
        self._aead: type[AESGCM | ChaCha20Poly1305] | None = None
        self._algorithm: CipherAlgorithm | None = None
        self._mac: hashes.HashAlgorithm | None = None
        self._salt = b""
        if encr in AEAD:
            if integrity_key:
                raise ValueError("an AEAD takes no integrity key")
            self._key, self._salt = encryption_key[: -sizes.salt], encryption_key[-sizes.salt :]
            self._aead = AESGCM if encr == EncrId.AES_GCM_16 else ChaCha20Poly1305
            self._icv = sizes.icv
            return
        if not integrity_key:
            raise ValueError("a cipher that is no AEAD needs an integrity key")
        self._algorithm = _block_cipher(encr, encryption_key)
        self._encryption_key = encryption_key
        mac = MACS[integ]
        self._icv = mac.icv
        self._key, self._mac = integrity_key, _HASHES[mac.hash]

    @property
    def keys(self) -> tuple[bytes, bytes]:
        """``encryption_key`` and ``integrity_key`` as they were given."""
        if self._aead is not None:
            return self._key + self._salt, b""
        return self._encryption_key, self._key

    @property
    def sealed(self) -> int:
        """How many messages it sealed."""
        return self._sealed

    def go_on(self, sealed: int) -> None:
        """Never use the IVs of the first ``sealed`` messages."""
        self._sealed = max(self._sealed, sealed)

    def overhead(self, plaintext_len: int) -> int:
        """Octets that sealing adds: IV, padding, pad length, ICV."""
        padding = -(plaintext_len + 1) % self._block
        return self._iv + padding + 1 + self._icv

    def seal(self, prefix: bytes, plaintext: bytes) -> bytes:
        """The whole message, under an IV that this cipher never used before.

        AEAD IVs count up. Those of CBC must be unpredictable too: they are the counter encrypted
        under the same key (NIST SP 800-38A appendix C, first method).
        Raises :class:`OverflowError` when the key is used up.
        """
        counter = self._sealed
        if counter >= MAX_SEALED:
            raise OverflowError("no IV is left under this key")
        self._sealed = counter + 1
        if self._aead is not None:
            iv = counter.to_bytes(8, "big")
            sealed = self._aead(self._key).encrypt(self._salt + iv, plaintext + b"\0", prefix)
            return prefix + iv + sealed
        padding = -(len(plaintext) + 1) % self._block
        padded = plaintext + bytes(padding) + bytes((padding,))
        algorithm = self._cbc_algorithm()
        iv = Cipher(algorithm, modes.ECB()).encryptor().update(counter.to_bytes(self._iv, "big"))  # noqa: S305 - one block
        encryptor = Cipher(algorithm, modes.CBC(iv)).encryptor()
        message = prefix + iv + encryptor.update(padded) + encryptor.finalize()
        return message + self._icv_of(message)

    def open(self, message: bytes, offset: int) -> bytes:
        """The plaintext without padding; ``offset`` is where the IV starts.

        Raises :class:`IntegrityError` for whatever the peer did not seal, short ones included.
        """
        body = offset + self._iv
        end = len(message) - self._icv
        if offset < 0 or end - body < max(self._block, 1):
            raise IntegrityError("too short for its IV and integrity check value")
        if self._aead is not None:
            nonce = self._salt + message[offset:body]
            try:
                padded = self._aead(self._key).decrypt(nonce, message[body:], message[:offset])
            except InvalidTag:
                raise IntegrityError("integrity check failed") from None
        else:
            if not constant_time.bytes_eq(self._icv_of(message[:end]), message[end:]):
                raise IntegrityError("integrity check failed")
            if (end - body) % self._block:
                raise IntegrityError("ciphertext is not a multiple of the block size")
            iv = message[offset:body]
            decryptor = Cipher(self._cbc_algorithm(), modes.CBC(iv)).decryptor()
            padded = decryptor.update(message[body:end]) + decryptor.finalize()
        kept = len(padded) - 1 - padded[-1]
        if kept < 0:
            raise IntegrityError("pad length exceeds the plaintext")
        return padded[:kept]

    def _cbc_algorithm(self) -> CipherAlgorithm:
        if self._algorithm is None:
            raise TypeError("an AEAD has no block cipher of its own")
        return self._algorithm

    def _icv_of(self, data: bytes) -> bytes:
        if self._mac is None:
            raise TypeError("an AEAD has no separate integrity transform")
        mac = hmac.HMAC(self._key, self._mac)
        mac.update(data)
        return mac.finalize()[: self._icv]


def _block_cipher(encr: int, key: bytes) -> CipherAlgorithm:
    if encr == EncrId.AES_CBC:
        return algorithms.AES(key)
    # Weak and only by name, so the library's attic is opened only then.
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES  # noqa: PLC0415

    return TripleDES(key)
