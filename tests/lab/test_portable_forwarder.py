"""Two forwarders in two namespaces, without IKE: packets from one stack to the other."""

# planes: portable

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from gateway.dataplane.interface import TrafficWaiting
from gateway.dataplane.packet import marks
from gateway.dataplane.portable import client as client_module
from gateway.dataplane.portable import launch, messages
from gateway.dataplane.portable.client import ForwarderClient
from gateway.dataplane.portable.forwarder import ANSWER_S, ForwarderUnavailableError
from gateway.dataplane.portable.launch import open_forwarder
from gateway.dataplane.portable.wire import inside
from gateway.domain.child_sa import (
    ANY_IPV4,
    ANY_IPV6,
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint
from gateway.lab import netns
from gateway.lab.processes import start_time, wait_until

SO_MARK, SO_RCVMARK = 36, 75
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
GCM = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True)
KEYS = bytes(range(20)), bytes(range(20, 40))
SPIS = 0x1001, 0x2002
OUTER = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
INNER = {4: ("10.9.0.1", "10.9.0.2"), 6: ("fd00:9::1", "fd00:9::2")}


class Side:
    """One namespace with a forwarder."""

    def __init__(self, name: str, folder: Path, workers: int, number: int) -> None:
        self.name, self.folder, self.workers, self.number = name, folder, workers, number
        self.begun = False
        netns.command(["ip", "netns", "add", name])
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> None:
        netns.command(["ip", "-n", self.name, *words])

    def begin(self) -> None:
        netns.made_inside(self.name, lambda: inside.make("gw0", 1400))
        for version, bits in ((4, "32"), (6, "128")):
            self.ip("address", "add", f"{INNER[version][self.number]}/{bits}", "dev", "gw0")
            self.ip("route", "add", INNER[version][1 - self.number], "dev", "gw0")
        self.forwarder = self.open(adopt=False)
        self.begun = True

    def open(self, *, adopt: bool) -> ForwarderClient:
        def start() -> ForwarderClient:
            return open_forwarder(self.folder, interface="gw0", adopt=adopt, workers=self.workers)

        return netns.made_inside(self.name, start)

    def bound(self, kind: int, port: int, version: int = 4) -> socket.socket:
        def make() -> socket.socket:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            sock = socket.socket(family, kind)
            sock.bind((INNER[version][self.number], port))
            sock.settimeout(5)
            return sock

        return netns.made_inside(self.name, make)

    def close(self) -> None:
        if self.begun:
            self.forwarder.close(keep=False)
        netns.command(["ip", "netns", "delete", self.name])


class Bed:
    """`left` and `right` on one wire."""

    def __init__(self, folder: Path, workers: int) -> None:
        names = [f"f{os.getpid()}-{side}" for side in ("left", "right")]
        self.left, self.right = (
            Side(name, folder / name, workers, number) for number, name in enumerate(names)
        )
        wire = ["link", "add", "wire", "type", "veth", "peer", "name", "wire"]
        self.left.ip(*wire, "netns", names[1])
        for side in (self.left, self.right):
            side.ip("link", "set", "wire", "up")
            for version, bits in ((4, "24"), (6, "64")):
                more = ("nodad",) if version == 6 else ()
                address = f"{OUTER[version][side.number]}/{bits}"
                side.ip("address", "add", address, "dev", "wire", *more)

    def begin(self) -> None:
        for side in (self.left, self.right):
            side.begin()

    def sas(self, version: int = 4, *, udp: bool = False, **changes: Any) -> list[ChildSa]:
        """The SA of the left side, and of the right side."""
        made = []
        for side in (0, 1):
            here, there = OUTER[version][side], OUTER[version][1 - side]
            port = 4500 if udp else 0
            own, theirs = (
                tuple(TrafficSelector.of_address(ip_address(INNER[inner][end])) for inner in (4, 6))
                for end in (side, 1 - side)
            )
            sa = ChildSa(
                SPIS[side],
                SPIS[1 - side],
                1,
                GCM,
                EspKeys(KEYS[side]),
                EspKeys(KEYS[1 - side]),
                Endpoint(ip_address(here), port),
                Endpoint(ip_address(there), port),
                udp,
                own,
                theirs,
            )
            made.append(replace(sa, **changes))
        return made

    def install(self, version: int = 4, *, udp: bool = False, **changes: Any) -> None:
        sas = self.sas(version, udp=udp, **changes)
        for side, sa in zip((self.left, self.right), sas, strict=True):
            side.forwarder.install(sa, outbound=True)
            assert side.forwarder.commit() == ([], [])

    def close(self) -> None:
        self.left.close()
        self.right.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[int], Bed]]:
    beds: list[Bed] = []

    def build(workers: int = 1) -> Bed:
        beds.append(Bed(tmp_path, workers))
        beds[-1].begin()
        return beds[-1]

    yield build
    for bed in beds:
        for side in (bed.left, bed.right):
            print(side.name, side.begun and _counters(side.forwarder))
        bed.close()


