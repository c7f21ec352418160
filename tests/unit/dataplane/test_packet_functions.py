"""Encapsulations, fragments, ICMP errors and address switching; tshark is the other opinion."""

import contextlib
import shutil
import struct
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet import fragments, gre, icmp, ip_ip, ipv4, minimal, udp_tunnel
from gateway.dataplane.packet.address_switch import AddressSwitch
from gateway.dataplane.packet.demultiplex import open_tunnel
from gateway.dataplane.packet.fragments import FragmentationNeededError, fragment
from gateway.dataplane.packet.ipv4 import OuterHeader
from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import WireError

HA, COA, HOA, PEER, ROUTER = (
    IPv4Address(text).packed
    for text in ("192.0.2.1", "198.51.100.7", "10.0.0.5", "203.0.113.9", "198.51.100.1")
)


def packet(
    payload: bytes,
    *,
    protocol: int = 253,
    source: bytes = PEER,
    destination: bytes = HOA,
    options: bytes = b"",
    flags: int = 0,
    tos: int = 0,
    ttl: int = 63,
    identification: int = 0x1234,
) -> bytes:
    length = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | length // 4,
        tos,
        length + len(payload),
        identification,
        flags,
        ttl,
        protocol,
        0,
        source,
        destination,
    )
    return ipv4.with_checksum(head + options) + payload


def with_l4_checksum(payload: bytes, protocol: int, at: int, ends: bytes) -> bytes:
    bare = payload[:at] + bytes(2) + payload[at + 2 :]
    pseudo = ends + struct.pack("!HH", protocol, len(bare))
    return bare[:at] + internet_checksum(pseudo + bare).to_bytes(2, "big") + bare[at + 2 :]


def udp(data: bytes, ends: bytes, source: int = 4000, destination: int = 53) -> bytes:
    head = struct.pack("!HHHH", source, destination, 8 + len(data), 0)
    return with_l4_checksum(head + data, 17, 6, ends)


def tcp(data: bytes, ends: bytes) -> bytes:
    head = struct.pack("!HHIIBBHHH", 4000, 80, 1, 2, 0x50, 0x18, 1000, 0, 0)
    return with_l4_checksum(head + data, 6, 16, ends)


def right(octets: bytes) -> bool:
    length = (octets[0] & 15) * 4
    return internet_checksum(octets[:length]) == 0 and len(octets) == int.from_bytes(
        octets[2:4], "big"
    )


def l4_right(octets: bytes) -> bool:
    start = (octets[0] & 15) * 4
    pseudo = octets[12:20] + struct.pack("!HH", octets[9], len(octets) - start)
    return internet_checksum(pseudo + octets[start:]) == 0


def tunnels(inner: bytes) -> dict[str, bytes]:
    """The same packet in each encapsulation."""
    outer = {number: OuterHeader(HA, COA, number) for number in (4, 47, 17)}
    in_udp = {
        4: inner,
        47: gre.HEADER + inner,
    }
    made = {
        "ip-ip": ip_ip.encapsulate(outer[4], inner, 7),
        "gre": gre.encapsulate(outer[47], inner, 7),
    }
    for number, content in in_udp.items():
        before = udp_tunnel.header(40000, number, len(content))
        made[f"udp-{number}"] = (
            outer[17].build(inner[1], len(before + content), 7) + before + content
        )
    if minimal.is_possible(inner):
        made["minimal"] = minimal.encapsulate(inner, HA + COA)
    return made


def as_received(made: bytes) -> bytes:
    """As the other end sees a UDP tunnel packet: ports the other way round."""
    if made[9] != 17:
        return made
    start = (made[0] & 15) * 4
    return made[:start] + made[start + 2 : start + 4] + made[start : start + 2] + made[start + 4 :]


inner_packets = st.builds(
    packet,
    st.binary(max_size=64),
    protocol=st.integers(0, 255),
    options=st.sampled_from([b"", b"\x94\x04\0\0", b"\x01\x01\x01\0"]),
    flags=st.sampled_from([0, 0x4000, 0x2000, 0x0003]),
    tos=st.sampled_from([0, 1, 2, 0xB8]),
    ttl=st.integers(1, 255),
    source=st.sampled_from([PEER, HA]),
)


