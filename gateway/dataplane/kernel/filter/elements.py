"""What stands for a device, a rule set, a service: elements of the sets of the filter's table."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from gateway.dataplane.filter import Count, GatewayServices
from gateway.dataplane.kernel.filter.ruleset import SHORT
from gateway.dataplane.kernel.netlink import attribute, attributes, nested
from gateway.dataplane.kernel.nft_elements import ElementChange
from gateway.dataplane.packet import marks
from gateway.domain.child_sa import IpNetwork
from gateway.domain.filtering import Box, Direction, Placement, RuleSet, Span

Place = tuple[str, bytes, bytes | None]
"""Set, key, and its end in sets of intervals."""
_U32 = struct.Struct("!I")
_U64 = struct.Struct("!Q")
_HOST = struct.Struct("=I")
_PARTS = struct.Struct("!B3xH2x")
_IFNAME: Final = 16
_OCTETS_PER_KBIT: Final = 125
_LIMIT_BYTES, _LIMIT_OVER, _SECOND = 1, 1, 1
MIN_BURST: Final = 15_000
"""Octets: ten full packets, so that slow limits let anything through at all."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element that there shall be."""

    place: Place
    data: bytes | None = None
    expression: bytes = b""

    def change(self, *, add: bool = True) -> ElementChange:
        """The change that adds or removes it."""
        name, key, end = self.place
        return ElementChange(
            name, key, add=add, data=self.data, key_end=end, expression=self.expression
        )


def _limit(kbit_s: int) -> bytes:
    """Over this rate: the bucket holds a second of it."""
    rate = kbit_s * _OCTETS_PER_KBIT
    fields = (
        attribute(1, _U64.pack(rate)),
        attribute(2, _U64.pack(_SECOND)),
        attribute(3, _U32.pack(min(MIN_BURST, 0xFFFF_FFFF))),
        attribute(4, _U32.pack(_LIMIT_BYTES)),
        attribute(5, _U32.pack(_LIMIT_OVER)),
    )
    return attribute(1, b"limit\0") + nested(2, *fields)


def _keys(placement: Placement) -> Iterator[tuple[str, bytes, bytes]]:
    """Kind of key, key of what comes from the device, key of what goes to it."""
    if placement.zone:
        yield (
            "z",
            _HOST.pack(marks.FROM_DEVICE | placement.zone),
            _HOST.pack(marks.TO_DEVICE | placement.zone),
        )
        return
    for address in placement.addresses:
        yield str(address.version), address.packed, address.packed


def of_placement(placement: Placement) -> Iterator[Element]:
    """All elements of a session."""
    for kind, up, down in _keys(placement):
        if kind == "z":
            for name in ("device", "refused"):
                yield Element((f"{name}_upz", up, None))
                yield Element((f"{name}_downz", down, None))
        else:
            yield Element((f"device{kind}", up, None))
            yield Element((f"refused{kind}", up, None))
        yield Element((f"used_up{kind}", up, None))
        yield Element((f"used_down{kind}", down, None))
        if placement.up_kbit_s is not None:
            yield Element((f"rate_up{kind}", up, None), expression=_limit(placement.up_kbit_s))
        if placement.down_kbit_s is not None:
            limit = _limit(placement.down_kbit_s)
            yield Element((f"rate_down{kind}", down, None), expression=limit)
        for direction, number in placement.rule_sets.items():
            key = down if direction is Direction.FROM_INSIDE else up
            yield Element((f"rules_{SHORT[direction]}{kind}", key, None), data=_U32.pack(number))


def usage_places(placement: Placement) -> tuple[list[Place], list[Place], list[Place]]:
    """Where it is counted what came from the device, went to it, and was refused."""
    up: list[Place] = []
    down: list[Place] = []
    refused: list[Place] = []
    for element in of_placement(placement):
        name = element.place[0]
        for start, found in (("used_up", up), ("used_down", down), ("refused", refused)):
            if name.startswith(start):
                found.append(element.place)
    return up, down, refused


def _place_of_box(name: str, number: int, box: Box) -> Place:
    network = box.network
    middle = _U32.pack(number)
    first = _PARTS.pack(box.protocols[0], box.ports[0])
    last = _PARTS.pack(box.protocols[1], box.ports[1])
    return (
        f"{name}{network.version}",
        network.network_address.packed + middle + first,
        network.broadcast_address.packed + middle + last,
    )