@pytest.fixture
def bed(make: Callable[[int], Bed]) -> Bed:
    return make(1)


def _counters(forwarder: ForwarderClient) -> object:
    try:
        return forwarder.counters()
    except ForwarderUnavailableError as error:
        return error


def _echo(bed: Bed, octets: bytes, version: int = 4, mark: int = 0) -> None:
    """There and back by UDP."""
    with (
        bed.left.bound(socket.SOCK_DGRAM, 7001, version) as left,
        bed.right.bound(socket.SOCK_DGRAM, 7002, version) as right,
    ):
        if mark:
            left.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        left.sendto(octets, (INNER[version][1], 7002))
        got, sender = right.recvfrom(65536)
        assert (got, sender[:2]) == (octets, (INNER[version][0], 7001))
        right.sendto(got[::-1], sender)
        assert left.recv(65536) == octets[::-1]


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("outer", [4, 6])
def test_packets_flow_both_ways(bed: Bed, outer: int, udp: bool) -> None:
    bed.install(outer, udp=udp)
    for inner in (4, 6):
        _echo(bed, b"hello", inner)
        _echo(bed, bytes(1300), inner)
    usage = bed.left.forwarder.usage(SPIS[0])
    assert usage is not None
    assert (usage.packets_in, usage.packets_out) == (4, 4)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("wide", [False, True])
def test_several_processes_share_the_work(
    make: Callable[[int], Bed], workers: int, wide: bool
) -> None:
    """A wide selector belongs to one of them: packets that others read are handed over."""
    bed = make(workers)
    assert len(set(bed.left.forwarder.processes)) == workers
    whole = {"local_ts": (ANY_IPV4, ANY_IPV6), "remote_ts": (ANY_IPV4, ANY_IPV6)} if wide else {}
    for number in range(workers):
        ends = SPIS[0] + number, SPIS[1] + number
        for side, sa in zip((bed.left, bed.right), bed.sas(**whole), strict=True):
            spis = ends if side is bed.left else ends[::-1]
            again = replace(sa, spi_in=spis[0], spi_out=spis[1], reqid=1 + number)
            side.forwarder.install(again, outbound=True)
            assert side.forwarder.commit() == ([], [])
        for inner in (4, 6):
            _echo(bed, b"hello", inner)
        for side, spi in zip((bed.left, bed.right), ends, strict=True):
            side.forwarder.remove(spi)
            side.forwarder.commit()
        assert bed.right.forwarder.counters() == bed.left.forwarder.counters() == {}
    assert bed.left.forwarder.held() == []


