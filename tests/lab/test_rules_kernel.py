"""Everything that is not allowed is tried, in all directions, against the filter in the kernel."""

# planes: portable

import contextlib
import errno
import select
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

import pytest
from dataplane_bed import entered, wait_for
from filter_bed import (
    ADDRESS,
    GATEWAY,
    INTRANET,
    SERVICES,
    TCP,
    UDP,
    A,
    B,
    FilterBed,
    marked,
    pings,
    reaches,
    refused,
)

from gateway.dataplane.filter import GatewayServices
from gateway.dataplane.kernel.netlink import NetlinkRefusal
from gateway.dataplane.kernel.nft_elements import ElementChange, SetElements
from gateway.domain.filtering import Box, Direction, Placement, RuleSet

pytestmark = pytest.mark.kernel

WEB = Box(ip_network("10.1.0.0/24"), (6, 6), (80, 89))
WEB6 = Box(ip_network("fd00:1::/64"), (6, 6), (80, 89))
DNS = Box(ip_network("10.1.0.2/32"), (17, 17), (53, 53))


@pytest.fixture(scope="module")
def namespaces() -> Iterator[FilterBed]:
    bed = FilterBed()
    bed.up()
    try:
        yield bed
    finally:
        bed.down()


@pytest.fixture
def bed(namespaces: FilterBed) -> Iterator[FilterBed]:
    yield namespaces
    namespaces.close()
    namespaces.nft("flush", "ruleset")


def placed(name: str, **options: object) -> Placement:
    addresses = tuple(ip_address(one) for one in ADDRESS[name])
    return Placement(addresses, **options)  # type: ignore[arg-type]


def place(bed: FilterBed, **numbers: dict[Direction, int]) -> None:
    """Both devices, `a` and `b` under rule sets by direction."""
    assert bed.filter is not None
    bed.filter.place("a", placed(A, rule_sets=numbers.get("a", {})))
    bed.filter.place("b", placed(B, rule_sets=numbers.get("b", {})))
    bed.commit()


@pytest.mark.parametrize("rules", [False, True])
def test_without_rules_devices_are_isolated_and_reach_inside_and_services(
    bed: FilterBed, rules: bool
) -> None:
    bed.open(rules=rules)
    place(bed)
    assert reaches(A, INTRANET, TCP, 80)
    assert reaches(A, INTRANET, UDP, 9999, version=6)
    assert reaches(INTRANET, A, UDP, 7)
    assert reaches(INTRANET, B, TCP, 7, version=6)
    assert refused(A, B, TCP, 80)
    assert refused(B, A, UDP, 80, version=6)
    assert not pings(A, ADDRESS[B][0])
    for version in (4, 6):
        assert reaches(A, GATEWAY, UDP, 53, version=version)
        assert refused(A, GATEWAY, TCP, 22, version=version)
        assert refused(A, GATEWAY, UDP, 161, version=version)
        assert pings(A, ADDRESS[GATEWAY][0 if version == 4 else 1])
    # The gateway itself opens what it wants.
    assert reaches(GATEWAY, A, TCP, 22)


def test_what_holds_without_rules_changes_while_it_runs(bed: FilterBed) -> None:
    table = bed.open(rules=False)
    place(bed)
    with entered(GATEWAY):
        table.configure(GatewayServices(everything=True), isolate=False, rules=False)
    bed.commit()
    assert reaches(A, B, TCP, 80)
    assert reaches(A, GATEWAY, TCP, 22)
    with entered(GATEWAY):
        table.configure(GatewayServices(), isolate=True, rules=False)
    bed.commit()
    assert refused(A, B, TCP, 80)
    assert refused(A, GATEWAY, UDP, 53)
    assert not pings(A, ADDRESS[GATEWAY][0])


def test_rules_that_changed_meanwhile_are_the_next_process(bed: FilterBed) -> None:
    def rule_set(last: int) -> RuleSet:
        network = ip_network("10.1.0.0/24")
        refuse = frozenset({Box(network, (6, 6), (80, last))})
        return RuleSet(refuse=refuse, allow=frozenset({Box(network, (17, 17), (53, last))}))

    table = bed.open()
    table.define(7, rule_set(80))
    place(bed, a={Direction.TO_INSIDE: 7})
    bed.close(keep=True)
    table = bed.open()
    table.define(7, rule_set(90))
    place(bed, a={Direction.TO_INSIDE: 7})
    with entered(GATEWAY):
        assert table.settle() == []
    assert refused(A, INTRANET, TCP, 80)
    assert refused(A, INTRANET, TCP, 85)
    assert reaches(A, INTRANET, UDP, 60)


