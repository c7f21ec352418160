"""The home agent as the outside sees it: octets and the time in, outputs out."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from ipaddress import IPv4Address

from gateway.domain.endpoint import Path
from gateway.domain.event import Severity
from gateway.domain.timers import Timers
from gateway.domain.wire import WireError
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import UnknownExtensionError
from gateway.mip_agents.codec.numbers import MessageType
from gateway.mip_agents.codec.registration import RegistrationRequest
from gateway.mip_agents.home_agent import events, logins, replies
from gateway.mip_agents.home_agent.addresses import Addresses, can_be_answered
from gateway.mip_agents.home_agent.adoption import adopt
from gateway.mip_agents.home_agent.answers import Answers
from gateway.mip_agents.home_agent.bindings import BindingTable, CareOf, Registrant
from gateway.mip_agents.home_agent.case import Case
from gateway.mip_agents.home_agent.denials import Denial
from gateway.mip_agents.home_agent.events import LineLimit
from gateway.mip_agents.home_agent.lifetimes import Lifetimes
from gateway.mip_agents.home_agent.registrar import Registrar
from gateway.mip_agents.home_agent.requests import Court
from gateway.mip_agents.home_agent.restart import restore_records
from gateway.mip_agents.home_agent.revocation import Heard, Revocations
from gateway.mip_agents.home_agent.views import BindingView, view
from gateway.mip_agents.outputs import Link, Output, Transmit
from gateway.mip_agents.policy import HomeAgentPolicy
from gateway.mip_agents.replay import Freshness, identification_for

REFUSED_FOR_S = 5.0
"""A binding that the dataplane refused is not asked for again before."""
_UNSPECIFIED = IPv4Address(0)


class HomeAgent:
    """One home agent (RFC 5944 section 3.8). Never raises for what comes from the network.

    ``random`` yields that many random octets, ``wall_clock`` seconds since 1970; every ``now``
    is in seconds of a clock that never goes back. Take the outputs after every call.
    """

    def __init__(
        self,
        policy: HomeAgentPolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.counters: Counter[str] = Counter()
        """Replies by the name of their code, discarded messages by ``discarded_`` and why."""
        self._random = random
        self._wall_clock = wall_clock
        self._table = BindingTable()
        self._timers: Timers[Hashable] = Timers()
        self._addresses = Addresses(policy)
        self._court = Court(policy, self._addresses, self._table)
        self._revocations = Revocations(policy, self._addresses, self._timers, wall_clock)
        self._registrar = Registrar(
            policy,
            self._court,
            self._table,
            self._timers,
            revocations=self._revocations,
            lifetimes=Lifetimes(policy.lifetime_s, policy.lifetime_spread, random),
            wall_clock=wall_clock,
        )
        self._outputs = self._registrar.outputs
        self._lines = LineLimit()
        self._answers = Answers(policy, self._addresses, self._outputs, self.counters, self._lines)
        self._now = 0.0
        self._closed = False

    def receive(self, message: bytes, path: Path, now: float, link: Link | None = None) -> None:
        """A datagram came to UDP port 434; ``link`` is where, for an answer without routing."""
        self._now = now
        source = path.remote.address
        if self._closed or not message or not isinstance(source, IPv4Address):
            self._discard("malformed", "it is empty, or not of IPv4", path, now)
            return
        if not can_be_answered(int(source)) or not path.remote.port:
            self._discard("source", "nobody can be answered there", path, now)
            return
        kind = message[0]
        if kind == MessageType.REGISTRATION_REQUEST:
            self._receive_request(message, path, source, now, link)
        elif kind == MessageType.REVOCATION:
            heard = self._revocations.hear(message, source, self._table)
            self._receive_revocation(heard, path, now, link)
        elif kind == MessageType.REVOCATION_ACKNOWLEDGMENT:
            heard = self._revocations.hear_acknowledgment(message, source)
            self._note_revocation(heard, path, now)
        else:
            self._discard("unexpected", f"a home agent has no use for type {kind}", path, now)

    def _receive_request(
        self, message: bytes, path: Path, source: IPv4Address, now: float, link: Link | None
    ) -> None:
        try:
            request = RegistrationRequest.parse(message)
        except UnknownExtensionError as problem:
            self._discard("unknown_extension", str(problem), path, now)
            return
        except WireError as problem:
            self._discard("malformed", str(problem), path, now)
            return
        case = Case(request, path, source, now)
        case.wall_s = self._wall_clock()
        denial = self._court.judge_authenticity(case)
        if denial is not None:
            self._answers.refuse_stranger(case, denial, link)
            return
        identification = self._fresh(case, link)
        if identification is None or case.registrant is None:
            return
        denial = self._court.judge_wishes(case)
        if denial is None:
            if request.lifetime_s == 0:
                self._deregister(case, identification, link)
                return
            denial = self._register(case, identification, link)
        if denial is not None:
            self._answers.deny(case, denial, identification, link)
            self._registrar.review(case.registrant, now)

    def _fresh(self, case: Case, link: Link | None) -> int | None:
        """The Identification of the reply; None if the request is not new, and answered."""
        association, node, now = case.association, case.node, case.now
        if association is None or node is None:
            return None
        wall_s = case.wall_s
        # Whoever proved to be a mobile node of ours is remembered for a moment, even if this is
        # nothing new: for the nonce it is about to be told, and to count what it is answered.
        registrant = case.registrant
        if registrant is None:
            registrant = case.registrant = self._table.registrant(case.key, node)
        state = registrant.replay.get(association.spi)
        if state is None:
            state = identification_for(association, self._random)
            registrant.replay[association.spi] = state
        self._registrar.keep_in_mind(registrant, association, now)
        asked = case.request.identification
        freshness = state.check(asked, wall_s, association.replay_window_s)
        if freshness is Freshness.FRESH:
            state.accept(asked, self._random)
            registrant.accepted_wall_s = wall_s
            logins.note(case, registrant)
            return state.reply(asked, freshness, wall_s)
        told = state.reply(asked, freshness, wall_s)
        self._answers.resynchronise(case, registrant, told, freshness, link)
        self._registrar.review(registrant, now)
        return None

    def _register(self, case: Case, identification: int, link: Link | None) -> Denial | None:
        granted = self._registrar.register(case)
        if isinstance(granted, Denial):
            return granted
        registrant, care_of = granted.registrant, granted.care_of
        code = granted.code
        message = replies.compose(
            case,
            code,
            lifetime_s=care_of.lifetime_s,
            home_address=registrant.home_address or _UNSPECIFIED,
            home_agent=self._answers.our_name(case),
            identification=identification,
            udp=case.traversal.reply if case.traversal else None,
            zero_overhead=care_of.zero_overhead,
            revocation_to_node=granted.revocation_to_node,
            revocation_to_agent=granted.revocation_to_agent,
        )
        self.counters[events.code_name(code)] += 1
        outputs = self._outputs
        outputs.append(Transmit(message, self._answers.reply_path(case.path), link))
        outputs.extend(granted.revocations)
        outputs.append(
            events.registered(self.policy, registrant, care_of, code, renewed=granted.renewed)
        )
        return None

    def _deregister(self, case: Case, identification: int, link: Link | None) -> None:
        asked = case.request.home_address
        ended = self._registrar.deregister(case)
        message = replies.compose(
            case,
            ReplyCode.ACCEPTED,
            lifetime_s=0,
            home_address=case.home_address or asked,
            home_agent=self._answers.our_name(case),
            identification=identification,
        )
        self.counters["accepted"] += 1
        self._outputs.append(Transmit(message, self._answers.reply_path(case.path), link))
        self._outputs.extend(ended.revocations)
        self._outputs.append(ended.event)

    def _discard(self, why: str, reason: str, path: Path, now: float) -> None:
        self.counters[f"discarded_{why}"] += 1
        if not self._closed and self._lines.allows(why, now):
            self._outputs.append(events.discarded(self.policy, str(path.remote), why, reason))

    def _receive_revocation(self, heard: Heard, path: Path, now: float, link: Link | None) -> None:
        self._note_revocation(heard, path, now)
        for registrant, care_of in heard.ended:
            self._end(
                "registration_revoked",
                registrant,
                (care_of,),
                reason="its foreign agent revoked it",
                now=now,
            )
        if heard.acknowledgment:
            self._outputs.append(
                Transmit(heard.acknowledgment, self._answers.reply_path(path), link)
            )

    def _note_revocation(self, heard: Heard, path: Path, now: float) -> None:
        if heard.discarded:
            self._discard("revocation", heard.discarded, path, now)
        else:
            self.counters["revocations_heard"] += 1

    def _end(
        self,
        name: str,
        registrant: Registrant,
        care_ofs: tuple[CareOf, ...],
        *,
        reason: str,
        now: float,
        hint: str = "",
        severity: Severity = Severity.INFO,
    ) -> tuple[Transmit, ...]:
        """End care-of addresses, for a reason that did not come from the mobile node."""
        revocations = self._registrar.end(registrant, care_ofs, now, inform=True)
        self.counters[name] += 1
        self._outputs.append(
            events.ended(
                name, self.policy, registrant, care_ofs, reason=reason, hint=hint, severity=severity
            )
        )
        return revocations

    def handle_timer(self, now: float) -> None:
        """Do what is due: bindings end, revocations are sent again, the past is forgotten."""
        self._now = now
        for key in self._timers.due(now):
            if isinstance(key, tuple):
                transmit = self._revocations.again(key, now)
                if transmit is not None:
                    self._outputs.append(transmit)
                else:
                    self.counters["revocations_unacknowledged"] += 1
                continue
            registrant = self._table.by_key.get(key)
            if registrant is not None:
                self._registrant_due(registrant, now)

    def _registrant_due(self, registrant: Registrant, now: float) -> None:
        over = tuple(one for one in registrant.care_ofs if one.expires_at <= now)
        if over:
            # Nobody else has to be told: their own clocks say so.
            for one in over:
                one.revocable = None
            reason = "it was not renewed in time"
            self._end("binding_expired", registrant, over, reason=reason, now=now)
        self._registrar.review(registrant, now)

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`, or None."""
        return self._timers.next_at()

    def take_outputs(self) -> list[Output]:
        """What is to be done, in order; each is handed out once."""
        return self._registrar.take_outputs()

    def revoke(self, home_address: IPv4Address, now: float) -> bool:
        """End a binding on an administrator's word; False if there is none."""
        self._now = now
        registrant = self._table.by_home.get(int(home_address))
        if registrant is None:
            return False
        told = self._end(
            "registration_revoked",
            registrant,
            registrant.care_ofs,
            reason="an administrator revoked it",
            now=now,
            hint="it may register again as long as it is configured",
        )
        self._outputs.extend(told)
        return True

    def binding_refused(self, home_address: IPv4Address, reason: str, now: float) -> None:
        """The dataplane could not do what was asked: the binding ends."""
        self._now = now
        registrant = self._table.by_home.get(int(home_address))
        if registrant is None:
            return
        registrant.refused_until = now + REFUSED_FOR_S
        registrant.quiet_until = max(registrant.quiet_until, registrant.refused_until)
        told = self._end(
            "binding_refused",
            registrant,
            registrant.care_ofs,
            reason=f"the kernel refused it: {reason}",
            now=now,
            hint="it may try again in a moment",
            severity=Severity.WARNING,
        )
        self._outputs.extend(told)

    def bindings(self, now: float | None = None) -> list[BindingView]:
        """What is bound at ``now``, or when something happened last."""
        at = self._now if now is None else now
        return [view(one, self.policy.name, at) for one in self._table]

    def home_addresses(self) -> list[IPv4Address]:
        """Those that have a binding."""
        return [one.home_address for one in self._table if one.home_address is not None]

    def binding(self, home_address: IPv4Address, now: float | None = None) -> BindingView | None:
        """The binding of a home address."""
        registrant = self._table.by_home.get(int(home_address))
        if registrant is None:
            return None
        return view(registrant, self.policy.name, self._now if now is None else now)

    def restore(self, records: Iterable[bytes], now: float) -> None:
        """Take up what the last run kept; records that are good for nothing are forgotten."""
        self._now = now
        restore_records(records, self._registrar, self.counters, now, self._wall_clock())

    def reconfigure(self, policy: HomeAgentPolicy, now: float) -> None:
        """Use another policy; bindings that it has no place for end, all others stay."""
        self._now = now
        moved = policy.address != self.policy.address or policy.name != self.policy.name
        for registrant in list(self._table):
            if moved:
                self._drop(registrant, "the home agent has another name or address", now)
        old, self.policy = self.policy, policy
        if policy.name != old.name:
            self._registrar.forget_records()
        self._addresses = Addresses(policy)
        self._court = Court(policy, self._addresses, self._table)
        self._revocations.policy, self._revocations.addresses = policy, self._addresses
        self._answers.use(policy, self._addresses)
        self._registrar.use(
            policy,
            self._court,
            Lifetimes(policy.lifetime_s, policy.lifetime_spread, self._random),
        )
        for registrant in list(self._table.by_key.values()):
            reason = adopt(registrant, old, self._registrar)
            if reason and registrant.care_ofs:
                self._drop(registrant, reason, now)
            if reason:
                registrant.quiet_until = now
                self._registrar.review(registrant, now)

    def _drop(self, registrant: Registrant, reason: str, now: float) -> None:
        told = self._end(
            "registration_revoked", registrant, registrant.care_ofs, reason=reason, now=now
        )
        self._outputs.extend(told)

    def close(self, now: float) -> None:
        """The process ends: write everything down exactly; bindings live on in the records."""
        self._now = now
        for registrant in self._table.by_key.values():
            self._registrar.keep(registrant, now)
        self._closed = True
