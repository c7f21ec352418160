"""Bridges of devices in the kernel: what passes by GRE, what does not, and what stays behind.

    devices 10.9.0.1, 10.9.0.2 -- gw0 gateway lan0 -- lan inside

A plain wire stands for the tunnel: ESP is the business of other files.
"""

import errno
import json
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from dataplane_bed import entered, inside, run, wait_for
from frames_bed import ARP, IP, IP6, IPX, VLAN, Ear, frame, in_snap, send
from mobility_kernel_bed import ip

from gateway.dataplane.kernel import ruleset
from gateway.dataplane.kernel.bridges import TABLE, KernelBridges, Port

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernel_peer("Ethernet frames in GRE are the kernel's business on either dataplane"),
]

GATEWAY, DEVICES, INSIDE = "brt-gw", "brt-dev", "brt-in"
END = IPv4Address("10.255.0.1")
FIRST, SECOND = IPv4Address("10.9.0.1"), IPv4Address("10.9.0.2")


class Bed:
    def __init__(self) -> None:
        for name in (GATEWAY, DEVICES, INSIDE):
            run("ip", "netns", "del", name, check=False)
            run("ip", "netns", "add", name)
            inside(name, "ip", "link", "set", "lo", "up")
        self.wire(GATEWAY, "gw0", DEVICES, "gw0")
        self.wire(GATEWAY, "lan0", INSIDE, "lan")
        self.wire(GATEWAY, "outside", DEVICES, "outside")
        for name in (GATEWAY, DEVICES):
            inside(name, "ip", "link", "set", "gw0", "mtu", 1400)
        inside(GATEWAY, "ip", "addr", "add", "10.1.0.1/24", "dev", "outside")
        inside(GATEWAY, "ip", "route", "add", "10.9.0.0/24", "dev", "gw0")
        inside(DEVICES, "ip", "route", "add", f"{END}/32", "dev", "gw0", "src", FIRST, check=False)
        for number, address in enumerate((FIRST, SECOND), 1):
            inside(DEVICES, "ip", "addr", "add", f"{address}/32", "dev", "gw0")
            inside(
                DEVICES, "ip", "link", "add", f"t{number}", "type", "gretap", "local", address,
                "remote", END, "dev", "gw0", "nopmtudisc", "ignore-df",
            )  # fmt: skip
            inside(DEVICES, "ip", "link", "set", f"t{number}", "mtu", 1500, "up")
        inside(DEVICES, "ip", "route", "add", f"{END}/32", "dev", "gw0")
        self.ears: list[Ear] = []

    @staticmethod
    def wire(one: str, at_one: str, other: str, at_other: str) -> None:
        inside(one, "ip", "link", "add", at_one, "type", "veth", "peer", at_other, "netns", other)
        inside(one, "ip", "link", "set", at_one, "up")
        inside(other, "ip", "link", "set", at_other, "up")

    def ear(self, name: str, interface: str) -> Ear:
        self.ears.append(Ear(name, interface))
        return self.ears[-1]

    def passes(self, octets: bytes, ear: Ear, name: str = DEVICES, interface: str = "t1") -> bool:
        """Whether a frame arrives: what is sent after it does, on the same way."""
        send(name, interface, octets)
        mark = frame(IPX, b"after " + octets[-20:])
        send(name, interface, mark)
        wait_for(lambda: ear.has(mark), "the frame after it")
        return ear.has(octets)

    def down(self) -> None:
        for ear in self.ears:
            ear.close()
        for name in (GATEWAY, DEVICES, INSIDE):
            run("ip", "netns", "del", name, check=False)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    bed = Bed()
    try:
        yield bed
    finally:
        bed.down()


@pytest.fixture
def kernel(bed: Bed) -> Iterator[KernelBridges]:
    with entered(GATEWAY):
        made = KernelBridges("gw0")
        made.open()
        bridge = made.bridge_of("lan0")
        made.set_ends((END,))
        made.add(Port(bridge, END, FIRST))
        made.add(Port(bridge, END, SECOND))
    try:
        yield made
    finally:
        with entered(GATEWAY):
            made.close()


