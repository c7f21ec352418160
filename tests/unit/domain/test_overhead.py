"""The arithmetic of layers agrees with draft 001's table and with what packets really have."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.child_sa import Encryption, EspSuite, Integrity
from gateway.domain.mobility import Encapsulation
from gateway.domain.overhead import (
    DRAFT_SHAPE,
    EspShape,
    LayerCost,
    esp_layer,
    inner_mtu,
    overhead_octets,
    parse_suite,
    shape_of,
    tunnel_layer,
)
from gateway.lab.overhead_table import DRAFT

GCM = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, True)
CBC = EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, False)
IP_IP = Encapsulation.IP_IP


def _stack(mode: str, shape: EspShape, *flags: str) -> list[LayerCost]:
    if mode in {"c", "f"}:
        return [tunnel_layer("i-mip", IP_IP, own_link=mode == "c")]
    x_mip, _, i_mip = mode.rpartition("v")
    layers = []
    if x_mip:
        own = x_mip == "c"
        udp = "nat x" in flags
        layers.append(
            tunnel_layer("x-mip", IP_IP, udp=udp, zero_overhead="zot" in flags, own_link=own)
        )
    layers.append(esp_layer(shape, udp="nat v" in flags))
    if i_mip == "c":
        layers.append(tunnel_layer("i-mip", IP_IP, udp="nat i" in flags))
    return layers


CELLS = {
    "f": ("f",),
    "c": ("c",),
    "fvc": ("fvc",),
    "fvf": ("fvf",),
    "cvc": ("cvc",),
    "cvf": ("cvf",),
    "cvf zot": ("cvf", "zot"),
    "vf": ("vf",),
    "vf nat": ("vf", "nat v"),
    "cvf nat": ("cvf", "nat x"),
    "cvc nat": ("cvc", "nat x", "nat v", "nat i"),
}


@pytest.mark.parametrize("cell", sorted(DRAFT))
@pytest.mark.parametrize("shape", [DRAFT_SHAPE, shape_of(GCM)], ids=["3des", "gcm"])
def test_every_cell_of_the_measured_table(cell: str, shape: EspShape) -> None:
    """``gateway lab overhead`` measures the same octets on the wire, for both suites."""
    mode, *flags = CELLS[cell]
    assert overhead_octets(_stack(mode, shape, *flags)) == DRAFT[cell]


def _wrapped(layers: list[LayerCost], octets: int) -> int:
    """A packet of this size as it is on the wire, layer by layer from the inside."""
    for layer in reversed(layers):
        if layer.align == 1:
            octets += layer.octets
            continue
        fixed = layer.octets - (layer.align - 1) - 2
        octets = fixed + -(-(octets + 2) // layer.align) * layer.align
    return octets


@given(
    mode=st.sampled_from(["v", "vc", "vf", "cvc", "cvf", "c"]),
    suite=st.sampled_from([GCM, CBC]),
    flags=st.sets(st.sampled_from(["nat x", "nat v", "nat i"])),
    link=st.integers(576, 9000),
)
def test_the_mtu_is_the_largest_that_fits(
    mode: str, suite: EspSuite, flags: set[str], link: int
) -> None:
    layers = _stack(mode if mode != "v" else "vf", shape_of(suite), *flags)
    found = inner_mtu(layers, link)
    assert _wrapped(layers, found.inner) <= link
    assert _wrapped(layers, found.inner + 1) > link
    assert found.arithmetic.endswith(f"= {found.inner}")
    numbers = found.arithmetic.split(" = ")[0].split(" ")
    total, sign = 0, 1
    for word in numbers:
        if word in {"-", "+"}:
            sign = -1 if word == "-" else 1
        elif word.isdigit():
            if sign:
                total += sign * int(word)
            sign = 0
    assert total == found.inner


def test_the_arithmetic_of_esp_in_udp_with_aes_gcm() -> None:
    found = inner_mtu([esp_layer(shape_of(GCM), udp=True)])
    assert found.inner == 1438
    assert found.arithmetic == (
        "1500 - 20 (IPv4) - 8 (UDP) - 8 (ESP: SPI, sequence) - 8 (ESP: IV) - 16 (ESP: check value)"
        " - 2 (pad length, next header) = 1438"
    )


def test_ipv6_and_cbc_are_as_the_default_mtu_says() -> None:
    layer = esp_layer(shape_of(CBC), IPv6Address("2001:db8::1"), udp=True)
    assert layer.octets == 40 + 8 + 8 + 16 + 17 + 32


def test_tcp_takes_22_more_than_plain_esp() -> None:
    shape = shape_of(GCM)
    assert esp_layer(shape, tcp=True).octets - esp_layer(shape).octets == 22


@pytest.mark.parametrize(
    ("encapsulation", "udp", "octets"),
    [
        (Encapsulation.IP_IP, False, 20),
        (Encapsulation.IP_IP, True, 32),
        (Encapsulation.GRE, False, 24),
        (Encapsulation.GRE, True, 36),
        (Encapsulation.MINIMAL, False, 12),
        (Encapsulation.MINIMAL, True, 24),
    ],
)
def test_tunnels_of_mobile_ip(encapsulation: Encapsulation, udp: bool, octets: int) -> None:
    assert tunnel_layer("i-mip", encapsulation, udp=udp).octets == octets


def test_suites_are_read_back() -> None:
    for suite in (GCM, CBC, EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, False)):
        assert parse_suite(str(suite)) == suite
    assert parse_suite("rot13_1") is None
    assert parse_suite("") is None
