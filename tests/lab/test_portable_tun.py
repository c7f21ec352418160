"""The portable dataplane where the kernel has no virtual Ethernet: a TUN device takes the place."""

# planes: portable
# clock: real (packets must have time to be lost)

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest
from gateway_bed import PSK
from interop_bed import device_file, psk_connection, table
from restart_bed import RestartBed, restart_bed
from test_portable_forwarder import INNER, SPIS, Bed, _echo, _stream

from gateway.appliance.nar.parts import NarParts
from gateway.dataplane.choice import Choice, Kind
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.nar import NarSettings
from gateway.dataplane.plane import Plane
from gateway.dataplane.portable import probe
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError
from gateway.dataplane.portable.wire import inside, tun
from gateway.domain.child_sa import EspKeys
from gateway.lab import netns
from gateway.lab.processes import LabError, wait_until

pytestmark = pytest.mark.kernel


STRANGER = """
import errno, fcntl, os, struct
os.setgroups([]); os.setgid(65534); os.setuid(65534)
fd = os.open("/dev/net/tun", os.O_RDWR)
try:
    fcntl.ioctl(fd, 0x400454CA, struct.pack("@16sH22x", b"gw0", 0x1001))
except OSError as error:
    print(errno.errorcode[error.errno])
"""
"""Somebody else on this host who would like to speak for the devices."""


@pytest.fixture(autouse=True, scope="module")
def forced() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(inside.VARIABLE, "tun")
        yield


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path, workers=2)
    try:
        made.begin()
        yield made
        for side in (made.left, made.right):
            with contextlib.suppress(ForwarderUnavailableError):
                print(side.name, side.forwarder.counters())
    finally:
        made.close()


# -- two forwarders -------------------------------------------------------------------------------


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("outer", [4, 6])
def test_packets_flow_both_ways(bed: Bed, outer: int, udp: bool) -> None:
    """Of one process each, whatever was asked for: a TUN device has one reader."""
    assert [side.forwarder.workers for side in (bed.left, bed.right)] == [1, 1]
    bed.install(outer, udp=udp)
    for inner in (4, 6):
        for size in (5, 1300, 9000):
            _echo(bed, os.urandom(size), inner)
    assert bed.left.forwarder.usage(SPIS[0]) is not None
    assert bed.left.forwarder.counters() == bed.right.forwarder.counters() == {}


@pytest.mark.parametrize("inner", [4, 6])
def test_a_peer_with_a_larger_mtu_is_heard(bed: Bed, inner: int) -> None:
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


def test_tcp_fills_the_link(bed: Bed) -> None:
    bed.install()
    took = _stream(bed, 10 << 20)
    print(f"{(10 << 23) / took / 1e6:.0f} Mbit/s")
    for side in (bed.left, bed.right):
        assert not {"icv", "replay"} & set(side.forwarder.counters())


def test_what_would_have_a_mark_does_not_come_out(bed: Bed) -> None:
    """The core refuses such SAs; the forwarder does not take their packets for others'."""
    bed.install()
    zoned = bed.sas(zone=5)[1]
    bed.right.forwarder.remove(zoned.spi_in)
    bed.right.forwarder.install(zoned, outbound=False)
    assert bed.right.forwarder.commit() == ([], [])
    with bed.left.bound(socket.SOCK_DGRAM, 7001) as left:
        left.sendto(b"hello", (INNER[4][1], 7002))
        wait_until(bed.right.forwarder.counters, 5, "a packet that is dropped")
    assert bed.right.forwarder.counters() == {"link_unsent": 1}


def test_traffic_goes_on_without_the_core_and_the_next_one_adopts(bed: Bed) -> None:
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
    _echo(bed, b"and now")


def test_the_device_outlives_its_forwarder_with_its_routes(bed: Bed) -> None:
    """Nothing leaves meanwhile, and the next forwarder opens the same one."""
    bed.install()
    _echo(bed, b"before")
    index = netns.made_inside(bed.left.name, lambda: socket.if_nametoindex("gw0"))
    assert netns.made_inside(bed.left.name, lambda: inside.served("gw0"))
    # A way out in the clear, for whoever no longer has the other one.
    for version, bits in ((4, "24"), (6, "64")):
        wide = f"{INNER[version][1]}/{bits}"
        via = "192.0.2.2" if version == 4 else "2001:db8::2"
        netns.command(["ip", "-n", bed.left.name, "route", "add", _network(wide), "via", via])
    (process,) = bed.left.forwarder.processes
    os.kill(process, signal.SIGKILL)
    wait_until(
        lambda: not netns.made_inside(bed.left.name, lambda: inside.served("gw0")), 5, "its end"
    )
    for version in (4, 6):
        found = _run(bed.left.name, "ip", "route", "get", INNER[version][1])
        assert "dev gw0" in found
        with (
            bed.left.bound(socket.SOCK_DGRAM, 7001, version) as left,
            bed.right.bound(socket.SOCK_DGRAM, 7002, version) as right,
        ):
            with contextlib.suppress(OSError):
                left.sendto(b"in the clear", (INNER[version][1], 7002))
            right.settimeout(0.3)
            with pytest.raises(TimeoutError):
                right.recv(100)
    argv = netns.inside(bed.left.name, [sys.executable, "-c", STRANGER])
    assert subprocess.run(argv, check=False, capture_output=True, text=True).stdout == "EPERM\n"
    bed.left.forwarder._disconnect()
    bed.left.forwarder = bed.left.open(adopt=True)
    assert netns.made_inside(bed.left.name, lambda: socket.if_nametoindex("gw0")) == index
    spis = [0x1011, 0x2022]
    for side, sa, spi in zip((bed.left, bed.right), bed.sas(), (0, 1), strict=True):
        side.forwarder.install(
            replace(sa, spi_in=spis[spi], spi_out=spis[1 - spi], reqid=9), outbound=True
        )
        if side is bed.right:
            side.forwarder.remove(SPIS[1])
        assert side.forwarder.commit() == ([], [])
    for inner in (4, 6):
        _echo(bed, b"and after", inner)


