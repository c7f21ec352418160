from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from gateway.appliance.administration.networks import free_network, networks_in_use
from gateway.cli.host_facts import Host, look_around
from gateway.cli.objects import document_of
from gateway.cli.setup import SetupError, Wishes, answered, checked_pool, configuration
from gateway.config import load
from gateway.control.protocol import ControlError
from gateway.dataplane.kernel.routes_in_use import Route

ROUTES = (
    Route(IPv4Network("203.0.113.0/24"), "eth0"),
    Route(IPv4Network("10.1.0.0/16"), "eth1"),
    Route(IPv4Network("10.77.0.0/16"), "eth1"),
)
ADDRESSES = {"eth0": IPv4Address("203.0.113.1"), "eth1": IPv4Address("10.1.0.1")}
HOST = Host("gw.example.com", ROUTES, "eth0", ("10.1.0.53", "9.9.9.9"), ADDRESSES.get)


def proposal(_question: str, proposed: str) -> str:
    return proposed


def test_what_is_proposed_is_a_configuration(tmp_path: Path) -> None:
    answers = answered(Wishes(), HOST, proposal)
    assert (answers.outside, answers.inside) == ("eth0", "eth1")
    assert answers.subnets == "10.1.0.0/16,10.77.0.0/16"
    assert answers.dns == "10.1.0.53"  # the other one is not reached through the tunnel
    assert answers.dashboard == "10.1.0.1:8443"
    path = tmp_path / "gateway.toml"
    path.write_text(configuration(answers))
    config = load(path, with_files=False)
    assert config.provisioning.enabled
    assert config.provisioning.address == "gw.example.com"
    assert config.ike.listen == (IPv4Address("203.0.113.1"),)
    assert config.dataplane.outside_interfaces == ("eth0",)


def test_a_private_address_may_change_so_every_address_is_listened_at(tmp_path: Path) -> None:
    host = Host("box", ROUTES, "eth1", (), ADDRESSES.get)
    answers = answered(Wishes(inside="-"), host, proposal)
    path = tmp_path / "gateway.toml"
    path.write_text(configuration(answers))
    assert load(path, with_files=False).ike.listen == (IPv4Address("0.0.0.0"),)
    assert answers.address == "10.1.0.1"
    assert answers.subnets == "0.0.0.0/0"
    assert answers.dashboard == "127.0.0.1:8443"


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ("192.168.1.0/24", "home routers use it"),
        ("192.168.0.0/24", "home routers use it"),
        ("10.0.0.0/22", "home routers use it"),
        ("10.77.4.0/22", "has a route to 10.77.0.0/16 by eth1"),
        ("10.83.112.1/22", "has host bits set"),
        ("10.83.112.0/31", "from /8 to /30"),
        ("x", "give one such as 10.83.112.0/22"),
    ],
)
def test_pools_that_could_not_work_are_refused(pool: str, why: str) -> None:
    with pytest.raises(SetupError) as refused:
        checked_pool(pool, ROUTES)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(name="no name\n"),
        Wishes(outside="eth9"),
        Wishes(address="x y"),
        Wishes(subnets="10.1.0.0/8"),
        Wishes(dns="dns.example.com"),
        Wishes(dashboard="here"),
    ],
)
def test_answers_that_mean_nothing_are_refused(wishes: Wishes) -> None:
    with pytest.raises(SetupError, match=r"^--"):
        answered(wishes, HOST, proposal)


def test_a_proposed_pool_collides_with_nothing() -> None:
    taken = [IPv4Network(f"10.{second}.0.0/16") for second in range(16, 250)]
    for _ in range(20):
        found = free_network(taken)
        assert found is not None
        assert not any(found.overlaps(one) for one in taken)
    assert free_network([IPv4Network("10.0.0.0/8")]) is None


def test_networks_in_use_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        "eth0\tzz\n"
    )
    assert networks_in_use(table) == [IPv4Network("10.1.0.0/16")]
    assert networks_in_use(tmp_path / "none") == []


def test_a_host_tells_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\nnameserver 10.1.0.53\n# x\n")
    (tmp_path / "route").write_text("heading\neth7 00000000 01 0003 0 0 0 00000000 0 0 0\n")
    host = look_around(tmp_path, tmp_path)
    assert host.name_servers == ("10.1.0.53",)
    assert host.default_interface == "eth7"


def test_settings_of_a_command_become_a_document(tmp_path: Path) -> None:
    (tmp_path / "psk").write_text("a secret of a file\n")
    document = document_of(
        "connections",
        [
            "pool=staff",
            "local_subnets=10.1.0.0/16, 10.2.0.0/16",
            "liveness_s=30",
            "mobike=false",
            "lifetimes.ike_rekey_s=4000",
            f"psk=@{tmp_path / 'psk'}",
        ],
        None,
    )
    assert document == {
        "pool": "staff",
        "local_subnets": ["10.1.0.0/16", "10.2.0.0/16"],
        "liveness_s": 30,
        "mobike": False,
        "lifetimes": {"ike_rekey_s": 4000},
        "psk": "a secret of a file",
    }
    assert document_of("devices", ["note=true", "blocked=true"], None) == {
        "note": "true",
        "blocked": True,
    }
    assert document_of("connections", ["liveness_s=null"], None) == {"liveness_s": None}


def test_a_file_of_either_kind_is_taken(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('network = "10.83.112.0/22"\n')
    (tmp_path / "one.json").write_text('{"network": "10.83.112.0/22"}')
    for name in ("one.toml", "one.json"):
        found = document_of("pools", ["dns=10.1.0.53"], tmp_path / name)
        assert found == {"network": "10.83.112.0/22", "dns": ["10.1.0.53"]}
    (tmp_path / "bad").write_text("{")
    with pytest.raises(ControlError, match="no JSON and no TOML"):
        document_of("pools", [], tmp_path / "bad")
    with pytest.raises(ControlError, match="KEY=VALUE"):
        document_of("pools", ["network"], None)
