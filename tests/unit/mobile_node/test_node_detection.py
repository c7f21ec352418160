"""Secure detection of the inside and its monitoring (draft 001, section 4; draft 002, 3.1)."""

from dataclasses import replace

import pytest
from node_world import (
    INSIDE_HA,
    INSIDE_KEY,
    OUTSIDE_HA,
    OUTSIDE_HOME,
    ROGUE_HA,
    Detection,
    Hints,
    World,
    node_policy,
)

from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import MIP_PORT
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.registration import RegistrationReply, RegistrationRequest
from gateway.mobile_node.outputs import Apply, ConnectVpn, Forbid, Permit, TransmitRegistration

ALL = {"vpn_fa": True, "endpoint_update": True, "mobike": True}
NONE = {"vpn_fa": False, "endpoint_update": False, "mobike": False}


def requests(world: World, destination: object, since: float = 0.0) -> list[TransmitRegistration]:
    return [
        one
        for one in world.of(TransmitRegistration, since)
        if one.destination == destination and one.message[0] == 1
    ]


def lifetime(one: TransmitRegistration) -> int:
    return RegistrationRequest.parse(one.message).lifetime_s


# -- who is asked ---------------------------------------------------------------------------


def test_both_home_agents_are_asked_at_once_and_again() -> None:
    world = World()
    world.inside_ha_up = world.outside_ha_up = world.gateway.up = False
    world.plug("eth0", "office")
    assert len(requests(world, INSIDE_HA)) == len(requests(world, OUTSIDE_HA)) == 1
    world.run(1.6)
    assert len(requests(world, INSIDE_HA)) == len(requests(world, OUTSIDE_HA)) == 3


def test_an_answer_of_the_inside_stops_both_and_deregisters_outside() -> None:
    world = World()
    world.plug("eth0", "office")
    world.run(1)
    world.wait_for("c", seconds=1)
    assert world.outside_ha.binding(OUTSIDE_HOME) is None
    assert lifetime(requests(world, OUTSIDE_HA)[-1]) == 0
    since = world.now
    world.run(10)
    assert not requests(world, INSIDE_HA, since)
    assert not requests(world, OUTSIDE_HA, since)


def test_the_outside_home_agent_is_left_also_when_it_answers_first() -> None:
    world = World()
    world.inside_ha_up = False
    world.plug("eth0", "office")
    world.run(0.3)
    assert world.outside_ha.binding(OUTSIDE_HOME) is not None
    world.inside_ha_up = True
    world.wait_for("c", seconds=1)
    assert not world.of(ConnectVpn)
    world.run(1)
    assert world.outside_ha.binding(OUTSIDE_HOME) is None


def test_a_late_answer_of_the_inside_wins_after_the_vpn_is_up() -> None:
    world = World(**ALL)
    world.inside_ha_up = False
    world.plug("eth0", "office")
    world.wait(lambda: world.gateway.session is not None, 5)
    world.inside_ha_up = True
    world.wait_for("c", seconds=3)
    world.run(5)
    assert world.gateway.session is None
    assert world.outside_ha.binding(OUTSIDE_HOME) is None


def test_outside_the_inside_is_asked_now_and_then() -> None:
    world = World(**ALL)
    world.inside_ha_up = False
    world.plug("eth0", "office")
    world.run(10)
    assert world.gateway.session is not None
    world.inside_ha_up = True
    # Through the VPN as well: the node works, and waits for its next look.
    took = world.wait_for("c", seconds=700)
    assert 500 <= took <= 620


def test_a_session_that_ends_may_mean_that_we_are_inside() -> None:
    world = World(**ALL)
    world.inside_ha_up = False
    world.plug("eth0", "office")
    world.run(30)
    assert world.gateway.session is not None
    world.inside_ha_up = True
    world.end_vpn("the gateway is not reached any more")
    world.wait_for("c", seconds=1)
    assert any("the VPN ended" in one for one in world.status.last_events)


def test_without_an_external_home_agent_the_period_tells() -> None:
    world = World(node_policy(external=None), **ALL)
    world.plug("eth0", "cafe")
    assert 2.0 <= world.wait_for("vf") <= 2.1


def test_a_hint_that_it_is_inside_delays_the_outside_and_proves_nothing() -> None:
    world = World(node_policy(hints=Hints(domains=frozenset({"CORP.example"}))), **ALL)
    world.plug("eth0", "office")
    world.wait_for("c")
    assert not requests(world, OUTSIDE_HA)
    world.networks["hotel"].domain = "corp.EXAMPLE"
    since = world.now
    world.plug("eth0", "hotel")
    world.run(0.9)
    assert not requests(world, OUTSIDE_HA, since)
    assert world.mode == "held"
    assert not world.permits
    assert world.wait_for("vf", seconds=5) > 1.0


