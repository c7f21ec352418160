"""A rule in words."""

from typing import Final

from gateway.domain.filtering import Direction, Span
from gateway.filtering.rule import Rule

_PROTOCOLS: Final = {
    1: "icmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah",
    58: "icmpv6", 132: "sctp",
}  # fmt: skip
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SHOWN: Final = 8
"""Of a list; the rest is counted."""


def in_words(rule: Rule) -> str:
    """``allow to-inside tcp 443 to 10.1.0.0/16, mon-fri 08:00-18:00``."""
    words = [rule.action.value, rule.direction.value]
    words.append(_listed([protocol(one) for one in rule.protocols]) or "everything")
    if rule.ports:
        words.append(_listed([_span(span) for span in rule.ports]))
    if rule.networks:
        word = "from" if rule.direction is Direction.FROM_INSIDE else "to"
        words += [word, _listed([str(network) for network in rule.networks])]
    if rule.helper:
        words.append(f"with what {rule.helper} announces")
    text = " ".join(words)
    times = [_time(*span) for span in rule.times]
    return f"{text}, {_listed(times)}" if times else text


def protocol(number: int) -> str:
    """Its name, or the number."""
    return _PROTOCOLS.get(number, f"protocol {number}")


def _listed(words: list[str]) -> str:
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _span(span: Span) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"


def _time(days: frozenset[int], first: int, last: int) -> str:
    hours = f"{first // 60:02}:{first % 60:02}-{last // 60:02}:{last % 60:02}"
    return hours if len(days) == 7 else f"{_day_words(sorted(days))} {hours}"


def _day_words(days: list[int]) -> str:
    together = days == list(range(days[0], days[-1] + 1)) and len(days) > 2
    if together:
        return f"{_DAYS[days[0]]}-{_DAYS[days[-1]]}"
    return ",".join(_DAYS[day] for day in days)
