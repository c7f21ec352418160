"""NAR without the kernel's tunnels and queue: what only that could get wrong."""

# planes: portable

from collections.abc import Iterator
from pathlib import Path

import pytest
from dataplane_bed import entered, inside
from mobility_kernel_bed import ip
from nar_kernel_bed import (
    CLIENTS,
    NA,
    NB,
    OUTSIDE,
    SERVER,
    XA,
    YB,
    NarKernelBed,
    echo,
    esp,
    forwarded,
    lease,
    nar_kernel_bed,
    udp,
    wrap,
)
from test_nar_slow_path import error

from gateway.dataplane.portable.nar.links import BACK
from gateway.domain.nar import Delivery, NarProtocol
from gateway.lab import planes

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not planes.portable(), reason="of the portable dataplane"),
]

P = NarProtocol
ALL = Path("/proc/sys/net/ipv4/conf/all/rp_filter")


@pytest.fixture(scope="module")
def bed() -> Iterator[NarKernelBed]:
    with nar_kernel_bed() as made:
        yield made


@pytest.fixture(params=[True, False], ids=["offload", "by user space"])
def started(bed: NarKernelBed, request: pytest.FixtureRequest) -> Iterator[NarKernelBed]:
    bed.start(offload=request.param)
    bed.forget()
    yield bed
    bed.stop()


@pytest.mark.parametrize("offload", [True, False])
def test_strict_reverse_path_filters_let_it_pass(bed: NarKernelBed, offload: bool) -> None:
    """Packets that begin their way again come by another interface than their answers leave."""
    with entered(SERVER):
        ALL.write_text("1")
    bed.forget()
    try:
        bed.start(offload=offload)
        bed.set(lease(P.UDP, 20_001), lease(P.UDP, 20_002, Delivery.TRANSLATED, peer=YB))
        for packet in (udp(YB, 9, NB, 20_001), error(YB, udp(NB, 20_001, YB, 9))):
            bed.send(OUTSIDE, packet)
            bed.tunnelled(forwarded(packet))
        bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 9)))
        bed.arrives(bed.y, forwarded(udp(NB, 20_001, YB, 9)))
        bed.send(CLIENTS, udp(XA, 20_002, YB, 9))
        bed.arrives(bed.y, forwarded(udp(NB, 20_002, YB, 9)))
    finally:
        bed.stop()
        with entered(SERVER):
            ALL.write_text("0")


def test_what_is_of_no_mapping_stays_where_it_came_in(started: NarKernelBed) -> None:
    """Firewalls ask for the interface: nothing of the box's own may come by another one."""
    chain = "add chain ip seen c { type filter hook input priority 0; }"
    rules = [f"add rule ip seen c iifname {name} counter" for name in ("b0", BACK, "a0")]
    inside(SERVER, "nft", "; ".join(["add table ip seen", chain, *rules]))
    try:
        started.set(lease(P.UDP, 20_001, Delivery.TRANSLATED, peer=YB), lease(P.ESP, 0x4000_0001))
        started.send(OUTSIDE, echo(YB, NB, 7))
        reply = started.wait(started.y, lambda one: one.octets[20:21] == b"\0", "an answer")
        assert reply.source == NB
        for packet in (udp(YB, 9, NB, 4_000), esp(YB, NB, 0x4000_0002)):
            started.send(OUTSIDE, packet)
        # The client has a mapping, and other things to say to the box.
        started.send(CLIENTS, udp(XA, 5_000, NA, 4_000))
        refusal = started.wait(started.x, lambda one: one.protocol == 1, "that nobody is there")
        assert refusal.source == NA
        counted = inside(SERVER, "nft", "-j", "list", "chain", "ip", "seen", "c")
        assert [int(one.split(",")[0]) for one in counted.split('"packets": ')[1:]] == [3, 0, 1]
    finally:
        inside(SERVER, "nft", "delete", "table", "ip", "seen")


def test_errors_about_the_boxs_own_packets_come_to_it(started: NarKernelBed) -> None:
    """They are looked at, are of no mapping, and go on unchanged."""
    with entered(SERVER):
        before = counters()["InDestUnreachs"]
    started.send(OUTSIDE, error(YB, udp(NB, 4_000, YB, 9)))
    for _ in range(300):
        started.read_events()
        with entered(SERVER):
            if counters()["InDestUnreachs"] > before:
                break
    else:
        raise AssertionError(started.counters())
    assert started.counters()["error_in"] == 1


def test_nobody_hears_of_our_tunnel_devices(started: NarKernelBed) -> None:
    """A kernel without the protocol, or with it and without such a device, would answer."""
    started.set(lease(P.UDP, 20_001))
    for broken in (ip(XA, NA, 4, b"\x45 no packet"), ip(XA, NA, 4, b"")):
        started.send(CLIENTS, broken)
    started.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 9)))
    started.arrives(started.y, forwarded(udp(NB, 20_001, YB, 9)))
    started.send(OUTSIDE, udp(YB, 9, NB, 20_001))
    started.tunnelled(forwarded(udp(YB, 9, NB, 20_001)))
    started.nothing_more(started.x, lambda one: one.protocol == 1)


def test_esp_that_is_lent_passes_whatever_user_space_has(started: NarKernelBed) -> None:
    """The forwarder's sockets hear only what is for the box."""
    started.set(lease(P.ESP, 0x4000_0001, peer=YB))
    started.send(OUTSIDE, esp(YB, NB, 0x4000_0001))
    started.tunnelled(forwarded(esp(YB, NB, 0x4000_0001)))
    started.send(CLIENTS, wrap(XA, NA, esp(NB, YB, 0x99)))
    started.arrives(started.y, forwarded(esp(NB, YB, 0x99)))
    assert "forwarder_no_sa" not in started.counters()


def counters() -> dict[str, int]:
    """Of ICMP, as the kernel counts it in this namespace."""
    lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Icmp: "))
    return dict(zip(names, map(int, values), strict=True))