@given(inner_packets)
def test_what_goes_into_a_tunnel_comes_out(inner: bytes) -> None:
    for name, made in tunnels(inner).items():
        assert right(made), name
        found = open_tunnel(as_received(made))
        assert found is not None
        assert found.inner == inner, name
        assert found.ends == HA + COA
        assert found.port == (40000 if name.startswith("udp") else 0)


@given(inner_packets, st.data())
def test_h63_mutated_tunnel_packets_raise_one_error_only(inner: bytes, data: st.DataObject) -> None:
    made = as_received(data.draw(st.sampled_from(sorted(tunnels(inner).values()))))
    at = data.draw(st.integers(0, len(made) - 1))
    flipped = made[:at] + bytes((made[at] ^ data.draw(st.integers(1, 255)),)) + made[at + 1 :]
    for broken in (flipped, made[:at], flipped + b"\0"):
        with contextlib.suppress(WireError):
            found = open_tunnel(broken)
            assert found is None or right(found.inner)


@given(st.binary(max_size=120))
def test_h63_rubbish_raises_one_error_only(octets: bytes) -> None:
    for call in (
        open_tunnel,
        icmp.parse_error,
        lambda one: fragment(one, 24),
        lambda one: ipv4.checked_end(one, 0),
        lambda one: gre.decapsulate(one, 0, len(one)),
        lambda one: udp_tunnel.parse(one, 0, len(one)),
    ):
        with contextlib.suppress(WireError):
            call(b"\x45" + octets)


def test_the_outer_header_of_ip_in_ip() -> None:
    made = ip_ip.encapsulate(OuterHeader(HA, COA, 4), packet(b"x", tos=0xB8), 7)
    assert (
        made[:20]
        == packet(
            made[20:], protocol=4, source=HA, destination=COA, tos=0xB8, ttl=64, identification=7
        )[:20]
    )


def test_minimal_encapsulation_is_twelve_octets_or_eight() -> None:
    made = minimal.encapsulate(packet(b"x"), HA + COA)
    assert made[20:22] == bytes((253, 0x80))
    assert made[24:32] == HOA + PEER
    assert internet_checksum(made[20:32]) == 0
    assert made[4:9] == packet(b"x")[4:9], "identification, flags and TTL are the packet's own"
    ours = minimal.encapsulate(packet(b"x", source=HA), HA + COA)
    assert ours[20:22] == bytes((253, 0))
    assert len(ours) == 20 + 8 + 1


def test_h65_minimal_encapsulation_never_takes_a_fragment() -> None:
    for flags in (0x2000, 0x0001):
        with pytest.raises(WireError, match="fragment"):
            minimal.encapsulate(packet(b"x", flags=flags), HA + COA)


@pytest.mark.parametrize(
    "options", ["8000 0800 {sum} 0000", "2000 0800 00000001", "1000 0800 00000001",
                "b000 0800 {sum} 0000 0000 0001 0000 0002"]
)  # fmt: skip
def test_gre_options_are_passed_over(options: str) -> None:
    inner = packet(b"abc")
    octets = bytes.fromhex(options.replace("{sum}", "0000")) + inner
    if "{sum}" in options:
        octets = octets[:4] + internet_checksum(octets).to_bytes(2, "big") + octets[6:]
        broken = octets[:-1] + b"!"
        with pytest.raises(WireError, match="GRE checksum"):
            gre.decapsulate(broken, 0, len(broken))
    assert gre.decapsulate(octets, 0, len(octets)) == inner


@pytest.mark.parametrize("head", ["40000800", "08000800", "00010800", "04000800", "000086dd"])
def test_h63_gre_that_was_not_agreed_on_is_refused(head: str) -> None:
    octets = bytes.fromhex(head) + packet(b"abc")
    with pytest.raises(WireError):
        gre.decapsulate(octets, 0, len(octets))


@pytest.mark.parametrize("next_header", [0, 1, 6, 17, 41, 50, 255])
def test_h63_junk_inside_a_udp_tunnel(next_header: int) -> None:
    inner = packet(b"abc")
    before = udp_tunnel.header(434, next_header, len(inner))
    outer = OuterHeader(COA, HA, 17).build(0, len(before + inner), 1)
    with pytest.raises(WireError, match="next header"):
        open_tunnel(outer + before + inner)


def test_signalling_is_no_tunnel_packet() -> None:
    message = udp(bytes((1,)) + bytes(30), COA + HA, 434, 434)
    assert open_tunnel(packet(message, protocol=17, source=COA, destination=HA)) is None


