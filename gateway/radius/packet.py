"""RADIUS packets: octets and back, and what proves who sent them.

MD5 is what the protocol prescribes (RFC 2865, 3579); it is not ours to choose. The forgery of
answers that its Response Authenticator allows (CVE-2024-3596) is met as its finders say: our
requests begin with a Message-Authenticator, and no answer about a user counts without a right one.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.domain.wire import WireError
from gateway.radius.attributes import MICROSOFT, AttributeType, Code

HEADER = struct.Struct("!BBH16s")
MIN_OCTETS = 20
MAX_OCTETS = 4096
MAX_VALUE_OCTETS = 253
AUTHENTICATOR_OCTETS = 16
MAX_PASSWORD_OCTETS = 128

Attributes = tuple[tuple[int, bytes], ...]
"""Types with their values, in the order of the wire."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet whose form is right; nothing is proven yet."""

    code: int
    identifier: int
    authenticator: bytes = field(repr=False)
    attributes: Attributes = field(repr=False)

    def all(self, kind: int) -> Iterator[bytes]:
        """Every value of a type."""
        return (value for found, value in self.attributes if found == kind)

    def only(self, kind: int) -> bytes | None:
        """The value of a type that may be there once; raises :class:`WireError` for two."""
        values = list(self.all(kind))
        if len(values) > 1:
            raise WireError(f"{len(values)} attributes of type {kind}, one is allowed")
        return values[0] if values else None

    def number(self, kind: int) -> int | None:
        """The value of an attribute with four octets; raises :class:`WireError`."""
        value = self.only(kind)
        if value is not None and len(value) != 4:
            raise WireError(f"attribute {kind} has {len(value)} octets, not 4")
        return None if value is None else int.from_bytes(value)


def parse(data: bytes) -> Packet:
    """Read a datagram; octets beyond its Length field are padding (RFC 2865 section 3).

    Raises:
        WireError: a length field is below its minimum or beyond the end.
    """
    if len(data) < MIN_OCTETS:
        raise WireError(f"{len(data)} octets are no packet")
    code, identifier, length, authenticator = HEADER.unpack_from(data)
    if not MIN_OCTETS <= length <= MAX_OCTETS or length > len(data):
        raise WireError(f"length field {length} in {len(data)} octets")
    attributes = tuple(_attributes(data, length))
    return Packet(code, identifier, authenticator, attributes)


def _attributes(data: bytes, end: int) -> Iterator[tuple[int, bytes]]:
    at = MIN_OCTETS
    while at < end:
        if end - at < 2:
            raise WireError("an attribute is cut off")
        kind, length = data[at], data[at + 1]
        if length < 2:
            raise WireError(f"attribute {kind} has length {length}, at least 2 is needed")
        if length > end - at:
            raise WireError(f"attribute {kind} of length {length} with {end - at} octets left")
        yield kind, data[at + 2 : at + length]
        at += length


def encode(attributes: Iterable[tuple[int, bytes]]) -> bytes:
    """The attributes' octets. Raises ValueError for a value that is empty or too long."""
    out = bytearray()
    for kind, value in attributes:
        if not 0 < len(value) <= MAX_VALUE_OCTETS:
            raise ValueError(f"attribute {kind} with {len(value)} octets")
        out += bytes((kind, len(value) + 2))
        out += value
    return bytes(out)


def vendor_values(packet: Packet, vendor: int, kind: int) -> list[bytes]:
    """Values of a vendor's attribute (RFC 2865 section 5.26); raises :class:`WireError`.

    Only Microsoft's are told apart: other vendors may use another format inside.
    """
    found = []
    for value in packet.all(AttributeType.VENDOR_SPECIFIC):
        if len(value) < 4:
            raise WireError("a vendor attribute without its vendor")
        if int.from_bytes(value[:4]) == vendor == MICROSOFT:
            found += [inner for sub, inner in _sub_attributes(value) if sub == kind]
    return found


def _sub_attributes(value: bytes) -> Iterator[tuple[int, bytes]]:
    at = 4
    while at < len(value):
        if len(value) - at < 2 or not 2 <= value[at + 1] <= len(value) - at:
            raise WireError("a vendor's attribute breaks its length")
        yield value[at], value[at + 2 : at + value[at + 1]]
        at += value[at + 1]


