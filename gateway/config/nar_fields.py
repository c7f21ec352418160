"""Kinds of values that only the tables of NAR servers have."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal

from pydantic import PlainSerializer, PlainValidator

from gateway.config.fields import address4, network, refused, text_of
from gateway.config.mobility_fields import AddressRange
from gateway.config.problem import span_text
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import SOCKS_PORT

MAX_PORT = 65_535
MIN_SPI = 256
"""0 to 255 are reserved (RFC 4303 section 2.1)."""
MAX_SPI = 0xFFFF_FFFF
_INTERFACE = "interface:"

DeliveryWord = Literal["ip-ip", "gre", "l2tp", "translated"]
ProtocolWord = Literal["tcp", "udp", "icmp", "esp", "ah", "ip-ip", "gre"]


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """``"interface:eth0"``: whatever address the interface has, also when it changes."""

    interface: str

    def __str__(self) -> str:
        return f"{_INTERFACE}{self.interface}"


LentAddress = AddressRange | InterfaceAddress


def _lent(value: object) -> LentAddress:
    if isinstance(value, AddressRange | InterfaceAddress):
        return value
    text = text_of(value, '"203.0.113.5"')
    if text.startswith(_INTERFACE):
        name = text.removeprefix(_INTERFACE)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", name):
            raise refused('not an interface; write it such as "interface:eth0"')
        return InterfaceAddress(name)
    first, dash, last = text.partition("-")
    if dash:
        found = AddressRange(_address(first.strip()), _address(last.strip()))
        if found.first > found.last:
            raise refused("ends before it begins; give the lower address first")
        return found
    if "/" not in text:
        only = _address(text)
        return AddressRange(only, only)
    whole = _network4(text)
    return AddressRange(whole[0], whole[-1])


def _address(value: object) -> IPv4Address:
    try:
        return address4(value)
    except ValueError as error:
        if "not an IPv4 address" in str(error):
            raise refused("not an IPv4 address; NAR knows no other") from None
        raise refused(
            'not an address; give one such as "203.0.113.5", a network, a range '
            '"203.0.113.5-203.0.113.9", or "interface:eth0"'
        ) from None


def _network4(value: object) -> IPv4Network:
    found: IpNetwork = network(value)
    if not isinstance(found, IPv4Network):
        raise refused("not an IPv4 network; NAR knows no other")
    return found


def _listed(value: object, example: str) -> tuple[object, ...]:
    """A list, or one value in place of a list of one."""
    if isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(value, dict | bool | None):
        raise refused(f"give a list in brackets, such as {example}")
    return (value,)


def _lents(value: object) -> tuple[LentAddress, ...]:
    return tuple(map(_lent, _listed(value, '["203.0.113.5"]')))


def _with_prefix(value: object) -> object:
    return f"{value}/32" if isinstance(value, str) and "/" not in value else value


def _networks(value: object) -> tuple[IPv4Network, ...]:
    return tuple(_network4(_with_prefix(one)) for one in _listed(value, '["192.168.1.0/24"]'))


def _any_networks(value: object) -> tuple[IpNetwork, ...]:
    def whole(one: object) -> object:
        if isinstance(one, str) and "/" not in one:
            return f"{one}/{128 if ':' in one else 32}"
        return one

    return tuple(network(whole(one)) for one in _listed(value, '["10.0.0.0/8"]'))


def _listen(value: object, default_port: int | None) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    text = text_of(value, '"192.168.1.1"')
    host, colon, port = text.partition(":")
    if text.count(":") > 1:
        raise refused("not an IPv4 address and port; NAR knows no IPv6")
    address = _address_of_host(host)
    if not colon and default_port is None:
        raise refused(f'lacks the port; give address and port such as "{text}:1081"')
    number = int(port) if re.fullmatch(r"\d{1,5}", port) else 0
    if not colon:
        number = default_port or 0
    if not 1 <= number <= MAX_PORT:
        raise refused(f"has no valid port; give one from 1 to {MAX_PORT}")
    return Endpoint(address, number)


def _address_of_host(host: str) -> IPv4Address:
    try:
        return IPv4Address(host)
    except ValueError:
        raise refused(
            "not an IPv4 address (host names are not looked up); "
            'give one such as "192.168.1.1" or "192.168.1.1:1080"'
        ) from None


def _listens(value: object) -> tuple[Endpoint, ...]:
    return tuple(_listen(one, SOCKS_PORT) for one in _listed(value, '["192.168.1.1"]'))


def _tls_listens(value: object) -> tuple[Endpoint, ...]:
    return tuple(_listen(one, None) for one in _listed(value, '["192.168.1.1:1081"]'))


def _number(text: str) -> int | None:
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,8}", text):
        return int(text, 16)
    return int(text) if re.fullmatch(r"\d{1,10}", text) else None


def _span(value: object, low: int, high: int, example: str) -> range:
    if isinstance(value, range):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    first, dash, last = text_of(value, f'"{example}"').partition("-")
    begin = _number(first.strip())
    end = _number(last.strip()) if dash else begin
    if begin is None or end is None:
        raise refused(f'not a range; give the first and the last such as "{example}"')
    if begin > end:
        raise refused("ends before it begins; give the lower number first")
    if begin < low or end > high:
        raise refused(f"out of range; allowed is {low} to {high}")
    return range(begin, end + 1)


def _ports(value: object) -> tuple[range, ...]:
    example = "20000-29999"
    return tuple(_span(one, 1, MAX_PORT, example) for one in _listed(value, f'["{example}"]'))


def _icmp_ids(value: object) -> range:
    return _span(value, 0, MAX_PORT, "49152-65535")


def _spis(value: object) -> range:
    return _span(value, MIN_SPI, MAX_SPI, "0x40000000-0x7fffffff")


def _texts(values: tuple[object, ...]) -> list[str]:
    return list(map(str, values))


def _spans(values: tuple[range, ...]) -> list[str]:
    return list(map(span_text, values))


def _tunnel(value: object) -> IPv4Address:
    return (
        value if isinstance(value, IPv4Address) else _address_of_host(text_of(value, '"10.0.0.1"'))
    )


TunnelAddress = Annotated[IPv4Address, PlainValidator(_tunnel, json_schema_input_type=str)]
LentAddresses = Annotated[
    tuple[LentAddress, ...],
    PlainValidator(_lents, json_schema_input_type=list[str]),
    PlainSerializer(_texts),
]
NarNetworks = Annotated[
    tuple[IPv4Network, ...],
    PlainValidator(_networks, json_schema_input_type=list[str]),
    PlainSerializer(_texts),
]
AnyNetworks = Annotated[
    tuple[IpNetwork, ...],
    PlainValidator(_any_networks, json_schema_input_type=list[str]),
    PlainSerializer(_texts),
]
Listens = Annotated[
    tuple[Endpoint, ...],
    PlainValidator(_listens, json_schema_input_type=list[str]),
    PlainSerializer(_texts),
]
TlsListens = Annotated[
    tuple[Endpoint, ...],
    PlainValidator(_tls_listens, json_schema_input_type=list[str]),
    PlainSerializer(_texts),
]
PortSpans = Annotated[
    tuple[range, ...],
    PlainValidator(_ports, json_schema_input_type=list[str]),
    PlainSerializer(_spans),
]
IcmpIds = Annotated[
    range, PlainValidator(_icmp_ids, json_schema_input_type=str), PlainSerializer(span_text)
]
Spis = Annotated[
    range, PlainValidator(_spis, json_schema_input_type=str), PlainSerializer(span_text)
]
