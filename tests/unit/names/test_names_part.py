"""The part of the core: grants become names, reloads and restarts lose none, BIND judges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from names_bed import ADDRESS, REVERSE, ZONE, free_port, look_up, named

from gateway.appliance.remote_access.names import Names
from gateway.appliance.remote_access.part import Joint
from gateway.config import to_names
from gateway.config.document import Config
from gateway.config.problem import ConfigError
from gateway.control.protocol import ControlError, Request
from gateway.domain.event import Event
from gateway.domain.remote_access import Grant
from gateway.lab import bind

needs_named = pytest.mark.skipif(not bind.NAMED.exists(), reason="needs bind9")
CONFIGURED = {"phone@example.com": "anns-phone"}


@dataclass
class Records:
    """What outlives a process."""

    kept: dict[tuple[str, str], bytes] = field(default_factory=dict)

    @property
    def records(self) -> Records:
        return self

    def keep(self, kind: str, key: str, record: bytes) -> None:
        self.kept[kind, key] = record

    def forget(self, kind: str, key: str) -> None:
        self.kept.pop((kind, key), None)

    def of(self, kind: str) -> dict[str, bytes]:
        return {key: record for (of, key), record in self.kept.items() if of == kind}


@dataclass
class Bed:
    """A part and what it sees of the core."""

    folder: Path
    records: Records = field(default_factory=Records)
    grants: dict[str, Grant] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    config: Config = field(default_factory=Config)

    def configure(self, **names: object) -> Config:
        """[names]."""
        (self.folder / "tsig").write_text(bind.SECRET)
        pools = {"road": {"network": "10.9.0.0/24"}}
        given = {"names": {"user": "root", **names}, "pools": pools}
        context = {"directory": self.folder}
        self.config = Config.model_validate(given, context=context)
        return self.config

    def part(self) -> Names:
        """A new one, as at a start."""
        joint = SimpleNamespace(
            config=lambda: self.config,
            grants=lambda: self.grants,
            emit=self.events.append,
            configured_device=lambda identity: (
                SimpleNamespace(name=CONFIGURED[identity]) if identity in CONFIGURED else None
            ),
            wall_clock=time.time,
            taken=self.records,
        )
        return Names(cast("Joint", joint))

    def come(self, part: Names, session: str, peer: str, last: int) -> Grant:
        """A session is in."""
        grant = Grant(session, peer, addresses=(IPv4Address(f"10.9.0.{last}"),))
        self.grants[session] = grant
        part.granted(grant)
        part.commit()
        return grant

    def go(self, part: Names, session: str) -> None:
        """It is over."""
        part.ended(self.grants.pop(session))
        part.commit()


def registration(port: int, **changes: object) -> dict[str, object]:
    """[names.registration]."""
    given: dict[str, object] = {"server": ADDRESS, "port": port, "zone": ZONE}
    return {**given, "key_name": bind.KEY_NAME, "secret_file": "tsig", **changes}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, within a bound."""
    async with asyncio.timeout(30):
        while True:
            if await asyncio.to_thread(condition):
                return
            await asyncio.sleep(0.05)


async def ask(part: Names, operation: str) -> Any:
    """What it answers."""
    return await part.handlers()[operation](cast("Request", None))


@needs_named
def test_devices_have_names_as_long_as_they_are_in(tmp_path: Path) -> None:
    async def run(port: int) -> None:
        bed = Bed(tmp_path)
        bed.configure(registration=registration(port))
        part = bed.part()
        part.open()
        await part.start()
        bed.come(part, "1", "phone@example.com", 2)
        name = f"anns-phone.{ZONE}"
        await until(lambda: look_up(name, "A", port) == ["10.9.0.2"])
        bed.come(part, "2", "printer@example.com", 3)
        await until(lambda: look_up(f"3.{REVERSE}", "PTR", port) != [])
        items = (await ask(part, "names"))["items"]
        assert items[0]["device"] == "anns-phone"
        assert items[0]["state"] == "registered"
        assert items[1]["name"].startswith("printer-"), "the other one is somebody's already"
        assert look_up(f"printer.{ZONE}", "A", port) == ["10.1.0.99"]
        bed.go(part, "1")
        await until(lambda: look_up(name, "A", port) == [])
        await part.stop(keep=False)
        assert not look_up(items[1]["name"], "A", port)
        assert not bed.records.kept

    with named(tmp_path / "named") as port:
        asyncio.run(run(port))


@needs_named
def test_the_next_process_withdraws_what_nobody_has(tmp_path: Path) -> None:
    async def run(port: int) -> None:
        bed = Bed(tmp_path)
        bed.configure(registration=registration(port))
        first = bed.part()
        first.open()
        await first.start()
        bed.come(first, "1", "ann@example.com", 2)
        bed.come(first, "2", "bob@example.com", 3)
        await until(lambda: look_up(f"bob.{ZONE}", "A", port) == ["10.9.0.3"])
        await until(lambda: look_up(f"ann.{ZONE}", "A", port) == ["10.9.0.2"])
        await first.stop(keep=True)
        assert look_up(f"ann.{ZONE}", "A", port) == ["10.9.0.2"]
        second = bed.part()
        second.open()
        bed.come(second, "1", "ann@example.com", 2)
        await second.start()
        await until(lambda: look_up(f"bob.{ZONE}", "A", port) == [])
        assert look_up(f"ann.{ZONE}", "A", port) == ["10.9.0.2"]
        await second.stop(keep=True)

    with named(tmp_path / "named") as port:
        asyncio.run(run(port))


