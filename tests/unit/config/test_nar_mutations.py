"""Whatever a table of NAR servers holds: a complaint, or something that they can use."""

import copy
import tempfile
import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.config import Config
from gateway.config.checks import check_text
from gateway.config.difference import difference, in_force
from gateway.config.explain import problems_of
from gateway.config.nar import NarRuleSection, NarServerSection, NarSettingsSection
from gateway.config.to_nar import lent_interfaces, nar_listeners, nar_policies, nar_settings
from gateway.nar.server.engine import NarServer

TEXT = """
[credentials]
certificate = "gw.pem"
private_key = "gw.key"
[users]
file = "users.toml"
[radius.office.servers.first]
address = "10.1.0.10"
secret_file = "radius.secret"
[pools.staff]
network = "10.83.112.0/22"
[connections.staff]
remote_id = "*@example.com"
pool = "staff"
local_subnets = ["10.1.0.0/16"]
[nar_settings]
state_dir = "/var/lib/gateway"
queue = 4759
[nar.soho]
listen = ["192.168.1.1"]
tls_listen = ["192.168.1.1:1081"]
tunnel_address = "192.168.1.1"
addresses = ["interface:eth0", "203.0.113.5", "203.0.113.8-203.0.113.11"]
client_interfaces = ["eth1"]
outside_interfaces = ["eth0"]
ports = ["20000-20999", "22000"]
icmp_ids = "1-999"
spis = "0x1000-0x1fff"
trusted = ["192.168.1.0/24"]
backend = "local"
require_tls = true
forbidden = ["10.0.0.0/8"]
masquerade = ["192.168.1.0/24"]
[nar.soho.rules.staff]
groups = ["staff"]
protocols = ["esp", "tcp"]
ports = ["8080"]
remotes = ["198.51.100.0/24"]
[nar.soho.rules.rest]
clients = ["192.168.1.0/25"]
any_remote = true
[nar.firewall]
tls_listen = ["203.0.113.1:1082"]
addresses = ["10.1.0.9"]
client_interfaces = ["eth0"]
outside_interfaces = ["eth1"]
backend = "office"
[foreign_agents.hall]
care_of_address = "203.0.113.5"
interface = "eth1"
nar_server = "soho"
"""
GOOD: dict[str, Any] = tomllib.loads(TEXT)
WORDS = (
    *(
        "192.168.1.1",
        "192.168.1.1:1080",
        "0.0.0.0",
        "0.0.0.0:8443",
        "203.0.113.5",
        "::1",
        "10.1.0.9",
    ),
    *(
        "interface:eth0",
        "interface:eth1",
        "interface:",
        "203.0.113.8/29",
        "203.0.113.9-203.0.113.1",
    ),
    *("0.0.0.0/0", "::/0", "192.168.1.0/24", "192.168.1.1/24", "255.255.255.255", "127.0.0.1"),
    *("1-65535", "0-0", "500", "20000-20999", "0x100-0xffffffff", "0x", "-", "5-4", "99999999999"),
    *("local", "office", "eth0", "eth1", "lo", "soho", "firewall", "staff", "ann", ""),
    *("tcp", "esp", "ah", "ip-ip", "gre", "l2tp", "translated", "sctp"),
)
VALUES = (
    st.sampled_from(WORDS)
    | st.booleans()
    | st.sampled_from((-1, 0, 1, 255, 500, 20_000, 65_535, 65_536, 2**32, 2**70, 0.5, float("nan")))
    | st.lists(st.sampled_from(WORDS), max_size=3)
    | st.dictionaries(st.sampled_from(("users", "rules", "a")), st.sampled_from(WORDS))
)


def places(tables: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(tables, dict | list):
        items = tables.items() if isinstance(tables, dict) else enumerate(tables)
        for key, inner in items:
            yield (*path, key)
            yield from places(inner, (*path, key))


TABLES = ("nar", "nar_settings", "foreign_agents")
PLACES = sorted((place for place in places(GOOD) if place[0] in TABLES), key=str)
ADDED: list[tuple[str | int, ...]] = [
    *(("nar", name, field) for name in GOOD["nar"] for field in NarServerSection.model_fields),
    *(("nar", "soho", "rules", "staff", field) for field in NarRuleSection.model_fields),
    *(("nar_settings", field) for field in NarSettingsSection.model_fields),
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
    return False


def use(config: Config) -> None:
    """What is accepted has a meaning, and can be shown, compared and written down."""
    address = IPv4Address("203.0.113.77")
    for policy in nar_policies(config, lambda _: address):
        assert not policy.tunnel_address.is_unspecified
        assert policy.addresses
        assert policy.rules
        never = policy.occupied_ports
        assert not any(port in span for span in policy.ports for port in never)
        NarServer(policy, random=bytes, wall_clock=lambda: 0.0, occupied=lambda *_: False)
    for listener in nar_listeners(config):
        assert listener.listen or listener.tls_listen
        assert not listener.tls_listen or (listener.certificate and listener.private_key)
    found = nar_settings(config, lambda _: None)
    assert (found is not None) == config.needs_nar
    lent_interfaces(config)
    good = Config.model_validate(GOOD)
    assert all(str(change) for change in difference(good, config))
    in_force(good, config)
    Config.model_validate(config.model_dump(mode="json", exclude_unset=True))


def test_what_is_mutated_is_good() -> None:
    assert judge(GOOD) is True


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*PLACES, *ADDED]), VALUES), min_size=1, max_size=3))
def test_every_mutation_is_refused_or_usable(
    changes: list[tuple[tuple[str | int, ...], object]],
) -> None:
    judge(changed(changes))
