"""One page of leases, collected session by session."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gateway.domain.nar import NarTuple

if TYPE_CHECKING:  # most gateways have no NAR server, and need not load it
    from gateway.nar.server.listing import Listing, Place


class Collected:
    """The leases behind a cursor, at most so many, and how many there are in all."""

    def __init__(self, cursor: str, limit: int) -> None:
        self._cursor, self._limit = cursor, limit
        self._found: list[tuple[str, Listing, int, int]] = []
        self.total = 0

    def session(
        self,
        name: str,
        listing: "Listing",
        place: "Place",
        wanted: Callable[[NarTuple], bool] | None,
    ) -> int:
        """Look at the leases of one session, which comes behind those before; how much work.

        ``wanted`` None: all of them. Names, with the lease's number behind, are in order.
        """
        full = len(self._found) > self._limit
        passed = name < self._cursor[: len(name)]
        if wanted is None and (full or passed):
            count = listing.lease_count(place.number)
            self.total += count
            return 1
        leases = listing.leases(place.number)
        for number, key in leases:
            if wanted is not None and not wanted(key):
                continue
            self.total += 1
            cursor = f"{name}_{number:08x}"
            if cursor > self._cursor and len(self._found) <= self._limit:
                self._found.append((cursor, listing, place.number, number))
        return len(leases)

    @property
    def following(self) -> str | None:
        """The cursor of the next page."""
        return self._found[self._limit - 1][0] if len(self._found) > self._limit else None

    def views(self) -> Iterator[dict[str, object]]:
        """What the engine says of those on this page, as far as they are still there."""
        for _, listing, session, number in self._found[: self._limit]:
            view = listing.lease(session, number)
            if view is not None:
                yield view
