"""Quick mode as the responder (RFC 2409 section 5.5)."""

from collections.abc import Sequence
from typing import Self

from gateway.domain.child_sa import Mode
from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike import child_sas, closing, presence
from gateway.ike import record_values as values
from gateway.ike import transport_mode as hosts
from gateway.ike.child_sas import Agreed
from gateway.ike.core import Core
from gateway.ike.crypto import dh
from gateway.ike.draft_features import refuse_held
from gateway.ike.mobility_authority import settle_home_address
from gateway.ike.record_values import Record
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import DhGroup
from gateway.ike.registry import NotifyType as Reason
from gateway.ike.sa import ChildState
from gateway.ike.v1 import esp_offers, exchange, phase1, quick, quick_ids, transport_mode
from gateway.ike.v1.codec import (
    Attribute,
    ExchangeType,
    Identification,
    KeyExchange,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    ProtocolId,
    SecurityAssociation,
    find,
    find_all,
    long_number,
)
from gateway.ike.v1.codec.attributes import serialize_attributes
from gateway.ike.v1.codec.registry import IpsecAttribute, LifeType
from gateway.ike.v1.sa import IkeSa, State

STEP = "quick mode"


class QuickResponder(exchange.Phase2Exchange):
    """The peer's quick mode: message 2 is sent, message 3 takes the child SA into use."""

    __slots__ = ("spi_in",)
    name = STEP
    exchange_type = ExchangeType.QUICK
    in_record = "quick answer"
    spi_in: int

    def record(self) -> Record:
        """The child SA that message 3 takes into use."""
        return {"spi": self.spi_in}

    @classmethod
    def resumed(cls, message_id: int, record: Record, now: float) -> Self:
        """As from :meth:`record`."""
        mine = cls(message_id, initiator=False, now=now)
        mine.spi_in = values.child_spi(record["spi"])
        return mine

    def receive(
        self, core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float
    ) -> None:
        """Message 3: the initiator has the child SA, so we may send on it."""
        del payloads, path
        child = sa.children.get(self.spi_in)
        # Nobody is to get message 2 again: there is nothing that a repetition of 3 asks for.
        self.sent = ()
        exchange.finish(core, sa, self, now)
        if child is None or child.state is not ChildState.INSTALLED:
            return
        olds = quick.siblings(sa, child.local_ts, child.remote_ts)
        core.activate(child)
        quick.succeed(core, olds, child, quick.LEFT_BEHIND_S, now)
        quick.announce(core, sa, child, now)

    def unanswered(self, core: Core, sa: IkeSa, now: float) -> None:
        """Message 3 never came: the child SA is of no use to anybody."""
        core.count("quick_modes_unanswered")
        self._drop(core, sa, "the peer did not complete quick mode", now)

    def abandoned(self, core: Core, sa: IkeSa, now: float) -> None:
        """The SA goes, with all its children, or hands them to its successor.

        There message 3 has no way to come any more; who has sent it hears of it by a Delete.
        """
        owner = core.children.get(self.spi_in)
        child = owner.children.get(self.spi_in) if owner is not None else None
        if not isinstance(owner, IkeSa) or child is None or owner is sa:
            return
        if self.finished_at is None and not child.outbound_active:
            quick.delete(core, owner, child, "the peer did not complete quick mode", now)

    def _drop(self, core: Core, sa: IkeSa, reason: str, now: float) -> None:
        child = sa.children.get(self.spi_in)
        if child is not None and not child.outbound_active:
            closing.remove_child(core, sa, child, reason, now)


def receive_first(
    core: Core, sa: IkeSa, arrival: exchange.Arrival, payloads: Sequence[Payload], now: float
) -> None:
    """Answer message 1, or say why not."""
    if quick.under_way(sa, initiator=False) >= quick.MAX_QUICK_MODES:
        core.count("quick_modes_too_many")
        exchange.take_later(sa, arrival.message_id)
        return
    path = arrival.path
    try:
        _answer(core, sa, arrival, payloads, now)
    except WireError as malformed:
        core.count("malformed_messages")
        _refuse(core, sa, Refused(Reason.INVALID_SYNTAX, str(malformed)), payloads, path, now)
    except Refused as refused:
        _refuse(core, sa, refused, payloads, path, now)


def _refuse(  # noqa: PLR0917 - one fact each
    core: Core, sa: IkeSa, refused: Refused, payloads: Sequence[Payload], path: Path, now: float
) -> None:
    core.count("quick_modes_refused")
    spi = quick.proposed_spi(find(payloads, SecurityAssociation))
    quick.refuse(core, sa, refused, spi)
    report_refusal(
        core,
        refused,
        sa.peer_name,
        path.remote,
        STEP,
        connection=sa.connection_name,
        now=now,
        sa=sa,
    )