@pytest.mark.usefixtures("kernel")
def test_what_is_no_ip_passes_both_ways_at_full_size(bed: Bed) -> None:
    inward, outward = bed.ear(INSIDE, "lan"), bed.ear(DEVICES, "t1")
    assert bed.passes(frame(IPX, b"netware"), inward)
    assert bed.passes(frame(IPX, b"full".ljust(1500, b"x")), inward)
    assert bed.passes(frame(IPX, b"hello"), outward, INSIDE, "lan")
    assert bed.passes(frame(IPX, b"full".ljust(1500, b"y")), outward, INSIDE, "lan")


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kind", [IP, IP6, ARP, VLAN, 0x88A8])
def test_ip_does_not_get_around_its_rules(bed: Bed, kind: int) -> None:
    inward, outward = bed.ear(INSIDE, "lan"), bed.ear(DEVICES, "t1")
    assert not bed.passes(frame(kind, b"IP in"), inward)
    assert not bed.passes(frame(kind, b"IP out"), outward, INSIDE, "lan")


@pytest.mark.usefixtures("kernel")
def test_ip_in_snap_neither(bed: Bed) -> None:
    inward = bed.ear(INSIDE, "lan")
    assert not bed.passes(in_snap(IP, b"IP"), inward)
    assert bed.passes(in_snap(0x80F3, b"appletalk"), inward)


@pytest.mark.usefixtures("kernel")
def test_devices_do_not_reach_each_other(bed: Bed) -> None:
    inward, second = bed.ear(INSIDE, "lan"), bed.ear(DEVICES, "t2")
    between = frame(IPX, b"to everybody")
    assert bed.passes(between, inward)
    send(INSIDE, "lan", frame(IPX, b"from inside", 7))
    wait_for(lambda: second.has(frame(IPX, b"from inside", 7)), "a frame from inside")
    assert not second.has(between)


def test_only_the_tunnel_brings_frames(bed: Bed, kernel: KernelBridges) -> None:
    inward = bed.ear(INSIDE, "lan")
    forged = frame(IPX, b"forged")
    gre = struct.pack("!HH", 0, 0x6558) + forged
    (link,) = json.loads(inside(GATEWAY, "ip", "-j", "link", "show", "outside"))
    mac = bytes.fromhex(link["address"].replace(":", ""))
    packet = ip(str(FIRST), str(END), 47, gre)
    send(DEVICES, "outside", mac + b"\2\0\0\0\0\1" + struct.pack("!H", IP) + packet)
    with entered(GATEWAY):
        wait_for(lambda: "packets 1" in table("bridge_not_by_tunnel"), "the drop")
    assert not inward.has(forged)
    assert len(kernel.ports) == 2


def table(comment: str) -> str:
    listed = ruleset.run_nft(f"list table inet {TABLE}")
    return next(line for line in listed.splitlines() if comment in line)


def test_the_next_process_takes_ports_over_and_the_last_leaves_nothing(bed: Bed) -> None:
    before = inside(GATEWAY, "ip", "-br", "link").split()
    inward = bed.ear(INSIDE, "lan")
    with entered(GATEWAY):
        first = KernelBridges("gw0")
        first.open()
        bridge = first.bridge_of("lan0")
        port = Port(bridge, END, FIRST)
        first.set_ends((END,))
        first.add(port)
        first.close(keep=True)
        assert bed.passes(frame(IPX, b"between processes"), inward)
        second = KernelBridges("gw0")
        second.open()
        assert list(second.ports) == [port]
        assert second.bridge_of("lan0") == bridge
        second.set_ends((END,))
        second.add(port)
        assert bed.passes(frame(IPX, b"the next one"), inward)
        second.close()
    after = inside(GATEWAY, "ip", "-br", "link").split()
    assert sorted(after) == sorted(before)
    assert str(END) not in inside(GATEWAY, "ip", "addr")
    with entered(GATEWAY):
        assert TABLE not in ruleset.run_nft("list tables")


def test_an_interface_with_addresses_is_refused(bed: Bed) -> None:
    del bed
    with entered(GATEWAY):
        kernel = KernelBridges("gw0")
        with pytest.raises(OSError, match="has addresses") as refused:
            kernel.bridge_of("outside")
        assert refused.value.errno == errno.EBUSY
        with pytest.raises(OSError, match="does not exist"):
            kernel.bridge_of("nowhere")
        kernel.close()
