"""Every message of every exchange of every kind of client, cut at every octet and changed.

Both roles, both versions: from the first message over configuration, EAP and XAUTH to rekeying,
liveness and delete. What is protected changes nothing at all. What comes in the clear may mislead
an unproven exchange, but it raises nothing, admits nobody and costs a line at most.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hostile_clients import HONEST_NAMES
from hostile_world import Flight, Party, World

from gateway.ike.outputs import Event, MoveChildSa, Severity, Transmit
from gateway.ike.v1.sa import IkeSa as IkeSa1

FLIPS = 40
"""Of each message; every cut is tried."""
VERSION_AT, EXCHANGE_AT, FLAGS_AT, LENGTH_AT = 17, 18, 19, 24
V1_ENCRYPTED = 1
V1_AGGRESSIVE = 4
V1_PHASE_1 = frozenset({2, V1_AGGRESSIVE})
V2_INIT = 34


def is_protected(message: bytes) -> bool:
    """Whether its receiver can tell that every octet is the sender's."""
    if message[VERSION_AT] >> 4 == 1:
        return bool(message[FLAGS_AT] & V1_ENCRYPTED) and message[EXCHANGE_AT] not in V1_PHASE_1
    return message[EXCHANGE_AT] != V2_INIT


def digest(party: Party) -> Any:
    """All that a message could change."""
    core = party.engine._core
    sas = []
    for sa in core.sas.values():
        common = (
            sa.spis,
            sa.state_name,
            sa.evidence,
            sa.peer_id,
            sa.connection_name,
            sa.path,
            sa.inner_address,
            sa.ticket,
            sa.user,
            sa.last_inbound,
            tuple((spi, child.state, child.replaced_by) for spi, child in sa.children.items()),
        )
        if isinstance(sa, IkeSa1):
            # While keys are tried there is one for each.
            iv = sa.iv if sa.keys is not None else b""
            sas.append((common, iv, tuple(sa.exchanges), sa.finished_ids, sa.last_digest))
        else:
            window = sa.window
            sas.append((common, window.expected, window.next_request, window.held))
    return (
        sas,
        sorted(core.timers._deadline.items(), key=repr),
        dict(core.asked),
        [dict(pool._leased) for pool in core.pools.values()],
        len(core.half_open),
        dict(party.installed),
    )


def cuts(message: bytes) -> Iterator[bytes]:
    """Cut at every octet, as such and with a length that fits."""
    for size in range(len(message)):
        yield message[:size]
        if size >= 28:
            yield message[:LENGTH_AT] + size.to_bytes(4, "big") + message[28:size]