def _answer(
    core: Core, sa: IkeSa, arrival: exchange.Arrival, payloads: Sequence[Payload], now: float
) -> None:
    """Make the child SA that the peer asks for. Raises Refused or WireError."""
    connection = sa.connection
    if connection is None or sa.state is not State.ESTABLISHED:
        raise Refused(Reason.NO_ADDITIONAL_SAS, "the SA is about to be replaced")
    offered, nonce = phase1.need(payloads, SecurityAssociation), phase1.need(payloads, Nonce).data
    ids = find_all(payloads, Identification)
    if len(ids) not in (0, 2):
        raise WireError(f"{len(ids)} ID payloads, 0 or 2 are allowed")
    if len(sa.children) >= child_sas.MAX_CHILDREN:
        raise Refused(
            Reason.NO_ADDITIONAL_SAS,
            f"the IKE SA has {len(sa.children)} child SAs,"
            f" at most {child_sas.MAX_CHILDREN} are allowed",
        )
    local, remote = quick_ids.proposed(sa, *(ids or (None, None)))
    if connection.mode is Mode.TRANSPORT:
        local, remote = transport_mode.as_seen_here(sa, local, remote)
        hosts.refuse_held(core, sa, (local,), (remote,))
    else:
        settle_home_address(core, sa, connection, (remote,))
        presence.settle(core, sa, connection, (remote,))
        quick_ids.allow(sa, connection, local, remote)
    chosen = esp_offers.select(sa, connection, offered, (local,), (remote,))
    if chosen.meant.features.vpn_fa:
        refuse_held(core.home_addresses, sa, (remote,))
    public, shared = _key_exchange(find(payloads, KeyExchange), chosen.meant.group)
    answer = QuickResponder(arrival.message_id, initiator=False, now=now)
    if not exchange.add(sa, answer, arrival):
        core.count("exchanges_too_many")
        return
    ours = core.random(quick.NONCE_OCTETS)
    agreed = Agreed(
        core.new_child_spi(),
        chosen.spi_out,
        chosen.meant.suite,
        chosen.meant.group,
        quick_ids.installed(sa, connection, local),
        (remote,),
        chosen.meant.features.endpoint_update,
        chosen.meant.features.vpn_fa,
        connection.mode,
    )
    keys_of = quick.child_keys(sa, agreed, nonce, ours, shared)
    olds = quick.siblings(sa, agreed.local_ts, agreed.remote_ts)
    # Inbound before message 2 goes out: the initiator may send right after message 3.
    quick.install(
        core,
        sa,
        agreed,
        keys_of,
        chosen.life_s,
        now,
        reqid=olds[-1].reqid if olds else None,
        outbound=False,
    )
    answer.spi_in = agreed.spi_in
    reply: list[Payload] = [chosen.answer(agreed.spi_in), Nonce(ours)]
    if public:
        reply.append(KeyExchange(public))
    reply += ids
    reply += transport_mode.original_addresses(sa, connection, initiator=False)
    reply += _lifetime(
        connection.lifetimes.child_rekey_s + connection.lifetimes.child_over_s,
        chosen,
        agreed.spi_in,
    )
    answer.hash_lead, answer.hash_prefix = b"\0", nonce + ours
    exchange.send(core, sa, answer, reply, now, hash_prefix=nonce)


def _key_exchange(theirs: KeyExchange | None, group: DhGroup | None) -> tuple[bytes, bytes]:
    """(our public value, shared secret), both empty without PFS. Raises Refused."""
    if group is None:
        if theirs is not None:
            raise Refused(
                Reason.INVALID_KE_PAYLOAD, "a key exchange where the proposal names no group"
            )
        return b"", b""
    if theirs is None:
        raise Refused(
            Reason.INVALID_KE_PAYLOAD, f"the key exchange of group {group.name.lower()} is missing"
        )
    try:
        pair = dh.generate(group)
        return pair.public, pair.shared_secret(theirs.data)
    except dh.InvalidKeyExchange as invalid:
        raise Refused(Reason.INVALID_KE_PAYLOAD, f"key exchange value refused: {invalid}") from None


def _lifetime(ours_s: float, chosen: esp_offers.Chosen, spi_in: int) -> list[Payload]:
    """RESPONDER-LIFETIME where we end the child SA before the peer thinks (RFC 2407 s. 4.6.3.1)."""
    if chosen.life_s is None or chosen.life_s <= ours_s:
        return []
    life = serialize_attributes(
        (
            Attribute(IpsecAttribute.LIFE_TYPE, LifeType.SECONDS),
            long_number(IpsecAttribute.LIFE_DURATION, int(ours_s)),
        )
    )
    spi = spi_in.to_bytes(4, "big")
    return [Notify(NotifyType.RESPONDER_LIFETIME, life, ProtocolId.ESP, spi)]