def test_h63_a_udp_checksum_that_is_there_must_be_right() -> None:
    data = bytes((4, 4, 0, 0)) + packet(b"abc")
    message = udp(data, COA + HA, 40000, 434)
    made = packet(message, protocol=17, source=COA, destination=HA)
    assert open_tunnel(made) is not None
    with pytest.raises(WireError, match="UDP checksum"):
        open_tunnel(made[:-1] + b"!")


@given(
    st.binary(max_size=300),
    st.integers(68, 200),
    st.sampled_from([b"", b"\x94\x04\0\0", b"\x07\x03\x04\x94\x04\0\0\0", b"\x01\x01\0\0"]),
    st.sampled_from([0, 0x0010]),
)
def test_fragments_make_up_the_packet(
    payload: bytes, limit: int, options: bytes, offset: int
) -> None:
    whole = packet(payload, options=options, flags=offset)
    pieces = fragment(whole, limit)
    payloads = {}
    for number, piece in enumerate(pieces):
        assert right(piece)
        assert len(piece) <= limit
        header = ipv4.parse_header(piece)
        assert header.more_fragments == (number < len(pieces) - 1)
        payloads[header.fragment_offset - 8 * offset] = piece[header.header_length :]
        assert piece[4:6] == whole[4:6]
        if number and b"\x94\x04\0\0" in options:
            assert piece[20:24] == b"\x94\x04\0\0", "router alert is copied"
        if number and options.startswith(b"\x07"):
            assert header.header_length == 24, "record route is not"
    at = 0
    for start in sorted(payloads):
        assert start == at
        at += len(payloads[start])
    assert b"".join(payloads[start] for start in sorted(payloads)) == payload


def test_a_middle_fragment_stays_one() -> None:
    pieces = fragment(packet(bytes(96), flags=0x2000), 60)
    assert all(ipv4.parse_header(piece).more_fragments for piece in pieces)


def test_df_means_do_not() -> None:
    with pytest.raises(FragmentationNeededError):
        fragment(packet(bytes(100), flags=0x4000), 60)


@pytest.mark.parametrize("options", [b"\x07\x00\0\0", b"\x07\x05\0\0", b"\x01\x01\x01\x07"])
def test_h8_broken_options_end_the_fragmentation(options: bytes) -> None:
    with pytest.raises(WireError, match="option"):
        fragments.fragment(packet(bytes(100), options=options), 60)


def test_ttl() -> None:
    less = ipv4.decremented(packet(b"x", ttl=9))
    assert right(less)
    assert less == packet(b"x", ttl=8)
    for ttl in (0, 1):
        with pytest.raises(WireError):
            ipv4.decremented(packet(b"x", ttl=ttl))


def test_congestion_marks() -> None:
    assert ipv4.congestion_marked(packet(b"x", tos=0)) is None
    assert ipv4.congestion_marked(packet(b"x", tos=2)) == packet(b"x", tos=3)
    outer = OuterHeader(HA, COA, 4)
    assert ip_ip.encapsulate(outer, packet(b"x", tos=3), 1)[1] == 2


def test_an_error_quotes_what_fits() -> None:
    about = packet(bytes(1000), flags=0x4000)
    made = icmp.error(HA, about, 3, 4, 1400)
    assert made is not None
    assert right(made)
    assert len(made) == 576
    assert made[12:20] == HA + PEER
    told = icmp.parse_error(made)
    assert (told.type, told.code, told.mtu) == (3, 4, 1400)
    assert about.startswith(told.quote)


@pytest.mark.parametrize(
    "about",
    [
        packet(b"12345678", source=bytes(4)),
        packet(b"12345678", source=b"\x7f\0\0\1"),
        packet(b"12345678", source=b"\xe0\0\0\1"),
        packet(b"12345678", source=b"\xff\xff\xff\xff"),
        packet(b"12345678", destination=b"\xe0\0\0\1"),
        packet(b"12345678", flags=1),
        packet(b"\x03\x01234567", protocol=1),
        packet(b"\x0b\x001234567", protocol=1),
        packet(b"", protocol=1),
    ],
)
def test_when_no_error_may_be_sent(about: bytes) -> None:
    assert icmp.error(HA, about, 3, 1) is None


def test_an_error_about_an_echo_may_be_sent() -> None:
    assert icmp.error(HA, packet(b"\x08\0" + bytes(6), protocol=1), 11, 0) is not None


