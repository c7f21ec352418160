"""Who holds which inner address and why, who held it, and what a restart makes of it."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.appliance.remote_access import leases, reachability
from gateway.appliance.remote_access.leases import Leases
from gateway.config.document import Config
from gateway.control.protocol import ControlError, Role, check_request
from gateway.domain.pools import AddressPool
from gateway.domain.remote_access import Grant, Presence
from gateway.store.database import Store, StoreSettings

A = ip_address


def config(**pool: Any) -> Config:
    tables = {"network": "10.9.0.0/28", "reserved": ["10.9.0.1"], "lease_s": 100.0, **pool}
    return Config.model_validate({"pools": {"staff": tables}})


class FakeReach:
    def __init__(self) -> None:
        self.there: list[str] = []
        self.done: list[str] = []

    def open(self) -> None:
        self.done.append("open")

    async def start(self) -> None:
        self.done.append("start")

    async def stop(self, *, keep: bool) -> None:
        self.done.append(f"stop {keep}")

    def configure(self, _config: Config) -> None:
        self.done.append("configure")

    def add(self, address: Any) -> None:
        self.there.append(str(address))

    def remove(self, address: Any) -> None:
        self.there.remove(str(address))

    def commit(self) -> None:
        self.done.append("commit")

    async def views(self) -> list[Any]:
        return []


class World:
    """A process: its engine's pools, its grants, and the store that outlives it."""

    def __init__(self, store: Store | None, *, at: float = 1_000_000.0) -> None:
        self.now = at
        self.booted = at - 50
        """What the monotonic clock counts from is another moment in each process."""
        self.config = config(static={"printer": "10.9.0.2"})
        section = self.config.pools["staff"]
        self.pool = AddressPool(
            "staff",
            section.network,
            [A("10.9.0.1")],
            static=section.static,
            lease_s=section.lease_s,
            clock=self.clock,
        )
        self.reach = FakeReach()
        self.events: list[Any] = []
        joint = SimpleNamespace(
            config=lambda: self.config,
            grants=dict,
            engine=SimpleNamespace(pools={"staff": self.pool}),
            emit=self.events.append,
            configured_device=lambda identity: (
                SimpleNamespace(name="ada-phone") if identity == "ada@example.com" else None
            ),
            clock=self.clock,
            wall_clock=lambda: self.now,
            taken=SimpleNamespace(database=store),
        )
        self.part = Leases(joint, self.reach)  # type: ignore[arg-type]
        self.grants: dict[str, Grant] = {}

    def clock(self) -> float:
        return self.now - self.booted

    def come(self, session: str, peer: str, user: str = "") -> Grant:
        address = self.pool.lease(user or peer, device=peer)
        return self.tell(Grant(session, peer, user, connection="road", addresses=(address,)))

    def tell(self, grant: Grant) -> Grant:
        self.grants[grant.session] = grant
        self.part.granted(grant)
        self.part.commit()
        return grant

    def go(self, session: str) -> None:
        grant = self.grants.pop(session)
        self.part.ended(grant)
        for one in grant.addresses:
            self.pool.release(one)
        self.part.commit()

    async def ask(self, op: str, **args: Any) -> Any:
        request = check_request({"op": op, "args": args}, Role.ADMINISTRATOR)
        return await self.part.handlers()[op](request)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = Store(StoreSettings(tmp_path), lambda _event: None)
    one.open()
    yield one
    one.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_every_address_that_is_held_says_why(store: Store) -> None:
    async def story() -> None:
        world = World(store)
        await world.part.start()
        world.come("a1_b1", "ada@example.com")
        world.come("a2_b2", "laptop", "bob")
        world.now += 10
        world.go("a2_b2")
        page = await world.ask("leases")
        assert page["total"] == 4
        seen = {one["address"]: one for one in page["items"]}
        assert list(seen) == ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4"]
        assert seen["10.9.0.1"]["state"] == "reserved"
        ada = seen["10.9.0.3"]
        assert (ada["state"], ada["session"], ada["device"]) == ("in-use", "a1_b1", "ada-phone")
        assert ada["since"].startswith("1970-01-12T13:46:40")
        assert ada["why"] == "in use by session a1_b1"
        bob = seen["10.9.0.4"]
        assert (bob["state"], bob["identity"]) == ("kept", "bob")
        assert bob["until"].startswith("1970-01-12T13:48:30")
        assert bob["since"].startswith("1970-01-12T13:46:50")
        assert seen["10.9.0.2"]["state"] == "static"
        await world.part.stop(keep=False)

    run(story())