def test_a_hint_that_it_is_outside_begins_with_the_vpn_at_once() -> None:
    world = World(node_policy(hints=Hints(domains=frozenset({"corp.example"}))), **ALL)
    world.plug("eth0", "hotel")
    assert world.wait_for("vf") < 0.2
    # Which is no verdict: the inside is still asked, and wins.
    world = World(node_policy(hints=Hints(domains=frozenset({"corp.example"}))), **ALL)
    world.networks["office"].domain = "elsewhere.example"
    world.plug("eth0", "office")
    world.wait_for("c", seconds=1)


def test_hints_by_router_and_by_agent() -> None:
    mac = bytes.fromhex("020000000099")
    hints = Hints(router_link_addresses=frozenset({mac}))
    world = World(node_policy(hints=hints))
    world.networks["office"].mac = mac
    world.plug("eth0", "office")
    world.wait_for("c")
    assert not requests(world, OUTSIDE_HA)


# -- what it rests on -----------------------------------------------------------------------


def test_plaintext_ends_within_a_minute_of_the_last_proof() -> None:
    world = World(**ALL)
    world.plug("eth0", "office")
    world.wait_for("c")
    world.run(29)
    world.inside_ha_up = world.gateway.up = world.outside_ha_up = False
    dead = world.now
    world.wait(lambda: not world.permitted("eth0"), 61)
    assert world.now - dead <= 51
    assert world.mode == "held"


def test_the_kernel_ends_it_when_the_process_is_dead() -> None:
    world = World()
    world.plug("eth0", "office")
    world.wait_for("c")
    world.run(100)
    assert max(world.permits.values()) - world.now <= 50


def test_renewals_come_every_interval_inside() -> None:
    world = World()
    world.plug("eth0", "office")
    world.wait_for("c")
    since = world.now
    world.run(600)
    assert len(requests(world, INSIDE_HA, since)) == pytest.approx(20, abs=1)
    assert not [one for one in world.of(Apply, since) if one.stack.mode.value == "held"]


def test_lost_renewals_are_repeated_within_the_bound() -> None:
    world = World()
    world.plug("eth0", "office")
    world.wait_for("c")
    since = world.now
    world.loss = 0.4
    world.run(900)
    world.loss = 0.0
    holds = [one for one in world.of(Apply, since) if one.stack.mode.value == "held"]
    assert len(holds) <= 1
    world.wait_for("c", seconds=80)


def test_a_silent_change_upstream_ends_plaintext_and_finds_the_way_out() -> None:
    world = World(**ALL)
    world.plug("eth0", "office")
    world.wait_for("c")
    world.run(7)
    world.swap("eth0", "cafe")
    world.networks["cafe"].address = "10.2.0.20/24"
    world.run(65)
    assert not world.permitted("eth0")
    world.wait_for("vf", seconds=20)


def test_at_home_the_proof_is_a_deregistration_again_and_again() -> None:
    world = World()
    world.plug("eth0", "home")
    world.wait_for("home")
    since = world.now
    world.run(300)
    sent = requests(world, INSIDE_HA, since)
    assert len(sent) == pytest.approx(10, abs=1)
    assert {lifetime(one) for one in sent} == {0}
    world.inside_ha_up = False
    world.run(60)
    assert not world.permitted("eth0")


def test_a_network_that_looks_like_home_is_not_home() -> None:
    world = World(**ALL)
    world.networks["cafe"].address = "10.1.0.77/24"
    world.plug("eth0", "cafe")
    world.run(1.9)
    assert world.mode == "held"
    world.wait_for("vf", seconds=3)


def test_a_denial_of_the_inside_is_no_proof() -> None:
    world = World(node_policy(internal=replace(node_policy().internal, lifetime_s=600)), **ALL)
    world.plug("eth0", "office")
    world.wait_for("c")
    # The i-HA forgets the device: its answers are denials from now on.
    nodes = world.inside_ha.policy.nodes
    nodes._node = replace(nodes._node, home_address=None)
    world.inside_ha.reconfigure(replace(world.inside_ha.policy), world.now)
    since = world.now
    world.run(61)
    assert not world.permitted("eth0")
    assert not list(world.of(Permit, since + 35))


def test_an_authentic_denial_ends_plaintext_at_once() -> None:
    world = World(**ALL)
    world.plug("eth0", "office")
    world.wait_for("c")
    world.inside_ha_up = False
    since = world.now
    world.wait(lambda: requests(world, INSIDE_HA, since), 40)
    assert world.permitted("eth0")
    denial = answer(requests(world, INSIDE_HA)[-1], INSIDE_KEY, code=129)
    world.node.receive(denial, "eth0", Endpoint(INSIDE_HA, 434), world.now)
    world.flush()
    assert not world.permitted("eth0")
    assert world.mode == "held"
    since = world.now
    world.inside_ha_up = True
    world.wait_for("vf", seconds=10)
    assert "refuses directly" in world.status.why
    assert not world.of(Permit, since)


