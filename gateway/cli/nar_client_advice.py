"""What was leased, as a table, and what to tell the programs that are to use it."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.nar import Delivery, NarProtocol
from gateway.nar_host import plan
from gateway.nar_host.held_lease import HeldLease
from gateway.nar_host.session import NarSession
from gateway.nar_host.status import lease_json

_HEADINGS: Final = ("PROTOCOL", "ADDRESS", "WHAT", "FROM", "DELIVERY", "INTERFACE")


def lease_table(session: NarSession, leases: Sequence[HeldLease]) -> str:
    """For people."""
    held = "as long as this runs"
    if session.lease_s is not None:
        held = f"for {session.lease_s} s at a time, renewed as long as this runs"
    lines = [f"Leased from {session.server}, {held} (session {session.number}):"]
    lines += _columns([_HEADINGS, *(_row(session, one) for one in leases)])
    for heading, words in advice(session, leases).items():
        lines += ["", f"{heading}:", *(f"  {line}" for line in words)]
    return "\n".join(lines)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Plainly: what draws tables for others would stay in memory as long as the lease."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(row).rstrip() for row in padded]


def _row(session: NarSession, held: HeldLease) -> list[str]:
    found = lease_json(held)
    what = next(f"{name} {found[name]}" for name in ("port", "id", "spi", "inner") if name in found)
    if held.tuple.protocol.has_ports and held.local_port != held.value:
        what += f" (here {held.local_port})"
    remote = str(found["remote"] or found["peer"] or "any")
    if found["remote_port"] is not None:
        remote += f":{found['remote_port']}"
    interface = "-"
    if session.delivery.end_to_end:
        interface = plan.host_end(session.number)
    protocol = str(found["protocol"]).upper()
    return [protocol, str(held.address), what, remote, session.delivery.value, interface]


def advice(session: NarSession, leases: Sequence[HeldLease]) -> dict[str, list[str]]:
    """Lines for configuration files and command lines, by what they are for."""
    spis = sorted(held.value for held in leases if held.tuple.protocol is NarProtocol.ESP)
    ah = sorted(held.value for held in leases if held.tuple.protocol is NarProtocol.AH)
    ports = sorted(held.local_port for held in leases if held.tuple.protocol.has_ports)
    found: dict[str, list[str]] = {}
    local = session.address if session.delivery.end_to_end else session.client_address
    if spis or ah:
        found |= _ipsec(session, local, spis or ah, ports)
        protocol, spi = ("esp", spis[0]) if spis else ("ah", ah[0])
        peer = leases[-1].lease.peer or "PEER"
        found["ip xfrm, incoming (outgoing: the peer's SPI, src and dst exchanged)"] = [
            f"ip xfrm state add src {peer} dst {local} proto {protocol} spi {spi:#010x} ..."
        ]
    elif ports:
        first = leases[0].tuple.protocol.name.lower()
        found["Programs"] = [f"bind {first} {local}:{_range(ports)}"]
    if session.delivery is Delivery.TRANSLATED and spis:
        found["Note"] = ["translated: ESP in tunnel mode only, no transport mode, no AH"]
    for held in leases:
        if held.tuple.protocol is NarProtocol.ICMP:
            found["ping"] = [f"ping -I {local} -e {held.value} {held.tuple.remote}"]
        elif held.tuple.protocol.is_tunnel:
            found["Tunnel"] = [_tunnel(held, local)]
    return found


def _ipsec(
    session: NarSession, local: IPv4Address | None, spis: Sequence[int], ports: Sequence[int]
) -> dict[str, list[str]]:
    lines = ["charon {"]
    if ports:
        lines.append(f"  port = {ports[0]}")
    lines += [f"  spi_min = {spis[0]:#010x}", f"  spi_max = {spis[-1]:#010x}"]
    if session.delivery.end_to_end:
        lines.append("  install_routes = no")
    lines.append("}")
    found = {
        "strongswan.conf": lines,
        "swanctl.conf, in the connection": [f"local_addrs = {local}", "mobike = no"],
    }
    if not ports:
        hint = "lease a UDP port for IKE as well: `gateway nar lease ike` does both at once"
        found["Note on IKE"] = [hint]
    return found


def _range(ports: Sequence[int]) -> str:
    return f"{ports[0]}-{ports[-1]}" if len(ports) > 1 else f"{ports[0]}"


def _tunnel(held: HeldLease, local: IPv4Address | None) -> str:
    kind = "ipip" if held.tuple.protocol is NarProtocol.IP_IP else "gre"
    inner = IPv4Address(held.value)
    return (
        f"ip tunnel add NAME mode {kind} local {local} remote {held.tuple.remote}; "
        f"ip address add {inner}/32 dev NAME"
    )
