"""Stateless cookies and the limits on half-open IKE SAs (RFC 7296 section 2.6)."""

import hmac
from collections.abc import Callable, Hashable
from hashlib import blake2s
from typing import TypeVar

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.ike.sa import IkeSa

SECRET_LIFETIME_S = 60.0
"""A cookie is good for one to two of these."""
COOKIE_OCTETS = 33
FIRST_MESSAGES_PER_S = 1000
"""From this many requests of peers without an SA in a second on, whoever shows none needs one."""

Source = tuple[bytes, int]
"""Packed address and port: what an :class:`Endpoint` says, cheap to make and to look up."""


_Key = TypeVar("_Key")


def source_of(endpoint: Endpoint) -> Source:
    """The same source."""
    return (endpoint.address.packed, endpoint.port)


class Cookies:
    """Makes and checks cookies without remembering anything about who asked.

    A cookie is the generation of the secret (one octet) and a keyed digest (BLAKE2s, RFC 7693)
    over the initiator's SPI, address, port and nonce, so it proves that whoever shows it receives
    at that endpoint. Only we ever compute it, and a flood has us compute it for every message.
    """

    __slots__ = ("_generation", "_random", "_rotated_at", "_secrets")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._secrets: dict[int, bytes] = {}
        self._generation = 0
        self._rotated_at = float("-inf")

    def _rotate(self, now: float) -> None:
        if now - self._rotated_at < SECRET_LIFETIME_S:
            return
        stale = now - self._rotated_at >= 2 * SECRET_LIFETIME_S
        previous = None if stale else self._secrets.get(self._generation)
        last = self._generation
        self._generation = (last + 1) % 256
        self._secrets = {self._generation: self._random(32)}
        if previous is not None:
            self._secrets[last] = previous
        self._rotated_at = now

    def _make(self, generation: int, nonce: bytes, spi: bytes, source: Source) -> bytes:
        # The nonce comes last: it is the only part whose length nothing else tells.
        packed, port = source
        material = b"%b%c%b%b%b" % (spi, len(packed), port.to_bytes(2, "big"), packed, nonce)
        return b"%c%b" % (generation, blake2s(material, key=self._secrets[generation]).digest())

    def make(self, nonce: bytes, spi: bytes, source: Endpoint | Source, now: float) -> bytes:
        """The cookie that this initiator must show."""
        self._rotate(now)
        if isinstance(source, Endpoint):
            source = source_of(source)
        return self._make(self._generation, nonce, spi, source)

    def verify(
        self, cookie: bytes, nonce: bytes, spi: bytes, source: Endpoint | Source, now: float
    ) -> bool:
        """Whether ``cookie`` was made for this initiator, with the current or the last secret."""
        self._rotate(now)
        if len(cookie) != COOKIE_OCTETS or cookie[0] not in self._secrets:
            return False
        if isinstance(source, Endpoint):
            source = source_of(source)
        return hmac.compare_digest(cookie, self._make(cookie[0], nonce, spi, source))


class HalfOpenLimits:
    """Counts half-open responder SAs, all of them and those of each (address, port).

    Also finds the SA that a repeated IKE_SA_INIT request belongs to, by its octets and source.
    """

    __slots__ = ("_by_request", "_per_address", "_per_source", "_rate")

    def __init__(self) -> None:
        self._by_request: dict[tuple[bytes, Hashable], IkeSa] = {}
        self._per_source: dict[Source, int] = {}
        self._per_address: dict[bytes, int] = {}
        self._rate = (float("-inf"), 0, 0)

    def __len__(self) -> int:
        return len(self._by_request)

    def of_source(self, source: Endpoint | Source) -> int:
        """How many half-open SAs a source has."""
        if isinstance(source, Endpoint):
            source = source_of(source)
        return self._per_source.get(source, 0)

    def busy(self, requests: int, now: float) -> bool:
        """Count first messages; whether too many came in this second or the one before it."""
        begun, last, this = self._rate
        if now - begun >= 1.0 or now < begun:
            last = this if 0 <= now - begun < 2.0 else 0
            begun, this = now, 0
        self._rate = (begun, last, this + requests)
        return last >= FIRST_MESSAGES_PER_S or this + requests >= FIRST_MESSAGES_PER_S

    def find(self, digest: bytes, source: Endpoint) -> IkeSa | None:
        """The SA that the same octets from the same source made."""
        return self._by_request.get((digest, source))

    def add(self, digest: bytes, source: Endpoint, sa: IkeSa) -> tuple[bytes, Endpoint]:
        """Count a new half-open SA; returns the key to :meth:`remove` it with."""
        key = (digest, source)
        self._by_request[key] = sa
        counted = source_of(source)
        self._per_source[counted] = self._per_source.get(counted, 0) + 1
        self._per_address[counted[0]] = self._per_address.get(counted[0], 0) + 1
        return key

    def remove(self, key: tuple[bytes, Endpoint]) -> None:
        """The SA is established or gone."""
        if self._by_request.pop(key, None) is None:
            return
        counted = source_of(key[1])
        _take_one(self._per_source, counted)
        _take_one(self._per_address, counted[0])

    def in_the_way(self, newcomer: IpAddress) -> IkeSa | None:
        """The SA to give up for one more of ``newcomer``, or None.

        It is the oldest, of those whose peers have not said who they are, of the address that
        has the most: nobody who fills the table locks out anybody else.
        """
        most = max(self._per_address.values(), default=0)
        crowd = {packed for packed, count in self._per_address.items() if count == most}
        if self._per_address.get(newcomer.packed, 0) >= most:
            crowd = {newcomer.packed}
        for sa in self._by_request.values():
            if sa.peer_id is None and sa.path.remote.address.packed in crowd:
                return sa
        return None


def _take_one(counts: dict[_Key, int], key: _Key) -> None:
    if counts[key] > 1:
        counts[key] -= 1
    else:
        del counts[key]


class PerSecond:
    """At most so many in each second."""

    __slots__ = ("_begun", "_limit", "_used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = float("-inf")
        self._used = 0

    def may(self, now: float) -> bool:
        """Whether there may be one more; counts it."""
        if not 0 <= now - self._begun < 1.0:
            self._begun, self._used = now, 0
        self._used += 1
        return self._used <= self._limit


MAX_FAILED_SOURCES = 4096


class FailedLogins:
    """How often users' logins failed lately, by source: guessing passwords takes its time.

    A source is an IPv4 address or an IPv6 /64. Its allowance of failures fills again at
    ``per_minute``; successful logins cost nothing, so that many may share an address.
    """

    __slots__ = ("_failures", "_per_minute")

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._failures: dict[int, tuple[float, float]] = {}

    def may_try(self, source: IpAddress, now: float) -> bool:
        """Whether a login from there may begin."""
        return self._left_of(_prefix(source), now) < self._per_minute

    def failed(self, source: IpAddress, now: float) -> None:
        """A login from there failed."""
        prefix = _prefix(source)
        failures = self._left_of(prefix, now) + 1
        self._failures.pop(prefix, None)
        if len(self._failures) >= MAX_FAILED_SOURCES:
            # The source whose last failure is the longest ago.
            del self._failures[next(iter(self._failures))]
        self._failures[prefix] = (failures, now)

    def _left_of(self, prefix: int, now: float) -> float:
        failures, at = self._failures.get(prefix, (0.0, now))
        return max(failures - (now - at) * self._per_minute / 60, 0.0)


def _prefix(source: IpAddress) -> int:
    """One number for each source; those of both IP versions differ."""
    return int(source) if source.version == 4 else (int(source) >> 64) + 2**32
