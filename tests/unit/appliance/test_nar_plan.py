"""From the file to the plan, with the addresses that interfaces have now; and what is imported."""

import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.appliance.nar.addresses import AddressMonitor
from gateway.appliance.nar.parts import nar_planner
from gateway.appliance.nar.plan import with_connections
from gateway.config.loader import load

FILE = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"

[api]
enabled = false

[nar_settings]
state_dir = "{folder}/state"
audit_days = 2

[nar.soho]
tunnel_address = "10.50.0.1"
listen = ["10.50.0.1"]
addresses = ["interface:ppp0"]
client_interfaces = ["lan0"]
outside_interfaces = ["ppp0"]
trusted = ["10.50.0.0/16"]
"""
NB, LAN = IPv4Address("203.0.113.9"), IPv4Address("10.50.0.1")


@pytest.fixture
def planner(tmp_path: Path) -> Any:
    file = tmp_path / "gateway.toml"
    file.write_text(FILE.format(folder=tmp_path))
    return nar_planner(load(file))


def test_addresses_come_and_go(planner: Any, tmp_path: Path) -> None:
    plan = planner(lambda _name: None, ())
    (soho,) = plan.servers
    assert soho.policy.addresses == ()
    assert soho.interfaces == ("ppp0",)
    assert [str(one) for one in soho.listen] == ["10.50.0.1:1080"]
    assert (plan.state_dir, plan.audit_age_s) == (tmp_path / "state", 2 * 86_400.0)
    plan = planner({"ppp0": NB}.get, {NB, LAN})
    assert plan.servers[0].policy.addresses == (NB,)
    assert plan.settings.servers[0].addresses == (NB,)


def test_h76_all_addresses_of_this_box_are_forbidden_targets(planner: Any) -> None:
    other = IPv4Address("192.0.2.200")
    forbidden = planner({"ppp0": NB}.get, {NB, LAN, other}).servers[0].policy.forbidden
    assert {IPv4Network(one) for one in (NB, LAN, other)} <= set(forbidden)


def test_connections_are_shared_out(planner: Any) -> None:
    plan = planner({"ppp0": NB}.get, ())
    wanted = plan.servers[0].policy.max_connections
    assert with_connections(plan, 100, wanted).servers[0].policy.max_connections == 100
    assert with_connections(plan, 0, wanted).servers[0].policy.max_connections == 1


def test_the_monitor_knows_loopback() -> None:
    monitor = AddressMonitor()
    try:
        assert IPv4Address("127.0.0.1") in monitor.local
        assert monitor.address_of("no-such-interface") is None
        assert monitor.read() is False
    finally:
        monitor.close()


def test_the_monitor_follows_the_kernels_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def message(index: int, address: str, flags: int = 0, scope: int = 0) -> tuple[int, bytes]:
        octets = IPv4Address(address).packed
        head = bytes((2, 24, flags, scope)) + index.to_bytes(4, sys.byteorder)
        return 20, head + b"\x08\0\x02\0" + octets

    lines: list[tuple[int, bytes]] = [
        message(7, "192.0.2.9", flags=0x01),
        message(7, "192.0.2.1"),
        message(7, "192.0.2.2"),
        message(8, "169.254.0.1", scope=253),
        message(9, "192.0.2.3"),
        (20, b"\2"),
    ]
    monkeypatch.setattr(
        "gateway.appliance.nar.addresses.NetlinkSocket",
        lambda *_: SimpleNamespace(
            close=lambda: None,
            dump=lambda *_: iter(lines),
            read_datagrams=lambda _limit: ([], True),
        ),
    )
    names = {7: "eth0", 8: "eth1"}

    def name_of(index: int) -> str:
        if index not in names:
            raise OSError(19, "no such device")
        return names[index]

    monkeypatch.setattr("socket.if_indextoname", name_of)
    monitor = AddressMonitor()
    assert monitor.address_of("eth0") == IPv4Address("192.0.2.1")
    assert monitor.address_of("eth1") is None
    assert len(monitor.local) == 5
    assert monitor.read() is False
    del lines[1]
    assert monitor.read() is True
    assert monitor.address_of("eth0") == IPv4Address("192.0.2.2")


def test_a_gateway_without_nar_loads_nothing_of_it() -> None:
    code = (
        "import sys, gateway.appliance.start;"
        "print([m for m in sys.modules if m.startswith(('gateway.nar', 'gateway.dataplane.nar',"
        " 'gateway.dataplane.kernel.nar', 'gateway.appliance.nar.composition'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