def test_no_answer_overtakes_a_move(make: Callable[[int], Bed]) -> None:
    """One process has the half that shows the move, another the half that the answer leaves by."""
    bed = make(2)
    bed.install(follow_endpoint=True)
    here, there = (Endpoint(ip_address(OUTER[4][0]), 0), Endpoint(ip_address("192.0.2.3"), 0))
    bed.right.ip("address", "delete", f"{OUTER[4][1]}/24", "dev", "wire")
    bed.right.ip("address", "add", f"{there.address}/24", "dev", "wire")
    bed.right.forwarder.move(SPIS[1], there, here, udp_encapsulation=False)
    bed.right.forwarder.commit()
    slow = bed.left.forwarder.processes[0]
    with (
        bed.left.bound(socket.SOCK_DGRAM, 7001) as left,
        bed.right.bound(socket.SOCK_DGRAM, 7002) as right,
    ):
        right.sendto(b"from elsewhere", (INNER[4][0], 7001))
        wait_until(bed.left.forwarder.read_events, 5, "the news of a move")
        os.kill(slow, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (slow, signal.SIGCONT)).start()
        moving = threading.Thread(target=_move, args=(bed.left, here, there))
        moving.start()
        left.sendto(left.recv(100), (INNER[4][1], 7002))
        assert right.recv(100) == b"from elsewhere"
        moving.join()


def _move(side: Side, local: Endpoint, remote: Endpoint) -> None:
    side.forwarder.move(SPIS[side.number], local, remote, udp_encapsulation=False)
    side.forwarder.commit()


def test_large_datagrams_are_cut_up_inside(bed: Bed) -> None:
    bed.install()
    for inner in (4, 6):
        _echo(bed, os.urandom(9000), inner)


@pytest.mark.parametrize("udp", [False, True])
def test_outer_packets_that_do_not_fit_are_cut_up(bed: Bed, udp: bool) -> None:
    """Unless the inner one says that it must not be: then its sender is told, and sends less."""
    bed.install(udp=udp)
    for side in (bed.left, bed.right):
        side.ip("link", "set", "wire", "mtu", "1300")
    with (
        bed.left.bound(socket.SOCK_DGRAM, 7001) as left,
        bed.right.bound(socket.SOCK_DGRAM, 7002) as right,
    ):
        left.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        left.sendto(bytes(1340), (INNER[4][1], 7002))
        assert len(right.recv(65536)) == 1340
    for inner in (4, 6):
        _learn(bed.left, bed.right, inner)
        _learn(bed.right, bed.left, inner)
        _echo(bed, os.urandom(1340), inner)


def _learn(side: Side, other: Side, inner: int) -> None:
    """Send until the kernel knows what fits."""
    with side.bound(socket.SOCK_DGRAM, 7001, inner) as sock:
        sock.connect((INNER[inner][other.number], 7002))

        def told() -> bool:
            level, option = (socket.IPPROTO_IP, 14) if inner == 4 else (socket.IPPROTO_IPV6, 24)
            with contextlib.suppress(OSError):
                sock.send(bytes(1340))
            return sock.getsockopt(level, option) < 1300

        wait_until(told, 5, "the news of a smaller path MTU")


@pytest.mark.parametrize("inner", [4, 6])
def test_a_peer_with_a_larger_mtu_is_heard(bed: Bed, inner: int) -> None:
    """Its packets are longer than our end's MTU; some say that they must not be fragmented."""
    bed.install(udp=True)
    bed.left.ip("link", "set", "gw0", "mtu", "9000")
    for side in (bed.left, bed.right):
        side.ip("link", "set", "wire", "mtu", "9000")
    with (
        bed.left.bound(socket.SOCK_DGRAM, 7001, inner) as left,
        bed.right.bound(socket.SOCK_DGRAM, 7002, inner) as right,
    ):
        for size in (1380, 4000):
            left.sendto(bytes(size), (INNER[inner][1], 7002))
            assert len(right.recv(65536)) == size


def test_marks_come_and_go(bed: Bed) -> None:
    """Of a zone: its packets have its mark on their way in, and what comes out has one too."""
    bed.install(zone=5)
    with (
        bed.left.bound(socket.SOCK_DGRAM, 7001) as left,
        bed.right.bound(socket.SOCK_DGRAM, 7002) as right,
    ):
        right.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        left.sendto(b"of no zone", (INNER[4][1], 7002))
        left.setsockopt(socket.SOL_SOCKET, SO_MARK, marks.TO_DEVICE | 5)
        left.sendto(b"of the zone", (INNER[4][1], 7002))
        octets, notes, _, _ = right.recvmsg(100, 100)
        assert octets == b"of the zone"
        assert notes == [(socket.SOL_SOCKET, SO_MARK, _u32(marks.FROM_DEVICE | 5))]


