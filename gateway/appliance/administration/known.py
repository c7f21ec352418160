"""The stored objects in memory: what lists show and the configuration is made of."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gateway.config.kinds import KINDS, Stored
from gateway.config.secrets import join

if TYPE_CHECKING:
    from gateway.store.database import Store
    from gateway.store.objects import StoredObject

Key = tuple[str, str]


class KnownObjects:
    """By kind and name. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._by_kind: dict[str, dict[str, StoredObject]] = {kind: {} for kind in KINDS}

    def __len__(self) -> int:
        return sum(map(len, self._by_kind.values()))

    def read(self, store: "Store") -> None:
        """Everything that is stored. Waits for the database; only before the loop runs."""
        from gateway.store.errors import StoreError  # noqa: PLC0415 - costs SQLAlchemy
        from gateway.store.objects import ObjectRepository  # noqa: PLC0415

        try:
            found = store.do(lambda c: ObjectRepository(c, store.sealer).all(with_secrets=True))
        except StoreError:
            return  # the store told why
        self.replace_all(found)

    def replace_all(self, objects: "tuple[StoredObject, ...]") -> None:
        """Forget everything for these."""
        for known in self._by_kind.values():
            known.clear()
        for one in objects:
            self.put(one)

    def of(self, kind: str) -> "Mapping[str, StoredObject]":
        """Those of a kind, by name."""
        return self._by_kind[kind]

    def get(self, kind: str, name: str) -> "StoredObject | None":
        """One of them."""
        return self._by_kind[kind].get(name)

    def put(self, one: "StoredObject") -> None:
        """Remember it, in place of the one with its name. Kinds of newer versions are left."""
        if one.kind in self._by_kind:
            self._by_kind[one.kind][one.name] = one

    def remove(self, kind: str, name: str) -> None:
        """Forget it."""
        self._by_kind[kind].pop(name, None)

    def heavy(self) -> list[Stored]:
        """What is part of the configuration, with its secrets."""
        return [whole(one) for one in self._heavy()]

    def heavy_keys(self) -> set[Key]:
        """Their kinds and names."""
        return {(one.kind, one.name) for one in self._heavy()}

    def _heavy(self) -> "Iterator[StoredObject]":
        for kind, known in self._by_kind.items():
            if not KINDS[kind].light:
                yield from known.values()


def whole(one: "StoredObject") -> Stored:
    """As the configuration sees it."""
    return Stored(one.kind, one.name, join(one.document, one.secrets))
