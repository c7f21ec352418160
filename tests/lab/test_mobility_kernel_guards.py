"""What the mobility dataplane keeps out, defends, relays, and leaves alone."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from dataplane_bed import entered, inside, run, wait_for
from mobility_kernel_bed import (
    AGENT,
    AT_OFFICE,
    CARE_OF,
    ETH_P_ARP,
    GATEWAY,
    HOME,
    HOST,
    HOST_ADDRESS,
    NODE,
    PHYSICAL,
    ROUTER,
    MobilityBed,
    Packet,
    binding,
    echo,
    ip,
    mobility_bed,
    send_raw,
)
from test_mobility_kernel_switch import udp

from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.mobility import MobilitySettings, RelayedHomeAgent
from gateway.domain.mobility import Tunnel
from gateway.lab import planes
from gateway.lab.kernel import missing_features
from gateway.lab.mobility.topology import offloads_off

pytestmark = pytest.mark.kernel

INSIDE_AGENT = IPv4Address("10.1.0.1")


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as bed:
        yield bed


# -- home link -------------------------------------------------------------------------------


def test_the_home_link_learns_and_is_answered(bed: MobilityBed) -> None:
    """RFC 5944 section 4.6: gratuitous and proxy ARP, and nothing on removal."""
    mobility = bed.start()
    arp = bed.capture(HOST, "c0", ETH_P_ARP)
    inside(HOST, *f"ip neigh replace {AT_OFFICE} lladdr 2:0:0:0:0:9 dev c0 nud stale".split())
    bed.commit(binding(AT_OFFICE, home_network=PHYSICAL))

    def announced() -> list[bytes]:
        return [f for f in arp.read() if f[14:18] == AT_OFFICE.packed == f[24:28]]

    wait_for(lambda: len(announced()) == 2, "two announcements")
    assert [f[6:8] for f in announced()] == [b"\0\1", b"\0\2"]
    gateway = announced()[0][8:14]
    assert gateway.hex(":") in inside(HOST, "ip", "neigh", "show", AT_OFFICE)
    inside(HOST, "ip", "neigh", "del", AT_OFFICE, "dev", "c0")
    bed.node_tunnel(home=AT_OFFICE)
    assert bed.reaches(HOST, HOST_ADDRESS, AT_OFFICE)
    assert bed.reaches(NODE, AT_OFFICE, HOST_ADDRESS)
    before = len(arp.read())
    bed.commit(binding(AT_OFFICE, home_network=PHYSICAL))
    mobility.remove_binding(AGENT, AT_OFFICE)
    mobility.commit()
    assert not [f for f in arp.read()[before:] if f[14:18] == AT_OFFICE.packed]
    inside(HOST, "ip", "neigh", "del", AT_OFFICE, "dev", "c0", check=False)
    assert not bed.reaches(HOST, HOST_ADDRESS, AT_OFFICE)


def test_home_addresses_come_from_their_tunnel_or_from_home(bed: MobilityBed) -> None:
    bed.start()
    inside(ROUTER, "ip", "route", "add", "10.0.0.0/8", "via", AGENT)
    wire, home = bed.capture(ROUTER, "r1"), bed.capture(HOST, "c0")
    # Virtual: nobody is at home.
    send_raw(HOST, echo(HOME, "198.51.100.1"))
    send_raw(NODE, echo(HOME, HOST_ADDRESS))
    wait_for(lambda: bed.counters()["spoofed_home"] == 2, "two spoofed packets")
    # Physical: the mobile node may come home before it says so; it cannot be elsewhere.
    bed.commit(binding(AT_OFFICE, home_network=PHYSICAL))
    send_raw(HOST, echo(AT_OFFICE, "198.51.100.1"))
    assert wire.wait(lambda p: p.source == AT_OFFICE)
    send_raw(NODE, echo(AT_OFFICE, HOST_ADDRESS))
    wait_for(lambda: bed.counters()["spoofed_home"] == 3, "a third")
    assert not [p for p in home.packets() if p.source in (HOME, AT_OFFICE) and p.ttl != 64]
    assert not [p for p in wire.packets() if p.source == HOME and p.destination != HOST_ADDRESS]


# -- inside home agents ----------------------------------------------------------------------


def test_registrations_from_outside_do_not_reach_inside_home_agents(bed: MobilityBed) -> None:
    """Draft 001, section 4.1: nor through an outer home agent's tunnel."""
    bed.start(outside_interfaces=("h0",), inside_home_agents=(INSIDE_AGENT, HOST_ADDRESS))
    bed.commit(binding())
    bed.node_tunnel()
    inside(ROUTER, "ip", "route", "add", "10.1.0.0/24", "via", AGENT)
    inside(NODE, "ip", "route", "replace", "10.1.0.0/24", "via", "192.0.2.1")
    with (
        udp(GATEWAY, INSIDE_AGENT, 434) as ours,
        udp(HOST, HOST_ADDRESS, 434) as another,
        udp(NODE, CARE_OF, 0) as outside,
        udp(NODE, HOME, 0) as moved,
    ):
        for agent in (INSIDE_AGENT, HOST_ADDRESS):
            outside.sendto(b"\1", (str(agent), 434))
        wait_for(lambda: bed.counters()["outside_registration"] == 2, "two blocked")
        inside(NODE, "ip", "route", "replace", "10.1.0.0/24", "dev", "t0")
        for agent in (INSIDE_AGENT, HOST_ADDRESS):
            moved.sendto(b"\1", (str(agent), 434))
        wait_for(lambda: bed.counters()["outside_registration"] == 4, "four blocked")
        for agent in (ours, another):
            agent.settimeout(0)
            with pytest.raises(BlockingIOError):
                agent.recv(100)
        another.sendto(b"\1", (str(INSIDE_AGENT), 434))
        ours.settimeout(5)
        assert ours.recv(100) == b"\1"
    inside(NODE, "ip", "route", "replace", "10.1.0.0/24", "via", "192.0.2.1")
    send_raw(NODE, ip(CARE_OF, INSIDE_AGENT, 4, echo(HOME, HOST_ADDRESS)))
    wait_for(lambda: bed.counters()["outside_tunnel"] == 1, "a blocked tunnel")


