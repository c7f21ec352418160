"""Name servers of the inside: set, taken back, and put back after a crash."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from gateway.domain.event import Event
from gateway.mobile_host.resolver import Names, Resolver, Way, restore_dns

BEFORE = "# the system's\nnameserver 198.51.100.53\n"
INSIDE = Names((IPv4Address("10.1.0.10"), IPv4Address("10.1.0.11")), ("corp.example",))


class Bed:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.events: list[Event] = []
        self.commands: list[list[str]] = []
        self.complaint = ""
        (root / "etc").mkdir()
        self.file = root / "etc/resolv.conf"
        self.file.write_text(BEFORE)

    async def run(self, argv: Sequence[str]) -> str:
        self.commands.append(list(argv))
        return self.complaint

    def resolver(self, way: Way = "resolv.conf") -> Resolver:
        return Resolver(way, "mn0", self.state, self.events.append, root=self.root, run=self.run)

    def use(self, *names: Names, way: Way = "resolv.conf", stop: bool = False) -> None:
        async def go() -> None:
            resolver = self.resolver(way)
            for one in names:
                resolver.use(one)
            if resolver._task is not None:
                await resolver._task
            if stop:
                await resolver.stop()

        asyncio.run(go())


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_the_file_is_rewritten_and_comes_back(bed: Bed) -> None:
    bed.use(INSIDE)
    text = bed.file.read_text()
    assert "nameserver 10.1.0.10\nnameserver 10.1.0.11\nsearch corp.example\n" in text
    assert "198.51.100.53" not in text
    bed.use(INSIDE, stop=True)
    assert bed.file.read_text() == BEFORE
    assert list(bed.state.iterdir()) == []


def test_a_crash_is_repaired_by_the_next_start(bed: Bed) -> None:
    bed.use(INSIDE)
    bed.resolver().recover()
    assert bed.file.read_text() == BEFORE


def test_restore_dns_for_a_node_that_is_gone(bed: Bed) -> None:
    assert not restore_dns(bed.state, bed.root)
    bed.use(INSIDE)
    assert restore_dns(bed.state, bed.root)
    assert bed.file.read_text() == BEFORE


def test_a_crash_between_two_rewritings_keeps_the_first_backup(bed: Bed) -> None:
    bed.use(INSIDE)
    bed.use(Names((IPv4Address("10.1.0.99"),)))
    assert "10.1.0.99" in bed.file.read_text()
    bed.resolver().recover()
    assert bed.file.read_text() == BEFORE


def test_a_link_comes_back_as_a_link(bed: Bed) -> None:
    target = bed.root / "stub-resolv.conf"
    target.write_text(BEFORE)
    bed.file.unlink()
    bed.file.symlink_to("../stub-resolv.conf")
    bed.use(INSIDE)
    assert not bed.file.is_symlink()
    assert target.read_text() == BEFORE
    bed.use(INSIDE, stop=True)
    assert bed.file.is_symlink()
    assert bed.file.read_text() == BEFORE


def test_no_file_before_is_no_file_after(bed: Bed) -> None:
    bed.file.unlink()
    bed.use(INSIDE)
    assert bed.file.exists()
    bed.use(INSIDE, stop=True)
    assert not bed.file.exists()


def test_what_somebody_else_wrote_meanwhile_stays(bed: Bed) -> None:
    bed.use(INSIDE)
    bed.file.write_text("nameserver 203.0.113.1\n")
    bed.resolver().recover()
    assert bed.file.read_text() == "nameserver 203.0.113.1\n"
    assert not (bed.state / "resolv.conf.before").exists()


def test_a_damaged_backup_does_no_harm(bed: Bed) -> None:
    bed.use(INSIDE)
    (bed.state / "resolv.conf.before").write_text("{")
    bed.resolver().recover()
    assert "10.1.0.10" in bed.file.read_text()


def test_resolved_learns_split_names(bed: Bed) -> None:
    bed.use(INSIDE, way="resolvectl", stop=True)
    assert bed.commands == [
        ["resolvectl", "dns", "mn0", "10.1.0.10", "10.1.0.11"],
        ["resolvectl", "domain", "mn0", "~corp.example"],
        ["resolvectl", "revert", "mn0"],
    ]
    assert bed.file.read_text() == BEFORE


def test_without_split_names_resolved_asks_inside_for_all(bed: Bed) -> None:
    bed.use(Names(INSIDE.servers), way="resolvectl")
    assert ["resolvectl", "domain", "mn0", "~."] in bed.commands


def test_only_the_newest_wish_is_carried_out(bed: Bed) -> None:
    bed.use(INSIDE, Names(), INSIDE, way="resolvectl")
    assert len(bed.commands) == 2


def test_a_failure_is_told(bed: Bed) -> None:
    bed.complaint = "no such link"
    bed.use(INSIDE, way="resolvectl")
    assert [one.name for one in bed.events] == ["dns_failed"]
    assert "no such link" in bed.events[0].text


def test_off_touches_nothing(bed: Bed) -> None:
    bed.use(INSIDE, way="off", stop=True)
    assert bed.commands == []
    assert bed.file.read_text() == BEFORE


def test_auto_takes_the_file_where_there_is_no_resolved(bed: Bed) -> None:
    assert bed.resolver("auto").way == "resolv.conf"


@pytest.mark.parametrize("way", ["resolv.conf", "resolvectl"])
def test_domains_are_names_and_no_more_lines(bed: Bed, way: Way) -> None:
    odd = ("corp.example.", "x\nnameserver 192.0.2.66", "a b", "--help", "", "ä.example", "_tcp.x")
    bed.use(Names(INSIDE.servers, odd), way=way)
    if way == "resolv.conf":
        lines = bed.file.read_text().splitlines()
        assert lines[1:] == [
            "nameserver 10.1.0.10",
            "nameserver 10.1.0.11",
            "search corp.example _tcp.x",
        ]
    else:
        assert bed.commands[-1] == ["resolvectl", "domain", "mn0", "~corp.example", "~_tcp.x"]
