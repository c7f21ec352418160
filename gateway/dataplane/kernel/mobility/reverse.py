"""Reverse tables: one default route for each pair of transmitting device and packet size.

A visitor's packets carry the mark of its table. Visitors of one foreign agent mostly share one
size, so there are few; who asks for one too many is refused.
"""

import errno
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.dataplane.kernel.mobility import constants, routes
from gateway.dataplane.kernel.mobility.batch import Batch, Owner

NOBODY: Owner = (IPv4Address(0), IPv4Address(0))
"""Owner of what is nobody's own."""


class NoReverseTableError(Exception):
    """All reverse tables are in use with other packet sizes."""


@dataclass(slots=True)
class _Use:
    place: int
    users: int = 0


class ReverseTables:
    """Hands out reverse tables; their routes and rules stay once they are there."""

    def __init__(self) -> None:
        self._uses: dict[tuple[int, int], _Use] = {}

    def adopt(self, tables: Mapping[int, tuple[int, int]], devices: Collection[int]) -> None:
        """Go on with the tables of an earlier process: what leads to which device and size.

        Nobody uses them yet. Those of devices that are no more are made anew when needed.
        """
        for table, (device, mtu) in sorted(tables.items()):
            if device in devices:
                self._uses[device, mtu] = _Use(constants.REVERSE_TABLES.index(table))

    def claim(self, device: int, mtu: int, batch: Batch) -> int:
        """The mark that leads to ``device`` with packets of at most ``mtu`` octets.

        Raises :class:`NoReverseTableError`.
        """
        use = self._uses.get((device, mtu))
        if use is None:
            use = self._uses[device, mtu] = self._make(device, mtu, batch)
        use.users += 1
        return constants.REVERSE_MARKS[use.place]

    def release(self, device: int, mtu: int) -> int:
        """Reverse of :meth:`claim`; returns the mark.

        The table stays until another size needs its place.
        """
        use = self._uses[device, mtu]
        use.users -= 1
        return constants.REVERSE_MARKS[use.place]

    def _make(self, device: int, mtu: int, batch: Batch) -> _Use:
        taken = {use.place for use in self._uses.values()}
        free = (one for one in range(len(constants.REVERSE_TABLES)) if one not in taken)
        place = next(free, -1)
        new = place >= 0
        if not new:
            for key, use in self._uses.items():
                if not use.users:
                    place = use.place
                    del self._uses[key]
                    break
            else:
                sizes = sorted({size for _, size in self._uses})
                text = f"packet sizes in use are {sizes}; give visitors one of these"
                raise NoReverseTableError(text)
        table = constants.REVERSE_TABLES[place]
        batch.request(NOBODY, "a reverse route", routes.set_default(table, device, mtu))
        if new:
            mark = constants.REVERSE_MARKS[place]
            rule = routes.add_rule(constants.REVERSE_PRIORITY, table, mark)
            batch.request(NOBODY, "a reverse rule", rule, errno.EEXIST)
        return _Use(place)
