"""Registration revocation between the agents (RFC 3543), the home agent's half."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.mobility import MIP_PORT
from gateway.domain.timers import Timers
from gateway.domain.wire import WireError
from gateway.mip_agents import authentication
from gateway.mip_agents.codec.extensions import Authentication, AuthenticationKind
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.home_agent.addresses import Addresses
from gateway.mip_agents.home_agent.bindings import BindingTable, CareOf, Registrant, Revocable
from gateway.mip_agents.outputs import Transmit
from gateway.mip_agents.policy import HomeAgentPolicy, SecurityAssociation

FIRST_WAIT_S = 1.0
"""Until a revocation is sent again; doubled each time."""
MAX_TRIES = 5
MAX_PENDING = 10_000
"""Revocations whose acknowledgment is waited for; more are sent once."""
MAX_HEEDED = 1_024
"""Revocations that were heeded lately and are acknowledged again when they come again."""
_32_BITS = 0xFFFF_FFFF

PendingKey = tuple[str, int, int]
"""The word, the home address, and the address of whoever was told."""


@dataclass(slots=True)
class Pending:
    """A revocation whose acknowledgment is waited for."""

    message: Revocation
    """As sent last; each try has an identifier of its own (RFC 3543 section 4.2.3.1)."""
    path: Path
    kind: AuthenticationKind
    association: SecurityAssociation
    until: float
    """The binding would have ended by itself then."""
    first: int
    """Identifier of the first try: acknowledgments of all since then count."""
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a revocation or acknowledgment."""

    discarded: str = ""
    """Why it changes nothing; empty if it does, or was answered."""
    ended: tuple[tuple[Registrant, CareOf], ...] = ()
    acknowledgment: bytes = b""


def timestamp(wall_s: float) -> int:
    """The 32 bits that revocations are ordered by: seconds of our clock."""
    return int(wall_s) & _32_BITS


def not_older(identifier: int, reference: int) -> bool:
    """Serial comparison: the clock's 32 bits wrap around."""
    return (identifier - reference) & _32_BITS < 1 << 31


