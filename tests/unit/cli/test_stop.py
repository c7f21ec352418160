"""`gateway stop`: the difference between a stop and a restart, and the wait for the end."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from gateway.cli import exits, stop
from gateway.cli.stop import is_restarting, restarting, unit_of
from gateway.control.client import ControlUnavailableError

RESTART = "2310 gateway.service restart running\n"
STOP = "2310 gateway.service stop running\n"
OTHERS = "11 other.service restart running\n12 gateway-mn.service start waiting\n"


@pytest.mark.parametrize(
    ("jobs", "found"),
    [
        (RESTART, True),
        ("7 gateway.service start waiting\n", True),
        (OTHERS + RESTART, True),
        (STOP, False),
        (OTHERS, False),
        ("No jobs running.\n", False),
        ("", False),
        ("gateway.service\n\n", False),
    ],
)
def test_a_restart_is_known_by_the_jobs_of_the_unit(jobs: str, found: bool) -> None:
    assert restarting(jobs, "gateway.service") is found


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/gateway.service\n", "gateway.service"),
        ("0::/system.slice/system-gateway.slice/gateway@two.service/sub\n", "gateway@two.service"),
        ("0::/\n", "gateway.service"),
        ("", "gateway.service"),
    ],
)
def test_the_unit_is_that_of_our_control_group(cgroup: str, unit: str) -> None:
    assert unit_of(cgroup) == unit


def test_without_a_service_manager_nothing_restarts() -> None:
    def fails(_: Sequence[str]) -> str:
        raise AssertionError

    assert not is_restarting(fails, {})


def test_a_service_manager_that_does_not_answer_restarts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/system.slice/gateway.service\n")
    monkeypatch.setattr(stop, "CGROUP", cgroup)

    def late(_: Sequence[str]) -> str:
        raise subprocess.TimeoutExpired("systemctl", 5.0)

    assert not is_restarting(late, {"INVOCATION_ID": "1"})
    assert is_restarting(lambda _: RESTART, {"INVOCATION_ID": "1"})
    assert not is_restarting(lambda _: STOP, {"INVOCATION_ID": "1"})


class FakeClient:
    """A gateway that ends after some questions."""

    calls: list[str]
    left = 0

    def __init__(self, _path: Path) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def call(self, op: str) -> None:
        FakeClient.calls.append(op)
        if op == "health":
            FakeClient.left -= 1
            if FakeClient.left < 0:
                raise ControlUnavailableError("gone")


def test_it_waits_for_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stop, "ControlClient", FakeClient)
    monkeypatch.setattr(stop, "POLL_S", 0.0)
    FakeClient.calls, FakeClient.left = [], 3
    assert stop.stop(tmp_path) == exits.OK
    assert FakeClient.calls == ["stop", "health", "health", "health", "health"]
    monkeypatch.setattr(stop, "ENDS_S", 0.0)
    FakeClient.calls, FakeClient.left = [], 3
    assert stop.stop(tmp_path) == exits.FAILED


def test_a_restart_asks_nothing_of_the_gateway(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stop, "ControlClient", FakeClient)
    monkeypatch.setattr(stop, "is_restarting", lambda: True)
    FakeClient.calls = []
    assert stop.stop(tmp_path, unless_restarting=True) == exits.OK
    assert FakeClient.calls == []
