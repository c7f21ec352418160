"""From every mode to every other: the i-HoA stays, and what need not be renewed is not."""

import itertools
from dataclasses import replace

import pytest
from node_world import GATEWAY, HOME, OUTSIDE_HA, OUTSIDE_HOME, World, node_policy

from gateway.dataplane.node import LayerStack
from gateway.mobile_node.outputs import (
    Apply,
    CloseVpn,
    ConnectVpn,
    Forbid,
    MoveVpn,
    Permit,
    TransmitRegistration,
)
from gateway.mobile_node.policy import Detection, VpnPolicy

ALL = {"vpn_fa": True, "endpoint_update": True, "mobike": True}
NONE = {"vpn_fa": False, "endpoint_update": False, "mobike": False}
INSIDE = {"home": "home", "c": "office", "f": "i-fa"}
OUTSIDE = {
    "vc": ("cafe", {**NONE, "endpoint_update": True}),
    "vf": ("cafe", ALL),
    "mc": ("cafe", {**NONE, "mobike": True}),
    "cvc": ("cafe", NONE),
    "cvf": ("cafe", {**NONE, "vpn_fa": True}),
    "fvc": ("x-fa", NONE),
    "fvf": ("x-fa", ALL),
}
MODES = (*INSIDE, *OUTSIDE)


def go(world: World, mode: str, interface: str = "eth0") -> None:
    """To where this mode is, with a gateway that makes it so."""
    if mode in INSIDE:
        world.plug(interface, INSIDE[mode])
        return
    network, offers = OUTSIDE[mode]
    for name, value in offers.items():
        setattr(world.gateway, name, value)
    if world.plugs.get(interface) == network:
        network = {"cafe": "hotel"}.get(network, network)
    world.plug(interface, network)


def held(world: World, since: float) -> float:
    """For how long the user's packets had to wait."""
    total, began = 0.0, None
    for at, one in world.outputs:
        if at >= since and isinstance(one, Apply):
            if one.stack.mode.value != "held" and began is not None:
                total, began = total + at - began, None
            elif one.stack.mode.value == "held" and began is None:
                began = at
    return total if began is None else total + world.now - began


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(MODES, 2)))
def test_from_any_mode_to_any_other(before: str, after: str) -> None:
    world = World()
    go(world, before)
    world.wait_for(before, seconds=10)
    world.run(5)
    since = world.now
    go(world, after)
    # What a session agreed on outlives the move; its letters then are those of the session.
    if before in INSIDE or after in INSIDE:
        world.wait_for(after, seconds=30)
    else:
        world.wait(world.carries, 30)
        assert world.mode in MODES
        assert world.mode not in INSIDE
    for apply in world.of(Apply, since):
        stack: LayerStack = apply.stack
        assert stack.home_address == HOME
    world.run(60)
    assert world.carries()
    if after in INSIDE:
        assert world.gateway.session is None
        assert world.outside_ha.binding(OUTSIDE_HOME) is None


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(MODES, 2)))
def test_with_two_interfaces_nothing_waits(before: str, after: str) -> None:
    """The second one comes up before the first one goes: no moment without a working stack."""
    world = World()
    go(world, before, "wlan0")
    world.wait_for(before, seconds=10)
    world.run(5)
    since = world.now
    world.metrics["eth0"] = 10
    go(world, after, "eth0")
    world.run(12)
    moved = world.stack.attachment is not None and world.stack.attachment.interface == "eth0"
    # Inside wins over outside, whatever the metric says.
    assert moved == (after in INSIDE or before not in INSIDE)
    assert world.carries()
    assert held(world, since) <= 0.1
    world.plug("wlan0", None)
    world.wait(world.carries, 20)
    assert world.mode == after or (before not in INSIDE and after not in INSIDE)


def test_by_the_external_home_agent_a_move_costs_one_registration_and_no_ike() -> None:
    world = World(**NONE)
    world.plug("eth0", "cafe")
    world.wait_for("cvc")
    world.run(5)
    since = world.now
    world.plug("eth0", "hotel")
    gap = world.wait_for("cvc")
    assert gap <= 2 * world.delay_s + 0.001
    assert world.stack.attachment is not None
    assert str(world.stack.attachment.address) == "203.0.113.150"
    assert not world.of(ConnectVpn, since)
    assert not world.of(MoveVpn, since)
    assert not world.of(CloseVpn, since)
    world.plug("eth0", "x-fa")
    world.wait_for("fvc")
    assert not world.of(ConnectVpn, since)
    assert not world.of(MoveVpn, since)