def of_rule_set(number: int, rule_set: RuleSet) -> dict[Place, Box]:
    """All elements of a rule set, and the box of each."""
    found: dict[Place, Box] = {}
    kinds = [("refuse", rule_set.refuse), ("allow", rule_set.allow)]
    kinds += [(f"helper_{name}_", boxes) for name, boxes in rule_set.helpers.items()]
    for name, boxes in kinds:
        for box in boxes:
            found[_place_of_box(name, number, box)] = box
    return found


def closed(number: int) -> Place:
    """The element that says that nothing else is allowed."""
    return "closed", bytes(4) + _U32.pack(number), None


def box_at(place: Place) -> tuple[int, Box]:
    """Reverse of :func:`of_rule_set`. Raises ValueError."""
    name, key, end = place
    width = 4 if name.endswith("4") else 16
    if end is None or not len(key) == len(end) == 12 + width:
        raise ValueError(f"not an element of a rule set: {name} {key.hex()}")
    number = _U32.unpack_from(key, width)[0]
    first, last = key[:width], end[:width]
    differing = int.from_bytes(first, "big") ^ int.from_bytes(last, "big")
    kind: type[IPv4Network | IPv6Network] = IPv4Network if width == 4 else IPv6Network
    network: IpNetwork = kind((first, 8 * width - differing.bit_length()))
    protocol, port = _PARTS.unpack_from(key, 4 + width)
    last_protocol, last_port = _PARTS.unpack_from(end, 4 + width)
    return number, Box(network, (protocol, last_protocol), (port, last_port))


def of_services(services: GatewayServices, interface: str, *, isolate: bool) -> Iterator[Element]:
    """What holds without rules."""
    name = interface.encode()[: _IFNAME - 1].ljust(_IFNAME, b"\0")
    if isolate:
        yield Element(("isolated", name, None))
    if services.everything:
        yield Element(("all_of_gateway", name, None))
    for protocol in services.protocols:
        yield Element(("gateway_protocols", bytes((protocol,)), None))
    for protocol, ports in _apart(services.ports):
        first, last = _PARTS.pack(protocol, ports[0]), _PARTS.pack(protocol, ports[1])
        yield Element(("gateway_ports", first, last))


def _apart(ports: frozenset[tuple[int, Span]]) -> Iterator[tuple[int, Span]]:
    """The same, without overlaps."""
    before: tuple[int, Span] | None = None
    for protocol, (first, last) in sorted(ports):
        if before is not None and before[0] == protocol and first <= before[1][1] + 1:
            before = protocol, (before[1][0], max(before[1][1], last))
            continue
        if before is not None:
            yield before
        before = protocol, (first, last)
    if before is not None:
        yield before


# -- what the kernel answers ---------------------------------------------------------------------

_ELEM_KEY, _ELEM_DATA, _ELEM_EXPRESSION, _ELEM_KEY_END, _ELEM_EXPRESSIONS = 1, 2, 7, 10, 11
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Found:
    """An element that there is."""

    element: Element
    count: Count


def found_elements(name: str, listed: bytes) -> Iterator[Found]:
    """The elements in a list of the kernel's."""
    offset = 0
    while offset + 4 <= len(listed):
        size, _ = _ATTRIBUTE.unpack_from(listed, offset)
        if size < 4:
            return
        values = attributes(listed, offset + 4, offset + size)
        offset += size + 3 & ~3
        key = attributes(values.get(_ELEM_KEY, b""), 0).get(1)
        if key is None:
            continue
        end = attributes(values.get(_ELEM_KEY_END, b""), 0).get(1)
        data = attributes(values.get(_ELEM_DATA, b""), 0).get(1)
        own = values.get(_ELEM_EXPRESSION, b"")
        expression, count = _expression(own)
        yield Found(Element((name, key, end), data, expression), count)


def _expression(own: bytes) -> tuple[bytes, Count]:
    """A limit as we would write it, or what a counter has counted."""
    fields = attributes(own, 0)
    inner = attributes(fields.get(2, b""), 0)
    if fields.get(1) == b"counter\0":
        octets, packets = inner.get(1, b""), inner.get(2, b"")
        if len(octets) == len(packets) == 8:
            return b"", Count(_U64.unpack(packets)[0], _U64.unpack(octets)[0])
    if fields.get(1) == b"limit\0" and len(inner.get(1, b"")) == 8:
        return _limit(_U64.unpack(inner[1])[0] // _OCTETS_PER_KBIT), Count()
    return b"", Count()
