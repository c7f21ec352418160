"""Leases in a row, of a server that lends one number at a time."""

import asyncio

import pytest

from gateway.nar_host.failure import NarRefusedError
from gateway.nar_host.row import lease_row


class Lender:
    """Lends what is wished for when it is free, else the lowest free number."""

    def __init__(self, *taken: int, numbers: range = range(100, 200), most: int = 1000) -> None:
        self.numbers, self.most = numbers, most
        self.others = set(taken)
        self.lent: set[int] = set()

    async def ask(self, wish: int) -> int:
        free = [one for one in self.numbers if one not in self.others | self.lent]
        if not free or len(self.lent) >= self.most:
            raise NarRefusedError("nothing is left")
        number = wish if wish in free else free[0]
        self.lent.add(number)
        await asyncio.sleep(0)
        return number

    async def give_back(self, number: int) -> None:
        self.lent.remove(number)

    async def row(self, count: int, wish: int = 0) -> list[int]:
        return await lease_row(count, self.ask, lambda one: one, self.give_back, wish=wish)


@pytest.mark.parametrize(
    ("taken", "count", "row"),
    [
        ((), 1, [100]),
        ((), 4, [100, 101, 102, 103]),
        ((102,), 3, None),
        ((*range(101, 150),), 4, None),
        ((*range(100, 196),), 4, [196, 197, 198, 199]),
    ],
)
def test_a_row_is_found_and_nothing_else_is_kept(
    taken: tuple[int, ...], count: int, row: list[int] | None
) -> None:
    lender = Lender(*taken)
    found = asyncio.run(lender.row(count))
    assert found == list(range(found[0], found[0] + count))
    assert row is None or found == row
    assert lender.lent == set(found)


def test_neighbours_below_count_too() -> None:
    lender = Lender(*range(104, 200))
    lender.lent = set()
    assert asyncio.run(lender.row(4, wish=102)) == [100, 101, 102, 103]


def test_h75_a_server_without_such_a_row_gets_everything_back() -> None:
    lender = Lender(*range(100, 200, 3))
    with pytest.raises(NarRefusedError, match="no more than 2 in a row, 4 were asked for"):
        asyncio.run(lender.row(4))
    assert lender.lent == set()


def test_h75_a_limit_of_the_server_is_named() -> None:
    lender = Lender(most=3)
    with pytest.raises(NarRefusedError, match="nothing is left"):
        asyncio.run(lender.row(4))
    assert lender.lent == set()


def test_a_refusal_of_the_first_is_what_is_told() -> None:
    with pytest.raises(NarRefusedError, match="nothing is left"):
        asyncio.run(Lender(most=0).row(4))
