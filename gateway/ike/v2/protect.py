"""Sealing and opening of the Encrypted and Encrypted Fragment payloads (RFC 7296, RFC 7383)."""

from collections.abc import Sequence
from hashlib import sha256

from gateway.domain.wire import WireError
from gateway.ike.codec import (
    Message,
    Payload,
    encrypted_prefix,
    parse_payloads,
    serialize_payloads,
)
from gateway.ike.registry import Flag
from gateway.ike.v2.sa import IkeSa

SK_HEADER_OCTETS = 28 + 4
SKF_HEADER_OCTETS = SK_HEADER_OCTETS + 4
IP_UDP_OCTETS = {4: 20 + 8 + 4, 6: 40 + 8 + 4}
"""Outer headers that count against the fragment size, with the non-ESP marker."""
OVERHEAD_RESERVE = 64
"""No cipher adds more than this to a fragment: IV 16, padding 16, ICV 32."""


class Reassembly:
    """The fragments of one message; every one was authenticated before it came here."""

    __slots__ = ("digest", "first_payload", "message_id", "octets", "parts", "total")

    def __init__(self, message_id: int, total: int) -> None:
        self.message_id = message_id
        self.total = total
        self.parts: dict[int, bytes] = {}
        self.octets = 0
        self.first_payload = 0
        self.digest = b""


class Opened:
    """A decrypted message: its payloads and the digest that tells a repetition."""

    __slots__ = ("digest", "first", "plaintext")

    def __init__(self, first: int, plaintext: bytes, digest: bytes) -> None:
        self.first = first
        self.plaintext = plaintext
        self.digest = digest

    def payloads(self) -> tuple[Payload, ...]:
        """Parse what is inside; raises WireError."""
        return parse_payloads(self.first, self.plaintext)


def seal(
    sa: IkeSa,
    exchange_type: int,
    message_id: int,
    payloads: Sequence[Payload],
    *,
    response: bool,
    fragment_size: int,
) -> tuple[bytes, ...]:
    """Encrypt a message; more than one datagram when it is too large and the peer can fragments.

    ``fragment_size`` is the largest IP packet in octets.
    """
    cipher = sa.cipher_out
    if cipher is None:
        raise ValueError("no keys yet")
    flags = (Flag.INITIATOR if sa.initiator else 0) | (Flag.RESPONSE if response else 0)
    first, body = serialize_payloads(payloads)
    room = fragment_size - IP_UDP_OCTETS[sa.path.remote.address.version]
    if not sa.fragmentation or SK_HEADER_OCTETS + len(body) + cipher.overhead(len(body)) <= room:
        pieces: list[tuple[bytes, tuple[int, int] | None]] = [(body, None)]
    else:
        step = max(room - SKF_HEADER_OCTETS - OVERHEAD_RESERVE, 64)
        chunks = [body[at : at + step] for at in range(0, len(body), step)]
        pieces = [(chunk, (n, len(chunks))) for n, chunk in enumerate(chunks, 1)]
    messages = []
    for piece, fragment in pieces:
        prefix = encrypted_prefix(
            sa.initiator_spi,
            sa.responder_spi,
            exchange=exchange_type,
            flags=flags,
            message_id=message_id,
            first_payload=first,
            sealed_octets=len(piece) + cipher.overhead(len(piece)),
            fragment=fragment,
        )
        messages.append(cipher.seal(prefix, piece))
    return tuple(messages)


def plain_octets(
    sa: IkeSa,
    exchange_type: int,
    message_id: int,
    first: int,
    body: bytes,
    *,
    of_initiator: bool,
    response: bool,
) -> bytes:
    """A message as if it were neither encrypted nor in fragments (RFC 9242 section 3.3.2).

    The header and the generic header of the Encrypted payload, whose lengths count only
    ``body``, the payloads inside.
    """
    prefix = encrypted_prefix(
        sa.initiator_spi,
        sa.responder_spi,
        exchange=exchange_type,
        flags=(Flag.INITIATOR if of_initiator else 0) | (Flag.RESPONSE if response else 0),
        message_id=message_id,
        first_payload=first,
        sealed_octets=len(body),
    )
    return prefix + body


def open_message(
    sa: IkeSa, octets: bytes, message: Message, *, max_fragments: int, max_octets: int
) -> Opened | None:
    """Authenticate and decrypt a message; None while fragments are missing.

    Raises:
        IntegrityError: the ICV is wrong; the caller forgets the datagram.
        WireError: authentic, but not what the format allows.
    """
    part = message.encrypted
    if part is None or sa.cipher_in is None:
        raise WireError("message is not encrypted")
    if message.payloads:
        raise WireError("payloads outside of the encrypted part")
    plaintext = sa.cipher_in.open(octets, part.offset)
    if part.fragment is None:
        _forget(sa, message)
        return Opened(part.first_payload, plaintext, sha256(octets).digest())
    number, total = part.fragment
    if not sa.fragmentation:
        raise WireError("fragment, but fragmentation was not negotiated")
    if not 1 <= number <= total <= max_fragments:
        raise WireError(f"fragment {number} of {total}, at most {max_fragments} are allowed")
    return _collect(sa, octets, message, plaintext, max_octets)


def _forget(sa: IkeSa, message: Message) -> None:
    if sa.reassembly is not None:
        sa.reassembly.pop(message.header.is_response, None)
        if not sa.reassembly:
            sa.reassembly = None


def _collect(
    sa: IkeSa, octets: bytes, message: Message, plaintext: bytes, max_octets: int
) -> Opened | None:
    header = message.header
    part = message.encrypted
    if part is None or part.fragment is None:
        raise WireError("not a fragment")
    number, total = part.fragment
    if sa.reassembly is None:
        sa.reassembly = {}
    have = sa.reassembly.get(header.is_response)
    # A larger total means that the sender made smaller fragments and starts again
    # (RFC 7383 section 2.6.1); a smaller one is a late fragment of the former set.
    if have is None or have.message_id != header.message_id or total > have.total:
        have = sa.reassembly[header.is_response] = Reassembly(header.message_id, total)
    if total < have.total or number in have.parts:
        return None
    if have.octets + len(plaintext) > max_octets:
        _forget(sa, message)
        raise WireError(f"fragments of more than {max_octets} octets together")
    have.parts[number] = plaintext
    have.octets += len(plaintext)
    if number == 1:
        have.first_payload = part.first_payload
        have.digest = sha256(octets).digest()
    if len(have.parts) < total:
        return None
    _forget(sa, message)
    whole = b"".join(have.parts[n] for n in range(1, total + 1))
    return Opened(have.first_payload, whole, have.digest)