def test_requests_whose_answers_get_lost_do_not_leave_the_binding_astray() -> None:
    """They reach the i-HA and move the binding to the link; the VPN's care-of address is told."""
    world = World(**ALL)
    world.inside_ha.reconfigure(replace(world.inside_ha.policy, revocation=False), world.now)
    world.networks["office"].deaf = True
    world.plug("eth0", "office")
    world.wait(lambda: world.mode == "vf", 10)
    world.run(8)
    assert world.carries()
    assert not world.of(Permit)


# -- lies -----------------------------------------------------------------------------------


def answer(
    one: TransmitRegistration, association: object, *, code: int = 0, wrong: int = 0
) -> bytes:
    request = RegistrationRequest.parse(one.message)
    octets = RegistrationReply(
        code,
        request.lifetime_s,
        request.home_address,
        request.home_agent,
        request.identification ^ wrong,
    ).serialize()
    return sign(octets, AuthenticationKind.MOBILE_HOME, association)


@pytest.mark.parametrize("network", ["cafe", "home", "i-fa"])
def test_h68_forged_replies_prove_nothing(network: str) -> None:
    world = World(**ALL)
    world.inside_ha_up = False
    world.plug("eth0", network)
    for _ in range(300):
        world.run(0.1)
        for one in requests(world, INSIDE_HA)[-2:]:
            for source in (INSIDE_HA, one.destination):
                forged = answer(one, ROGUE_HA)
                world.node.receive(forged, "eth0", Endpoint(source, MIP_PORT), world.now)
                world.flush()
    assert not world.of(Permit)


def test_h68_a_rogue_home_agent_with_the_address_of_ours_proves_nothing() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.networks["cafe"].inside = False
    for one in requests(world, INSIDE_HA):
        world.node.receive(answer(one, ROGUE_HA), "eth0", Endpoint(INSIDE_HA, 434), world.now)
        denial = answer(one, ROGUE_HA, code=129)
        world.node.receive(denial, "eth0", Endpoint(INSIDE_HA, 434), world.now)
        world.flush()
    world.wait_for("vf", seconds=8)
    assert not world.of(Permit)


def test_h68_replayed_replies_prove_nothing() -> None:
    world = World(**ALL)
    heard: list[tuple[bytes, Endpoint]] = []
    receive = world.node.receive

    def record(message: bytes, interface: str | None, source: Endpoint, now: float) -> None:
        heard.append((message, source))
        receive(message, interface, source, now)

    world.node.receive = record  # type: ignore[method-assign]
    world.plug("eth0", "office")
    world.wait_for("c")
    world.run(100)
    world.plug("eth0", "cafe")
    since = world.run(0.001).now
    for _ in range(50):
        world.run(0.3)
        for message, source in heard:
            receive(message, "eth0", source, world.now)
            world.flush()
    assert not world.of(Permit, since)
    assert world.mode == "vf"


def test_an_answer_over_another_interface_proves_nothing() -> None:
    world = World(**ALL)
    world.plug("wlan0", "cafe")
    world.plug("eth0", "office")
    receive = world.node.receive
    swapped = {"eth0": "wlan0", "wlan0": "eth0"}

    def cross(message: bytes, interface: str | None, source: Endpoint, now: float) -> None:
        receive(message, swapped.get(interface or "", interface), source, now)

    world.node.receive = cross  # type: ignore[method-assign]
    world.run(30)
    assert not world.of(Permit)


def test_an_answer_through_the_vpn_proves_nothing_about_the_link() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    world.run(1300)
    assert not world.of(Permit)


def test_h_garbage_changes_nothing() -> None:
    world = World()
    world.plug("eth0", "office")
    world.wait_for("c")
    before = world.status
    for length in range(60):
        for first in (1, 3, 4, 7, 255):
            message = bytes([first]) + world.chance.randbytes(length)
            world.node.receive(message, "eth0", Endpoint(INSIDE_HA, 434), world.now)
            world.node.receive(message, None, Endpoint(INSIDE_HA, 434), world.now)
            world.node.receive(message, "none", Endpoint(INSIDE_HA, 434), world.now)
            world.node.advertisement(message, OUTSIDE_HA, "eth0", b"", world.now)
    world.node.receive(b"", "eth0", Endpoint(INSIDE_HA, 434), world.now)
    world.flush()
    assert world.mode == "c"
    assert world.status.interfaces == before.interfaces


# -- idle -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "mode"), [("office", "c"), ("home", "home"), ("i-fa", "f")])
def test_idle_inside_costs_nothing_and_holds(network: str, mode: str) -> None:
    world = World()
    world.busy = False
    world.plug("eth0", network)
    world.wait_for(mode)
    world.run(160)
    assert world.mode == "held"
    assert not world.permitted("eth0")
    assert "idle" in world.status.why
    since = world.now
    world.run(3600)
    assert not world.of(TransmitRegistration, since)
    assert not world.of(Permit, since)


