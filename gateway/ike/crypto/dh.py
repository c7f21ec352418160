"""Key exchange methods.

MODP (RFC 2409, 3526), ECP (RFC 5903), X25519 (RFC 8031), ML-KEM (FIPS 203).
"""

import warnings
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.utils import CryptographyDeprecationWarning

from gateway.ike.crypto.modp import PRIMES
from gateway.ike.registry import DhGroup

with warnings.catch_warnings():
    # MODP groups are on their way out of the library, yet many clients know nothing better.
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.primitives.asymmetric.dh import (
        DHParameterNumbers,
        DHParameters,
        DHPrivateNumbers,
        DHPublicNumbers,
    )

Random = Callable[[int], bytes]


class InvalidKeyExchange(ValueError):  # noqa: N818 - named for what it is
    """The peer's public value is not one of the group. Its text says why."""


class DhKeyPair(Protocol):
    """One side's ephemeral key."""

    @property
    def group(self) -> DhGroup:
        """The key exchange method."""

    @property
    def public(self) -> bytes:
        """What goes into the KE payload."""

    @property
    def private(self) -> bytes:
        """The private key, for :func:`resume` only: it must not leave a sealed record."""

    def shared_secret(self, peer_public: bytes) -> bytes:
        """The shared secret, in the group's length. Raises :class:`InvalidKeyExchange`."""


def _require_length(group: DhGroup, data: bytes, size: int) -> None:
    if len(data) != size:
        name = group.name.lower()
        raise InvalidKeyExchange(f"public value of {name} has {len(data)} octets, not {size}")


class _ModpKeyPair:
    __slots__ = ("_private", "group", "public")

    def __init__(self, group: DhGroup, private: bytes | None = None) -> None:
        self.group = group
        if private is None:
            self._private = _PARAMETERS[group].generate_private_key()
        else:
            number, prime = int.from_bytes(private, "big"), PRIMES[group]
            if not 2 <= number <= prime - 2:
                raise ValueError(f"private key of {group.name.lower()} is out of range")
            public_numbers = DHPublicNumbers(pow(2, number, prime), _NUMBERS[group])
            self._private = DHPrivateNumbers(number, public_numbers).private_key()
        public = self._private.public_key().public_numbers().y
        self.public = public.to_bytes(PUBLIC_OCTETS[group], "big")

    @property
    def private(self) -> bytes:
        number = self._private.private_numbers().x
        return number.to_bytes(PUBLIC_OCTETS[self.group], "big")

    def shared_secret(self, peer_public: bytes) -> bytes:
        size = PUBLIC_OCTETS[self.group]
        _require_length(self.group, peer_public, size)
        value = int.from_bytes(peer_public, "big")
        # 1 and p-1 would confine the secret to two values (RFC 6989 section 2.1).
        if not 2 <= value <= PRIMES[self.group] - 2:
            raise InvalidKeyExchange(f"public value of {self.group.name.lower()} is out of range")
        try:
            peer = DHPublicNumbers(value, _NUMBERS[self.group]).public_key()
            secret = self._private.exchange(peer)
        except ValueError as error:
            raise InvalidKeyExchange(str(error)) from None
        return secret.rjust(size, b"\0")


class _EcpKeyPair:
    __slots__ = ("_private", "group", "public")

    def __init__(self, group: DhGroup, private: bytes | None = None) -> None:
        self.group = group
        curve = _CURVES[group]
        if private is None:
            self._private = ec.generate_private_key(curve)
        else:
            self._private = ec.derive_private_key(int.from_bytes(private, "big"), curve)
        numbers = self._private.public_key().public_numbers()
        half = PUBLIC_OCTETS[group] // 2
        self.public = numbers.x.to_bytes(half, "big") + numbers.y.to_bytes(half, "big")

    @property
    def private(self) -> bytes:
        number = self._private.private_numbers().private_value
        return number.to_bytes(PUBLIC_OCTETS[self.group] // 2, "big")

    def shared_secret(self, peer_public: bytes) -> bytes:
        _require_length(self.group, peer_public, PUBLIC_OCTETS[self.group])
        try:
            # 4 says "uncompressed point"; the library refuses points off the curve.
            point = b"\x04" + peer_public
            peer = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[self.group], point)
            return self._private.exchange(ec.ECDH(), peer)
        except (ValueError, UnsupportedAlgorithm):
            name = self.group.name.lower()
            raise InvalidKeyExchange(f"public value is not a point of {name}") from None


class _X25519KeyPair:
    __slots__ = ("_private", "group", "public")

    def __init__(self, random: Random | None) -> None:
        self.group = DhGroup.X25519
        if random is None:
            self._private = x25519.X25519PrivateKey.generate()
        else:
            self._private = x25519.X25519PrivateKey.from_private_bytes(random(32))
        self.public = self._private.public_key().public_bytes_raw()

    @property
    def private(self) -> bytes:
        return self._private.private_bytes_raw()

    def shared_secret(self, peer_public: bytes) -> bytes:
        _require_length(self.group, peer_public, 32)
        try:
            peer = x25519.X25519PublicKey.from_public_bytes(peer_public)
            return self._private.exchange(peer)
        except ValueError:
            # The library refuses the all-zero secret of points of small order (RFC 8031 s. 3.2).
            raise InvalidKeyExchange("public value of x25519 gives the all-zero secret") from None


