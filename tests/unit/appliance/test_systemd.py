import os
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.appliance.systemd import ServiceManager


@pytest.fixture
def listening(tmp_path: Path) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock, str(tmp_path / "notify")


def test_each_state_is_told(listening: Any) -> None:
    sock, path = listening
    manager = ServiceManager({"NOTIFY_SOCKET": path})
    manager.ready("2 connections")
    assert sock.recv(500) == b"READY=1\nSTATUS=2 connections"
    manager.reloading()
    first, second = sock.recv(500).split(b"\n")
    assert first == b"RELOADING=1"
    assert second.startswith(b"MONOTONIC_USEC=")
    manager.stopping("closing tunnels")
    assert sock.recv(500).startswith(b"STOPPING=1\n")
    manager.alive()
    assert sock.recv(500) == b"WATCHDOG=1"


def test_abstract_addresses_work() -> None:
    name = f"gateway-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(5)
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).ready("x")
        assert sock.recv(500).startswith(b"READY=1")


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    ServiceManager({}).ready("x")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_per_period(environment: Any, interval: Any) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": "/x", **environment})
    assert manager.watchdog_interval_s == interval
