"""How often somebody may show a wrong credential, by address.

A right credential is never held up by what others do from the same address: whoever guesses at
random among 2**256 tokens learns nothing from being told so quickly.
"""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from gateway.control.protocol import ControlError, ErrorCode

FREE_ATTEMPTS = 20
PER_ATTEMPT_S = 3.0
"""One more wrong credential may be shown each so many seconds."""
MAX_ADDRESSES = 10_000

LOCAL = IPv4Address("127.0.0.1")


def address_of(remote: str) -> IPv4Address | IPv6Address:
    """The address in an actor's ``remote``; ``local`` is loopback."""
    try:
        found = ip_address(remote.partition("%")[0])
    except ValueError:
        return LOCAL
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _place(remote: str) -> int:
    found = address_of(remote)
    if isinstance(found, IPv6Address):
        return int(IPv6Network((found, 64), strict=False).network_address)
    return int(found)


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class WrongCredentials:
    """Counts wrong credentials. Time is the caller's, in seconds."""

    def __init__(self, free: int = FREE_ATTEMPTS, per_attempt_s: float = PER_ATTEMPT_S) -> None:
        self._free = float(free)
        self._per_attempt_s = per_attempt_s
        self._buckets: OrderedDict[int, _Bucket] = OrderedDict()

    def note(self, remote: str, now: float) -> None:
        """One was wrong. Raises :class:`ControlError` when it was one too many."""
        place = _place(remote)
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = _Bucket(self._free, now)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(place)
        gained = max(0.0, now - bucket.at) / self._per_attempt_s
        bucket.left, bucket.at = min(self._free, bucket.left + gained), now
        if bucket.left < 1.0:
            raise too_many((1.0 - bucket.left) * self._per_attempt_s)
        bucket.left -= 1.0


def too_many(retry_after_s: float) -> ControlError:
    """The refusal of an attempt that comes too early."""
    wait_s = max(1, round(retry_after_s + 0.5))
    return ControlError(
        ErrorCode.TOO_MANY,
        f"too many wrong credentials from here: try again in {wait_s} s",
        retry_after_s=float(wait_s),
    )