def test_the_wire_is_routed_by_the_mark_of_the_sa(bed: Bed) -> None:
    bed.left.ip("rule", "add", "fwmark", "0x77", "table", "77")
    bed.left.ip("route", "add", "unreachable", "default", "table", "77")
    sa = bed.sas()[0]
    bed.install()
    _echo(bed, b"unmarked")
    bed.left.forwarder.remove(sa.spi_in)
    bed.left.forwarder.install(sa, outbound=True, output_mark=0x77)
    assert bed.left.forwarder.commit() == ([], [])
    with bed.left.bound(socket.SOCK_DGRAM, 7001) as left:
        left.sendto(b"nowhere", (INNER[4][1], 7002))
        wait_until(bed.left.forwarder.counters, 5, "a packet without a route")
    assert bed.left.forwarder.counters() == {"send_no_route": 1}


def _u32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def test_garbage_costs_others_nothing(bed: Bed) -> None:
    """Of unknown SPIs, and of one that is known: the others' packets all arrive."""
    bed.install(udp=True)
    bed.right.forwarder.install(
        replace(bed.sas(udp=True)[1], spi_in=0x3003, spi_out=0x4004, reqid=2), outbound=False
    )
    bed.right.forwarder.commit()
    done = threading.Event()
    thread = threading.Thread(target=_flood, args=(bed.left, done))
    thread.start()
    try:
        wait_until(lambda: sum(bed.right.forwarder.counters().values()) > 100, 20, "the flood")
        for number in range(50):
            _echo(bed, b"in the middle of it %d" % number)
    finally:
        done.set()
        thread.join()
    print(bed.right.forwarder.counters())
    assert len(bed.right.forwarder.held()) == 2


def _flood(side: Side, done: threading.Event) -> None:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((OUTER[4][0], 4500))
        made.connect((OUTER[4][1], 4500))
        return made

    with netns.made_inside(side.name, make) as sock:
        number = 1
        while not done.wait(0 if number % 100 else 0.002):
            for spi in (0x3003, number & 0xFFFFFFFF or 1, 0):
                with contextlib.suppress(OSError):
                    sock.send(spi.to_bytes(4, "big") + number.to_bytes(4, "big") + bytes(400))
            number += 1


def test_tcp_fills_the_link(bed: Bed) -> None:
    bed.install()
    took = _stream(bed, 20 << 20)
    print(f"{(20 << 23) / took / 1e6:.0f} Mbit/s")
    for side in (bed.left, bed.right):
        assert not {"icv", "replay"} & set(side.forwarder.counters())


def _stream(bed: Bed, size: int) -> float:
    """Seconds that so many octets take from left to right."""
    with bed.right.bound(socket.SOCK_STREAM, 7003) as listener:
        listener.listen()

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                got = 0
                while octets := accepted.recv(1 << 20):
                    got += len(octets)
                accepted.sendall(got.to_bytes(8, "big"))

        thread = threading.Thread(target=serve)
        thread.start()
        with bed.left.bound(socket.SOCK_STREAM, 0) as sending:
            sending.settimeout(60)
            begun = time.monotonic()
            sending.connect((INNER[4][1], 7003))
            chunk = os.urandom(1 << 20)
            for _ in range(size >> 20):
                sending.sendall(chunk)
            sending.shutdown(socket.SHUT_WR)
            assert int.from_bytes(sending.recv(8), "big") == size
            took = time.monotonic() - begun
        thread.join()
    return took


# -- who has it, and for how long ----------------------------------------------------------------


