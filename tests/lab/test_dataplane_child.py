"""Child SAs in the real kernel: packets pass, and only those that may."""

# planes: kernel portable

import dataclasses
import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import dataplane_bed as bed_module
import pytest
from dataplane_bed import DEVICE, GATEWAY, GCM, INTRANET, Bed, child_sa, entered, inside, keys_for

from gateway.domain.child_sa import Mode, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.lab import planes
from gateway.lab.kernel import has_esp

pytestmark = pytest.mark.kernel


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed() as made:
        yield made


def anywhere() -> TrafficSelector:
    return TrafficSelector.of_network(ip_network("0.0.0.0/0"))


@pytest.mark.parametrize("suite", ["GCM", "GCM_ESN", "CHACHA", "CBC", "CBC_384", "CBC_512"])
def test_traffic_passes_with_every_suite(bed: Bed, suite: str) -> None:
    sa = child_sa(getattr(bed_module, suite))
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    assert bed.ping()
    usage = dataplane.usage(sa.spi_in)
    assert usage is not None
    assert usage.packets_in == usage.packets_out == 3
    assert usage.bytes_in > 0
    assert usage.last_in_age_s is not None


def test_udp_encapsulation_carries_traffic(bed: Bed) -> None:
    sa = child_sa(udp_encapsulation=True)
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    with (
        bed.udp_encap_socket(GATEWAY, "192.0.2.1", 4500),
        bed.udp_encap_socket(DEVICE, "192.0.2.10", 4500),
    ):
        assert bed.ping()


def test_a_spoofed_inner_source_inside_the_tunnel_is_dropped(bed: Bed) -> None:
    sa = child_sa()
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    dataplane.commit()
    bed.device_states(sa)
    inside(DEVICE, "ip", "addr", "add", "10.9.0.77/32", "dev", "lo")
    assert not bed.ping(1, source="10.9.0.77")
    assert bed.refused() == 1
    assert bed.ping(1)


def test_several_selector_pairs_allow_their_own_traffic_only(bed: Bed) -> None:
    sa = child_sa(
        local_ts=(
            TrafficSelector.of_network(ip_network("10.1.0.0/25")),
            TrafficSelector.of_network(ip_network("10.3.0.0/24")),
        )
    )
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    assert bed.ping()
    inside(DEVICE, "ip", "addr", "add", "10.9.0.77/32", "dev", "lo")
    assert not bed.ping(1, source="10.9.0.77")
    assert bed.refused() == 1
    dataplane.remove_child_sa(sa.spi_in)
    assert dataplane.commit() == []
    assert planes.portable() or inside(GATEWAY, "ip", "xfrm", "policy").count("tmpl") == 4


def test_one_peer_cannot_use_the_addresses_of_another(bed: Bed) -> None:
    dataplane = bed.start()
    first = child_sa()
    second = child_sa(
        spi_in=0x1002,
        spi_out=0x2002,
        reqid=2,
        keys_in=keys_for(GCM, 30),
        keys_out=keys_for(GCM, 40),
        remote_ts=(TrafficSelector.of_address(ip_address("10.9.0.77")),),
    )
    dataplane.install_child_sa(first)
    dataplane.install_child_sa(second)
    assert dataplane.commit() == []
    bed.device_states(second)
    assert not bed.ping(1)
    assert bed.refused() == 1


def test_plaintext_from_outside_reaches_neither_pool_nor_intranet(bed: Bed) -> None:
    dataplane = bed.start()
    sa = child_sa(local_ts=(anywhere(),))
    dataplane.install_child_sa(sa)
    dataplane.commit()
    assert not bed.ping(1)
    assert bed.counters()["spoofed_inner"] == 1
    assert not bed.ping(1, source="192.0.2.10")
    inside(DEVICE, "ip", "route", "add", "10.9.0.2/32", "via", "192.0.2.1")
    inside(DEVICE, "ping", "-c1", "-W1", "10.9.0.2", check=False)
    assert bed.counters()["outside_to_protected"] == 2


def test_rekeying_keeps_the_policies_and_loses_no_packet(bed: Bed) -> None:
    dataplane = bed.start()
    old = child_sa()
    new = dataclasses.replace(
        old, spi_in=0x1009, spi_out=0x2009, keys_in=keys_for(GCM, 50), keys_out=keys_for(GCM, 60)
    )
    dataplane.install_child_sa(old)
    dataplane.commit()
    bed.device_states(old)
    assert bed.ping()
    dataplane.install_child_sa(new, outbound=False)
    assert dataplane.commit() == []
    assert bed.ping()
    bed.device_states(new)
    dataplane.activate_outbound(new.spi_in)
    dataplane.remove_child_sa(old.spi_in)
    assert dataplane.commit() == []
    assert bed.ping()
    usage = dataplane.usage(new.spi_in)
    assert usage is not None
    assert usage.packets_out == 3
    assert dataplane.usage(old.spi_in) is None


