"""Set elements on their way to the kernel: who wants what, and what changes by that."""

from collections.abc import Hashable, Mapping
from typing import Final

from gateway.dataplane.kernel.nar.elements import Element, Elements
from gateway.dataplane.kernel.nft_elements import ElementChange

_Wish = tuple[Hashable, bytes | None]


class _Absent:
    """No such element."""


ABSENT: Final = _Absent()
_State = bytes | None | _Absent


class Shared:
    """Elements that several owners may want; the first one that does says what a map holds."""

    def __init__(self) -> None:
        self._wishes: dict[Element, tuple[_Wish, ...]] = {}

    def state(self, element: Element) -> _State:
        """What the kernel should hold for it."""
        wishes = self._wishes.get(element)
        return wishes[0][1] if wishes else ABSENT

    def add(self, owner: Hashable, element: Element, data: bytes | None) -> None:
        """``owner`` does not want it yet."""
        self._wishes[element] = (*self._wishes.get(element, ()), (owner, data))

    def remove(self, owner: Hashable, element: Element) -> None:
        """``owner`` wants it no more."""
        left = tuple(wish for wish in self._wishes.get(element, ()) if wish[0] != owner)
        if left:
            self._wishes[element] = left
        else:
            self._wishes.pop(element, None)

    def all(self) -> Elements:
        """Every element with what a map says for it."""
        return {element: wishes[0][1] for element, wishes in self._wishes.items()}


class Edit:
    """What one call changes, whatever the order of taking away and putting there."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._before: dict[Element, _State] = {}
        self._own: dict[Element, _State] = {}

    def take(self, owner: Hashable, wanted: Mapping[Element, bytes | None]) -> None:
        """Withdraw what ``owner`` shares."""
        for element in wanted:
            self._before.setdefault(element, self._shared.state(element))
            self._shared.remove(owner, element)

    def put(self, owner: Hashable, wanted: Mapping[Element, bytes | None]) -> None:
        """Let ``owner`` share."""
        for element, data in wanted.items():
            self._before.setdefault(element, self._shared.state(element))
            self._shared.add(owner, element, data)

    def take_own(self, wanted: Mapping[Element, bytes | None]) -> None:
        """Remove what nobody else can want."""
        for element, data in wanted.items():
            self._before.setdefault(element, data)
            self._own[element] = ABSENT

    def put_own(self, wanted: Mapping[Element, bytes | None]) -> None:
        """Add what nobody else can want."""
        for element, data in wanted.items():
            self._before.setdefault(element, ABSENT)
            self._own[element] = data

    def changes(self) -> list[ElementChange]:
        """Removals first: an element that a map says something else for is made anew."""
        gone: list[ElementChange] = []
        there: list[ElementChange] = []
        for element, before in self._before.items():
            own = self._own
            after = own[element] if element in own else self._shared.state(element)
            if after == before:
                continue
            name, key = element
            if not isinstance(before, _Absent):
                gone.append(ElementChange(name, key, add=False))
            if not isinstance(after, _Absent):
                there.append(ElementChange(name, key, data=after))
        return gone + there


def difference(before: Elements, after: Elements) -> list[list[ElementChange]]:
    """What turns the one into the other; the two changes of a replaced element stay together."""
    changes = [
        [ElementChange(name, key, add=False)] for (name, key) in before if (name, key) not in after
    ]
    for (name, key), data in after.items():
        if (name, key) not in before:
            changes.append([ElementChange(name, key, data=data)])
        elif before[name, key] != data:
            changes.append(
                [ElementChange(name, key, add=False), ElementChange(name, key, data=data)]
            )
    return changes
