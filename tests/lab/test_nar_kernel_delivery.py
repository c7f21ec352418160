"""Each protocol in each delivery, both ways, octet by octet."""

# planes: kernel portable

from collections.abc import Callable, Iterator

import pytest
from mobility_kernel_bed import ip
from nar_kernel_bed import (
    CLIENTS,
    CN,
    NA,
    NB,
    OUTSIDE,
    XA,
    XA2,
    XB,
    YB,
    YB2,
    NarKernelBed,
    ah,
    echo,
    esp,
    forwarded,
    lease,
    nar_kernel_bed,
    tcp,
    udp,
    wrap,
)

from gateway.domain.nar import Delivery, NarMapping, NarProtocol

pytestmark = pytest.mark.kernel

TUNNELS = (Delivery.IP_IP, Delivery.GRE)
INNER = tcp(CN, 80, XB, 1234)
REVERSE = tcp(XB, 1234, CN, 80)


@pytest.fixture(scope="module")
def module_bed() -> Iterator[NarKernelBed]:
    with nar_kernel_bed() as bed:
        bed.start()
        yield bed


@pytest.fixture
def bed(module_bed: NarKernelBed) -> NarKernelBed:
    module_bed.clear()
    module_bed.forget()
    return module_bed


def gre(source: object, to: object, inner: bytes, head: bytes = b"\0\0\x08\0") -> bytes:
    return ip(source, to, 47, head + inner)


P = NarProtocol
CASES: dict[str, tuple[dict[str, object], Callable[..., bytes], Callable[..., bytes]]] = {
    # name: tuple, what Y sends (to), what X sends (source)
    "tcp": (
        {"protocol": P.TCP, "value": 20_001, "remote": YB, "remote_port": 80},
        lambda to: tcp(YB, 80, to, 20_001),
        lambda source: tcp(source, 20_001, YB, 80),
    ),
    "tcp-from-one": (
        {"protocol": P.TCP, "value": 20_001, "remote": YB},
        lambda to: tcp(YB, 8080, to, 20_001),
        lambda source: tcp(source, 20_001, YB, 8080),
    ),
    "tcp-from-all": (
        {"protocol": P.TCP, "value": 20_001},
        lambda to: tcp(YB2, 8080, to, 20_001),
        lambda source: tcp(source, 20_001, YB2, 8080),
    ),
    "udp-any-source": (
        {"protocol": P.UDP, "value": 20_001, "remote_port": 53, "peer": YB},
        lambda to: udp(YB2, 53, to, 20_001),
        lambda source: udp(source, 20_001, YB, 53),
    ),
    "udp": (
        {"protocol": P.UDP, "value": 20_001, "peer": YB},
        lambda to: udp(YB2, 9, to, 20_001),
        lambda source: udp(source, 20_001, YB, 10),
    ),
    "udp-no-checksum": (
        {"protocol": P.UDP, "value": 20_001},
        lambda to: udp(YB, 9, to, 20_001, checksum=False),
        lambda source: udp(source, 20_001, YB, 9, checksum=False),
    ),
    "icmp": (
        {"protocol": P.ICMP, "value": 0xC001, "remote": YB},
        lambda to: echo(YB, to, 0xC001, reply=True),
        lambda source: echo(source, YB, 0xC001),
    ),
    "esp": (
        {"protocol": P.ESP, "value": 0x4000_0001, "peer": YB},
        lambda to: esp(YB, to, 0x4000_0001),
        lambda source: esp(source, YB, 0x5555),
    ),
    "esp-to-all": (
        {"protocol": P.ESP, "value": 0x4000_0001},
        lambda to: esp(YB2, to, 0x4000_0001),
        lambda source: esp(source, YB, 0x5555),
    ),
    "ah": (
        {"protocol": P.AH, "value": 0x4000_0001, "peer": YB},
        lambda to: ah(YB, to, 0x4000_0001),
        lambda source: ah(source, YB, 0x5555),
    ),
    "ip-ip": (
        {"protocol": P.IP_IP, "value": int(XB), "remote": YB},
        lambda to: ip(YB, to, 4, INNER),
        lambda source: ip(source, YB, 4, REVERSE),
    ),
    "gre": (
        {"protocol": P.GRE, "value": int(XB), "remote": YB},
        lambda to: gre(YB, to, INNER),
        lambda source: gre(source, YB, REVERSE),
    ),
    "gre-key": (
        {"protocol": P.GRE, "value": int(XB), "remote": YB},
        lambda to: gre(YB, to, INNER, b"\x20\0\x08\0\1\2\3\4"),
        lambda source: gre(source, YB, REVERSE, b"\x20\0\x08\0\1\2\3\4"),
    ),
    "gre-key-sequence": (
        {"protocol": P.GRE, "value": int(XB), "remote": YB},
        lambda to: gre(YB, to, INNER, b"\x30\0\x08\0\1\2\3\4\0\0\0\1"),
        lambda source: gre(source, YB, REVERSE, b"\x30\0\x08\0\1\2\3\4\0\0\0\1"),
    ),
}


