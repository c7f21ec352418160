"""Captures: one device's packets, bounded in time, size and number, as Wireshark reads them."""

import asyncio
import base64
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observation_fakes import Chronicle, Clock, Engine

from gateway.appliance.observation import captures as module
from gateway.appliance.observation import pcapng
from gateway.appliance.observation.captures import MAX_KEPT, MAX_RUNNING, Captures
from gateway.appliance.observation.device import Device
from gateway.appliance.observation.following import Follower
from gateway.appliance.observation.packet_filter import (
    MAX_ADDRESSES,
    DeviceFilter,
    filter_of,
    program,
)
from gateway.appliance.observation.register import Register
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode, Request

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("198.51.100.7")


def ipv4(source: str, destination: str, protocol: int, rest: bytes, fragment: int = 0) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(rest),
        1,
        fragment,
        64,
        protocol,
        0,
        IPv4Address(source).packed,
        IPv4Address(destination).packed,
    )
    return head + rest


def udp(source: int, destination: int, data: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(data), 0) + data


def run_bpf(steps: list[tuple[int, int, int, int]], packet: bytes) -> int:
    """A classic BPF machine, as the kernel's: out of the packet means 0."""
    accumulator = at = 0
    while True:
        code, yes, no, k = steps[at]
        at += 1
        if code == 0x06:
            return k
        if code in {0x20, 0x30}:
            size = 4 if code == 0x20 else 1
            if k + size > len(packet):
                return 0
            accumulator = int.from_bytes(packet[k : k + size], "big")
        elif code == 0x54:
            accumulator &= k
        elif code == 0x15:
            at += yes if accumulator == k else no
        else:
            raise AssertionError(code)


WANTED = DeviceFilter(
    frozenset({(THERE, 4500)}), frozenset({IPv4Address("10.9.0.2")}), frozenset({0x100001, 0x7})
)


@pytest.mark.parametrize(
    ("packet", "fits"),
    [
        (ipv4("198.51.100.7", "192.0.2.1", 17, udp(4500, 4500, bytes(8))), True),
        (ipv4("192.0.2.1", "198.51.100.7", 17, udp(4500, 4500, bytes(8))), True),
        (ipv4("198.51.100.7", "192.0.2.1", 17, udp(4501, 4500, b"\x00\x10\x00\x01" * 2)), True),
        (ipv4("198.51.100.7", "192.0.2.1", 17, udp(4501, 4500, b"\x00\x10\x00\x02" * 2)), False),
        (ipv4("198.51.100.7", "192.0.2.1", 50, b"\x00\x10\x00\x01" + bytes(20)), True),
        (ipv4("198.51.100.7", "192.0.2.1", 50, b"\x00\x10\x00\x02" + bytes(20)), False),
        (ipv4("198.51.100.7", "192.0.2.1", 17, b"", 0x00B9), True),
        (ipv4("198.51.100.8", "192.0.2.1", 50, b"\x00\x10\x00\x01" + bytes(20)), False),
        (ipv4("10.9.0.2", "10.1.0.10", 6, bytes(20)), True),
        (ipv4("10.1.0.10", "10.9.0.3", 6, bytes(20)), False),
        (b"", False),
        (bytes(19), False),
        (ipv4("198.51.100.7", "192.0.2.1", 17, b"\x11"), False),
    ],
)
def test_a_device_behind_a_shared_address_is_told_by_port_and_spi(
    packet: bytes, fits: bool
) -> None:
    assert WANTED.matches(packet) == fits


@given(st.binary(max_size=100))
def test_any_packet_is_judged(packet: bytes) -> None:
    WANTED.matches(packet)


_ADDRESSES = st.lists(
    st.one_of(st.ip_addresses(v=4).map(lambda one: one), st.ip_addresses(v=6).map(lambda one: one)),
    max_size=MAX_ADDRESSES,
    unique=True,
)


@given(_ADDRESSES, st.integers(0, 30), st.booleans())
def test_the_kernel_s_filter_lets_exactly_these_addresses_in(
    addresses: list[IPv4Address | IPv6Address], chosen: int, towards: bool
) -> None:
    steps = program(tuple(addresses))
    assert len(steps) <= 4096
    assert all(yes < 256 and no < 256 for _, yes, no, _ in steps)
    other4, other6 = IPv4Address("192.0.2.99"), IPv6Address("2001:db8::99")
    found = addresses[chosen] if chosen < len(addresses) else other4
    other = other4 if found.version == 4 else other6
    ends = (other.packed, found.packed) if towards else (found.packed, other.packed)
    head = b"\x45" + bytes(11) if found.version == 4 else b"\x60" + bytes(7)
    wanted = found in addresses or other in addresses
    assert (run_bpf(steps, head + ends[0] + ends[1] + bytes(20)) > 0) == wanted


