"""Limits in packets and octets, ends of sequence numbers, and traffic that waits for an SA."""

import esp_bed as bed
import pytest
from esp_bed import both_ends, connected, engine, opened, sealed

from gateway.dataplane.interface import SaExpired, TrafficWaiting
from gateway.dataplane.kernel.child import NO_ESN_HARD_PACKETS, NO_ESN_SOFT_PACKETS
from gateway.dataplane.portable.esp.engine import EspEngine

SPI = 0x1000
SIZE = len(bed.to_device())


@pytest.mark.parametrize(
    "limits",
    [
        {"soft_packets": 3, "hard_packets": 5},
        {"soft_bytes": 3 * SIZE, "hard_bytes": 5 * SIZE},
        {"soft_packets": 3, "hard_bytes": 4 * SIZE + 1},
    ],
    ids=["packets", "octets", "both"],
)
def test_what_is_sent(limits: dict[str, int]) -> None:
    gateway, _ = connected(*both_ends(**limits))  # type: ignore[arg-type]
    assert len(sealed(gateway, *[bed.to_device()] * 3)) == 3
    assert gateway.events == []
    assert [held.soft_limit_reached for held in gateway.held()] == [False]
    assert len(sealed(gateway, bed.to_device())) == 1
    assert gateway.events == [SaExpired(SPI, hard=False)]
    assert [held.soft_limit_reached for held in gateway.held()] == [True]
    assert len(sealed(gateway, *[bed.to_device()] * 3)) == 1
    assert gateway.events == [SaExpired(SPI, hard=False), SaExpired(SPI, hard=True)]
    assert gateway.counters == {"expired": 1, "no_sa": 1}


def test_what_is_received() -> None:
    gateway, device = connected(*both_ends(soft_packets=3, hard_packets=5))
    outers = sealed(device, *[bed.to_gateway()] * 8)
    assert len(opened(gateway, *outers)) == 5
    assert gateway.events == [SaExpired(SPI, hard=False), SaExpired(SPI, hard=True)]
    assert gateway.counters == {"expired": 3}
    assert len(sealed(gateway, bed.to_device())) == 1, "the other half has its own count"


def test_a_forgery_counts_for_no_limit() -> None:
    gateway, device = connected(*both_ends(hard_packets=2))
    [outer] = sealed(device, bed.to_gateway())
    assert opened(gateway, *[outer[:-1] + bytes((outer[-1] ^ 1,))] * 10) == []
    assert len(opened(gateway, outer)) == 1


@pytest.mark.parametrize("suite", [bed.GCM_SHORT, bed.CBC[0]], ids=str)
def test_without_esn_an_sa_ends_before_its_numbers_do(suite: object) -> None:
    gateway, _ = connected(*both_ends(suite))  # type: ignore[arg-type]
    sender = gateway._reqids[7].sender
    assert sender is not None
    for number, soft in ((NO_ESN_SOFT_PACKETS, False), (NO_ESN_HARD_PACKETS, True)):
        sender.sequence = sender.limits.packets = number - 1
        assert len(sealed(gateway, bed.to_device())) == 1
        assert len(sealed(gateway, bed.to_device())) == (0 if soft else 1)
    assert gateway.events == [SaExpired(SPI, hard=False), SaExpired(SPI, hard=True)]
    assert sender.sequence < 1 << 32


def test_with_esn_the_last_number_of_all_is_the_end() -> None:
    gateway, _ = connected(*both_ends())
    sender = gateway._reqids[7].sender
    assert sender is not None
    sender.sequence = sender.limits.packets = (1 << 64) - 2
    assert len(sealed(gateway, *[bed.to_device()] * 3)) == 1
    assert gateway.events == [SaExpired(SPI, hard=True)]


def test_an_sa_at_its_end_is_replaced() -> None:
    gateway, _ = connected(*both_ends(hard_packets=1))
    assert len(sealed(gateway, *[bed.to_device()] * 3)) == 1
    assert gateway.install(both_ends(spi=0x2000)[0], outbound=True) is None
    assert len(sealed(gateway, bed.to_device())) == 1
    gateway.remove(SPI)
    assert len(sealed(gateway, bed.to_device())) == 1


