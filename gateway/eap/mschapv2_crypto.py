"""The computations of MSCHAPv2 (RFC 2759 section 8) and of its keys (RFC 3079 section 3).

DES and MD4 are what the protocol is made of; its strength is that of the tunnel it runs in.
"""

import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from gateway.eap.md4 import md4

CHALLENGE_OCTETS = 16
NT_HASH_OCTETS = 16
NT_RESPONSE_OCTETS = 24

_SIGNING = b"Magic server to client signing constant"
_ITERATION = b"Pad to make it do more than one iteration"
_MASTER_KEY = b"This is the MPPE Master Key"
_CLIENT_SENDS = (
    b"On the client side, this is the send key; on the server side, it is the receive key."
)
_SERVER_SENDS = (
    b"On the client side, this is the receive key; on the server side, it is the send key."
)
_PAD_1 = bytes(40)
_PAD_2 = b"\xf2" * 40


@dataclass(frozen=True, slots=True)
class Proof:
    """What follows from a password hash, both challenges and the user's name."""

    nt_response: bytes = field(repr=False)
    """24 octets: proves the peer."""
    authenticator_response: bytes = field(repr=False)
    """20 octets: proves the server."""
    msk: bytes = field(repr=False)
    """64 octets."""


def nt_password_hash(password: str) -> bytes:
    """NtPasswordHash: MD4 of the password in UTF-16LE. 16 octets."""
    return md4(password.encode("utf-16-le"))


def prove(nt_hash: bytes, authenticator: bytes, peer: bytes, name: bytes) -> Proof:
    """All that a login needs, once.

    ``authenticator`` and ``peer`` are the challenges, 16 octets each; ``name`` is the user name as
    it was sent, whose domain is left out here.
    """
    challenge = challenge_hash(peer, authenticator, name)
    hash_hash = md4(nt_hash)
    nt_response = challenge_response(challenge, nt_hash)
    signed = hashlib.sha1(hash_hash + nt_response + _SIGNING, usedforsecurity=False).digest()
    answer = hashlib.sha1(signed + challenge + _ITERATION, usedforsecurity=False).digest()
    return Proof(nt_response, answer, master_session_key(hash_hash, nt_response))


def without_domain(name: bytes) -> bytes:
    r"""``DOMAIN\user`` is ``user`` (RFC 2759 section 4)."""
    _, backslash, user = name.partition(b"\\")
    return user if backslash else name


def challenge_hash(peer: bytes, authenticator: bytes, name: bytes) -> bytes:
    """ChallengeHash: 8 octets."""
    hashed = hashlib.sha1(peer + authenticator + without_domain(name), usedforsecurity=False)
    return hashed.digest()[:8]


def challenge_response(challenge: bytes, nt_hash: bytes) -> bytes:
    """ChallengeResponse: 24 octets, the challenge under three DES keys cut from the hash."""
    keys = nt_hash.ljust(21, b"\0")
    return b"".join(_des(keys[at : at + 7], challenge) for at in (0, 7, 14))


def _des(key: bytes, block: bytes) -> bytes:
    bits = int.from_bytes(key)
    # Each octet of a DES key is seven bits of key and one of parity, which nobody checks.
    octets = bytes((bits >> shift & 0x7F) << 1 for shift in range(49, -1, -7))
    # Three equal keys make EDE one DES; DES alone is offered by no library.
    encryptor = Cipher(TripleDES(octets * 3), modes.ECB()).encryptor()  # noqa: S305 RFC 2759
    return encryptor.update(block)


def master_key(hash_hash: bytes, nt_response: bytes) -> bytes:
    """GetMasterKey (RFC 3079 section 3.4): 16 octets."""
    hashed = hashlib.sha1(hash_hash + nt_response + _MASTER_KEY, usedforsecurity=False)
    return hashed.digest()[:16]


def client_send_key(master: bytes) -> bytes:
    """What the client sends with and the server receives with, 128 bits."""
    return _start_key(master, _CLIENT_SENDS)


def server_send_key(master: bytes) -> bytes:
    """What the server sends with and the client receives with, 128 bits."""
    return _start_key(master, _SERVER_SENDS)


def _start_key(master: bytes, magic: bytes) -> bytes:
    hashed = hashlib.sha1(master + _PAD_1 + magic + _PAD_2, usedforsecurity=False)
    return hashed.digest()[:16]


def master_session_key(hash_hash: bytes, nt_response: bytes) -> bytes:
    """The MSK of EAP-MSCHAPv2: the server's receive key, its send key, zeros. 64 octets."""
    master = master_key(hash_hash, nt_response)
    return client_send_key(master) + server_send_key(master) + bytes(32)