@pytest.mark.parametrize(("mobike", "mode"), [(False, "vc"), (True, "mc")])
def test_without_the_external_home_agent_a_move_costs_nothing_but_the_vpn(
    mobike: bool, mode: str
) -> None:
    world = World(vpn_fa=False, endpoint_update=not mobike, mobike=mobike)
    world.plug("eth0", "cafe")
    world.wait_for(mode)
    world.run(5)
    since = world.now
    world.plug("eth0", "hotel")
    assert world.mode == mode
    assert world.carries()
    assert world.of(MoveVpn, since) == [MoveVpn(world.stack.attachment.address, mobike)]
    through = [one for one in world.of(TransmitRegistration, since) if one.interface is None]
    assert not through
    # The i-HA is asked from the new place all the same.
    assert [one for one in world.of(TransmitRegistration, since) if one.interface == "eth0"]
    world.run(30)
    assert world.mode == mode
    assert world.carries()
    assert not world.of(ConnectVpn, since)


def test_the_session_moves_under_and_off_the_external_home_agent() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    world.run(5)
    since = world.now
    world.plug("eth0", "x-fa")
    world.wait_for("fvf", seconds=3)
    assert world.of(MoveVpn, since)[-1].outer == OUTSIDE_HOME
    world.plug("eth0", "hotel")
    world.wait_for("vf", seconds=3)
    assert not world.of(ConnectVpn, since)
    world.run(30)
    assert world.mode == "vf"
    assert world.carries()


def test_a_link_that_is_gone_for_a_while_does_not_end_the_session() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    since = world.now
    world.plug("eth0", None)
    assert world.mode == "held"
    assert "plug a cable in" in world.status.why
    world.run(8)
    world.plug("eth0", "hotel")
    world.wait_for("vf", seconds=0.1)
    assert not world.of(CloseVpn, since)
    assert not world.of(ConnectVpn, since)


def test_coming_inside_the_vpn_closes_after_the_registration_took_over() -> None:
    world = World(**NONE)
    world.plug("eth0", "cafe")
    world.wait_for("cvc")
    since = world.run(1).now
    world.plug("eth0", "office")
    world.wait_for("c")
    kinds = [
        type(one).__name__
        for at, one in world.outputs
        if at >= since and isinstance(one, Permit | Apply | CloseVpn | Forbid)
    ]
    assert kinds[0] == "Forbid"
    assert kinds[-3:] == ["Permit", "Apply", "CloseVpn"]
    world.run(2)
    assert world.outside_ha.binding(OUTSIDE_HOME) is None
    last = [one for one in world.of(TransmitRegistration, since) if one.destination == OUTSIDE_HA]
    assert last[-1].message[2:4] == bytes(2)


def test_a_change_of_the_link_forbids_at_once() -> None:
    world = World()
    world.plug("eth0", "office")
    world.wait_for("c")
    assert world.permitted("eth0")
    world.delay_s = 1.0
    world.plug("eth0", "office")
    assert not world.permitted("eth0")
    assert world.mode == "held"
    world.run(1.9)
    assert world.mode == "held"
    world.wait_for("c", seconds=0.2)


def test_answers_of_an_earlier_generation_prove_nothing() -> None:
    world = World()
    world.delay_s = 0.4
    world.plug("eth0", "office")
    world.run(0.7)
    world.plug("eth0", "office")
    world.run(0.2)
    assert world.mode == "held"
    assert not world.permits
    world.wait_for("c", seconds=1)


def test_inside_wins_whatever_the_metric_says() -> None:
    world = World(**ALL)
    world.metrics = {"eth0": 10, "wlan0": 600}
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    world.plug("wlan0", "office")
    world.wait_for("c", seconds=1)
    assert world.stack.attachment.interface == "wlan0"
    assert world.stack.previous is not None
    assert world.stack.previous.interface == "eth0"
    world.run(11)
    assert world.stack.previous is None
    assert world.mode == "c"
    world.plug("wlan0", None)
    world.wait_for("vf", seconds=8)


def test_of_two_interfaces_inside_the_preferred_one_carries_and_keeps_the_binding() -> None:
    world = World()
    world.metrics = {"eth0": 10, "wlan0": 600}
    world.plug("wlan0", "office")
    world.wait_for("c")
    since = world.now
    world.plug("eth0", "lab")
    world.wait(lambda: world.stack.attachment.interface == "eth0" and world.carries(), 1)
    assert not [one for one in world.of(Apply, since) if one.stack.mode.value == "held"]
    assert not world.permitted("wlan0")
    world.run(120)
    assert world.carries()
    assert world.stack.attachment.interface == "eth0"
    world.plug("eth0", None)
    world.wait(lambda: world.stack.attachment.interface == "wlan0" and world.carries(), 2)


def test_both_at_once_the_binding_ends_up_at_the_preferred_one() -> None:
    for first, second in (("eth0", "wlan0"), ("wlan0", "eth0")):
        world = World()
        # Nobody tells the device that its binding has moved: it has to know itself.
        world.inside_ha.reconfigure(replace(world.inside_ha.policy, revocation=False), world.now)
        world.metrics = {"eth0": 10, "wlan0": 600}
        world.plug(first, "office" if first == "eth0" else "lab")
        world.plug(second, "office" if second == "eth0" else "lab")
        world.run(2)
        assert world.stack.attachment.interface == "eth0"
        assert world.carries()


