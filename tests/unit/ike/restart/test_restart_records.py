"""Records of IKE SAs: broken ones harm nobody, and what must not live on ends in order."""

import json
import random
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from harness_v1 import device_v1, gateway_v1
from harness_v2 import (
    DEVICE,
    GATEWAY,
    assert_consistent,
    connect,
    device_policy,
    gateway_policy,
    make_engine,
    network_selector,
    pair,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from restart_world import World
from users_v2 import device_of_user, find_user, gateway_of_users

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.pools import AddressPool
from gateway.domain.remote_access import Presence
from gateway.ike import record
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import IdentityPattern
from gateway.ike.core import TimerKind
from gateway.ike.engine import IkeEngine
from gateway.ike.outputs import (
    AccessEnded,
    AccessGranted,
    ClientUp,
    Event,
    ForgetSa,
    RecordSa,
    RemoveChildSa,
    SessionClosed,
    SessionOpened,
    Transmit,
)
from gateway.ike.policy import PeerAuth, Profile

VERSIONS = pytest.mark.parametrize("version", [1, 2])


def world_of(version: int, **changes: object) -> World:
    if version == 1:
        return World(gateway_v1(**changes), device_v1(**changes))
    return World(gateway_policy(**changes), device_policy(**changes))


def up(version: int = 2, **changes: object) -> World:
    world = connect(world_of(version, **changes))
    assert world.gateway.sas
    return world


def only_sa(world: World, side: str = "gateway"):  # noqa: ANN201
    (sa,) = world.hosts[side].engine._core.sas.values()
    return sa


def empty(engine: IkeEngine) -> bool:
    core = engine._core
    tables = (core.sas, core.children, core.by_peer, core.framed, core.families.members)
    return not any(tables) and not len(core.timers) and not core.pools["road"].in_use


# -- what is kept -----------------------------------------------------------------------------


@VERSIONS
def test_everything_is_there_again(version: int) -> None:
    world = up(version)
    before = {side: host.engine.ike_sas(world.now)[0] for side, host in world.hosts.items()}
    children = {side: host.engine.child_sas(world.now)[0] for side, host in world.hosts.items()}
    for side, host in world.hosts.items():
        restored = world.restart(side)
        assert (restored.ike_sas, len(restored.children), restored.dropped) == (1, 1, ())
        after = host.engine.ike_sas(world.now)[0]
        measured = {"idle_s": before[side].idle_s, "rtt_s": before[side].rtt_s}
        assert replace(after, **measured) == before[side]
        assert host.engine.child_sas(world.now)[0] == children[side]
        assert host.engine._core.pools["road"].in_use == (1 if side == "gateway" else 0)
    # Nobody is asked for anything, nothing is sent.
    sent = len(world.sent)
    world.run()
    assert len(world.sent) == sent
    world.pass_time(100)
    world.check()
    assert_consistent(world)


def test_the_inner_address_stays_leased_to_its_owner() -> None:
    world = up()
    world.restart("gateway")
    pool = world.gateway.engine._core.pools["road"]
    address = only_sa(world).inner_address
    assert pool.holder(address) == "ada@example.com"
    assert pool.lease("somebody else", address) != address


@VERSIONS
def test_who_was_in_is_granted_again(version: int) -> None:
    world = up(version)
    before = dict(world.gateway.grants)
    assert before
    world.restart("gateway")
    world.run()
    assert world.gateway.grants == before
    world.device.engine.close_all(world.now)
    world.run()
    assert not world.gateway.grants


def test_both_inner_addresses_stay_leased() -> None:
    lans = (network_selector("10.1.0.0/16"), network_selector("2001:db8:1::/48"))
    world = connect(World(gateway_policy(pool6="road6", local_ts=lans), device_policy()))
    both = only_sa(world).inner_addresses
    assert len(both) == 2
    world.restart("gateway")
    world.restart("device")
    world.run()
    assert only_sa(world).inner_addresses == only_sa(world, "device").inner_addresses == both
    pools = world.gateway.engine._core.pools
    for name, address in zip(("road", "road6"), both, strict=True):
        assert pools[name].holder(address) == "ada@example.com"


def test_a_zone_stays_with_its_session() -> None:
    gateway = gateway_policy(pool=None, presence=Presence.NAPT)
    world = connect(World(gateway, device_policy(request_inner_address=False)))
    before = dict(world.gateway.grants)
    (child,) = world.gateway.sas.values()
    assert child.zone == 1
    restored = world.restart("gateway")
    assert restored.children[0].sa.zone == 1
    world.run()
    assert world.gateway.grants == before
    assert world.gateway.engine._core.zones.take() == 2
    world.pass_time(4000)
    assert {one.zone for one in world.gateway.sas.values()} == {1}
    world.check()


def test_a_session_whose_connection_was_changed_is_not_granted_again() -> None:
    world = up()
    engine = make_engine([gateway_policy(local_ts=(network_selector("10.2.0.0/16"),))])
    restored = engine.restore(dict(world.gateway.records), world.now)
    assert restored.dropped
    assert not any(isinstance(one, AccessGranted | AccessEnded) for one in engine.take_outputs())


def test_a_user_s_session_is_resumed_and_ends_as_ever() -> None:
    gateway = gateway_of_users(
        profiles=(Profile("engineers", frozenset({"engineers"}), dns=(ip_address("10.1.0.54"),)),)
    )
    world = connect(World(gateway, device_of_user(), find_user=find_user))
    (opened,) = world.gateway.sessions
    assert isinstance(opened, SessionOpened)
    assert not opened.resumed
    world.restart("gateway")
    world.run()
    resumed = world.gateway.sessions[-1]
    assert resumed == replace(opened, resumed=True)
    sa = only_sa(world)
    assert (sa.user.user, sa.profile) == ("ada", "engineers")
    assert sa.user.msk == b""
    assert sa.connection.dns == (ip_address("10.1.0.54"),)
    world.gateway.engine.close_ike_sa(sa.spis, "test", world.now)
    world.run()
    closed = world.gateway.sessions[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.session_id == opened.session.session_id
    assert not world.gateway.records


def test_a_connection_of_ours_is_up_again_and_stays_wanted() -> None:
    world = up()
    world.restart("device")
    world.run()
    told = [one for one in world.device.log if isinstance(one, ClientUp)]
    assert len(told) == 2
    assert told[0] == replace(told[1], ike_spi=told[0].ike_spi)
    world.device.engine.initiate("office", world.now)
    world.run()
    assert len(world.device.engine._core.sas) == 1
    world.gateway.engine.close_ike_sa(only_sa(world).spis, "test", world.now)
    world.pass_time(10)
    assert_consistent(world)
    assert world.gateway.sas


def test_a_trap_s_reqid_is_the_child_s_again() -> None:
    world = world_of(2)
    reqid = world.device.engine.reserve_reqid("office")
    connect(world)
    assert {sa.reqid for sa in world.device.sas.values()} == {reqid}
    fresh = world.fresh("device")
    fresh.restore(world.device.records, world.now)
    assert fresh.reserve_reqid("office") == reqid
    other = world.fresh("gateway")
    other.restore(world.gateway.records, world.now)
    assert other.reserve_reqid("road") not in {sa.reqid for sa in world.gateway.sas.values()}


def test_timers_go_on_and_do_not_begin_anew() -> None:
    world = up()
    core = world.gateway.engine._core
    sa = only_sa(world)
    (child,) = sa.children
    keys = [(TimerKind.REKEY_IKE, sa.local_spi), (TimerKind.REKEY_CHILD, child)]
    before = [core.timers.deadline(key) for key in keys]
    world.now += 500
    world.restart("gateway")
    core = world.gateway.engine._core
    assert [core.timers.deadline(key) for key in keys] == before


def test_liveness_checks_are_spread() -> None:
    world = up(liveness_s=30.0)
    found = set()
    for _ in range(20):
        world.restart("gateway")
        core = world.gateway.engine._core
        found.add(core.timers.deadline((TimerKind.LIVENESS, only_sa(world).local_spi)))
    assert len(found) > 10
    assert all(world.now <= at <= world.now + 30 for at in found)


def test_half_open_handshakes_are_not_recorded() -> None:
    world = world_of(2)
    world.impair = lambda datagram: [] if datagram.number > 1 else [datagram]
    connect(world)
    assert world.gateway.engine._core.sas
    assert not world.gateway.records
    assert not world.device.records


def test_without_recording_nothing_is_remembered() -> None:
    network = pair()
    for host in network.hosts.values():
        host.engine._core.families.recording = False
    network.device.engine.initiate("office", network.now)
    for _ in range(6):
        for host in network.hosts.values():
            for output in host.engine.take_outputs():
                assert not isinstance(output, RecordSa | ForgetSa)
                network._apply(host, output)
        waiting, network.queue = network.queue, []
        for datagram in waiting:
            network.deliver(datagram)
    assert network.gateway.sas
    assert not network.gateway.engine._core.families.touched


@VERSIONS
def test_a_record_is_small_and_written_once_per_batch(version: int) -> None:
    world = up(version, liveness_s=30.0)
    world.pass_time(100)
    (octets,) = world.gateway.records.values()
    assert len(octets) < 4096
    written = world.gateway.engine.counters["ike_records_written"]
    checks = [one for one in world.sent if one.sender == "gateway"]
    assert written <= len(checks) + 4


# -- what must not live on ----------------------------------------------------------------------


CHANGES = {
    "pre-shared key": {
        "peer_auth": PeerAuth(preshared_key=PresharedKey(b"another key than before"))
    },
    "selectors": {"local_ts": (network_selector("10.3.0.0/16"),)},
    "identity": {"remote_id": IdentityPattern.parse("bob@example.com")},
    "encapsulation": {"force_encapsulation": True},
}


@pytest.mark.parametrize("change", CHANGES)
@VERSIONS
def test_a_changed_connection_ends_its_sas_with_a_delete(version: int, change: str) -> None:
    world = up(version)
    world.policies["gateway"] = replace(world.policies["gateway"], **CHANGES[change])
    restored = world.restart("gateway")
    assert restored.ike_sas == 0
    assert not restored.children
    assert "was changed" in restored.dropped[0].reason
    world.run()
    assert not world.gateway.records
    assert not world.gateway.sas
    assert empty(world.gateway.engine)
    # The device heard of it.
    assert any("deleted" in event.text for event in world.device.named("ike_sa_closed"))


@VERSIONS
def test_a_connection_that_is_gone(version: int) -> None:
    world = up(version)
    fresh = make_engine([])
    restored = fresh.restore(world.gateway.records, world.now)
    assert restored.ike_sas == 0
    outputs = fresh.take_outputs()
    assert any(isinstance(one, Transmit) for one in outputs)
    assert any(isinstance(one, RemoveChildSa) for one in outputs)
    if version == 2:
        fresh.receive(b"", Path(GATEWAY, DEVICE), world.now)
        assert len(fresh._core.sas) == 1
    else:
        assert empty(fresh)


def test_a_changed_certificate_of_ours_ends_nothing() -> None:
    world = up()
    world.policies["gateway"] = replace(
        world.policies["gateway"], local_credential=PresharedKey(b"another one of ours")
    )
    assert world.restart("gateway").ike_sas == 1


def test_a_pool_that_lost_the_address() -> None:
    world = up()
    fresh = make_engine(
        [world.policies["gateway"]],
        pools={"road": AddressPool("road", ip_network("10.99.0.0/24"))},
    )
    restored = fresh.restore(world.gateway.records, world.now)
    assert [one.reason for one in restored.dropped] == ["pool road was changed"]
    assert any(isinstance(one, Transmit) for one in fresh.take_outputs())


def test_a_user_who_is_to_have_another_profile_now() -> None:
    world = connect(World(gateway_of_users(), device_of_user(), find_user=find_user))
    world.policies["gateway"] = replace(
        world.policies["gateway"],
        profiles=(Profile("staff", frozenset({"staff"}), pool=None),),
    )
    restored = world.restart("gateway")
    assert restored.ike_sas == 0
    world.run()
    opened, resumed, closed = world.gateway.sessions
    assert isinstance(resumed, SessionOpened)
    assert resumed.resumed
    assert isinstance(closed, SessionClosed)
    assert closed.session_id == opened.session.session_id


# -- what the kernel has --------------------------------------------------------------------------


@VERSIONS
def test_a_child_sa_that_the_kernel_lost_is_replaced(version: int) -> None:
    world = up(version)
    lost = next(iter(world.gateway.sas))
    reqid = world.gateway.sas[lost].reqid
    world.gateway.sas.clear()
    world.gateway.sending.clear()
    world.restart("gateway")
    world.pass_time(60)
    assert set(world.gateway.sas) == set(world.gateway.engine._core.children) != {lost}
    assert {sa.reqid for sa in world.gateway.sas.values()} == {reqid}
    assert_consistent(world)
    assert world.gateway.named("child_sa_lost")


def test_reconcile_tells_what_is_ours() -> None:
    world = up()
    (ours,) = world.gateway.sas
    assert world.gateway.engine.reconcile({ours, 4711}, world.now) == {ours}
    assert not world.gateway.engine.take_outputs()


@VERSIONS
def test_handed_over_nothing_moves_any_more(version: int) -> None:
    world = up(version, liveness_s=30.0)
    records = dict(world.gateway.records)
    engine = world.gateway.engine
    engine.rekey(only_sa(world).spis, world.now, children=True)
    engine.hand_over(world.now)
    last = engine.take_outputs()
    kept = [one for one in last if isinstance(one, RecordSa)]
    assert kept
    assert engine.next_timer() is None
    engine.handle_timer(world.now + 1000)
    engine.child_expired(next(iter(world.gateway.sas)), True, world.now)
    assert not engine.take_outputs()
    for one in last:
        world._apply(world.gateway, one)
    assert world.gateway.records != records
    world.restart("gateway")
    world.pass_time(60)
    world.check()
    assert_consistent(world)


# -- broken records -------------------------------------------------------------------------------


def unusable(world: World, records: dict[str, bytes]) -> IkeEngine:
    fresh = world.fresh("gateway")
    restored = fresh.restore(records, world.now)
    outputs = fresh.take_outputs()
    dropped = {one.key for one in restored.dropped}
    assert {one.key for one in outputs if isinstance(one, ForgetSa)} >= dropped
    events = [one for one in outputs if isinstance(one, Event)]
    named = [one for one in events if one.name == "ike_record_unusable"]
    assert len(named) == len(dropped)
    assert fresh.counters["internal_errors"] == 0
    return fresh


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x01",
        b"\x02{}",
        b"\x01{}",
        b"\x01[]",
        b"\x01null",
        b"\x01{",
        b"\x01" + b"[" * 60_000,
        b"\x01" + b"9" * 60_000,
        b"\x01\xff\xfe",
        b"\x01" + b"x" * 70_000,
        b'\x01{"family":"AAAAAAAAAAA=","sas":[]}',
    ],
    ids=repr,
)
def test_what_is_no_record_costs_one_event(octets: bytes) -> None:
    world = up()
    records = {**world.gateway.records, "0" * 16: octets}
    fresh = unusable(world, records)
    assert len(fresh._core.sas) == 1
    assert fresh.counters["ike_records_unusable"] == 1