def test_reconnecting_with_the_same_inner_address_survives_the_old_one_going(bed: Bed) -> None:
    dataplane = bed.start()
    old = child_sa(remote=Endpoint(ip_address("192.0.2.11"), 4500))
    new = child_sa(spi_in=0x1002, spi_out=0x2002, reqid=2)
    dataplane.install_child_sa(old)
    dataplane.install_child_sa(new)
    assert dataplane.commit() == []
    dataplane.remove_child_sa(old.spi_in)
    assert dataplane.commit() == []
    bed.device_states(new)
    assert bed.ping()


@pytest.mark.kernel_peer("the device's transport mode is the kernel's, set up by `ip xfrm`")
def test_transport_mode_carries_traffic_between_the_outer_addresses(bed: Bed) -> None:
    dataplane = bed.start()
    device, gateway = ip_address("192.0.2.10"), ip_address("192.0.2.1")
    sa = child_sa(
        mode=Mode.TRANSPORT,
        local_ts=(TrafficSelector.of_address(gateway),),
        remote_ts=(TrafficSelector.of_address(device),),
    )
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    for source, destination in ((device, gateway), (gateway, device)):
        out = source == device
        inside(
            DEVICE,
            "ip",
            "xfrm",
            "state",
            "delete",
            "src",
            source,
            "dst",
            destination,
            "proto",
            "esp",
            "spi",
            sa.spi_in if out else sa.spi_out,
        )
        inside(
            DEVICE,
            "ip",
            "xfrm",
            "state",
            "add",
            "src",
            source,
            "dst",
            destination,
            "proto",
            "esp",
            "spi",
            sa.spi_in if out else sa.spi_out,
            "reqid",
            7,
            "mode",
            "transport",
            *bed_module.algorithm_words(GCM, sa.keys_in if out else sa.keys_out),
        )
        inside(
            DEVICE,
            "ip",
            "xfrm",
            "policy",
            "add",
            "src",
            source,
            "dst",
            destination,
            "dir",
            "out" if out else "in",
            "tmpl",
            "proto",
            "esp",
            "reqid",
            7,
            "mode",
            "transport",
        )
    assert "1 received" in inside(DEVICE, "ping", "-c1", "-W1", "-I", device, gateway, check=False)
    usage = dataplane.usage(sa.spi_in)
    assert usage is not None
    assert usage.packets_in == usage.packets_out == 1


def test_ipv6_inside_and_outside(bed: Bed) -> None:
    inside(DEVICE, "ip", "addr", "add", "2001:db8::10/64", "dev", "out0", "nodad")
    inside(GATEWAY, "ip", "addr", "add", "2001:db8::1/64", "dev", "out1", "nodad")
    inside(DEVICE, "ip", "addr", "add", "fd09::1/128", "dev", "lo")
    inside(INTRANET, "ip", "addr", "add", "fd01::2/64", "dev", "in0", "nodad")
    inside(GATEWAY, "ip", "addr", "add", "fd01::1/64", "dev", "in1", "nodad")
    inside(INTRANET, "ip", "route", "add", "default", "via", "fd01::1")
    inside(DEVICE, "ip", "route", "add", "fd01::/64", "via", "2001:db8::1", "src", "fd09::1")
    dataplane = bed.start(inner_networks=(ip_network("fd09::/64"),))
    sa = child_sa(
        local=Endpoint(ip_address("2001:db8::1"), 4500),
        remote=Endpoint(ip_address("2001:db8::10"), 4500),
        local_ts=(TrafficSelector.of_network(ip_network("fd01::/64")),),
        remote_ts=(TrafficSelector.of_address(ip_address("fd09::1")),),
        follow_endpoint=True,
    )
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    if not has_esp():
        bed.user_device(sa)
    for src, dst, spi, keys, direction, inner in (
        ()
        if not has_esp()
        else (
            ("2001:db8::10", "2001:db8::1", sa.spi_in, sa.keys_in, "out", ("fd09::1", "fd01::/64")),
            (
                "2001:db8::1",
                "2001:db8::10",
                sa.spi_out,
                sa.keys_out,
                "in",
                ("fd01::/64", "fd09::1"),
            ),
        )
    ):
        inside(
            DEVICE,
            "ip",
            "xfrm",
            "state",
            "add",
            "src",
            src,
            "dst",
            dst,
            "proto",
            "esp",
            "spi",
            spi,
            "reqid",
            7,
            "mode",
            "tunnel",
            *bed_module.algorithm_words(GCM, keys),
        )
        inside(
            DEVICE,
            "ip",
            "xfrm",
            "policy",
            "add",
            "src",
            inner[0],
            "dst",
            inner[1],
            "dir",
            direction,
            "tmpl",
            "src",
            src,
            "dst",
            dst,
            "proto",
            "esp",
            "reqid",
            7,
            "mode",
            "tunnel",
        )
    assert "2 received" in inside(
        DEVICE, "ping", "-6", "-c2", "-i0.1", "-W2", "-I", "fd09::1", "fd01::2", check=False
    )


