"""Which SA a packet belongs to, and several processes that share the work."""

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network

import esp_bed as bed
import pytest
from esp_bed import LINK, both_ends, engine, opened, sealed

from gateway.dataplane.packet import marks
from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.dataplane.portable.esp.owners import inbound_owner, outbound_owner
from gateway.dataplane.portable.esp.routing import MAX_ALLOWED, MAX_FLOWS
from gateway.domain.child_sa import ChildSa, TrafficSelector

ANY = bed.network("0.0.0.0/0")


def ports(
    text: str, protocol: int = 0, first: int = 0, last: int = 65535
) -> tuple[TrafficSelector, ...]:
    return (replace(bed.network(text), protocol=protocol, start_port=first, end_port=last),)


def between(
    reqid: int,
    local: tuple[TrafficSelector, ...],
    remote: tuple[TrafficSelector, ...],
    zone: int = 0,
) -> ChildSa:
    return both_ends(spi=reqid * 16, reqid=reqid, local_ts=local, remote_ts=remote, zone=zone)[0]


def with_sas(*sas: ChildSa) -> EspEngine:
    made = engine()
    for sa in sas:
        assert made.install(sa, outbound=True) is None
    return made


def reqid_of(gateway: EspEngine, packet: bytes, mark: int = 0) -> int | None:
    """By the SPI that it was sealed for."""
    found = sealed(gateway, packet, mark=mark)
    return int.from_bytes(found[0][20:24], "big") // 16 if found else None


def test_the_longest_destination_prefix_counts() -> None:
    gateway = with_sas(
        between(1, (ANY,), (ANY,)),
        between(2, (ANY,), (bed.network("10.9.0.5/32"),)),
        between(3, (ANY,), (bed.network("10.9.0.0/24"),)),
    )
    for _ in range(2):
        assert reqid_of(gateway, bed.udp4("10.1.0.1", "10.9.0.5")) == 2
        assert reqid_of(gateway, bed.udp4("10.1.0.1", "10.9.0.6")) == 3
        assert reqid_of(gateway, bed.udp4("10.1.0.1", "10.9.1.6")) == 1
    gateway.remove(2 * 16)
    assert reqid_of(gateway, bed.udp4("10.1.0.1", "10.9.0.5")) == 3


def test_then_the_source_then_protocol_and_ports() -> None:
    host = (bed.network("10.9.0.5/32"),)
    gateway = with_sas(
        between(1, (bed.network("10.1.0.0/16"),), host),
        between(2, (bed.network("10.1.2.0/24"),), host),
        between(3, ports("10.1.0.0/16", 17), host),
        between(4, ports("10.1.0.0/16", 17), ports("10.9.0.5/32", 17, 80, 80)),
    )
    assert reqid_of(gateway, bed.udp4("10.1.2.1", "10.9.0.5")) == 2
    assert reqid_of(gateway, bed.udp4("10.1.3.1", "10.9.0.5", protocol=6)) == 1
    for _ in range(2):
        assert reqid_of(gateway, bed.udp4("10.1.3.1", "10.9.0.5", ports=(1, 80))) == 4
        assert reqid_of(gateway, bed.udp4("10.1.3.1", "10.9.0.5", ports=(1, 81))) == 3
    assert reqid_of(gateway, bed.udp4("10.2.0.1", "10.9.0.5")) is None


@pytest.mark.parametrize(("first", "last"), [(0, 79), (80, 80), (81, 65535), (1000, 2999)])
def test_port_ranges(first: int, last: int) -> None:
    gateway = with_sas(between(1, (ANY,), ports("10.9.0.5/32", 17, first, last)))
    for port in (0, 1, 79, 80, 81, 999, 1000, 1999, 2047, 2048, 2999, 3000, 65535):
        expected = 1 if first <= port <= last else None
        packet = bed.udp4("10.1.0.1", "10.9.0.5", ports=(7, port))
        assert reqid_of(gateway, packet) == expected, port


def test_fragments_show_no_ports() -> None:
    gateway = with_sas(
        between(1, (ANY,), ports("10.9.0.5/32", 17, 80, 80)),
        between(2, ports("0.0.0.0/0", 17), (ANY,)),
    )
    packet = bed.udp4("10.1.0.1", "10.9.0.5", ports=(7, 80))
    assert reqid_of(gateway, packet) == 1
    assert reqid_of(gateway, packet[:6] + b"\x20\0" + packet[8:]) == 2
    assert reqid_of(gateway, packet[:6] + b"\0\5" + packet[8:]) == 2