def test_under_another_key_or_twice() -> None:
    world = up()
    (octets,) = world.gateway.records.values()
    assert empty(unusable(world, {"1" * 16: octets}))
    both = {**world.gateway.records, "1" * 16: octets}
    assert len(unusable(world, both)._core.sas) == 1


def test_a_broken_record_s_secrets_are_in_no_event() -> None:
    world = up()
    (octets,) = world.gateway.records.values()
    keys = json.loads(octets[1:])["sas"][0]["own"]
    broken = octets.replace(b'"suite":[20,', b'"suite":[99,')
    assert broken != octets
    fresh = world.fresh("gateway")
    fresh.restore({next(iter(world.gateway.records)): broken}, world.now)
    said = " ".join(repr(one) for one in fresh.take_outputs())
    for secret in (keys["d"], *keys["in"][:1], *keys["out"][:1]):
        assert secret not in said
    assert "secret" not in repr(RecordSa("k", b"secret"))


@VERSIONS
def test_a_record_of_another_version_of_the_octets(version: int) -> None:
    world = up(version)
    ((key, octets),) = world.gateway.records.items()
    assert octets[0] == record.FORMAT
    assert empty(unusable(world, {key: bytes((record.FORMAT + 1,)) + octets[1:]}))


_SAMPLES: dict[int, tuple[World, str, bytes]] = {}


