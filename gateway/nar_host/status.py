"""A session as plain JSON values, for the control socket and for who asks with --json."""

from ipaddress import IPv4Address

from gateway.domain.nar import NarProtocol
from gateway.nar_host import plan
from gateway.nar_host.held_lease import HeldLease
from gateway.nar_host.record import Place
from gateway.nar_host.session import NarSession


def lease_json(held: HeldLease) -> dict[str, object]:
    """One lease."""
    one = held.tuple
    found: dict[str, object] = {
        "protocol": one.protocol.name.lower().replace("_", "-"),
        "address": str(one.address),
        _word(one.protocol): _shown(one.protocol, one.value),
        "remote": None if one.remote is None else str(one.remote),
        "remote_port": one.remote_port,
        "peer": None if held.lease.peer is None else str(held.lease.peer),
    }
    if one.protocol.has_ports:
        found["local_port"] = held.local_port
    return found


def session_json(session: NarSession) -> dict[str, object]:
    """All of a session."""
    record = session.attachment.record
    on_host = record.attached and record.place is Place.HOST
    return {
        "session": record.number,
        "pid": record.pid,
        "title": record.title,
        "server": record.server,
        "connected": session.connected,
        "client_address": str(session.client_address) if session.client_address else None,
        "address": str(session.address),
        "delivery": session.delivery.value,
        "interface": plan.host_end(record.number) if on_host else None,
        "mtu": None if record.tunnel is None else record.tunnel.mtu,
        "lease_s": session.lease_s,
        "leases": [lease_json(held) for held in session.leases],
    }


def _word(protocol: NarProtocol) -> str:
    if protocol.has_ports:
        return "port"
    if protocol.is_tunnel:
        return "inner"
    return "id" if protocol is NarProtocol.ICMP else "spi"


def _shown(protocol: NarProtocol, value: int) -> object:

    if protocol.is_tunnel:
        return str(IPv4Address(value))
    return f"{value:#010x}" if _word(protocol) == "spi" else value
