"""What a reload would do is told per key, and what it cannot do is told as well."""

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.config.difference import difference, in_force

SECOND = """
[connections.second]
remote_id = "*.example.org"
pool = "staff"
local_subnets = ["10.1.0.0/16"]
"""


def test_nothing(workshop: Workshop) -> None:
    assert difference(workshop.load(), workshop.load()) == []


def test_connection_added_and_removed(workshop: Workshop) -> None:
    one, two = workshop.load(), workshop.load(MINIMAL + SECOND)
    (added,) = difference(one, two)
    assert (added.kind, added.key, added.needs_restart) == ("added", "connections.second", False)
    (removed,) = difference(two, one)
    assert removed.kind == "removed"
    assert removed.effect == "its SAs are closed with a DELETE"


@pytest.mark.parametrize(
    ("line", "key", "old", "new", "effect"),
    [
        ("mobike = false", "mobike", "true", "false", "established SAs stay, new ones use it"),
        ('local_id = "x"', "local_id", "unset", '"x"', "its SAs are closed with a DELETE"),
        ("liveness_s = 5", "liveness_s", "30.0", "5.0", "established SAs stay"),
    ],
)
def test_connection_changed(
    workshop: Workshop, line: str, key: str, old: str, new: str, effect: str
) -> None:
    changed = workshop.load(workshop.added("connections.staff", line))
    (change,) = difference(workshop.load(), changed)
    assert change.key == f"connections.staff.{key}"
    assert (change.old, change.new) == (old, new)
    assert change.effect.startswith(effect)
    assert str(change) == f"changed {change.key}: {old} -> {new} ({change.effect})"


def test_nested_table(workshop: Workshop) -> None:
    changed = workshop.load(workshop.added("connections.staff.lifetimes", "child_rekey_s = 60"))
    (change,) = difference(workshop.load(), changed)
    assert change.key == "connections.staff.lifetimes.child_rekey_s"
    assert (change.old, change.new) == ("3600.0", "60.0")


@pytest.mark.parametrize(
    ("section", "line", "restart"),
    [
        ("ike", "port = 501", True),
        ("ike", 'listen = ["192.0.2.1"]', True),
        ("gateway", 'runtime_dir = "/run/other"', True),
        ("gateway", 'log_level = "debug"', False),
        ("dataplane", "queue = 1", True),
        ("api", "enabled = false", True),
        ("control", "allowed_uids = [1]", True),
        ("pools.staff", 'dns = ["10.1.0.1"]', False),
        ("pools.staff", 'reserved = ["10.83.112.1"]', False),
        ("pools.other", 'network = "10.84.0.0/24"', False),
    ],
)
def test_what_needs_a_restart(workshop: Workshop, section: str, line: str, restart: bool) -> None:
    (change,) = difference(workshop.load(), workshop.load(workshop.added(section, line)))
    assert change.needs_restart is restart
    assert change.key.startswith(section)
    assert ("systemctl restart gateway" in change.effect) is restart


def test_pool_removed(workshop: Workshop) -> None:
    more = workshop.load(workshop.added("pools.other", 'network = "10.84.0.0/24"'))
    (change,) = difference(more, workshop.load())
    assert (change.kind, change.needs_restart) == ("removed", False)
    assert change.effect.startswith("SAs with an address of it are closed")


def test_credentials(workshop: Workshop) -> None:
    workshop.put("new.key", (workshop.directory / "gw.key").read_bytes())
    changed = workshop.load(workshop.changed('"gw.key"', '"new.key"'))
    (change,) = difference(workshop.load(), changed)
    assert change.key == "credentials.private_key"
    assert change.effect == "new handshakes use it, established SAs stay"


@pytest.mark.parametrize(
    ("section", "line", "pending"),
    [
        ("ike", 'listen = ["192.0.2.1"]', True),
        ("gateway", 'runtime_dir = "/run/other"', True),
        ("gateway", 'log_level = "debug"', False),
        ("pools.staff", 'dns = ["10.1.0.1"]', False),
        ("pools.other", 'network = "10.84.0.0/24"', False),
        ("api", "enabled = false", True),
    ],
)
def test_what_waits_for_a_restart_stays_a_difference(
    workshop: Workshop, section: str, line: str, pending: bool
) -> None:
    running, wanted = workshop.load(), workshop.load(workshop.added(section, line))
    first = difference(running, wanted)
    after = in_force(running, wanted)
    assert after.path == wanted.path
    assert after.connections == wanted.connections
    assert difference(after, wanted) == (first if pending else [])
    assert difference(in_force(after, running), running) == []


