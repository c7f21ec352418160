"""Who had which inner address when."""

from dataclasses import replace
from typing import Any

from gateway.store.database import Store
from gateway.store.lease_history import LOST, RELEASED, LeaseHistoryRepository, LeaseRow

ROW = LeaseRow("staff", "10.9.0.5", "ada@example.com", "ada", "a1_b2", "road", 100.0)


def other(number: int, **changes: Any) -> LeaseRow:
    given = {"session": f"s{number}", "address": f"10.9.0.{number}", "opened_at": 100.0 + number}
    return replace(ROW, **{**given, **changes})


def write(store: Store, *rows: LeaseRow) -> None:
    store.do(lambda c: LeaseHistoryRepository(c).write(rows))


def found(store: Store, **wanted: Any) -> list[tuple[str, str, float | None]]:
    rows = store.do(lambda c: LeaseHistoryRepository(c).find(**wanted))
    return [(one.session, one.address, one.closed_at) for one in rows]


def test_a_lease_begins_and_ends(store: Store) -> None:
    write(store, ROW, ROW, replace(ROW, closed_at=130.0, reason="over"))
    (row,) = store.do(lambda c: LeaseHistoryRepository(c).find())
    assert replace(row, id=0) == replace(ROW, closed_at=130.0, reason="over")
    # Another end changes nothing, and a clock that went back makes no lease of negative length.
    write(store, replace(ROW, closed_at=140.0), replace(ROW, opened_at=200.0))
    write(store, replace(ROW, closed_at=90.0))
    assert found(store) == [("a1_b2", "10.9.0.5", 200.0), ("a1_b2", "10.9.0.5", 130.0)]


def test_pages_and_filters(store: Store) -> None:
    write(store, *(other(n, pool="guests" if n % 2 else "staff") for n in range(6)))
    first = store.do(lambda c: LeaseHistoryRepository(c).find(limit=2))
    assert [one.session for one in first] == ["s5", "s4"]
    assert [one[0] for one in found(store, before=first[-1].id, limit=2)] == ["s3", "s2"]
    assert [one[0] for one in found(store, pool="guests")] == ["s5", "s3", "s1"]
    assert [one[0] for one in found(store, address="10.9.0.2")] == ["s2"]
    assert len(found(store, q="ADA@EX")) == 6
    assert found(store, q="%") == []
    assert store.do(lambda c: LeaseHistoryRepository(c).count(pool="guests")) == 3


def test_what_nobody_holds_after_a_restart_ended(store: Store) -> None:
    write(store, *map(other, range(1, 4)), replace(other(3), closed_at=104.0))
    lost = store.do(lambda c: LeaseHistoryRepository(c).settle({("s1", "10.9.0.1")}, 150.0))
    assert lost == 1
    rows = store.do(lambda c: LeaseHistoryRepository(c).find())
    assert [(one.session, one.closed_at, one.reason) for one in rows] == [
        ("s3", 104.0, ""),
        ("s2", 150.0, LOST),
        ("s1", None, ""),
    ]


def test_who_left_last_and_not_too_long_ago(store: Store) -> None:
    write(store, other(1), replace(other(1), closed_at=110.0))
    write(store, other(2), replace(other(2), closed_at=120.0))
    # The address that somebody else had before, or has again, is theirs.
    write(
        store, other(3, address="10.9.0.1"), replace(other(3, address="10.9.0.1"), closed_at=115.0)
    )
    write(store, other(4), replace(other(4), closed_at=130.0), other(5, address="10.9.0.4"))

    def left(since: float, limit: int = 10) -> list[str]:
        rows = store.do(lambda c: list(LeaseHistoryRepository(c).left_since(since, limit)))
        return [one.session for one in rows]

    assert left(0) == ["s3", "s2"]
    assert left(0, 1) == ["s2"]
    assert left(115.0) == ["s2"]


def test_trimming_spares_what_is_held(store: Store) -> None:
    rows = [other(n) for n in range(1, 9)]
    write(store, *rows, *(replace(one, closed_at=200.0 + n) for n, one in enumerate(rows[1:])))
    assert store.do(lambda c: LeaseHistoryRepository(c).trim(202.0)) == 2
    assert [one[0] for one in found(store)] == ["s8", "s7", "s6", "s5", "s4", "s1"]
    assert store.do(lambda c: LeaseHistoryRepository(c).trim(0.0, rows=3)) == 2
    assert [one[0] for one in found(store)] == ["s8", "s7", "s6", "s1"]


def test_what_was_released_is_kept_for_nobody(store: Store) -> None:
    write(store, other(1), other(2), replace(other(1), closed_at=110.0))

    def release(address: str) -> None:
        store.do(lambda c: LeaseHistoryRepository(c).release("staff", address))

    assert len(store.do(lambda c: list(LeaseHistoryRepository(c).left_since(0, 10)))) == 1
    release("10.9.0.1")
    release("10.9.0.2")
    assert store.do(lambda c: list(LeaseHistoryRepository(c).left_since(0, 10))) == []
    rows = store.do(lambda c: LeaseHistoryRepository(c).find())
    assert [(one.session, one.reason) for one in rows] == [("s2", ""), ("s1", RELEASED)]
    since = store.do(lambda c: LeaseHistoryRepository(c).open_since())
    assert since == {("s2", "10.9.0.2"): 102.0}
