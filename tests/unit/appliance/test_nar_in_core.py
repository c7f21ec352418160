"""A gateway with NAR servers: order of start and stop, reload, and what status and IKE see."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kept_state import KeptState
from nar_fakes import World, tcp
from test_core import Bed, FakeParts, bed

from gateway.appliance.nar.composition import Nar
from gateway.appliance.nar.listener import NarListenDeniedError, NarListenError
from gateway.appliance.start import EXIT_NO_PERMISSION, EXIT_OS_ERROR, status_of

__all__ = ["bed"]


class PartsWithNar(FakeParts):
    """The composition is real, its engine and its dataplane are not."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.world = World(folder)
        self.made.spis = {7}
        self.made.has_child_spi = self.made.spis.__contains__

    def nar(self, config: Any) -> Any:
        return self.world.planner

    def taken_over(self, config: Any, administration: Any, emit: Any) -> Any:
        self.state = KeptState(self.world.folder, emit)
        return self.state.taken

    def nar_servers(
        self, planner: Any, *, ask_user: Any, spi_in_use: Any, emit: Any, taken: Any
    ) -> Any:
        class Makers:
            engine = staticmethod(self.world.engine)
            dataplane = staticmethod(self.world.make_dataplane)

        self.world.nar = Nar(
            planner,
            Makers(),
            ask_user=ask_user,
            spi_in_use=spi_in_use,
            emit=emit,
            taken=taken,
            addresses=lambda: self.world.addresses,
        )
        return self.world.nar


@pytest.fixture
def served(bed: Bed) -> Bed:
    bed.parts = PartsWithNar(bed.folder)
    return bed


def test_a_gateway_with_nar_servers_starts_serves_and_stops(served: Bed) -> None:
    world = served.parts.world

    async def scenario() -> None:
        async with served.running():
            started = next(line for line in served.log() if line["event"] == "started")
            assert started["text"].endswith("; NAR server soho")
            assert ("adopt",) in world.dataplane.journal
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"\1x")
            assert await reader.readexactly(2) == b"\1x"
            key = world.soho.lease(20010)
            world.nar.flush(0.0)
            status: Any = await served.client.call("status")
            assert status["nar"]["leases"] == 1
            assert status["nar"]["servers"]["soho"]["connections"] == 1
            taken = served.parts.made.spi_taken
            assert taken(0x4000_0000)
            assert not taken(0xC000_0000)
            assert world.soho.occupied(50, key.address, 7)
            assert not world.soho.occupied(50, key.address, 8)
            assert not world.soho.called("stopping")
            writer.close()
        assert world.soho.called("stopping")
        assert world.dataplane.journal[-1] == ("close", True)
        assert not served.has("stop_failed")
        faults = [one for one in served.log() if one["event"] == "internal_fault"]
        assert faults == []

    asyncio.run(scenario())


def test_reload_reaches_the_servers(served: Bed) -> None:
    world = served.parts.world

    async def scenario() -> None:
        async with served.running():
            await served.client.call("reload")
            assert world.soho.called("reconfigure") == []
            (soho,) = world.servers
            world.servers = [replace(soho, policy=replace(soho.policy, lease_s=60.0))]
            await served.client.call("reload")
            ((_, policy),) = world.soho.called("reconfigure")
            assert policy.lease_s == 60.0

    asyncio.run(scenario())


def test_the_next_process_goes_on_where_this_one_ended(served: Bed) -> None:
    async def scenario() -> None:
        world = served.parts.world
        async with served.running():
            world.soho.lease(20010)
            world.nar.flush(0.0)
        served.stream.seek(0)
        served.stream.truncate()
        served.parts = PartsWithNar(served.folder)
        async with served.running():
            assert set(served.parts.world.nar._service.held) == {tcp(20010)}

    asyncio.run(scenario())


def test_ports_that_cannot_be_had_have_their_exit_status() -> None:
    taken = NarListenError("nar.soho: TCP port 1080 of 10.0.0.1 is in use")
    assert status_of(taken) == (EXIT_OS_ERROR, str(taken))
    denied = NarListenDeniedError("nar.soho: TCP port 1080 needs CAP_NET_BIND_SERVICE")
    assert status_of(denied) == (EXIT_NO_PERMISSION, str(denied))
