"""Several roles and one forwarder; and what becomes of them when it dies."""

import select
from ipaddress import ip_address

import pytest
from fake_forwarder import FakeForwarder

from gateway.dataplane.portable.alarm import Alarm
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError
from gateway.dataplane.portable.shared import SharedForwarder
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
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
LINK = TunnelLink("mip0", TunnelKind.IP_IP)


def sa(spi_in: int = 1) -> ChildSa:
    keys, host = EspKeys(bytes(36)), TrafficSelector.of_address(ip_address("10.9.0.1"))
    here, there = (Endpoint(ip_address(one), 4500) for one in ("192.0.2.1", "192.0.2.2"))
    return ChildSa(spi_in, 2, 7, GCM, keys, keys, here, there, False, (host,), (host,))


class World:
    """Starts fakes."""

    def __init__(self) -> None:
        self.started: list[FakeForwarder] = []
        self.adopted: list[bool] = []
        self.ended = 0
        self.shared = SharedForwarder(self._start, self._ended)

    def _start(self, adopt: bool) -> FakeForwarder:
        self.adopted.append(adopt)
        self.started.append(FakeForwarder())
        return self.started[-1]

    def _ended(self) -> None:
        self.ended += 1


@pytest.fixture
def world() -> World:
    return World()


def readable(world: World) -> bool:
    return bool(select.select([world.shared.fileno()], [], [], 0)[0])


def test_refusals_come_to_who_asked(world: World) -> None:
    one, other = world.shared.view(), world.shared.view()
    world.started[0].refuse[1] = "no"
    one.install(sa(1), outbound=True)
    other.install(sa(2), outbound=True)
    assert other.commit() == ([], [])
    assert [refusal.spi_in for refusal in one.commit()[0]] == [1]
    assert one.commit() == ([], [])
    assert len(world.started) == 1


def test_the_forwarder_ends_with_the_last_view(world: World) -> None:
    one, other = world.shared.view(), world.shared.view()
    one.close(keep=False)
    one.close(keep=False)
    assert world.started[0].kept is None
    other.close(keep=False)
    assert (world.started[0].kept, world.ended) == (False, 1)
    world.shared.view().close(keep=True)
    assert (world.started[1].kept, world.ended) == (True, 1)
    assert world.adopted == [True, True]


def test_a_death_is_noticed_once_and_another_one_has_links_and_traps_but_no_sas(
    world: World,
) -> None:
    view = world.shared.view()
    view.set_tunnel(LINK)
    view.trap(sa())
    view.install(sa(), outbound=True)
    view.commit()
    assert not readable(world)
    world.started[0].die()
    assert readable(world)
    for _ in range(2):
        with pytest.raises(ForwarderUnavailableError):
            view.read_events()
    with pytest.raises(ForwarderUnavailableError):
        view.usage(1)
    world.shared.revive()
    assert world.adopted == [True, False]
    again = world.started[1]
    assert (again.links, list(again.traps), again.sas) == ({"mip0": LINK}, [7], {})
    view.read_events()
    assert not readable(world)
    assert view.tunnels() == [LINK]
    assert world.shared.facts() == {"processes": [], "restarts": 1, "lost": False}


def test_what_is_not_wanted_any_more_is_not_told_again(world: World) -> None:
    view = world.shared.view()
    view.set_tunnel(LINK)
    view.trap(sa())
    view.commit()
    view.remove_tunnel("mip0")
    view.untrap(7)
    view.commit()
    world.started[0].die()
    world.shared.revive()
    assert (world.started[1].links, world.started[1].traps) == ({}, {})


def test_nobody_hears_of_a_death_twice_while_there_is_no_other_forwarder(world: World) -> None:
    view = world.shared.view()
    world.started[0].die()
    with pytest.raises(ForwarderUnavailableError):
        view.read_events()
    with pytest.raises(ForwarderUnavailableError):
        view.read_events()
    assert not readable(world)  # or an event loop would never rest


def test_an_alarm_goes_off_once(world: World) -> None:
    alarm = Alarm()
    alarm.set(3600)
    assert select.select([alarm], [], [], 0)[0] == []
    alarm.clear()
    alarm.set(0)
    assert select.select([alarm], [], [], 30)[0] == [alarm]
    alarm.clear()
    assert select.select([alarm], [], [], 0)[0] == []
    alarm.close()
    world.shared.view()
    world.shared.wake_later(0)
    assert select.select([world.shared.fileno()], [], [], 30)[0]
