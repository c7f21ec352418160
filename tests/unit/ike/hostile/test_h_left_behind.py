"""What must not stay behind: SAs of collisions that came to nothing, leases, timers, rights."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Network,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    pair,
    sa_of,
)
from hostile_world import ELSEWHERE, World
from test_v2_hostile import state_of
from users_v2 import device_of_user, gateway_of_users, log_in

from gateway.domain.endpoint import Path
from gateway.domain.pools import AddressPool
from gateway.domain.wire import WireError
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.codec import Delete, Notify
from gateway.ike.engine import IkeEngine
from gateway.ike.policy import PeerAuth, Profile
from gateway.ike.registry import ExchangeType, NotifyType, ProtocolId
from gateway.ike.v2 import failing, protect, rekey, rekey_ike


def crossing(times: int = 1) -> Network:
    """The gateway's rekeying gets no answer, while the device's own arrives ``times`` times."""
    network = connected()
    network.impair = lambda one: [] if one.sender == "gateway" else [one]
    rekey_ike.rekey_ike(network.gateway.engine._core, sa_of(network.gateway), network.now)
    network.run()
    device = sa_of(network.device)
    for _ in range(times):
        rekey_ike.rekey_ike(network.device.engine._core, device, network.now)
        network.run()
        outstanding = device.window.outstanding
        assert outstanding is not None
        # The gateway's answer is lost, and the device begins anew, as a bad one may.
        device.window.outstanding = None
    return network


def test_h25_rivals_of_a_rekeying_that_is_given_up_go_with_it() -> None:
    network = crossing()
    core = network.gateway.engine._core
    assert len(core.sas) == 2
    network.impair = lambda one: []
    network.pass_time(2000)
    assert not core.sas
    assert not core.by_peer
    assert not core.timers
    assert len(network.gateway.named("ike_sa_closed")) == 1


def test_h25_rivals_of_a_rekeying_go_when_everything_is_closed() -> None:
    network = crossing()
    core = network.gateway.engine._core
    network.impair = lambda one: []
    network.gateway.engine.close_all(network.now)
    network.pass_time(500)
    assert not core.sas


def test_h25_one_rival_is_enough() -> None:
    """A peer that rekeys again and again during our own rekeying gets one IKE SA, not many."""
    network = crossing(times=6)
    core = network.gateway.engine._core
    assert len(core.sas) == 2
    network.impair = lambda one: []
    network.pass_time(2000)
    assert not core.sas


def test_a_refused_child_sa_leaves_no_timer() -> None:
    """The device's new child SA comes with selectors that were not asked for."""
    network = connected()
    core = network.device.engine._core
    before = set(core.timers._deadline)
    network.gateway.engine._core.connections["road"] = gateway_policy()
    rekey.create(core, sa_of(network.device), network.now)
    mine = sa_of(network.device).window.outstanding.exchange
    mine._ts = ((), ())  # whatever the gateway answers is not what was asked for
    network.run()
    assert {key for key in set(core.timers._deadline) - before if key[1] == 0} == set()
    assert core.counters["internal_errors"] == 0


def test_a_changed_pool_gives_no_address_to_two() -> None:
    """Leases go on in the pool that takes the place of the former, and go back to that one."""
    network = connected()
    core = network.gateway.engine._core
    address = sa_of(network.gateway).inner_address
    smaller = AddressPool("road", ip_network("10.9.0.0/25"))
    network.impair = lambda one: []
    rekey_ike.rekey_ike(core, sa_of(network.gateway), network.now)  # the window is taken
    network.gateway.engine.reconfigure([gateway_policy()], network.now, {"road": smaller})
    assert smaller.lease("grace@example.com") != address
    network.pass_time(2000)
    assert not core.sas
    assert smaller.holder(address) is None


def test_what_a_changed_pool_leases_no_more_does_not_go_back_to_it() -> None:
    network = connected()
    core = network.gateway.engine._core
    address = sa_of(network.gateway).inner_address
    without = AddressPool("road", ip_network("10.9.0.0/25"), [address])
    network.impair = lambda one: []
    network.gateway.engine.reconfigure([gateway_policy()], network.now, {"road": without})
    back = AddressPool("road", ip_network("10.9.0.0/25"))
    network.gateway.engine.reconfigure([gateway_policy()], network.now, {"road": back})
    assert back.lease("grace@example.com") == address
    network.pass_time(2000)
    assert not core.sas
    assert back.holder(address) == "grace@example.com"