def mapping_of(name: str, delivery: Delivery, **more: object) -> NarMapping:
    given = dict(CASES[name][0])
    return lease(given.pop("protocol"), given.pop("value"), delivery, **{**given, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("delivery", TUNNELS)
@pytest.mark.parametrize("name", CASES)
def test_end_to_end_both_ways(bed: NarKernelBed, name: str, delivery: Delivery) -> None:
    bed.set(mapping_of(name, delivery))
    _, from_y, from_x = CASES[name]
    bed.send(OUTSIDE, from_y(NB))
    bed.tunnelled(forwarded(from_y(NB)), delivery)
    bed.send(CLIENTS, wrap(XA, NA, from_x(NB), delivery))
    bed.arrives(bed.y, forwarded(from_x(NB)), name)


@pytest.mark.parametrize("name", [name for name in CASES if name != "ah"])
def test_translated_both_ways(bed: NarKernelBed, name: str) -> None:
    bed.set(mapping_of(name, Delivery.TRANSLATED))
    _, from_y, from_x = CASES[name]
    tunnel = bed.running  # the figure of section 2.6.3: tunnels come from Na
    assert tunnel is not None
    bed.send(OUTSIDE, from_y(NB))
    arrived = from_y(XA)
    if name.startswith(("ip-ip", "gre")):
        bed.arrives(bed.x, forwarded(arrived, source=NA), name)
    else:
        bed.arrives(bed.x, forwarded(arrived), name)
    bed.send(CLIENTS, from_x(XA))
    bed.arrives(bed.y, forwarded(from_x(NB)), name)


@pytest.mark.parametrize("name", ["ip-ip", "gre", "gre-key"])
def test_translated_tunnel_to_the_server_itself(bed: NarKernelBed, name: str) -> None:
    bed.set(mapping_of(name, Delivery.TRANSLATED))
    _, _, from_x = CASES[name]
    bed.send(CLIENTS, forwarded(from_x(XA), to=NA))
    bed.arrives(bed.y, forwarded(forwarded(from_x(NB), to=YB)), name)


def test_two_clients_share_an_address(bed: NarKernelBed) -> None:
    bed.set(
        lease(P.ESP, 0x4000_0001, Delivery.IP_IP, peer=YB),
        lease(P.ESP, 0x4000_0002, Delivery.GRE, peer=YB, client=XA2),
        lease(P.TCP, 20_001, Delivery.IP_IP, remote=YB, remote_port=80),
        lease(P.TCP, 20_001, Delivery.GRE, remote=YB2, remote_port=80, client=XA2),
    )
    for packet, delivery, client in (
        (esp(YB, NB, 0x4000_0001), Delivery.IP_IP, XA),
        (esp(YB, NB, 0x4000_0002), Delivery.GRE, XA2),
        (tcp(YB, 80, NB, 20_001), Delivery.IP_IP, XA),
        (tcp(YB2, 80, NB, 20_001), Delivery.GRE, XA2),
    ):
        bed.send(OUTSIDE, packet)
        bed.tunnelled(forwarded(packet), delivery, client)
