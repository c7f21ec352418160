"""What each layer of encapsulation costs, octet by octet, and the MTU that is left.

Sources: RFC 4303 section 2 (ESP), 3948 (ESP in UDP), 9329 (in TCP), 4106 and 7634 (AEAD), 2003
(IP in IP), 2004 (minimal), 2784 (GRE), 3519 (Mobile IP in UDP), draft 001 section 6.2 (its table).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.child_sa import Encryption, EspSuite, Integrity
from gateway.domain.endpoint import IpAddress
from gateway.domain.mobility import Encapsulation

LINK_MTU: Final = 1500
IPV4_OCTETS: Final = 20
IPV6_OCTETS: Final = 40
UDP_OCTETS: Final = 8
TCP_OCTETS: Final = 20
LEAST_MTU: Final = {4: 576, 6: 1280}
"""What every host takes (RFC 1122 section 3.3.2, 8200 section 5), by IP version."""
ESP_TRAILER: Final = 2
"""Pad length and next header."""


@dataclass(frozen=True, slots=True)
class EspShape:
    """What a suite adds to a packet: octets of the IV and the check value, and the alignment."""

    iv: int
    icv: int
    align: int

    @property
    def most_padding(self) -> int:
        """Of the worst packet size."""
        return self.align - 1


_ICV = {
    Integrity.NONE: 16,  # of the AEAD itself
    Integrity.HMAC_SHA2_256_128: 16,
    Integrity.HMAC_SHA2_384_192: 24,
    Integrity.HMAC_SHA2_512_256: 32,
}
DRAFT_SHAPE: Final = EspShape(iv=8, icv=12, align=8)
"""3DES with HMAC-SHA1-96, which draft 001 computed its table with; the gateway offers neither."""


def shape_of(suite: EspSuite) -> EspShape:
    """The shape of a negotiated suite."""
    if suite.encryption is Encryption.AES_CBC:
        return EspShape(iv=16, icv=_ICV[suite.integrity], align=16)
    return EspShape(iv=8, icv=_ICV[Integrity.NONE], align=4)


def parse_suite(text: str) -> EspSuite | None:
    """The suite that ``str(suite)`` wrote; None when it is none."""
    first, *rest = text.split("/")
    name, _, bits = first.rpartition("_")
    esn = rest[-1:] == ["esn"]
    words = rest[:-1] if esn else rest
    try:
        integrity = Integrity(words[0]) if words else Integrity.NONE
        return EspSuite(Encryption(name), int(bits), integrity, esn)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class HeaderCost:
    """One header or trailer, at most."""

    name: str
    octets: int


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer of encapsulation."""

    name: str
    """``x-mip``, ``vpn`` or ``i-mip``."""
    headers: tuple[HeaderCost, ...]
    align: int = 1
    """What the encrypted part is padded to."""
    own_link: bool = True
    """False: a foreign agent adds it, so the device's own link does not carry it."""

    @property
    def octets(self) -> int:
        """The most that it adds to a packet."""
        return sum(one.octets for one in self.headers)

    def largest_inside(self, outside: int) -> int:
        """The largest packet that fits into ``outside`` octets with this layer around it."""
        if self.align == 1:
            return outside - self.octets
        fixed = self.octets - (self.align - 1) - ESP_TRAILER
        return (outside - fixed) // self.align * self.align - ESP_TRAILER


def ip_header(address: IpAddress | None) -> HeaderCost:
    """The outer IP header."""
    if address is None or isinstance(address, IPv4Address):
        return HeaderCost("IPv4", IPV4_OCTETS)
    return HeaderCost("IPv6", IPV6_OCTETS)


def esp_layer(
    shape: EspShape,
    outer: IpAddress | None = None,
    *,
    udp: bool = False,
    tcp: bool = False,
) -> LayerCost:
    """The VPN layer.

    In transport mode the outer IP header is the packet's own: what is left is for its payload.
    """
    headers = [ip_header(outer)]
    if tcp:
        headers += [HeaderCost("TCP", TCP_OCTETS), HeaderCost("length (RFC 9329)", 2)]
    elif udp:
        headers.append(HeaderCost("UDP", UDP_OCTETS))
    headers += [
        HeaderCost("ESP: SPI, sequence", 8),
        HeaderCost("ESP: IV", shape.iv),
        HeaderCost("ESP: padding, at most", shape.most_padding),
        HeaderCost("ESP: pad length, next header", ESP_TRAILER),
        HeaderCost("ESP: check value", shape.icv),
    ]
    return LayerCost("vpn", tuple(headers), align=shape.align)