def flips(message: bytes, rng: random.Random) -> Iterator[bytes]:
    """Bits changed, but not those of the SPIs: these name another SA, which is tried elsewhere.

    Of IKEv1 neither header nor padding is authenticated, so there it is what lies between.
    """
    first, last = 16, len(message)
    if message[VERSION_AT] >> 4 == 1 and message[FLAGS_AT] & V1_ENCRYPTED:
        first, last = 28, len(message) - 16
    for _ in range(FLIPS):
        octets = bytearray(message)
        for _ in range(rng.choice((1, 1, 2))):
            octets[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
        if octets != message:
            yield bytes(octets)


def may_prove(message: bytes) -> bool:
    """Whether a changed message may count: the proof of IKEv1 covers no notify beside it."""
    proves = message[EXCHANGE_AT] == V1_AGGRESSIVE or message[FLAGS_AT] & V1_ENCRYPTED
    return message[VERSION_AT] >> 4 == 1 and bool(proves)


def feed(party: Party, flight: Flight, messages: Iterator[bytes], now: float) -> tuple[int, int]:
    """Give messages to an engine; (log lines, octets sent in answer)."""
    lines = sent = 0
    for message in messages:
        party.engine.receive(message, flight.path, now)
        for output in party.engine.take_outputs():
            if isinstance(output, Transmit):
                sent += len(output.message)
                continue
            party.take(output)
            if isinstance(output, Event):
                lines += output.logged and output.severity is not Severity.DEBUG
            elif not (isinstance(output, MoveChildSa) and may_prove(flight.message)):
                # A renewal of IKEv1 takes the children along; see may_prove.
                raise AssertionError(f"a message that is none caused {output}")
    return lines, sent


def storm(world: World, flight: Flight, rng: random.Random) -> None:
    party = world.parties[flight.receiver]
    before = digest(party)
    size = len(flight.message)
    lines, sent = feed(party, flight, cuts(flight.message), world.now)
    assert digest(party) == before, f"a cut message of {size} octets changed something"
    assert sent <= 10 * 200, "answers to cut messages"
    assert lines <= 1
    if is_protected(flight.message):
        lines, _ = feed(party, flight, flips(flight.message, rng), world.now)
        assert digest(party) == before, "a changed message changed something"
        assert lines <= 1
    world.check()


def clear_storm(world: World, flight: Flight, rng: random.Random) -> None:
    """Changes of what nobody vouches for: they may make other half-open SAs."""
    party = world.parties[flight.receiver]
    established = [sa.spis for sa in party.engine._core.sas.values() if sa.established]
    installed = dict(party.installed)
    feed(party, flight, flips(flight.message, rng), world.now)
    world.check()
    now = [sa.spis for sa in party.engine._core.sas.values() if sa.established]
    # Whose it is was checked above.
    assert now == established or may_prove(flight.message)
    assert party.installed == installed


def life(world: World, name: str) -> Iterator[Callable[[], object]]:
    """What is done to a client, one after the other; each causes messages."""
    device = world.device(name)
    gateway = world.gateway

    def rekey(party: Party, *, children: bool) -> None:
        for sa in list(party.engine._core.sas.values()):
            party.engine.rekey(sa.spis, world.now, children=children)

    yield lambda: device.engine.initiate(name, world.now)
    yield lambda: rekey(device, children=True)
    yield lambda: rekey(gateway, children=True)
    yield lambda: rekey(device, children=False)
    yield lambda: rekey(gateway, children=False)
    yield lambda: world.fire(61.0)
    yield lambda: gateway.engine.close_all(world.now)


def carry(world: World, name: str, visit: Callable[[int, Flight], None]) -> int:
    """A client's whole life; ``visit`` sees each message before it arrives. How many."""
    count = 0
    for action in life(world, name):
        action()
        world.collect()
        for _ in range(60):
            if world.flights:
                flight = world.flights.pop(0)
                visit(count, flight)
                count += 1
                world.deliver(flight)
            elif world.questions:
                world.answer(world.questions.pop(0))
            else:
                break
    return count


class Enough(Exception):  # noqa: N818 - not a fault
    """The message that was to be looked at came."""


@pytest.mark.parametrize("name", HONEST_NAMES)
def test_h05_h06_every_message_cut_and_changed(name: str) -> None:
    rng = random.Random(name)
    unprotected: list[int] = []
    reached: set[str] = set()

    def visit(number: int, flight: Flight) -> None:
        reached.add(flight.receiver)
        if is_protected(flight.message):
            storm(world, flight, rng)
        else:
            unprotected.append(number)

    world = World(1, (name,))
    total = carry(world, name, visit)
    assert len(reached) == 2
    assert total >= 12
    assert unprotected
    world.end()
    # What nobody vouches for is tried in a world of its own each time.
    for wanted in unprotected[:8]:
        world = fresh = World(1, (name,))

        def clear(number: int, flight: Flight, wanted: int = wanted, fresh: World = fresh) -> None:
            if number == wanted:
                storm(fresh, flight, rng)
                clear_storm(fresh, flight, rng)
                raise Enough

        with pytest.raises(Enough):
            carry(world, name, clear)
        world.end()
