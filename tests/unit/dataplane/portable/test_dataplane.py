"""The IPsec dataplane over a forwarder in memory: adoption, refusals, and a forwarder that dies."""

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from gateway.dataplane.choice import Choice, Kind
from gateway.dataplane.interface import DataplaneTrouble, Refusal, SaExpired, TrafficWaiting
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.plane import Plane
from gateway.dataplane.portable import dataplane as module
from gateway.dataplane.portable.dataplane import PortableDataplane
from gateway.dataplane.portable.shared import LONGEST_S, REVIVE_S
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

GCM = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=True)
POOL = ip_network("10.9.0.0/16")
HERE, THERE = (Endpoint(ip_address(one), 4500) for one in ("192.0.2.1", "192.0.2.2"))
AWAY = Endpoint(ip_address("192.0.2.3"), 4500)


def child_sa(spi_in: int = 0x1001, **changes: Any) -> ChildSa:
    keys = EspKeys(bytes(36))
    inside = TrafficSelector.of_network(ip_network("10.1.0.0/24"))
    host = TrafficSelector.of_address(ip_address("10.9.0.1"))
    made = ChildSa(spi_in, 2, 7, GCM, keys, keys, HERE, THERE, False, (inside,), (host,))
    return replace(made, **changes)


def remembered(sa: ChildSa, **changes: Any) -> ChildSa:
    return replace(sa, keys_in=EspKeys(b""), keys_out=EspKeys(b""), **changes)


class Sets:
    """Elements of nftables, all of them welcome."""

    def __init__(self) -> None:
        self.elements: dict[str, set[bytes]] = {"vpn_fa": set()}

    def apply(self, changes: Any) -> None:
        for one in changes:
            found = self.elements.setdefault(one.name, set())
            (found.add if one.add else found.discard)(one.key)

    def read(self, name: str) -> dict[bytes, bytes | None]:
        return dict.fromkeys(self.elements.get(name, ()))


class Ground:
    """Stands in for rules and routes."""

    def __init__(self, settings: KernelSettings) -> None:
        self.settings = settings
        self.sets = Sets()
        self.routes: Counter[Any] = Counter()
        self.taken: set[Any] = set()
        self.rebuilt = 0
        self.leftovers: Any = None

    def peers(self) -> dict[str, set[bytes]]:
        return {"vpn_fa": set(self.sets.elements["vpn_fa"])}

    def add_peer_route(self, network: Any) -> None:
        if network in self.taken:
            raise OSError(17, f"another route to {network} is there")
        self.routes[network] += 1

    def drop_peer_route(self, network: Any) -> None:
        self.routes[network] -= 1

    def rebuild(self) -> None:
        self.rebuilt += 1

    def make_way(self) -> None: ...
    def build(self, *, adopt_it: bool = False) -> None: ...
    def forget_unclaimed(self) -> None: ...
    def reconfigure(self, settings: KernelSettings) -> None: ...
    def close(self, *, keep: bool = False) -> None: ...


class Nothing:
    """Ways, and policies of transport mode: none of this is about them."""

    def __init__(self, *_: object) -> None: ...
    def of(self, questions: Any) -> list[None]:
        return [None] * len(questions)

    def claim(self, sa: ChildSa) -> None: ...
    def trap(self, sa: ChildSa) -> None: ...
    def release(self, spi_in: int) -> None: ...
    def rebuild(self) -> None: ...
    def untrap(self, reqid: int) -> None: ...
    def counters(self) -> dict[str, int]:
        return {}

    def flush(self) -> list[Refusal]:
        return []

    def close(self, *, keep: bool = False) -> None: ...


