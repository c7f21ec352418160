"""Configured objects: versions, secrets apart, lists in pages."""

from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.store.database import Store
from gateway.store.errors import ExistsError, NotThereError, VersionError
from gateway.store.objects import ObjectRepository, StoredObject
from gateway.store.schema import OBJECTS


class Objects:
    """A repository whose every call is a transaction of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 1000.0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            return self.store.do(
                lambda c: getattr(
                    ObjectRepository(c, self.store.sealer, wall_clock=lambda: self.now), name
                )(*arguments, **more)
            )

        return call


@pytest.fixture
def objects(store: Store) -> Objects:
    return Objects(store)


def test_an_object_is_created_read_changed_and_deleted(objects: Objects) -> None:
    made = objects.create("pools", "office", {"range": "10.0.0.0/24"}, {"psk": "geheim"})
    assert made == StoredObject(
        "pools", "office", 1, {"range": "10.0.0.0/24"}, 1000.0, 1000.0, {"psk": "geheim"}
    )
    assert objects.get("pools", "office", with_secrets=True) == made
    assert objects.get("pools", "office").secrets == {}
    objects.now = 2000.0
    changed = objects.replace("pools", "office", {"range": "10.1.0.0/24"}, version=1)
    assert (changed.version, changed.changed_at, changed.created_at) == (2, 2000.0, 1000.0)
    assert changed.secrets == {"psk": "geheim"}, "secrets stay when none are given"
    assert objects.replace("pools", "office", {}, {}).secrets == {}
    assert objects.delete("pools", "office", version=3).document == {}
    with pytest.raises(NotThereError, match="pools/office"):
        objects.get("pools", "office")


def test_a_lost_update_is_prevented(objects: Objects) -> None:
    objects.create("pools", "a", {})
    objects.replace("pools", "a", {"x": 1}, version=1)
    with pytest.raises(VersionError) as refused:
        objects.replace("pools", "a", {"x": 2}, version=1)
    assert refused.value.version == 2
    with pytest.raises(VersionError):
        objects.delete("pools", "a", version=1)
    assert objects.get("pools", "a").document == {"x": 1}


def test_names_are_unique_within_a_kind_and_know_case(objects: Objects) -> None:
    objects.create("pools", "a", {})
    objects.create("profiles", "a", {})
    objects.create("pools", "A", {})
    with pytest.raises(ExistsError):
        objects.create("pools", "a", {})
    for call in (objects.get, objects.delete):
        with pytest.raises(NotThereError):
            call("pools", "b")
    with pytest.raises(NotThereError):
        objects.replace("pools", "b", {})
    assert [(one.kind, one.name) for one in objects.all()] == [
        ("pools", "A"),
        ("pools", "a"),
        ("profiles", "a"),
    ]
    assert [one.name for one in objects.all("profiles")] == ["a"]


def test_secrets_are_not_readable_in_the_database_nor_in_repr(
    objects: Objects, store: Store
) -> None:
    made = objects.create("users", "anna", {}, {"password": "correct horse"})
    assert "correct horse" not in repr(made)
    raw = store.do(lambda c: c.scalars(select(OBJECTS.c.secrets)).one())
    assert b"correct horse" not in bytes(raw)


def test_secrets_moved_to_another_object_do_not_open(objects: Objects, store: Store) -> None:
    objects.create("users", "anna", {}, {"password": "hers"})
    objects.create("users", "eve", {}, {"password": "mine"})

    def swap(connection: Any) -> None:
        anna = connection.scalars(select(OBJECTS.c.secrets).where(OBJECTS.c.name == "anna")).one()
        connection.execute(update(OBJECTS).where(OBJECTS.c.name == "eve").values(secrets=anna))

    store.do(swap)
    anna, eve = objects.all(with_secrets=True)
    assert (anna.secrets, anna.damaged) == ({"password": "hers"}, None)
    assert eve.secrets == {}
    assert "users/eve" in eve.damaged


@pytest.mark.parametrize("sort", ["name", "-name", "changed_at", "-changed_at", "version"])
def test_pages_have_every_object_once(objects: Objects, store: Store, sort: str) -> None:
    def fill(connection: Any) -> None:
        repository = ObjectRepository(connection, store.sealer, wall_clock=lambda: objects.now)
        for number in range(50):
            objects.now = 1000.0 + number % 7
            repository.create("devices", f"{'aB'[number % 2]}{number}", {"n": number})

    store.do(fill)
    seen: list[StoredObject] = []
    page = objects.list("devices", sort=sort, limit=7)
    while True:
        assert page.total == 50
        seen += page.items
        if page.next is None:
            break
        assert len(page.items) == 7
        page = objects.list("devices", sort=sort, limit=7, after=page.next)
    assert len({one.name for one in seen}) == len(seen) == 50
    values = [(getattr(one, sort.removeprefix("-")), one.name) for one in seen]
    assert values == sorted(values, reverse=sort.startswith("-"))


def test_lists_are_filtered(objects: Objects) -> None:
    objects.create("devices", "annas-phone", {"platform": "android", "blocked": True, "n": 3})
    objects.create("devices", "bobs-phone", {"platform": "apple", "blocked": False, "n": 4})
    objects.create("devices", "100%", {"note": "50% of ANNAS_time"})

    def names(**filters: Any) -> list[str]:
        return [one.name for one in objects.list("devices", **filters).items]

    assert names(q="PHONE") == ["annas-phone", "bobs-phone"]
    assert names(q="annas") == ["100%", "annas-phone"]
    assert names(q="%") == ["100%"]
    assert names(q="s_t") == ["100%"], "an underscore is an underscore"
    assert names(where={"platform": "apple"}) == ["bobs-phone"]
    assert names(where={"blocked": True}) == ["annas-phone"]
    assert names(where={"n": 4, "platform": "apple"}) == ["bobs-phone"]
    assert names(where={"n": 4, "platform": "android"}) == []
    assert names(q="x'; DROP TABLE object; --") == []
    assert names(where={"x') = 1 OR (1": "1"}) == []
    with pytest.raises(ValueError, match="sort"):
        names(sort="document")


def test_a_transaction_is_all_or_nothing(objects: Objects, store: Store) -> None:
    def work(connection: Any) -> None:
        repository = ObjectRepository(connection, store.sealer)
        repository.create("pools", "a", {})
        repository.create("pools", "b", {})
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.do(work)
    assert objects.all() == ()
