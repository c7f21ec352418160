"""Whatever a table of the mobility agents holds: a complaint, or something that they can use."""

import copy
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_mobility_settings import AGENTS, KEY, OTHER, VPN

from gateway.config import Config
from gateway.config.checks import check_text
from gateway.config.explain import problems_of
from gateway.config.mobility import (
    ForeignAgentSection,
    HomeAgentSection,
    HomeNetworkSection,
    MobileNodeSection,
)
from gateway.config.to_mobility import foreign_agents, home_agents, mobility_settings
from gateway.config.vpn_agent import advertisement

REST = f"""
[mobility]
inside_home_agents = ["10.1.0.7"]
[[mobility.relays]]
public_address = "203.0.113.1"
public_port = 4434
home_agent = "10.1.0.8"
[mobile_nodes.bob]
nai = "bob@example.com"
home_network = "inner"
home_agents = ["inside"]
max_packet_octets = 1300
keys = [{{ spi = 300, key = "{OTHER}", replay = "nonces" }}]
[home_agents.inside.foreign_agents.hall]
address = "10.4.0.1"
spi = 1000
key = "{KEY}"
[pools.staff]
network = "10.83.112.0/22"
[connections.ann]
remote_id = "ann@example.com"
local_subnets = ["10.0.0.0/8"]
remote_subnets = ["10.20.0.10/32"]
vpn_fa = "allowed"
foreign_agent = "vpn"
"""
GOOD: dict[str, Any] = tomllib.loads(AGENTS + VPN + REST)
TABLES = ("mobility", "home_networks", "home_agents", "mobile_nodes", "foreign_agents")
WORDS = (
    *("10.20.0.1", "10.20.0.10", "10.4.0.1", "203.0.113.2", "0.0.0.0", "255.255.255.255", "::1"),
    *(
        "10.20.0.0/24",
        "10.20.0.0/16",
        "0.0.0.0/0",
        "10.20.0.1-10.20.0.9",
        "10.0.0.0/8",
        "10.20.0.7/32",
    ),
    *("inside", "outside", "inner", "outer", "ann", "bob", "hall", "vpn", "eth0", "eth2", "gw0"),
    *(
        "required",
        "off",
        "gre",
        "ip-ip",
        "hmac-sha256",
        "keyed-md5",
        "a@b",
        "@",
        "",
        KEY[::-1],
        KEY[:8],
    ),
)
VALUES = (
    st.sampled_from(WORDS)
    | st.booleans()
    | st.sampled_from((-1, 0, 1, 255, 256, 576, 4500, 65_535, 65_536, 2**32, 0.5, float("nan")))
    | st.lists(st.sampled_from(WORDS), max_size=3)
    | st.dictionaries(st.sampled_from(("name", "spi", "key", "address")), st.sampled_from(WORDS))
)


def places(tables: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(tables, dict | list):
        items = tables.items() if isinstance(tables, dict) else enumerate(tables)
        for key, inner in items:
            yield (*path, key)
            yield from places(inner, (*path, key))


PLACES = sorted((place for place in places(GOOD) if place[0] in TABLES), key=str)
ADDED = [
    (table, name, field)
    for table, section in (
        ("home_networks", HomeNetworkSection),
        ("home_agents", HomeAgentSection),
        ("mobile_nodes", MobileNodeSection),
        ("foreign_agents", ForeignAgentSection),
    )
    for name in GOOD[table]
    for field in section.model_fields
]


def changed(changes: list[tuple[tuple[str | int, ...], object]]) -> dict[str, Any]:
    """The good configuration with values replaced, where what is above them is still there."""
    tables = copy.deepcopy(GOOD)
    for place, value in changes:
        where: Any = tables
        try:
            for key in place[:-1]:
                where = where[key]
            where[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    return tables


def test_what_is_mutated_is_good() -> None:
    assert judge(GOOD) is True


def judge(tables: dict[str, Any]) -> bool:
    """Whether a configuration is accepted; nothing but complaints may come of it otherwise."""
    path = Path(tempfile.gettempdir()) / "gateway.toml"
    try:
        config = Config.model_validate(tables)
    except ValidationError as error:
        problems = problems_of(error, path, Config)
    else:
        problems = check_text(config, path).problems
        if not problems:
            use(config)
            return True
    assert problems
    for problem in problems:
        assert problem.why
        assert str(problem).isprintable()
        assert not any(secret in str(problem) for secret in (KEY, OTHER))
    return False


def use(config: Config) -> None:
    mobility_settings(config)
    for agent in home_agents(config):
        for pool in agent.pools.values():
            assert pool.size >= 0
    foreign_agents(config)
    for connection in config.connections.values():
        advertisement(config, connection)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*PLACES, *ADDED]), VALUES), min_size=1, max_size=3))
def test_every_mutation_is_refused_or_usable(
    changes: list[tuple[tuple[str | int, ...], object]],
) -> None:
    judge(changed(changes))
