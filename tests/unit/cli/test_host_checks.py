"""What the host has to offer, judged from tables and sockets."""

import socket
import textwrap
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.host_checks import (
    address_present,
    api_user,
    forwarding,
    pools_and_inside,
    pools_and_routes,
    port_free,
    privileges,
)
from gateway.cli.sockets_in_use import holder, inodes_of_port
from gateway.config import Config
from gateway.dataplane.kernel import routes_in_use as routes
from gateway.dataplane.kernel.routes_in_use import Route, parse_ipv4, parse_ipv6
from gateway.domain.endpoint import Endpoint

LOOPBACK = ip_address("127.0.0.1")


def config(**tables: object) -> Config:
    return Config.model_validate(
        {"pools": {"staff": {"network": "10.83.112.0/22"}}, **tables},
    )


def test_privileges_name_what_lacks() -> None:
    assert privileges("Name:\tx\nCapEff:\t000001ffffffffff\n").state == "ok"
    verdict = privileges("CapEff:\t0000000000003000\n")
    assert verdict.state == "missing"
    assert verdict.detail == "without CAP_NET_BIND_SERVICE"
    assert "run as root" in verdict.remedy


def test_address_of_this_host() -> None:
    assert address_present(LOOPBACK).state == "ok"
    assert address_present(ip_address("0.0.0.0")).detail == "any address"
    verdict = address_present(ip_address("192.0.2.77"))
    assert verdict.state == "missing"
    assert "ip address add 192.0.2.77" in verdict.remedy


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_port_in_use_names_its_holder(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        endpoint = Endpoint(LOOPBACK, taken.getsockname()[1])
        verdict = port_free(kind, endpoint, "ike.port", ours=False)
        assert verdict.state == "missing"
        assert "in use by " in verdict.detail
        assert "(pid " in verdict.detail
        assert verdict.remedy == "stop it, or change ike.port"
        assert port_free(kind, endpoint, "ike.port", ours=True).state == "ok"
    assert port_free(kind, endpoint, "ike.port", ours=False).detail == "free"


def test_holder_of_an_unknown_socket(tmp_path: Path) -> None:
    (tmp_path / "1" / "fd").mkdir(parents=True)
    (tmp_path / "sys").mkdir()
    (tmp_path / "1" / "fd" / "3").symlink_to("socket:[77]")
    (tmp_path / "1" / "comm").write_text("charon\n")
    assert holder({"77"}, tmp_path) == "charon (pid 1)"
    assert holder({"78"}, tmp_path) is None
    assert inodes_of_port("udp", 500, tmp_path) == set()


def test_forwarding_is_the_gateways_or_the_administrators(tmp_path: Path) -> None:
    switch = tmp_path / "net" / "ipv4" / "ip_forward"
    switch.parent.mkdir(parents=True)
    switch.write_text("0\n")
    assert [v.state for v in forwarding(config(), tmp_path)] == ["ok"]
    by_hand = config(dataplane={"forwarding": False})
    (verdict,) = forwarding(by_hand, tmp_path)
    assert verdict.state == "missing"
    assert verdict.remedy.startswith("sysctl -w net.ipv4.ip_forward=1")
    switch.write_text("1\n")
    assert [v.state for v in forwarding(by_hand, tmp_path)] == ["ok"]


def test_route_tables_of_the_kernel() -> None:
    ipv4 = textwrap.dedent(
        """\
        Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
        eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
        eth0\t0070530A\t00000000\t0001\t0\t0\t0\t00FCFFFF\t0\t0\t0
        eth1\t0070530A\t00000000\t0000\t0\t0\t0\t00FCFFFF\t0\t0\t0
        """
    )
    assert parse_ipv4(ipv4) == [
        Route(ip_network("0.0.0.0/0"), "eth0", connected=False),
        Route(ip_network("10.83.112.0/22"), "eth0"),
    ]
    zero = "0" * 32
    ipv6 = (
        f"20010db8{'0' * 24} 20 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
    )
    assert parse_ipv6(ipv6) == [Route(ip_network("2001:db8::/32"), "eth0")]


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_every_ipv4_route_is_read(address: object, prefix: int) -> None:
    network = ip_network((int(address), prefix), strict=False)  # type: ignore[call-overload]
    destination = network.network_address.packed[::-1].hex()
    mask = network.netmask.packed[::-1].hex()
    line = f"eth0 {destination} 00000000 0001 0 0 0 {mask} 0 0 0"
    assert parse_ipv4(f"header\n{line}\n") == [Route(network, "eth0")]


def test_routes_of_this_host_can_be_read(tmp_path: Path) -> None:
    assert all(route.network.prefixlen for route in routes.routes_in_use())
    assert routes.routes_in_use(tmp_path) == []


def test_pool_that_a_route_takes() -> None:
    found = [
        Route(ip_network("10.83.113.0/24"), "eth1"),
        Route(ip_network("10.0.0.0/8"), "eth2"),
        Route(ip_network("10.83.112.0/22"), "gw0"),
        Route(ip_network("172.16.0.0/12"), "eth0"),
    ]
    inside, around = pools_and_routes(config(), found)
    assert inside.state == "missing"
    assert inside.detail == "route 10.83.113.0/24 on eth1 overlaps it"
    assert "pools.staff.network" in inside.remedy
    assert around.state == "warn"
    assert [v.state for v in pools_and_routes(config(), found[2:])] == ["ok"]


def test_user_of_the_api() -> None:
    def nobody(name: str) -> object:
        raise KeyError(name)

    verdict = api_user(config(), nobody)
    assert verdict is not None
    assert verdict.remedy == "useradd --system nobody; or change api.user"
    assert api_user(config(api={"enabled": False}), nobody) is None


def test_how_the_inside_learns_of_pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tables = {
        "arp": {"advertise": "proxy-arp", "inside_interface": "eth1", "network": "10.1.0.128/25"},
        "off": {"advertise": "proxy-arp", "inside_interface": "eth1", "network": "10.8.0.0/24"},
        "frr": {"advertise": "frr", "network": "10.7.0.0/24"},
        "hint": {"advertise": "route-hint", "network": "10.6.0.0/24"},
        "none": {"network": "10.5.0.0/24"},
    }
    found = list(
        pools_and_inside(
            Config.model_validate({"pools": tables}), [Route(ip_network("10.1.0.0/24"), "eth1")]
        )
    )
    assert [one.state for one in found] == ["ok", "missing", "missing", "warn"]
    assert 'advertise = "route-hint"' in found[1].remedy
    assert "apt install frr" in found[2].remedy
    assert "ip route add 10.6.0.0/24 via" in found[3].remedy
    (tmp_path / "vtysh").touch(mode=0o755)
    assert [
        one.state
        for one in pools_and_inside(Config.model_validate({"pools": {"frr": tables["frr"]}}), [])
    ] == ["ok"]
