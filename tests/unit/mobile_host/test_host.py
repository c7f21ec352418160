"""The life of a mobile node: what comes first, what comes last, and what a failure leaves."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from mobile_host_fakes import FakeNodeDataplane, FakeNodeEngine

from gateway.config.problem import ConfigError, Problem
from gateway.config.profile import NetworkPart, ProcessPart, Profile
from gateway.control.server import SocketInUseError
from gateway.domain.event import Event
from gateway.domain.log import configure
from gateway.mobile_host import host as host_module
from gateway.mobile_host.host import Host
from gateway.mobile_host.parts import HostParts
from gateway.mobile_host.start import EXIT_NO_PERMISSION, EXIT_OS_ERROR, status_of
from gateway.mobile_node.inputs import LinkState

LINKS = [LinkState("eth0", carrier=True), LinkState("eth1", carrier=False)]


class Piped:
    """Something with a descriptor."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def fileno(self) -> int:
        return self.reading

    def close_pipe(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class Dataplane(FakeNodeDataplane):
    def __init__(self, told: list[str]) -> None:
        super().__init__(told)
        self.pipe = Piped()

    def hold_fd(self) -> int:
        return self.pipe.fileno()


class Links(Piped):
    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self.told = told
        self.states = LINKS

    def start(self) -> list[LinkState]:
        self.told.append("links")
        return LINKS

    def read(self) -> list[LinkState] | None:
        os.read(self.reading, 1)
        return [LINKS[0]]

    def refresh(self) -> list[LinkState]:
        return LINKS

    def index(self, interface: str) -> int:
        return 2

    def close(self) -> None:
        self.told.append("links closed")


class Vpn:
    def __init__(self, told: list[str]) -> None:
        self.told = told

    def use(self, policy: object, tcp_ports: object = ()) -> None: ...

    def start(self) -> None:
        self.told.append("vpn started")

    async def farewell(self) -> None:
        self.told.append("vpn farewell")

    def stop(self) -> None:
        self.told.append("vpn stopped")


class Signalling:
    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.links: set[str] = set()

    def use_links(self, indices: dict[str, int]) -> dict[str, OSError]:
        self.links = set(indices)
        return {}

    def close(self) -> None:
        self.told.append("signalling closed")


class Parts:
    def __init__(self, root: Path) -> None:
        self.told: list[str] = []
        self.made = Dataplane(self.told)
        self.monitor = Links(self.told)
        self.node = FakeNodeEngine()
        self.sockets = Signalling(self.told)
        self.left = False
        self.vpn_error: OSError | None = None
        self.wanted: Profile | ConfigError = profile(root)

    def load(self, path: Path) -> Profile:
        self.told.append("load")
        if isinstance(self.wanted, ConfigError):
            raise self.wanted
        return self.wanted

    def switch_left(self) -> bool:
        return self.left

    def dataplane(self, profile: object, settings: object) -> Dataplane:
        return self.made

    chosen = "kernel: as configured"

    def links(self, emit: Callable[[Event], None], domain_of: object) -> Links:
        return self.monitor

    def engine(self, policy: object, user_packets: object) -> FakeNodeEngine:
        return self.node

    def vpn(self, *_: object, debug: bool) -> Vpn:
        if self.vpn_error is not None:
            raise self.vpn_error
        return Vpn(self.told)

    def signalling(self, receiver: object) -> Signalling:
        self.told.append("signalling")
        return self.sockets


def profile(root: Path, **process: object) -> Profile:
    part = ProcessPart.model_validate(
        {"state_dir": str(root / "state"), "runtime_dir": str(root / "run"), **process},
        context={"directory": root},
    )
    return Profile(profile=part, network=NetworkPart(dns="off"))


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    made = Parts(tmp_path)

    def drops(keep: frozenset[int]) -> frozenset[int]:
        made.told.append("privileges dropped")
        return keep

    monkeypatch.setattr(host_module, "drop_capabilities", drops)
    monkeypatch.setattr(host_module, "no_new_privileges", lambda: None)
    monkeypatch.setattr(host_module, "not_dumpable", lambda: None)
    return made


def run(
    parts: Parts, root: Path, test: Callable[[Host], object] | None = None, **process: object
) -> None:
    async def go() -> None:
        log = configure(level="error")
        host = Host(
            profile(root, **process),
            cast("HostParts", parts),
            log=log,
            configure_log=lambda _: log,
            root=root,
        )
        running = asyncio.ensure_future(host.run())
        while True:
            if running.done() or "vpn started" in parts.told:
                break
            await asyncio.sleep(0.001)
        if not running.done():
            if test is not None:
                waited = test(host)
                if asyncio.iscoroutine(waited):
                    await waited
            host._stop.set()
        await running

    asyncio.run(go())


def test_the_switch_is_closed_first_and_opened_last(parts: Parts, tmp_path: Path) -> None:
    run(parts, tmp_path)
    assert parts.told == [
        "open",
        "links",
        "signalling",
        "privileges dropped",
        "vpn started",
        "vpn farewell",
        "signalling closed",
        "vpn stopped",
        "links closed",
        "close for good",
    ]
    assert parts.node.inputs[0] == ("links", ("eth0", "eth1"))
    assert parts.node.inputs[-1] == ("close",)
    assert parts.sockets.links == {"eth0"}
    assert not (tmp_path / "run/control.sock").exists()


def test_the_profile_may_keep_the_switch_closed(parts: Parts, tmp_path: Path) -> None:
    run(parts, tmp_path, kill_switch="always")
    assert parts.told[-1] == "close keeping the switch"


@pytest.mark.parametrize("left", [True, False])
def test_a_start_that_fails_leaves_the_switch_as_it_was(
    parts: Parts, tmp_path: Path, left: bool
) -> None:
    parts.left, parts.vpn_error = left, OSError(98, "Address already in use")
    with pytest.raises(OSError, match="in use"):
        run(parts, tmp_path)
    assert parts.told[-1] == ("close keeping the switch" if left else "close for good")


def test_a_second_node_is_refused_before_it_touches_anything(parts: Parts, tmp_path: Path) -> None:
    async def second(_host: Host) -> None:
        log = configure(level="error")
        other = Host(
            profile(tmp_path), cast("HostParts", parts), log=log, configure_log=lambda _: log
        )
        with pytest.raises(SocketInUseError):
            await other.run()

    run(parts, tmp_path, second)
    assert parts.told.count("open") == 1


def test_a_change_of_links_reaches_the_engine(parts: Parts, tmp_path: Path) -> None:
    async def changes(_host: Host) -> None:
        os.write(parts.monitor.writing, b"x")
        async with asyncio.timeout(10):
            while True:
                if ("links", ("eth0",)) in parts.node.inputs:
                    return
                await asyncio.sleep(0.001)

    run(parts, tmp_path, changes)


@pytest.mark.parametrize(("slept_s", "asked"), [(60.0, "doubt"), (3600.0, "reconnect")])
def test_after_a_sleep_nothing_is_proven(
    parts: Parts, tmp_path: Path, slept_s: float, asked: str
) -> None:
    run(parts, tmp_path, lambda host: host._node.slept(slept_s))
    assert "forbid None" in parts.told
    assert (asked,) in parts.node.inputs


def test_a_switch_that_cannot_be_put_back_is_tried_again(parts: Parts, tmp_path: Path) -> None:
    tries: list[int] = []

    def fails() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(12, "no memory")
        parts.made.restored += 1
        return 0

    async def removed(host: Host) -> None:
        parts.made.read_held = fails  # type: ignore[method-assign]
        host._node.held_readable()
        async with asyncio.timeout(10):
            while True:
                if parts.made.restored:
                    return
                await asyncio.sleep(0.001)

    run(parts, tmp_path, removed)
    assert len(tries) == 3


def test_links_that_cannot_be_read_end_every_permit(parts: Parts, tmp_path: Path) -> None:
    def unreadable(host: Host) -> None:
        def fails() -> None:
            raise OSError(105, "no buffer space")

        host._node._read_links(fails)

    run(parts, tmp_path, unreadable)
    assert "forbid None" in parts.told


def test_a_reload_reaches_every_part_and_a_wrong_profile_none(parts: Parts, tmp_path: Path) -> None:
    async def reloads(host: Host) -> None:
        parts.wanted = ConfigError([Problem(tmp_path, "gateway", "is wrong", None)])
        await host._reload()
        assert "reconfigure" not in parts.told
        parts.wanted = profile(tmp_path, name="other")
        await host._reload()

    run(parts, tmp_path, reloads)
    assert "reconfigure" in parts.told
    (policy,) = [one[1] for one in parts.node.inputs if one[0] == "reconfigure"]
    assert policy.name == "other"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PermissionError(1, "Operation not permitted"), EXIT_NO_PERMISSION),
        (OSError(98, "Address already in use"), EXIT_OS_ERROR),
        (SocketInUseError("another answers"), EXIT_OS_ERROR),
    ],
)
def test_exit_statuses(error: Exception, status: int) -> None:
    found = status_of(error)
    assert found is not None
    assert found[0] == status


def test_a_fault_of_ours_has_no_status() -> None:
    assert status_of(RuntimeError()) is None