def test_a_node_outside_reaches_no_protected_network(bed: MobilityBed) -> None:
    bed.start(outside_interfaces=("h0",), protected_networks=(PHYSICAL.network,))
    bed.commit(binding())
    bed.node_tunnel()
    assert not bed.reaches(NODE, HOME, HOST_ADDRESS)
    assert bed.counters()["outside_to_protected"] == 1


# -- relayed home agents ---------------------------------------------------------------------


@pytest.mark.parametrize("unsummed", [0, 1])
def test_a_private_home_agent_behind_a_port(bed: MobilityBed, unsummed: int) -> None:
    """Draft 002, section 4.2.3."""
    bed.start(
        outside_interfaces=("h0",),
        inside_home_agents=(HOST_ADDRESS,),
        relayed_home_agents=(RelayedHomeAgent(AGENT, 1000, HOST_ADDRESS),),
    )
    wire, home = bed.capture(ROUTER, "r1"), bed.capture(HOST, "c0")
    for name, link in ((NODE, "m0"), (HOST, "c0")):
        with entered(name):
            offloads_off([link])
    with udp(HOST, HOST_ADDRESS, 434) as agent, udp(NODE, CARE_OF, 5555) as node:
        for end in (agent, node):
            end.setsockopt(socket.SOL_SOCKET, 11, unsummed)  # SO_NO_CHECK
        node.sendto(b"\1request", (str(AGENT), 1000))
        assert agent.recvfrom(100) == (b"\1request", (str(CARE_OF), 5555))
        agent.sendto(b"\3reply", (str(CARE_OF), 5555))
        assert node.recvfrom(100) == (b"\3reply", (str(AGENT), 1000))
    for packet in [p for p in wire.packets() + home.packets() if p.protocol == 17]:
        assert packet.transport_is_right
        assert (packet.inner[6:8] == b"\0\0") == bool(unsummed)
    counted = bed.counters()
    assert (counted["relayed_in"], counted["relayed_out"]) == (1, 1)


# -- hostile tunnels -------------------------------------------------------------------------


def test_h65_a_tunnel_within_a_tunnel_to_ourselves_is_dropped(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding())
    nested = ip(HOME, AGENT, 4, echo(HOME, HOST_ADDRESS))
    send_raw(NODE, ip(CARE_OF, AGENT, 4, nested))
    wait_for(lambda: bed.counters()["tunnel_in_tunnel"] == 1, "a dropped packet")


