"""Whatever happens, nothing of the user's leaves in the clear after the bound (draft 001, 4.2).

The user keeps trying all the time, by IPv4 and IPv6, by the routes and straight onto each link;
taps at the far end of every wire of the device's say what left. Detection numbers are short, so
that the bound is 3 s instead of 50.
"""

# planes: kernel portable

import signal
import time
from collections.abc import Iterator

import pytest
from node_bed import I_HA, NodeBed, Watch, node_bed, with_ipv6

from gateway.lab.mobility import boxes, plan, roles
from gateway.lab.mobility.profiles import BOUND_S
from gateway.lab.mobility.rogue import RogueHomeAgent, replies
from gateway.lab.processes import wait_until
from gateway.lab.tap import ETH_P_IPV6, Tap

pytestmark = pytest.mark.kernel

PLAIN, OUT = "plain", "access1"
SWALLOW = """
table inet elsewhere {
    chain forward {
        type filter hook forward priority -200; policy accept;
        iifname "plain" ip daddr 10.2.0.1 udp dport 434 drop
    }
}
"""
"""The network behind the router is another one: registrations do not get through any more."""
RESTORE = "add table inet elsewhere; delete table inet elsewhere"


@pytest.fixture(scope="module")
def shared() -> Iterator[NodeBed]:
    started = {
        "iha": roles.inside_home_agent,
        "xha": roles.outside_home_agent,
        **boxes.vpn(endpoint_update="allowed"),
    }
    with node_bed(PLAIN, started=started) as bed:
        yield bed


@pytest.fixture
def bed(shared: NodeBed) -> NodeBed:
    shared.lab.nft("core", RESTORE)
    shared.lab.run("core", ["ip", "link", "set", PLAIN, "up"])
    return shared


@pytest.fixture
def watch(bed: NodeBed) -> Iterator[Watch]:
    """The node is inside by proof, and plaintext flows: the leak that must end can be seen."""
    bed.lab.leave_everything()  # what was found out there is void
    bed.lab.move(PLAIN)
    with_ipv6(bed, PLAIN)
    if bed.node.running():
        bed.node.wait_for_mode("c")
    else:
        bed.run_node("vf", "cvf", at="c")
    with Watch(bed) as watch:
        watch.plaintext_flows()
        yield watch
        ipv6 = [leak for leak in watch.leaks() if "IPv6" in leak.what]
    assert ipv6 == []


def stops_within_the_bound(watch: Watch, left_at: float) -> None:
    watch.until(left_at + BOUND_S)
    watch.tries()
    assert watch.leaks(left_at + BOUND_S) == []


def test_a_pulled_cable_and_another_network(bed: NodeBed, watch: Watch) -> None:
    """Not one packet on the new link, and none on the old one when it comes back unproven."""
    left_at = time.time()
    bed.lab.move(OUT)
    with_ipv6(bed, OUT)
    bed.node.wait_for_mode("vf", "cvf")
    watch.tries()
    assert [leak for leak in watch.leaks(left_at) if leak.host == OUT] == []
    bed.lab.nft("core", SWALLOW)
    back_at = time.time()
    bed.lab.attach(PLAIN)
    with_ipv6(bed, PLAIN)
    watch.tries()
    assert watch.leaks(back_at) == []


def test_a_cable_pulled_at_its_other_end(bed: NodeBed, watch: Watch) -> None:
    """The device's own settings stay; what is behind the plug is another network afterwards."""
    bed.lab.run("core", ["ip", "link", "set", PLAIN, "down"])
    bed.node.wait_for_mode("held")
    bed.lab.nft("core", SWALLOW)
    plugged_at = time.time()
    bed.lab.run("core", ["ip", "link", "set", PLAIN, "up"])
    watch.tries()
    assert watch.leaks(plugged_at) == []
    assert bed.node.mode() != "c"


def test_a_silent_change_upstream(bed: NodeBed, watch: Watch) -> None:
    bed.lab.nft("core", SWALLOW)
    stops_within_the_bound(watch, time.time())
    assert bed.node.mode() not in {"home", "c", "f"}


def test_the_home_agent_inside_is_dead(bed: NodeBed, watch: Watch) -> None:
    died_at = time.time()
    bed.boxes["iha"].kill()
    stops_within_the_bound(watch, died_at)
    # The same box again, not another one beside it: what the dead one left is its successor's.
    bed.boxes["iha"].start()


