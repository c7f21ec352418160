"""The part of rules between the engine, a filter that only writes down, and who asks."""

import asyncio
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.appliance.remote_access.filtering import FilteringPart
from gateway.config.loader import load
from gateway.control.protocol import ControlError
from gateway.dataplane.filter import Count, DeviceUsage, RefusedPacket
from gateway.domain.filtering import Box, Direction
from gateway.domain.remote_access import Grant

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
WEB = """
rules = ["web"]
[rules.web]
networks = ["10.1.0.0/24"]
protocols = ["tcp"]
ports = [80]
"""
PHONE, SERVER = ip_address("10.9.0.1"), ip_address("10.1.0.2")
MONDAY_NOON = 1_767_614_400.0
"""2026-01-05 12:00 UTC."""


class FakeFilter:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.sets: dict[int, Any] = {}
        self.placed: dict[str, Any] = {}
        self.problems: list[str] = []
        self.counted: dict[Any, Count] = {}

    def open(self) -> None:
        self.calls.append(("open",))

    def configure(self, services: Any, **options: Any) -> None:
        self.calls.append(("configure", services, options))

    def define(self, number: int, rule_set: Any) -> None:
        self.sets[number] = rule_set

    def undefine(self, number: int) -> None:
        del self.sets[number]

    def place(self, session: str, placement: Any) -> None:
        self.placed[session] = placement

    def displace(self, session: str) -> None:
        del self.placed[session]

    def commit(self) -> list[str]:
        problems, self.problems = self.problems, []
        return problems

    def settle(self) -> list[str]:
        self.calls.append(("settle",))
        return []

    def counts(self) -> Any:
        return self.counted

    def usage(self, placement: Any) -> DeviceUsage:
        return DeviceUsage(Count(3, 300), Count(4, 400), 5)

    def refused(self) -> list[RefusedPacket]:
        return []

    def fileno(self) -> int:
        return -1

    def counters(self) -> dict[str, int]:
        return {"refused_to_inside": 1}

    def close(self, *, keep: bool) -> None:
        self.calls.append(("close", keep))


class Bed:
    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "gateway.toml"
        self.now = 0.0
        self.grants: dict[str, Grant] = {}
        self.events: list[Any] = []
        self.timers: list[Any] = []
        self.devices: dict[str, Any] = {}
        self.config = self.read(text)
        self.filter = FakeFilter()
        joint: Any = SimpleNamespace(
            config=lambda: self.config,
            grants=lambda: self.grants,
            emit=self.events.append,
            clock=lambda: self.now,
            wall_clock=lambda: MONDAY_NOON + self.now,
            call_at=lambda when, call: self.timers.append((when, call)),
            find_device=self.find,
            configured_device=self.devices.get,
        )
        self.part = FilteringPart(joint, self.filter)
        self.part.open()

    def read(self, text: str) -> Any:
        self.path.write_text(BASE + text)
        return load(self.path)

    def find(self, name: str) -> Any:
        sessions = {one: SimpleNamespace(id=one) for one in self.grants}
        return SimpleNamespace(name=name, identity="device@example.com", sessions=sessions)

    def grant(self, **fields: Any) -> Grant:
        found = Grant("s1", "device@example.com", connection="road", addresses=(PHONE,), **fields)
        self.grants["s1"] = found
        self.part.granted(found)
        self.part.commit()
        return found

    def ask(self, op: str, **args: Any) -> Any:
        request: Any = SimpleNamespace(
            text=args.get, number=lambda name: args.get(name, 100 if name == "limit" else 0)
        )
        return asyncio.run(self.part.handlers()[op](request))


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path, WEB)


def test_a_session_is_placed_under_its_rules_and_leaves(bed: Bed) -> None:
    grant = bed.grant()
    (number,) = bed.filter.sets
    assert bed.filter.placed["s1"].rule_sets == {Direction.TO_INSIDE: number}
    bed.part.ended(grant)
    bed.part.commit()
    assert bed.filter.placed == {}


def test_a_reload_changes_rule_sets_and_not_sessions(bed: Bed) -> None:
    bed.grant()
    before = dict(bed.filter.placed)
    bed.config = bed.read(WEB.replace("[80]", "[443]"))
    bed.part.reconfigure(bed.config)
    ((_, rule_set),) = bed.filter.sets.items()
    assert {box.ports for box in rule_set.allow} == {(443, 443)}
    assert bed.filter.placed["s1"] is before["s1"]