def _network(text: str) -> str:

    return str(ip_interface(text).network)


def _run(name: str, *words: str) -> str:
    return subprocess.run(
        netns.inside(name, list(words)), check=True, capture_output=True, text=True
    ).stdout


def test_it_ends_with_its_device(bed: Bed) -> None:
    process = bed.left.forwarder.processes[0]
    handle = os.pidfd_open(process)
    bed.left.ip("link", "delete", "gw0")
    wait_until(lambda: bool(_ended(handle)), 5, "the end of the forwarder")
    os.close(handle)


def _ended(handle: int) -> bool:

    return bool(select.select([handle], [], [], 0)[0])


def test_a_device_of_another_program_is_not_taken(tmp_path: Path) -> None:
    name = f"f{os.getpid()}-alone"
    netns.command(["ip", "netns", "add", name])
    try:
        netns.command(["ip", "-n", name, "tuntap", "add", "dev", "gw0", "mode", "tun"])

        def look() -> tuple[bool, bool]:
            made = tun.exists("gw0"), inside.exists("gw0")
            with pytest.raises(OSError, match="busy"):
                inside.make("gw0", 1400)
            return made

        assert netns.made_inside(name, look) == (False, False)
    finally:
        netns.command(["ip", "netns", "delete", name])


# -- what goes by marks ---------------------------------------------------------------------------


def test_the_probe_says_what_is_lost() -> None:
    lacking = probe.missing(("ipip",))
    assert set(lacking) == {"portable-pairs"}
    assert probe.missing(()) == {}


def test_nar_is_refused_with_the_reason(tmp_path: Path) -> None:
    name = f"f{os.getpid()}-nar"
    netns.command(["ip", "netns", "add", name])
    plane = Plane(Choice(Kind.PORTABLE, "as tested"), tmp_path)
    try:

        def start() -> None:
            with pytest.raises(DataplaneUnavailableError, match=r"NAR .* needs veth"):
                NarParts(plane).dataplane(NarSettings())
            plane.end_forwarder()

        netns.made_inside(name, start)
    finally:
        netns.command(["ip", "netns", "delete", name])


# -- a whole gateway ------------------------------------------------------------------------------

OWN = table(
    "connections.own",
    local_auth="psk",
    remote_auth="psk",
    psk=PSK,
    remote_id="own@example.com",
    presence="napt",
    local_subnets=["10.1.0.0/24"],
)
CONFIG = f'[dataplane]\nkind = "portable"\n{psk_connection(endpoint_update="allowed")}{OWN}'


@pytest.fixture(scope="module")
def shared(forced: None) -> Iterator[RestartBed]:
    with restart_bed(CONFIG) as made:
        yield made


@pytest.fixture
def restarts(shared: RestartBed) -> Iterator[RestartBed]:
    yield shared
    if not shared.bed.gateway.running():
        shared.start()
    shared.bed.disconnect()


@pytest.mark.parametrize("load", ["", "encap = yes"])
def test_a_device_of_another_make(restarts: RestartBed, load: str) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file(connection=load))
    assert "tun" in bed.lab.run("gw", ["ip", "-d", "link", "show", "gw0"]).stdout
    assert bed.ping(3)
    (before,) = bed.ike_sas()
    assert restarts.restart("kill")["id"] == before["id"]
    assert bed.ping()
    restarts.rekey_works()
    assert bed.ping()


def test_a_session_outlives_a_killed_forwarder_with_new_keys(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file())
    (before,), (child,) = bed.ike_sas(), bed.child_sas()
    assert bed.ping()
    (process,) = bed.gateway.call("status")["dataplane"]["forwarder"]["processes"]
    os.kill(process, signal.SIGKILL)
    wait_until(
        lambda: [one["spi_in"] for one in bed.child_sas()] not in ([], [child["spi_in"]]),
        30,
        "another child SA",
    )
    wait_until(lambda: bed.ping(1), 30, "traffic")
    assert [one["id"] for one in bed.ike_sas()] == [before["id"]]


def test_napt_is_refused_with_the_reason(restarts: RestartBed) -> None:
    bed = restarts.bed
    bed.device.load(configuration=device_file(device_id="own@example.com", vips=False))
    with contextlib.suppress(LabError):
        bed.device.initiate("net")
    wait_until(lambda: bed.gateway.events("child_sa_refused"), 10, "the refusal")
    (refused,) = bed.gateway.events("child_sa_refused")
    assert "veth (CONFIG_VETH)" in refused["reason"]
    wait_until(lambda: not bed.child_sas(), 10, "the peer's word that it is gone")