def test_pages_and_what_is_searched_for() -> None:
    async def story() -> None:
        world = World(None)
        for n in range(6):
            world.come(f"s{n}", f"peer{n}")
        first = await world.ask("leases", limit=3)
        assert [one["address"] for one in first["items"]] == ["10.9.0.1", "10.9.0.2", "10.9.0.3"]
        second = await world.ask("leases", limit=3, cursor=first["next"])
        assert [one["address"] for one in second["items"]] == ["10.9.0.4", "10.9.0.5", "10.9.0.6"]
        last = await world.ask("leases", limit=3, cursor=second["next"])
        assert last["next"] is None
        assert (len(last["items"]), last["total"]) == (2, 8)
        for q in ("PEER4", "10.9.0.7", "s4"):
            found = await world.ask("leases", q=q)
            assert [one["identity"] for one in found["items"]] == ["peer4"]
        with pytest.raises(ControlError, match=r"no pools\.guests"):
            await world.ask("leases", pool="guests")
        with pytest.raises(ControlError, match="cursor"):
            await world.ask("leases", cursor="_")

    run(story())


def test_who_had_an_address_when(store: Store) -> None:
    async def story() -> None:
        world = World(store)
        await world.part.start()
        world.come("s1", "laptop", "bob")
        world.now += 5
        world.go("s1")
        world.come("s2", "laptop", "bob")
        page = await world.ask("lease-history")
        assert [(one["session"], one["last_at"] is None) for one in page["items"]] == [
            ("s2", True),
            ("s1", False),
        ]
        ended = page["items"][1]
        assert (ended["pool"], ended["address"], ended["reason"]) == ("staff", "10.9.0.3", "ended")
        assert (ended["identity"], ended["user"]) == ("laptop", "bob")
        first = await world.ask("lease-history", limit=1, address="10.9.0.3")
        rest = await world.ask("lease-history", limit=1, cursor=first["next"], q="bob")
        assert [one["session"] for one in rest["items"]] == ["s1"]
        assert (first["total"], rest["next"]) == (2, None)
        with pytest.raises(ControlError, match="no IP address"):
            await world.ask("lease-history", address="1.2.3.4.5")
        await world.part.stop(keep=True)

    run(story())


def test_what_was_kept_outlives_a_restart(store: Store) -> None:
    async def story() -> None:
        world = World(store)
        await world.part.start()
        world.come("s1", "ada@example.com")
        world.come("s2", "laptop", "bob")
        world.come("s3", "lost")
        world.go("s1")
        world.go("s2")
        await world.ask("lease-release", pool="staff", address="10.9.0.4")
        await world.part.stop(keep=True)

        after = World(store, at=world.now + 60)
        await after.part.start()
        kept = {str(one.address): one for one in after.pool.held() if one.why.value == "kept"}
        # Bob's was released; the one whose session did not outlast the restart is kept from now.
        assert {name: one.identity for name, one in kept.items()} == {
            "10.9.0.3": "ada@example.com",
            "10.9.0.5": "lost",
        }
        assert kept["10.9.0.3"].until - after.clock() == pytest.approx(40)
        assert str(after.pool.lease("eve")) == "10.9.0.4"
        assert str(after.pool.lease("ada@example.com")) == "10.9.0.3"
        history = await after.ask("lease-history")
        assert [one["reason"] for one in history["items"]] == ["lost", "released", "ended"]
        await after.part.stop(keep=True)

        late = World(store, at=world.now + 200)
        await late.part.start()
        assert late.pool.kept == 0
        await late.part.stop(keep=True)

    run(story())