def test_the_process_is_killed_inside(bed: NodeBed, watch: Watch) -> None:
    """The kernel ends the permit, for there is nobody left who could."""
    killed_at = time.time()
    bed.node.kill()
    stops_within_the_bound(watch, killed_at)
    bed.lab.move(OUT)
    with_ipv6(bed, OUT)
    watch.tries()
    assert watch.leaks(killed_at + BOUND_S) == []


def test_the_process_is_killed_outside(bed: NodeBed) -> None:
    """IPsec goes on as long as its SAs do; nothing leaves without it, on no other link either."""
    bed.lab.move(OUT)
    with_ipv6(bed, OUT)
    if not bed.node.running():
        bed.run_node("vf", "cvf")
    bed.node.wait_for_mode("vf", "cvf")
    with Watch(bed) as watch:
        bed.node.kill()
        watch.tries()
        bed.lab.move("access2")
        with_ipv6(bed, "access2")
        watch.tries()
        assert watch.leaks() == []


def test_the_process_is_suspended(bed: NodeBed, watch: Watch) -> None:
    """It cannot see that its link changed, nor take anything back."""
    stopped_at = time.time()
    bed.node.signal(signal.SIGSTOP)
    bed.lab.move(OUT)
    with_ipv6(bed, OUT)
    watch.tries()
    assert [leak for leak in watch.leaks(stopped_at) if leak.host == OUT] == []
    bed.lab.nft("core", SWALLOW)
    bed.lab.move(PLAIN)
    stops_within_the_bound(watch, stopped_at)
    bed.lab.move(OUT)
    bed.node.signal(signal.SIGCONT)
    bed.node.wait_for_mode("vf", "cvf")
    assert watch.leaks(stopped_at + BOUND_S) == []


def test_forged_and_replayed_replies_prove_nothing(bed: NodeBed, watch: Watch) -> None:
    """Inside: they do not prolong the proof. Outside: they do not make one."""
    wait_until(lambda: replies(watch.tap.since(0)), 10, "a reply to replay")
    recorded = replies(watch.tap.since(0))[-3:]
    bed.lab.nft("core", SWALLOW)
    left_at = time.time()
    with RogueHomeAgent(bed.lab, "core", PLAIN, recorded) as rogue:
        stops_within_the_bound(watch, left_at)
        assert all(rogue.answered[kind] for kind in ("unsigned", "forged", "replayed"))
    with RogueHomeAgent(bed.lab, OUT, "device", recorded) as rogue:
        moved_at = time.time()
        bed.lab.move(OUT)
        with_ipv6(bed, OUT)
        bed.node.wait_for_mode("vf", "cvf")
        watch.tries()
        assert all(rogue.answered[kind] for kind in ("unsigned", "forged", "replayed"))
        assert watch.leaks(moved_at) == []


def test_a_rogue_home_agent_without_the_key(bed: NodeBed, watch: Watch) -> None:
    """A whole home agent at the right address, in a network that the node comes to."""
    bed.lab.run(OUT, ["ip", "address", "replace", f"{I_HA}/32", "dev", "lo"])
    text = str(plan.INSIDE_ASSOCIATION.key.hex())

    def rogue(folder: object) -> str:
        written = roles.inside_home_agent(folder).replace(text, "00112233445566778899aabbccddeeff")
        written = written.replace('"10.0.0.6"', '"192.0.2.66"')
        return written.replace(f'interface = "{plan.HOME_BRIDGE}"\n', "")

    bed.boxes.start({OUT: rogue})
    moved_at = time.time()
    bed.lab.move(OUT)
    with_ipv6(bed, OUT)
    bed.node.wait_for_mode("vf", "cvf")
    watch.tries()
    assert bed.boxes[OUT].events("registration_denied")
    assert [leak for leak in watch.leaks(moved_at) if leak.host == OUT] == []
    bed.boxes.end(OUT)
    bed.lab.run(OUT, ["ip", "address", "delete", f"{I_HA}/32", "dev", "lo"])


def test_ipv6_never_passes(bed: NodeBed, watch: Watch) -> None:
    """The layers are IPv4: inside as well as outside, nothing of the user's leaves by IPv6."""
    with Tap(bed.lab, [("core", PLAIN)]) as tap:
        watch.tries()
    said = {frame.packet[6] for frame in tap.frames if frame.ethertype == ETH_P_IPV6}
    assert said <= {0, 58}
