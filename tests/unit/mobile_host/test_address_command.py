"""The profile's DHCP command: once for each link that needs it, bounded, and ended."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from gateway.domain.event import Event
from gateway.mobile_host.address_command import AddressCommand
from gateway.mobile_node.inputs import LinkState

BARE = LinkState("eth7", carrier=True)
READY = LinkState("eth7", carrier=True, address=IPv4Interface("192.0.2.5/24"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def run(
    argv: list[str],
    test: Callable[[AddressCommand], Awaitable[None]],
    *,
    longest_s: float = 15.0,
    pause_s: float = 0.01,
) -> tuple[AddressCommand, list[Event]]:
    events: list[Event] = []

    async def go() -> AddressCommand:
        command = AddressCommand(argv, events.append, longest_s=longest_s, pause_s=pause_s)
        await test(command)
        await command.stop()
        return command

    return asyncio.run(go()), events


def test_it_runs_for_a_link_without_an_address(tmp_path: Path) -> None:
    shell = ["/bin/sh", "-c", f"echo $0 >> {tmp_path}/runs", "{interface}"]

    async def test(command: AddressCommand) -> None:
        command.links([BARE, LinkState("eth8", carrier=False)])
        await until((tmp_path / "runs").exists)
        command.links([READY])

    run(shell, test)
    assert set((tmp_path / "runs").read_text().split()) == {"eth7"}


def test_a_link_with_an_address_needs_none() -> None:
    async def test(command: AddressCommand) -> None:
        command.links([READY])
        await asyncio.sleep(0)

    command, _ = run(["/bin/false"], test)
    assert command.counters["runs"] == 0


def test_it_ends_when_the_address_is_there(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    shell = ["/bin/sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 100"]

    async def test(command: AddressCommand) -> None:
        command.links([BARE])
        await until(pid.exists)
        command.links([READY])
        await until(lambda: not alive(int(pid.read_text())))

    run(shell, test)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_stop_ends_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    shell = ["/bin/sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 100"]

    async def test(command: AddressCommand) -> None:
        command.links([BARE])
        await until(pid.exists)

    run(shell, test)
    assert not alive(int(pid.read_text()))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/bin/sh", "-c", "exit 3"], "status 3"),
        (["/no/such/program"], "/no/such/program"),
        (["/bin/sh", "-c", "exec sleep 100"], "still ran"),
    ],
)
def test_failures_are_told(argv: list[str], words: str) -> None:
    events: list[Event] = []

    async def go() -> None:
        command = AddressCommand(argv, events.append, longest_s=0.3, pause_s=100.0)
        command.links([BARE])
        await until(lambda: events)
        await command.stop()

    asyncio.run(go())
    assert events[0].name == "dhcp_command_failed"
    assert words in events[0].text
    assert "eth7" in events[0].text


def test_one_at_a_time_for_a_link(tmp_path: Path) -> None:
    async def test(command: AddressCommand) -> None:
        for _ in range(5):
            command.links([BARE])
        await until(lambda: command.counters["runs"])

    command, _ = run(["/bin/sh", "-c", "exec sleep 100"], test)
    assert command.counters["runs"] == 1
