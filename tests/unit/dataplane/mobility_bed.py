"""Packets and parties of the mobility path's tests."""

import struct
from ipaddress import IPv4Address, IPv4Network

from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import Encapsulation, HomeNetwork, MobilityBinding, Tunnel, Visitor

HA = IPv4Address("192.0.2.1")
FA = IPv4Address("192.0.2.2")
COA = IPv4Address("198.51.100.7")
COA_2 = IPv4Address("198.51.100.8")
HOA = IPv4Address("10.0.0.5")
HOA_2 = IPv4Address("10.0.0.6")
PEER = IPv4Address("203.0.113.9")
ROUTER = IPv4Address("198.51.100.1")
FAR_HA = IPv4Address("203.0.113.1")
GUEST = IPv4Address("10.9.0.5")

HOME_LINK, VISITED_LINK, OUTSIDE_LINK = 3, 4, 5
HOME = HomeNetwork("home", IPv4Network("10.0.0.0/24"), "home0")
DEVICES = {"home0": HOME_LINK, "visited0": VISITED_LINK, "outside0": OUTSIDE_LINK}
SETTINGS = MobilitySettings(
    home_agents=(HA,),
    care_of_addresses=(FA,),
    home_networks=(HOME,),
    visited_interfaces=("visited0",),
)


def packet(
    payload: bytes = b"payload!",
    *,
    protocol: int = 253,
    source: IPv4Address = PEER,
    destination: IPv4Address = HOA,
    flags: int = 0,
    tos: int = 0,
    ttl: int = 63,
    identification: int = 0x1234,
) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        tos,
        20 + len(payload),
        identification,
        flags,
        ttl,
        protocol,
        0,
        source.packed,
        destination.packed,
    )
    return with_checksum(head) + payload


def ends_of(octets: bytes) -> tuple[IPv4Address, IPv4Address]:
    return IPv4Address(octets[12:16]), IPv4Address(octets[16:20])


def right(octets: bytes) -> bool:
    length = (octets[0] & 15) * 4
    return internet_checksum(octets[:length]) == 0 and len(octets) == int.from_bytes(
        octets[2:4], "big"
    )


def binding(
    *care_of: IPv4Address,
    encapsulation: Encapsulation = Encapsulation.IP_IP,
    udp_port: int = 0,
    address: IPv4Address = HOA,
    reverse: bool = True,
    co_located: bool = True,
    broadcasts: bool = False,
    limit: int = 1400,
    peer: IPv4Address | None = None,
    network: HomeNetwork = HOME,
) -> MobilityBinding:
    return MobilityBinding(
        HA,
        address,
        network,
        tuple(Tunnel(HA, one, encapsulation, udp_port) for one in care_of or (COA,)),
        co_located,
        reverse,
        broadcasts,
        limit,
        peer,
    )


def visitor(
    *,
    encapsulation: Encapsulation = Encapsulation.IP_IP,
    udp_port: int = 0,
    encapsulating: bool = False,
    limit: int = 1400,
) -> Visitor:
    return Visitor(
        GUEST,
        FAR_HA,
        Tunnel(FA, FAR_HA, encapsulation, udp_port),
        "visited0",
        bytes(6),
        encapsulating=encapsulating,
        max_packet_octets=limit,
    )
