"""The mobile node's side of one registration with one home agent (RFC 5944 section 3.6)."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final, Literal

from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event
from gateway.domain.timers import Timers
from gateway.mip_agents.codec.numbers import MessageType
from gateway.mobile_node.outputs import TransmitRegistration
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering import events, result
from gateway.mobile_node.registering.answers import Answer, Asked, judge
from gateway.mobile_node.registering.attempt import NEVER, Attempt, Outstanding, Registration, Sent
from gateway.mobile_node.registering.identification import Identifications
from gateway.mobile_node.registering.keepalive import keepalive
from gateway.mobile_node.registering.outcome import (
    Ended,
    EndReason,
    GaveUp,
    Outcome,
    Retransmission,
    Via,
)
from gateway.mobile_node.registering.request import check_policy, compose, farewell, first_wish
from gateway.mobile_node.registering.revocation import Revocable, agree, hear
from gateway.mobile_node.registering.showing import Showing

RegistrationOutput = TransmitRegistration | Outcome | Event

SHORTEST_WAIT_S: Final = 5.0
"""Between a renewal that came to nothing and the next."""
OVERTAKEN_S: Final = 2.0
"""A clock that is less than this off is none to correct: the request came after a later one."""
_Timer = Literal["transmit", "renew", "expire", "keepalive"]


class RegistrationClient(Showing):
    """Registers with one home agent, one attachment at a time, and keeps the registration alive.

    Renewals are its own business once it is registered, at about two thirds of each lifetime
    granted; :meth:`renew` asks for one earlier. Each call may leave outputs behind. ``random``
    yields that many random octets, ``wall_clock`` seconds since 1970; every ``now`` is in seconds
    of a clock that never goes back. Raises ValueError for a policy that fits no request.
    """

    def __init__(
        self,
        policy: HomeAgentPolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        check_policy(policy)
        super().__init__(policy, Identifications(policy.association, random, wall_clock))
        self._random = random
        self._wall_clock = wall_clock
        self._outstanding = Outstanding()
        self._revocable: Revocable | None = None
        self._left: tuple[object, ...] = ()
        """Where it was deregistered last: again is nothing new."""
        self._timers: Timers[_Timer] = Timers()
        self._outputs: list[RegistrationOutput] = []

    # -- what the node asks for --------------------------------------------------------------

    def change_policy(self, policy: HomeAgentPolicy) -> None:
        """Use another association, ticket or lifetime from the next request on.

        Raises:
            ValueError: it fits no request; or it is about another home agent or home address,
                which takes a new client.
        """
        check_policy(policy)
        mine = self._policy
        if (policy.home_agent, policy.home_address) != (mine.home_agent, mine.home_address):
            raise ValueError(
                f"this registers {mine.home_address} with {mine.home_agent}; make a new client for"
                f" {policy.home_address} and {policy.home_agent}"
            )
        self._policy = policy
        self._identifications.use(policy.association)

    def register(
        self,
        via: Via,
        now: float,
        *,
        retransmission: Retransmission,
        lifetime_s: int | None = None,
        default_destination: IPv4Address | None = None,
    ) -> None:
        """Register the care-of address of ``via``; an attempt under way is replaced.

        With the attachment of before, answers to its requests still count. A registration by
        another attachment stays ours until the home agent accepts this one.
        ``lifetime_s`` overrides the policy's; ``default_destination`` is asked for by zero
        overhead where the policy wants it.
        """
        wish = first_wish(self._policy, via, lifetime_s, default_destination)
        self._begin(Attempt(via, wish, retransmission), now)

    def renew(self, now: float, retransmission: Retransmission, *, challenge: bytes = b"") -> None:
        """Register again what is registered, now.

        Without a registration, or while another attachment is being registered, it does nothing.
        """
        if challenge:
            self.hear_challenge(challenge)
        registration, attempt = self._registration, self._attempt
        if registration is None:
            return
        if attempt is not None and attempt.scope != (False, registration.via.attachment):
            return
        self._begin(Attempt(registration.via, registration.next_wish, retransmission), now)

    def deregister(self, via: Via, now: float, retransmission: Retransmission) -> None:
        """Ask the home agent to end the binding of this care-of address (lifetime 0).

        Deregistering the home address ends all bindings (RFC 5944 section 3.6.1.2).
        """
        self._timers.cancel("renew")
        self._timers.cancel("keepalive")
        self._begin(Attempt(via, farewell(via), retransmission), now)

    def stop(self) -> None:
        """Forget attempt and registration, send nothing; what is outstanding no longer counts."""
        self._attempt = self._registration = self._revocable = None
        self._left = ()
        self._outstanding.clear()
        for timer in ("transmit", "renew", "expire", "keepalive"):
            self._timers.cancel(timer)

    def hear_challenge(self, challenge: bytes) -> None:
        """The foreign agent has a new challenge: it goes into the next request."""
        if self._attempt is not None:
            self._attempt.wish = replace(self._attempt.wish, challenge=challenge)
        if self._registration is not None:
            self._registration.challenge = challenge

    def take_outputs(self) -> list[RegistrationOutput]:
        """Everything since the last call, in order."""
        taken = self._outputs.copy()
        self._outputs.clear()
        return taken

    # -- sending -----------------------------------------------------------------------------

    def _begin(self, attempt: Attempt, now: float) -> None:
        self._outstanding.enter(attempt.scope)
        self._attempt = attempt
        self._transmit(attempt, now)

    def _transmit(self, attempt: Attempt, now: float, *, planned: bool = True) -> None:
        policy, via = self._policy, attempt.via
        identification = self._identifications.next()
        while identification in self._outstanding:
            identification = self._identifications.next()
        octets = compose(policy, via, attempt.wish, identification, self._wall_clock())
        self._outstanding.add(Sent(identification, now, attempt, attempt.wish, policy.association))
        self._timers.set("transmit", attempt.transmitted(now, planned=planned))
        self._counters["requests"] += 1
        self._send(octets, via)
        registration = self._registration
        if registration is not None and attempt.scope == (False, registration.via.attachment):
            self._plan_keepalive(registration, now)

    def _send(self, octets: bytes, via: Via) -> None:
        self._outputs.append(
            TransmitRegistration(
                octets, via.interface, via.source, via.destination, via.link_address
            )
        )

    # -- time --------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is to be called next, or None."""
        return self._timers.next_at()

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for timer in self._timers.due(now):
            if timer == "transmit":
                self._unanswered(now)
            elif timer == "renew":
                self._renewal_due(now)
            elif timer == "expire":
                self._end(EndReason.EXPIRED)
            else:
                self._keep_alive(now)

    def _unanswered(self, now: float) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        if now < attempt.gives_up_at:
            attempt.renew_hope()
            self._transmit(attempt, now)
            return
        self._attempt = None
        outcome = GaveUp(attempt.sent, attempt.since, attempt.via, attempt.deregisters)
        self._outputs += (outcome, events.gave_up(self._policy, outcome))
        self._plan_another_renewal(attempt, now)

    def _renewal_due(self, now: float) -> None:
        registration = self._registration
        if registration is None:
            return
        if self._attempt is not None:
            self._plan_another_renewal(self._attempt, now)
            return
        self._begin(registration.renewal(), now)

    def _plan_another_renewal(self, attempt: Attempt, now: float) -> None:
        registration = self._registration
        if registration is None or registration.expires_at == NEVER or attempt.deregisters:
            # What could not be deregistered is left to its end.
            return
        wait_s = max(SHORTEST_WAIT_S, (registration.expires_at - now) / 2)
        self._timers.set("renew", now + wait_s)

    def _end(self, reason: EndReason) -> None:
        registration, attempt = self._registration, self._attempt
        if registration is None:
            return
        self._forget_registration()
        if attempt is not None and attempt.automatic:
            self._finish()
        via = registration.via
        self._outputs += (
            Ended(reason, registration.tunnel, via),
            events.ended(self._policy, via, reason),
        )

    def _forget_registration(self) -> None:
        self._registration = None
        for timer in ("renew", "expire", "keepalive"):
            self._timers.cancel(timer)

    def _finish(self) -> None:
        self._attempt = None
        self._timers.cancel("transmit")

    def _plan_keepalive(self, registration: Registration, now: float) -> None:
        if registration.keepalive_s:
            self._timers.set("keepalive", now + registration.keepalive_s)

    def _keep_alive(self, now: float) -> None:
        registration = self._registration
        if registration is None:
            return
        registration.keepalives += 1
        self._counters["keepalives"] += 1
        policy = self._policy
        octets = keepalive(policy.home_address, policy.home_agent, registration.keepalives)
        self._send(octets, registration.via)
        self._plan_keepalive(registration, now)

    # -- hearing -----------------------------------------------------------------------------

    def receive(
        self, message: bytes, source: Endpoint, now: float, *, interface: str | None = ""
    ) -> bool:
        """Take a datagram of port 434; whether it was for this client. Never raises.

        ``interface`` it came over (None: the VPN); told, it has to be that of the request.
        """
        kind = message[0] if message else 0
        if kind == MessageType.REVOCATION:
            return self._receive_revocation(message, source, interface)
        if kind != MessageType.REGISTRATION_REPLY:
            return False
        asked = Asked(self._policy, self._outstanding, self._identifications)
        answer = judge(message, source, interface, asked, now)
        if answer is None:
            return False
        if answer.discarded:
            self._discard(source, answer.discarded)
        elif answer.granted is not None or answer.deregistered:
            self._accept(answer, source, now)
        else:
            self._refused(answer, now)
        return True

    def _receive_revocation(self, message: bytes, source: Endpoint, interface: str | None) -> bool:
        revocable = self._revocable
        if revocable is not None and interface not in ("", revocable.via.interface):
            return False
        heard = hear(message, revocable)
        if heard.discarded:
            self._discard(source, heard.discarded)
        if heard.acknowledgment and revocable is not None:
            self._counters["revocations"] += 1
            self._send(heard.acknowledgment, revocable.via)
        if heard.ends:
            # What was granted before and arrives after it is no more.
            self._outstanding.clear()
            self._end(EndReason.REVOKED)
        return heard.ours

    def _discard(self, source: Endpoint, why: str) -> None:
        self._counters["discarded"] += 1
        attempt = self._attempt
        logged = attempt is not None and attempt.discarded < events.LINES_PER_ATTEMPT
        if attempt is not None:
            attempt.discarded += 1
        self._outputs.append(events.discarded(self._policy, str(source), why, logged=logged))

    def _accept(self, answer: Answer, source: Endpoint, now: float) -> None:
        sent = answer.sent
        self._outstanding.settled(sent)
        self._counters["accepted"] += 1
        if sent.attempt is self._attempt:
            self._finish()
        if answer.granted is None:
            self._deregistered(sent)
            return
        before, grant = self._registration, answer.granted
        registration = result.registration(answer, grant, before, now)
        if registration.expires_at <= now:
            self._discard(source, "what it grants is over already")
            return
        self._registration, self._left = registration, ()
        self._revocable = agree(
            self._policy, sent.via, sent.association, grant.revocation_timestamp, self._revocable
        )
        self._plan(registration, now)
        outcome = result.accepted(answer, grant, before)
        self._outputs += (outcome, events.accepted(self._policy, outcome))

    def _plan(self, registration: Registration, now: float) -> None:
        for timer in ("keepalive", "renew", "expire"):
            self._timers.cancel(timer)
        self._plan_keepalive(registration, now)
        if registration.expires_at != NEVER:
            jitter = int.from_bytes(self._random(2)) / 0x10000
            self._timers.set("renew", max(registration.renew_at(jitter), now + 1.0))
            self._timers.set("expire", registration.expires_at)

    def _deregistered(self, sent: Sent) -> None:
        policy, registration = self._policy, self._registration
        if registration is not None:
            if result.ends(registration, sent.via.care_of_address, policy.home_address):
                self._forget_registration()
                self._revocable = None
            else:
                registration = None
        again = self._left == sent.via.attachment
        self._left = sent.via.attachment
        outcome = result.deregistered(policy, sent, registration, again=again)
        self._outputs += (outcome, events.accepted(policy, outcome))

    def _refused(self, answer: Answer, now: float) -> None:
        sent, attempt = answer.sent, self._attempt
        if answer.authentic:
            # Whoever forges a denial must not make us deaf to the true answer.
            self._outstanding.answered(sent)
        self._counters["denied"] += 1
        if attempt is None or sent.attempt is not attempt:
            return
        if answer.resynchronise is not None:
            late = sent.sent_at < attempt.resynchronised_at
            overtaken = answer.seconds_off < OVERTAKEN_S and self._outstanding.newer_than(sent)
            if late or overtaken:
                return
            if attempt.resynchronises(now):
                self._identifications.resynchronise(
                    answer.resynchronise, again=attempt.resynchronisations > 1
                )
                self._retry(attempt, answer, "the home agent told its clock or nonce", now)
                return
        if sent.wish != attempt.wish:
            return
        sure = answer.authentic and not answer.by_foreign_agent
        if answer.remedy is not None and attempt.mends(answer.remedy, sure=sure):
            self._retry(attempt, answer, "asking for something else", now)
            return
        self._deny(answer, attempt, now)

    def _retry(self, attempt: Attempt, answer: Answer, what: str, now: float) -> None:
        self._outputs.append(events.retried(self._policy, attempt.via, answer.code, what))
        if answer.challenge:
            # The one before is used up.
            attempt.wish = replace(attempt.wish, challenge=answer.challenge)
        self._transmit(attempt, now, planned=False)

    def _deny(self, answer: Answer, attempt: Attempt, now: float) -> None:
        if (answer.code, answer.authentic) not in attempt.reported:
            attempt.reported.add((answer.code, answer.authentic))
            outcome = result.denied(answer)
            self._outputs += (outcome, events.denied(self._policy, outcome))
        if answer.final:
            self._finish()
            self._plan_another_renewal(attempt, now)