def test_a_table_that_somebody_flushed_comes_back(bed: FilterBed) -> None:
    table = bed.open()
    table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
    place(bed, a={Direction.TO_INSIDE: 7})
    bed.nft("flush", "ruleset")
    with entered(GATEWAY):
        (told,) = table.commit()
    assert "somebody removed the table" in told
    assert reaches(A, INTRANET, TCP, 80)
    assert refused(A, INTRANET, TCP, 22)
    assert refused(A, B, TCP, 80)
    assert refused(A, GATEWAY, TCP, 22)
    with entered(GATEWAY):
        assert not table.commit()


@pytest.mark.parametrize("failures", [1, 3])
def test_an_element_that_the_kernel_refuses_opens_nothing(
    bed: FilterBed, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    table = bed.open()
    place(bed)
    table.define(1, RuleSet(closed=True, allow=frozenset({WEB})))
    bed.commit()
    good, left = SetElements.apply, [failures]

    def apply(self: SetElements, changes: Sequence[ElementChange]) -> NetlinkRefusal | None:
        if left[0]:
            left[0] -= 1
            return NetlinkRefusal(-1, errno.ENOMEM, "")
        return good(self, changes)

    monkeypatch.setattr(SetElements, "apply", apply)
    table.place("a", placed(A, rule_sets={Direction.TO_INSIDE: 1}))
    with entered(GATEWAY):
        told = table.commit()
    assert any("refused" in one for one in told)
    assert refused(A, INTRANET, TCP, 22)
    assert reaches(A, INTRANET, TCP, 80) == (failures == 1)
    with entered(GATEWAY):
        table.commit()
    if failures == 3:  # still not whole
        assert refused(A, INTRANET, TCP, 80)
        with entered(GATEWAY):
            assert table.commit() == []
    assert reaches(A, INTRANET, TCP, 80)
    assert refused(A, INTRANET, TCP, 22)


def test_only_what_is_allowed_passes_and_answers_come_back(bed: FilterBed) -> None:
    table = bed.open()
    table.define(7, RuleSet(allow=frozenset({WEB, WEB6, DNS}), closed=True))
    place(bed, a={Direction.TO_INSIDE: 7})
    assert reaches(A, INTRANET, TCP, 80)
    assert reaches(A, INTRANET, TCP, 89, version=6)
    assert reaches(A, INTRANET, UDP, 53)
    assert refused(A, INTRANET, TCP, 79)
    assert refused(A, INTRANET, TCP, 90, version=6)
    assert refused(A, INTRANET, UDP, 80)
    assert not pings(A, ADDRESS[INTRANET][0])
    # Another direction, and another device, are none of its business.
    assert reaches(INTRANET, A, TCP, 5000)
    assert reaches(B, INTRANET, TCP, 22)
    with entered(GATEWAY):
        counts = table.counts()
        usage = table.usage(placed(A))
        other = table.usage(placed(B))
    assert counts[7, WEB].packets > 0
    assert counts[7, WEB].octets > 0
    assert counts[7, DNS].packets == 1
    assert usage.refused >= 4
    assert usage.from_device.packets > 0
    assert usage.to_device.octets > 0
    assert other.refused == 0


def test_a_rule_that_refuses_wins(bed: FilterBed) -> None:
    table = bed.open()
    table.define(
        9,
        RuleSet(
            refuse=frozenset({Box(ip_network("10.1.0.2/32"), (6, 6), (443, 443))}),
            allow=frozenset({Box(ip_network("10.1.0.0/24"))}),
            closed=True,
        ),
    )
    table.define(10, RuleSet(refuse=frozenset({Box(ip_network("0.0.0.0/0"), (17, 17))})))
    place(bed, a={Direction.TO_INSIDE: 9}, b={Direction.TO_INSIDE: 10})
    assert refused(A, INTRANET, TCP, 443)
    assert reaches(A, INTRANET, TCP, 444)
    assert pings(A, ADDRESS[INTRANET][0])
    assert refused(B, INTRANET, UDP, 53)
    assert reaches(B, INTRANET, TCP, 443)


def test_from_inside_between_devices_and_to_the_gateway(bed: FilterBed) -> None:
    table = bed.open()
    ssh = Box(ip_network("10.1.0.2/32"), (6, 6), (22, 22))
    table.define(1, RuleSet(allow=frozenset({ssh}), closed=True))
    table.define(
        2, RuleSet(allow=frozenset({Box(ip_network("10.9.0.2/32"), (6, 6), (80, 80))}), closed=True)
    )
    table.define(
        3, RuleSet(allow=frozenset({Box(ip_network("10.1.0.1/32"), (6, 6), (22, 22))}), closed=True)
    )
    table.define(4, RuleSet(refuse=frozenset({Box(ip_network("0.0.0.0/0"), (6, 6), (53, 53))})))
    place(
        bed,
        a={Direction.FROM_INSIDE: 1, Direction.BETWEEN_DEVICES: 2, Direction.TO_GATEWAY: 3},
        b={Direction.TO_GATEWAY: 4},
    )
    assert reaches(INTRANET, A, TCP, 22)
    assert refused(INTRANET, A, TCP, 23)
    assert refused(INTRANET, A, UDP, 22)
    assert not pings(INTRANET, ADDRESS[A][0])
    assert reaches(A, INTRANET, TCP, 23)
    assert reaches(A, B, TCP, 80)
    assert refused(A, B, TCP, 81)
    assert refused(B, A, TCP, 80)
    assert reaches(A, GATEWAY, TCP, 22)
    assert refused(A, GATEWAY, UDP, 53)
    assert refused(B, GATEWAY, TCP, 53)
    assert reaches(B, GATEWAY, UDP, 53)


def test_a_flow_ends_with_its_rule_and_others_notice_nothing(bed: FilterBed) -> None:
    table = bed.open()
    table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
    table.define(8, RuleSet(allow=frozenset({WEB}), closed=True))
    place(bed, a={Direction.TO_INSIDE: 7}, b={Direction.TO_INSIDE: 8})
    with entered(INTRANET):
        server = socket.create_server((ADDRESS[INTRANET][0], 80))
    with server:
        clients = []
        for name in (A, B):
            with entered(name):
                clients.append(socket.create_connection((ADDRESS[INTRANET][0], 80), 5))
        ends = [server.accept()[0] for _ in clients]
        table.define(7, RuleSet(closed=True))
        bed.commit()
        for client in clients:
            client.send(b"still there?")
        assert select.select([ends[1]], [], [], 5)[0]
        assert not select.select([ends[0]], [], [], 0.4)[0]
        # It comes back with the rule: the sender repeats.
        table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
        bed.commit()
        assert select.select([ends[0]], [], [], 10)[0]
        for one in (*clients, *ends):
            one.close()


def test_devices_behind_napt_are_known_by_their_marks(bed: FilterBed) -> None:
    table = bed.open()
    marked(A, 5)
    table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
    table.define(1, RuleSet(allow=frozenset({DNS}), closed=True))
    numbers = {Direction.TO_INSIDE: 7, Direction.FROM_INSIDE: 1}
    table.place("a", Placement((ip_address(ADDRESS[A][0]),), 5, numbers))
    table.place("b", placed(B))
    bed.commit()
    assert reaches(A, INTRANET, TCP, 80)
    assert refused(A, INTRANET, TCP, 22)
    assert refused(INTRANET, A, TCP, 80)
    assert reaches(INTRANET, A, UDP, 53)
    assert refused(A, B, TCP, 80)
    assert refused(B, A, UDP, 53)
    assert refused(A, GATEWAY, TCP, 22)
    with entered(GATEWAY):
        usage = table.usage(Placement((), 5))
    assert usage.from_device.packets > 0
    assert usage.refused >= 4


def test_refused_packets_are_told(bed: FilterBed) -> None:
    table = bed.open()
    table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
    place(bed, a={Direction.TO_INSIDE: 7})
    assert refused(A, INTRANET, TCP, 22)
    assert refused(A, B, UDP, 999, version=6)
    found: list[tuple[str, str, int, int]] = []

    def both() -> bool:
        found.extend(
            (one.direction.value, str(one.destination), one.protocol, one.port)
            for one in table.refused()
        )
        return len(set(found)) >= 2

    wait_for(both, "log of refused packets")
    assert set(found) == {
        ("to-inside", ADDRESS[INTRANET][0], 6, 22),
        ("between-devices", ADDRESS[B][1], 17, 999),
    }
    with entered(GATEWAY):
        assert table.counters()["refused_to_inside"] >= 1


def test_another_process_takes_over_and_nothing_opens_meanwhile(bed: FilterBed) -> None:
    table = bed.open()
    table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
    place(bed, a={Direction.TO_INSIDE: 7})
    assert reaches(A, INTRANET, TCP, 80)
    bed.close(keep=True)
    table = bed.open()
    assert refused(A, INTRANET, TCP, 22)
    assert reaches(A, INTRANET, TCP, 81)
    table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
    table.place("a", placed(A, rule_sets={Direction.TO_INSIDE: 7}))
    with entered(GATEWAY):
        assert table.settle() == []
        assert table.counts()[7, WEB].packets > 0
    assert refused(A, INTRANET, TCP, 22)
    # Nobody asked for the other one any more.
    assert ADDRESS[B][0] not in bed.nft("list", "set", "inet", "gateway_filter", "device4")
    # An older table, of another version, stays until everybody is placed.
    bed.close(keep=True)
    table = bed.open(helpers=frozenset({"ftp"}))
    table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
    table.place("a", placed(A, rule_sets={Direction.TO_INSIDE: 7}))
    bed.commit()
    assert refused(A, INTRANET, TCP, 22)
    with entered(GATEWAY):
        assert table.settle() == []
    assert "ct helper ftp_tcp" in bed.nft("list", "table", "inet", "gateway_filter")
    assert refused(A, INTRANET, TCP, 22)
    assert reaches(A, INTRANET, TCP, 80)


def test_the_first_rule_comes_while_devices_are_in(bed: FilterBed) -> None:
    table = bed.open(rules=False)
    place(bed)
    assert reaches(A, INTRANET, TCP, 22)
    with entered(GATEWAY):
        table.configure(SERVICES, isolate=True, rules=True)
    table.define(7, RuleSet(allow=frozenset({WEB}), closed=True))
    place(bed, a={Direction.TO_INSIDE: 7})
    assert refused(A, INTRANET, TCP, 22)
    assert reaches(A, INTRANET, TCP, 80)
    assert reaches(B, INTRANET, TCP, 22)
    assert refused(A, B, TCP, 22)


def test_fragments_are_judged_as_wholes(bed: FilterBed) -> None:
    table = bed.open()
    everything_udp = Box(ip_network("10.1.0.0/24"), (17, 17), (0, 65535))
    table.define(7, RuleSet(allow=frozenset({everything_udp}), closed=True))
    place(bed, a={Direction.TO_INSIDE: 7})
    with entered(INTRANET):
        server = socket.socket(socket.AF_INET, UDP)
        server.bind((ADDRESS[INTRANET][0], 2049))
    with server, entered(A), socket.socket(socket.AF_INET, UDP) as client:
        server.settimeout(5)
        client.sendto(bytes(8000), (ADDRESS[INTRANET][0], 2049))
        assert len(server.recv(9000)) == 8000


def test_bandwidth_is_limited_for_one_device(bed: FilterBed) -> None:
    table = bed.open(rules=False)
    table.place("a", placed(A, up_kbit_s=80))
    table.place("b", placed(B))
    bed.commit()
    got = arriving(A, B)
    # A second of 80 kbit/s and the burst are 25,000 octets.
    assert 5 < got[A] < 30
    assert got[B] == 60
    with entered(GATEWAY):
        assert table.counters()["over_bandwidth_up"] == 60 - got[A]


def test_an_address_of_a_device_with_a_mark_is_nobodys_bandwidth(bed: FilterBed) -> None:
    table = bed.open(rules=False)
    table.place("other", placed(A, up_kbit_s=80))
    table.place("a", placed(A, zone=5))
    bed.commit()
    marked(A, 5)
    assert reaches(A, INTRANET, UDP, 5002)  # neighbours know each other
    assert arriving(A) == {A: 60}


def arriving(*names: str) -> dict[str, int]:
    """How many of 60 datagrams of each get to the intranet."""
    got = {}
    with entered(INTRANET):
        server = socket.socket(socket.AF_INET, UDP)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        server.bind((ADDRESS[INTRANET][0], 5001))
    with server:
        server.setblocking(False)
        for name in names:
            with entered(name), socket.socket(socket.AF_INET, UDP) as client:
                for _ in range(60):
                    client.sendto(bytes(1000), (ADDRESS[INTRANET][0], 5001))
            got[name] = 0
            with contextlib.suppress(BlockingIOError):
                while server.recv(2000):
                    got[name] += 1
    return got
