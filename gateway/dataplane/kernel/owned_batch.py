"""What a commit sends: set elements in transactions, then rtnetlink requests, with their owners.

An owner is whom a refusal is reported for: (home agent, home address), or the tuple of a lease.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.dataplane.kernel.nft_elements import CHUNK, ElementChange, SetElements

Owner = TypeVar("Owner", bound=Hashable)
Owned = tuple[Owner, Sequence[ElementChange]]

PATIENCE: Final = 8
"""Refused owners for which a transaction is tried again; after that all of it is refused."""


MAX_STALE: Final = 65_536
"""Removals that are tried again; of more the oldest are given up."""


class OwnedBatch(Generic[Owner]):
    """Queued work. What an owner queues in one call is applied in one transaction.

    Removals in a refused transaction are tried again with the next flush: what nobody holds any
    more must not go on letting packets through.
    """

    def __init__(self) -> None:
        self._stale: dict[tuple[str, bytes], ElementChange] = {}
        self._elements: list[Owned[Owner]] = []
        self._requests: list[bytes] = []
        self._owners: list[tuple[Owner, str, tuple[int, ...]]] = []

    def __bool__(self) -> bool:
        return bool(self._elements or self._requests or self._stale)

    def elements(self, owner: Owner, changes: Sequence[ElementChange]) -> None:
        """Queue changes of sets and maps, at most :data:`CHUNK`."""
        if changes:
            self._elements.append((owner, changes))

    def request(self, owner: Owner, what: str, request: bytes, *ignore: int) -> None:
        """Queue an rtnetlink request; refusals with an errno in ``ignore`` are fine."""
        self._requests.append(request)
        self._owners.append((owner, what, ignore))

    def settle(self, found: Mapping[tuple[str, bytes], bytes | None], nobody: Owner) -> None:
        """Turn the queued changes into those that make ``found``, what is there, what they want.

        First what is missing, then what is too much.
        """
        wanted: dict[tuple[str, bytes], tuple[Owner, bytes | None]] = {}
        for owner, changes in self._elements:
            for change in changes:
                if change.add:
                    wanted[change.name, change.key] = owner, change.data
                else:
                    wanted.pop((change.name, change.key), None)
        self._elements = []
        missing: dict[Owner, list[ElementChange]] = {}
        for (name, key), (owner, data) in wanted.items():
            mine = missing.setdefault(owner, [])
            if (name, key) not in found:
                mine.append(ElementChange(name, key, data=data))
            elif found[name, key] != data:
                mine.append(ElementChange(name, key, add=False))
                mine.append(ElementChange(name, key, data=data))
        for owner, changes in missing.items():
            self.elements(owner, changes)
        for name, key in found:
            if (name, key) not in wanted:
                self.elements(nobody, [ElementChange(name, key, add=False)])

    def flush(self, sets: SetElements, route: NetlinkSocket) -> dict[Owner, str]:
        """Send everything; returns why an owner was refused."""
        refused: dict[Owner, str] = {}
        if self._stale:
            self._stale = _remove(sets, self._stale)
        for group in _groups(self._elements):
            lost = _apply(sets, group)
            refused.update(lost)
            for owner, changes in group:
                self._follow(changes, refused=owner in lost)
        self._elements = []
        if self._requests:
            requests, self._requests = self._requests, []
            owners, self._owners = self._owners, []
            for refusal in route.transact(requests)[0]:
                owner, what, ignore = owners[refusal.index]
                if refusal.errno not in ignore:
                    refused.setdefault(owner, f"kernel refused {what}: {refusal}")
        return refused

    def _follow(self, changes: Sequence[ElementChange], *, refused: bool) -> None:
        for change in changes:
            element = change.name, change.key
            if refused and not change.add:
                self._stale[element] = change
            elif not refused and change.add:
                self._stale.pop(element, None)
        while len(self._stale) > MAX_STALE:
            del self._stale[next(iter(self._stale))]


def _remove(
    sets: SetElements, stale: dict[tuple[str, bytes], ElementChange]
) -> dict[tuple[str, bytes], ElementChange]:
    """Remove these; what is still refused. One that cannot be removed is in nobody's way."""
    left = dict(stale)
    changes = list(stale.values())
    for start in range(0, len(changes), CHUNK):
        part = changes[start : start + CHUNK]
        refusal = sets.apply(part)
        if refusal is not None and refusal.index >= 0:
            part = [one for one in part if sets.apply([one]) is None]
        elif refusal is not None:
            continue
        for one in part:
            del left[one.name, one.key]
    return left


def _groups(queued: Sequence[Owned[Owner]]) -> Iterator[list[Owned[Owner]]]:
    """As many owners as fit one transaction each time, in order."""
    group: list[Owned[Owner]] = []
    size = 0
    for owned in queued:
        if group and size + len(owned[1]) > CHUNK:
            yield group
            group, size = [], 0
        group.append(owned)
        size += len(owned[1])
    if group:
        yield group


def _apply(sets: SetElements, group: list[Owned[Owner]]) -> dict[Owner, str]:
    """One transaction; who is refused is left out and the others are tried again."""
    refused: dict[Owner, str] = {}
    while group:
        owners = [owner for owner, changes in group for _ in changes]
        refusal = sets.apply([change for _, changes in group for change in changes])
        if refusal is None:
            return refused
        text = f"nftables refused a set element: {refusal}"
        if refusal.index < 0 or len(refused) >= PATIENCE:
            refused.update((owner, text) for owner in owners)
            return refused
        blamed = owners[refusal.index]
        refused[blamed] = text
        group = [owned for owned in group if owned[0] != blamed]
    return refused
