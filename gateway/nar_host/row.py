"""Leases of numbers in a row, from a server that lends one at a time.

Programs are told ranges: a kernel chooses source ports from one, an IKE daemon its SPIs. The
server is asked for any number, then for its neighbours.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from gateway.nar_host.failure import NarRefusedError

ATTEMPTS: Final = 6
_FURTHER: Final = 4
_One = TypeVar("_One")


async def lease_row(
    count: int,
    ask: Callable[[int], Awaitable[_One]],
    number: Callable[[_One], int],
    give_back: Callable[[_One], Awaitable[None]],
    *,
    wish: int = 0,
) -> list[_One]:
    """``count`` leases with numbers in a row, in their order.

    ``ask`` leases the number that is wished for (0: any), or another one that the server prefers.

    Raises:
        NarRefusedError: the server lends none at all, or never so many in a row.
    """
    longest, why = 0, ""
    for attempt in range(ATTEMPTS):
        first = await ask(wish)
        row = {number(first): first}
        found, refused = await _exactly(ask, number, give_back, _above(row, count))
        row |= _joined(row, found)
        if len(row) < count:
            more, refused = await _exactly(ask, number, give_back, _below(row, count))
            found |= more
            row |= _joined(row, more)
        await asyncio.gather(*(give_back(one) for at, one in found.items() if at not in row))
        if len(row) >= count:
            return [row[at] for at in sorted(row)]
        longest, why = max(longest, len(row)), refused or why
        await asyncio.gather(*(give_back(one) for one in row.values()))
        # Ever further away: whoever else has ports there has them in a row as well.
        wish = max(row) + 1 + count * _FURTHER**attempt
    text = f"the server lent no more than {longest} in a row, {count} were asked for: ask for fewer"
    raise NarRefusedError(f"{text} ({why})" if why else text)


def _above(row: Iterable[int], count: int) -> range:
    return range(max(row) + 1, max(row) + count)


def _below(row: dict[int, _One], count: int) -> range:
    low = min(row)
    return range(max(1, low - (count - len(row))), low)


def _joined(row: dict[int, _One], found: dict[int, _One]) -> dict[int, _One]:
    """Those of ``found`` that are in a row with ``row``."""
    joined: dict[int, _One] = {}
    for step, at in ((1, max(row) + 1), (-1, min(row) - 1)):
        here = at
        while here in found:
            joined[here] = found[here]
            here += step
    return joined


async def _exactly(
    ask: Callable[[int], Awaitable[_One]],
    number: Callable[[_One], int],
    give_back: Callable[[_One], Awaitable[None]],
    wanted: Iterable[int],
) -> tuple[dict[int, _One], str]:
    """Those of ``wanted`` that the server lends, and why not where it said so."""
    numbers = list(wanted)
    answers = await asyncio.gather(*(ask(one) for one in numbers), return_exceptions=True)
    found: dict[int, _One] = {}
    others: list[_One] = []
    why = ""
    for wish, answer in zip(numbers, answers, strict=True):
        if isinstance(answer, NarRefusedError):
            why = str(answer)
        elif isinstance(answer, BaseException):
            raise answer
        elif number(answer) == wish:
            found[wish] = answer
        else:
            others.append(answer)
    await asyncio.gather(*(give_back(one) for one in others))
    return found, why