def test_usage_counts_inner_packets() -> None:
    gateway, device = connected(*both_ends())
    opened(gateway, *sealed(device, *[bed.to_gateway()] * 4))
    sealed(gateway, *[bed.to_device()] * 3)
    gateway.advance(142.5)
    told = gateway.usage(SPI)
    assert told is not None
    assert (told.packets_in, told.bytes_in) == (4, 4 * len(bed.to_gateway()))
    assert (told.packets_out, told.bytes_out) == (3, 3 * SIZE)
    assert told.last_in_age_s == 42.5
    gateway.install(both_ends(spi=0x2000)[0], outbound=True)
    told = gateway.usage(SPI)
    assert told is not None
    assert told.packets_out == 3, "what a superseded SA has sent is not forgotten"


# -- traps ---------------------------------------------------------------------------------------


def trapped() -> EspEngine:
    made = engine()
    assert made.trap(both_ends()[0]) is None
    return made


def test_traffic_without_an_sa_is_told_once_a_second() -> None:
    gateway = trapped()
    for now in (100.0, 100.5, 100.99, 101.0, 101.5, 200.0):
        gateway.advance(now)
        assert sealed(gateway, bed.to_device(), bed.to_device()) == []
    assert gateway.events == [TrafficWaiting(7)] * 3
    assert gateway.counters == {"no_sa": 12}


def test_a_trap_waits_behind_the_sas_of_its_reqid() -> None:
    gateway = trapped()
    gateway.install(both_ends()[0], outbound=True)
    assert len(sealed(gateway, bed.to_device())) == 1
    gateway.remove(SPI)
    assert sealed(gateway, bed.to_device()) == []
    assert gateway.events == [TrafficWaiting(7)]
    gateway.untrap(7)
    assert sealed(gateway, bed.to_device()) == []
    assert gateway.counters == {"no_sa": 1, "no_policy": 1}
    assert not gateway._reqids
    assert not len(gateway._routing)


def test_an_sa_at_its_end_calls_for_another_where_there_is_a_trap() -> None:
    gateway = trapped()
    gateway.install(both_ends(hard_packets=1)[0], outbound=True)
    sealed(gateway, *[bed.to_device()] * 3)
    assert gateway.events == [SaExpired(SPI, hard=True), TrafficWaiting(7)]


def test_a_trap_that_goes_while_there_are_sas_leaves_them_alone() -> None:
    gateway = trapped()
    gateway.install(both_ends()[0], outbound=True)
    gateway.untrap(7)
    assert len(sealed(gateway, bed.to_device())) == 1


def test_a_trap_is_replaced() -> None:
    gateway = trapped()
    other, _ = both_ends(remote_ts=(bed.network("10.9.0.77"),), local_ts=(bed.network(bed.NET),))
    assert gateway.trap(other) is None
    sealed(gateway, bed.to_device(), bed.udp4("10.1.0.1", "10.9.0.77"))
    assert gateway.counters == {"no_policy": 1, "no_sa": 1}


# -- refusals ------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_and_leaves_no_trace() -> None:
    from dataclasses import replace

    from gateway.domain.child_sa import EspKeys

    gateway = engine()
    sa, _ = both_ends()
    assert gateway.install(sa, outbound=True) is None
    again = gateway.install(sa, outbound=True)
    assert again == "SPI 0x00001000 is in use"
    other, _ = both_ends(spi=0x3000, reqid=9)
    for broken in (
        replace(other, keys_in=EspKeys(b"short")),
        replace(other, keys_out=EspKeys(b"")),
        replace(other, local_ts=(bed.network(bed.NET6),), remote_ts=(bed.network(bed.HOST),)),
        replace(other, remote=bed.endpoint(bed.DEVICE6)),
    ):
        assert isinstance(gateway.install(broken, outbound=True), str)
        assert list(gateway._children) == [SPI]
        assert list(gateway._reqids) == [7]
    assert isinstance(
        gateway.trap(replace(other, local_ts=(bed.network(bed.NET6),),
                             remote_ts=(bed.network(bed.HOST),))), str)  # fmt: skip
    assert len(sealed(gateway, bed.to_device())) == 1


def test_keys_are_not_told() -> None:
    gateway, _ = connected(*both_ends())
    [held] = gateway.held()
    assert held.sa.keys_in.encryption == held.sa.keys_out.encryption == b""
    assert held.outbound
