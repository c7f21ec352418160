"""Kinds of values in the tables of remote access: ranges of addresses and ports, times."""

import re
from ipaddress import ip_address
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from gateway.config.fields import refused, text_of
from gateway.domain.endpoint import IpAddress

Range = tuple[IpAddress, IpAddress]
Ports = tuple[int, int]
"""First and last."""
Span = tuple[frozenset[int], int, int]
"""Days (0 is Monday), minute of the day from which, and up to which (1440: its end)."""

MAX_RANGE = 65_536
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PROTOCOLS = {
    "icmp": 1,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "sctp": 132,
}
_TIME = r"([01]\d|2[0-3]):([0-5]\d)|24:00"


def _address_range(value: object) -> Range:
    if isinstance(value, tuple | list) and len(value) == 2:
        value = f"{value[0]}-{value[1]}"
    text = text_of(value, '"10.1.0.20-10.1.0.29"')
    first, _, last = text.partition("-")
    try:
        found = ip_address(first.strip()), ip_address((last or first).strip())
    except ValueError:
        raise refused(
            'not an address or a range of them; give one such as "10.1.0.20-10.1.0.29"'
        ) from None
    if found[0].version != found[1].version or int(found[0]) > int(found[1]):
        raise refused("ends before it begins; give the smaller address first")
    if int(found[1]) - int(found[0]) >= MAX_RANGE:
        raise refused(f"more than {MAX_RANGE} addresses; give a smaller range")
    return found


def _ports(value: object) -> Ports:
    if isinstance(value, tuple | list) and len(value) == 2:
        value = f"{value[0]}-{value[1]}"
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = text_of(value, '"8000-8099"')
    found = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", text.strip())
    if not found:
        raise refused('not a port or a range of them; give 443 or "8000-8099"')
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last <= 65_535:
        raise refused("not ports from 1 to 65535, the smaller one first")
    return first, last


def _protocol(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= 255:
            return value
        raise refused('not a protocol number; give 1 to 255, or a name such as "tcp"')
    text = text_of(value, '"tcp"').lower()
    if text.isdecimal() and 1 <= int(text) <= 255:
        return int(text)
    if text not in PROTOCOLS:
        raise refused(f"not a protocol; choose one of {', '.join(PROTOCOLS)}, or its number")
    return PROTOCOLS[text]


def _span(value: object) -> Span:
    """``mon-fri 08:00-18:00``, ``sat,sun 10:00-14:00`` or ``08:00-18:00``."""
    if isinstance(value, tuple) and len(value) == 3:
        return value
    text = text_of(value, '"mon-fri 08:00-18:00"').lower().strip()
    days, _, hours = text.rpartition(" ")
    found = re.fullmatch(rf"({_TIME})-({_TIME})", hours)
    if not found:
        raise refused('not a span of time; give one such as "mon-fri 08:00-18:00"')
    begin, _, end = hours.partition("-")
    first, last = _minute(begin), _minute(end)
    if last <= first:
        raise refused("ends before it begins; give two spans for a night")
    return (_days(days) if days else frozenset(range(7))), first, last


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last and last not in DAYS):
            raise refused(f"not a day of the week; give some of {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 + (7 if end < begin else 0))}
    return frozenset(found)


def _range_text(value: Range) -> str:
    return str(value[0]) if value[0] == value[1] else f"{value[0]}-{value[1]}"


def _ports_text(value: Ports) -> str:
    return str(value[0]) if value[0] == value[1] else f"{value[0]}-{value[1]}"


def _protocol_text(value: int) -> str:
    return next((name for name, number in PROTOCOLS.items() if number == value), str(value))


def _span_text(value: Span) -> str:
    days, first, last = value
    hours = f"{first // 60:02}:{first % 60:02}-{last // 60:02}:{last % 60:02}"
    return hours if len(days) == 7 else ",".join(DAYS[day] for day in sorted(days)) + " " + hours


AddressRange = Annotated[
    Range, PlainValidator(_address_range, json_schema_input_type=str), PlainSerializer(_range_text)
]
PortRange = Annotated[
    Ports,
    PlainValidator(_ports, json_schema_input_type=int | str),
    PlainSerializer(_ports_text),
]
Protocol = Annotated[
    int,
    PlainValidator(_protocol, json_schema_input_type=int | str),
    PlainSerializer(_protocol_text),
]
TimeSpan = Annotated[
    Span, PlainValidator(_span, json_schema_input_type=str), PlainSerializer(_span_text)
]
