"""The one place where bindings change: granted, renewed, ended, written down."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event, Severity
from gateway.domain.mobility import MIP_PORT, Tunnel
from gateway.domain.timers import Timers
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import AuthenticationKind, RevocationSupport
from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.home_agent import denials, events, home_addresses, logins, records
from gateway.mip_agents.home_agent.bindings import (
    NEVER,
    BindingTable,
    CareOf,
    Registrant,
    Revocable,
    dataplane_binding,
)
from gateway.mip_agents.home_agent.case import Case
from gateway.mip_agents.home_agent.denials import Denial
from gateway.mip_agents.home_agent.lifetimes import Lifetimes, expiry
from gateway.mip_agents.home_agent.requests import Court, asked_encapsulation
from gateway.mip_agents.home_agent.revocation import Revocations, timestamp
from gateway.mip_agents.outputs import Forget, Keep, Output, RemoveBinding, SetBinding, Transmit
from gateway.mip_agents.policy import HomeAgentPolicy, ReplayProtection, SecurityAssociation

CHANGES_PER_S = 10.0
"""Of one mobile node's tunnels: a node that flaps must not keep the kernel from others."""
CHANGE_BURST = 60.0
NONCE_MEMORY_S = 60.0
"""How long a nonce that was given out waits for its use."""
_SIMULTANEOUS = int(RequestFlag.SIMULTANEOUS)
_LASTING = int(
    RequestFlag.BROADCASTS
    | RequestFlag.CO_LOCATED
    | RequestFlag.MINIMAL
    | RequestFlag.GRE
    | RequestFlag.REVERSE
)
"""The flags that make a difference while a binding lasts."""


