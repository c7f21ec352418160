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