def test_traffic_goes_on_without_the_core_and_the_next_one_adopts(
    make: Callable[[int], Bed],
) -> None:
    bed = make(2)
    bed.install()
    before = bed.left.forwarder.processes
    # What the kernel does with the sockets of a process that was killed.
    bed.left.forwarder._disconnect()
    _echo(bed, b"nobody is looking")
    bed.left.forwarder = bed.left.open(adopt=True)
    assert bed.left.forwarder.adopted
    assert bed.left.forwarder.processes == before
    (held,) = bed.left.forwarder.held()
    assert held.sa == replace(bed.sas()[0], keys_in=EspKeys(b""), keys_out=EspKeys(b""))
    assert held.outbound
    _echo(bed, b"and now")
    usage = bed.left.forwarder.usage(SPIS[0])
    assert usage is not None
    assert usage.packets_out == 2


def test_the_forwarder_outlives_a_process_that_is_killed(bed: Bed) -> None:
    """Started by a process that has a session and a process group of its own."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from gateway.dataplane.portable.launch import open_forwarder\n"
        "open_forwarder(Path(sys.argv[1]), interface='', adopt=False, workers=2)\n"
        "print('up', flush=True); time.sleep(60)"
    )
    folder = bed.left.folder / "other"
    argv = netns.inside(bed.left.name, [sys.executable, "-c", code, str(folder)])
    core = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    assert core.stdout is not None
    assert core.stdout.readline() == b"up\n"
    os.killpg(core.pid, signal.SIGKILL)
    core.wait()
    core.stdout.close()
    adopted = ForwarderClient(folder)
    assert adopted.adopted
    adopted.close(keep=False)


def test_a_forwarder_that_is_not_lasting_ends_with_its_client(bed: Bed) -> None:
    folder = bed.left.folder / "other"

    def start() -> ForwarderClient:
        return open_forwarder(folder, interface="", adopt=False, workers=2, lasting=False)

    client = netns.made_inside(bed.left.name, start)
    client._disconnect()
    wait_until(lambda: _absent(folder), 5, "the end of the forwarder")


def _absent(folder: Path) -> bool:
    try:
        ForwarderClient(folder)._disconnect()
    except ForwarderUnavailableError:
        return True
    return False


@pytest.mark.parametrize("victim", [0, 1])
def test_the_end_of_one_process_ends_all_and_is_heard(
    make: Callable[[int], Bed], victim: int
) -> None:
    bed = make(2)
    os.kill(bed.left.forwarder.processes[victim], signal.SIGKILL)
    ready, _, _ = select.select(bed.left.forwarder.event_fds(), [], [], 5)
    assert ready
    with pytest.raises(ForwarderUnavailableError):
        bed.left.forwarder.read_events()
    wait_until(lambda: _absent(bed.left.folder), 5, "the end of the forwarder")
    bed.left.forwarder._disconnect()
    bed.left.forwarder = bed.left.open(adopt=True)
    assert not bed.left.forwarder.adopted


def test_it_ends_with_its_interface(bed: Bed) -> None:
    bed.left.ip("link", "delete", "gw0")
    wait_until(lambda: _absent(bed.left.folder), 5, "the end of the forwarder")


def test_sigterm_ends_it(make: Callable[[int], Bed]) -> None:
    bed = make(2)
    os.kill(bed.left.forwarder.processes[0], signal.SIGTERM)
    wait_until(lambda: _absent(bed.left.folder), 5, "the end of the forwarder")


EARLIER = b"gwfw" + bytes(8)


@pytest.mark.parametrize("workers", [1, 3])
def test_one_of_another_version_leaves_all_it_had(
    make: Callable[[int], Bed], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Sequence numbers go on: the other side's replay window takes what the successor sends."""
    bed = make(2)
    bed.left.forwarder.close(keep=False)
    with monkeypatch.context() as earlier:
        earlier.setattr(client_module, "HELLO", EARLIER)
        patched = f"from gateway.dataplane.portable import messages; messages.HELLO = {EARLIER!r}; "
        earlier.setattr(launch, "_PROGRAM", patched + launch._PROGRAM)
        bed.left.forwarder = bed.left.open(adopt=False)
        bed.install(udp=True)
        for _ in range(200):
            _echo(bed, b"with the earlier one")
        before = bed.left.forwarder.processes
        bed.left.forwarder._disconnect()
    bed.left.workers = workers
    bed.left.forwarder = bed.left.open(adopt=True)
    assert bed.left.forwarder.adopted
    assert bed.left.forwarder.workers == workers
    assert not set(bed.left.forwarder.processes) & set(before)
    assert not any(map(start_time, before))
    (held,) = bed.left.forwarder.held()
    assert held.sa == replace(bed.sas(udp=True)[0], keys_in=EspKeys(b""), keys_out=EspKeys(b""))
    for _ in range(3):
        _echo(bed, b"with its successor")
    usage = bed.left.forwarder.usage(SPIS[0])
    assert usage is not None
    assert (usage.packets_in, usage.packets_out) == (203, 203)
    assert bed.right.forwarder.counters() == {}