# -- requests --------------------------------------------------------------------------------


def access_request(
    identifier: int, authenticator: bytes, attributes: Attributes, secret: bytes
) -> bytes:
    """An Access-Request that begins with its Message-Authenticator.

    ``authenticator`` is 16 random octets. Raises ValueError when it is longer than 4096 octets.
    """
    blank = (AttributeType.MESSAGE_AUTHENTICATOR, bytes(AUTHENTICATOR_OCTETS))
    packet = bytearray(_request(Code.ACCESS_REQUEST, identifier, authenticator, blank, *attributes))
    at = MIN_OCTETS + 2
    packet[at : at + AUTHENTICATOR_OCTETS] = hmac.digest(secret, packet, "md5")
    return bytes(packet)


def accounting_request(identifier: int, attributes: Attributes, secret: bytes) -> bytes:
    """An Accounting-Request with its authenticator (RFC 2866 section 3)."""
    blank = bytes(AUTHENTICATOR_OCTETS)
    packet = _request(Code.ACCOUNTING_REQUEST, identifier, blank, *attributes)
    proof = _md5(packet, secret)
    return packet[:4] + proof + packet[MIN_OCTETS:]


def _request(code: int, identifier: int, proof: bytes, *attributes: tuple[int, bytes]) -> bytes:
    body = encode(attributes)
    length = MIN_OCTETS + len(body)
    if length > MAX_OCTETS:
        raise ValueError(f"a request of {length} octets; {MAX_OCTETS} are allowed")
    return HEADER.pack(code, identifier, length, proof) + body


def hide_password(password: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """The User-Password (RFC 2865 section 5.2), at most 128 octets of password."""
    if len(password) > MAX_PASSWORD_OCTETS:
        raise ValueError(f"a password of {len(password)} octets")
    padded = password.ljust(max(16, -(-len(password) // 16) * 16), b"\0")
    hidden, before = b"", authenticator
    for at in range(0, len(padded), 16):
        before = _xor(padded[at : at + 16], _md5(secret, before))
        hidden += before
    return hidden


# -- answers ---------------------------------------------------------------------------------


def check_answer(data: bytes, packet: Packet, authenticator: bytes, secret: bytes) -> None:
    """Prove that a server with our secret made this answer to our request.

    ``data`` is the datagram that ``packet`` was parsed from, ``authenticator`` the request's. An
    answer about a user needs a Message-Authenticator too; on accounting it is checked when there.

    Raises:
        WireError: it is forged, damaged, of another request, or lacks the Message-Authenticator.
    """
    length = HEADER.unpack_from(data)[2]
    data = data[:length]
    proven = data[:4] + authenticator + data[MIN_OCTETS:]
    if not hmac.compare_digest(_md5(proven, secret), packet.authenticator):
        raise WireError("wrong Response Authenticator; do both sides have the same secret?")
    value = packet.only(AttributeType.MESSAGE_AUTHENTICATOR)
    if value is None:
        if packet.code == Code.ACCOUNTING_RESPONSE:
            return
        raise WireError("no Message-Authenticator; let the server send it in every answer")
    if len(value) != AUTHENTICATOR_OCTETS:
        raise WireError("a Message-Authenticator of another length than 16")
    at = _place(packet, AttributeType.MESSAGE_AUTHENTICATOR)
    blanked = proven[:at] + bytes(AUTHENTICATOR_OCTETS) + proven[at + AUTHENTICATOR_OCTETS :]
    if not hmac.compare_digest(hmac.digest(secret, blanked, "md5"), value):
        raise WireError("wrong Message-Authenticator")


def _place(packet: Packet, kind: int) -> int:
    """Where the value of the first attribute of a type begins."""
    at = MIN_OCTETS + 2
    for found, value in packet.attributes:
        if found == kind:
            break
        at += len(value) + 2
    return at


def _md5(*parts: bytes) -> bytes:
    return hashlib.md5(b"".join(parts), usedforsecurity=False).digest()


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))