class _MlKemKeyPair:
    """The initiator's side of a key encapsulation: the "public value" answered is a ciphertext."""

    __slots__ = ("_private", "group", "public")

    def __init__(self, group: DhGroup, private: bytes | None = None) -> None:
        self.group = group
        kem = _KEMS[group][0]
        self._private = kem.generate() if private is None else kem.from_seed_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    @property
    def private(self) -> bytes:
        return self._private.private_bytes_raw()

    def shared_secret(self, peer_public: bytes) -> bytes:
        _require_length(self.group, peer_public, CIPHERTEXT_OCTETS[self.group])
        try:
            return self._private.decapsulate(peer_public)
        except ValueError as error:
            raise InvalidKeyExchange(str(error)) from None


_KEMS: dict[
    int,
    tuple[
        type[mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey],
        type[mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey],
    ],
] = {
    DhGroup.ML_KEM_768: (mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey),
    DhGroup.ML_KEM_1024: (mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey),
}
CIPHERTEXT_OCTETS: dict[int, int] = {DhGroup.ML_KEM_768: 1088, DhGroup.ML_KEM_1024: 1568}
"""Octets of a responder's Key Exchange Data where it is a ciphertext (FIPS 203)."""

_CURVES: dict[int, ec.EllipticCurve] = {
    DhGroup.ECP_256: ec.SECP256R1(),
    DhGroup.ECP_384: ec.SECP384R1(),
    DhGroup.ECP_521: ec.SECP521R1(),
}
_NUMBERS = {group: DHParameterNumbers(prime, 2) for group, prime in PRIMES.items()}


class _Parameters(dict[int, DHParameters]):
    """Made on first use: most gateways never see a MODP group."""

    def __missing__(self, group: int) -> DHParameters:
        self[group] = _NUMBERS[DhGroup(group)].parameters()
        return self[group]


_PARAMETERS = _Parameters()

PUBLIC_OCTETS: dict[int, int] = {
    **{int(group): prime.bit_length() // 8 for group, prime in PRIMES.items()},
    DhGroup.ECP_256: 64,
    DhGroup.ECP_384: 96,
    DhGroup.ECP_521: 132,
    DhGroup.X25519: 32,
    DhGroup.ML_KEM_768: 1184,
    DhGroup.ML_KEM_1024: 1568,
}
"""Octets of an initiator's Key Exchange Data, for every supported group."""


def generate(group: int, random: Random | None = None) -> DhKeyPair:
    """A fresh ephemeral key pair.

    ``random`` replaces the library's own generator for X25519 only (a deterministic run); the
    other groups draw their keys inside the library. Raises :class:`ValueError` for a group that
    is not supported, NONE included.
    """
    if group == DhGroup.X25519:
        return _X25519KeyPair(random)
    if group in _CURVES:
        return _EcpKeyPair(DhGroup(group))
    if group in PRIMES:
        return _ModpKeyPair(DhGroup(group))
    if group in _KEMS:
        return _MlKemKeyPair(DhGroup(group))
    raise ValueError(f"key exchange method {group} is not supported")


def resume(group: int, private: bytes) -> DhKeyPair:
    """The key pair whose :attr:`DhKeyPair.private` this is.

    Raises :class:`ValueError` for a group that is not supported, or no private key of it.
    """
    if group == DhGroup.X25519:
        if len(private) != 32:
            raise ValueError("a private key of x25519 has 32 octets")
        return _X25519KeyPair(lambda _size: private)
    if group in _CURVES:
        return _EcpKeyPair(DhGroup(group), private)
    if group in PRIMES:
        return _ModpKeyPair(DhGroup(group), private)
    if group in _KEMS:
        return _MlKemKeyPair(DhGroup(group), private)
    raise ValueError(f"key exchange method {group} is not supported")


def respond(group: int, peer_public: bytes, random: Random | None = None) -> tuple[bytes, bytes]:
    """(what goes into our KE payload, shared secret) for the initiator's public value.

    Raises :class:`InvalidKeyExchange`, or :class:`ValueError` for a group that is not supported.
    """
    if group not in _KEMS:
        pair = generate(group, random)
        return pair.public, pair.shared_secret(peer_public)
    kem = DhGroup(group)
    _require_length(kem, peer_public, PUBLIC_OCTETS[kem])
    try:
        secret, ciphertext = _KEMS[kem][1].from_public_bytes(peer_public).encapsulate()
    except ValueError as error:
        raise InvalidKeyExchange(str(error)) from None
    return ciphertext, secret
