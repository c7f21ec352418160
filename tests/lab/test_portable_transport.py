"""Transport mode of the portable dataplane, without IKE: by ESP, or nowhere."""

# planes: portable

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from dataplane_bed import entered, inside, run
from mobility_kernel_bed import Capture

from gateway.dataplane.interface import TrafficWaiting
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.portable.transport import constants
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    Mode,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint
from gateway.lab import planes

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not planes.portable(), reason="of the portable dataplane"),
]
NEAR, MIDDLE, FAR = (f"ptm{os.getpid()}-{name}" for name in ("near", "nat", "far"))
OURS = {4: "192.0.2.10", 6: "2001:db8:1::10"}
PEER = {4: "198.51.100.2", 6: "2001:db8:2::2"}
ETH_P = {4: 0x0800, 6: 0x86DD}
NAT = "198.51.100.1"
SECRET = b"what the two hosts say"
SUITE = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True)
KEYS = bytes(range(20)), bytes(range(20, 40))
SPIS = 0x5001, 0x6002
PORT = 1701


def side(address: str, protocol: int, port: int) -> TrafficSelector:
    one = ip_address(address)
    last = port or 0xFFFF
    return TrafficSelector(one, one, protocol, port, last)


class Bed:
    def __init__(self) -> None:
        self.dataplanes: dict[str, object] = {}

    def up(self) -> None:
        run("ip", "-batch", "-", stdin=f"""
            netns add {NEAR}
            netns add {MIDDLE}
            netns add {FAR}
            link add wire netns {NEAR} type veth peer name near netns {MIDDLE}
            link add wire netns {FAR} type veth peer name far netns {MIDDLE}
        """)  # fmt: skip
        for name, link, four, six in (
            (NEAR, "wire", f"{OURS[4]}/24", f"{OURS[6]}/64"),
            (MIDDLE, "near", "192.0.2.1/24", "2001:db8:1::1/64"),
            (MIDDLE, "far", f"{NAT}/24", "2001:db8:2::1/64"),
            (FAR, "wire", f"{PEER[4]}/24", f"{PEER[6]}/64"),
        ):
            inside(name, "ip", "link", "set", "lo", "up")
            inside(name, "ip", "link", "set", link, "up")
            inside(name, "ip", "address", "add", four, "dev", link)
            inside(name, "ip", "address", "add", six, "dev", link, "nodad")
        for name, four, six in (
            (NEAR, "192.0.2.1", "2001:db8:1::1"),
            (FAR, NAT, "2001:db8:2::1"),
        ):
            inside(name, "ip", "route", "add", "default", "via", four)
            inside(name, "ip", "route", "add", "default", "via", six)
        with entered(MIDDLE):
            for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                Path("/proc/sys/net", switch).write_text("1")
        for address in (PEER[4], PEER[6]):
            inside(NEAR, "ping", "-c", 5, "-i", 0.3, "-W", 1, address, check=False)
        with entered(NEAR):
            for switch in ("all", "default", "wire"):
                Path(f"/proc/sys/net/ipv4/conf/{switch}/rp_filter").write_text("1")

    def start(self, name: str, *, adopt: bool = False) -> None:
        settings = KernelSettings(forwarding=False)
        with entered(name):
            made = planes.dataplane(settings)
            made.start(adopt=adopt)
        self.dataplanes[name] = made

    def stop(self, name: str, *, keep: bool = False) -> None:
        with entered(name):
            self.dataplanes.pop(name).close(keep=keep)  # type: ignore[attr-defined]

    def down(self) -> None:
        for name in tuple(self.dataplanes):
            self.stop(name)
        for name in (NEAR, MIDDLE, FAR):
            run("ip", "netns", "del", name, check=False)

    def sas(
        self, version: int = 4, protocol: int = 17, port: int = PORT, *, nat: bool = False
    ) -> tuple[ChildSa, ChildSa]:
        """Of the near side, and of the far side."""
        seen = NAT if nat else OURS[version]
        made = []
        for number, (ours, theirs) in enumerate(
            ((OURS[version], PEER[version]), (PEER[version], seen))
        ):
            made.append(
                ChildSa(
                    SPIS[number],
                    SPIS[1 - number],
                    1,
                    SUITE,
                    EspKeys(KEYS[number]),
                    EspKeys(KEYS[1 - number]),
                    Endpoint(ip_address(ours), 4500 if nat else 500),
                    Endpoint(ip_address(theirs), 4500 if nat else 500),
                    nat,
                    (side(ours, protocol, port),),
                    (side(theirs, protocol, port),),
                    mode=Mode.TRANSPORT,
                )
            )
        return made[0], made[1]

    def install(self, name: str, sa: ChildSa) -> None:
        with entered(name):
            one = self.dataplanes[name]
            one.install_child_sa(sa)  # type: ignore[attr-defined]
            assert one.commit() == []  # type: ignore[attr-defined]

    def remove(self, name: str, sa: ChildSa) -> None:
        with entered(name):
            one = self.dataplanes[name]
            one.remove_child_sa(sa.spi_in)  # type: ignore[attr-defined]
            assert one.commit() == []  # type: ignore[attr-defined]


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    try:
        made.up()
        made.start(NEAR)
        made.start(FAR)
        yield made
    finally:
        made.down()


