"""IPv6 outside and inside of the tunnel, moves between the IP versions, and devices without it."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from interop_bed import Bed, psk_connection
from ipv6_bed import (
    DEVICE6,
    GATEWAY6,
    INTERNET6,
    POOL6,
    SERVER6,
    attach6,
    detach6,
    device6,
    dual_stack,
)

from gateway.lab import plan
from gateway.lab.capture import dissect
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import IkeSa

pytestmark = pytest.mark.kernel

FORCED_SUITE = "aes128gcm16-prfsha256-ecp256"
NETWORKS = ["10.1.0.0/24", "fd00:1::/64"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    connections = psk_connection(pool6="road6", local_subnets=NETWORKS)
    connections += psk_connection(
        "forced",
        remote_id="forced@example.com",
        pool6="road6",
        local_subnets=NETWORKS,
        encapsulation="always",
        ike_proposals=[FORCED_SUITE],
    )
    connections += psk_connection("no-six", remote_id="blocked@example.com", ipv6="block")
    with dual_stack(connections) as bed:
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    shared.disconnect()
    shared.lab.move("access1")
    detach6(shared.lab, "access2")
    attach6(shared.lab, "access1")


def inner(ike: IkeSa) -> dict[int, str]:
    """The device's inner addresses by IP version."""
    found = [ip_address(one.partition("/")[0]) for one in ike.virtual_ips]
    return {one.version: str(one) for one in found}


def both_reachable(bed: Bed) -> None:
    assert bed.ping(to=plan.SERVER)
    assert bed.ping(to=SERVER6)


def at(bed: Bed) -> str:
    (ike,) = bed.ike_sas()
    return str(ike["remote"]).rpartition(":")[0].strip("[]")


@pytest.mark.kernel_peer("strongSwan has plain ESP by the kernel only")
@pytest.mark.parametrize("remote", [plan.GATEWAY_OUTSIDE, GATEWAY6], ids=["by-ipv4", "by-ipv6"])
def test_both_versions_inside(bed: Bed, remote: object) -> None:
    addresses = inner(bed.connect(configuration=device6(remote=remote)))
    assert ip_address(addresses[4]) in ip_network("10.9.0.0/24")
    assert ip_address(addresses[6]) in ip_network(POOL6)
    both_reachable(bed)
    for version, host in ((4, addresses[4]), (6, addresses[6])):
        assert bed.ping(host="server", to=host), version
    (child,) = bed.child_sas()
    assert child["encapsulation"] == "esp"


def test_udp_encapsulation_by_ipv6(bed: Bed) -> None:
    ike = bed.connect(configuration=device6(device_id="forced@example.com", ike=FORCED_SUITE))
    assert ike.children[0].encapsulated
    both_reachable(bed)


def test_a_device_may_ask_for_one_version(bed: Bed) -> None:
    text = device6(remote_ts="fd00:1::/64").replace("vips = 0.0.0.0, ::", "vips = ::")
    assert set(inner(bed.connect(configuration=text))) == {6}
    assert bed.ping(to=SERVER6)
    assert not bed.ping(to=plan.SERVER, count=1)


@pytest.mark.kernel_peer("strongSwan has plain ESP by the kernel only")
def test_too_large_packets_are_answered(bed: Bed) -> None:
    """ICMPv6 tells the inside how much the tunnel carries; by IPv6 outside 20 octets less."""
    addresses = inner(bed.connect(configuration=device6()))
    argv = ["ping", "-n", "-M", "do", "-s", "1400", "-c", "1", "-W", "2", addresses[6]]

    def told() -> bool:
        done = bed.lab.run("server", argv, check=False)
        return "mtu: 1400" in done.stdout + done.stderr or "mtu=1400" in done.stdout + done.stderr

    wait_until(told, 20, "packet too big")
    (device,) = bed.gateway.call("devices", q="device@example.com")["items"]
    found = bed.gateway.call("mtu", device=device["name"])
    assert "- 40 (IPv6)" in str(found["arithmetic"])
    assert (found["inner"], found["effective"], found["mss_ipv6"]) == (1426, 1400, 1340)