@needs_named
def test_another_zone_moves_the_names(tmp_path: Path) -> None:
    async def run(port: int) -> None:
        bed = Bed(tmp_path)
        bed.configure(registration=registration(port))
        part = bed.part()
        part.open()
        await part.start()
        bed.come(part, "1", "ann@example.com", 2)
        await until(lambda: look_up(f"ann.{ZONE}", "A", port) == ["10.9.0.2"])
        part.reconfigure(bed.configure(registration=registration(port, zone="other.test")))
        await until(lambda: look_up("ann.other.test", "A", port) == ["10.9.0.2"])
        await until(lambda: look_up(f"ann.{ZONE}", "A", port) == [])
        part.reconfigure(bed.configure(published="example.com"))
        await until(lambda: look_up("ann.other.test", "A", port) == [])
        assert (await ask(part, "names"))["registration"]["state"] == "off"
        await part.stop(keep=False)

    zones = (bind.Zone(ZONE), bind.Zone("other.test"), bind.Zone(REVERSE))
    with named(tmp_path / "named", zones) as port:
        asyncio.run(run(port))


@needs_named
def test_a_wrong_key_is_told_once(tmp_path: Path) -> None:
    async def run(port: int) -> None:
        bed = Bed(tmp_path)
        bed.configure(registration=registration(port, key_name="other"))
        part = bed.part()
        part.open()
        await part.start()
        for number in range(5):
            bed.come(part, str(number), f"device{number}@example.com", number + 2)
        await until(lambda: [one.name for one in bed.events] == ["names_refused"])
        view = await ask(part, "names")
        assert view["registration"]["state"] == "failed"
        assert "BADKEY" in view["registration"]["detail"]
        assert bind.SECRET not in repr(view) + repr(bed.events)
        await part.stop(keep=False)
        assert len(bed.events) == 1

    with named(tmp_path / "named") as port:
        asyncio.run(run(port))


def test_the_forwarder_moves_with_a_reload(tmp_path: Path) -> None:
    async def run() -> None:
        bed = Bed(tmp_path)
        first, second = free_port(), free_port()
        bed.configure(listen=[ADDRESS], port=first, servers=["127.0.0.99"])
        part = bed.part()
        part.open()
        await part.start()
        await until(lambda: part.facts()["forwarder"] == "running")

        def refused(port: int) -> bool:
            answer = bind.answers("x.test", "AXFR", ADDRESS, port)
            return any("Transfer failed" in line for line in answer)

        bed.configure(listen=[ADDRESS], port=second, servers=["127.0.0.99"])
        part.reconfigure(bed.config)
        await until(lambda: refused(second) and not bind.answers("x.test", "A", ADDRESS, second))
        more = bed.configure(listen=[ADDRESS, "127.0.0.5"], port=second, servers=["127.0.0.99"])
        part.reconfigure(more)
        await until(lambda: bind.answers("x.test", "A", "127.0.0.5", second) == [])
        assert refused(second), "an address more leaves the first one alone"
        taken = free_port()
        server = await asyncio.start_server(lambda _r, _w: None, ADDRESS, taken)
        with pytest.raises(ConfigError, match=r"names.listen.*in use"):
            part.reconfigure(bed.configure(listen=[ADDRESS], port=taken, servers=["127.0.0.99"]))
        server.close()
        assert refused(second), "everything is as it was"
        await part.stop(keep=True)

    asyncio.run(run())


def test_a_port_that_is_taken_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    async def run() -> None:
        bed = Bed(tmp_path)
        taken = free_port()
        server = await asyncio.start_server(lambda _r, _w: None, ADDRESS, taken)
        bed.configure(listen=[ADDRESS], port=taken, servers=["127.0.0.99"])
        with pytest.raises(ConfigError, match=r"names.listen.*in use"):
            bed.part().open()
        server.close()

    asyncio.run(run())


def test_verify_needs_a_domain(tmp_path: Path) -> None:
    async def run() -> None:
        bed = Bed(tmp_path)
        bed.configure()
        with pytest.raises(ControlError, match=r"names\.published"):
            await ask(bed.part(), "names-verify")

    asyncio.run(run())


def test_who_asks_public_dns_at_the_same_time_gets_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def verify(wanted: object) -> object:
        asked.append(wanted)
        await asyncio.sleep(0)
        return len(asked)

    monkeypatch.setattr("gateway.appliance.remote_access.names.verify", verify)

    async def run() -> None:
        bed = Bed(tmp_path)
        bed.configure(published="example.test")
        part = bed.part()
        assert await asyncio.gather(*(ask(part, "names-verify") for _ in range(5))) == [1] * 5
        assert await ask(part, "names-verify") == 2

    asyncio.run(run())


def test_the_zone_of_devices_is_asked_for_at_its_server(tmp_path: Path) -> None:
    bed = Bed(tmp_path)
    config = bed.configure(
        listen=[ADDRESS],
        servers=["192.0.2.1"],
        forward=[{"domains": ["corp.test"], "servers": ["192.0.2.2"]}],
        registration=registration(5353),
    )
    settings = to_names.forwarder(config)
    assert settings.routes[1].domains == (ZONE, REVERSE)
    assert settings.routes[1].port == 5353
    assert not settings.routes[1].cached
    assert settings == type(settings).from_json(settings.to_json())