def test_protocols_behind_ipv6_extension_headers() -> None:
    gateway = with_sas(
        between(1, (bed.network("::/0"),), ports("fd00:9::5/128", 17, 80, 80)),
        between(2, (bed.network("::/0"),), (bed.network("fd00:9::/64"),)),
    )
    bare = bed.udp6("fd00:1::1", "fd00:9::5", ports=(7, 80))

    def behind(headers: bytes, first: int) -> bytes:
        size = (len(bare) - 40 + len(headers)).to_bytes(2, "big")
        return bare[:4] + size + bytes((first,)) + bare[7:40] + headers + bare[40:]

    assert reqid_of(gateway, bare) == 1
    assert reqid_of(gateway, behind(bytes((17, 0)) + bytes(6), 60)) == 1
    assert reqid_of(gateway, behind(bytes((60, 1)) + bytes(14) + bytes((17, 0)) + bytes(6), 0)) == 1
    assert reqid_of(gateway, behind(bytes((17, 0)) + bytes(6), 44)) == 2
    assert reqid_of(gateway, behind(bytes((60, 255)) + bytes(6), 60)) == 2


def test_the_same_selector_is_the_newest_ones_and_comes_back() -> None:
    sas = [between(reqid, (ANY,), (bed.network(bed.HOST),)) for reqid in (1, 2, 3)]
    gateway = with_sas(*sas)
    packet = bed.to_device()
    assert reqid_of(gateway, packet) == 3
    gateway.remove(2 * 16)
    assert reqid_of(gateway, packet) == 3
    gateway.remove(3 * 16)
    assert reqid_of(gateway, packet) == 1
    gateway.remove(1 * 16)
    assert reqid_of(gateway, packet) is None
    assert len(gateway._routing) == 0


def test_an_sa_that_only_receives_takes_no_traffic() -> None:
    gateway = with_sas(between(1, (ANY,), (bed.network(bed.HOST),)))
    assert gateway.install(between(2, (ANY,), (bed.network(bed.HOST),)), outbound=False) is None
    assert reqid_of(gateway, bed.to_device()) == 1
    gateway.activate(2 * 16)
    assert reqid_of(gateway, bed.to_device()) == 2


# -- zones ---------------------------------------------------------------------------------------


def test_zones_keep_devices_with_one_address_apart() -> None:
    host = (bed.network("192.168.1.5"),)
    gateway = with_sas(
        between(1, (ANY,), host, zone=1),
        between(2, (ANY,), host, zone=2),
        between(3, (ANY,), (ANY,)),
    )
    packet = bed.udp4("10.1.0.1", "192.168.1.5")
    assert reqid_of(gateway, packet, marks.TO_DEVICE | 1) == 1
    assert reqid_of(gateway, packet, marks.TO_DEVICE | 2) == 2
    assert reqid_of(gateway, packet, marks.ANSWER | 2) == 2
    assert reqid_of(gateway, packet, marks.TO_DEVICE | 3) is None
    assert reqid_of(gateway, packet) == 3
    assert reqid_of(gateway, packet, marks.FROM_DEVICE | 1) == 3
    gateway.remove(2 * 16)
    assert reqid_of(gateway, packet, marks.TO_DEVICE | 2) is None, "never by another tunnel"
    assert set(gateway._routing._policies) == {(0, 4), (0, 6), (1, 4)}


# -- against a model -----------------------------------------------------------------------------


def test_random_tables_against_a_list_of_all_selectors() -> None:
    choose = random.Random(9)
    for _ in range(25):
        sas, model = [], []
        for reqid in range(1, 30):
            prefix = choose.choice((8, 16, 24, 31, 32, 32, 32))
            remote = ip_network((0x0A000000 | choose.getrandbits(6), prefix), strict=False)
            protocol = choose.choice((0, 0, 0, 6, 17))
            near = choose.choice(("0.0.0.0/0", "10.1.0.0/16"))
            sa = between(reqid, (bed.network(near),), ports(str(remote), protocol))
            if (near, remote, protocol) in [entry[1:] for entry in model]:
                continue
            sas.append(sa)
            model.append((reqid, near, remote, protocol))
        gateway = with_sas(*sas)
        for _ in range(150):
            destination = ip_address(0x0A000000 | choose.getrandbits(6))
            source = choose.choice(("10.1.0.1", "10.2.0.1"))
            protocol = choose.choice((6, 17, 1))
            matching = [
                (-remote.prefixlen, -ip_network(near).prefixlen, not wants, reqid)
                for reqid, near, remote, wants in model
                if destination in remote
                and ip_address(source) in ip_network(near)
                and wants in (0, protocol)
            ]
            packet = bed.udp4(source, str(destination), protocol=protocol)
            expected = min(matching)[3] if matching else None
            assert reqid_of(gateway, packet) == expected
        for sa in sas:
            gateway.remove(sa.spi_in)
        assert len(gateway._routing) == 0
        assert not gateway._routing._policies[0, 4]