@pytest.mark.kernel_peer("strongSwan has plain ESP by the kernel only")
def test_a_narrow_ipv6_path_is_learned(bed: Bed) -> None:
    addresses = inner(bed.connect(configuration=device6()))
    bed.lab.run("internet", ["ip", "link", "set", "access1", "mtu", "1380"])
    try:
        argv = ["ping", "-n", "-M", "do", "-s", "1340", "-c", "1", "-W", "2", addresses[6]]

        def told() -> bool:
            done = bed.lab.run("server", argv, check=False)
            return "1306" in done.stdout + done.stderr

        wait_until(told, 20, "packet too big")  # 1380 - 40 - 8 - 8 - 16 = 1308
        (device,) = bed.gateway.call("devices", q="device@example.com")["items"]
        found = bed.gateway.call("mtu", device=device["name"])
        assert (found["path"], found["inner"]) == (1380, 1306)
    finally:
        bed.lab.run("internet", ["ip", "link", "set", "access1", "mtu", "1500"])
        bed.lab.run("gw", ["ip", "-6", "route", "flush", "cache"])


@pytest.mark.kernel_peer("strongSwan has plain ESP by the kernel only")
@pytest.mark.parametrize("way", [(plan.GATEWAY_OUTSIDE, 6), (GATEWAY6, 4)], ids=["4to6", "6to4"])
def test_mobike_between_the_versions(bed: Bed, way: tuple[object, int]) -> None:
    """The device gets to a network of the other IP version; its session and addresses stay."""
    remote, to_version = way
    addresses = inner(bed.connect(configuration=device6(remote=remote)))
    (before,) = bed.ike_sas()
    both_reachable(bed)
    if to_version == 6:
        attach6(bed.lab, "access2")
        bed.lab.run("device", ["ip", "-4", "address", "flush", "dev", "access1"])
        bed.lab.run("device", ["ip", "link", "set", "access1", "down"])
        expected = str(DEVICE6["access2"])
    else:
        detach6(bed.lab, "access1")
        expected = str(plan.ACCESSES["access1"].device.ip)
    wait_until(lambda: at(bed) == expected, 60, "the gateway follows")
    (after,) = bed.ike_sas()
    assert after["id"] == before["id"]
    wait_until(lambda: bed.ping(to=plan.SERVER, count=1), 20, "traffic")
    (seen,) = bed.device.established()
    assert inner(seen) == addresses
    if to_version == 6:
        both_reachable(bed)
        return
    # strongSwan 5.9.8 leaves octets of its old IPv6 address behind the IPv4 one in its SA, and its
    # kernel then refuses what is IPv6 inside: that the gateway has sent it is what can be seen.
    assert bed.ping(to=plan.SERVER)
    (before_ping,) = bed.child_sas()
    bed.ping(to=SERVER6)
    (after_ping,) = bed.child_sas()
    assert after_ping["packets_out"] == before_ping["packets_out"] + 2


def test_mobike_within_ipv6(bed: Bed) -> None:
    bed.connect(configuration=device6())
    attach6(bed.lab, "access2")
    bed.lab.run("device", ["ip", "link", "set", "access1", "down"])
    wait_until(lambda: at(bed) == str(DEVICE6["access2"]), 60, "the gateway follows")
    wait_until(lambda: bed.ping(to=SERVER6, count=1), 20, "traffic")


def test_a_device_without_ipv6_does_not_leak_it(bed: Bed) -> None:
    """Before, its IPv6 goes its own way; with the tunnel, nowhere: neither in the clear nor in."""
    assert bed.ping(to=INTERNET6)
    everything = device6(
        remote=plan.GATEWAY_OUTSIDE, remote_ts="0.0.0.0/0, ::/0", device_id="blocked@example.com"
    )
    addresses = inner(bed.connect(configuration=everything))
    assert 6 in addresses
    assert ip_address(addresses[6]) not in ip_network(POOL6)
    clear = bed.lab.capture("access1", "device", "clear", "ip6")
    inside = bed.lab.capture("server", "intranet", "inside", "ip6")
    for host in (INTERNET6, SERVER6):
        assert not bed.ping(to=host)
    assert bed.ping(to=plan.SERVER)
    quiet = "ipv6 && !(icmpv6.type >= 130 && icmpv6.type <= 137) && !(icmpv6.type == 143)"
    assert dissect(clear.stop(), quiet, ["ipv6.src", "ipv6.dst"]) == []
    assert dissect(inside.stop(), quiet, ["ipv6.src", "ipv6.dst"]) == []


def test_tshark_finds_nothing_wrong(bed: Bed) -> None:
    assert not bed.gateway.events("internal_error")
    assert not bed.gateway.events("internal_fault")
    assert bed.findings() == []