class Bed:
    """Dataplanes of one process after the other, over forwarders that come when they are wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 100.0
        self.forwarders: list[FakeForwarder] = []
        self.refuses = False
        self.next()

    def next(self) -> None:
        """Another process, and the forwarder of the last one."""
        self.plane = Plane(Choice(Kind.PORTABLE, "a test"), self.folder)
        self.plane.shared._start = self._open
        self.plane.shared._ended = lambda: None
        self.dataplane = PortableDataplane(
            KernelSettings(inner_networks=(POOL,)), self.plane, clock=lambda: self.now
        )
        self.dataplane.start(adopt=True)

    def _open(self, adopt: bool) -> FakeForwarder:
        if self.refuses:
            raise module.ForwarderUnavailableError("no memory")
        if not (adopt and self.forwarders and self.forwarders[-1].alive):
            self.forwarders.append(FakeForwarder())
        return self.forwarders[-1]

    @property
    def forwarder(self) -> FakeForwarder:
        return self.forwarders[-1]

    @property
    def ground(self) -> Ground:
        found: Any = self.dataplane._foundation
        assert isinstance(found, Ground)
        return found

    def installed(self, *sas: ChildSa) -> None:
        for sa in sas:
            self.dataplane.install_child_sa(sa)
        assert self.dataplane.commit() == []


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bed:
    monkeypatch.setattr(module, "PortableFoundation", Ground)
    monkeypatch.setattr(module, "Ways", Nothing)
    monkeypatch.setattr(module, "TransportPolicies", Nothing)
    monkeypatch.setattr(module.ruleset, "counters", dict)
    return Bed(tmp_path)


def test_a_child_sa_is_installed_moved_and_removed(bed: Bed) -> None:
    bed.installed(child_sa())
    assert bed.forwarder.sas[0x1001].outbound
    bed.dataplane.move_child_sa(0x1001, HERE, THERE, udp_encapsulation=False)
    bed.dataplane.move_child_sa(0x1001, HERE, AWAY, udp_encapsulation=True)
    bed.dataplane.commit()
    assert [verb for verb in bed.forwarder.verbs if verb[0] == "move"] == [("move", 0x1001, AWAY)]
    bed.dataplane.remove_child_sa(0x1001)
    bed.dataplane.commit()
    assert bed.forwarder.sas == {}
    assert bed.dataplane.usage(0x1001) is None


def test_networks_behind_peers_have_routes_as_long_as_somebody_wants_them(bed: Bed) -> None:
    network = ip_network("172.20.0.0/24")
    behind = (TrafficSelector.of_network(network),)
    bed.installed(child_sa(1, remote_ts=behind), child_sa(2, reqid=8, remote_ts=behind))
    assert bed.ground.routes[network] == 2
    bed.dataplane.remove_child_sa(1)
    assert bed.ground.routes[network] == 1


@pytest.mark.parametrize("changes", [{"zone": 5}, {"vpn_fa": True}])
def test_no_routes_to_zones_and_home_addresses(bed: Bed, changes: dict[str, Any]) -> None:
    home = (TrafficSelector.of_address(ip_address("172.20.0.9")),)
    bed.installed(child_sa(remote_ts=home, **changes))
    assert not +bed.ground.routes
    guarded = bed.ground.sets.elements["vpn_fa"]
    assert bool(guarded) is ("vpn_fa" in changes)
    bed.dataplane.remove_child_sa(0x1001)
    bed.dataplane.commit()
    assert not guarded


@pytest.mark.parametrize("changes", [{"zone": 5}, {"vpn_fa": True}])
def test_without_marks_what_goes_by_them_is_refused(bed: Bed, changes: dict[str, Any]) -> None:
    bed.forwarder.marks = False
    bed.dataplane.install_child_sa(child_sa(**changes))
    (refusal,) = bed.dataplane.commit()
    assert "Linux 5.19" in refusal.reason
    assert bed.forwarder.sas == {}
    bed.installed(child_sa(2))


@pytest.mark.parametrize("changes", [{"zone": 5}, {"vpn_fa": True}])
def test_without_veth_the_reason_is_that(bed: Bed, changes: dict[str, Any]) -> None:
    bed.forwarder.marks, bed.forwarder.tun = False, True
    bed.dataplane.install_child_sa(child_sa(**changes))
    (refusal,) = bed.dataplane.commit()
    assert "veth (CONFIG_VETH)" in refusal.reason


def test_what_is_refused_is_gone_altogether(bed: Bed) -> None:
    bed.forwarder.refuse[1] = "no such suite"
    network = ip_network("172.20.0.0/24")
    bed.dataplane.install_child_sa(
        child_sa(1, remote_ts=(TrafficSelector.of_network(network),), vpn_fa=False)
    )
    bed.dataplane.install_child_sa(child_sa(2, reqid=8))
    bed.dataplane.install_child_sa(child_sa(2, reqid=9))
    reasons = {refusal.spi_in: refusal.reason for refusal in bed.dataplane.commit()}
    assert reasons == {1: "no such suite", 2: "SPI 0x00000002 is in use"}
    assert bed.ground.routes[network] == 0


def test_a_route_of_somebody_else_refuses_the_sa(bed: Bed) -> None:
    network = ip_network("172.20.0.0/24")
    bed.ground.taken.add(network)
    bed.dataplane.install_child_sa(child_sa(remote_ts=(TrafficSelector.of_network(network),)))
    (refusal,) = bed.dataplane.commit()
    assert "another route" in refusal.reason
    assert bed.forwarder.sas == {}


def test_the_next_process_keeps_what_it_knows_moves_it_and_removes_the_rest(bed: Bed) -> None:
    known, moved = child_sa(1), child_sa(2, reqid=8)
    stranger, other_suite = child_sa(3, reqid=9), child_sa(4, reqid=10)
    bed.installed(known, moved, stranger, other_suite)
    bed.forwarder.sas[1] = replace(bed.forwarder.sas[1], soft_limit_reached=True)
    bed.dataplane.close(keep=True)
    chacha = EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=True)
    bed.next()
    lost = bed.dataplane.adopt(
        [
            (remembered(known), True),
            (remembered(moved, remote=AWAY), True),
            (remembered(other_suite, suite=chacha), True),
            (remembered(child_sa(5, reqid=11)), True),
        ]
    )
    assert lost == [4, 5]
    assert sorted(bed.forwarder.sas) == [1, 2]
    assert bed.forwarder.sas[2].sa.remote == AWAY
    assert bed.dataplane.read_events() == [SaExpired(1, hard=False)]


def test_traps_of_an_earlier_process_are_given_up_when_they_are_met(bed: Bed) -> None:
    bed.dataplane.trap(child_sa())
    bed.dataplane.commit()
    bed.forwarder.traps[9] = child_sa(reqid=9)
    bed.forwarder.events = [TrafficWaiting(7), TrafficWaiting(9)]
    assert bed.dataplane.read_events() == [TrafficWaiting(7)]
    bed.dataplane.commit()
    assert list(bed.forwarder.traps) == [7]


def test_a_dead_forwarder_is_replaced_and_its_sas_are_told_as_gone(bed: Bed) -> None:
    bed.installed(child_sa(1), child_sa(2, reqid=8))
    bed.forwarder.die()
    (event,) = bed.dataplane.read_events()
    assert isinstance(event, DataplaneTrouble)
    assert "ended (killed) with 2 child SAs; another one was started" in event.text
    assert event.there == ()
    assert bed.ground.rebuilt == 1
    # No key meets a number that it had: nothing is installed again by itself.
    assert bed.forwarder.sas == {}
    bed.installed(child_sa(3))
    assert list(bed.forwarder.sas) == [3]
    assert bed.dataplane.counters()["restarts_of_forwarder"] == 1


def test_sas_that_were_to_be_installed_as_it_died_are_refused(bed: Bed) -> None:
    bed.installed(child_sa(1))
    bed.forwarder.die()
    bed.dataplane.install_child_sa(child_sa(2, reqid=8))
    assert [refusal.spi_in for refusal in bed.dataplane.commit()] == [2]
    (event,) = bed.dataplane.read_events()
    assert isinstance(event, DataplaneTrouble)
    assert event.there == ()


def test_a_forwarder_that_cannot_be_started_is_tried_again_later(bed: Bed) -> None:
    bed.installed(child_sa(1))
    bed.refuses = True
    bed.forwarder.die()
    (event,) = bed.dataplane.read_events()
    assert isinstance(event, DataplaneTrouble)
    assert "cannot be started: no memory" in event.text
    bed.dataplane.install_child_sa(child_sa(2, reqid=8))
    assert [refusal.spi_in for refusal in bed.dataplane.commit()] == [2]
    assert bed.dataplane.usage(1) is None
    bed.refuses = False
    bed.now += REVIVE_S
    assert bed.dataplane.usage(1) is None, "it is not tried but where something happens"
    bed.installed(child_sa(3, reqid=9))
    (event,) = bed.dataplane.read_events()
    assert isinstance(event, DataplaneTrouble)
    assert event.there == (3,)


def test_who_watches_is_woken_for_each_try_ever_more_rarely(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without that a gateway with nothing to do would be without a forwarder until it has."""
    asked: list[float] = []
    monkeypatch.setattr(bed.plane.shared, "wake_later", asked.append)
    bed.installed(child_sa(1))
    bed.refuses = True
    bed.forwarder.die()
    for pause in (2.0, 4.0, 8.0, 16.0, LONGEST_S, LONGEST_S):
        (event,) = bed.dataplane.read_events()
        assert isinstance(event, DataplaneTrouble)
        assert bed.dataplane.read_events() == [], "told once"
        assert asked[-1] == pause
        bed.now += pause
    bed.refuses = False
    (event,) = bed.dataplane.read_events()
    assert isinstance(event, DataplaneTrouble)
    assert "another one was started" in event.text
    bed.now += REVIVE_S
    bed.forwarder.die()
    (event,) = bed.dataplane.read_events()
    assert isinstance(event, DataplaneTrouble)
    assert "another one was started" in event.text


def test_sas_are_shown_without_keys(bed: Bed) -> None:
    bed.installed(child_sa())
    (shown,) = bed.dataplane.sas()
    assert (shown["spi_in"], shown["remote"], shown["sends"]) == ("00001001", str(THERE), True)
    assert not [value for value in shown.values() if isinstance(value, bytes | EspKeys)]
    bed.forwarder.die()
    assert bed.dataplane.sas() == []


def test_counters_of_both_dataplanes_have_one_name(bed: Bed) -> None:
    counters = bed.dataplane.counters()
    assert (counters["forwarder_no_sa"], counters["slow_path_forged"]) == (3, 2)