def test_what_is_remembered_of_flows_is_bounded() -> None:
    sa, device_sa = both_ends(
        local_ts=(bed.network("10.0.0.0/8"),), remote_ts=(bed.network("10.0.0.0/8"),)
    )
    gateway, device = engine(), engine()
    gateway.install(sa, outbound=True)
    device.install(device_sa, outbound=True)
    packets = [bed.udp4("10.1.0.1", f"10.2.{n >> 8}.{n & 255}", payload=b"") for n in range(600)]
    assert len(opened(device, *sealed(gateway, *packets))) == 600
    half = device._inbound[(0x1001).to_bytes(4, "big")]
    assert len(half.guard.allowed) <= MAX_ALLOWED
    assert len(gateway._routing._policies[0, 4].flows) == 600 <= MAX_FLOWS


# -- several processes ---------------------------------------------------------------------------


class Forwarder:
    """So many engines, the wire's spreading of packets between them, and handing over."""

    def __init__(self, workers: int) -> None:
        self.engines = [engine(worker, workers, seed=worker) for worker in range(workers)]

    def install(self, sa: ChildSa) -> None:
        for one in self.engines:
            assert one.install(sa, outbound=True) is None

    def send(self, packet: bytes) -> list[bytes]:
        at = int.from_bytes(packet[16:20], "big") % len(self.engines)
        self.engines[at].leaving(LINK, [(packet, 3)])
        for one in self.engines:
            for owner, handed, mark in one.handovers:
                assert mark == 3
                self.engines[owner].handed_over([(handed, mark)])
            one.handovers.clear()
        found = [outer for one in self.engines for outer, _ in one.sends]
        for one in self.engines:
            one.sends.clear()
        return found

    def receive(self, outer: bytes) -> list[bytes]:
        at = int.from_bytes(outer[20:24], "big") % len(self.engines)
        return opened(self.engines[at], outer)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_every_packet_finds_its_process(workers: int) -> None:
    ours, theirs = Forwarder(workers), Forwarder(workers + 1)
    for number in range(1, 12):
        host = (bed.network(f"10.9.0.{number}"),)
        if number > 8:
            host = (bed.network(f"10.{number}.0.0/16"),)
        gateway, device = both_ends(
            spi=number * 1001, reqid=number, local_ts=(bed.network(bed.NET),), remote_ts=host
        )
        ours.install(gateway)
        theirs.install(device)
        for last in range(1, 6):
            there = str(host[0].start) if number <= 8 else f"10.{number}.0.{last}"
            packet = bed.udp4(f"10.1.0.{last}", there)
            [outer] = ours.send(packet)
            assert theirs.receive(outer) == [packet]
            back = bed.udp4(there, f"10.1.0.{last}")
            [outer] = theirs.send(back)
            assert ours.receive(outer) == [back]
    for one in ours.engines + theirs.engines:
        assert not one.counters
        assert len(one.held()) == 11


def test_only_the_owners_keep_keys_and_usage_adds_up() -> None:
    sa, _ = both_ends(remote_ts=(bed.network("10.9.0.6"),), local_ts=(bed.network(bed.NET),))
    forwarder = Forwarder(3)
    forwarder.install(sa)
    assert (inbound_owner(sa, 3), outbound_owner(sa, 3)) == (0x1000 % 3, 0x0A090006 % 3)
    for worker, one in enumerate(forwarder.engines):
        child = one._children[0x1000]
        assert (child.inbound is not None) == (worker == inbound_owner(sa, 3))
        assert (child.outbound is not None) == (worker == outbound_owner(sa, 3))
    for _ in range(4):
        assert len(forwarder.send(bed.udp4("10.1.0.1", "10.9.0.6"))) == 1
    told = [one.usage(0x1000) for one in forwarder.engines]
    assert sum(usage.packets_out for usage in told if usage) == 4


def test_what_was_handed_over_is_not_handed_on() -> None:
    sa, _ = both_ends(remote_ts=(bed.network("10.9.0.6"),), local_ts=(bed.network(bed.NET),))
    lost = engine(outbound_owner(sa, 2) ^ 1, 2)
    lost.install(sa, outbound=True)
    lost.handed_over([(bed.udp4("10.1.0.1", "10.9.0.6"), 0)])
    assert (lost.handovers, lost.sends, lost.counters) == ([], [], {"no_sa": 1})


@pytest.mark.parametrize("udp", [False, True], ids=["esp", "udp"])
@pytest.mark.parametrize(
    ("local", "remote", "networks"),
    [("192.0.2.1", "192.0.2.10", "0.0.0.0/0"), ("2001:db8::1", "2001:db8::10", "::/0")],
    ids=["v4", "v6"],
)
def test_what_was_sealed_is_not_sealed_again(
    local: str, remote: str, networks: str, udp: bool
) -> None:
    """Its way leads back into the tunnel: the peer's address is one of its side's."""
    anything = (bed.network(networks),)
    gateway = with_sas(
        both_ends(
            local=bed.endpoint(local), remote=bed.endpoint(remote),
            local_ts=anything, remote_ts=anything, udp=udp,
        )[0]
    )  # fmt: skip
    make = bed.udp4 if "." in local else bed.udp6
    (first,) = sealed(gateway, make(local, remote))
    assert sealed(gateway, first) == []
    assert gateway.counters == {"loop": 1}
