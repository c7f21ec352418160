"""Tuples and mappings: against a list that is searched as section 2.6 reads, and their bounds."""

import struct
from dataclasses import replace

import nar_packets as bed
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nar_packets import NB, NB_2, XA, XA_2, XB, YB, YB_2, a_tuple, mapping

from gateway.dataplane.packet.nar_demultiplex import arriving, sent
from gateway.dataplane.packet.nar_path import NarPath
from gateway.dataplane.packet.nar_tables import NarTables
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

# Few values each: random tuples and random packets meet often.
PORTS = st.sampled_from((20000, 20001, 20002))
FAR_PORTS = st.sampled_from((53, 80))
FAR = st.sampled_from((YB, YB_2))
NEAR = st.sampled_from((NB, NB_2))
CLIENTS = st.sampled_from((XA, XA_2))
SPIS = st.sampled_from((0x40000001, 0x40000002))
INNER = st.sampled_from((XB, "172.16.5.6"))
NUMBERS = st.sampled_from((0xC001, 0xC002))


@st.composite
def tuples(draw: st.DrawFn) -> NarTuple:
    protocol = draw(st.sampled_from(NarProtocol))
    address = draw(NEAR)
    if protocol is NarProtocol.TCP:
        remote = draw(st.none() | FAR)
        far_port = draw(st.none() | FAR_PORTS) if remote else None
        return a_tuple(protocol, draw(PORTS), remote, far_port, address)
    if protocol is NarProtocol.UDP:
        return a_tuple(protocol, draw(PORTS), None, draw(st.none() | FAR_PORTS), address)
    if protocol is NarProtocol.ICMP:
        return a_tuple(protocol, draw(NUMBERS), draw(FAR), address=address)
    if protocol.is_tunnel:
        return a_tuple(protocol, draw(INNER), draw(FAR), address=address)
    return a_tuple(protocol, draw(SPIS), address=address)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Of any of these tuples, and some that nobody has."""
    key = draw(tuples())
    flags = draw(st.sampled_from((0, 0, 0, 0x2000, 5, 0x2005)))
    far_port = draw(FAR_PORTS)
    packet = bed.incoming(key, source=draw(FAR), far_port=far_port, flags=flags)
    if key.protocol is NarProtocol.GRE:
        options = draw(st.sampled_from((0, 0x8000, 0x2000, 0xB000, 0x4000)))
        packet = bed.ip(47, bed.dotted(packet[12:16]), NB, bed.gre(packet[24:], options))
    return packet


@st.composite
def mappings(draw: st.DrawFn) -> NarMapping:
    key = draw(tuples())
    return mapping(
        key,
        draw(st.sampled_from((Delivery.IP_IP, Delivery.GRE, Delivery.TRANSLATED))),
        draw(CLIENTS),
        peer=draw(st.none() | FAR),
        client_port=draw(st.sampled_from((0, 0, 80))) if key.protocol.has_ports else 0,
    )


def fits(key: NarTuple, packet: bytes) -> bool:
    """Section 2.6, as one would say it."""
    seen = bed.judged(packet)
    if seen.flags & 0x1FFF or seen.protocol != key.protocol or seen.ends[1] != str(key.address):
        return False
    if key.remote is not None and seen.ends[0] != str(key.remote):
        return False
    if key.protocol.has_ports:
        assert seen.ports is not None
        return seen.ports[1] == key.value and key.remote_port in (None, seen.ports[0])
    if key.protocol is NarProtocol.ICMP:
        return struct.unpack("!H", seen.payload[4:6])[0] == key.value
    if key.protocol in (NarProtocol.ESP, NarProtocol.AH):
        at = 0 if key.protocol is NarProtocol.ESP else 4
        return struct.unpack("!I", seen.payload[at : at + 4])[0] == key.value
    if key.protocol is NarProtocol.GRE and seen.payload[0] & 0x40:
        return False
    assert seen.inner is not None
    return bed.packed(seen.inner.ends[1]) == key.value.to_bytes(4, "big")


def exactness(key: NarTuple) -> int:
    return (key.remote is not None) + (key.remote_port is not None)


def naive(mappings_there: dict[NarTuple, NarMapping], packet: bytes) -> NarMapping | None:
    fitting = [one for key, one in mappings_there.items() if fits(key, packet)]
    return max(fitting, key=lambda one: exactness(one.tuple), default=None)


@settings(max_examples=300)
@given(st.lists(mappings(), max_size=12), st.lists(tuples(), max_size=3), packets())
def test_the_tables_agree_with_a_list(
    there: list[NarMapping], gone: list[NarTuple], packet: bytes
) -> None:
    tables = NarTables()
    model: dict[NarTuple, NarMapping] = {}
    for one in there:
        tables.set(one, bed.packed(bed.NA))
        model[one.tuple] = one
    for key in gone:
        assert tables.remove(key) == (model.pop(key, None) is not None)
    expected = naive(model, packet)
    found = arriving(tables.outside, packet)
    assert (found.mapping if found else None) == expected


@settings(max_examples=300)
@given(st.lists(mappings(), max_size=10), tuples(), FAR, FAR_PORTS, CLIENTS)
def test_a_client_may_send_the_reverse_and_nothing_else(
    there: list[NarMapping], key: NarTuple, far: str, far_port: int, client: str
) -> None:
    """What it sends goes out just when the answer would come to it by the same delivery."""
    path = bed.the_path()
    model = {one.tuple: one for one in there}
    for one in there:
        path.set_mapping(one)
    destination = str(key.remote) if key.protocol.is_tunnel else far
    inner = bed.outgoing(key, source=str(key.address), destination=destination, far_port=far_port)
    path.arrived(bed.tunnelled(inner, client=client), bed.INSIDE)
    mine = [
        one
        for one in model.values()
        if str(one.client) == client and one.delivery is Delivery.IP_IP
    ]
    if key.protocol in (NarProtocol.ESP, NarProtocol.AH):
        # The SPIs are the peer's: with several mappings it is enough that one allows it.
        same = [
            one
            for one in mine
            if (one.tuple.protocol, one.tuple.address) == (key.protocol, key.address)
        ]
        allowed = any(one.peer is None or str(one.peer) == destination for one in same)
    else:
        answer = bed.incoming(key, source=destination, far_port=far_port)
        found = naive(model, answer)
        allowed = found in mine and found is not None
        allowed = allowed and found is not None and str(found.peer) in ("None", destination)
    assert bool(bed.sent(path)) == allowed


@settings(max_examples=200)
@given(st.lists(mappings(), max_size=12), st.randoms())
def test_nothing_is_left_behind(there: list[NarMapping], random: object) -> None:
    tables = NarTables()
    for one in there:
        tables.set(one, bed.packed(bed.NA))
    keys = list({one.tuple for one in there})
    random.shuffle(keys)  # type: ignore[attr-defined]
    for key in keys:
        assert tables.remove(key)
        assert not tables.remove(key)
    assert contents(tables) == contents(NarTables())


def contents(tables: NarTables) -> list[object]:
    """Everything that the tables hold, also what they do not say."""
    found: list[object] = [
        dict(one) for side in (tables.outside, tables.inside) for one in vars(side).values()
    ]
    found += [
        dict(one._others) for side in (tables.outside, tables.inside) for one in vars(side).values()
    ]
    return [*found, tables.entries, tables.clients, tables._addresses]


@settings(max_examples=500)
@given(st.binary(max_size=120), st.sampled_from((bed.INSIDE, bed.OUTSIDE, "other")))
def test_h72_random_octets_never_raise_and_change_nothing(octets: bytes, interface: str) -> None:
    path = everything()
    before = contents(path.tables)
    path.arrived(octets, interface)
    path.leaving(octets)
    assert contents(path.tables) == before


@settings(max_examples=500)
@given(packets(), st.data())
def test_h72_broken_packets_never_raise(packet: bytes, data: st.DataObject) -> None:
    path = everything()
    octets = bytearray(packet)
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(octets)[: data.draw(st.integers(0, len(octets)))]
    for one in (broken, bed.error_about(packet)[: 28 + len(broken)], bed.tunnelled(broken)):
        for interface in (bed.INSIDE, bed.OUTSIDE, "nar-l2tp-1"):
            path.arrived(one, interface)
            path.leaving(one)
    path.sends.clear()


def everything() -> NarPath:
    path = bed.the_path(
        *(mapping(key) for key in bed.ALL),
        *(
            mapping(replace(key, value=key.value + 100), Delivery.TRANSLATED, XA_2, client_port=0)
            for key in bed.TRANSLATABLE
        ),
    )
    path.set_l2tp(bed.packed(XA), "nar-l2tp-1", 9)
    return path


@pytest.mark.parametrize("key", bed.ALL, ids=str)
def test_later_fragments_fit_nothing(key: NarTuple) -> None:
    tables = NarTables()
    tables.set(mapping(key), bed.packed(bed.NA))
    assert arriving(tables.outside, bed.incoming(key, flags=0x2000)) is not None
    for flags in (1, 0x2001, 0x1FFF):
        assert arriving(tables.outside, bed.incoming(key, flags=flags)) is None
        assert sent(tables.outside, bed.outgoing(key, flags=flags)) is None


@pytest.mark.parametrize("key", bed.ALL, ids=str)
def test_headers_cut_short_fit_nothing(key: NarTuple) -> None:
    tables = NarTables()
    tables.set(mapping(key), bed.packed(bed.NA))
    whole = bed.incoming(key)
    needed = {6: 20, 17: 8, 1: 8, 4: 20, 47: 24, 50: 8, 51: 12}[key.protocol]
    for length in range(20 + needed):
        assert arriving(tables.outside, whole[:length]) is None
        cut = bed.ip(key.protocol, YB, NB, whole[20:length])
        assert arriving(tables.outside, cut) is None, length


@pytest.mark.parametrize("flags", [0, 0x8000, 0x2000, 0x1000, 0xA000, 0x9000, 0x3000, 0xB000])
def test_gre_with_options(flags: int) -> None:
    tables = NarTables()
    tables.set(mapping(bed.GRE_XB), bed.packed(bed.NA))
    inner = bed.ip(17, bed.CN, XB, bed.udp(bed.CN, XB, 1, 2))
    assert arriving(tables.outside, bed.ip(47, YB, NB, bed.gre(inner, flags))) is not None


@pytest.mark.parametrize(
    "head", ["40000800", "c0000800", "00010800", "04000800", "08000800", "00000806", "000086dd"]
)
def test_gre_with_routing_or_something_else_inside(head: str) -> None:
    tables = NarTables()
    tables.set(mapping(bed.GRE_XB), bed.packed(bed.NA))
    inner = bed.ip(17, bed.CN, XB, bed.udp(bed.CN, XB, 1, 2))
    packet = bed.ip(47, YB, NB, bytes.fromhex(head) + inner)
    assert arriving(tables.outside, packet) is None


@pytest.mark.parametrize("kind", [13, 14, 15, 16, 17, 18, 3, 9, 10, 255])
def test_only_echoes_have_an_identifier(kind: int) -> None:
    tables = NarTables()
    tables.set(mapping(bed.ECHO), bed.packed(bed.NA))
    message = bed.icmp(kind, 0, struct.pack("!HH", bed.ECHO.value, 1), b"")
    assert arriving(tables.outside, bed.ip(1, YB, NB, message)) is None


def test_options_of_the_ip_header_are_passed_over() -> None:
    tables = NarTables()
    tables.set(mapping(bed.UDP_ANY), bed.packed(bed.NA))
    packet = bed.ip(17, YB, NB, bed.udp(YB, NB, 1, 20001), options=b"\x94\x04\0\0")
    assert arriving(tables.outside, packet) is not None


@pytest.mark.parametrize(
    "key",
    [
        a_tuple(NarProtocol.TCP, 1, None, 80),
        a_tuple(NarProtocol.TCP, 65536),
        a_tuple(NarProtocol.UDP, 1, YB),
        a_tuple(NarProtocol.UDP, 1, None, 65536),
        a_tuple(NarProtocol.ICMP, 1),
        a_tuple(NarProtocol.ICMP, -1, YB),
        a_tuple(NarProtocol.IP_IP, XB),
        a_tuple(NarProtocol.GRE, XB),
        a_tuple(NarProtocol.ESP, 1, YB),
        a_tuple(NarProtocol.AH, 1 << 32),
    ],
    ids=str,
)
def test_tuples_that_the_draft_has_not(key: NarTuple) -> None:
    tables = NarTables()
    with pytest.raises(ValueError, match="no tuple of draft 004"):
        tables.set(mapping(key), bed.packed(bed.NA))
    assert contents(tables) == contents(NarTables())


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(port: int) -> None:
    tables = NarTables()
    with pytest.raises(ValueError, match="0 to 65535"):
        tables.set(mapping(bed.TCP_ANY, Delivery.TRANSLATED, client_port=port), bed.packed(bed.NA))
    assert contents(tables) == contents(NarTables())


def test_replacing_a_mapping_moves_it() -> None:
    tables = NarTables()
    tables.set(mapping(bed.UDP_ANY), bed.packed(bed.NA))
    second = tables.set(mapping(bed.UDP_ANY, client=XA_2), bed.packed(bed.NA))
    assert arriving(tables.outside, bed.incoming(bed.UDP_ANY)) is second
    assert tables.set(mapping(bed.UDP_ANY, client=XA_2), bed.packed(bed.NA)) is second
    assert [end.address for end in tables.clients.values()] == [bed.packed(XA_2)]


def test_the_same_port_of_a_client_at_two_addresses() -> None:
    """The one that was there first has what the client sends; then the other."""
    first = mapping(bed.TCP_ANY, Delivery.TRANSLATED, client_port=80)
    second = replace(first, tuple=replace(bed.TCP_ANY, address=bed.SERVER.addresses[1]))
    path = bed.the_path(first, second)
    packet = bed.outgoing(bed.TCP_ANY, source=XA, port=80)
    path.arrived(packet, bed.INSIDE)
    assert bed.judged(bed.sent(path)[0]).ends == (NB, YB)
    path.remove_mapping(first.tuple)
    path.arrived(packet, bed.INSIDE)
    assert bed.judged(bed.sent(path)[0]).ends == (NB_2, YB)
