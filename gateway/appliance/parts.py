"""Builds the parts of the core from the configuration. No logic beyond that."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gateway.config import to_policy
from gateway.config.document import Config
from gateway.config.loader import load
from gateway.dataplane.interface import Dataplane
from gateway.dataplane.kernel.dataplane import KernelDataplane
from gateway.dataplane.kernel.settings import DEFAULT_MTU, KernelSettings
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.transport import IkeSockets
from gateway.ike.v2.engine import IkeEngine


class Parts:
    """The parts of a gateway with the kernel's dataplane and IKEv2."""

    def load(self, path: Path) -> Config:
        """Read and check the configuration; raises :class:`gateway.config.ConfigError`."""
        return load(path)

    def connections(self, config: Config) -> Sequence[ConnectionPolicy]:
        """The connections of the configuration, with their credentials read."""
        return to_policy.connections(config)

    def sockets(self, config: Config) -> IkeSockets:
        """The bound IKE sockets; raises :class:`gateway.ike.transport.TransportError`."""
        ike = config.ike
        return IkeSockets(ike.listen, ike_port=ike.port, nat_port=ike.nat_port)

    def dataplane(self, config: Config) -> KernelDataplane:
        """A started dataplane; raises :class:`DataplaneUnavailableError`."""
        section = config.dataplane
        dataplane = KernelDataplane(
            KernelSettings(
                xfrm_interface=section.xfrm_interface,
                inner_networks=tuple(pool.network for pool in config.pools.values()),
                queue_number=section.queue,
                mtu=section.mtu or DEFAULT_MTU,
            )
        )
        dataplane.start()
        return dataplane

    def engine(self, config: Config, dataplane: Dataplane, *, debug: bool) -> IkeEngine:
        """An engine without any SA."""

        def last_inbound(spi_in: int) -> float | None:
            usage = dataplane.usage(spi_in)
            return usage.last_in_age_s if usage is not None else None

        engine = IkeEngine(
            to_policy.engine_settings(config),
            to_policy.connections(config),
            to_policy.pools(config),
            random=os.urandom,
            wall_clock=lambda: datetime.now(UTC),
            last_inbound=last_inbound,
        )
        engine.trace = debug
        return engine
