"""Connections that the gateway opens by itself: at its start, or when traffic wants them."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Literal, Protocol

from gateway.dataplane.interface import Dataplane
from gateway.domain.child_sa import ChildSa, Encryption, EspKeys, EspSuite, Integrity
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.ike.policy import ConnectionPolicy

Start = Literal["none", "trap", "start"]

_NO_KEYS = EspKeys(b"")
_ANY_SUITE = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False)


def with_local_addresses(
    connections: Sequence[ConnectionPolicy], listen: Sequence[IpAddress], port: int
) -> list[ConnectionPolicy]:
    """The connections, those that we open with the local address they will be opened from.

    That is the one the routes to the peer lead out of, as far as we listen there. NAT detection
    counts on it, so "any" will not do. Without a route yet, a connection stays as it is.
    """
    return [
        replace(connection, local=_local_endpoint(connection.remote, listen, port))
        if connection.remote is not None and connection.local is None
        else connection
        for connection in connections
    ]


def _local_endpoint(remote: Endpoint, listen: Sequence[IpAddress], port: int) -> Endpoint | None:
    version = remote.address.version
    ours = [address for address in listen if address.version == version]
    if not ours:
        return None
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(remote.address), remote.port))  # sends nothing
            routed = ip_address(probe.getsockname()[0])
        except OSError:
            routed = None
    if routed is not None and (routed in ours or any(a.is_unspecified for a in ours)):
        return Endpoint(routed, port)
    first = next((address for address in ours if not address.is_unspecified), None)
    return None if first is None else Endpoint(first, port)


class Opener(Protocol):
    """What is needed of :class:`gateway.ike.engine.IkeEngine`."""

    def initiate(self, connection: str, now: float) -> None:
        """Bring a connection up and keep it up."""

    def reserve_reqid(self, connection: str) -> int:
        """The reqid of a connection's trap policy."""


class Openings:
    """Keeps what is opened by itself in step with the configuration."""

    def __init__(self, engine: Opener, dataplane: Dataplane) -> None:
        self._engine = engine
        self._dataplane = dataplane
        self._started: set[str] = set()
        self._traps: dict[str, ChildSa] = {}

    def apply(
        self, connections: Sequence[ConnectionPolicy], starts: Mapping[str, Start], now: float
    ) -> None:
        """Open and trap what ``starts`` wants by name, give up the traps it no longer wants.

        A connection that was opened stays open: closing it is an administrator's command. The
        dataplane's work is queued, not committed.
        """
        wanted = {c.name: c for c in connections if c.remote is not None}
        traps = {
            name: self._trap(connection)
            for name, connection in wanted.items()
            if starts.get(name) == "trap" and connection.remote_ts
        }
        for name, trap in list(self._traps.items()):
            if traps.get(name) != trap:
                self._dataplane.untrap(trap.reqid)
                del self._traps[name]
        for name, trap in traps.items():
            if name not in self._traps:
                self._dataplane.trap(trap)
                self._traps[name] = trap
        opened = {name for name in wanted if starts.get(name) == "start"}
        for name in sorted(opened - self._started):
            self._engine.initiate(name, now)
        self._started = opened

    def _trap(self, connection: ConnectionPolicy) -> ChildSa:
        """Only reqid, selectors and outer addresses count, see :meth:`Dataplane.trap`."""
        remote = connection.remote
        if remote is None:
            raise ValueError(f"connection {connection.name} has no remote")
        anywhere = ip_address("0.0.0.0" if remote.address.version == 4 else "::")  # noqa: S104
        return ChildSa(
            spi_in=0,
            spi_out=0,
            reqid=self._engine.reserve_reqid(connection.name),
            suite=_ANY_SUITE,
            keys_in=_NO_KEYS,
            keys_out=_NO_KEYS,
            local=connection.local or Endpoint(anywhere, 0),
            remote=remote,
            udp_encapsulation=False,
            local_ts=connection.local_ts,
            remote_ts=connection.remote_ts,
        )