def bound(
    name: str, address: str, port: int = PORT, kind: int = socket.SOCK_DGRAM
) -> socket.socket:
    with entered(name):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.settimeout(2)
    return made


def talk(version: int = 4, port: int = PORT) -> None:
    """A question by UDP, and its answer."""
    with bound(NEAR, OURS[version], port) as near, bound(FAR, PEER[version], port) as far:
        near.sendto(SECRET, (PEER[version], port))
        octets, sender = far.recvfrom(100)
        assert octets == SECRET
        far.sendto(SECRET[::-1], sender[:2])
        assert near.recv(100) == SECRET[::-1]


def hears(version: int = 4, port: int = PORT) -> tuple[bool, bool]:
    """Whether the far side hears the near one, and the other way round."""
    found = []
    ends = ((NEAR, OURS[version], FAR, PEER[version]), (FAR, PEER[version], NEAR, OURS[version]))
    for here, ours, there, theirs in ends:
        with bound(here, ours, port) as speaker, bound(there, theirs, port) as listener:
            listener.settimeout(0.5)
            with contextlib.suppress(OSError):
                speaker.sendto(SECRET, (theirs, port))
            try:
                found.append(listener.recv(100) == SECRET)
            except TimeoutError:
                found.append(False)
    return found[0], found[1]


@pytest.mark.parametrize("version", [4, 6])
def test_what_the_selectors_hold_is_in_esp_and_all_else_is_not(bed: Bed, version: int) -> None:
    near, far = bed.sas(version)
    bed.install(NEAR, near)
    bed.install(FAR, far)
    wire = Capture(MIDDLE, "near", ETH_P[version])
    talk(version)
    assert [frame for frame in wire.read() if SECRET in frame] == []
    talk(version, port=1702)
    assert [frame for frame in wire.read() if SECRET in frame] != []
    wire.close()


@pytest.mark.parametrize("version", [4, 6])
def test_with_an_sa_at_one_side_only_nothing_passes_either_way(bed: Bed, version: int) -> None:
    near, _ = bed.sas(version)
    assert hears(version) == (True, True)
    bed.install(NEAR, near)
    wire = Capture(MIDDLE, "near", ETH_P[version])
    assert hears(version) == (False, False)
    assert len([frame for frame in wire.read() if SECRET in frame]) == 1, "the far side's"
    wire.close()
    assert hears(version, 1702) == (True, True)
    bed.remove(NEAR, near)
    assert hears(version) == (True, True)
    assert constants.TABLE not in inside(NEAR, "nft", "list", "ruleset")


def test_whole_hosts_are_protected_and_neighbours_still_found(bed: Bed) -> None:
    near, far = bed.sas(protocol=0, port=0)
    bed.install(NEAR, near)
    bed.install(FAR, far)
    wire = Capture(MIDDLE, "near")
    talk()
    talk(port=9)
    assert " 0% packet loss" in inside(NEAR, "ping", "-c", 1, "-W", 2, PEER[4])
    assert {frame[9] for frame in wire.read()} == {50}
    wire.close()


def test_tcp_by_a_nat_in_udp(bed: Bed) -> None:
    """What was checked for other addresses is right again when it comes out."""
    with entered(MIDDLE):
        run("nft", "-f", "-", stdin="""
            table ip nat { chain post { type nat hook postrouting priority srcnat;
              oifname "far" udp sport 4500 masquerade; }; }
        """)  # fmt: skip
    near, far = bed.sas(protocol=6, port=0, nat=True)
    bed.install(NEAR, near)
    # The NAT keeps the port where it can.
    bed.install(FAR, far)
    with entered(FAR):
        server = socket.create_server((PEER[4], 7000))
    server.settimeout(3)
    with server, bound(NEAR, OURS[4], 0, socket.SOCK_STREAM) as client:
        client.connect((PEER[4], 7000))
        peer, address = server.accept()
        with peer:
            peer.settimeout(3)
            assert address[0] == NAT
            client.sendall(bytes(100_000))
            got = 0
            while got < 100_000:
                got += len(peer.recv(65536))
            peer.sendall(SECRET)
            assert client.recv(100) == SECRET


def test_a_trap_tells_of_traffic_and_lets_none_out(bed: Bed) -> None:
    near, _ = bed.sas()
    one: Any = bed.dataplanes[NEAR]
    with entered(NEAR):
        one.trap(near)
        assert one.commit() == []
    assert hears() == (False, False)
    (fd,) = one.event_fds()
    assert select.select([fd], [], [], 2)[0]
    assert TrafficWaiting(near.reqid) in one.read_events()
    with entered(NEAR):
        one.untrap(near.reqid)
        assert one.commit() == []
    assert hears() == (True, True)


def test_the_next_process_takes_it_over_and_a_fresh_one_clears_it(bed: Bed) -> None:
    near, far = bed.sas()
    bed.install(NEAR, near)
    bed.install(FAR, far)
    talk()
    bed.stop(NEAR, keep=True)
    talk()
    bed.start(NEAR, adopt=True)
    keyless = replace(near, keys_in=EspKeys(b""), keys_out=EspKeys(b""))
    with entered(NEAR):
        assert bed.dataplanes[NEAR].adopt([(keyless, True)]) == []  # type: ignore[attr-defined]
    talk()
    bed.stop(NEAR, keep=True)
    bed.start(NEAR)
    assert constants.TABLE not in inside(NEAR, "nft", "list", "ruleset")