def test_h63_udp_tunnel_with_a_sum_and_with_a_wrong_one(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding(tunnels=(Tunnel(AGENT, CARE_OF, udp_port=4444),)))
    home = bed.capture(HOST, "c0")
    payload = bytes.fromhex("04040000") + echo(HOME, HOST_ADDRESS)
    with udp(NODE, CARE_OF, 4444) as node:
        node.sendto(payload, (str(AGENT), 434))
    received = home.wait(lambda p: p.source == HOME)
    assert received.transport_is_right
    wrong = struct.pack("!HHHH", 4444, 434, 8 + len(payload), 0x1234) + payload
    send_raw(NODE, ip(CARE_OF, AGENT, 17, wrong))
    from_elsewhere = struct.pack("!HHHH", 4445, 434, 8 + len(payload), 0) + payload
    send_raw(NODE, ip(CARE_OF, AGENT, 17, from_elsewhere))
    stranger = bytes.fromhex("04040000") + echo("10.9.0.6", HOST_ADDRESS)
    with udp(NODE, CARE_OF, 4444) as node:
        node.sendto(stranger, (str(AGENT), 434))
    wait_for(lambda: bed.counters()["tunnel_unknown"] == 2, "two unknown")
    forged = struct.pack("!HHHH", 4444, 64949, 12 + len(payload), 0) + payload
    send_raw(NODE, ip(CARE_OF, AGENT, 17, forged))
    wait_for(lambda: bed.counters()["tunnel_forged"] == 1, "a forged one")
    assert (
        len([p for p in home.packets() if p.protocol == 1 and p.destination == HOST_ADDRESS]) == 1
    )


def test_h63_short_and_odd_tunnel_packets_change_nothing(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(
        binding(),
        binding(IPv4Address("10.9.0.6"), tunnels=(Tunnel(AGENT, CARE_OF, udp_port=4444),)),
    )
    home = bed.capture(HOST, "c0")
    whole = echo(HOME, HOST_ADDRESS)
    for size in range(len(whole)):
        send_raw(NODE, ip(CARE_OF, AGENT, 4, whole[:size]))
        send_raw(NODE, ip(CARE_OF, AGENT, 47, bytes.fromhex("00000800") + whole[:size]))
        body = bytes.fromhex("04040000")[: size + 1] + whole[:size]
        header = struct.pack("!HHHH", 4444, 434, 8 + len(body), 0)
        send_raw(NODE, ip(CARE_OF, AGENT, 17, header + body))
    bed.node_tunnel()
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)
    assert [p.inner[8:16] == b"abcdefgh" for p in home.packets() if p.source == HOME] == [False]


# -- beginning and end -----------------------------------------------------------------------

STATE = (
    "ip rule; ip route show table all; ip -o link; ip neigh show proxy; nft list ruleset; "
    "ip fou show"
)


def state() -> str:
    return "\n".join(
        inside(GATEWAY, "sh", "-c", command, check=False).strip()
        for command in (STATE, "grep . /proc/sys/net/ipv4/conf/h1/rp_filter")
    )


def test_close_leaves_nothing_and_others_things_stay(bed: MobilityBed) -> None:
    for words in (
        "ip link add foreign type "
        + ("veth" if missing_features() else "ipip local 198.51.100.2 remote 192.0.2.77"),
        "ip link set foreign up",
        "ip route add 10.77.0.0/16 dev foreign",
        "ip rule add pref 500 from 10.77.0.1 lookup 500",
        "ip route add default via 198.51.100.1 table 500",
        "ip neigh add proxy 10.1.0.99 dev h1",
        "nft add table ip other",
    ):
        inside(GATEWAY, *words.split())
    # Module devices such as tunl0 come with the first tunnel of a kind.
    bed.start()
    bed.stop()
    before = state()
    bed.start(visited_interfaces=("h1",))
    bed.commit(
        binding(),
        binding(AT_OFFICE, home_network=PHYSICAL, tunnels=(Tunnel(AGENT, CARE_OF, udp_port=9),)),
    )
    during = state()
    assert during != before
    assert "foreign" in during
    bed.stop()
    assert state() == before


