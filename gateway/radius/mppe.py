"""The keys of an EAP method on their way from the server: MS-MPPE-Send/Recv-Key (RFC 2548)."""

import hashlib

from gateway.domain.wire import WireError
from gateway.radius.attributes import MICROSOFT, MS_MPPE_RECV_KEY, MS_MPPE_SEND_KEY
from gateway.radius.packet import Packet, vendor_values

MSK_OCTETS = 64


def open_key(value: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """Decrypt the String of an MS-MPPE key (RFC 2548 sections 2.4.2 and 2.4.3).

    ``value`` begins with the salt; ``authenticator`` is the request's.

    Raises:
        WireError: it is no such value.
    """
    salt, sealed = value[:2], value[2:]
    if len(salt) < 2 or not sealed or len(sealed) % 16:
        raise WireError(f"an MS-MPPE key of {len(value)} octets")
    if not salt[0] & 0x80:
        raise WireError("an MS-MPPE key whose salt lacks its first bit")
    plain, before = b"", authenticator + salt
    for at in range(0, len(sealed), 16):
        block = sealed[at : at + 16]
        mask = hashlib.md5(secret + before, usedforsecurity=False).digest()
        plain += (int.from_bytes(block) ^ int.from_bytes(mask)).to_bytes(16)
        before = block
    size = plain[0]
    if not 0 < size <= len(plain) - 1:
        raise WireError("an MS-MPPE key with a wrong length inside")
    return plain[1 : 1 + size]


def msk(packet: Packet, authenticator: bytes, secret: bytes) -> bytes:
    """The EAP method's key, 64 octets: Recv-Key, Send-Key, and zeros where they are short.

    Empty when the server sent neither key (RFC 3579 section 2.6 leaves that to the method).

    Raises:
        WireError: one of the two is missing, doubled, damaged, or they are too long.
    """
    keys = []
    for kind in (MS_MPPE_RECV_KEY, MS_MPPE_SEND_KEY):
        values = vendor_values(packet, MICROSOFT, kind)
        if len(values) > 1:
            raise WireError("an MS-MPPE key twice")
        keys += [open_key(value, authenticator, secret) for value in values]
    if not keys:
        return b""
    if len(keys) != 2:
        raise WireError("only one of the two MS-MPPE keys")
    joined = b"".join(keys)
    if not 32 <= len(joined) <= MSK_OCTETS:
        raise WireError(f"MS-MPPE keys of {len(joined)} octets together")
    return joined.ljust(MSK_OCTETS, b"\0")
