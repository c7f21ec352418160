"""Which packet in the hub is whose: the hub's nftables table as text.

A packet from a tunnel is told by the draft's tuples (section 2.6), as the server does it, because
all sessions with a server may have one address. A packet from a session goes to its tunnel when
it has the session's address as its source. ICMP errors go to whose packet they are about. What
belongs to nobody is dropped: deny by default.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.nar import NarProtocol, NarTuple
from gateway.nar_host import constants

_ICMP_ERRORS: Final = "{ destination-unreachable, source-quench, time-exceeded, parameter-problem }"
_ANY_ADDRESS: Final = "0.0.0.0-255.255.255.255"
_ANY_PORT: Final = "0-65535"
_GRE_OF_IPV4: Final = 0x0000_0800
_Row = tuple[IPv4Address | None, int | None, IPv4Address, int, int]
"""Remote, its port, Nb, protocol, mark."""
_INNER_PLAIN: Final = "@th,64,8 0x45"
"""IPv4 without options."""


@dataclass(frozen=True, slots=True)
class Member:
    """A session that is attached to the hub."""

    number: int
    interface: str
    """Its end in the hub."""
    address: IPv4Address
    tunnel: int
    tuples: tuple[NarTuple, ...]

    @property
    def mark(self) -> int:
        """Of packets to it."""
        return constants.MARKS + self.number


def tunnel_mark(tunnel: int) -> int:
    """Of packets to a tunnel."""
    return constants.MARKS + constants.TUNNEL_NUMBERS + tunnel


def ruleset(members: Iterable[Member]) -> str:
    """Replaces the hub's table, atomically."""
    mine = list(members)
    table = constants.HUB_TABLE
    lines = [
        f"add table ip {table}",
        f"delete table ip {table}",
        f"table ip {table} {{",
        "  chain prerouting {",
        "    type filter hook prerouting priority raw; policy drop;",
        "    notrack",
        # Naming it brings the kernel to reassemble: later fragments have no ports.
        "    ct state != untracked drop",
        *(f"    {rule}" for rule in _rules(mine)),
        "    meta mark != 0 accept",
        "    counter drop",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _rules(members: list[Member]) -> Iterator[str]:
    out = [f'"{m.interface}" . {m.address} : {tunnel_mark(m.tunnel):#x}' for m in members]
    yield from _mark("", "iifname . ip saddr", out)
    tunnels = f'iifname "{constants.TUNNEL}*" '
    yield from _mark(
        tunnels + "meta l4proto { tcp, udp } ",
        "ip saddr . th sport . ip daddr . ip protocol . th dport",
        _ports(members),
    )
    for address in _addresses(members):
        for protocol in (NarProtocol.ESP, NarProtocol.AH):
            spis = _ranges(_owners(members, protocol, address))
            key = f"{protocol.name.lower()} spi"
            yield from _mark(f"{tunnels}ip daddr {address} ", key, spis)
    echo = "icmp type { echo-reply, echo-request } "
    yield from _between(members, NarProtocol.ICMP, tunnels + echo, "icmp id")
    plain = f"ip protocol {int(NarProtocol.IP_IP)} "
    yield from _between(members, NarProtocol.IP_IP, tunnels + plain, "@th,128,32")
    plain = f"ip protocol {int(NarProtocol.GRE)} @th,0,32 {_GRE_OF_IPV4:#x} "
    yield from _between(members, NarProtocol.GRE, tunnels + plain, "@th,160,32")
    yield from _errors(members, tunnels + f"icmp type {_ICMP_ERRORS} {_INNER_PLAIN} ")


def _between(members: list[Member], protocol: NarProtocol, head: str, key: str) -> Iterator[str]:
    for (remote, address), found in _by_ends(members, protocol).items():
        yield from _mark(f"{head}ip saddr {remote} ip daddr {address} ", key, found)


def _addresses(members: list[Member]) -> list[IPv4Address]:
    return sorted({one.address for member in members for one in member.tuples})


def _errors(members: list[Member], head: str) -> Iterator[str]:
    """About packets of ours: the header inside begins 8 octets behind ICMP's.

    Such values do not go into concatenations (libnftables 1.0.6), hence rules for each address.
    """
    for address in _addresses(members):
        here = head + f"ip daddr {address} "
        for protocol in NarProtocol:
            owners = _owners(members, protocol, address)
            about = f"{here}@th,136,8 {int(protocol)} "
            if protocol.has_ports:
                yield from _mark(about, "@th,224,16", _ranges(owners))
            elif protocol is NarProtocol.ICMP:
                yield from _mark(about, "@th,256,16", _ranges(owners))
            elif owners:
                # What inside names the owner was chosen by the other side: any of ours may be it.
                yield f"{about}meta mark set {next(iter(owners.values())):#x}"


def _owners(members: list[Member], protocol: NarProtocol, address: IPv4Address) -> dict[int, int]:
    """Marks by port, identifier and so on: who has it first."""
    found: dict[int, int] = {}
    for member in members:
        for one in member.tuples:
            if one.protocol is protocol and one.address == address:
                found.setdefault(one.value, member.mark)
    return found


def _ranges(owners: dict[int, int]) -> list[str]:
    by_mark: dict[int, list[int]] = {}
    for value, mark in owners.items():
        by_mark.setdefault(mark, []).append(value)
    return [
        f"{_range(first, last)} : {mark:#x}"
        for mark, values in by_mark.items()
        for first, last in _runs(sorted(values))
    ]


def _range(first: int, last: int) -> str:
    return f"{first}-{last}" if first != last else f"{first}"


def _by_ends(
    members: list[Member], protocol: NarProtocol
) -> dict[tuple[IPv4Address, IPv4Address], list[str]]:
    """Elements of tunnels by (remote, Nb)."""
    found: dict[tuple[IPv4Address, IPv4Address], dict[int, int]] = {}
    for member in members:
        for one in member.tuples:
            if one.protocol is protocol and one.remote is not None:
                ends = found.setdefault((one.remote, one.address), {})
                ends.setdefault(one.value, member.mark)
    return {
        ends: [f"{value:#x} : {mark:#x}" for value, mark in inner.items()]
        for ends, inner in found.items()
    }


def _mark(head: str, key: str, elements: list[str]) -> Iterator[str]:
    if elements:
        yield f"{head}meta mark set {key} map {{ {', '.join(elements)} }}"


def _ports(members: list[Member]) -> list[str]:
    """Elements for TCP and UDP: equal ones of ports in a row are one range."""
    kept: dict[tuple[int, IPv4Address, int], list[tuple[NarTuple, int]]] = {}
    for member in members:
        for one in sorted(member.tuples, key=_open_first):
            if not one.protocol.has_ports:
                continue
            there = kept.setdefault((int(one.protocol), one.address, one.value), [])
            if not any(_overlap(one, other) for other, _ in there):
                there.append((one, member.mark))
    rows: dict[_Row, list[int]] = {}
    for (protocol, address, port), found in kept.items():
        for one, mark in found:
            row = (one.remote, one.remote_port, address, protocol, mark)
            rows.setdefault(row, []).append(port)
    elements = []
    for (remote, remote_port, address, protocol, mark), ports in rows.items():
        who = f"{remote or _ANY_ADDRESS} . {_ANY_PORT if remote_port is None else remote_port}"
        for first, last in _runs(sorted(ports)):
            many = _range(first, last)
            elements.append(f"{who} . {address} . {protocol} . {many} : {mark:#x}")
    return elements


def _open_first(one: NarTuple) -> int:
    return (one.remote is not None) + (one.remote_port is not None)


def _overlap(one: NarTuple, other: NarTuple) -> bool:
    """Whether one packet could be both; the kernel takes no such pair of elements."""
    addresses = None in (one.remote, other.remote) or one.remote == other.remote
    ports = None in (one.remote_port, other.remote_port) or one.remote_port == other.remote_port
    return addresses and ports


def _runs(ports: list[int]) -> Iterator[tuple[int, int]]:
    first = last = ports[0]
    for port in ports[1:]:
        if port != last + 1:
            yield first, last
            first = port
        last = port
    yield first, last
