"""The whole engine against an enemy who owns the network, the clock and the order of all things.

Clients of every kind and strangers with wrong credentials connect at once, in both versions of
IKE, while datagrams are lost, repeated, reordered, replayed from elsewhere, reflected, cut,
changed and sent to other SAs, users' answers come late, twice and in any order, and administrators
close, rekey and reconfigure. After each step all of :meth:`World.check` holds, and in the end
nothing is left of anything.

``GATEWAY_HOSTILE_EXAMPLES`` makes longer runs: ``GATEWAY_HOSTILE_EXAMPLES=5000 pytest -k machine``.
"""

import os
from dataclasses import replace

from hostile_world import ELSEWHERE, Flight, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.user_auth import Accepted, Challenged, Rejected, Unavailable
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.sa import IkeSa

EXAMPLES = int(os.environ.get("GATEWAY_HOSTILE_EXAMPLES", "30"))
STEPS = 40
SOME = st.integers(min_value=0, max_value=10**6)


class Enemy(RuleBasedStateMachine):
    """Everything that the world may do to an engine."""

    @initialize(seed=SOME, first=st.lists(SOME, min_size=1, max_size=4), settled=st.booleans())
    def begin(self, seed: int, first: list[int], settled: bool) -> None:
        self.world = World(seed)
        for which in first:
            self.connect(which)
        if settled:
            self.world.settle()

    # -- peers ----------------------------------------------------------------------------

    @rule(which=SOME)
    def connect(self, which: int) -> None:
        party = self.world.devices[which % len(self.world.devices)]
        assert party.kind is not None
        party.engine.initiate(party.kind.name, self.world.now)
        self.world.collect()

    @rule(which=SOME)
    def device_goes_away(self, which: int) -> None:
        party = self.world.devices[which % len(self.world.devices)]
        party.engine.close_all(self.world.now)
        self.world.collect()

    # -- the network ------------------------------------------------------------------------

    def flight(self, at: int) -> Flight:
        return self.world.flights.pop(at % len(self.world.flights))

    def old(self, at: int) -> Flight:
        """Lately sent ones are more interesting."""
        seen = self.world.seen
        return seen[-1 - at % min(len(seen), 60)]

    @rule()
    def all_is_well_for_a_while(self) -> None:
        self.world.settle()

    @precondition(lambda self: self.world.flights)
    @rule(at=SOME, times=st.integers(1, 3))
    def deliver(self, at: int, times: int) -> None:
        flight = self.flight(at)
        for _ in range(times):
            self.world.deliver(flight)

    @precondition(lambda self: self.world.flights)
    @rule()
    def deliver_in_order(self) -> None:
        for _ in range(min(len(self.world.flights), 6)):
            self.world.deliver(self.world.flights.pop(0))

    @precondition(lambda self: self.world.flights)
    @rule(at=SOME)
    def lose(self, at: int) -> None:
        self.flight(at)

    @precondition(lambda self: self.world.seen)
    @rule(at=SOME, elsewhere=st.booleans())
    def replay(self, at: int, elsewhere: bool) -> None:
        flight = self.old(at)
        path = Path(flight.path.local, ELSEWHERE) if elsewhere else flight.path
        self.world.deliver(replace(flight, path=path))

    @precondition(lambda self: self.world.seen)
    @rule(at=SOME)
    def reflect(self, at: int) -> None:
        flight = self.old(at)
        back = Path(flight.path.remote, flight.path.local)
        sender = next(
            (name for name in self.world.parties if name == str(back.local.address)),
            "gateway",
        )
        self.world.deliver(Flight(sender, flight.message, back))

    @precondition(lambda self: self.world.seen)
    @rule(at=SOME, size=SOME, lengthened=st.booleans())
    def cut(self, at: int, size: int, lengthened: bool) -> None:
        flight = self.old(at)
        octets = bytearray(flight.message[: size % (len(flight.message) + 1)])
        if lengthened and len(octets) >= 28:
            octets[24:28] = len(octets).to_bytes(4, "big")
        self.world.deliver(replace(flight, message=bytes(octets)))

    @precondition(lambda self: self.world.seen)
    @rule(at=SOME, bits=st.lists(SOME, min_size=1, max_size=3), header=st.booleans())
    def flip(self, at: int, bits: list[int], header: bool) -> None:
        flight = self.old(at)
        octets = bytearray(flight.message)
        if not octets:
            return
        for bit in bits:
            at = bit % ((28 if header else len(octets)) * 8)
            if at // 8 < len(octets):
                octets[at // 8] ^= 1 << at % 8
        self.world.deliver(replace(flight, message=bytes(octets)))

    @precondition(lambda self: self.world.seen)
    @rule(at=SOME, which=SOME)
    def misdirect(self, at: int, which: int) -> None:
        """A message with the SPIs of another SA in its header."""
        flight = self.old(at)
        party = self.world.parties.get(flight.receiver)
        sas = list(party.engine._core.sas.values()) if party is not None else []
        if not sas or len(flight.message) < 28:
            return
        sa = sas[which % len(sas)]
        message = sa.initiator_spi + sa.responder_spi + flight.message[16:]
        self.world.deliver(replace(flight, message=message))

    @precondition(lambda self: self.world.seen)
    @rule(at=SOME)
    def of_the_other_version(self, at: int) -> None:
        flight = self.old(at)
        octets = bytearray(flight.message)
        if len(octets) >= 28:
            octets[17] ^= 0x30
            self.world.deliver(replace(flight, message=bytes(octets)))

    # -- time ----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.1, 5.0, 31.0, 130.0, 4000.0, 15000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.fire(seconds)

    @rule(seconds=st.sampled_from([2.0, 11.0, 65.0]))
    def time_passes_on_a_good_network(self, seconds: float) -> None:
        self.world.fire(seconds, deliver=True)

    # -- backends ------------------------------------------------------------------------------

    @precondition(lambda self: self.world.questions)
    @rule(at=SOME)
    def answer(self, at: int) -> None:
        self.world.answer(self.world.questions.pop(at % len(self.world.questions)))

    @precondition(lambda self: self.world.questions)
    @rule(at=SOME, how=st.integers(0, 3))
    def answer_badly(self, at: int, how: int) -> None:
        asked = self.world.questions.pop(at % len(self.world.questions))
        answer = (
            Unavailable("timeout"),
            Rejected("no", b"\4\1\0\4"),
            Challenged(b"\1\2\0", b"state"),
            Accepted("ada", msk=b""),
        )[how]
        if isinstance(answer, Accepted) and not hasattr(asked.question, "packet"):
            return  # a backend that accepts a wrong password is not what is tested here
        self.world.gateway.engine.user_answered(asked.ticket, answer, self.world.now)
        self.world.collect()

    @precondition(lambda self: self.world.answered)
    @rule(at=SOME, shift=st.integers(-2, 3))
    def answer_again(self, at: int, shift: int) -> None:
        """A late or repeated answer, also with a ticket that was never given or is over."""
        ticket, answer = self.world.answered[at % len(self.world.answered)]
        if shift:
            core = self.world.gateway.engine._core
            ticket += shift
            if ticket in core.asked:
                return  # that would be a true answer to somebody else's question
        self.world.gateway.engine.user_answered(ticket, answer, self.world.now)
        self.world.collect()

    @rule(ticket=st.integers(-1, 30), response=st.sampled_from([None, b"", b"\x30\x03\n\1\0"]))
    def ocsp_answer_that_nobody_asked_for(self, ticket: int, response: bytes | None) -> None:
        if ticket not in self.world.gateway.engine._core.asked:
            self.world.gateway.engine.ocsp_answered(ticket, response, self.world.now)
            self.world.collect()

    # -- administrators and the dataplane ---------------------------------------------------------

    def some_sa(self, party: int, which: int) -> tuple[object, IkeSa | None]:
        parties = [self.world.gateway, self.world.gateway, *self.world.devices]
        chosen = parties[party % len(parties)]
        sas = list(chosen.engine._core.sas.values())
        return chosen.engine, sas[which % len(sas)] if sas else None

    @rule(party=SOME, which=SOME)
    def close(self, party: int, which: int) -> None:
        engine, sa = self.some_sa(party, which)
        if sa is not None:
            engine.close_ike_sa(sa.spis, "closed", self.world.now)
            self.world.collect()

    @rule(party=SOME, which=SOME, children=st.booleans())
    def rekey(self, party: int, which: int, children: bool) -> None:
        engine, sa = self.some_sa(party, which)
        if sa is not None:
            engine.rekey(sa.spis, self.world.now, children=children)
            self.world.collect()

    @rule(which=SOME, children=st.booleans())
    def rekey_from_both_sides(self, which: int, children: bool) -> None:
        for sa in list(self.world.gateway.engine._core.sas.values()):
            name = sa.spis
            for party in self.world.parties.values():
                party.engine.rekey(name, self.world.now, children=children)
        self.world.collect()

    @rule(party=SOME, which=SOME, hard=st.booleans())
    def limit_reached(self, party: int, which: int, hard: bool) -> None:
        engine, sa = self.some_sa(party, which)
        for spi in list(sa.children)[:1] if sa is not None else []:
            engine.child_expired(spi, hard, self.world.now)
            self.world.collect()

    @rule(party=SOME, which=SOME)
    def dataplane_refuses(self, party: int, which: int) -> None:
        engine, sa = self.some_sa(party, which)
        for spi in list(sa.children)[:1] if sa is not None else []:
            engine.child_refused(spi, "no room", self.world.now)
            self.world.collect()

    @rule(which=SOME)
    def seen_elsewhere(self, which: int) -> None:
        engine, sa = self.some_sa(0, which)
        for spi in list(sa.children)[:1] if sa is not None else []:
            engine.endpoint_seen(spi, ELSEWHERE, "ESP", self.world.now)
            self.world.collect()

    @rule(which=SOME)
    def our_address_changes(self, which: int) -> None:
        engine, sa = self.some_sa(2 + which, which)
        if sa is not None:
            local = Endpoint(sa.path.local.address, 4501 + which % 2)
            engine.local_address_changed(sa.local_spi, local, self.world.now)
            self.world.collect()

    @rule(how=st.integers(0, 5), which=SOME)
    def reconfigure(self, how: int, which: int) -> None:
        world = self.world
        policies = list(world.policies)
        at = which % len(policies)
        pools = None
        changed: ConnectionPolicy = policies[at]
        if how == 0:
            del policies[at]
        elif how == 1:
            policies[at] = replace(changed, dns=())
        elif how == 2:
            policies[at] = replace(changed, local_ts=())
        elif how == 3:
            pools = world.pools(25)
        elif how == 4:
            policies.reverse()
        world.gateway.engine.reconfigure(policies, world.now, pools)
        world.collect()

    # -- what holds ----------------------------------------------------------------------------

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.end()


TestEnemy = Enemy.TestCase
TestEnemy.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