def test_a_refused_child_sa_leaves_nothing_behind(bed: Bed) -> None:
    dataplane = bed.start()
    good = child_sa()
    broken = child_sa(
        spi_in=0x1002,
        spi_out=0x2002,
        reqid=2,
        keys_out=dataclasses.replace(keys_for(GCM, 1), encryption=b"\1" * 7),
    )
    dataplane.install_child_sa(good)
    dataplane.install_child_sa(broken)
    (refusal,) = dataplane.commit()
    assert refusal.spi_in == broken.spi_in
    assert ("key" if planes.portable() else "outbound SA") in refusal.reason
    states = bed.states()
    assert "0x00001001" in states
    assert "0x00001002" not in states
    bed.device_states(good)
    assert bed.ping()


def test_selectors_that_the_kernel_cannot_say_are_refused(bed: Bed) -> None:
    dataplane = bed.start()
    icmp = TrafficSelector(ip_address("10.1.0.2"), ip_address("10.1.0.2"), 1, 0x800, 0x8FF)
    dataplane.install_child_sa(child_sa(local_ts=(icmp,)))
    (refusal,) = dataplane.commit()
    assert "ICMP type" in refusal.reason


def test_a_trap_reports_waiting_traffic_once_it_has_no_sa(bed: Bed) -> None:
    from gateway.dataplane.interface import TrafficWaiting

    dataplane = bed.start()
    sa = child_sa(reqid=9)
    dataplane.trap(sa)
    assert dataplane.commit() == []
    inside(INTRANET, "ping", "-c1", "-W1", "10.9.0.1", check=False)
    assert TrafficWaiting(9) in bed.events()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    assert bed.ping()
    dataplane.remove_child_sa(sa.spi_in)
    dataplane.untrap(9)
    assert dataplane.commit() == []
    assert planes.portable() or inside(GATEWAY, "ip", "xfrm", "policy").count("tmpl") == 4


def test_packet_limits_raise_soft_and_hard_expiry(bed: Bed) -> None:
    from gateway.dataplane.interface import SaExpired

    dataplane = bed.start()
    sa = child_sa(soft_packets=3, hard_packets=6)
    dataplane.install_child_sa(sa)
    dataplane.commit()
    bed.device_states(sa)
    bed.ping(8)
    seen: set[object] = set()
    bed_module.wait_for(
        lambda: seen.update(bed.events(0.1)) or len(seen) == 2, "soft and hard expiry"
    )
    assert seen == {SaExpired(sa.spi_in, hard=False), SaExpired(sa.spi_in, hard=True)}


def test_a_network_behind_a_peer_gets_a_route_for_as_long_as_it_is_there(bed: Bed) -> None:
    dataplane = bed.start()
    sa = child_sa(remote_ts=(TrafficSelector.of_network(ip_network("10.77.0.0/16")),))
    dataplane.install_child_sa(sa)
    dataplane.commit()
    assert re.search("10.77.0.0/16 .*dev gw0 proto 71", inside(GATEWAY, "ip", "route"))
    dataplane.remove_child_sa(sa.spi_in)
    dataplane.commit()
    assert "10.77.0.0" not in inside(GATEWAY, "ip", "route")


@pytest.mark.parametrize("how", ["link set gw0 down", "link delete gw0"])
def test_nothing_for_the_tunnels_leaves_otherwise(bed: Bed, how: str) -> None:
    """The kernel removes the interface's routes; a default route must not be what is left."""
    sa = child_sa(remote_ts=(TrafficSelector.of_network(ip_network("10.20.0.0/24")),))
    inside(GATEWAY, "ip", "route", "replace", "default", "via", "192.0.2.10")
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    inside(GATEWAY, "ip", *how.split())
    for inner in (bed_module.POOL[7], "10.20.0.7"):
        with pytest.raises(AssertionError, match=r"No route to host|unreachable"):
            inside(GATEWAY, "ip", "route", "get", str(inner))
    dataplane.remove_child_sa(sa.spi_in)
    dataplane.commit()
    inside(GATEWAY, "ip", "route", "get", "10.20.0.7")
    with entered(GATEWAY):
        dataplane.close()
    inside(GATEWAY, "ip", "route", "get", str(bed_module.POOL[7]))


def test_both_ip_versions_have_their_barriers(bed: Bed) -> None:
    pools = (bed_module.POOL, ip_network("2001:db8:9::/64"))
    dataplane = bed.start(inner_networks=pools)
    for family, network in zip(("-4", "-6"), pools, strict=True):
        routes = inside(GATEWAY, "ip", family, "route", "show", str(network))
        assert re.search(rf"^unreachable {network} .*metric 4294967295", routes, re.MULTILINE)
    with entered(GATEWAY):
        dataplane.reconfigure(dataclasses.replace(dataplane.settings, inner_networks=pools[:1]))
    assert not inside(GATEWAY, "ip", "-6", "route", "show", str(pools[1]))