def test_a_session_that_goes_on_has_one_lease_all_the_time(store: Store) -> None:
    async def story() -> None:
        world = World(store)
        await world.part.start()
        grant = world.come("s1", "ada@example.com")
        await world.part.stop(keep=True)
        after = World(store, at=world.now + 60)
        assert after.pool.reclaim("ada@example.com", grant.addresses[0])
        after.tell(grant)
        await after.part.start()
        (row,) = (await after.ask("lease-history"))["items"]
        assert (row["session"], row["last_at"]) == ("s1", None)
        (seen,) = (await after.ask("leases", q="s1"))["items"]
        assert seen["since"] == row["first_at"]
        await after.part.stop(keep=True)

    run(story())


def test_a_new_login_with_the_same_address_takes_it_over() -> None:
    world = World(None)
    grant = world.come("s1", "ada@example.com")
    world.part.ended(grant)
    world.part.granted(replace(grant, session="s2"))
    assert world.reach.there == ["10.9.0.3"]
    # And in the other order, which would leave the address with nobody if names did not count.
    world.part.granted(replace(grant, session="s3"))
    world.part.ended(replace(grant, session="s2"))
    assert "10.9.0.3" in world.reach.there


def test_another_grant_of_a_session_changes_what_it_has() -> None:
    world = World(None)
    grant = world.come("s1", "ada@example.com")
    other = world.pool.lease("ada@example.com")
    world.tell(replace(grant, addresses=(grant.addresses[0], other)))
    assert world.reach.there == ["10.9.0.3", "10.9.0.4"]
    world.tell(replace(grant, addresses=(other,)))
    assert world.reach.there == ["10.9.0.4"]
    world.tell(replace(grant, addresses=()))
    assert world.reach.there == []


def test_behind_napt_only_an_address_of_a_pool_is_a_lease() -> None:
    world = World(None)
    own = Grant("s1", "a", addresses=(A("192.168.1.5"),), presence=Presence.NAPT, zone=1)
    world.tell(own)
    leased = world.pool.lease("b")
    world.tell(Grant("s2", "b", addresses=(leased,), presence=Presence.NAPT, zone=2))
    assert world.reach.there == []
    assert world.part.facts()["sessions"] == 1


@pytest.mark.parametrize(
    ("pool", "address", "words"),
    [
        ("guests", "10.9.0.3", r"no pools\.guests"),
        ("staff", "192.0.2.1", r"not of pools\.staff"),
        ("staff", "10.9.0.3", "disconnect the session"),
        ("staff", "10.9.0.2", "printer's; remove it from static"),
        ("staff", "10.9.0.9", "kept for nobody"),
        ("staff", "10.9.0.1", "kept for nobody"),
        ("staff", "1.2.3.4.5", "no IP address"),
    ],
)
def test_what_cannot_be_released(pool: str, address: str, words: str) -> None:
    world = World(None)
    world.come("s1", "ada@example.com")
    with pytest.raises(ControlError, match=words):
        run(world.ask("lease-release", pool=pool, address=address))


def test_without_a_store_there_is_no_history() -> None:
    async def story() -> None:
        world = World(None)
        await world.part.start()
        world.come("s1", "ada@example.com")
        world.go("s1")
        with pytest.raises(ControlError, match="without a store"):
            await world.ask("lease-history")
        await world.part.stop(keep=True)
        assert world.part.facts()["history"] == {"written": 0, "failures": 0, "lost": 0}

    run(story())