class FakeSource:
    """Packets that a test puts in; a pipe makes it readable."""

    made: ClassVar[list["FakeSource"]] = []

    def __init__(self, wanted: DeviceFilter) -> None:
        self.wanted = [wanted]
        self.packets: list[tuple[bytes, str, int, int]] = []
        self.closed = False
        self._read, self._write = os.pipe()
        FakeSource.made.append(self)

    def put(self, packet: bytes, interface: str = "outside", direction: int = 1) -> None:
        self.packets.append((packet, interface, 1_700_000_000_123_456_789, direction))
        os.write(self._write, b"x")

    def fileno(self) -> int:
        return self._read

    def look_for(self, wanted: DeviceFilter) -> None:
        self.wanted.append(wanted)

    def read(self) -> tuple[bytes, str, int, int] | None:
        if not self.packets:
            return None
        os.read(self._read, 1)
        return self.packets.pop(0)

    def dropped(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class Bed:
    def __init__(self, folder: Path) -> None:
        self.clock, self.engine = Clock(), Engine()
        self.register = Register()
        self.follower = Follower(
            self.register,
            Chronicle(),
            self.engine,
            lambda: None,
            clock=self.clock,
            wall_clock=self.clock.wall,
        )
        self.event = self.engine.connect("ann", inner_address="10.9.0.2")
        self.follower(self.event)
        numbers = iter(range(1, 1000))
        around: Any = SimpleNamespace(
            config=lambda: SimpleNamespace(store=SimpleNamespace(state_dir=folder)),
            wall_clock=self.clock.wall,
            random=lambda count: next(numbers).to_bytes(count, "big"),
        )
        FakeSource.made.clear()
        self.captures = Captures(self.find, around, open_source=FakeSource)

    def find(self, name: str, field: str) -> Device:
        device = self.register.identified(name)
        if device is None:
            raise ControlError(ErrorCode.NOT_FOUND, "no such device", field)
        return device

    async def ask(self, op: str, **arguments: Any) -> Any:
        checked: dict[str, Any] = {
            one.name: one.default for one in OPERATIONS[op].parameters if one.default is not None
        }
        return await self.captures.handle(Request(OPERATIONS[op], {**checked, **arguments}))

    async def octets(self, id_: str) -> bytes:
        found, offset = b"", 0
        while offset is not None:
            piece = await self.ask("capture-read", id=id_, offset=offset)
            found += base64.b64decode(piece["content"])
            offset = piece["next"]
        return found


Scenario = Callable[[Bed], Coroutine[Any, Any, None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            bed = Bed(tmp_path)
            try:
                await scenario(bed)
            finally:
                await bed.captures.stop()
            assert not (tmp_path / "captures").exists()

        asyncio.run(whole())

    return run


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


ESP = ipv4("198.51.100.7", "192.0.2.1", 17, udp(4500, 4500, b"\x00\x10\x00\x01" + bytes(60)))
INNER = ipv4("10.9.0.2", "10.1.0.10", 1, bytes(64))
OTHER = ipv4("198.51.100.99", "192.0.2.1", 17, udp(4500, 4500, bytes(60)))


def test_packets_of_the_device_are_recorded_and_the_file_is_private(
    play: Callable[[Scenario], None], tmp_path: Path
) -> None:
    async def scenario(bed: Bed) -> None:
        started = await bed.ask("capture-start", device="ann")
        (source,) = FakeSource.made
        for packet, interface in ((ESP, "outside"), (OTHER, "outside"), (INNER, "gw0")):
            source.put(packet, interface)
        capture = next(iter(bed.captures._found.values()))
        await until(lambda: capture.packets == 2)
        done = await bed.ask("capture-stop", id=started["id"])
        assert (done["state"], done["packets"], done["ended_by"]) == ("done", 2, "stopped")
        assert source.closed
        octets = await bed.octets(started["id"])
        assert len(octets) == done["octets"]
        assert ESP in octets
        assert INNER in octets
        assert OTHER not in octets
        (file,) = (tmp_path / "captures").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        (item,) = (await bed.ask("captures"))["items"]
        assert item["id"] == started["id"]
        await bed.ask("capture-stop", id=started["id"], remove=True)
        assert (await bed.ask("captures"))["items"] == []
        assert not file.exists()

    play(scenario)


def test_a_full_file_ends_the_capture_below_its_bound(play: Callable[[Scenario], None]) -> None:
    async def scenario(bed: Bed) -> None:
        started = await bed.ask("capture-start", device="ann", octets=4096)
        (source,) = FakeSource.made
        for _ in range(60):
            source.put(ESP)
        capture = next(iter(bed.captures._found.values()))
        await until(lambda: capture.source is None)
        await until(lambda: capture.written == capture.octets)
        assert capture.ended_by == "size"
        octets = await bed.octets(started["id"])
        assert 3500 < len(octets) <= 4096

    play(scenario)


def test_time_ends_it(play: Callable[[Scenario], None]) -> None:
    async def scenario(bed: Bed) -> None:
        await bed.ask("capture-start", device="ann", seconds=1)
        capture = next(iter(bed.captures._found.values()))
        await until(lambda: capture.ended_by is not None)
        assert capture.ended_by == "time"

    play(scenario)


def test_it_follows_a_device_that_moves(play: Callable[[Scenario], None]) -> None:
    async def scenario(bed: Bed) -> None:
        await bed.ask("capture-start", device="ann")
        (source,) = FakeSource.made
        bed.follower(bed.engine.move(bed.event, "203.0.113.5:1024"))
        await until(lambda: len(source.wanted) == 2)
        assert (IPv4Address("203.0.113.5"), 1024) in source.wanted[1].outer
        source.put(ipv4("203.0.113.5", "192.0.2.1", 17, udp(1024, 4500, bytes(8))))
        capture = next(iter(bed.captures._found.values()))
        await until(lambda: capture.packets == 1)

    play(scenario)


def test_those_that_start_at_once_are_counted_too(play: Callable[[Scenario], None]) -> None:
    async def scenario(bed: Bed) -> None:
        starting = [bed.ask("capture-start", device="ann") for _ in range(MAX_RUNNING + 3)]
        done = await asyncio.gather(*starting, return_exceptions=True)
        refused = [one for one in done if isinstance(one, ControlError)]
        assert [one.code for one in refused] == [ErrorCode.BUSY] * 3
        assert bed.captures.running == MAX_RUNNING

    play(scenario)


def test_so_many_at_once_and_so_many_files(play: Callable[[Scenario], None]) -> None:
    async def scenario(bed: Bed) -> None:
        ids = [(await bed.ask("capture-start", device="ann"))["id"] for _ in range(MAX_RUNNING)]
        with pytest.raises(ControlError) as refused:
            await bed.ask("capture-start", device="ann")
        assert refused.value.code is ErrorCode.BUSY
        for _ in range(MAX_KEPT + 3):
            await bed.ask("capture-stop", id=ids[-1])
            ids.append((await bed.ask("capture-start", device="ann"))["id"])
        assert len(bed.captures._found) <= MAX_KEPT

    play(scenario)


def test_who_is_not_connected_cannot_be_recorded(play: Callable[[Scenario], None]) -> None:
    async def scenario(bed: Bed) -> None:
        bed.follower(bed.engine.close(bed.event))
        with pytest.raises(ControlError) as refused:
            await bed.ask("capture-start", device="ann")
        assert refused.value.field == "device"
        assert not FakeSource.made
        with pytest.raises(ControlError):
            await bed.ask("capture-read", id="0" * 16)

    play(scenario)


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("capture-start", {"device": "x", "seconds": 301}),
        ("capture-start", {"device": "x", "seconds": 0}),
        ("capture-start", {"device": "x", "octets": 64 * 1024 * 1024 + 1}),
        ("capture-start", {"device": "../../etc/passwd"}),
        ("capture-read", {"id": "../../../../x"}),
        ("capture-read", {"id": "0" * 16, "offset": -1}),
    ],
)
def test_h78_bounds_and_paths_are_refused_before_anything_happens(
    op: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ControlError):
        OPERATIONS[op].check(arguments)


def test_h78_only_administrators_see_packets() -> None:
    for op in ("captures", "capture-start", "capture-stop", "capture-read", "support"):
        assert OPERATIONS[op].role.name == "ADMINISTRATOR"
    assert OPERATIONS["capture-start"].changes
    assert OPERATIONS["capture-stop"].changes


def test_blocks_are_aligned_and_tshark_reads_them(tmp_path: Path) -> None:
    octets = pcapng.section_header("gateway: device ann") + pcapng.interface_block("outside")
    octets += pcapng.interface_block("gw0")
    when = 1_700_000_000_123_456_789
    octets += pcapng.packet_block(0, when, ESP, len(ESP), pcapng.INBOUND)
    octets += pcapng.packet_block(1, when + 5, INNER + b"x", len(INNER) + 1, pcapng.OUTBOUND)
    assert len(octets) % 4 == 0
    at = 0
    while at < len(octets):
        length = struct.unpack_from("<I", octets, at + 4)[0]
        assert struct.unpack_from("<I", octets, at + length - 4)[0] == length
        at += length
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed; the lab's test has it")
    file = tmp_path / "a.pcapng"
    file.write_bytes(octets)
    fields = [
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
        "-e",
        "frame.time_epoch",
        "-e",
        "ip.src",
    ]
    done = subprocess.run(
        [tshark, "-n", "-r", str(file), *fields], capture_output=True, text=True, check=True
    )
    assert [line.split("\t") for line in done.stdout.splitlines()] == [
        ["outside", "1700000000.123456789", "198.51.100.7"],
        ["gw0", "1700000000.123456794", "10.9.0.2"],
    ]


def test_the_filter_of_a_device_has_its_layers(tmp_path: Path) -> None:
    async def look() -> None:
        bed = Bed(tmp_path)
        device = bed.register.identified("ann")
        assert device is not None
        found = filter_of(device)
        assert found.outer == {(THERE, 4500)}
        assert found.inner == {IPv4Address("10.9.0.2")}
        assert found.spis == {0x100001, 0x1100001}
        assert found.words() == [
            "outer 198.51.100.7 port 4500",
            "inner 10.9.0.2",
            "SPI 00100001",
            "SPI 01100001",
        ]

    asyncio.run(look())
    assert module.MAX_RUNNING == 4
