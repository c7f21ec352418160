"""Address pools that many come to and leave."""

from ipaddress import ip_address, ip_network
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.domain.endpoint import IpAddress
from gateway.domain.pools import AddressPool, Hold, PoolExhausted

NAMES = st.sampled_from([f"peer{n}" for n in range(9)])
NUMBERS = st.integers(0, 9)


class PoolMachine(RuleBasedStateMachine):
    """Whatever comes: no address twice, none of somebody else's, none lost."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.held: list[tuple[IpAddress, str]] = []
        self.static = {"peer0": ip_address("10.9.0.2")}
        self.pool = self.made(10.0)

    def made(self, lease_s: float) -> AddressPool:
        return AddressPool(
            "road",
            ip_network("10.9.0.0/29"),
            [ip_address("10.9.0.6")],
            static=self.static,
            lease_s=lease_s,
            clock=lambda: self.now,
        )

    def wanted(self, number: int) -> IpAddress:
        return ip_address(int(ip_address("10.9.0.0")) + number)

    @rule(name=NAMES, number=st.none() | NUMBERS)
    def lease(self, name: str, number: int | None) -> None:
        before = {one.address: one for one in self.pool.held()}
        try:
            address = self.pool.lease(name, None if number is None else self.wanted(number))
        except PoolExhausted:
            assert len([one for one in self.held if one[0] not in self.static.values()]) == 5 - len(
                set(self.static.values())
            )
            return
        assert address not in [one for one, _ in self.held]
        assert address in ip_network("10.9.0.1/32") or address != ip_address("10.9.0.6")
        assert address not in self.static.values() or self.static.get(name) == address
        found = before.get(address)
        if found is not None and found.why is Hold.KEPT and found.identity != name:
            # Somebody else's, so there was no other, and nobody waits for longer.
            kept = [one for one in before.values() if one.why is Hold.KEPT]
            assert found.until == min(one.until for one in kept)
            assert len(before) == 5
        self.held.append((address, name))

    @rule(number=NUMBERS)
    def release(self, number: int) -> None:
        if self.held:
            address, _ = self.held.pop(number % len(self.held))
            self.pool.release(address)

    @rule(number=NUMBERS)
    def forget(self, number: int) -> None:
        self.pool.forget(self.wanted(number))

    @rule(name=NAMES, number=NUMBERS)
    def reclaim(self, name: str, number: int) -> None:
        address = self.wanted(number)
        if self.pool.reclaim(name, address):
            self.held.append((address, name))

    @rule(name=NAMES, number=NUMBERS, age=st.floats(0, 20))
    def keep(self, name: str, number: int, age: float) -> None:
        # As at a start: nothing was left since.
        if self.pool.kept == 0:
            self.pool.keep(name, self.wanted(number), self.now - age)

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        lease_s=st.sampled_from([0.0, 5.0, 10.0]), names=st.dictionaries(NAMES, NUMBERS, max_size=3)
    )
    def reload(self, lease_s: float, names: dict[str, int]) -> None:
        usable = {name: 1 + number % 5 for name, number in names.items()}
        self.static = {name: self.wanted(number) for name, number in usable.items()}
        self.pool.adopt(self.made(lease_s))
        # As the engine does: who has another's address loses it.
        for address, name in list(self.held):
            if self.pool.is_anothers(address, name):
                self.held.remove((address, name))
                self.pool.release(address)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.pool.in_use == len(self.held)
        assert {one.address for one in self.pool.held() if one.why is Hold.IN_USE} == {
            address for address, _ in self.held
        }


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase


def test_ten_thousand_devices_come_and_go_in_any_order() -> None:
    random = Random(8)
    pool = AddressPool("road", ip_network("10.64.0.0/18"), lease_s=3600.0, clock=lambda: 0.0)
    here: dict[str, IpAddress] = {}
    last: dict[str, IpAddress] = {}
    for _ in range(60_000):
        name = f"device{random.randrange(10_000)}"
        if name in here:
            pool.release(here.pop(name))
        else:
            here[name] = pool.lease(name)
            # 16,382 addresses are enough for everybody to have the same one always.
            assert last.setdefault(name, here[name]) == here[name]
    assert len(set(here.values())) == len(here) == pool.in_use
    assert len(set(last.values())) == len(last)


def test_a_pool_too_small_for_all_never_gives_one_twice() -> None:
    random = Random(9)
    pool = AddressPool("road", ip_network("10.64.0.0/22"), lease_s=50.0)
    here: dict[str, IpAddress] = {}
    refused = 0
    for _ in range(40_000):
        name = f"device{random.randrange(10_000)}"
        if name in here:
            pool.release(here.pop(name))
            continue
        try:
            here[name] = pool.lease(name)
        except PoolExhausted:
            refused += 1
            assert len(here) == pool.size
    assert refused
    assert len(set(here.values())) == len(here) == pool.in_use
