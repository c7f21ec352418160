"""Child SAs of IKEv1: keys, installation, succession. Both sides of quick mode (RFC 2409 s. 5.5).

IKEv1 has no word for "this child SA replaces that one": a new one with the same selectors does.
"""

from collections import deque
from dataclasses import dataclass
from typing import Self

from gateway.domain.child_sa import EspKeys, TrafficSelector
from gateway.ike import child_sas, closing
from gateway.ike import record_values as values
from gateway.ike.child_sas import Agreed
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto.prf import Prf
from gateway.ike.record_values import Json
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType as Reason
from gateway.ike.sa import Child, ChildState
from gateway.ike.v1 import esp_transforms, exchange, keys, phase1
from gateway.ike.v1.codec import (
    Delete,
    ExchangeType,
    Notify,
    NotifyType,
    Payload,
    ProtocolId,
    SecurityAssociation,
    find_all,
)
from gateway.ike.v1.codec.attributes import parse_attributes
from gateway.ike.v1.codec.registry import IpsecAttribute, LifeType
from gateway.ike.v1.sa import IkeSa, State

MAX_QUICK_MODES = 3
"""Of one SA at a time, those of both sides counted for themselves."""
MAX_WAITING = 32
"""Quick modes of ours that wait for their turn."""
NONCE_OCTETS = 32
ACTIVATE_S = 1.0
"""After our own rekeying: until then the peer has message 3, and takes packets on the new one."""
RETIRE_S = 4.0
"""After our own rekeying: until then the peer has taken the new child SA into use."""
LEFT_BEHIND_S = 30.0
"""After the peer's rekeying: it should have deleted the old one by then, though many do not."""
OLD_INBOUND_S = 5.0
"""How long a deleted child SA still takes packets that are on their way, when it was replaced."""
REFUSED_RETRY_S = 60.0
"""After a rekeying that was refused."""
_NOTIFIES = {
    Reason.NO_PROPOSAL_CHOSEN: NotifyType.NO_PROPOSAL_CHOSEN,
    Reason.TS_UNACCEPTABLE: NotifyType.INVALID_ID_INFORMATION,
    Reason.INVALID_KE_PAYLOAD: NotifyType.INVALID_KEY_INFORMATION,
    Reason.INVALID_SYNTAX: NotifyType.PAYLOAD_MALFORMED,
    Reason.AUTHENTICATION_FAILED: NotifyType.AUTHENTICATION_FAILED,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A quick mode that we are to begin."""

    local_ts: TrafficSelector
    remote_ts: TrafficSelector
    reqid: int | None = None
    old: int | None = None
    """Our SPI of the child SA that is to be replaced."""
    pfs: bool = True
    """Use PFS where it is the peer's choice."""

    def record(self) -> Json:
        """For :meth:`resumed`."""
        return [
            values.selector(self.local_ts),
            values.selector(self.remote_ts),
            self.reqid,
            self.old,
            self.pfs,
        ]

    @classmethod
    def resumed(cls, record: Json) -> Self:
        """As from :meth:`record`. Raises what ``record_values.UNREADABLE`` names."""
        local, remote, reqid, old, pfs = values.items(record, 5)
        return cls(
            values.read_selector(local),
            values.read_selector(remote),
            None if reqid is None else values.number(reqid, 1, 0xFFFFFFFF),
            values.maybe_child_spi(old),
            values.flag(pfs),
        )


class Quick:
    """What an SA remembers of its quick modes: ``sa.quick``."""

    __slots__ = ("announced", "waiting")

    def __init__(self) -> None:
        self.announced = False
        """Whether the administrator was told that the peer is connected."""
        self.waiting: deque[Wanted] | None = None
        """Quick modes of ours that are not under way yet."""


def of(sa: IkeSa) -> Quick:
    """The SA's memory of its quick modes."""
    if not isinstance(sa.quick, Quick):
        sa.quick = Quick()
    return sa.quick


def announce(core: Core, sa: IkeSa, made: Child, now: float) -> None:
    """Once for each session: the peer is connected."""
    mine = of(sa)
    if not mine.announced:
        mine.announced = True
        if not sa.renewal:
            phase1.connected(core, sa, made, now)


def under_way(sa: IkeSa, *, initiator: bool) -> int:
    """How many quick modes one side has begun that are not over."""
    return sum(
        1
        for one in sa.exchanges.values()
        if one.exchange_type is ExchangeType.QUICK
        and one.initiator is initiator
        and one.finished_at is None
    )


def notify_of(refused: Refused) -> NotifyType:
    """What the peer is told of a refusal."""
    return _NOTIFIES.get(refused.notify_type, NotifyType.NO_PROPOSAL_CHOSEN)


def child_keys(
    sa: IkeSa, agreed: Agreed, nonce_i: bytes, nonce_r: bytes, shared: bytes
) -> tuple[EspKeys, EspKeys]:
    """(inbound, outbound) keys; each SPI is that of the side that receives."""
    if sa.suite is None or sa.keys is None:
        raise ValueError("no keys yet")
    encr, integ = esp_transforms.key_octets(agreed.suite)
    made = []
    for spi in (agreed.spi_in, agreed.spi_out):
        material = keys.quick_keymat(
            Prf.of(sa.suite.prf),
            sa.keys.d,
            ProtocolId.ESP,
            spi.to_bytes(4, "big"),
            nonce_i,
            nonce_r,
            encr + integ,
            shared,
        )
        made.append(EspKeys(material[:encr], material[encr:]))
    return made[0], made[1]


def install(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    agreed: Agreed,
    keys_of: tuple[EspKeys, EspKeys],
    life_s: int | None,
    now: float,
    *,
    reqid: int | None,
    outbound: bool,
) -> Child:
    """Hand a child SA to the dataplane; one with a shorter life than ours is renewed earlier."""
    made = child_sas.install(core, sa, agreed, *keys_of, now, reqid=reqid, outbound=outbound)
    if life_s is not None:
        shorten(core, sa, made, life_s, now)
    return made


def shorten(core: Core, sa: IkeSa, child: Child, life_s: int, now: float) -> None:
    """The peer ends the child SA after ``life_s``: so do we, and rekey before that."""
    connection = sa.connection
    life = connection.lifetimes if connection is not None else None
    if life is None or life_s >= int(life.child_rekey_s + life.child_over_s):
        return
    core.timers.set((TimerKind.EXPIRE_CHILD, child.spi_in), now + life_s)
    # The peer, whose life it is, goes first.
    rekey_at = min(life.child_rekey_s, life_s * 0.95)
    due = core.timers.deadline((TimerKind.REKEY_CHILD, child.spi_in))
    if due is None or now + rekey_at < due:
        core.timers.set((TimerKind.REKEY_CHILD, child.spi_in), now + rekey_at)


def responder_lifetime(payloads: list[Payload]) -> int | None:
    """The shorter life that the responder keeps (RFC 2407 section 4.6.3.1), or None."""
    shortest: int | None = None
    for notify in find_all(payloads, Notify):
        if notify.type != NotifyType.RESPONDER_LIFETIME or notify.protocol != ProtocolId.ESP:
            continue
        unit = 0
        # Raises WireError, as any malformed payload does.
        for one in parse_attributes(notify.data, 0, len(notify.data)):
            value = one.number
            if one.type == IpsecAttribute.LIFE_TYPE:
                unit = value or 0
            elif (
                one.type == IpsecAttribute.LIFE_DURATION
                and unit == LifeType.SECONDS
                and value is not None
                and value >= esp_transforms.MIN_LIFE_S
            ):
                shortest = value if shortest is None else min(shortest, value)
    return shortest


# -- succession -----------------------------------------------------------------------------


def siblings(
    sa: IkeSa, local_ts: tuple[TrafficSelector, ...], remote_ts: tuple[TrafficSelector, ...]
) -> list[Child]:
    """Child SAs with these selectors that are in use, the oldest first."""
    return [
        child
        for child in sa.children.values()
        if child.local_ts == local_ts
        and child.remote_ts == remote_ts
        and child.state in (ChildState.INSTALLED, ChildState.REKEYING)
        and child.outbound_active
    ]


def succeed(core: Core, olds: list[Child], made: Child, retire_s: float, now: float) -> None:
    """``made`` is in use on both sides: the old ones stay for what is on its way."""
    for old in olds:
        if old is made or old.state is ChildState.DELETING:
            continue
        if old.state is not ChildState.REKEYED:
            core.count("child_sas_rekeyed")
        old.state = ChildState.REKEYED
        old.replaced_by = made.spi_in
        core.timers.cancel((TimerKind.REKEY_CHILD, old.spi_in))
        core.timers.set((TimerKind.RETIRE, old.spi_in), now + retire_s)


def successor_of(sa: IkeSa, child: Child) -> Child | None:
    """The child SA that replaced another one, or is about to: its last message may be late."""
    if child.replaced_by is not None:
        return sa.children.get(child.replaced_by)
    for other in reversed(sa.children.values()):
        if (
            other is not child
            and other.state is ChildState.INSTALLED
            and (other.local_ts, other.remote_ts) == (child.local_ts, child.remote_ts)
        ):
            return other
    return None


# -- the end --------------------------------------------------------------------------------


def send_delete(core: Core, sa: IkeSa, spis_in: list[int]) -> None:
    """Tell the peer that we do not have these child SAs any more."""
    spis = tuple(spi.to_bytes(4, "big") for spi in spis_in)
    exchange.send_alone(core, sa, ExchangeType.INFORMATIONAL, [Delete(ProtocolId.ESP, spis)])


def delete(core: Core, sa: IkeSa, child: Child, reason: str, now: float) -> None:
    """End a child SA with a Delete; a replaced one takes for a while what is on its way."""
    if child.state is ChildState.DELETING:
        return
    if sa.state in (State.ESTABLISHED, State.REPLACED):
        send_delete(core, sa, [child.spi_in])
    end(core, sa, child, reason, now)


def end(core: Core, sa: IkeSa, child: Child, reason: str, now: float) -> None:
    """Forget a child SA that is deleted on the other side."""
    successor = successor_of(sa, child)
    core.touch(sa)
    if successor is None:
        closing.remove_child(core, sa, child, reason, now)
        return
    core.activate(successor)
    child.state = ChildState.DELETING
    child.replaced_by = successor.spi_in
    for kind in (TimerKind.REKEY_CHILD, TimerKind.EXPIRE_CHILD, TimerKind.RETIRE):
        core.timers.cancel((kind, child.spi_in))
    core.timers.set((TimerKind.REMOVE, child.spi_in), now + OLD_INBOUND_S)


def refuse(core: Core, sa: IkeSa, refused: Refused, spi: bytes) -> None:
    """Tell the peer why there is no child SA; ``spi`` is the one that it proposed."""
    answer = Notify(notify_of(refused), b"", ProtocolId.ESP, spi)
    exchange.send_alone(core, sa, ExchangeType.INFORMATIONAL, [answer])


def proposed_spi(offered: SecurityAssociation | None) -> bytes:
    """The SPI of the first ESP proposal, to name a quick mode by; empty without one."""
    for proposal in offered.proposals if offered is not None else ():
        if proposal.protocol == ProtocolId.ESP:
            return proposal.spi
    return b""