def tunnel_layer(
    name: str,
    encapsulation: Encapsulation,
    *,
    udp: bool = False,
    zero_overhead: bool = False,
    own_link: bool = True,
) -> LayerCost:
    """A layer of Mobile IP; with ``zero_overhead`` addresses are switched instead (appendix D)."""
    if zero_overhead:
        return LayerCost(name, (HeaderCost("addresses switched", 0),), own_link=own_link)
    headers: list[HeaderCost] = []
    if udp:
        headers += [HeaderCost("IPv4", IPV4_OCTETS), HeaderCost("UDP", UDP_OCTETS)]
        headers.append(HeaderCost("MIP tunnel data", 4))
    if encapsulation is Encapsulation.MINIMAL:
        # The packet's own IP header becomes the outer one; behind UDP it has to be given anew.
        headers.append(HeaderCost("minimal forwarding header", 12))
        if udp:
            headers.append(HeaderCost("the packet's own IPv4 header", -IPV4_OCTETS))
    elif encapsulation is Encapsulation.GRE:
        headers += [] if udp else [HeaderCost("IPv4", IPV4_OCTETS)]
        headers.append(HeaderCost("GRE", 4))
    elif not udp:
        headers.append(HeaderCost("IPv4", IPV4_OCTETS))
    return LayerCost(name, tuple(headers), own_link=own_link)


def l2tp_layer() -> LayerCost:
    """L2TP in ESP of transport mode (RFC 3193): UDP, a header with length, PPP."""
    headers = (HeaderCost("UDP", UDP_OCTETS), HeaderCost("L2TP", 8), HeaderCost("PPP", 4))
    return LayerCost("l2tp", headers)


def bridge_layer(inner: IpAddress | None = None) -> LayerCost:
    """Frames in GRE inside the tunnel; what is left is the payload of a frame."""
    headers = (ip_header(inner), HeaderCost("GRE", 4), HeaderCost("Ethernet", 14))
    return LayerCost("bridge", headers)


def tunnel_mtu(
    suite: EspSuite,
    outer: IpAddress | None,
    *,
    udp: bool = False,
    tcp: bool = False,
    link: int = LINK_MTU,
) -> int:
    """The largest packet inside a tunnel whose outer packets are ``link`` octets at most."""
    return max(0, esp_layer(shape_of(suite), outer, udp=udp, tcp=tcp).largest_inside(link))


def segment_octets(mtu: int, version: int) -> int:
    """The largest TCP segment (MSS) in packets of ``mtu`` octets without options."""
    return max(0, mtu - (IPV4_OCTETS if version == 4 else IPV6_OCTETS) - TCP_OCTETS)


def overhead_octets(layers: Iterable[LayerCost]) -> int:
    """The most that a packet has beyond itself on the device's own link."""
    return sum(layer.octets for layer in layers if layer.own_link)


@dataclass(frozen=True, slots=True)
class MtuStep:
    """What one header takes."""

    what: str
    octets: int
    """Negative for what it gives back."""
    left: int


@dataclass(frozen=True, slots=True)
class MtuResult:
    """The largest inner packet that needs no fragment anywhere on the way."""

    link: int
    overhead: int
    inner: int
    steps: tuple[MtuStep, ...]

    @property
    def arithmetic(self) -> str:
        """``1500 - 20 (IPv4) - 8 (UDP) - ... = 1438``."""
        words = [str(self.link)]
        for step in self.steps:
            sign = "-" if step.octets > 0 else "+"
            words.append(f"{sign} {abs(step.octets)} ({step.what})")
        return f"{' '.join(words)} = {self.inner}"


def inner_mtu(layers: Sequence[LayerCost], link: int = LINK_MTU) -> MtuResult:
    """Work it out; ``layers`` are the outermost first.

    What a foreign agent adds counts too: the way from there to its home agent has the same MTU.
    """
    left = running = link
    steps: list[MtuStep] = []

    def step(what: str, octets: int) -> None:
        nonlocal running
        if octets:
            running -= octets
            steps.append(MtuStep(what, octets, running))

    for layer in layers:
        for header in layer.headers:
            if not header.name.startswith(("ESP: padding", "ESP: pad length")):
                step(header.name, header.octets)
        left = layer.largest_inside(left)
        if layer.align > 1:
            step(f"to a multiple of {layer.align}", running - left - ESP_TRAILER)
            step("pad length, next header", ESP_TRAILER)
    return MtuResult(link, sum(layer.octets for layer in layers), max(0, left), tuple(steps))
