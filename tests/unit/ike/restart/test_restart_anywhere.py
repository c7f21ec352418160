"""Whenever a process is killed, the next goes on: every exchange, at every step, both sides."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
from harness_v1 import device_v1, gateway_v1
from harness_v2 import (
    DEVICE,
    assert_consistent,
    connect,
    device_policy,
    gateway_policy,
    network_selector,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from restart_world import ELSEWHERE, Action, Kill, World

from gateway.domain.endpoint import Endpoint
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import Lifetimes

LONG = Lifetimes(ike_rekey_s=1e6, child_rekey_s=1e6)
SETTLE_S = 200.0
PFS = SuiteOffer.parse("esp", ["aes256gcm16-x25519"])
FOLLOWUPS = SuiteOffer.parse("ike", ["aes128-sha256-ecp256-ke1_mlkem768-ke3_x25519"])
SIDES = ("gateway", "device")


def sa_of(world: World, side: str):  # noqa: ANN201
    """The one that the session lives in."""
    found = [sa for sa in world.hosts[side].engine._core.sas.values() if sa.established]
    return next((sa for sa in found if not sa.replaced), found[0] if found else None)


def rekey(side: str, *, children: bool) -> Action:
    def act(world: World) -> None:
        sa = sa_of(world, side)
        if sa is not None:
            world.hosts[side].engine.rekey(sa.spis, world.now, children=children)

    return act


def both(*, children: bool) -> Action:
    def act(world: World) -> None:
        for side in SIDES:
            rekey(side, children=children)(world)

    return act


def wait(seconds: float) -> Action:
    return lambda world: world.pass_time(seconds)


def another_child(world: World) -> None:
    sa = sa_of(world, "device")
    core = world.device.engine._core
    if sa is not None and len(sa.children) < 4:
        core.version_of(sa).create_child(core, sa, core.take_reqid("office"), world.now)


def delete_child(side: str) -> Action:
    def act(world: World) -> None:
        another_child(world)
        world.run()
        sa = sa_of(world, side)
        if sa is not None and len(sa.children) > 1:
            core = world.hosts[side].engine._core
            child = next(iter(sa.children.values()))
            core.version_of(sa).delete_child(core, sa, child, "test", world.now)

    return act


def endpoint_update(world: World) -> None:
    """The device moves without a word; the gateway sees its ESP packets, or its next question."""
    sa = sa_of(world, "device")
    if sa is None:
        return
    here = DEVICE.address if sa.path.local.address != DEVICE.address else ELSEWHERE.address
    world.where[here] = "device"
    world.device.engine.move_local(sa.local_spi, Endpoint(here, sa.path.local.port), world.now)
    world.run()
    seen = sa_of(world, "gateway")
    if seen is not None and seen.children:
        port = seen.path.remote.port if seen.encapsulate else 0
        spi_in = next(iter(seen.children))
        world.gateway.engine.endpoint_seen(spi_in, Endpoint(here, port), "test", world.now)


def move_by_mobike(world: World) -> None:
    sa = sa_of(world, "device")
    if sa is not None:
        here = DEVICE.address if sa.path.local.address != DEVICE.address else ELSEWHERE.address
        world.where[here] = "device"
        local = Endpoint(here, 4500)
        world.device.engine.local_address_changed(sa.local_spi, local, world.now)


def lose_some(world: World) -> None:
    """Every third datagram is lost from now on, for a while."""
    count = 0

    def impair(datagram: object) -> list[object]:
        nonlocal count
        count += 1
        return [] if count % 3 == 0 and count < 30 else [datagram]

    world.impair = impair  # type: ignore[assignment]


def renew_phase_1(side: str) -> Action:
    """Without a quick mode under way, whose messages belong to the SA that goes."""

    def act(world: World) -> None:
        world.pass_time(10.0)
        rekey(side, children=False)(world)

    return act


V2: dict[str, Action] = {
    "rekey child by gateway": rekey("gateway", children=True),
    "rekey child by device": rekey("device", children=True),
    "rekey IKE SA by gateway": rekey("gateway", children=False),
    "rekey IKE SA by device": rekey("device", children=False),
    "rekey children by both": both(children=True),
    "rekey IKE SA by both": both(children=False),
    "another child": another_child,
    "delete child by gateway": delete_child("gateway"),
    "delete child by device": delete_child("device"),
    "liveness": wait(45.0),
    "MOBIKE": move_by_mobike,
    "a moment": wait(3.0),
    "losses": lose_some,
}
V1: dict[str, Action] = {
    "quick mode by gateway": rekey("gateway", children=True),
    "quick mode by device": rekey("device", children=True),
    "quick modes by both": both(children=True),
    "phase 1 by gateway": renew_phase_1("gateway"),
    "phase 1 by device": renew_phase_1("device"),
    "dead peer detection": wait(45.0),
    "endpoint update": endpoint_update,
    "a moment": wait(3.0),
    "losses": lose_some,
}


def v2_world(*, records_first: bool = False, **changes: object) -> World:
    options: dict[str, object] = {"lifetimes": LONG, "liveness_s": 30.0, **changes}
    policies = gateway_policy(**options), device_policy(**options)
    return World(*policies, records_first=records_first)


def v1_world(*, records_first: bool = False, **changes: object) -> World:
    options: dict[str, object] = {"lifetimes": LONG, "liveness_s": 30.0, **changes}
    ours, theirs = (network_selector("10.1.0.0/16"),), (network_selector("10.2.0.0/16"),)
    return World(
        gateway_v1(pool=None, local_ts=ours, remote_ts=theirs, **options),
        device_v1(request_inner_address=False, local_ts=theirs, remote_ts=ours, **options),
        records_first=records_first,
    )


WORLDS: dict[str, tuple[Callable[..., World], dict[str, Action]]] = {
    "v2": (v2_world, V2),
    "v2 with PFS": (
        partial(v2_world, esp_offer=PFS),
        {name: action for name, action in V2.items() if "child" in name},
    ),
    "v2 with additional key exchanges": (
        partial(v2_world, ike_offer=FOLLOWUPS),
        {name: action for name, action in V2.items() if "IKE SA" in name},
    ),
    "v2 without MOBIKE": (
        partial(v2_world, mobike=False),
        {"endpoint update": endpoint_update, "liveness": wait(45.0)},
    ),
    "v1": (v1_world, V1),
}


def usable(names: list[str]) -> list[str]:
    """Without what ends differently in IKEv1 even where nobody is killed.

    Two renewals of phase 1 within seconds count as crossing, and one of them goes. Quick modes of
    both sides beside others are several successors of one child SA, of which each side keeps one.
    """
    first = next((name for name in names if name.startswith("phase 1")), None)
    found = [name for name in names if name == first or not name.startswith("phase 1")]
    return [name for name in found if name != "quick modes by both"] or ["a moment"]


def play(world: World, actions: Sequence[Action], kills: Sequence[Kill]) -> None:
    """Connect, do it all with kills in between, let it settle, and look at what is there."""
    connect(world)
    session = sa_of(world, "gateway").session_id
    world.kills = list(kills)
    for action in actions:
        action(world)
        world.run()
    world.impair = lambda datagram: [datagram]
    world.kills = []
    world.pass_time(SETTLE_S)
    world.check()
    names = {}
    for side, host in world.hosts.items():
        sas = list(host.engine._core.sas.values())
        assert [sa.established for sa in sas] == [True], (side, [sa.state for sa in sas])
        names[side] = sas[0].spis
        assert set(host.sas) == set(host.engine._core.children)
        assert host.sas, side
        assert all(host.sending.values())
    assert names["gateway"] == names["device"]
    assert_consistent(world)
    # The session is the one that it was: nobody logged in again.
    assert sa_of(world, "gateway").session_id == session


def kills(most: int) -> st.SearchStrategy[list[Kill]]:
    one = st.builds(Kill, st.sampled_from(SIDES), st.integers(0, 12), st.booleans())
    return st.lists(one, min_size=1, max_size=most)


@pytest.mark.parametrize("kind", WORLDS)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_killed_anywhere_nothing_is_lost(kind: str, data: st.DataObject) -> None:
    make, actions = WORLDS[kind]
    chosen = usable(data.draw(st.lists(st.sampled_from(sorted(actions)), min_size=1, max_size=5)))
    play(
        make(records_first=data.draw(st.booleans())),
        [actions[name] for name in chosen],
        data.draw(kills(3)),
    )


@pytest.mark.parametrize("loses", [False, True])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WORLDS)
def test_killed_at_every_step_of_every_exchange(kind: str, side: str, loses: bool) -> None:
    make, actions = WORLDS[kind]
    for name, action in actions.items():
        for steps in range(40):
            world = make(records_first=loses)
            try:
                play(world, [action], [Kill(side, steps, loses)])
            except Exception as wrong:
                raise AssertionError(f"{name}, killed after {steps} steps") from wrong
            if not world.killed:
                break
