"""A RADIUS server for tests that answers packets as told; written apart from the client's codec."""

import hashlib
import hmac
import struct
from ipaddress import ip_address
from typing import Any

from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import Asker

SECRET = b"xyzzy5461"
ONE = Endpoint(ip_address("192.0.2.1"), 1812)
TWO = Endpoint(ip_address("192.0.2.2"), 1812)
ASKER = Asker(
    "road",
    Endpoint(ip_address("198.51.100.1"), 4500),
    Endpoint(ip_address("203.0.113.7"), 40000),
    "0123456789abcdef_fedcba9876543210",
)


def attribute(kind: Any, value: Any) -> Any:
    return bytes((kind, len(value) + 2)) + value


def attributes_of(packet: Any) -> Any:
    at, found = 20, []
    while at < len(packet):
        found.append((packet[at], packet[at + 2 : at + packet[at + 1]]))
        at += packet[at + 1]
    return found


def value_of(packet: Any, kind: Any) -> Any:
    return next(value for found, value in attributes_of(packet) if found == kind)


def answer(
    request: Any,
    code: Any,
    body: Any = b"",
    *,
    secret: Any = SECRET,
    proof: Any = True,
    identifier: Any = None,
) -> Any:
    identifier = request[1] if identifier is None else identifier
    if proof:
        body = attribute(80, bytes(16)) + body
    packet = struct.pack("!BBH", code, identifier, 20 + len(body)) + request[4:20] + body
    if proof:
        made = hmac.new(secret, packet, "md5").digest()
        packet = packet[:22] + made + packet[38:]
    digest = hashlib.md5(packet + secret).digest()
    return packet[:4] + digest + packet[20:]


def eap(code: Any, identifier: Any, data: Any = b"") -> Any:
    return struct.pack("!BBH", code, identifier, 4 + len(data)) + data


def eap_attributes(packet: Any) -> Any:
    return b"".join(attribute(79, packet[at : at + 253]) for at in range(0, len(packet), 253))


def mppe_keys(request: Any, recv: Any, send: Any, secret: Any = SECRET) -> Any:
    def hide(salt: Any, key: Any) -> Any:
        plain = bytes((len(key),)) + key
        plain += bytes(-len(plain) % 16)
        out, before = b"", request[4:20] + salt
        for at in range(0, len(plain), 16):
            mask = hashlib.md5(secret + before).digest()
            before = bytes(a ^ b for a, b in zip(plain[at : at + 16], mask, strict=True))
            out += before
        return salt + out

    def vendor(kind: Any, value: Any) -> Any:
        return attribute(26, struct.pack("!I", 311) + attribute(kind, value))

    return vendor(17, hide(b"\x80\x01", recv)) + vendor(16, hide(b"\x80\x02", send))


def password_of(request: Any, secret: Any = SECRET) -> Any:
    hidden, before, plain = value_of(request, 2), request[4:20], b""
    for at in range(0, len(hidden), 16):
        mask = hashlib.md5(secret + before).digest()
        before = hidden[at : at + 16]
        plain += bytes(a ^ b for a, b in zip(before, mask, strict=True))
    return plain.rstrip(b"\0")