@dataclass(slots=True)
class Granted:
    """What a registration got."""

    registrant: Registrant
    care_of: CareOf
    code: int
    renewed: bool
    """Nothing changed but the time."""
    revocations: list[Transmit]
    """To the agents of care-of addresses that were given up."""
    revocation_to_node: RevocationSupport | None = None
    revocation_to_agent: RevocationSupport | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What a deregistration took away."""

    care_ofs: tuple[CareOf, ...]
    revocations: tuple[Transmit, ...]
    event: Event


class Registrar:
    """Changes the binding table, and tells the dataplane and the records in the same breath."""

    __slots__ = (
        "_lifetimes",
        "_revocations",
        "_timers",
        "_wall_clock",
        "court",
        "outputs",
        "policy",
        "table",
    )

    def __init__(
        self,
        policy: HomeAgentPolicy,
        court: Court,
        table: BindingTable,
        timers: Timers[Hashable],
        *,
        revocations: Revocations,
        lifetimes: Lifetimes,
        wall_clock: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.table = table
        self.outputs: list[Output] = []
        self.court = court
        self._timers = timers
        self._revocations = revocations
        self._lifetimes = lifetimes
        self._wall_clock = wall_clock

    def take_outputs(self) -> list[Output]:
        """Everything since the last call, in order."""
        taken = self.outputs.copy()
        self.outputs.clear()
        return taken

    def register(self, case: Case) -> Granted | Denial:
        """Grant a request that was judged to be without fault, as far as there is room."""
        registrant = case.registrant
        if registrant is None or case.node is None:
            return denials.UNKNOWN_NODE
        restless = registrant.change_after > case.now
        if restless and not registrant.care_ofs:
            return denials.RESTLESS
        denial = None if registrant.care_ofs else self._settle(case, registrant)
        home = registrant.home_address
        if denial is not None or home is None:
            return denial or denials.ANOTHERS_HOME_ADDRESS
        existing, others = registrant.find(case.care_of)
        simultaneous = case.flags & _SIMULTANEOUS
        together = bool(simultaneous) and self.court.simultaneous(case.node)
        code = (
            ReplyCode.ACCEPTED_NO_SIMULTANEOUS
            if simultaneous and not together
            else ReplyCode.ACCEPTED
        )
        alone = not (together and others)
        wanted = self.court.zero_overhead(case, home, alone=alone)
        agent = case.agent
        renewed = (
            existing is not None
            and not (others and not together)
            and existing.flags == case.flags & _LASTING
            and existing.zero_overhead == wanted
            and existing.agent == agent
            and self._same_tunnel(existing.tunnel, case)
        )
        if existing is not None and renewed:
            care_of = existing
        elif restless:
            return denials.RESTLESS
        else:
            after = max(registrant.change_after, case.now - CHANGE_BURST / CHANGES_PER_S)
            registrant.change_after = after + 1 / CHANGES_PER_S
            care_of = CareOf(
                case.request.care_of_address,
                case.flags & _LASTING,
                self.court.tunnel(case),
                wanted,
                agent,
                nat=case.traversal is not None and case.traversal.nat,
            )
        granted = Granted(registrant, care_of, code, renewed, [])
        self._revocations.call_off(home, case.source)
        self._prolong(granted, case)
        if not renewed:
            self._replace(granted, others if together else (), others, case)
        self._write_if_due(granted, case)
        return granted

    def _settle(self, case: Case, registrant: Registrant) -> Denial | None:
        """Find the home address of somebody without bindings, and bind it."""
        if case.node is None:
            return denials.UNKNOWN_NODE
        addresses, home, leased = self.court.addresses, case.home_address, False
        if home is None:
            found = home_addresses.lease(
                case.request.home_address, case.node, case.key, self.policy, addresses
            )
            if isinstance(found, Denial):
                return found
            home, leased = found, True
        network = addresses.home_network(int(home))
        taken = self.table.by_home.get(int(home))
        # Somebody lives at an address that the pool gave away.
        inhabited = leased and home in (case.request.care_of_address, case.source)
        if network is None or taken is not None or inhabited:
            if leased:
                home_addresses.release(home, self.policy)
            if network is None:
                return denials.OUTSIDE_HOME_NETWORKS
            return denials.ANOTHERS_HOME_ADDRESS
        registrant.leased = leased
        registrant.registrations = 0
        self.table.bind(registrant, home, network)
        return None

    def _same_tunnel(self, tunnel: Tunnel, case: Case) -> bool:
        traversal = case.traversal
        if traversal is None:
            return (
                not tunnel.udp_port
                and tunnel.remote == case.request.care_of_address
                and tunnel.encapsulation is asked_encapsulation(case.flags)
            )
        return (
            tunnel.udp_port == traversal.udp_port
            and tunnel.remote == traversal.remote
            and tunnel.encapsulation is (traversal.encapsulation or asked_encapsulation(case.flags))
        )

    def _prolong(self, granted: Granted, case: Case) -> None:
        registrant, care_of, now = granted.registrant, granted.care_of, case.now
        care_of.lifetime_s = self._lifetimes.grant(logins.lifetime_s(case, case.request.lifetime_s))
        care_of.granted_at = now
        care_of.expires_at = expiry(care_of.lifetime_s, now)
        registrant.registrations += 1
        registrant.last_code = granted.code
        deadline = self._timers.deadline(registrant.key)
        # A deadline that comes too early finds nothing to do and is set anew: cheaper than a
        # new one with each renewal.
        if (deadline is None or deadline > care_of.expires_at) and care_of.expires_at != NEVER:
            self._timers.set(registrant.key, care_of.expires_at)
        self._note_revocable(granted, case)

    def _note_revocable(self, granted: Granted, case: Case) -> None:
        care_of = granted.care_of
        care_of.revocable = None
        if not self.policy.revocation:
            return
        ours = RevocationSupport(timestamp(case.wall_s), inform=True)
        if care_of.agent is not None:
            support, association = case.agent_revocation, case.agent_association
            kind = AuthenticationKind.FOREIGN_HOME
            port = care_of.tunnel.udp_port or MIP_PORT
            granted.revocation_to_agent = ours if support and association else None
        else:
            support, association = case.revocation, case.association
            kind = AuthenticationKind.MOBILE_HOME
            port = case.path.remote.port
            granted.revocation_to_node = ours if support and association else None
        if support is not None and association is not None:
            care_of.revocable = Revocable(
                Endpoint(case.source, port),
                kind,
                association.spi,
                support.timestamp,
                ours.timestamp,
                inform=support.inform,
            )

    def _replace(
        self, granted: Granted, kept: tuple[CareOf, ...], others: tuple[CareOf, ...], case: Case
    ) -> None:
        registrant, care_of = granted.registrant, granted.care_of
        for one in kept:
            # The reply that ends switching is this one: it does not confirm it.
            one.zero_overhead = None
        self.table.set_care_ofs(registrant, (*kept, care_of))
        self.outputs.append(SetBinding(dataplane_binding(registrant, self.policy)))
        home = registrant.home_address
        if not kept and others and home is not None:
            for one in others:
                told = self._revocations.announce(home, registrant, one, case.now, inform=False)
                if told is not None:
                    granted.revocations.append(told)

    def _write_if_due(self, granted: Granted, case: Case) -> None:
        registrant = granted.registrant
        skew_s = 0.0
        if case.association and case.association.replay is ReplayProtection.TIMESTAMPS:
            skew_s = records.skew_s(case.request.identification, case.wall_s)
        known = registrant.logins
        news = known is not None and not known.kept
        if news or not granted.renewed or records.due(registrant, granted.care_of, skew_s):
            registrant.kept_skew_s = skew_s
            self._keep(registrant, case.wall_s, case.now)

    def deregister(self, case: Case) -> Ended:
        """Take away the care-of address that a request with lifetime 0 names, or all of them."""
        registrant = case.registrant
        if registrant is None:
            raise ValueError("an authentic request has a registrant")
        request = case.request
        registrant.last_code = ReplyCode.ACCEPTED
        at_home = request.care_of_address in (
            request.home_address,
            case.home_address or request.home_address,
        )
        care_ofs = tuple(
            one for one in registrant.care_ofs if at_home or int(one.address) == case.care_of
        )
        for one in care_ofs:
            if one.revocable is not None and one.revocable.peer.address == case.source:
                # Whoever sent or relayed it knows.
                one.revocable = None
        transmits: tuple[Transmit, ...] = ()
        if care_ofs:
            transmits = self.end(registrant, care_ofs, case.now, inform=False)
        else:
            # Nothing changed but what must not be played again after a restart.
            self._keep(registrant, case.wall_s, case.now)
            self.review(registrant, case.now)
        why = "it is at home" if at_home else "it asked for that"
        event = events.ended(
            "deregistered",
            self.policy,
            registrant,
            care_ofs,
            reason=why if care_ofs else f"{why}, and was not bound",
            severity=Severity.INFO if care_ofs else Severity.DEBUG,
        )
        return Ended(care_ofs, transmits, event)

    def end(
        self, registrant: Registrant, care_ofs: tuple[CareOf, ...], now: float, *, inform: bool
    ) -> tuple[Transmit, ...]:
        """Take care-of addresses away; returns what their agents have to be told."""
        home = registrant.home_address
        if home is None:
            return ()
        told = [
            self._revocations.announce(home, registrant, one, now, inform=inform)
            for one in care_ofs
        ]
        left = tuple(one for one in registrant.care_ofs if one not in care_ofs)
        self.table.set_care_ofs(registrant, left)
        if registrant.care_ofs:
            self.outputs.append(SetBinding(dataplane_binding(registrant, self.policy)))
        else:
            self.outputs.append(RemoveBinding(self.policy.address, home))
            if registrant.leased:
                home_addresses.release(home, self.policy)
                registrant.leased = False
            self.table.unbind(registrant)
        self.keep(registrant, now)
        self.review(registrant, now)
        return tuple(one for one in told if one is not None)

    def keep_in_mind(
        self, registrant: Registrant, association: SecurityAssociation, now: float
    ) -> None:
        """Remember somebody until nothing they sent can be taken for new any more.

        Whoever gets no binding needs a :meth:`review` then.
        """
        if association.replay is ReplayProtection.NONCES:
            quiet_until = now + NONCE_MEMORY_S
        else:
            quiet_until = now + 2 * association.replay_window_s + 1
        registrant.quiet_until = max(registrant.quiet_until, quiet_until)

    def review(self, registrant: Registrant, now: float) -> None:
        """Set the next deadline of a registrant, or forget it."""
        if registrant.care_ofs:
            earliest = min(one.expires_at for one in registrant.care_ofs)
            if earliest != NEVER:
                self._timers.set(registrant.key, earliest)
        elif registrant.quiet_until > now:
            self._timers.set(registrant.key, registrant.quiet_until)
        else:
            self.forget(registrant)

    def forget(self, registrant: Registrant) -> None:
        """Remember nothing of a registrant without bindings."""
        self._timers.cancel(registrant.key)
        self.table.forget(registrant)
        if registrant.record_key:
            self.outputs.append(Forget(registrant.record_key))

    def forget_records(self) -> None:
        """The records go by another name from now on."""
        for registrant in self.table.by_key.values():
            if registrant.record_key:
                self.outputs.append(Forget(registrant.record_key))
                registrant.record_key = ""

    def keep(self, registrant: Registrant, now: float) -> None:
        """Write a registrant down, if there is anything that a restart must not lose."""
        if registrant.care_ofs or registrant.quiet_until > now:
            self._keep(registrant, self._wall_clock(), now)

    def _keep(self, registrant: Registrant, wall_s: float, now: float) -> None:
        if not registrant.record_key:
            node = registrant.node
            registrant.record_key = records.key(self.policy.name, node.nai, node.home_address)
        for one in registrant.care_ofs:
            one.kept_expires_at = one.expires_at
        if registrant.logins is not None:
            registrant.logins.kept = True
        octets = records.write(registrant, self.policy, wall_s, now)
        self.outputs.append(Keep(registrant.record_key, octets))

    def use(self, policy: HomeAgentPolicy, court: Court, lifetimes: Lifetimes) -> None:
        """Go on by another policy."""
        self.policy = policy
        self.court = court
        self._lifetimes = lifetimes

    def take_up(self, registrant: Registrant, now: float) -> None:
        """A restored registrant: tell the dataplane, watch its lifetimes."""
        if registrant.care_ofs:
            self.outputs.append(SetBinding(dataplane_binding(registrant, self.policy)))
        self.review(registrant, now)