def sample(version: int) -> tuple[World, str, bytes]:
    """A record with much in it: an exchange under way, a user's or an initiator's things."""
    if version not in _SAMPLES:
        world = up(version)
        world.device.engine.rekey(only_sa(world, "device").spis, world.now, children=True)
        world.collect()
        ((key, octets),) = world.device.records.items()
        _SAMPLES[version] = (world, key, octets)
    return _SAMPLES[version]


def mutate(value: object, chance: random.Random, depth: int = 0) -> object:
    """A JSON value with something else in one place."""
    strange: list[object] = [
        None, True, False, 0, -1, 1, 2**32, 2**70, 1e300, -1.5, "", "A", "\0" * 40, "é",
        [], {}, [[]], [None], "AAAA", "A" * 5000,
    ]  # fmt: skip
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(sorted(value))
        if chance.random() < 0.1:
            return {one: what for one, what in value.items() if one != name}
        return {**value, name: mutate(value[name], chance, depth + 1)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        if chance.random() < 0.15:
            return value[:at] + value[at + 1 :]
        return [*value[:at], mutate(value[at], chance, depth + 1), *value[at + 1 :]]
    return chance.choice(strange)


@VERSIONS
@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_fuzzed_records_never_get_further_than_an_event(version: int, seed: int) -> None:
    world, key, octets = sample(version)
    chance = random.Random(seed)
    value = json.loads(octets[1:])
    for _ in range(chance.randint(1, 3)):
        value = mutate(value, chance)
    fresh = world.fresh("device")
    world.engines.clear()
    fresh.restore({key: b"\x01" + json.dumps(value).encode()}, world.now)
    fresh.take_outputs()
    # Whatever lives on can be driven, and recorded.
    fresh.handle_timer(world.now + 1)
    for core_sa in list(fresh._core.sas.values()):
        core = fresh._core
        if core.version_of(core_sa).is_recorded(core_sa):
            record.encode(core, core_sa.family, [core_sa])
    fresh.ike_sas(world.now)
    fresh.child_sas(world.now)
    fresh.handle_timer(world.now + 10)
    fresh.take_outputs()
    fresh.close_all(world.now + 10)
    fresh.take_outputs()
    assert fresh.counters["internal_errors"] == 0


@VERSIONS
@given(data=st.binary(max_size=300), at=st.integers(0, 4000))
@settings(max_examples=100, deadline=None)
def test_damaged_octets_of_a_record(version: int, data: bytes, at: int) -> None:
    world, key, octets = sample(version)
    at %= len(octets)
    fresh = world.fresh("device")
    world.engines.clear()
    fresh.restore({key: octets[:at] + data + octets[at + len(data) :]}, world.now)
    fresh.take_outputs()
    assert fresh.counters["internal_errors"] == 0


# -- many ------------------------------------------------------------------------------------------


def test_one_broken_record_among_many_harms_nobody() -> None:
    gateway = gateway_policy()
    engine = make_engine([gateway])
    records: dict[str, bytes] = {}
    for number in range(20):
        local = Endpoint(ip_address("198.51.100.10") + number, 500)
        device = make_engine([device_policy(local=local)])
        device.initiate("office", 1000.0)
        for _ in range(4):
            for output in device.take_outputs():
                if isinstance(output, Transmit):
                    path = Path(output.path.remote, output.path.local)
                    engine.receive(output.message, path, 1000.0)
            for output in engine.take_outputs():
                if isinstance(output, Transmit):
                    path = Path(output.path.remote, output.path.local)
                    device.receive(output.message, path, 1000.0)
                elif isinstance(output, RecordSa):
                    records[output.key] = output.record
                elif isinstance(output, ForgetSa):
                    del records[output.key]
    whole = len(records)
    victim = next(iter(records))
    records[victim] = records[victim][:-7]
    fresh = make_engine([gateway])
    restored = fresh.restore(records, 1001.0)
    assert restored.ike_sas == whole - 1
    assert [one.key for one in restored.dropped] == [victim]