def test_one_that_hangs_is_replaced(
    make: Callable[[int], Bed], monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = make(2)
    before = bed.left.forwarder.processes
    monkeypatch.setattr(client_module, "GREETING_S", 2)
    monkeypatch.setattr(launch, "END_S", 0.2)
    os.kill(before[0], signal.SIGSTOP)
    bed.left.forwarder._asking[0]._sock.settimeout(0.2)
    with pytest.raises(ForwarderUnavailableError, match="no answer in time"):
        bed.left.forwarder.held()
    bed.left.forwarder._disconnect()
    bed.left.forwarder = bed.left.open(adopt=True)
    assert not bed.left.forwarder.adopted
    assert not set(bed.left.forwarder.processes) & set(before)
    wait_until(lambda: not any(map(start_time, before)), 5, "the end of what hung")


# -- what others do to it ------------------------------------------------------------------------


def test_nonsense_on_the_control_socket_hurts_nobody(bed: Bed) -> None:
    bed.install()
    path = str(bed.left.folder / "forwarder-0.sock")
    for octets in (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        messages.HELLO,
        messages.HELLO + b"\xff" * 8,
        messages.HELLO + b"\0\0\0\1\xff",
        messages.HELLO + b"\0\0\0\5" + b"\0\xff\xff\xff\xff",
        messages.HELLO + b"\0\0\0\0" * 1000,
        messages.HELLO + os.urandom(70000),
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            with contextlib.suppress(OSError):
                sock.sendall(octets)
    _echo(bed, b"still there")
    assert len(bed.left.forwarder.held()) == 1


def test_an_sa_that_is_refused_is_nowhere(make: Callable[[int], Bed]) -> None:
    bed = make(2)
    sa = replace(bed.sas()[0], keys_in=EspKeys(b"short"))
    bed.left.forwarder.install(sa, outbound=True)
    (refusal,), _ = bed.left.forwarder.commit()
    assert refusal.spi_in == SPIS[0]
    assert bed.left.forwarder.held() == []


def test_traffic_for_a_trap_is_an_event(bed: Bed) -> None:
    bed.left.forwarder.trap(bed.sas()[0])
    bed.left.forwarder.commit()
    with bed.left.bound(socket.SOCK_DGRAM, 7001) as left:
        left.sendto(b"wake up", (INNER[4][1], 7002))
    ready, _, _ = select.select(bed.left.forwarder.event_fds(), [], [], 5)
    assert ready
    assert bed.left.forwarder.read_events() == [TrafficWaiting(1)]


def test_answers_come_at_once_under_load(bed: Bed) -> None:
    bed.install()
    worst = 0.0
    thread = threading.Thread(target=_stream, args=(bed, 40 << 20))
    thread.start()
    while thread.is_alive():
        begun = time.monotonic()
        assert bed.right.forwarder.usage(SPIS[1]) is not None
        worst = max(worst, time.monotonic() - begun)
        time.sleep(0.01)
    thread.join()
    print(f"worst answer {worst * 1e3:.1f} ms")
    assert worst < ANSWER_S / 2