STAFF = Profile("staff", frozenset({"staff"}))
ADMINS = Profile("admins", frozenset({"engineers", "staff"}))


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ((ADMINS,), (ADMINS, STAFF), True),
        ((ADMINS,), (replace(ADMINS, groups=frozenset({"nobody"})),), False),
        ((ADMINS, STAFF), (replace(ADMINS, groups=frozenset({"nobody"})), STAFF), False),
        ((ADMINS, STAFF), (STAFF, ADMINS), False),
        ((), (STAFF,), False),
        ((STAFF,), (STAFF,), True),
        ((), (), True),
    ],
)
def test_a_profile_that_a_user_is_no_longer_entitled_to_ends_the_session(
    before: tuple[Profile, ...], after: tuple[Profile, ...], stays: bool
) -> None:
    network = log_in(gateway_of_users(profiles=before), device_of_user())
    assert established(network.gateway)
    network.gateway.engine.reconfigure([gateway_of_users(profiles=after)], network.now)
    network.run()
    assert bool(established(network.gateway)) is stays


def test_a_profile_that_is_required_from_now_on() -> None:
    network = log_in(gateway_of_users(), device_of_user())
    network.gateway.engine.reconfigure([gateway_of_users(profile_required=True)], network.now)
    network.run()
    assert not established(network.gateway)


def test_refused_logins_that_linger_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their answers are kept for repetitions, but not of any number of logins."""
    monkeypatch.setattr(failing, "MAX_LINGERING", 10)
    other = PeerAuth(preshared_key=PresharedKey(b"another"))
    network = pair(gateway_policy(peer_auth=other))
    gateway = network.gateway.engine._core
    for _ in range(40):
        network.device.engine = make_engine([device_policy()])
        connect(network)
    assert gateway.counters["handshakes_failed"] == 40
    assert len(gateway.sas) == len(gateway.lingering) == 10
    network.device.engine.close_all(network.now)
    network.pass_time(failing.LINGER_S + 1)
    assert not gateway.sas
    assert not gateway.lingering
    assert not gateway.timers


def _raise_wire(*_args: object) -> None:
    raise WireError("deep inside")


def test_nothing_leaves_timers_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A WireError where no datagram is to blame is our own fault, and stays inside too."""
    network = connected()
    engine: IkeEngine = network.gateway.engine
    before = state_of(engine)
    monkeypatch.setattr("gateway.ike.timing.fire", _raise_wire)
    engine.handle_timer(network.now + 10**6)
    monkeypatch.setattr("gateway.ike.commands.user_answered", _raise_wire)
    engine.user_answered(1, None, network.now)  # type: ignore[arg-type]
    monkeypatch.setattr("gateway.ike.commands.ocsp_answered", _raise_wire)
    engine.ocsp_answered(1, None, network.now)
    assert engine.counters["internal_errors"] >= 3
    assert [one["state"] for one in state_of(engine) if "state" in one] == [
        one["state"] for one in before if "state" in one
    ]


@pytest.mark.parametrize("protocol", [0, 4, 255])
def test_h24_deletes_of_unknown_protocols_and_of_the_dead(protocol: int) -> None:
    """CVE-2023-38710, CVE-2023-38712: Delete with odd protocols, then notifies on what is gone."""
    network = connected()
    device = sa_of(network.device)
    (child,) = device.children.values()
    spi = child.spi_in.to_bytes(4, "big")
    gone = Delete(ProtocolId.ESP, (spi, spi, b"\0\0\0\0", b"\xff\xff\xff\xff"))
    rekey_it = Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, spi)
    for payloads in ([Delete(protocol, ())], [gone, rekey_it], [gone]):
        number = device.window.next_request
        (message,) = protect.seal(
            device,
            ExchangeType.INFORMATIONAL,
            number,
            payloads,
            response=False,
            fragment_size=65000,
        )
        device.window.next_request += 1
        network.gateway.engine.receive(message, Path(GATEWAY, DEVICE), network.now)
        network.collect()
        network.queue.clear()
    assert len(established(network.gateway)) == 1
    assert not network.gateway.sas
    core = network.gateway.engine._core
    assert core.counters["internal_errors"] == 0
    assert core.counters["deletes_of_unknown_spi"] >= 2


def test_h41_a_successor_with_an_address_of_its_own_takes_no_second_one() -> None:
    """The peer moved while it renewed: the new login has its own address, the old one's goes."""
    world = World(1, ("push",))
    device = world.device("push")
    device.engine.initiate("push", world.now)
    world.settle()
    (spi_in,) = world.gateway.engine._core.children
    (sa,) = device.engine._core.sas.values()
    device.engine.rekey(sa.spis, world.now)
    world.gateway.engine.endpoint_seen(spi_in, ELSEWHERE, "ESP", world.now)
    world.settle()
    world.fire(3.0, deliver=True)
    world.check()
    world.end()
