"""Traffic by device and day: deltas are added, ranges are read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, select

from gateway.store.schema import USAGE
from gateway.store.upsert import insert_into

DAY_S: Final = 86_400
_SUMS: Final = (
    "bytes_in",
    "bytes_out",
    "packets_in",
    "packets_out",
    "connected_s",
    "handovers",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a device did on a day, or a part of it that is to be added."""

    device: str
    """Its identity."""
    day: int
    """Days since the epoch, UTC."""
    bytes_in: int = 0
    """From the device."""
    bytes_out: int = 0
    packets_in: int = 0
    packets_out: int = 0
    connected_s: float = 0.0
    handovers: int = 0


class UsageRepository:
    """Usage within the transaction of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, deltas: Iterable[Usage]) -> None:
        """Add to what is there, thousands at a time."""
        rows = [{name: getattr(one, name) for name in one.__slots__} for one in deltas]
        if not rows:
            return
        new = insert_into(USAGE, self._connection).values(
            {name: bindparam(name) for name in rows[0]}
        )
        added = new.on_conflict_do_update(
            index_elements=[USAGE.c.device, USAGE.c.day],
            set_={name: USAGE.c[name] + new.excluded[name] for name in _SUMS},
        )
        self._connection.execute(added, rows)

    def of(self, device: str, since_day: int, until_day: int) -> tuple[Usage, ...]:
        """Days from ``since_day`` to ``until_day`` (inclusive) on which there was any, in order."""
        wanted = (
            select(USAGE)
            .where(USAGE.c.device == device, USAGE.c.day.between(since_day, until_day))
            .order_by(USAGE.c.day)
        )
        return tuple(Usage(**row._asdict()) for row in self._connection.execute(wanted))

    def totals(self, since_day: int, until_day: int) -> tuple[Usage, ...]:
        """The sum of each day's devices, in order; their ``device`` is empty."""
        sums = [func.sum(USAGE.c[name]).label(name) for name in _SUMS]
        wanted = (
            select(USAGE.c.day, *sums)
            .where(USAGE.c.day.between(since_day, until_day))
            .group_by(USAGE.c.day)
            .order_by(USAGE.c.day)
        )
        return tuple(_sum("", row._asdict()) for row in self._connection.execute(wanted))

    def by_device(self, since_day: int, until_day: int, *, limit: int = 100) -> tuple[Usage, ...]:
        """The sum of those days by device, most traffic first; ``day`` is the last day."""
        sums = [func.sum(USAGE.c[name]).label(name) for name in _SUMS]
        traffic = func.sum(USAGE.c.bytes_in + USAGE.c.bytes_out)
        wanted = (
            select(USAGE.c.device, func.max(USAGE.c.day).label("day"), *sums)
            .where(USAGE.c.day.between(since_day, until_day))
            .group_by(USAGE.c.device)
            .order_by(traffic.desc(), USAGE.c.device)
            .limit(limit)
        )
        rows = (row._asdict() for row in self._connection.execute(wanted))
        return tuple(_sum(row.pop("device"), row) for row in rows)

    def delete_before(self, day: int) -> int:
        """Remove days before this one; how many rows."""
        return self._connection.execute(delete(USAGE).where(USAGE.c.day < day)).rowcount


def _sum(device: str, row: dict[str, float]) -> Usage:
    # PostgreSQL sums bigint as numeric, which comes as Decimal.
    return Usage(
        device,
        int(row["day"]),
        int(row["bytes_in"]),
        int(row["bytes_out"]),
        int(row["packets_in"]),
        int(row["packets_out"]),
        float(row["connected_s"]),
        int(row["handovers"]),
    )
