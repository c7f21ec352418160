"""Which packets are one device's: addresses for the kernel's filter, the rest judged here.

Many devices may share an outer address behind a NAT: there the port counts, and of ESP the SPI.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from gateway.appliance.observation.device import Device, host_of

MAX_ADDRESSES: Final = 24
"""Of one device; the kernel's filter has 255 steps for a jump."""
_UDP, _TCP, _ESP, _IP_IP, _MINIMAL, _GRE = 17, 6, 50, 4, 55, 47
_ICMP, _ICMP6 = 1, 58
_FRAGMENT6: Final = 44
_NAT_PORT: Final = 4500
Address = IPv4Address | IPv6Address
Step = tuple[int, int, int, int]

# Classic BPF: load a word or octet at an offset, jump if equal, return.
_LOAD, _LOAD_OCTET, _EQUAL, _AND, _RETURN = 0x20, 0x30, 0x15, 0x54, 0x06
_ALL: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """What the packets of a device look like, now."""

    outer: frozenset[tuple[Address, int]]
    """Address and port; port 0 where none is known."""
    inner: frozenset[Address]
    """Inner addresses, home addresses, care-of addresses: all packets."""
    spis: frozenset[int]
    """Of its child SAs, both ways."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All of them, bounded."""
        found = dict.fromkeys([*(one for one, _ in self.outer), *self.inner])
        return tuple(found)[:MAX_ADDRESSES]

    def words(self) -> list[str]:
        """For people."""
        outer = [f"outer {one} port {port or 'any'}" for one, port in self.outer]
        inner = [f"inner {one}" for one in self.inner]
        return sorted(outer) + sorted(inner) + [f"SPI {spi:08x}" for spi in sorted(self.spis)]

    def matches(self, packet: bytes) -> bool:
        """Whether a packet, from its IP header on, is the device's."""
        found = _ends(packet)
        if found is None:
            return False
        source, destination, protocol, at = found
        if source in self.inner or destination in self.inner:
            return True
        for address, port in self.outer:
            if address in {source, destination} and self._is_outer(
                packet, protocol, at, port, from_device=address == source
            ):
                return True
        return False

    def _is_outer(
        self, packet: bytes, protocol: int, at: int, port: int, *, from_device: bool
    ) -> bool:
        if at < 0:
            return True  # a later fragment names no ports: it may be this device's
        rest = packet[at : at + 12]
        if protocol == _ESP:
            return len(rest) >= 4 and int.from_bytes(rest[:4], "big") in self.spis
        if protocol in {_UDP, _TCP}:
            if len(rest) < 4:
                return False
            ports = struct.unpack_from("!HH", rest)
            if port in {0, ports[0] if from_device else ports[1]}:
                return True
            if protocol == _UDP and _NAT_PORT in ports and len(rest) >= 12:
                return int.from_bytes(rest[8:12], "big") in self.spis
            return False
        return protocol in {_IP_IP, _MINIMAL, _GRE, _ICMP, _ICMP6}


def filter_of(device: Device) -> DeviceFilter:
    """What to look for."""
    outer: set[tuple[Address, int]] = set()
    inner: set[Address] = set()
    spis: set[int] = set()
    for session in device.sessions.values():
        _add_endpoint(outer, session.outer)
        inner |= _addresses(session.inner)
        for child in session.children.values():
            spis |= {child.spi_in, child.spi_out}
    for binding in device.bindings.values():
        inner |= _addresses([binding.home_address])
        for care_of in binding.care_of:
            found = _addresses([care_of])
            # The x-HA's care-of address is where its packets come from, with any port of ours.
            outer |= {(one, 0) for one in found if one not in inner}
    for visitor in device.visitors.values():
        inner |= _addresses([visitor.home_address])
    outer = {(one, port) for one, port in outer if one not in inner}
    return DeviceFilter(frozenset(outer), frozenset(inner), frozenset(spis))


def _add_endpoint(outer: set[tuple[Address, int]], endpoint: str) -> None:
    host = host_of(endpoint)
    port = endpoint.rpartition(":")[2] if host != endpoint else "0"
    for one in _addresses([host]):
        # Native ESP and IKE on port 500 come from one host alone; ESP is told by its SPI anyway.
        outer.add((one, int(port) if port.isdigit() else 0))


def _addresses(texts: "tuple[str, ...] | list[str]") -> set[Address]:
    found: set[Address] = set()
    for text in texts:
        try:
            found.add(ip_address(text))
        except ValueError:
            continue
    return found


def _ends(packet: bytes) -> tuple[Address, Address, int, int] | None:
    """Source, destination, protocol and where its header begins (-1: a later fragment)."""
    if len(packet) < 20:
        return None
    version = packet[0] >> 4
    if version == 4:
        header = (packet[0] & 15) * 4
        later = int.from_bytes(packet[6:8], "big") & 0x1FFF
        source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        return source, destination, packet[9], -1 if later else header
    if version == 6 and len(packet) >= 40:
        protocol, at = packet[6], 40
        if protocol == _FRAGMENT6 and len(packet) >= 48:
            later = int.from_bytes(packet[42:44], "big") >> 3
            protocol, at = packet[40], -1 if later else 48
        return IPv6Address(packet[8:24]), IPv6Address(packet[24:40]), protocol, at
    return None


def program(addresses: tuple[Address, ...]) -> list[Step]:
    """A classic BPF program that accepts packets from or to these addresses, and no others."""
    chunks: list[list[Step]] = []
    for address in addresses:
        version = address.version
        places = (12, 16) if version == 4 else (8, 24)
        for place in places:
            octets = address.packed
            words = [
                (int.from_bytes(octets[i : i + 4], "big"), place + i)
                for i in range(0, len(octets), 4)
            ]
            # Version first: octets of one version at the place of the other mean nothing.
            steps: list[Step] = [(_LOAD_OCTET, 0, 0, 0), (_AND, 0, 0, 0xF0)]
            checks: list[Step] = [(_EQUAL, 0, 0, version << 4)]
            for word, offset in words:
                checks += [(_LOAD, 0, 0, offset), (_EQUAL, 0, 0, word)]
            steps += checks
            steps.append((_RETURN, 0, 0, _ALL))
            end = len(steps)
            chunks.append(
                [
                    (code, jt, end - number - 1, k) if code == _EQUAL else (code, jt, jf, k)
                    for number, (code, jt, jf, k) in enumerate(steps)
                ]
            )
    return [step for chunk in chunks for step in chunk] + [(_RETURN, 0, 0, 0)]