def test_a_waiting_packet_wakes_it_with_a_proof() -> None:
    world = World()
    world.busy = False
    world.plug("eth0", "office")
    world.wait_for("c")
    world.run(1000)
    since = world.now
    world.node.traffic_waiting(world.now)
    world.flush()
    assert world.mode == "held"
    assert world.wait_for("c") <= 2 * world.delay_s + 0.001
    assert not requests(world, OUTSIDE_HA, since)
    # And it falls asleep again.
    world.run(200)
    assert world.mode == "held"


def test_moved_while_idle_a_waiting_packet_goes_out_by_the_vpn_only() -> None:
    world = World(**ALL)
    world.busy = False
    world.plug("eth0", "office")
    world.wait_for("c")
    world.run(1000)
    world.swap("eth0", "cafe")
    world.networks["cafe"].address = "10.2.0.20/24"
    since = world.now
    world.node.traffic_waiting(world.now)
    world.flush()
    world.wait_for("vf", seconds=8)
    assert not world.of(Permit, since)


def test_nothing_but_the_inside_is_idle() -> None:
    """Whatever ends the inside while it is idle ends the idleness as well."""
    for end in ("remove", "lock", "reconnect", "doubt", "unplug"):
        world = World(**ALL)
        world.busy = False
        world.plug("eth0", "lab")
        world.wait_for("c")
        world.run(500)
        assert world.node._core.idle.asleep
        world.networks["lab"].inside = False
        if end == "remove":
            world.node.links_changed([], world.now)
            world.flush()
        elif end == "unplug":
            world.plug("eth0", None)
        elif end == "lock":
            world.node.lock(world.now)
            world.node.unlock(world.now)
            world.flush()
        else:
            getattr(world.node, end)(world.now)
            world.flush()
        world.run(1)
        world.plug("eth0", "cafe")
        world.wait_for("vf", seconds=8)


def test_messages_per_hour_when_idle_outside() -> None:
    for network, mode, most in (("cafe", "vf", 40), ("x-fa", "fvf", 50)):
        world = World(**ALL)
        world.busy = False
        world.plug("eth0", network)
        world.wait_for(mode)
        since = world.run(60).now
        world.run(3600)
        sent = world.of(TransmitRegistration, since)
        assert len(sent) <= most
        assert world.mode == mode


# -- the end --------------------------------------------------------------------------------


def test_closing_tells_everybody() -> None:
    world = World(**NONE)
    world.plug("eth0", "cafe")
    world.wait_for("cvc")
    since = world.run(1).now
    world.node.close(world.now)
    world.flush()
    sent = world.of(TransmitRegistration, since)
    assert {lifetime(one) for one in sent} == {0}
    assert {one.interface for one in sent} == {"eth0", None}
    world.run(1)
    assert world.outside_ha.binding(OUTSIDE_HOME) is None
    assert world.inside_ha.binding(world.node.policy.internal.home_address) is None
    assert world.gateway.session is None
    assert world.mode == "held"
    assert world.node.next_timer() is None


def test_locked_nothing_is_connected_until_it_is_unlocked() -> None:
    world = World(**ALL)
    world.node.lock(world.now)
    world.plug("eth0", "cafe")
    world.run(30)
    assert world.mode == "held"
    assert world.status.locked
    assert "unlock" in world.status.why
    assert not world.of(ConnectVpn)
    assert not world.of(TransmitRegistration)
    world.node.unlock(world.now)
    world.flush()
    world.wait_for("vf", seconds=5)
    world.node.lock(world.now)
    world.flush()
    assert world.mode == "held"
    assert world.gateway.session is None
    world.run(20)
    assert world.mode == "held"


def test_locked_inside_ends_plaintext_at_once() -> None:
    world = World()
    world.plug("eth0", "office")
    world.wait_for("c")
    world.node.lock(world.now)
    world.flush()
    assert not world.permitted("eth0")
    assert world.of(Forbid)
    world.node.unlock(world.now)
    world.flush()
    world.wait_for("c", seconds=3)


def test_another_policy_takes_effect() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    world.node.reconfigure(node_policy(modes=frozenset({"cvc", "c"})), world.now)
    world.flush()
    world.wait_for("cvc", seconds=8)
    world.plug("eth0", "office")
    world.wait_for("c", seconds=2)
    world.node.reconfigure(
        node_policy(detection=Detection(monitor_interval_s=10, monitor_tries_s=5)), world.now
    )
    world.flush()
    world.wait_for("c", seconds=3)
    world.run(60)
    assert max(world.permits.values()) - world.now <= 15
