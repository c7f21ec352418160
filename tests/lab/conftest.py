"""Fixtures of the lab tests: the topology, the certificates, peers that end with the test."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from gateway.lab.libreswan import Libreswan
from gateway.lab.pki import Authority
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

# Ended by a signal, pytest still runs the fixtures' ends, which take the topology down.
signal.signal(signal.SIGTERM, signal.default_int_handler)

StartStrongSwan = Callable[..., StrongSwan]
StartLibreswan = Callable[..., Libreswan]


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A fresh topology; whatever the test leaves in it goes with it."""
    lab = Lab(f"t{os.getpid()}-")
    lab.up(fresh=True)
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA that both sides trust."""
    return Authority()


@pytest.fixture
def strongswan(lab: Lab) -> Iterator[StartStrongSwan]:
    """`strongswan(host, **options)` starts a charon there; a failing test shows its log."""
    started: list[StrongSwan] = []

    def start(host: str, **options: object) -> StrongSwan:
        peer = StrongSwan(lab, host, **options)  # type: ignore[arg-type]
        started.append(peer)
        peer.start()
        return peer

    yield start
    for peer in started:
        print(f"--- charon on {peer._host}\n{peer.log()[-6000:]}")
        peer.stop()


@pytest.fixture
def libreswan(lab: Lab) -> Iterator[StartLibreswan]:
    """`libreswan(host)` starts a pluto there; a failing test shows its log."""
    started: list[Libreswan] = []

    def start(host: str) -> Libreswan:
        peer = Libreswan(lab, host)
        started.append(peer)
        peer.start()
        return peer

    yield start
    for peer in started:
        print(f"--- pluto on {peer._host}\n{peer.log()[-6000:]}")
        peer.stop()
