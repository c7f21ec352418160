"""The path of packets through a NAR server, one packet at a time: no kernel, no clock."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import nar_packets as bed
import pytest
from nar_packets import (
    DF,
    INSIDE,
    NA,
    NB,
    NB_2,
    OUTSIDE,
    ROUTER,
    ROUTER_INSIDE,
    XA,
    XA_2,
    XB,
    YB,
    YB_2,
    incoming,
    judged,
    mapping,
    outgoing,
    sent,
    the_path,
    tunnelled,
)

from gateway.dataplane.packet.nar_path import DROPPED, UNCHANGED
from gateway.domain.nar import Delivery, NarProtocol, NarTuple

TUNNELLED = (Delivery.IP_IP, Delivery.GRE)
each_tunnel = pytest.mark.parametrize("delivery", TUNNELLED)
each_tuple = pytest.mark.parametrize("key", bed.ALL, ids=str)
each_translatable = pytest.mark.parametrize("key", bed.TRANSLATABLE, ids=str)


# End-to-end: draft 004, section 2.3.


@each_tunnel
@each_tuple
def test_end_to_end_to_the_client(key: NarTuple, delivery: Delivery) -> None:
    path = the_path(mapping(key, delivery))
    packet = incoming(key, tos=0xB8)
    assert path.arrived(packet, OUTSIDE) == DROPPED
    (made,) = sent(path)
    seen = judged(made)
    assert seen.ends == (NA, XA)
    assert seen.protocol == (4 if delivery is Delivery.IP_IP else 47)
    assert (seen.tos, seen.ttl, seen.flags) == (0xB8, 64, 0)
    assert seen.inner is not None
    assert seen.inner.octets == bed.hop(packet), "unmodified but for what routing changes"
    if delivery is Delivery.GRE:
        assert seen.payload[:4] == bytes.fromhex("00000800")


@each_tunnel
@each_tuple
def test_end_to_end_from_the_client(key: NarTuple, delivery: Delivery) -> None:
    path = the_path(mapping(key, delivery))
    inner = outgoing(key)
    assert path.arrived(tunnelled(inner, delivery), INSIDE) == DROPPED
    assert sent(path) == [bed.hop(inner)]
    assert path.counters["sent"] == 1


@each_tuple
def test_h73_nothing_without_a_mapping(key: NarTuple) -> None:
    path = the_path()
    assert path.arrived(incoming(key), OUTSIDE) == UNCHANGED
    assert path.arrived(tunnelled(outgoing(key)), INSIDE) == UNCHANGED, "no client: the host's"
    assert path.arrived(outgoing(key, source=XA), INSIDE) == UNCHANGED
    path.set_mapping(mapping(key))
    path.remove_mapping(key)
    assert path.arrived(incoming(key), OUTSIDE) == UNCHANGED
    assert not path.sends


@each_tuple
def test_h73_a_tunnel_is_only_for_what_is_leased(key: NarTuple) -> None:
    path = the_path(mapping(bed.a_tuple(NarProtocol.UDP, 29999)))
    assert path.arrived(tunnelled(outgoing(key)), INSIDE) == DROPPED
    assert path.counters["spoofed"] == 1
    assert not path.sends


@each_tuple
def test_h73_another_clients_lease_is_of_no_use(key: NarTuple) -> None:
    path = the_path(
        mapping(key, client=XA_2), mapping(bed.a_tuple(NarProtocol.UDP, 29999), client=XA)
    )
    assert path.arrived(tunnelled(outgoing(key)), INSIDE) == DROPPED
    assert not path.sends
    assert path.arrived(tunnelled(outgoing(key), client=XA_2), INSIDE) == DROPPED
    assert len(sent(path)) == 1


def test_h73_from_a_wrong_interface_or_in_a_wrong_tunnel() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    inner = outgoing(bed.UDP_ANY)
    assert path.arrived(tunnelled(inner), OUTSIDE) == UNCHANGED
    assert path.arrived(tunnelled(inner, Delivery.GRE), INSIDE) == DROPPED
    assert path.arrived(incoming(bed.UDP_ANY), INSIDE) == UNCHANGED
    assert not path.sends


@pytest.mark.parametrize(
    ("key", "peer"),
    [(bed.UDP_ANY, YB_2), (bed.ESP_SPI, YB_2), (bed.AH_SPI, YB_2), (bed.TCP_ANY, YB_2)],
)
def test_the_peer_bounds_what_is_sent(key: NarTuple, peer: str) -> None:
    path = the_path(mapping(key, peer=peer))
    path.arrived(tunnelled(outgoing(key, destination=YB)), INSIDE)
    assert not sent(path)
    path.arrived(tunnelled(outgoing(key, destination=peer)), INSIDE)
    assert len(sent(path)) == 1
    path.arrived(incoming(key, source=YB), OUTSIDE)
    assert len(sent(path)) == 1, "incoming is not bound"


FORBIDDEN = replace(
    bed.SETTINGS,
    servers=(
        replace(bed.SERVER, forbidden=(IPv4Network("10.9.0.0/16"), IPv4Network("10.8.0.0/16"))),
    ),
)
OUT_OF_BOUNDS = (
    "0.1.2.3",
    "127.0.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    NA,
    NB,
    NB_2,
    "10.8.0.0",
    "10.9.255.255",
)


@pytest.mark.parametrize("destination", OUT_OF_BOUNDS)
def test_h76_where_no_client_sends_to(destination: str) -> None:
    path = the_path(mapping(bed.UDP_ANY), settings=FORBIDDEN)
    inner = outgoing(bed.UDP_ANY, destination=destination)
    assert path.arrived(tunnelled(inner), INSIDE) == DROPPED
    path.set_mapping(mapping(bed.UDP_ANY, Delivery.TRANSLATED))
    packet = outgoing(bed.UDP_ANY, source=XA, destination=destination)
    ours = destination in (NA, NB, NB_2)
    assert path.arrived(packet, INSIDE) == (UNCHANGED if ours else DROPPED)
    assert not path.sends
    assert path.counters == {"forbidden": 2 - ours}


@pytest.mark.parametrize("destination", ["10.7.255.255", "10.10.0.0", "1.0.0.0", "223.255.255.255"])
def test_what_is_beside_it_is_allowed(destination: str) -> None:
    path = the_path(mapping(bed.UDP_ANY), settings=FORBIDDEN)
    path.arrived(tunnelled(outgoing(bed.UDP_ANY, destination=destination)), INSIDE)
    assert len(sent(path)) == 1


def test_two_clients_behind_one_address_reach_each_other() -> None:
    other = bed.a_tuple(NarProtocol.UDP, 20009)
    path = the_path(mapping(bed.UDP_ANY), mapping(other, client=XA_2))
    inner = outgoing(bed.UDP_ANY, destination=NB, far_port=20009)
    path.arrived(tunnelled(inner), INSIDE)
    (made,) = sent(path)
    seen = judged(made)
    assert seen.ends == (NA, XA_2)
    assert seen.inner is not None
    assert seen.inner.octets == bed.hop(inner)


def test_errors_between_two_clients() -> None:
    other = bed.a_tuple(NarProtocol.UDP, 20009)
    path = the_path(mapping(bed.UDP_ANY), mapping(other, client=XA_2))
    about = outgoing(bed.UDP_ANY, destination=NB, far_port=20009)
    told = bed.error_about(about, source=NB, code=3)
    path.arrived(tunnelled(told, client=XA_2), INSIDE)
    seen = judged(sent(path)[0])
    assert seen.ends == (NA, XA)
    assert seen.inner is not None
    assert seen.inner.octets == bed.hop(told)
    path.arrived(tunnelled(told), INSIDE)
    assert not sent(path), "the first never got that"


def test_h77_two_clients_with_the_same_peer_and_esp() -> None:
    second = replace(bed.ESP_SPI, value=0x40009999)
    path = the_path(
        mapping(bed.ESP_SPI, peer=YB),
        mapping(second, client=XA_2, peer=YB),
    )
    for key, client in ((bed.ESP_SPI, XA), (second, XA_2)):
        path.arrived(incoming(key), OUTSIDE)
        (made,) = sent(path)
        assert judged(made).ends == (NA, client)
        path.arrived(tunnelled(outgoing(key), client=client), INSIDE)
        assert len(sent(path)) == 1


# The tunnel's header: RFC 2003 section 3.1, RFC 6040.


@each_tunnel
def test_dont_fragment_is_copied(delivery: Delivery) -> None:
    path = the_path(mapping(bed.UDP_ANY, delivery))
    path.arrived(incoming(bed.UDP_ANY, flags=DF), OUTSIDE)
    assert judged(sent(path)[0]).flags == DF


def test_congestion_marks() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    path.arrived(incoming(bed.UDP_ANY, tos=3), OUTSIDE)
    seen = judged(sent(path)[0])
    assert seen.inner is not None
    assert (seen.tos, seen.inner.tos) == (2, 3)
    path.arrived(tunnelled(bed.ip(17, NB, YB, bed.udp(NB, YB, 20001, 9), tos=2), tos=3), INSIDE)
    assert judged(sent(path)[0]).tos == 3
    path.arrived(tunnelled(outgoing(bed.UDP_ANY), tos=3), INSIDE)
    assert not sent(path), "its sender does not know of ECN: the loss tells"


def test_time_exceeded() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    packet = incoming(bed.UDP_ANY, ttl=1)
    path.arrived(packet, OUTSIDE)
    seen = judged(sent(path)[0])
    assert (seen.ends, seen.payload[:2]) == ((NB, YB), b"\x0b\0")
    assert seen.payload[8:] == packet
    inner = outgoing(bed.UDP_ANY, ttl=1)
    path.arrived(tunnelled(inner), INSIDE)
    seen = judged(sent(path)[0])
    assert seen.ends == (NA, XA)
    assert seen.inner is not None
    assert (seen.inner.ends, seen.inner.payload[8:]) == ((NA, NB), inner)


def test_too_long_for_the_tunnel() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    payload = bed.udp(YB, NB, 5, 20001, bytes(2000))
    path.arrived(bed.ip(17, YB, NB, payload, flags=DF), OUTSIDE)
    seen = judged(sent(path)[0])
    assert seen.ends == (NB, YB)
    assert seen.payload[:2] == b"\3\4"
    assert int.from_bytes(seen.payload[6:8], "big") == 1480
    path.arrived(bed.ip(17, YB, NB, payload), OUTSIDE)
    pieces = [judged(one) for one in sent(path)]
    assert [len(one.octets) <= 1500 for one in pieces] == [True, True]
    inner = [one.inner for one in pieces]
    assert [one.flags for one in inner if one] == [0x2000, 182]
    assert b"".join(one.payload for one in inner if one) == payload


def test_a_link_that_takes_less() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    path.arrived(incoming(bed.UDP_ANY, flags=DF), OUTSIDE)
    one = path.sends.pop()
    path.too_long(one, 50)
    seen = judged(sent(path)[0])
    assert (seen.ends, int.from_bytes(seen.payload[6:8], "big")) == ((NB, YB), 30)
    inner = outgoing(bed.UDP_ANY, flags=DF)
    path.arrived(tunnelled(inner), INSIDE)
    one = path.sends.pop()
    path.too_long(one, 30)
    seen = judged(sent(path)[0])
    assert seen.ends == (NA, XA)
    assert seen.inner is not None
    assert seen.inner.payload[8:] == inner
    big = bed.ip(17, YB, NB, bed.udp(YB, NB, 5, 20001, bytes(1000)))
    path.arrived(big, OUTSIDE)
    path.too_long(path.sends.pop(), 576)
    assert [judged(made).ends for made in sent(path)] == [(NA, XA)] * 2


def test_fragments_in_a_clients_tunnel_are_put_together() -> None:
    path = the_path(mapping(bed.UDP_ANY), mapping(replace(bed.UDP_ANY, value=7), client=XA_2))
    datagram = bed.udp(NB, YB, 20001, 9, bytes(range(256)) * 4)
    first = bed.ip(17, NB, YB, datagram[:512], flags=0x2000)
    last = bed.ip(17, NB, YB, datagram[512:], flags=64)
    path.arrived(tunnelled(first), INSIDE)
    path.arrived(tunnelled(last, client=XA_2), INSIDE)
    assert not sent(path), "another client's piece does not fit"
    path.arrived(tunnelled(last), INSIDE)
    seen = judged(sent(path)[0])
    assert (seen.ends, seen.payload) == ((NB, YB), datagram)


def test_pieces_with_a_source_that_is_not_lent_are_not_kept() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    for number in range(40):
        piece = bed.ip(17, NB_2, YB, bytes(8), flags=0x2000, identification=number)
        path.arrived(tunnelled(piece), INSIDE)
    assert path.counters == {"spoofed": 40}


# Translated: draft 004, section 2.4.


@each_translatable
def test_translated_to_the_client(key: NarTuple) -> None:
    path = the_path(mapping(key, Delivery.TRANSLATED))
    packet = incoming(key)
    assert path.arrived(packet, OUTSIDE) == DROPPED
    (made,) = sent(path)
    seen = judged(made)
    before = judged(packet)
    assert seen.ends == (NA if key in bed.TUNNELS else YB, XA)
    assert (seen.protocol, seen.ports, seen.ttl) == (before.protocol, before.ports, before.ttl - 1)
    assert len(made) == len(packet)


@each_translatable
def test_translated_from_the_client(key: NarTuple) -> None:
    path = the_path(mapping(key, Delivery.TRANSLATED))
    expected = bed.hop(outgoing(key))
    assert path.arrived(outgoing(key, source=XA), INSIDE) == DROPPED
    (made,) = sent(path)
    judged(made)
    assert made == expected
    assert path.arrived(outgoing(key, source=XA), OUTSIDE) == UNCHANGED
    assert path.arrived(outgoing(key, source=XA_2), INSIDE) == UNCHANGED
    assert not path.sends


@pytest.mark.parametrize("key", bed.TUNNELS)
def test_translated_tunnels_as_the_draft_draws_them(key: NarTuple) -> None:
    """Section 2.6.3: Yb->Nb { CN->Xb } is delivered as Na->Xa { CN->Xb }."""
    path = the_path(mapping(key, Delivery.TRANSLATED))
    packet = incoming(key)
    path.arrived(packet, OUTSIDE)
    made = sent(path)[0]
    seen, before = judged(made), judged(packet)
    assert seen.ends == (NA, XA)
    assert seen.inner is not None
    assert seen.inner.ends == (bed.CN, XB)
    assert seen.payload == before.payload
    for far in (NA, YB):
        path.arrived(outgoing(key, source=XA, destination=far), INSIDE)
        made = sent(path)[0]
        assert judged(made).ends == (NB, YB)
        assert judged(made).payload == outgoing(key)[20:]


@pytest.mark.parametrize("key", bed.TUNNELS)
def test_end_to_end_tunnels_as_the_draft_draws_them(key: NarTuple) -> None:
    """Section 2.6.3: Yb->Nb { CN->Xb } is delivered as Na->Xa { Yb->Nb { CN->Xb } }."""
    path = the_path(mapping(key))
    path.arrived(incoming(key), OUTSIDE)
    seen = judged(sent(path)[0])
    assert seen.ends == (NA, XA)
    assert seen.inner is not None
    assert seen.inner.ends == (YB, NB)
    assert seen.inner.inner is not None
    assert seen.inner.inner.ends == (bed.CN, XB)


@pytest.mark.parametrize("key", [bed.TCP_ANY, bed.UDP_ANY])
def test_a_server_mapping_has_a_port_of_its_own_inside(key: NarTuple) -> None:
    path = the_path(mapping(key, Delivery.TRANSLATED, client_port=80))
    path.arrived(incoming(key), OUTSIDE)
    seen = judged(sent(path)[0])
    assert (seen.ends, seen.ports) == ((YB, XA), (4321, 80))
    path.arrived(outgoing(key, source=XA, port=80), INSIDE)
    made = sent(path)[0]
    judged(made)
    assert made == bed.hop(outgoing(key))
    assert path.arrived(outgoing(key, source=XA), INSIDE) == UNCHANGED, "not the leased one"


def test_the_peer_bounds_what_is_translated() -> None:
    path = the_path(mapping(bed.UDP_ANY, Delivery.TRANSLATED, peer=YB_2))
    assert path.arrived(outgoing(bed.UDP_ANY, source=XA), INSIDE) == UNCHANGED
    assert not path.sends
    path.arrived(outgoing(bed.UDP_ANY, source=XA, destination=YB_2), INSIDE)
    assert len(sent(path)) == 1


def test_a_udp_checksum_of_none_stays_none() -> None:
    path = the_path(mapping(bed.UDP_ANY, Delivery.TRANSLATED, client_port=80))
    path.arrived(bed.ip(17, YB, NB, bed.udp(YB, NB, 5, 20001, bare=True)), OUTSIDE)
    seen = judged(sent(path)[0])
    assert (seen.ports, seen.payload[6:8]) == ((5, 80), b"\0\0")


def test_a_computed_udp_checksum_never_becomes_none() -> None:
    path = the_path(mapping(bed.UDP_ANY, Delivery.TRANSLATED))
    data = bed.udp(YB, XA, 5, 20001, b"\0\0")[6:8]
    assert bed.udp(YB, XA, 5, 20001, data)[6:8] == b"\xff\xff", "the sum is 0, which means none"
    path.arrived(bed.ip(17, YB, NB, bed.udp(YB, NB, 5, 20001, data)), OUTSIDE)
    seen = judged(sent(path)[0])
    assert seen.payload[6:8] == b"\xff\xff"


# ICMP errors: RFC 3022 section 4.3, RFC 5508 section 4.


@each_tunnel
@each_tuple
def test_an_error_about_what_a_client_sent_reaches_it(key: NarTuple, delivery: Delivery) -> None:
    path = the_path(mapping(key, delivery))
    told = bed.error_about(outgoing(key), keep=None if key in bed.TUNNELS else 8)
    assert path.arrived(told, OUTSIDE) == DROPPED
    seen = judged(sent(path)[0])
    assert seen.ends == (NA, XA)
    assert seen.inner is not None
    assert seen.inner.octets == bed.hop(told)


@each_translatable
@pytest.mark.parametrize("keep", [8, None])
def test_an_error_is_translated_with_its_quote(key: NarTuple, keep: int | None) -> None:
    path = the_path(mapping(key, Delivery.TRANSLATED))
    path.arrived(bed.error_about(outgoing(key), keep=keep, kind=3, code=4, mtu=1400), OUTSIDE)
    seen = judged(sent(path)[0])
    assert seen.ends == (ROUTER, XA)
    assert seen.payload[:2] == b"\3\4"
    assert seen.payload[6:8] == (1400).to_bytes(2, "big")
    assert seen.inner is not None
    far = NA if key in bed.TUNNELS else YB
    as_sent = outgoing(key, source=XA, destination=far)
    assert seen.inner.octets == as_sent[: len(seen.inner.octets)]


@pytest.mark.parametrize("key", [bed.TCP_ANY, bed.UDP_ANY])
def test_an_error_is_translated_with_the_port_in_its_quote(key: NarTuple) -> None:
    path = the_path(mapping(key, Delivery.TRANSLATED, client_port=80))
    path.arrived(bed.error_about(outgoing(key)), OUTSIDE)
    seen = judged(sent(path)[0])
    assert seen.inner is not None
    assert seen.inner.octets == outgoing(key, source=XA, port=80)


@pytest.mark.parametrize("source", [XA, ROUTER_INSIDE])
@pytest.mark.parametrize("key", [*bed.TRANSLATABLE], ids=str)
def test_an_error_from_inside_shows_nothing_of_the_inside(key: NarTuple, source: str) -> None:
    path = the_path(mapping(key, Delivery.TRANSLATED))
    packet = incoming(key)
    path.arrived(packet, OUTSIDE)
    told = bed.error_about(sent(path)[0], source=source)
    assert path.arrived(told, INSIDE) == DROPPED
    (made,) = sent(path)
    seen = judged(made)
    assert seen.ends == (NB, YB)
    assert seen.inner is not None
    assert seen.inner.octets == bed.hop(packet)
    assert bed.packed(XA) not in made
    assert bed.packed(NA) not in made


@each_tuple
def test_a_clients_own_error_goes_to_who_caused_it(key: NarTuple) -> None:
    path = the_path(mapping(key), mapping(replace(bed.UDP_ANY, value=7), client=XA_2))
    told = bed.error_about(incoming(key), source=NB, code=3)
    path.arrived(tunnelled(told), INSIDE)
    assert sent(path) == [bed.hop(told)]
    path.arrived(tunnelled(told, client=XA_2), INSIDE)
    assert not sent(path), "about what it never got"
    elsewhere = told[:16] + bed.packed(YB_2) + told[20:]
    head = elsewhere[:10] + b"\0\0" + elsewhere[12:20]
    elsewhere = head[:10] + bed.rfc1071(head).to_bytes(2, "big") + elsewhere[12:]
    path.arrived(tunnelled(elsewhere), INSIDE)
    assert not sent(path), "to somebody else"


def test_a_clients_error_comes_from_the_address_that_it_is_about() -> None:
    other = replace(bed.UDP_ANY, address=IPv4Address(NB_2))
    path = the_path(mapping(bed.UDP_ANY), mapping(other))
    told = bed.error_about(incoming(bed.UDP_ANY), source=NB_2, code=3)
    path.arrived(tunnelled(told), INSIDE)
    assert not sent(path)
    assert path.counters == {"spoofed": 1}


def test_a_translated_clients_error_goes_to_who_caused_it() -> None:
    path = the_path(mapping(bed.UDP_ANY, Delivery.TRANSLATED))
    about = bed.ip(17, YB, XA, bed.udp(YB, XA, 9, 20001))
    message = bed.error_about(about)[20:]
    path.arrived(bed.ip(1, XA, YB_2, message), INSIDE)
    assert not sent(path)
    path.arrived(bed.ip(1, XA, YB, message), INSIDE)
    assert len(sent(path)) == 1


@pytest.mark.parametrize(("flags", "mtu"), [(0, 1000), (DF, 100), (DF, 1500), (DF, 0)])
def test_errors_about_the_tunnel_that_cannot_be_true(flags: int, mtu: int) -> None:
    path = the_path(mapping(bed.UDP_ANY))
    packet = bed.ip(17, YB, NB, bed.udp(YB, NB, 5, 20001, bytes(1200)), flags=flags)
    path.arrived(packet, OUTSIDE)
    (carried,) = sent(path)
    told = bed.error_about(carried, source=ROUTER_INSIDE, code=4, mtu=mtu)
    assert path.arrived(told, INSIDE) == UNCHANGED
    assert not sent(path)
    path.arrived(packet, OUTSIDE)
    assert judged(sent(path)[0]).ends == (NA, XA), "nothing was learnt"


def test_an_error_about_esp_of_two_clients_is_nobodys() -> None:
    second = replace(bed.ESP_SPI, value=0x40009999)
    path = the_path(mapping(bed.ESP_SPI, peer=YB), mapping(second, client=XA_2, peer=YB))
    told = bed.error_about(outgoing(bed.ESP_SPI), keep=8)
    assert path.arrived(told, OUTSIDE) == UNCHANGED
    path.remove_mapping(bed.ESP_SPI)
    path.arrived(told, OUTSIDE)
    assert judged(sent(path)[0]).ends == (NA, XA_2)


def test_an_error_about_what_the_box_sent_is_its_own() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    told = bed.error_about(outgoing(replace(bed.UDP_ANY, value=33333)))
    assert path.arrived(told, OUTSIDE) == UNCHANGED


@each_tunnel
def test_an_error_about_the_tunnel_is_told_on(delivery: Delivery) -> None:
    """RFC 2003 sections 4 and 5.1."""
    path = the_path(mapping(bed.UDP_ANY, delivery))
    overhead = 20 if delivery is Delivery.IP_IP else 24
    packet = bed.ip(17, YB, NB, bed.udp(YB, NB, 5, 20001, bytes(1200)), flags=DF)
    path.arrived(packet, OUTSIDE)
    told = bed.error_about(sent(path)[0], source=ROUTER_INSIDE, code=4, mtu=1000)
    assert path.arrived(told, INSIDE) == UNCHANGED, "the host hears of it too"
    seen = judged(sent(path)[0])
    assert (seen.ends, seen.payload[:2]) == ((NB, YB), b"\3\4")
    assert int.from_bytes(seen.payload[6:8], "big") == 1000 - overhead
    path.arrived(packet, OUTSIDE)
    seen = judged(sent(path)[0])
    assert (seen.ends, seen.payload[:2]) == ((NB, YB), b"\3\4"), "known from now on"
    path.advance(601.0)
    path.arrived(packet, OUTSIDE)
    told = bed.error_about(sent(path)[0], source=ROUTER_INSIDE, kind=11, code=0)
    path.arrived(told, INSIDE)
    assert judged(sent(path)[0]).payload[:2] == b"\3\1"
    strange = bed.ip(4, NA, XA, incoming(bed.TCP_ANY))
    assert path.arrived(bed.error_about(strange, source=ROUTER_INSIDE), INSIDE) == UNCHANGED
    elsewhere = bed.ip(4, NA, XA_2, packet)
    assert path.arrived(bed.error_about(elsewhere, source=ROUTER_INSIDE), INSIDE) == UNCHANGED
    assert not sent(path)


def test_our_hosts_errors_speak_of_the_lent_address() -> None:
    path = the_path(mapping(bed.UDP_ANY), mapping(bed.TCP_ANY, Delivery.TRANSLATED, client_port=80))
    about = bed.ip(17, YB, XA, bed.udp(YB, XA, 5, 20001))
    verdict, made, _ = path.leaving(bed.error_about(about, source=NB))
    assert (verdict, made is not None) == (1, True)
    seen = judged(made or b"")
    assert seen.inner is not None
    assert seen.inner.octets == bed.ip(17, YB, NB, bed.udp(YB, NB, 5, 20001))
    about = bed.ip(6, YB, XA, bed.tcp(YB, XA, 5, 80))
    _, made, _ = path.leaving(bed.error_about(about, source=NB))
    seen = judged(made or b"")
    assert seen.inner is not None
    assert seen.inner.octets == bed.ip(6, YB, NB, bed.tcp(YB, NB, 5, 20002))


def test_our_hosts_errors_about_a_clients_packets_go_to_it() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    told = bed.error_about(outgoing(bed.UDP_ANY), source=NA)
    assert path.leaving(told) == DROPPED
    seen = judged(sent(path)[0])
    assert seen.ends == (NA, XA)
    assert seen.inner is not None
    assert seen.inner.octets == told
    path.leaving(bed.error_about(outgoing(bed.UDP_ANY), source=NB))
    seen = judged(sent(path)[0])
    assert seen.inner is not None
    assert seen.inner.octets == told, "nobody believes an error of an own address"
    mine = bed.error_about(outgoing(replace(bed.UDP_ANY, value=7)), source=NA)
    assert path.leaving(mine) == UNCHANGED


# L2TP: the kernel has the tunnel.


def test_l2tp_by_the_clients_interface() -> None:
    path = the_path(mapping(bed.UDP_ANY, Delivery.L2TP))
    packet = incoming(bed.UDP_ANY)
    path.arrived(packet, OUTSIDE)
    assert path.counters["no_l2tp_session"] == 1
    path.set_l2tp(bed.packed(XA), "nar-l2tp-7", 99)
    path.arrived(packet, OUTSIDE)
    one = path.sends.pop()
    assert (one.octets, one.device) == (bed.hop(packet), 99)
    path.arrived(outgoing(bed.UDP_ANY), "nar-l2tp-7")
    assert sent(path) == [bed.hop(outgoing(bed.UDP_ANY))]
    path.arrived(outgoing(bed.UDP_ANY, source=NB_2), "nar-l2tp-7")
    path.arrived(outgoing(replace(bed.UDP_ANY, value=7)), "nar-l2tp-7")
    assert path.counters["spoofed"] == 2
    path.remove_l2tp(bed.packed(XA))
    path.remove_l2tp(bed.packed(XA))
    assert path.arrived(outgoing(bed.UDP_ANY), "nar-l2tp-7") == UNCHANGED


def test_a_reload_moves_and_forgets() -> None:
    path = the_path(mapping(bed.UDP_ANY))
    moved = replace(bed.SERVER, tunnel_address=IPv4Address("10.1.0.2"))
    path.reconfigure(replace(bed.SETTINGS, servers=(moved,)))
    path.arrived(incoming(bed.UDP_ANY), OUTSIDE)
    assert judged(sent(path)[0]).ends == ("10.1.0.2", XA)
    path.reconfigure(replace(bed.SETTINGS, servers=()))
    assert path.arrived(incoming(bed.UDP_ANY), OUTSIDE) == UNCHANGED
    assert not path.tables.entries
    assert not path.tables.clients
    with pytest.raises(ValueError, match="no NAR server soho"):
        path.set_mapping(mapping(bed.UDP_ANY))
