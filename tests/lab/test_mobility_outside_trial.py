"""The trial of ``gateway check``: registrations from outside never reach inside home agents."""

import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from gateway.dataplane.kernel.mobility import ruleset
from gateway.dataplane.kernel.mobility.outside_trial import OutsideTrial, try_from_outside
from gateway.dataplane.kernel.mobility.start_trial import try_start
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.portable.mobility.wording import wording
from gateway.domain.mobility import HomeNetwork
from gateway.lab.kernel import missing_features

pytestmark = pytest.mark.kernel

OURS, THEIRS = IPv4Address("10.20.0.1"), IPv4Address("10.1.0.7")
SETTINGS = MobilitySettings(
    home_agents=(OURS, IPv4Address("203.0.113.2")),
    inside_home_agents=(OURS, THEIRS),
    home_networks=(HomeNetwork("roaming", IPv4Network("10.20.0.0/24")),),
    outside_interfaces=("eth0", "trial-0", "ppp-with-long-n"),
)
WORDINGS = ruleset.QUEUED, wording(SETTINGS.queue_number)
needs_queue = pytest.mark.skipif(
    bool(missing_features()), reason="the kernel's own devices and queue"
)


def test_outside_is_blocked_and_inside_is_not() -> None:
    assert try_from_outside(SETTINGS, WORDINGS) == [
        OutsideTrial(OURS, (), reachable=True),
        OutsideTrial(THEIRS, (), reachable=True),
    ]


def test_without_outside_interfaces_nothing_is_blocked() -> None:
    open_to_all = MobilitySettings(home_agents=(OURS,), inside_home_agents=(OURS,))
    assert try_from_outside(open_to_all, WORDINGS) == [OutsideTrial(OURS, (), reachable=True)]


def test_a_ruleset_that_lets_them_in_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    good = ruleset.render

    def leaking(settings: MobilitySettings, *rest: Any) -> str:
        found = good(settings, *rest)
        assert "iifname @outside" in found
        return found.replace("iifname @outside goto", 'iifname "eth0" goto')

    monkeypatch.setattr(ruleset, "render", leaking)
    ours, theirs = try_from_outside(SETTINGS, WORDINGS)
    assert ours == OutsideTrial(OURS, ("trial-0", "ppp-with-long-n"), reachable=True)
    assert theirs.leaks == ours.leaks


def test_a_ruleset_that_lets_nobody_in_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    good = ruleset.render
    monkeypatch.setattr(
        ruleset, "render", lambda *given: good(*given).replace("iifname @outside goto", "goto")
    )
    ours, theirs = try_from_outside(SETTINGS, WORDINGS)
    assert (ours.leaks, ours.reachable) == ((), False)
    assert (theirs.leaks, theirs.reachable) == ((), False)


@needs_queue
def test_all_of_it_can_be_started_and_leaves_nothing() -> None:
    before = socket.if_nameindex()
    assert try_start(replace(SETTINGS, visited_interfaces=("eth9",), offload=False)) is None
    assert try_start(SETTINGS) is None
    assert socket.if_nameindex() == before


def test_what_cannot_be_started_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ruleset, "render", lambda *_given: "table ip x { chain }")
    problem = try_start(SETTINGS)
    assert problem is not None
    assert "syntax error" in problem
