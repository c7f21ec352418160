"""Registrations that were relayed and wait for their reply (RFC 5944 section 3.7.1).

The two registrations that a node has under way at once, to its i-HA and its x-HA (draft 001,
section 4.4), are two entries: they differ in the home agent even if link-layer address, home
address and identification are the same.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from gateway.domain.endpoint import Endpoint
from gateway.mip_agents.codec.extensions import UdpTunnelRequest
from gateway.mip_agents.codec.registration import RegistrationRequest
from gateway.mip_agents.outputs import Link
from gateway.mip_agents.policy import SecurityAssociation
from gateway.mip_agents.replay import LOW_HALF

MAX_PER_PARTY = 8
"""Of one link-layer address: two home agents, and a few retransmissions to each."""

PendingKey = tuple[int, int, int, str]
"""Home agent, lower half of the identification, home address, NAI."""


@dataclass(slots=True)
class Pending:
    """One relayed registration."""

    request: RegistrationRequest
    nai: str
    party: bytes
    """Who asked: its link-layer address, or its address where the link has none."""
    link: Link
    local: Endpoint
    """What the reply is sent from."""
    remote: Endpoint
    """Where the mobile node waits for it."""
    association: SecurityAssociation | None = None
    """That the mobile node proved itself with; replies to it are signed likewise."""
    encapsulating: bool = False
    udp: UdpTunnelRequest | None = None
    """What we asked the home agent for."""
    peer: str = ""
    """Whose VPN tunnel the request came through."""
    nar_server: str = ""
    """Not empty: our care-of address, at an address of the node's own (draft 004, 2.6.3)."""
    own_address: bool = True
    """The request came from an address, not from 0.0.0.0."""
    told: bool = False
    """The mobile node knows of a failure; a later reply still counts, a timeout no more."""
    key: PendingKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = pending_key(self.request, self.nai)

    @property
    def challenged(self) -> bytes:
        """Who gets and uses challenges: a node has one registration for each home agent."""
        return self.party + self.request.home_agent.packed


def pending_key(request: RegistrationRequest, nai: str) -> PendingKey:
    """What makes a registration another one."""
    return (
        int(request.home_agent),
        request.identification & LOW_HALF,
        int(request.home_address),
        nai,
    )


class PendingTable:
    """Every operation costs O(1); who fills it only ever pushes its own entries out."""

    __slots__ = ("_by_identification", "_by_key", "_by_party")

    def __init__(self) -> None:
        self._by_key: dict[PendingKey, Pending] = {}
        self._by_identification: dict[int, dict[PendingKey, Pending]] = {}
        self._by_party: dict[bytes, dict[PendingKey, Pending]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: PendingKey) -> Pending | None:
        """The entry of this key."""
        return self._by_key.get(key)

    def all(self) -> list[Pending]:
        """All entries, the oldest first."""
        return list(self._by_key.values())

    def matching(self, identification: int) -> list[Pending]:
        """Those that a reply with this identification may belong to."""
        return list(self._by_identification.get(identification & LOW_HALF, {}).values())

    def has_room(self, party: bytes, limit: int) -> bool:
        """Whether ``party`` can have one more, perhaps instead of its own oldest."""
        return len(self._by_key) < limit or party in self._by_party

    def add(self, pending: Pending, limit: int) -> Pending | None:
        """Enter it; return the entry that had to go for it: the oldest of the same party.

        Ask :meth:`has_room` first. An entry of the same key is replaced.
        """
        self.remove(pending)
        gone: Pending | None = None
        mine = self._by_party.get(pending.party, {})
        if mine and (len(mine) >= MAX_PER_PARTY or len(self._by_key) >= limit):
            gone = next(iter(mine.values()))
            self.remove(gone)
        key = pending.key
        self._by_key[key] = pending
        self._by_identification.setdefault(key[1], {})[key] = pending
        self._by_party.setdefault(pending.party, {})[key] = pending
        return gone

    def remove(self, pending: Pending) -> None:
        """Forget the entry of this key; none is fine."""
        key = pending.key
        found = self._by_key.pop(key, None)
        if found is None:
            return
        _drop(self._by_identification, key[1], key)
        _drop(self._by_party, found.party, key)


_K = TypeVar("_K", int, bytes)


def _drop(index: dict[_K, dict[PendingKey, Pending]], at: _K, key: PendingKey) -> None:
    entries = index[at]
    del entries[key]
    if not entries:
        del index[at]