def test_time_is_looked_at_each_minute(tmp_path: Path) -> None:
    bed = Bed(tmp_path, WEB + 'times = ["12:00-12:30"]\n')
    bed.now = 3600.0 * 24
    bed.grant()
    asyncio.run(bed.part.start())
    seen = []
    for _ in range(2):
        (when, call) = bed.timers.pop()
        assert 0 < when - bed.now <= 60.1
        bed.now += 12 * 3600.0
        call()
        ((_, rule_set),) = bed.filter.sets.items()
        seen.append(bool(rule_set.allow))
        assert rule_set.closed
    # Whatever the time zone here is: in force at most once within a day.
    assert seen != [True, True]


def test_what_the_kernel_refuses_is_told(bed: Bed) -> None:
    bed.filter.problems = ["nftables refused an element: ENOMEM"]
    bed.grant()
    (event,) = bed.events
    assert event.name == "filter_refused"
    assert "ENOMEM" in event.text


def refused(direction: Direction = Direction.TO_INSIDE, port: int = 22) -> RefusedPacket:
    return RefusedPacket(direction, PHONE, SERVER, 6, port)


def test_refusals_are_told_with_their_reason_at_a_bounded_rate(bed: Bed) -> None:
    bed.grant(user="alice")
    note = bed.part._refusals.note
    note([refused() for _ in range(50)])
    assert len(bed.events) == 10
    event = bed.events[0]
    assert event.name == "refused"
    assert event.text == (
        "alice (10.9.0.1) to 10.1.0.2 tcp 22:"
        " refused: only what rules.web allow is let through to-inside"
    )
    assert event.fields["rule"] == "web"
    bed.now += 120
    note([refused()])
    assert bed.events[-1].fields["not_logged"] == 40
    assert "40 others not logged" in bed.events[-1].text
    # Of somebody who is not in any more.
    count = len(bed.events)
    note([RefusedPacket(Direction.TO_INSIDE, SERVER, PHONE, 6, 22)])
    assert len(bed.events) == count


def test_only_rules_that_want_it_are_logged_when_the_rest_is_not(tmp_path: Path) -> None:
    text = (
        '\nrules = ["web", "no"]\n[filtering]\nlog_refusals = false\n'
        + WEB.partition("\n")[2].partition("\n")[2]
        + '\n[rules.no]\naction = "refuse"\nprotocols = ["tcp"]\nports = [23]\nlog = true\n'
    )
    bed = Bed(tmp_path, text)
    bed.grant()
    note = bed.part._refusals.note
    note([refused(), refused(port=23)])
    (event,) = bed.events
    assert event.fields["rule"] == "no"


def test_questions(bed: Bed) -> None:
    found = bed.ask("rules-of", device="phone")
    assert not found["connected"]
    bed.grant()
    (number,) = bed.filter.sets
    box = Box(ip_network("10.1.0.0/24"), (6, 6), (80, 80))
    bed.filter.counted = {(number, box): Count(7, 700), (number + 1, box): Count(9, 9)}
    found = bed.ask("rules-of", device="phone")
    assert found["connected"]
    assert found["addresses"] == ["10.9.0.1"]
    (rule,) = found["rules"]
    assert (rule["packets"], rule["bytes"], rule["why"]) == (7, 700, "connection road")
    assert found["otherwise"]["to-inside"] == "refused"
    assert found["usage"] == {
        "packets_in": 3, "bytes_in": 300, "packets_out": 4, "bytes_out": 400, "refused": 5,
    }  # fmt: skip
    page = bed.ask("rule-counters")
    assert page["total"] == 1
    assert page["items"][0]["sessions"] == 1
    assert page["items"][0]["packets"] == 7
    told = bed.ask("rule-test", device="phone", address="10.1.0.2", protocol=6, port=80)
    assert told["allowed"]
    told = bed.ask("rule-test", device="phone", address="10.1.0.2", protocol=17, port=53)
    assert (told["allowed"], told["rule"], told["sessions"]) == (False, "web", 1)
    told = bed.ask(
        "rule-test",
        device="phone",
        direction="to-gateway",
        address="10.1.0.1",
        protocol=17,
        port=53,
    )
    assert told["allowed"]
    with pytest.raises(ControlError, match="not an IP address"):
        bed.ask("rule-test", device="phone", address="10.1.0.", protocol=6, port=80)


def test_facts_and_the_end(bed: Bed) -> None:
    bed.grant()
    facts = bed.part.facts()
    assert facts["sessions"] == 1
    assert facts["counters"]["refused_to_inside"] == 1  # type: ignore[index]
    asyncio.run(bed.part.stop(keep=True))
    assert bed.filter.calls[-1] == ("close", True)
