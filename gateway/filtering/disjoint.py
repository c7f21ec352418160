"""Boxes that overlap become boxes that do not: the kernel's sets refuse overlaps.

Networks are nested or apart, so with the widest first only protocols and ports have to be cut.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from gateway.domain.filtering import Box, Span

_Service = tuple[Span, Span]


def disjoint(sources: Iterable[tuple[str, Box]], most: int) -> dict[Box, str]:
    """Boxes with the same flows, none in two of them, and the name that each one is from.

    A flow of several names is the first's of those with the widest network. Raises ValueError
    when it takes more than ``most``.
    """
    ordered = sorted(sources, key=lambda source: source[1].network.prefixlen)
    found: dict[Box, str] = {}
    lengths: dict[int, set[int]] = {4: set(), 6: set()}
    placed: defaultdict[tuple[int, int, int], list[_Service]] = defaultdict(list)
    for name, box in ordered:
        network = box.network
        version, base = network.version, int(network.network_address)
        pieces = [(box.protocols, box.ports)]
        for length in lengths[version]:
            shift = network.max_prefixlen - length
            for other in placed.get((version, length, base >> shift), ()):
                pieces = [left for piece in pieces for left in _without(piece, other)]
        if not pieces:
            continue
        lengths[version].add(network.prefixlen)
        at = version, network.prefixlen, base >> (network.max_prefixlen - network.prefixlen)
        placed[at] += pieces
        for protocols, ports in pieces:
            found[Box(network, protocols, ports)] = name
        if len(found) > most:
            raise ValueError(f"more than {most} entries together")
    return found


def _without(piece: _Service, other: _Service) -> Iterator[_Service]:
    """What of ``piece`` is not in ``other``."""
    if _apart(piece[0], other[0]) or _apart(piece[1], other[1]):
        yield piece
        return
    yield from _cut(piece, other)


@lru_cache(maxsize=4096)
def _cut(piece: _Service, other: _Service) -> tuple[_Service, ...]:
    (first, last), ports = piece
    (other_first, other_last), other_ports = other
    found = []
    if first < other_first:
        found.append(((first, other_first - 1), ports))
    if last > other_last:
        found.append(((other_last + 1, last), ports))
    both = max(first, other_first), min(last, other_last)
    if ports[0] < other_ports[0]:
        found.append((both, (ports[0], other_ports[0] - 1)))
    if ports[1] > other_ports[1]:
        found.append((both, (other_ports[1] + 1, ports[1])))
    return tuple(found)


def _apart(one: Span, other: Span) -> bool:
    return one[1] < other[0] or other[1] < one[0]
