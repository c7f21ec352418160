"""Who is set aside because of its garbage, and the programs that do it."""

from gateway.dataplane.portable.wire import filters
from gateway.dataplane.portable.wire.floods import (
    ALLOWED_AT_ONCE,
    ALLOWED_PER_S,
    CALM_S,
    MAX_ASIDE,
    MAX_WATCHED,
    UNKNOWN,
    Floods,
)

SPI = 0x1001


def test_a_few_refused_packets_are_nothing_special() -> None:
    floods = Floods()
    for tenth in range(100):
        assert not floods.refused({SPI: int(ALLOWED_PER_S / 10)}, tenth / 10)
    assert not floods.aside


def test_a_flooded_spi_is_set_aside_until_it_is_calm() -> None:
    floods = Floods()
    assert not floods.refused({SPI: int(ALLOWED_AT_ONCE)}, 1.0)
    assert floods.refused({SPI: 64}, 1.001)
    assert not floods.refused({SPI: 64}, 1.002)
    assert list(floods.aside) == [SPI]
    assert not floods.settle(1.002 + CALM_S - 0.1)
    assert floods.settle(1.002 + CALM_S)
    assert not floods.aside


def test_a_flood_that_lasts_keeps_it_aside() -> None:
    floods = Floods()
    now = 0.0
    while now < 3 * CALM_S:
        floods.refused({SPI: 1000, UNKNOWN: 1}, now)
        assert not floods.settle(now)
        now += 0.1
    assert list(floods.aside) == [SPI]


def test_memory_is_bounded() -> None:
    floods = Floods()
    for spi in range(1, 10 * MAX_WATCHED):
        floods.refused({spi: 1000}, 0.0)
    assert len(floods.aside) == MAX_ASIDE
    assert len(floods._left) <= MAX_WATCHED


def test_an_sa_that_is_gone_is_forgotten() -> None:
    floods = Floods()
    floods.refused({SPI: 1000}, 0.0)
    floods.forget(SPI)
    assert not floods.aside


def _takes(program: filters.Program, spi: int) -> bool:
    """Run a program of a :class:`filters.Share` as the kernel would."""
    at, accumulator = 0, spi
    while True:
        code, true, false, operand = program[at]
        at += 1
        if code == 0x06:
            return operand != 0
        if code == 0x15:
            at += true if accumulator == operand else false
        elif code == 0x94:
            accumulator %= operand
        elif code == 0x05:
            at += operand
        else:
            raise AssertionError(hex(code))


def test_without_a_flood_each_process_has_its_spis() -> None:
    share = filters.Share(1, 3)
    assert [spi for spi in range(9) if _takes(share.others(), spi)] == [1, 4, 7]
    assert not any(_takes(share.set_aside(), spi) for spi in range(9))


def test_an_spi_is_for_one_of_the_two_sockets() -> None:
    share = filters.Share(0, 2, aside=(4, 6))
    assert [spi for spi in range(9) if _takes(share.others(), spi)] == [0, 2, 8]
    assert [spi for spi in range(9) if _takes(share.set_aside(), spi)] == [4, 6]


def test_unknown_spis_are_set_aside_where_the_known_ones_are_told() -> None:
    known = tuple(range(2, 2 * filters.MAX_KNOWN, 2))
    share = filters.Share(0, 2, aside=(4,), known=known)
    assert len(filters.esp_in_udp(4, range(filters.MAX_PORTS), share.set_aside())) <= 4096
    others, aside = share.others(), share.set_aside()
    for spi in (2, 6, 1000, known[-1]):
        assert _takes(others, spi)
        assert not _takes(aside, spi)
    assert _takes(aside, 4)
    assert not _takes(others, 4)
    beyond = known[-1] + 2
    assert _takes(aside, beyond)
    assert not _takes(others, beyond)
    assert not _takes(aside, beyond + 1)
