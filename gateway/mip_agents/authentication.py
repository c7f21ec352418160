"""Authenticators of registration and revocation messages (RFC 5944 section 3.5).

An authenticator covers the UDP payload up to and including the SPI of its own extension: all
that came before it, nothing behind it.
"""

import hashlib
import hmac
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import MD5, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC

from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    authentication_header,
)
from gateway.mip_agents.codec.numbers import FIRST_SPI
from gateway.mip_agents.policy import Algorithm, SecurityAssociation

AUTHENTICATOR_OCTETS = {
    Algorithm.HMAC_MD5: 16,
    Algorithm.HMAC_SHA256: 32,
    Algorithm.KEYED_MD5: 16,
}
_CACHED_CONTEXTS = 16_384
"""A context takes twice as long to make as to copy, and 0.8 kB; beyond these many keys each
registration makes its own."""


def authenticator(octets: bytes, association: SecurityAssociation) -> bytes:
    """The authenticator over ``octets``."""
    algorithm = association.algorithm
    if algorithm is Algorithm.HMAC_MD5:
        context = _hmac_md5(association.key).copy()
    elif algorithm is Algorithm.HMAC_SHA256:
        context = _hmac_sha256(association.key).copy()
    else:
        key = association.key
        # RFC 2002 section 3.5.1: the key before and behind the data, without padding.
        return hashlib.md5(key + octets + key, usedforsecurity=False).digest()
    context.update(octets)
    return context.finalize()


def sign(
    octets: bytes,
    kind: AuthenticationKind,
    association: SecurityAssociation,
    subtype: int = 0,
) -> bytes:
    """``octets`` with an authentication extension behind them that covers them all.

    Raises:
        ValueError: the association has a reserved SPI.
    """
    if association.spi < FIRST_SPI:
        raise ValueError(f"SPI {association.spi} is reserved; use {FIRST_SPI} or more")
    covered = octets + authentication_header(
        kind, association.spi, AUTHENTICATOR_OCTETS[association.algorithm], subtype
    )
    return covered + authenticator(covered, association)


def verify(octets: bytes, extension: Authentication, association: SecurityAssociation) -> bool:
    """Whether the authenticator is right; it takes the same time wherever it is wrong.

    ``octets`` is the message as received, ``extension`` one of those read from it.
    """
    spi = extension.spi
    if spi < FIRST_SPI or spi != association.spi:
        return False
    if len(extension.authenticator) != AUTHENTICATOR_OCTETS[association.algorithm]:
        return False
    expected = authenticator(octets[: extension.covered_octets], association)
    return hmac.compare_digest(expected, extension.authenticator)


_MD5 = MD5()  # noqa: S303 - RFC 5944 section 5.1 makes HMAC-MD5 the default
_SHA256 = SHA256()


def _context(key: bytes, algorithm: HashAlgorithm) -> HMAC:
    return HMAC(key, algorithm)


@lru_cache(_CACHED_CONTEXTS)
def _hmac_md5(key: bytes) -> HMAC:
    return _context(key, _MD5)


@lru_cache(_CACHED_CONTEXTS)
def _hmac_sha256(key: bytes) -> HMAC:
    return _context(key, _SHA256)
