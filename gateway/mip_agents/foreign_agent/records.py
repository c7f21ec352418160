"""What the next process must know of a foreign agent: its visitors, and what it has advertised.

A visitor's record holds what its registration granted; where it is, and by which tunnel. With a
sequence number that went back to 0 mobile nodes would believe that they are forgotten (RFC 5944
section 2.3.2), so that is written down too, now and then, and goes on a little further up.
"""

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import Encapsulation, Tunnel
from gateway.domain.wire import WireError
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry
from gateway.mip_agents.outputs import Link
from gateway.mip_agents.policy import INFINITE_LIFETIME_S, ForeignAgentPolicy

VERSION: Final = 1
SEQUENCES: Final = 32
"""Advertisements for each record of the sequence number."""
_BY_PROTOCOL: Final = {one.protocol: one for one in Encapsulation}
_LARGEST: Final = 65_536


@dataclass(frozen=True, slots=True)
class Advertised:
    """A sequence number that was advertised, at most :data:`SEQUENCES` ago."""

    sequence: int


def key(agent: str, entry: VisitorEntry) -> str:
    """The name of a visitor's record."""
    return f"foreign-agent/{agent}/{entry.home_agent}/{entry.home_address}"


def sequence_key(agent: str) -> str:
    """The name of the record of the sequence number."""
    return f"foreign-agent/{agent}/advertised"


def write_sequence(sequence: int) -> bytes:
    """The record of the sequence number."""
    return _packed({"sequence": sequence})


def write(entry: VisitorEntry) -> bytes:
    """The record of a visitor. Times are the wall clock's."""
    tunnel, remote, link = entry.tunnel, entry.remote, entry.link
    return _packed(
        {
            "home_agent": str(entry.home_agent),
            "home_address": str(entry.home_address),
            "care_of": str(entry.care_of_address),
            "nai": entry.nai,
            "party": entry.party.hex(),
            "link": [link.interface, link.address.hex()],
            "remote": [str(remote.address), remote.port],
            "tunnel": [
                str(tunnel.local),
                str(tunnel.remote),
                tunnel.encapsulation.protocol,
                tunnel.udp_port,
            ],
            "reverse": entry.reverse,
            "encapsulating": entry.encapsulating,
            "co_located": entry.co_located,
            "lifetime_s": entry.lifetime_s,
            "granted_at": entry.granted_at,
            "code": entry.code,
            "spi": entry.association.spi if entry.association is not None else 0,
            "through_vpn": entry.through_vpn,
            "peer": entry.peer,
            "revocable": entry.revocable,
            "inform": entry.inform,
            "peer_timestamp": entry.peer_timestamp,
            "keepalive_s": entry.keepalive_s,
            "registrations": entry.registrations,
            "nar_server": entry.nar_server,
        }
    )


def _packed(document: dict[str, object]) -> bytes:
    return bytes([VERSION]) + json.dumps(document, separators=(",", ":")).encode()


def read(octets: bytes, policy: ForeignAgentPolicy) -> VisitorEntry | Advertised:
    """Read a record, whatever it is of.

    Raises:
        WireError: it is no record of this version, or broken.
    """
    if octets[:1] != bytes([VERSION]) or len(octets) > _LARGEST:
        raise WireError("no record of this version")
    try:
        found: dict[str, Any] = json.loads(octets[1:])
        if "sequence" in found:
            return Advertised(int(found["sequence"]) & 0xFFFF)
        return _entry(found, policy)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WireError(f"a record that cannot be: {error!r}") from None


def _entry(found: dict[str, Any], policy: ForeignAgentPolicy) -> VisitorEntry:
    interface, link_address = found["link"]
    host, port = found["remote"]
    local, remote, protocol, udp_port = found["tunnel"]
    return VisitorEntry(
        IPv4Address(found["home_agent"]),
        IPv4Address(found["home_address"]),
        IPv4Address(found["care_of"]),
        str(found["nai"]),
        bytes.fromhex(found["party"]),
        Link(str(interface), bytes.fromhex(link_address)),
        Endpoint(ip_address(host), int(port)),
        Tunnel(IPv4Address(local), IPv4Address(remote), _BY_PROTOCOL[int(protocol)], int(udp_port)),
        bool(found["reverse"]),
        bool(found["encapsulating"]),
        bool(found["co_located"]),
        min(max(int(found["lifetime_s"]), 0), INFINITE_LIFETIME_S),
        float(found["granted_at"]),
        int(found["code"]),
        policy.visitor_associations.get(int(found["spi"])),
        policy.max_packet_octets,
        bool(found["through_vpn"]),
        str(found["peer"]),
        bool(found["revocable"]),
        bool(found["inform"]),
        int(found["peer_timestamp"]) & 0xFFFF_FFFF,
        int(found["keepalive_s"]),
        int(found["registrations"]),
        nar_server=str(found["nar_server"]),
    )