TO_PEER = AddressSwitch(COA + HA, HOA + PEER)
TO_NODE = AddressSwitch(PEER + HOA, HA + COA)


@given(st.binary(max_size=50), st.sampled_from([6, 17]))
def test_switched_checksums_are_right(data: bytes, protocol: int) -> None:
    make = {6: tcp, 17: udp}[protocol]
    sent = packet(make(data, COA + HA), protocol=protocol, source=COA, destination=HA)
    got = TO_PEER.apply(sent)
    assert got is not None
    assert right(got)
    assert l4_right(got)
    assert got[12:20] == HOA + PEER
    assert AddressSwitch(HOA + PEER, COA + HA).apply(got) == sent


def test_no_udp_checksum_stays_none() -> None:
    head = struct.pack("!HHHH", 1, 2, 9, 0) + b"x"
    got = TO_PEER.apply(packet(head, protocol=17, source=COA, destination=HA))
    assert got is not None
    assert got[26:28] == bytes(2)


@given(st.binary(min_size=2, max_size=2))
def test_a_udp_checksum_never_becomes_none(data: bytes) -> None:
    sent = packet(udp(data, COA + HA), protocol=17, source=COA, destination=HA)
    if sent[26:28] == bytes(2):
        return
    got = TO_PEER.apply(sent)
    assert got is not None
    assert got[26:28] != bytes(2)


@pytest.mark.parametrize("protocol", [1, 47, 50, 132, 253])
def test_content_without_a_pseudo_header_is_untouched(protocol: int) -> None:
    sent = packet(bytes(range(40)), protocol=protocol, source=COA, destination=HA)
    got = TO_PEER.apply(sent)
    assert got is not None
    assert got[20:] == sent[20:]
    assert right(got)


def test_h65_fragments_and_registrations_are_never_switched() -> None:
    for flags in (0x2000, 0x0001):
        assert TO_PEER.apply(packet(bytes(40), flags=flags)) is None
    for ports in ((434, 5000), (5000, 434)):
        assert TO_NODE.apply(packet(udp(b"x", PEER + HOA, *ports), protocol=17)) is None
    for protocol, size in ((6, 17), (17, 7)):
        assert TO_NODE.apply(packet(bytes(size), protocol=protocol)) is None


@pytest.mark.parametrize("cut", [8, 12, 24, 200])
@pytest.mark.parametrize("protocol", [6, 17])
def test_h65_a_translated_error_quotes_what_was_sent(cut: int, protocol: int) -> None:
    make = {6: tcp, 17: udp}[protocol]
    original = packet(make(b"data" * 10, PEER + HOA), protocol=protocol)
    switched = TO_NODE.apply(original)
    assert switched is not None
    about = icmp.error(ROUTER, switched[: 20 + cut], 3, 4, 1300)
    assert about is not None
    back = icmp.translated(about, ROUTER, PEER, AddressSwitch(HA + COA, PEER + HOA))
    told = icmp.parse_error(back)
    assert right(back)
    assert told.quote == original[: 20 + cut]
    assert told.mtu == 1300
    assert back[12:20] == ROUTER + PEER


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_agrees(tmp_path: Path) -> None:
    inner = packet(udp(b"hello", PEER + HOA), protocol=17)
    frames = list(tunnels(inner).values())
    error = icmp.error(HA, inner, 3, 4, 1400)
    switched = TO_NODE.apply(inner)
    assert error is not None
    assert switched is not None
    frames += [error, switched, *fragment(packet(bytes(100)), 60)]
    capture = tmp_path / "packets.pcap"
    capture.write_bytes(
        struct.pack("=IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
        + b"".join(struct.pack("=IIII", 1, 1, len(one), len(one)) + one for one in frames)
    )
    told = subprocess.run(
        ["tshark", "-r", capture, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
         "-T", "fields", "-e", "frame.protocols", "-e", "ip.checksum.status",
         "-e", "udp.checksum.status", "-e", "_ws.malformed", "-e", "icmp.checksum.status"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    assert len(told) == len(frames)
    for line in told:
        protocols, *statuses = line.split("\t")
        assert "_ws.malformed" not in protocols
        for status in statuses:
            assert "0" not in status.split(","), line
    assert "ip:gre:ip:udp" in told[1]
    assert "ipx" not in told[2]