def test_a_store_that_takes_nothing_is_told_once_and_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        world = World(store)
        await world.part.start()
        works = store.run

        async def broken(*_args: Any, **_named: Any) -> Any:
            raise OSError(28, "no space left")

        monkeypatch.setattr(store, "run", broken)
        world.come("s1", "ada@example.com")
        await world.part._journal._write()
        await world.part._journal._write()
        assert [one.name for one in world.events] == ["lease_history_unwritten"]
        monkeypatch.setattr(store, "run", works)
        assert (await world.ask("lease-history"))["total"] == 1
        await world.part.stop(keep=True)

    run(story())


def test_hostile_rows_of_the_database_keep_no_gateway_from_starting(store: Store) -> None:
    from gateway.store.lease_history import LeaseHistoryRepository, LeaseRow

    rows = [
        LeaseRow("staff", "no address", "x", "", "s1", "", 999_990.0),
        LeaseRow("staff", "no address", "x", "", "s1", "", 999_990.0, 999_999.0),
        LeaseRow("staff", "10.9.0.5", "y", "", "s2", "", 999_990.0),
        LeaseRow("staff", "10.9.0.5", "y", "", "s2", "", 999_990.0, 9e12),
        LeaseRow("gone", "10.9.0.6", "z", "", "s3", "", 999_990.0),
        LeaseRow("gone", "10.9.0.6", "z", "", "s3", "", 999_990.0, 999_999.0),
    ]
    store.do(lambda c: LeaseHistoryRepository(c).write(rows))

    async def story() -> None:
        world = World(store)
        await world.part.start()
        assert [str(one.address) for one in world.pool.held() if one.identity == "y"] == [
            "10.9.0.5"
        ]
        assert world.pool.kept == 1
        await world.part.stop(keep=True)

    run(story())


def test_pools_are_told_with_how_the_inside_finds_them() -> None:
    async def story() -> None:
        world = World(None)
        world.come("s1", "ada@example.com")
        answer = await world.ask("reachability")
        assert answer["pools"] == [
            {
                "pool": "staff",
                "network": "10.9.0.0/28",
                "size": 13,
                "in_use": 1,
                "kept": 0,
                "static": 1,
                "reserved": 3,
            }
        ]

    run(story())


def test_the_part_is_built_by_its_module() -> None:
    world = World(None)
    part = leases.build(world.part._joint)
    assert set(part.handlers()) == {"leases", "lease-history", "lease-release", "reachability"}
    world.part.open()
    world.part.reconfigure(config(network="10.9.0.0/27"))
    assert world.reach.done == ["open", "configure"]
    assert reachability.LOOK_S > 0
    assert ip_network("10.9.0.0/28") == world.pool.network


def test_ten_thousand_devices_come_and_go_and_all_of_it_is_written_down(store: Store) -> None:
    devices = 10_000

    async def story() -> None:
        world = World(store)
        world.pool = AddressPool("staff", ip_network("10.64.0.0/18"), clock=world.clock)
        world.part._joint.engine.pools["staff"] = world.pool
        await world.part.start()
        for n in range(devices):
            world.come(f"a{n}", f"peer{n}")
        assert (world.pool.in_use, len(world.reach.there)) == (devices, devices)
        page = await world.ask("leases", q="peer9999", limit=1)
        assert (page["total"], page["items"][0]["session"]) == (1, "a9999")
        world.reach.there.clear()
        world.reach.remove = lambda _address: None  # type: ignore[method-assign]
        for n in range(devices):
            world.go(f"a{n}")
        for n in range(0, devices, 2):
            world.come(f"b{n}", f"peer{n}")
        assert (world.pool.in_use, world.pool.kept) == (devices // 2, devices // 2)
        history = await world.ask("lease-history", limit=1)
        assert history["total"] == devices + devices // 2
        assert world.part.facts()["history"]["lost"] == 0  # type: ignore[index]
        await world.part.stop(keep=False)

    run(story())
