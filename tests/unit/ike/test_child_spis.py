"""Which inbound SPIs child SAs get."""

from collections.abc import Iterator
from datetime import UTC, datetime

from gateway.ike.engine import IkeEngine
from gateway.ike.policy import EngineSettings

BASE = 0xC000_0000


def engine(drawn: Iterator[bytes]) -> IkeEngine:
    def random(octets: int) -> bytes:
        return next(drawn) if octets == 4 else bytes(octets)

    return IkeEngine(
        EngineSettings(), [], {}, random=random, wall_clock=lambda: datetime(2026, 6, 1, tzinfo=UTC)
    )


def test_h74_spis_of_others_at_the_same_address_are_left_to_them() -> None:
    drawn = (number.to_bytes(4, "big") for number in (0, 255, BASE, BASE + 1, BASE + 2, BASE + 3))
    made = engine(drawn)
    assert made._core.new_child_spi() == BASE
    made.spi_taken = {BASE + 1, BASE + 2}.__contains__
    assert made._core.new_child_spi() == BASE + 3


def test_known_child_spis() -> None:
    made = engine(iter(()))
    assert not made.has_child_spi(7)
    made._core.children[7] = None
    assert made.has_child_spi(7)
