"""One NAR server that serves: its engine, its connections and its proxy."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Protocol

from gateway.appliance.nar.connections import Connections
from gateway.appliance.nar.dialing import is_own
from gateway.appliance.nar.proxy import Proxy
from gateway.appliance.nar.udp_relay import Resolving
from gateway.nar.policy import NarServerPolicy
from gateway.nar.service import NarEngine


class ServingEngine(NarEngine, Protocol):
    """With what it counts."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened, by names of events and refusals."""


class RunningServer:
    """Joined; no logic."""

    def __init__(
        self,
        policy: NarServerPolicy,
        engine: ServingEngine,
        resolver: Resolving,
        *,
        clock: Callable[[], float],
        touched: Callable[[], None],
    ) -> None:
        self.policy = policy
        self.engine = engine
        self.proxy = Proxy(
            engine,
            resolver,
            clock=clock,
            touched=touched,
            leased=self._leased,
            outside=self._outside,
        )
        self.connections = Connections(engine, clock=clock, touched=touched, gone=self.proxy.gone)

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self.policy.name

    def _leased(self, port: int) -> bool:
        return any(port in ports for ports in self.policy.ports)

    def _outside(self) -> IPv4Address | None:
        """The first address of ours that is on an interface: pools are only routed to us."""
        return next((one for one in self.policy.addresses if is_own(one)), None)

    def facts(self) -> dict[str, object]:
        """For a status page."""
        policy = self.policy
        return {
            "addresses": [str(one) for one in policy.addresses],
            "tunnel_address": str(policy.tunnel_address),
            "connections": len(self.connections),
            "relays": len(self.proxy),
            "counters": {
                **self.engine.counters,
                **self.connections.counters,
                **{f"proxy_{name}": value for name, value in self.proxy.counters.items()},
            },
        }

    def stop(self, why: str) -> None:
        """Close all connections; what waits to be sent still goes out if it can."""
        self.connections.close_all(why)
        self.proxy.stop()
