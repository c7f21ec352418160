"""Registration revocation, the foreign agent's side (RFC 3543 sections 3 and 4).

Agents that share a key tell each other of registrations that end before their time. What we
revoke is sent again until the home agent acknowledges it; what it revokes ends here at once.
"""

from collections import OrderedDict
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Severity
from gateway.domain.mobility import MIP_PORT
from gateway.mip_agents.authentication import sign, verify
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.foreign_agent import visiting
from gateway.mip_agents.foreign_agent.addresses import UNSPECIFIED
from gateway.mip_agents.foreign_agent.advertising import Advertising
from gateway.mip_agents.foreign_agent.core import (
    Core,
    RevocationSent,
    TimerKind,
    find_association,
)
from gateway.mip_agents.foreign_agent.refusal import Discarded
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry, VisitorKey
from gateway.mip_agents.outputs import Transmit
from gateway.mip_agents.policy import INFINITE_LIFETIME_S, PeerAgent

FIRST_RETRY_S = 1.0
"""Doubled each time (RFC 3543 section 4.3: not less than a second)."""
MAX_TRANSMISSIONS = 5
MAX_UNACKNOWLEDGED = 10_000
MAX_REMEMBERED = 1024
"""Revocations that were heeded, so that one that comes again is only acknowledged again."""
_HALF = 1 << 31