AGENTS = """
[home_networks.inner]
network = "10.20.0.0/24"
[home_agents.office]
address = "10.20.0.1"
placement = "outside"
home_networks = ["inner"]
[mobile_nodes.ann]
home_address = "10.20.0.10"
spi = 256
key = "8f1d03c6a94e57b2e06f7c12d5983ba4"
[foreign_agents.hall]
care_of_address = "10.4.0.1"
interface = "eth2"
[mobility]
offload = true
"""


@pytest.mark.parametrize(
    ("old", "new", "key", "effect"),
    [
        ('"10.20.0.1"', '"10.20.0.2"', "home_agents.office.address", "bindings of it end"),
        ('"outside"', '"outside"\nlifetime_s = 60', "home_agents.office.lifetime_s", "the next"),
        ("10.20.0.10", "10.20.0.11", "mobile_nodes.ann.home_address", "its binding ends and is"),
        ("spi = 256", "spi = 300", "mobile_nodes.ann.spi", "its next registration uses it"),
        ("eth2", "eth3", "foreign_agents.hall.interface", "its visitors are dropped"),
        ('"eth2"', '"eth2"\nchallenge = true', "foreign_agents.hall.challenge", "the next regis"),
        (
            '"10.20.0.0/24"',
            '"10.20.0.0/24"\ndynamic = "10.20.0.64/26"',
            "home_networks.inner.dynamic",
            "from now on, bindings stay",
        ),
        ('"10.20.0.0/24"', '"10.20.0.0/25"', "home_networks.inner.network", "bindings of it end"),
        ("offload = true", "offload = false", "mobility.offload", "needs a restart"),
        (
            "offload = true",
            'inside_home_agents = ["10.1.0.7"]',
            "mobility.inside_home_agents",
            "protected from now on",
        ),
    ],
)
def test_mobility_agents(workshop: Workshop, old: str, new: str, key: str, effect: str) -> None:
    running = workshop.load(AGENTS)
    changes = difference(running, workshop.load(AGENTS.replace(old, new, 1)))
    (change,) = changes
    assert change.key == key
    assert change.effect.startswith(effect)
    after = in_force(running, workshop.load(AGENTS.replace(old, new, 1)))
    pending = difference(after, workshop.load(AGENTS.replace(old, new, 1)))
    assert bool(pending) is change.needs_restart


@pytest.mark.parametrize(
    ("table", "added", "removed"),
    [
        ("mobile_nodes.bob", "it can register at once", "its binding ends and is revoked"),
        ("foreign_agents.two", "devices can register at once", "its visitors are dropped"),
        ("home_networks.more", "home agents can have it at once", "bindings of it end"),
    ],
)
def test_mobility_tables_come_and_go(
    workshop: Workshop, table: str, added: str, removed: str
) -> None:
    lines = {
        "mobile_nodes.bob": 'home_address = "10.20.0.11"\nspi = 256\nkey_file = "bob.key"',
        "foreign_agents.two": 'care_of_address = "10.5.0.1"\ninterface = "eth3"',
        "home_networks.more": 'network = "10.21.0.0/24"',
    }
    workshop.put("bob.key", b"c2b90e7745d1f86a3390ae6d1c5b42f7")
    one, two = workshop.load(AGENTS), workshop.load(f"{AGENTS}[{table}]\n{lines[table]}\n")
    (come,), (gone,) = difference(one, two), difference(two, one)
    assert (come.kind, come.key, gone.kind, gone.key) == ("added", table, "removed", table)
    assert come.effect == added
    assert gone.effect.startswith(removed)


def test_the_first_agent_and_the_last_one_need_a_restart(workshop: Workshop) -> None:
    without, agents = workshop.load(), workshop.load(MINIMAL + AGENTS)
    for running, wanted in ((without, agents), (agents, without)):
        changes = difference(running, wanted)
        assert len(changes) == 4
        assert all(change.needs_restart for change in changes)
        assert difference(in_force(running, wanted), wanted) == changes