class Revocations:
    """Sends revocations until they are acknowledged, and judges those that come."""

    __slots__ = ("_heeded", "_last", "_pending", "_timers", "_wall_clock", "addresses", "policy")

    def __init__(
        self,
        policy: HomeAgentPolicy,
        addresses: Addresses,
        timers: Timers[Hashable],
        wall_clock: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.addresses = addresses
        self._timers = timers
        self._wall_clock = wall_clock
        self._pending: dict[PendingKey, Pending] = {}
        self._heeded: OrderedDict[tuple[IPv4Address, int, int], bool] = OrderedDict()
        self._last = timestamp(wall_clock()) - 1

    def announce(
        self,
        home: IPv4Address,
        registrant: Registrant,
        care_of: CareOf,
        now: float,
        *,
        inform: bool,
    ) -> Transmit | None:
        """Tell whoever serves ``care_of`` that it ended; None if that was not agreed on.

        ``inform``: a foreign agent should tell the mobile node, which does not know yet.
        """
        revocable = care_of.revocable
        if revocable is None or not self.policy.revocation:
            return None
        association = self._association(revocable, registrant, care_of)
        if association is None:
            return None
        identifier = self._identifier(revocable.our_timestamp)
        message = Revocation(
            home,
            self.policy.address,
            care_of.address,
            identifier,
            from_home_agent=True,
            inform=inform and revocable.inform,
        )
        path = Path(Endpoint(self.policy.address, MIP_PORT), revocable.peer)
        pending = Pending(
            message, path, revocable.kind, association, care_of.expires_at, identifier
        )
        key = ("revocation", int(home), int(revocable.peer.address))
        if key not in self._pending and len(self._pending) >= MAX_PENDING:
            return _signed(pending)
        self._pending[key] = pending
        return self._send(key, pending, now)

    def _send(self, key: PendingKey, pending: Pending, now: float) -> Transmit:
        self._timers.set(key, now + FIRST_WAIT_S * 2**pending.tries)
        pending.tries += 1
        return _signed(pending)

    def again(self, key: PendingKey, now: float) -> Transmit | None:
        """The timer of a revocation is due: send it again, or give up with None."""
        pending = self._pending[key]
        if pending.tries >= MAX_TRIES or now >= pending.until:
            del self._pending[key]
            return None
        identifier = self._identifier(pending.message.identifier)
        pending.message = replace(pending.message, identifier=identifier)
        return self._send(key, pending, now)

    def call_off(self, home: IPv4Address, peer: IPv4Address) -> None:
        """A mobile node is back by way of ``peer``: another try would end what is new there."""
        if self._pending:
            key = ("revocation", int(home), int(peer))
            if self._pending.pop(key, None) is not None:
                self._timers.cancel(key)

    def hear_acknowledgment(self, octets: bytes, source: IPv4Address) -> Heard:
        """A peer says that it heeded a revocation."""
        try:
            message = RevocationAcknowledgment.parse(octets)
        except WireError as problem:
            return Heard(f"malformed: {problem}")
        key = ("revocation", int(message.home_address), int(source))
        pending = self._pending.get(key)
        if (
            pending is None
            or not not_older(message.identifier, pending.first)
            or not not_older(pending.message.identifier, message.identifier)
        ):
            return Heard("it acknowledges a revocation that was not sent")
        found = message.authentications(pending.kind)
        if len(found) != 1 or not authentication.verify(octets, found[0], pending.association):
            return Heard("the authenticator of the acknowledgment is wrong")
        del self._pending[key]
        self._timers.cancel(key)
        return Heard()

    def hear(self, octets: bytes, source: IPv4Address, table: BindingTable) -> Heard:
        """A foreign agent says that bindings by way of it have ended.

        Changes nothing itself: ``ended`` tells what has to be dropped.
        """
        try:
            message = Revocation.parse(octets)
        except WireError as problem:
            return Heard(f"malformed: {problem}")
        association = self._authentic(message, source)
        if association is None:
            return Heard("it is not from a foreign agent that shares a key with us")
        if message.from_home_agent or int(message.home_domain_address) not in self.addresses.own:
            return Heard("it is not for this home agent")
        known = (source, int(message.home_address), message.identifier)
        ended: tuple[tuple[Registrant, CareOf], ...] = ()
        if known not in self._heeded:
            ended = tuple(self._matching(message, source, association, table))
            if not ended:
                return Heard("no binding is there that it could end, or it is an old one")
            self._heeded[known] = True
            if len(self._heeded) > MAX_HEEDED:
                self._heeded.popitem(last=False)
        answer = RevocationAcknowledgment(
            message.home_address, message.identifier, message.inform
        ).serialize()
        return Heard(
            "",
            ended,
            authentication.sign(answer, AuthenticationKind.FOREIGN_HOME, association),
        )

    def _authentic(self, message: Revocation, source: IPv4Address) -> SecurityAssociation | None:
        peer = self.policy.peer_agents.get(source) or self.policy.peer_agents.get(
            message.foreign_domain_address
        )
        found = message.authentications(AuthenticationKind.FOREIGN_HOME)
        if not self.policy.revocation or peer is None or len(found) != 1:
            return None
        return _proved(message.octets, found[0], peer.associations)

    def _matching(
        self,
        message: Revocation,
        source: IPv4Address,
        association: SecurityAssociation,
        table: BindingTable,
    ) -> Iterable[tuple[Registrant, CareOf]]:
        if int(message.home_address):
            one = table.by_home.get(int(message.home_address))
            registrants = [one] if one is not None else []
        else:
            registrants = list(table)
        for registrant in registrants:
            for care_of in registrant.care_ofs:
                revocable = care_of.revocable
                if (
                    care_of.address == message.foreign_domain_address
                    and revocable is not None
                    and revocable.kind is AuthenticationKind.FOREIGN_HOME
                    and revocable.spi == association.spi
                    and revocable.peer.address == source
                    and not_older(message.identifier, revocable.their_timestamp)
                ):
                    yield registrant, care_of

    def _association(
        self, revocable: Revocable, registrant: Registrant, care_of: CareOf
    ) -> SecurityAssociation | None:
        if revocable.kind is AuthenticationKind.MOBILE_HOME:
            associations = registrant.node.associations
            if registrant.logins is not None and registrant.logins.association is not None:
                associations = (*associations, registrant.logins.association)
        else:
            agents, address = self.policy.peer_agents, revocable.peer.address
            peer = agents.get(address) if isinstance(address, IPv4Address) else None
            peer = peer or agents.get(care_of.address)
            associations = peer.associations if peer is not None else ()
        return next((one for one in associations if one.spi == revocable.spi), None)

    def _identifier(self, our_timestamp: int) -> int:
        identifier = timestamp(self._wall_clock())
        # Neither before what the peer knows of us nor twice the same.
        for earlier in (our_timestamp, self._last + 1):
            if not not_older(identifier, earlier):
                identifier = earlier
        self._last = identifier & _32_BITS
        return self._last


def _signed(pending: Pending) -> Transmit:
    octets = pending.message.serialize()
    signed = authentication.sign(octets, pending.kind, pending.association)
    return Transmit(signed, pending.path)


def _proved(
    octets: bytes, extension: Authentication, associations: Iterable[SecurityAssociation]
) -> SecurityAssociation | None:
    for association in associations:
        if association.spi == extension.spi and authentication.verify(
            octets, extension, association
        ):
            return association
    return None