class Revocations:
    """Those we sent, and those we heeded."""

    __slots__ = ("_advertising", "_core", "_heeded")

    def __init__(self, core: Core, advertising: Advertising) -> None:
        self._core = core
        self._advertising = advertising
        self._heeded: OrderedDict[VisitorKey, int] = OrderedDict()

    # -- those of home agents ---------------------------------------------------------------

    def receive(self, octets: bytes, path: Path, now: float) -> None:
        """Take a revocation; heed it, or raise Discarded or WireError."""
        core = self._core
        revocation = Revocation.parse(octets)
        peer = self._authentic(revocation, path, "revocation")
        if not revocation.from_home_agent:
            raise Discarded(
                "revocation", f"a revocation of {path.remote}: it comes from no home agent"
            )
        if revocation.foreign_domain_address != core.policy.care_of_address and not any(
            one.co_located for one in core.visitors.of(revocation.home_address)
        ):
            raise Discarded(
                "revocation",
                f"a revocation of {path.remote} for care-of address"
                f" {revocation.foreign_domain_address}",
            )
        core.counters["revocations"] += 1
        informed = False
        for entry in self._meant(revocation, peer):
            informed |= self._heed(entry, revocation, now)
        self._acknowledge(revocation, peer, informed, path)

    def _meant(self, revocation: Revocation, peer: PeerAgent) -> list[VisitorEntry]:
        """The visitors that it is about; 0.0.0.0 means all that the two agents have in common."""
        visitors = self._core.visitors
        if revocation.home_address == UNSPECIFIED:
            found = [one for one in visitors.all() if one.home_agent == peer.address]
        else:
            one = visitors.get(peer.address, revocation.home_address)
            found = [] if one is None else [one]
        return [
            one
            for one in found
            if one.revocable
            and one.care_of_address == revocation.foreign_domain_address
            and not is_older(revocation.identifier, one.peer_timestamp)
            and self._heeded.get(one.key) != revocation.identifier
        ]

    def _heed(self, entry: VisitorEntry, revocation: Revocation, now: float) -> bool:
        self._heeded[entry.key] = revocation.identifier
        self._heeded.move_to_end(entry.key)
        if len(self._heeded) > MAX_REMEMBERED:
            self._heeded.popitem(last=False)
        visiting.leave(
            self._core,
            entry,
            "revoked",
            "its home agent revoked it",
            now,
            severity=Severity.WARNING,
        )
        if not (revocation.inform and entry.inform):
            return False
        self._advertising.inform(entry)
        return True

    def _acknowledge(
        self, revocation: Revocation, peer: PeerAgent, informed: bool, path: Path
    ) -> None:
        # What is not here any more is acknowledged too: our last acknowledgment may be lost.
        octets = RevocationAcknowledgment(
            revocation.home_address, revocation.identifier, informed
        ).serialize()
        self._core.outputs.append(Transmit(_signed(octets, peer), path))

    # -- ours -------------------------------------------------------------------------------

    def revoke(self, entry: VisitorEntry, now: float) -> None:
        """Tell the home agent that we do not serve this visitor any more.

        Whether the visitor is told is up to the home agent, if both agents know the I bit
        (RFC 3543 section 4.2.3.1); otherwise it is told now.
        """
        core = self._core
        peer = core.peer(entry.home_agent)
        agreed = entry.revocable and peer is not None and len(core.revoked) < MAX_UNACKNOWLEDGED
        if not (agreed and entry.inform):
            self._advertising.inform(entry)
        if not agreed or peer is None:
            return
        sent = RevocationSent(entry, peer, now + self._remaining_s(entry), [])
        core.revoked[entry.key] = sent
        core.counters["revocations_sent"] += 1
        self._transmit(sent, now)

    def _remaining_s(self, entry: VisitorEntry) -> float:
        if entry.lifetime_s == INFINITE_LIFETIME_S:
            return float("inf")
        return entry.granted_at + entry.lifetime_s - self._core.wall_clock()

    def _transmit(self, sent: RevocationSent, now: float) -> None:
        """Each transmission has its own timestamp, and so its own proof (section 4.2.3.1)."""
        core, entry = self._core, sent.entry
        revocation = Revocation(
            entry.home_address,
            entry.home_agent,
            entry.care_of_address,
            core.timestamp(),
            from_home_agent=False,
            inform=entry.inform,
        )
        sent.identifiers.append(revocation.identifier)
        path = Path(Endpoint(entry.tunnel.local, MIP_PORT), Endpoint(entry.home_agent, MIP_PORT))
        core.outputs.append(Transmit(_signed(revocation.serialize(), sent.peer), path))
        wait_s = FIRST_RETRY_S * 2 ** (len(sent.identifiers) - 1)
        core.timers.set((TimerKind.REVOCATION, entry.key), now + wait_s)

    def retry(self, key: VisitorKey, now: float) -> None:
        """No acknowledgment yet: send it again; give up when it is of no use any more."""
        core = self._core
        sent = core.revoked.get(key)
        if sent is None:
            return
        if len(sent.identifiers) < MAX_TRANSMISSIONS and now < sent.until:
            self._transmit(sent, now)
            return
        del core.revoked[key]
        core.counters["revocations_unacknowledged"] += 1
        if sent.entry.inform:
            self._advertising.inform(sent.entry)
        core.tell(
            "revocation_unacknowledged",
            now,
            f"foreign agent {core.policy.name}: home agent {key[0]} does not acknowledge that"
            f" {key[1]} was revoked; its binding stays until its lifetime ends",
            Severity.WARNING,
            home_agent=str(key[0]),
            home_address=str(key[1]),
        )

    def receive_acknowledgment(self, octets: bytes, path: Path) -> None:
        """Take an acknowledgment, or raise Discarded or WireError."""
        core = self._core
        acknowledgment = RevocationAcknowledgment.parse(octets)
        peer = self._authentic(acknowledgment, path, "acknowledgment")
        key = (peer.address, acknowledgment.home_address)
        sent = core.revoked.get(key)
        if sent is None or acknowledgment.identifier not in sent.identifiers:
            raise Discarded(
                "acknowledgment", f"an acknowledgment of {path.remote} that nobody waits for"
            )
        del core.revoked[key]
        core.timers.cancel((TimerKind.REVOCATION, key))
        core.counters["revocations_acknowledged"] += 1
        if sent.entry.inform and acknowledgment.inform:
            self._advertising.inform(sent.entry)

    def _authentic(
        self, message: Revocation | RevocationAcknowledgment, path: Path, what: str
    ) -> PeerAgent:
        """The home agent that has proved to be the sender."""
        source = path.remote.address
        peer = self._core.peer(source) if isinstance(source, IPv4Address) else None
        if peer is None or not self._core.policy.revocation:
            raise Discarded(
                "not_a_peer", f"a {what} of {source}: no agent that we share a key with"
            )
        proofs = message.authentications(AuthenticationKind.FOREIGN_HOME)
        association = find_association(peer, proofs[0].spi) if len(proofs) == 1 else None
        if association is None or not verify(message.octets, proofs[0], association):
            raise Discarded(
                "home_agent_authentication", f"a {what} of {source}: its proof is wrong"
            )
        return peer


def is_older(identifier: int, timestamp: int) -> bool:
    """Whether one 32-bit timestamp lies before another, across its wrap."""
    return (timestamp - identifier) & 0xFFFF_FFFF < _HALF and timestamp != identifier


def _signed(octets: bytes, peer: PeerAgent) -> bytes:
    return sign(octets, AuthenticationKind.FOREIGN_HOME, peer.associations[0])
