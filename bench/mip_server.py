"""A home agent behind real sockets, as the appliance joins it: `python -m bench.mip_server`.

With `--kernel` its bindings go into the kernel of this network namespace, otherwise nowhere.
Says `ready` when it serves, and after each line on its standard input how many bindings it has,
how many the kernel refused, and the processor time it has used.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from ipaddress import IPv4Address
from pathlib import Path

from bench.mip_nodes import HOME_AGENT, NETWORK, policy
from gateway.appliance.mip_sockets import MipSockets
from gateway.appliance.mobility_service import MobilityService
from gateway.dataplane.mobility import MobilityDataplane, MobilityRefusal, MobilitySettings
from gateway.domain.mobility import MobilityBinding, Visitor
from gateway.lab.mobility.load import Fleet
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.store.database import Store, StoreSettings
from gateway.store.sessions import SessionStore


class NoKernel:
    """A dataplane that agrees to everything."""

    def set_binding(self, binding: MobilityBinding) -> None:
        """Nothing."""

    def remove_binding(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """Nothing."""

    def set_visitor(self, visitor: Visitor) -> None:
        """Nothing."""

    def remove_visitor(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """Nothing."""

    def reconfigure(self, settings: MobilitySettings) -> None:
        """Nothing."""

    def commit(self) -> list[MobilityRefusal]:
        """Nothing was refused."""
        return []

    def counters(self) -> dict[str, int]:
        """Nothing was counted."""
        return {}

    def adopt(self) -> list[MobilityRefusal]:
        """There was nothing before."""
        return []

    def close(self, *, keep: bool = False) -> None:
        """Nothing to close."""


def _kernel() -> MobilityDataplane:
    from gateway.dataplane.kernel.mobility.dataplane import KernelMobility

    dataplane = KernelMobility(
        MobilitySettings(home_agents=(HOME_AGENT,), home_networks=(NETWORK,))
    )
    dataplane.start()
    return dataplane


async def serve(fleet: Fleet, dataplane: MobilityDataplane) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    refused = 0

    with tempfile.TemporaryDirectory() as folder:
        agent = HomeAgent(policy(fleet), random=os.urandom, wall_clock=time.time)
        store = Store(StoreSettings(Path(folder)), lambda _event: None)
        store.open()
        sessions = SessionStore(store, Path(folder) / "run", lambda _event: None)
        sessions.open()
        sessions.start()
        sockets = MipSockets()
        service = MobilityService(
            (agent,),
            (),
            dataplane,
            sockets=sockets,
            links={},
            records=sessions,
            clock=loop.time,
            call_at=loop.call_at,
            emit=lambda _event: None,
        )
        sockets.start(loop, service.receive)
        lines = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        print("ready", flush=True)
        while await lines.readline():
            refused = service.counters["refusals"]
            print(len(agent.bindings()), refused, time.process_time(), flush=True)
        await sessions.stop()
        store.close()
        dataplane.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--kernel", action="store_true")
    given = parser.parse_args()
    asyncio.run(serve(Fleet(HOME_AGENT, given.count), _kernel() if given.kernel else NoKernel()))
