"""Encryption of IKEv1 messages and the HASH payloads of phase 2 (RFC 2409 section 5, appendix B).

Encryption authenticates nothing: whoever calls :func:`decrypt` must verify a HASH payload or a
signature before acting on what is inside.
"""

import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm, algorithms, modes

from gateway.domain.wire import WireError
from gateway.ike.core import Core
from gateway.ike.crypto.prf import Prf
from gateway.ike.crypto.sk import IntegrityError
from gateway.ike.crypto.transforms import CIPHERS
from gateway.ike.registry import EncrId
from gateway.ike.v1 import fragments, keys
from gateway.ike.v1.codec import (
    HEADER_OCTETS,
    ExchangeType,
    Flag,
    Hash,
    Payload,
    parse_payloads,
    serialize_header,
    serialize_payloads,
)
from gateway.ike.v1.sa import IkeSa

if TYPE_CHECKING:
    from gateway.ike.v1.exchange import Phase2Exchange

_GENERIC_OCTETS = 4


@dataclass(frozen=True, slots=True)
class Opened:
    """What was inside of an encrypted message. Nobody vouches for it yet."""

    payloads: tuple[Payload, ...]
    octets: bytes
    """All payloads as they came, without the padding."""
    next_iv: bytes


def _algorithm(sa: IkeSa) -> CipherAlgorithm:
    if sa.suite is None or not sa.cipher_key:
        raise ValueError("no keys yet")
    if sa.suite.encr == EncrId.AES_CBC:
        return algorithms.AES(sa.cipher_key)
    # Weak and only by name, so the library's attic is opened only then.
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES  # noqa: PLC0415

    return TripleDES(sa.cipher_key)


def block_octets(sa: IkeSa) -> int:
    """The block size of the SA's cipher."""
    if sa.suite is None:
        raise ValueError("no suite yet")
    return CIPHERS[sa.suite.encr].block


def encrypt(sa: IkeSa, iv: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
    """The ciphertext, padded with zeros, and the initialization vector that follows it."""
    block = block_octets(sa)
    encryptor = Cipher(_algorithm(sa), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(plaintext + bytes(-len(plaintext) % block)) + encryptor.finalize()
    return sealed, sealed[-block:]


def decrypt(sa: IkeSa, iv: bytes, sealed: bytes) -> tuple[bytes, bytes]:
    """The plaintext with its padding, and the initialization vector that follows.

    Raises IntegrityError for what is not a whole number of blocks.
    """
    block = block_octets(sa)
    if not sealed or len(sealed) % block:
        raise IntegrityError("ciphertext is not a multiple of the block size")
    decryptor = Cipher(_algorithm(sa), modes.CBC(iv)).decryptor()
    return decryptor.update(sealed) + decryptor.finalize(), sealed[-block:]


def first_iv(sa: IkeSa, message_id: int) -> bytes:
    """The initialization vector that an exchange after phase 1 begins with."""
    if sa.suite is None:
        raise ValueError("no suite yet")
    return keys.phase2_iv(Prf.of(sa.suite.prf), sa.iv, message_id, sa.suite.encr)


def message(
    sa: IkeSa,
    exchange_type: int,
    message_id: int,
    payloads: Sequence[Payload],
    *,
    iv: bytes | None = None,
) -> tuple[bytes, bytes]:
    """A whole message, encrypted if there is an ``iv``; and the next initialization vector."""
    first, body = serialize_payloads(payloads)
    return _message(sa, exchange_type, message_id, first, body, iv)


def _message(  # noqa: PLR0917 - one fact each
    sa: IkeSa, exchange_type: int, message_id: int, first: int, body: bytes, iv: bytes | None
) -> tuple[bytes, bytes]:
    next_iv = b""
    flags = 0
    if iv is not None:
        body, next_iv = encrypt(sa, iv, body)
        flags = int(Flag.ENCRYPTION)
    length = HEADER_OCTETS + len(body)
    head = serialize_header(
        sa.initiator_spi, sa.responder_spi, first, exchange_type, flags, message_id, length
    )
    return head + body, next_iv


def datagrams(core: Core, sa: IkeSa, whole: bytes) -> tuple[bytes, ...]:
    """The datagrams of a message: fragments where it is too large and the peer knows them."""
    if not sa.fragmentation:
        return (whole,)
    version = sa.path.remote.address.version
    return fragments.split(whole, core.settings.fragment_size, version, 1)


def phase2_hash(
    sa: IkeSa, message_id: int, body: bytes, *, lead: bytes = b"", prefix: bytes = b""
) -> bytes:
    """prf(SKEYID_a, lead | M-ID | prefix | body)."""
    if sa.suite is None or sa.keys is None:
        raise ValueError("no keys yet")
    material = lead + struct.pack("!I", message_id) + prefix + body
    return Prf.of(sa.suite.prf).digest(sa.keys.a, material)


def seal(
    core: Core,
    sa: IkeSa,
    exchange: "Phase2Exchange",
    payloads: Sequence[Payload],
    *,
    hash_lead: bytes = b"",
    hash_prefix: bytes = b"",
    exchange_type: ExchangeType | None = None,
) -> tuple[bytes, ...]:
    """The datagrams of the exchange's next message, HASH in front; moves its IV on."""
    first, body = serialize_payloads(payloads)
    made = phase2_hash(sa, exchange.message_id, body, lead=hash_lead, prefix=hash_prefix)
    body = struct.pack("!BBH", first, 0, _GENERIC_OCTETS + len(made)) + made + body
    kind = exchange.exchange_type if exchange_type is None else exchange_type
    whole, exchange.iv = _message(sa, kind, exchange.message_id, int(Hash.TYPE), body, exchange.iv)
    return datagrams(core, sa, whole)


def open_message(sa: IkeSa, data: bytes, first_payload: int, iv: bytes) -> Opened:
    """Decrypt a message and split it into payloads.

    Raises IntegrityError where what comes out is no chain of payloads: then the key, or the
    message, is not the right one.
    """
    plaintext, next_iv = decrypt(sa, iv, data[HEADER_OCTETS:])
    try:
        payloads, end = parse_payloads(first_payload, plaintext)
    except WireError as error:
        raise IntegrityError(f"what was decrypted is no message: {error}") from None
    return Opened(payloads, plaintext[:end], next_iv)


def verify_hash(
    sa: IkeSa, message_id: int, opened: Opened, *, lead: bytes = b"", prefix: bytes = b""
) -> tuple[Payload, ...]:
    """The payloads after the HASH payload, which must be the first one and right.

    Raises IntegrityError.
    """
    payloads = opened.payloads
    first = payloads[0] if payloads else None
    if not isinstance(first, Hash):
        raise IntegrityError("no HASH payload in front")
    body = opened.octets[_GENERIC_OCTETS + len(first.data) :]
    made = phase2_hash(sa, message_id, body, lead=lead, prefix=prefix)
    if not hmac.compare_digest(made, first.data):
        raise IntegrityError("the HASH payload is wrong")
    return payloads[1:]