def test_the_profile_orders_and_excludes_interfaces() -> None:
    world = World(node_policy(interfaces=("wl*", "eth0")), **ALL)
    world.metrics = {"eth0": 10, "wlan0": 600, "usb0": 1}
    world.plug("usb0", "office")
    world.run(5)
    assert world.mode == "held"
    assert "no interface fits" in world.status.why
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    world.plug("wlan0", "hotel")
    world.wait(lambda: world.stack.attachment.interface == "wlan0" and world.carries(), 5)


def test_a_worse_second_link_is_not_used_until_it_is_needed() -> None:
    world = World(**ALL)
    world.metrics = {"eth0": 10, "wlan0": 600}
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    since = world.now
    world.plug("wlan0", "hotel")
    world.run(10)
    assert world.stack.attachment.interface == "eth0"
    assert not [
        one
        for one in world.of(TransmitRegistration, since)
        if one.interface == "wlan0" and one.destination == OUTSIDE_HA
    ]
    world.plug("eth0", None)
    assert world.stack.attachment.interface == "wlan0"
    world.wait_for("vf", seconds=0.1)


def test_a_better_link_that_leads_nowhere_is_not_taken() -> None:
    for external in (True, False):
        policy = node_policy() if external else node_policy(external=None)
        world = World(policy, **ALL)
        world.metrics = {"eth0": 10, "wlan0": 600}
        world.plug("wlan0", "cafe")
        world.wait_for("vf")
        world.plug("eth0", "dead")
        world.run(40)
        assert world.stack.attachment.interface == "wlan0"
        assert world.carries()
        world.plug("eth0", "portal")
        world.networks["portal"].portal = world.networks["portal"].portal.CAPTIVE
        world.run(40)
        assert world.stack.attachment.interface == "wlan0"
        assert world.carries()


def test_a_link_whose_upstream_dies_is_left_for_another() -> None:
    world = World(**ALL)
    world.metrics = {"eth0": 10, "wlan0": 600}
    world.plug("eth0", "cafe")
    world.plug("wlan0", "hotel")
    world.wait_for("vf")
    world.networks["cafe"].udp = world.networks["cafe"].tcp = False
    world.wait(lambda: world.stack.attachment.interface == "wlan0" and world.carries(), 120)


def test_the_detection_period_delays_the_first_vpn_only() -> None:
    policy = node_policy(
        external=None, vpn=VpnPolicy(GATEWAY), detection=Detection(detection_period_s=3.0)
    )
    world = World(policy, **ALL)
    world.plug("eth0", "cafe")
    assert 3.0 <= world.wait_for("vf") <= 3.2
    world.plug("eth0", "hotel")
    assert world.mode == "vf"


def test_answers_of_the_outside_home_agent_to_an_earlier_address_do_not_count() -> None:
    for again in ("hotel", "cafe"):
        world = World(**NONE)
        world.delay_s = 1.0
        world.plug("eth0", "cafe")
        world.run(0.5)
        world.plug("eth0", again)
        world.delay_s = 0.01
        world.wait_for("cvc", seconds=5)


def test_of_many_quick_moves_the_last_one_counts() -> None:
    for offers in (ALL, NONE, {**NONE, "mobike": True}):
        world = World(**offers)
        world.delay_s, world.jitter_s = 0.05, 0.3
        for _ in range(15):
            for network in ("cafe", "hotel", "nat", "x-fa", "cafe"):
                world.plug("eth0", network)
                world.run(world.chance.random())
        world.wait(world.carries, 30)
        world.run(30)
        assert world.carries()


def test_in_doubt_everything_is_proven_again_and_the_session_told() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    since = world.run(1).now
    world.node.doubt(world.now)
    world.flush()
    assert world.mode == "vf"
    assert len(world.of(MoveVpn, since)) == 1
    assert not world.of(ConnectVpn, since)
    world.plug("eth0", "office")
    world.wait_for("c")
    world.node.doubt(world.now)
    world.flush()
    assert not world.permitted("eth0")
    assert world.mode == "held"
    world.wait_for("c", seconds=0.1)


def test_a_better_link_whose_answers_get_lost_does_not_keep_the_binding() -> None:
    world = World()
    world.inside_ha.reconfigure(replace(world.inside_ha.policy, revocation=False), world.now)
    world.metrics = {"eth0": 10, "wlan0": 600}
    world.plug("wlan0", "lab")
    world.wait_for("c")
    world.networks["office"].deaf = True
    world.plug("eth0", "office")
    world.run(8)
    assert world.stack.attachment.interface == "wlan0"
    assert world.carries()
