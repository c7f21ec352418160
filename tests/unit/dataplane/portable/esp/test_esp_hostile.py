"""Packets of an enemy: they raise nothing and change nothing."""

import copy

import esp_bed as bed
import pytest
from esp_bed import LINK, both_ends, connected, opened, sealed
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.domain.child_sa import EspSuite, Mode

SPI = (0x1000).to_bytes(4, "big")


def state(gateway: EspEngine) -> object:
    """What no forged packet may change."""
    half = gateway._inbound[SPI]
    sender = gateway._reqids[7].sender
    assert sender is not None
    return (
        half.window.highest, half.window.bitmap, half.limits.packets, half.limits.octets,
        half.last_at, half.source, half.claimed, copy.copy(half.guard.allowed),
        sender.sequence, gateway.held(), list(gateway.sends), list(gateway.handovers),
        list(gateway.delivers), gateway.before_move(0x1000),
    )  # fmt: skip


def used(
    suite: EspSuite = bed.GCM, *, udp: bool = False, version: int = 4, mode: Mode = Mode.TUNNEL
) -> tuple[EspEngine, list[bytes]]:
    """A gateway that has received something, and packets that it has and has not received."""
    local, remote = (bed.GATEWAY, bed.DEVICE) if version == 4 else (bed.GATEWAY6, bed.DEVICE6)
    here, there = bed.endpoint(local), bed.endpoint(remote)
    selectors = {}
    inner = bed.to_gateway
    if mode is Mode.TRANSPORT:
        selectors = {"local_ts": (bed.network(local),), "remote_ts": (bed.network(remote),)}

        def inner(**_: object) -> bytes:
            return (bed.udp4 if version == 4 else bed.udp6)(remote, local)

    gateway, device = connected(
        *both_ends(suite, udp=udp, local=here, remote=there, follow=True, mode=mode, **selectors)  # type: ignore[arg-type]
    )
    packets = sealed(device, *[inner()] * 4)
    assert len(opened(gateway, *packets[:3])) == 3
    return gateway, packets


@given(packets=st.lists(st.binary(max_size=120), max_size=4), mark=st.integers(0, 0xFFFFFFFF))
def test_noise(packets: list[bytes], mark: int) -> None:
    gateway, _ = used()
    before = state(gateway)
    gateway.arrived([(packet, mark) for packet in packets])
    gateway.leaving(LINK, [(packet, mark) for packet in packets])
    gateway.handed_over([(packet, mark) for packet in packets])
    assert state(gateway) == before


@st.composite
def mutations(draw: st.DrawFn, packet: bytes, header: int) -> bytes:
    """One octet changed, cut off, repeated or grown; with the outer header meant to fit or not.

    The IP header's own fields are not protected: those that only the kernel looks at stay.
    """
    octets = bytearray(packet)
    kind = draw(st.sampled_from(("flip", "cut", "grow", "splice")))
    if kind == "flip":
        at = draw(st.integers(header, len(octets) - 1))
        octets[at] ^= draw(st.integers(1, 255))
    elif kind == "cut":
        del octets[draw(st.integers(0, len(octets) - 1)) :]
    elif kind == "grow":
        octets += draw(st.binary(min_size=1, max_size=40))
    else:
        at = draw(st.integers(header, len(octets) - 1))
        octets[at:at] = draw(st.binary(min_size=1, max_size=40))
    if kind != "flip" and len(octets) >= 20 and draw(st.booleans()):
        if octets[0] >> 4 == 4:
            octets[2:4] = len(octets).to_bytes(2, "big")
        elif len(octets) >= 40:
            octets[4:6] = (len(octets) - 40).to_bytes(2, "big")
    return bytes(octets)


@pytest.mark.parametrize("suite", bed.SUITES, ids=str)
@given(data=st.data())
def test_changed_packets_that_were_not_received_yet(suite: EspSuite, data: st.DataObject) -> None:
    gateway, packets = used(suite)
    before = state(gateway)
    changed = data.draw(mutations(packets[3], 20))
    if len(changed) > len(packets[3]) and changed.startswith(packets[3]):
        return  # The IP length still says where it ends, or the ICV is checked below.
    assert opened(gateway, changed) == []
    assert state(gateway) == before
    assert len(opened(gateway, packets[3])) == 1


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("mode", Mode)
@given(data=st.data())
def test_changed_packets_of_every_kind_raise_nothing(
    version: int, udp: bool, mode: Mode, data: st.DataObject
) -> None:
    gateway, packets = used(udp=udp, version=version, mode=mode)
    gateway.arrived([(data.draw(mutations(packets[3], 0)), 0)])
    gateway.arrived([(packets[3], 0)])
    assert len(gateway.delivers) <= 1


@given(data=st.data())
def test_inner_packets_of_any_shape(data: st.DataObject) -> None:
    """What a host of ours sends, and what a peer with keys seals."""
    gateway, device = connected(*both_ends(bed.GCM_SHORT))
    base = data.draw(st.sampled_from([bed.to_device(), bed.udp6("fd00:1::1", bed.HOST6)]))
    inner = data.draw(mutations(base, 0))
    for outer in sealed(gateway, inner):
        for packet in opened(device, outer):
            assert packet == inner


@given(plain=st.binary(max_size=100), next_header=st.integers(0, 255), mode=st.sampled_from(Mode))
def test_a_peer_that_seals_what_it_likes(plain: bytes, next_header: int, mode: Mode) -> None:
    from test_esp_traffic import forged

    selectors = {}
    if mode is Mode.TRANSPORT:
        selectors = {
            "local_ts": (bed.network(bed.GATEWAY),), "remote_ts": (bed.network(bed.DEVICE),)
        }  # fmt: skip
    gateway_sa, device_sa = both_ends(mode=mode, **selectors)  # type: ignore[arg-type]
    gateway, _ = connected(gateway_sa, device_sa)
    whole = forged(gateway_sa, 1, plain, next_header)
    ragged = forged(gateway_sa, 2, b"", 4, raw=plain + bytes(-len(plain) % 16 or 16))
    for packet in opened(gateway, whole, ragged):
        assert mode is Mode.TRANSPORT
        assert packet[12:20] == whole[12:20]
