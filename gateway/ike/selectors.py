"""Narrowing of traffic selectors (RFC 7296 section 2.9)."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from gateway.domain.child_sa import TrafficSelector

MAX_NARROWED = 32
"""More selectors on one side are cut off: each pair becomes kernel policies."""


def covers(outer: TrafficSelector, inner: TrafficSelector) -> bool:
    """Whether everything that ``inner`` allows, ``outer`` allows too."""
    return (
        outer.start.version == inner.start.version
        and outer.protocol in (0, inner.protocol)
        and int(outer.start) <= int(inner.start)
        and int(inner.end) <= int(outer.end)
        and outer.start_port <= inner.start_port
        and inner.end_port <= outer.end_port
    )


def covers_all(outer: Sequence[TrafficSelector], inner: Iterable[TrafficSelector]) -> bool:
    """Whether each of ``inner`` lies within one of ``outer``."""
    return all(any(covers(one, other) for one in outer) for other in inner)


def narrow(
    offered: Iterable[TrafficSelector], allowed: Sequence[TrafficSelector]
) -> tuple[TrafficSelector, ...]:
    """The part of ``offered`` that ``allowed`` contains, without repetitions; maybe empty."""
    kept: list[TrafficSelector] = []
    for one in offered:
        for other in allowed:
            common = one.intersect(other)
            if common is None or any(covers(known, common) for known in kept):
                continue
            kept = [known for known in kept if not covers(common, known)]
            kept.append(common)
            if len(kept) >= MAX_NARROWED:
                return tuple(kept)
    return tuple(kept)


_known_text = lru_cache(maxsize=1024)(str)
"""Networks of the configuration come again and again, and finding their prefixes is slow."""


def text(selector: TrafficSelector) -> str:
    """A selector in a log line, as ``str`` writes it."""
    if (
        selector.start == selector.end
        and not selector.protocol
        and not selector.start_port
        and selector.end_port == 65535
    ):
        # An inner address: most peers have one of their own.
        return f"{selector.start}/{selector.start.max_prefixlen}"
    return _known_text(selector)


def describe(selectors: Iterable[TrafficSelector]) -> str:
    """Selectors in a log line."""
    return " ".join(map(text, selectors)) or "(none)"
