"""Rules of gateway.toml as the engine takes them, and what is refused."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.config import to_filtering
from gateway.config.loader import load
from gateway.config.problem import ConfigError
from gateway.dataplane.filter import GatewayServices
from gateway.domain.filtering import Direction
from gateway.filtering.rule import Action

BASE = """
[gateway]
name = "gateway.example.com"
runtime_dir = "/run/gateway"
[pools.road]
network = "10.9.0.0/24"
[connections.road]
local_auth = "psk"
remote_auth = "psk"
psk = "one long shared secret"
remote_id = "device@example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
"""


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(text: str, more: str = "") -> Any:
        path = tmp_path / "gateway.toml"
        path.write_text(BASE + more + text)
        return load(path)

    return read


def test_a_rule_with_everything(read: Any) -> None:
    config = read(
        """
        [rules.web]
        networks = ["10.1.0.0/24", "fd00::/64"]
        protocols = ["tcp", 17]
        ports = [80, "8000-8099"]
        times = ["mon-fri 08:00-18:00"]
        users = ["Alice"]
        groups = ["Admins"]
        devices = ["Phone@Example.org"]
        [rules.no]
        action = "refuse"
        direction = "between-devices"
        log = true
        """,
        'rules = ["web", "no"]\nbandwidth_up_kbit_s = 512\n',
    )
    book = to_filtering.book(config)
    web, no = book.rules["web"], book.rules["no"]
    assert web.networks == (ip_network("10.1.0.0/24"), ip_network("fd00::/64"))
    assert web.protocols == (6, 17)
    assert web.ports == ((80, 80), (8000, 8099))
    assert web.times == ((frozenset(range(5)), 480, 1080),)
    assert book.comparable("ALICE") in web.users
    assert web.groups == {"Admins"}
    assert book.comparable("phone@example.ORG") in web.devices
    assert (no.action, no.direction, no.log) == (Action.REFUSE, Direction.BETWEEN_DEVICES, True)
    assert book.connections["road"].rules == ("web", "no")
    assert book.connections["road"].up_kbit_s == 512
    assert book.isolate_devices


def test_a_rule_that_is_too_large_is_refused(read: Any) -> None:
    networks = ", ".join(f'"10.{n}.{m}.0/24"' for n in range(5) for m in range(0, 200, 2))
    ports = ", ".join(str(port) for port in range(1, 40, 2))
    text = f'[rules.big]\nnetworks = [{networks}]\nprotocols = ["tcp"]\nports = [{ports}]\n'
    with pytest.raises(ConfigError) as caught:
        read(text, 'rules = ["big"]\n')
    (problem,) = caught.value.problems
    assert "rules.big.networks" in str(problem)
    assert "500 networks with 20 protocols and spans of ports are 10000 entries" in str(problem)
    assert "at most 4096" in str(problem)


def test_services_are_those_of_the_roles(read: Any) -> None:
    plain = to_filtering.gateway_services(read(""))
    assert plain.protocols == {1, 58}
    assert {(17, (53, 53)), (6, (53, 53)), (17, (500, 500)), (17, (4500, 4500))} <= plain.ports
    assert not any(first <= 8443 <= last for _, (first, last) in plain.ports)
    names = to_filtering.gateway_services(
        read('[names]\nlisten = ["10.1.0.1"]\nport = 5353\nservers = ["10.1.0.10"]\n')
    )
    assert {(6, (5353, 5353)), (17, (5353, 5353))} <= names.ports
    everything = to_filtering.gateway_services(read('[filtering]\nto_gateway = "all"\n'))
    assert everything.everything
    nothing = to_filtering.gateway_services(read('[filtering]\nto_gateway = "none"\n'))
    assert nothing == GatewayServices()
