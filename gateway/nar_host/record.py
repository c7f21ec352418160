"""What one session needs of this host, as it is written down for the other sessions.

Everything in the kernel follows from the records of those who live; see
:mod:`gateway.nar_host.plan`.
"""

import enum
import json
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, Final

from gateway.domain.nar import Delivery, L2tpSession, NarProtocol, NarTuple

MAX_OCTETS: Final = 4 * 1024 * 1024
VERSION: Final = 1


class Place(enum.Enum):
    """Where a session's address is."""

    HOST = "host"
    """On an interface of this host."""
    COMMAND = "command"
    """In the network namespace of a command."""
    NOWHERE = "nowhere"
    """Translated: packets keep the host's own address."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel between this host and a server. Sessions with an equal one share the device."""

    delivery: Delivery
    local: IPv4Address
    """Xa."""
    remote: IPv4Address
    """Na."""
    mtu: int
    """Of packets inside, octets."""
    l2tp: L2tpSession | None = None

    def joins(self, other: "Tunnel") -> bool:
        """Whether both are one device; the path's MTU may have been another one at the time."""
        return replace(self, mtu=other.mtu) == other


@dataclass(frozen=True, slots=True)
class Record:
    """One session."""

    number: int
    """On this host; lowest free one."""
    pid: int
    title: str
    """What the user asked for, in words."""
    server: str
    place: Place
    address: IPv4Address | None = None
    """Nb; None before the server named one."""
    tunnel: Tunnel | None = None
    tuples: tuple[NarTuple, ...] = ()
    slot: int = 0
    """Number of the tunnel's device; sessions with one tunnel have one slot."""
    table: int = 0
    """On the host: the route table for packets of the address."""
    hub: int = -1
    """A descriptor of the process that keeps the hub's network namespace; -1: none."""
    apart: bool = False
    """Whether hub and tunnel are for this session alone: a forwarder of its own serves it."""

    @property
    def attached(self) -> bool:
        """Whether it needs the hub."""
        return self.tunnel is not None and self.address is not None

    def without_network(self) -> "Record":
        """The same before anything was agreed."""
        return replace(self, address=None, tunnel=None, tuples=(), slot=0, table=0)

    def to_json(self) -> bytes:
        """For :meth:`parse`."""
        tunnel = None
        if self.tunnel is not None:
            tunnel = {
                "delivery": self.tunnel.delivery.value,
                "local": str(self.tunnel.local),
                "remote": str(self.tunnel.remote),
                "mtu": self.tunnel.mtu,
                "l2tp": _l2tp_json(self.tunnel.l2tp),
            }
        return json.dumps(
            {
                "version": VERSION,
                "number": self.number,
                "pid": self.pid,
                "title": self.title,
                "server": self.server,
                "place": self.place.value,
                "address": None if self.address is None else str(self.address),
                "tunnel": tunnel,
                "tuples": [_tuple_json(one) for one in self.tuples],
                "slot": self.slot,
                "table": self.table,
                "hub": self.hub,
                "apart": self.apart,
            }
        ).encode()

    @classmethod
    def parse(cls, octets: bytes) -> "Record":
        """Raises ValueError when it is not one of ours."""
        try:
            found = json.loads(octets)
            if found["version"] != VERSION:
                raise ValueError("written by another version")
            address, tunnel = found["address"], found["tunnel"]
            return cls(
                int(found["number"]),
                int(found["pid"]),
                str(found["title"]),
                str(found["server"]),
                Place(found["place"]),
                None if address is None else IPv4Address(address),
                None if tunnel is None else _tunnel(tunnel),
                tuple(_tuple(one) for one in found["tuples"]),
                int(found["slot"]),
                int(found["table"]),
                int(found["hub"]),
                bool(found.get("apart", False)),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a record: {type(error).__name__}") from None


def _tunnel(found: dict[str, Any]) -> Tunnel:
    return Tunnel(
        Delivery(found["delivery"]),
        IPv4Address(found["local"]),
        IPv4Address(found["remote"]),
        int(found["mtu"]),
        _l2tp(found["l2tp"]),
    )


def _l2tp_json(session: L2tpSession | None) -> dict[str, object] | None:
    if session is None:
        return None
    return {
        "client": str(session.client),
        "tunnel_id": session.tunnel_id,
        "peer_tunnel_id": session.peer_tunnel_id,
        "session_id": session.session_id,
        "peer_session_id": session.peer_session_id,
        "cookie": session.cookie.hex(),
        "peer_cookie": session.peer_cookie.hex(),
    }


def _l2tp(found: dict[str, Any] | None) -> L2tpSession | None:
    if found is None:
        return None
    return L2tpSession(
        IPv4Address(found["client"]),
        int(found["tunnel_id"]),
        int(found["peer_tunnel_id"]),
        int(found["session_id"]),
        int(found["peer_session_id"]),
        bytes.fromhex(found["cookie"]),
        bytes.fromhex(found["peer_cookie"]),
    )


def _tuple_json(one: NarTuple) -> list[object]:
    remote = None if one.remote is None else str(one.remote)
    return [int(one.protocol), str(one.address), one.value, remote, one.remote_port]


def _tuple(found: list[Any]) -> NarTuple:
    protocol, address, value, remote, remote_port = found
    return NarTuple(
        NarProtocol(protocol),
        IPv4Address(address),
        int(value),
        None if remote is None else IPv4Address(remote),
        None if remote_port is None else int(remote_port),
    )