def test_leftovers_of_an_earlier_run_are_cleared(bed: MobilityBed) -> None:
    bed.start()
    bed.stop()
    before = state()
    first = bed.start()
    bed.commit(binding(), binding(AT_OFFICE, home_network=PHYSICAL))
    # As if it had been killed: sockets close, nothing is removed.
    first._slow_path.close()
    first._foundation.announcer.close()
    first._foundation._netfilter.close()
    first._foundation.sets.close()
    first._foundation.route.close()
    first._foundation._devices.close()
    bed.mobility = None
    second = bed.start()
    assert second._foundation.leftovers >= 9
    bed.node_tunnel()
    assert not bed.reaches(NODE, HOME, HOST_ADDRESS)
    bed.stop()
    after = state()
    assert after == before


def test_start_names_what_is_in_the_way(bed: MobilityBed) -> None:
    if not planes.portable():
        inside(GATEWAY, *["ip", "link", "add", "others", "type", "gre", "external"])
        with entered(GATEWAY):
            mobility = planes.mobility(MobilitySettings(home_agents=(AGENT,)))
            with pytest.raises(DataplaneUnavailableError, match="external"):
                mobility.start()
            mobility.close()
            assert "mob-" not in run("ip", "link")
            assert "gateway_mobility" not in run("nft", "list", "ruleset")
        inside(GATEWAY, *["ip", "link", "del", "others"])
    inside(GATEWAY, *["ip", "link", "add", "mob-gre", "type", "veth"])
    with entered(GATEWAY), pytest.raises(DataplaneUnavailableError, match="mob-gre exists"):
        planes.mobility(MobilitySettings()).start()
    assert "mob-gre" in inside(GATEWAY, "ip", "link")


def test_settings_change_while_running(bed: MobilityBed) -> None:
    mobility = bed.start(home_networks=())
    bed.commit(binding())
    bed.node_tunnel()
    with entered(GATEWAY):
        mobility.reconfigure(
            MobilitySettings(
                home_agents=(AGENT,),
                home_networks=(binding().home_network,),
                outside_interfaces=("h0",),
                protected_networks=(PHYSICAL.network,),
                mtu=1200,
            )
        )
    mobility.commit()
    assert not bed.reaches(NODE, HOME, HOST_ADDRESS)
    assert "mtu = 1200" in bed.ping(
        GATEWAY, AGENT, HOME, "-s", 1300, "-M", "do"
    ) or "1200" in inside(GATEWAY, "ip", "route", "get", HOME)
    assert "unreachable 10.9.0.0/24" in inside(GATEWAY, *["ip", "route", "show", "table", "18263"])


def test_an_inner_header_survives_whole(bed: MobilityBed) -> None:
    """Options of the inner header, and octets after its end, travel as they are."""
    bed.start()
    bed.commit(binding())
    home = bed.capture(HOST, "c0")
    inner = echo(HOME, HOST_ADDRESS)
    send_raw(NODE, ip(CARE_OF, AGENT, 4, inner))
    received = home.wait(lambda p: p.source == HOME)
    assert received.inner == Packet(inner).inner
    assert received.ttl == 63


def test_sessions_that_began_elsewhere_are_not_invalid(bed: MobilityBed) -> None:
    """Draft 001, section 6.3, with a connection tracker that picks nothing up in the middle."""
    with entered(GATEWAY):
        run("nft", "-f", "-", stdin="""
            table ip site { chain forward { type filter hook forward priority filter;
                ct state invalid counter drop
              }
            }
        """)  # fmt: skip
        Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose").write_text("0")
    bed.start()
    bed.commit(binding())
    segment = struct.pack("!HHIIBBHHH", 80, 81, 1, 1, 0x50, 0x10, 1000, 0, 0)
    home, wire = bed.capture(HOST, "c0"), bed.capture(ROUTER, "r1")
    send_raw(NODE, ip(CARE_OF, AGENT, 4, ip(HOME, HOST_ADDRESS, 6, segment)))
    assert home.wait(lambda p: p.source == HOME and p.protocol == 6)
    send_raw(HOST, ip(HOST_ADDRESS, HOME, 6, segment))
    assert wire.wait(lambda p: p.protocol == 4 and p.source == AGENT)
