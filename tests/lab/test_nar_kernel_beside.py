"""NAR beside what else the box does: mobility agents at the same address, and all by the queue."""

# planes: kernel portable

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest
from dataplane_bed import entered
from mobility_kernel_bed import Packet
from nar_kernel_bed import (
    CLIENTS,
    NA,
    NB,
    OUTSIDE,
    SERVER,
    SOHO,
    XA,
    XA2,
    YB,
    YB2,
    NarKernelBed,
    forwarded,
    lease,
    nar_kernel_bed,
    tcp,
    udp,
    wrap,
)

from gateway.dataplane.kernel.mobility.dataplane import KernelMobility
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.nar import NarServerSettings
from gateway.domain.mobility import Encapsulation, HomeNetwork, MobilityBinding, Tunnel
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.lab import planes

pytestmark = pytest.mark.kernel

HOME = IPv4Address("10.9.0.5")
VIRTUAL = HomeNetwork("virtual", IPv4Network("10.9.0.0/24"))
WAYS = {
    Delivery.IP_IP: Encapsulation.IP_IP,
    Delivery.GRE: Encapsulation.GRE,
}


@pytest.fixture(scope="module")
def bed() -> Iterator[NarKernelBed]:
    with nar_kernel_bed() as made:
        yield made


@pytest.fixture(params=["mobility first", "NAR first"])
def both(bed: NarKernelBed, request: pytest.FixtureRequest) -> Iterator[KernelMobility]:
    """A home agent whose address is Na, too."""
    with entered(SERVER):
        mobility = planes.mobility(MobilitySettings(home_agents=(NA,), home_networks=(VIRTUAL,)))
    bed.forget()
    try:
        if request.param == "NAR first":
            bed.start()
        with entered(SERVER):
            mobility.start()
        if request.param == "mobility first":
            bed.start()
        yield mobility
    finally:
        with entered(SERVER):
            mobility.close()
        bed.stop()


@pytest.mark.parametrize("delivery", WAYS)
def test_tunnels_of_both_kinds(bed: NarKernelBed, both: KernelMobility, delivery: Delivery) -> None:
    for care_of in (XA2, XA):  # the last one is a NAR client as well
        with entered(SERVER):
            both.set_binding(
                MobilityBinding(
                    home_agent=NA,
                    home_address=HOME,
                    home_network=VIRTUAL,
                    tunnels=(Tunnel(NA, care_of, WAYS[delivery]),),
                    co_located=True,
                    reverse=True,
                    broadcasts=False,
                    max_packet_octets=1300,
                )
            )
            assert both.commit() == []
        bed.set(lease(NarProtocol.UDP, 20_001, delivery))
        bed.forget()
        packet = udp(YB, 9, NB, 20_001)
        bed.send(OUTSIDE, packet)
        bed.tunnelled(forwarded(packet), delivery)
        bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 9), delivery))
        bed.arrives(bed.y, forwarded(udp(NB, 20_001, YB, 9)))
        bed.send(CLIENTS, wrap(care_of, NA, udp(HOME, 7, YB, 9), delivery))
        if care_of == XA2:
            bed.arrives(bed.y, forwarded(udp(HOME, 7, YB, 9)))
        else:
            # Who is a NAR client sends as one: its home agent is not the box that lends to it.
            bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 9, b"last"), delivery))
            bed.arrives(bed.y, forwarded(udp(NB, 20_001, YB, 9, b"last")))
            assert bed.counters()["spoofed"] == 1
        bed.clear()


FIREWALL = NarServerSettings(
    name="firewall",
    tunnel_address=NB,
    addresses=(NA,),
    client_interfaces=("b0",),
    outside_interfaces=("a0",),
    ports=(range(20_000, 30_000),),
)
"""Section 1.2: clients outside, legacy hosts inside. Its addresses are the other server's."""


@pytest.mark.parametrize("offload", [True, False])
def test_two_servers_back_to_back(bed: NarKernelBed, offload: bool) -> None:
    bed.start(servers=(SOHO, FIREWALL), offload=offload)
    bed.forget()
    try:
        guest = NarMapping(
            "firewall",
            NarTuple(NarProtocol.TCP, NA, 20_001, XA, 23),
            YB,
            Delivery.IP_IP,
        )
        served = NarMapping(
            "firewall", NarTuple(NarProtocol.UDP, NA, 20_002), YB2, Delivery.TRANSLATED
        )
        bed.set(lease(NarProtocol.TCP, 20_001, remote=YB, remote_port=80), guest, served)
        bed.send(OUTSIDE, tcp(YB, 80, NB, 20_001))
        bed.tunnelled(forwarded(tcp(YB, 80, NB, 20_001)))
        bed.send(CLIENTS, wrap(XA, NA, tcp(NB, 20_001, YB, 80)))
        bed.arrives(bed.y, forwarded(tcp(NB, 20_001, YB, 80)))
        bed.send(OUTSIDE, wrap(YB, NB, tcp(NA, 20_001, XA, 23)))
        bed.arrives(bed.x, forwarded(tcp(NA, 20_001, XA, 23)))
        answer = forwarded(tcp(XA, 23, NA, 20_001))
        bed.send(CLIENTS, tcp(XA, 23, NA, 20_001))

        def tunnelled(packet: Packet) -> bool:
            return packet.protocol == 4 and packet.inner == answer

        outer = bed.wait(bed.y, tunnelled, "the answer in the guest's tunnel")
        assert (outer.source, outer.destination) == (NB, YB)
        bed.send(OUTSIDE, udp(YB2, 20_002, XA, 9))
        bed.arrives(bed.x, forwarded(udp(NA, 20_002, XA, 9)))
        bed.send(CLIENTS, udp(XA, 9, NA, 20_002))
        bed.arrives(bed.y, forwarded(udp(XA, 9, YB2, 20_002)))
        # What one server's client has, it has on its own side alone.
        before = bed.counters()
        bed.send(CLIENTS, wrap(YB, NB, tcp(NA, 20_001, XA, 23, b"wrong side")))
        bed.send(OUTSIDE, wrap(YB, NB, tcp(NB, 20_001, YB, 80, b"wrong source")))
        bed.send(OUTSIDE, wrap(YB, NB, tcp(NA, 20_001, XA, 23, b"last")))
        bed.arrives(bed.x, forwarded(tcp(NA, 20_001, XA, 23, b"last")))
        if offload:
            assert bed.counted("spoofed", before, 1) == 1
        assert not any(b"wrong s" in one.octets for one in bed.x.packets() if one.protocol == 6)
    finally:
        bed.stop()


def test_by_the_queue_all_the_same(bed: NarKernelBed) -> None:
    bed.start(offload=False)
    try:
        for delivery in (*WAYS, Delivery.TRANSLATED):
            bed.set(lease(NarProtocol.UDP, 20_001, delivery))
            bed.forget()
            packet = udp(YB, 9, NB, 20_001)
            bed.send(OUTSIDE, packet)
            answer = udp(NB, 20_001, YB, 9)
            if delivery is Delivery.TRANSLATED:
                bed.arrives(bed.x, forwarded(udp(YB, 9, XA, 20_001)))
                bed.send(CLIENTS, udp(XA, 20_001, YB, 9))
            else:
                outer = bed.tunnelled(forwarded(packet), delivery)
                assert isinstance(outer, Packet)
                bed.send(CLIENTS, wrap(XA, NA, answer, delivery))
            bed.arrives(bed.y, forwarded(answer))
        assert bed.counters()["queued_in"] == 3
    finally:
        bed.stop()
