"""Rekeying of the IKE SA itself (RFC 7296 sections 1.3.2, 2.8, 2.8.2, 2.18, 2.25.2)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from gateway.domain.wire import WireError
from gateway.ike import client, users
from gateway.ike import record_values as values
from gateway.ike.codec import (
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    describe_notify,
)
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.crypto.proposals import (
    NoProposalChosen,
    Selection,
    check_selected,
    select_ike,
)
from gateway.ike.record_values import Record
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import DhGroup, ExchangeType, NotifyType, ProtocolId
from gateway.ike.sa import ChildState
from gateway.ike.v2 import auth, deleting, exchange, followup, init, keys, rekey
from gateway.ike.v2.mobike import MobikeState
from gateway.ike.v2.sa import Evidence, IkeSa, State, transition
from gateway.ike.v2.view import Payloads, Request

OLD_SA_S = 30.0
"""The old SA is deleted by us when the peer, whose task it is, has not done so after this."""


@dataclass(slots=True)
class Rival:
    """The IKE SA that the peer made while we were rekeying as well."""

    sa: IkeSa
    low: bytes
    """The lower nonce of its exchange."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the response to our CREATE_CHILD_SA settled."""

    selection: Selection
    nonce: bytes
    """The responder's."""
    shared: bytes = field(repr=False)


def under_way(sa: IkeSa) -> "RekeyIke | None":
    """Our own rekeying of this IKE SA, if it is under way."""
    outstanding = sa.window.outstanding
    mine = outstanding.exchange if outstanding is not None else None
    if isinstance(mine, followup.FollowupKe):
        return mine.rekeying if isinstance(mine.rekeying, RekeyIke) else None
    return mine if isinstance(mine, RekeyIke) else None


def successor(
    core: Core, old: IkeSa, spi_i: bytes, spi_r: bytes, *, initiator: bool, now: float
) -> IkeSa:
    """A new IKE SA with the peer of an established one; it has no keys yet."""
    new = IkeSa(spi_i, spi_r, initiator=initiator, path=old.path, now=now)
    new.connection = old.connection
    new.peer_id = old.peer_id
    new.local_id = old.local_id
    new.local_natted = old.local_natted
    new.remote_natted = old.remote_natted
    new.encapsulate = old.encapsulate
    new.fragmentation = old.fragmentation
    new.mobike = old.mobike
    new.session_initiator = old.session_initiator
    if old.mobike_state is not None:
        # The mapping is a hash over the old SPIs: it says nothing about the new SA.
        new.mobike_state = MobikeState(old.mobike_state.additional)
    new.peer_knows_endpoint_update = old.peer_knows_endpoint_update
    new.peer_knows_vpn_fa = old.peer_knows_vpn_fa
    new.user, new.profile, new.auth = old.user, old.profile, old.auth
    new.last_move = old.last_move
    new.move_budget = old.move_budget
    new.established_at = old.established_at
    new.origin = old.session_id
    new.family = old.family
    new.login_again_at = old.login_again_at
    core.add_sa(new)
    return new


def _establish(  # noqa: PLR0917 - one fact each
    core: Core,
    old: IkeSa,
    new: IkeSa,
    selection: Selection,
    nonces: tuple[bytes, bytes],
    shared: bytes,
    additional: bytes = b"",
) -> None:
    handshake = new.handshake
    if handshake is None or old.suite is None:
        raise ValueError("no handshake")
    handshake.nonce_i, handshake.nonce_r = nonces
    keys.install(new, selection.suite, shared, old.sk_d, old.suite, additional)
    new.evidence |= Evidence.INHERITED
    new.handshake = None
    transition(core, new, State.ESTABLISHED, f"successor of {old.spis}")
    core.add_peer(new)


def adopt(core: Core, old: IkeSa, new: IkeSa, now: float) -> None:
    """Move the children, the inner address and what waits from ``old`` to ``new``."""
    for child in old.children.values():
        new.children[child.spi_in] = child
        core.children[child.spi_in] = new
    old.children = {}
    core.hand_over_address(old, new)
    new.path, new.encapsulate = old.path, old.encapsulate
    new.local_natted, new.remote_natted = old.local_natted, old.remote_natted
    new.origin = old.origin = old.session_id
    new.session, old.session = old.session, None
    new.assigned, new.fa_advertisement = old.assigned, old.fa_advertisement
    new.mobility_credentials = old.mobility_credentials
    new.home_address = old.home_address
    client.succeeded(core, old, new)
    old.rekeyed_by = new
    waiting, old.exchanges = old.exchanges, None
    transition(core, old, State.REKEYED, f"replaced by {new.spis}")
    for kind in (
        TimerKind.LIVENESS,
        TimerKind.REKEY_IKE,
        TimerKind.KEEPALIVE,
        TimerKind.CHILDLESS,
        TimerKind.SESSION,
        TimerKind.REAUTHENTICATE,
    ):
        core.timers.cancel((kind, old.local_spi))
    core.timers.set((TimerKind.EXPIRE_IKE, old.local_spi), now + OLD_SA_S)
    auth.start_timers(core, new, now)
    users.watch_session(core, new, now)
    if not new.children:
        core.watch_childless(new, now)
    for one in waiting or ():
        exchange.begin(core, new, one, now)
    core.count("ike_sas_rekeyed")
    core.emit(
        "ike_sa_rekeyed",
        f"IKE SA of {new.peer_name} ({new.connection_name}) rekeyed, {new.suite}",
        peer=new.peer_name,
        session=new.session_id,
        connection=new.connection_name,
        old_spis=old.spis,
        spis=new.spis,
        suite=str(new.suite),
    )


# -- as the responder -----------------------------------------------------------------------


def _busy(sa: IkeSa) -> bool:
    """Whether an exchange of ours about a child SA is under way (section 2.25.2)."""
    outstanding = sa.window.outstanding
    return outstanding is not None and isinstance(
        outstanding.exchange, rekey.CreateChild | deleting.DeleteChild
    )


def answer(
    core: Core, sa: IkeSa, offered: SecurityAssociation, nonce: bytes, request: Request
) -> None:
    """Answer a request to rekey the IKE SA. Raises Refused or WireError."""
    connection = sa.connection
    if connection is None:
        raise Refused(NotifyType.NO_ADDITIONAL_SAS, "the connection is gone")
    if _busy(sa):
        raise Refused(NotifyType.TEMPORARY_FAILURE, "a child SA is being made or deleted")
    mine = under_way(sa)
    if mine is not None and mine.rival is not None:
        raise Refused(NotifyType.TEMPORARY_FAILURE, "the IKE SA was rekeyed by the peer already")
    theirs = request.view.need(KeyExchange)
    try:
        selection = select_ike(connection.ike_offer, offered, spi_octets=8)
    except NoProposalChosen as nothing:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN, str(nothing), theirs=nothing.theirs, ours=nothing.ours
        ) from None
    if theirs.group != selection.group:
        raise Refused(
            NotifyType.INVALID_KE_PAYLOAD,
            f"key exchange of group {selection.group.name} is needed",
            data=struct.pack("!H", selection.group),
        )
    if not any(selection.peer_spi):
        raise WireError("the new IKE SA has an SPI of zero")
    try:
        pair = dh.generate(selection.group)
        shared = pair.shared_secret(theirs.data)
    except dh.InvalidKeyExchange as invalid:
        raise Refused(NotifyType.INVALID_SYNTAX, f"key exchange value refused: {invalid}") from None
    now = request.now
    spi, ours = core.new_ike_spi(), core.random(init.NONCE_OCTETS)
    reply: list[Payload] = [
        init.chosen_payload(selection, spi),
        Nonce(ours),
        KeyExchange(selection.group, pair.public),
    ]
    if selection.suite.additional:
        if mine is not None:
            raise Refused(NotifyType.TEMPORARY_FAILURE, "we are rekeying the IKE SA ourselves")

        awaited = AwaitedIke(selection, spi, (nonce, ours), shared)
        reply.append(followup.expect(core, sa, selection.suite.additional, awaited, now))
        exchange.respond(core, sa, request, reply)
        return
    new = successor(core, sa, selection.peer_spi, spi, initiator=False, now=now)
    _establish(core, sa, new, selection, (nonce, ours), shared)
    exchange.respond(core, sa, request, reply)
    if mine is not None:
        core.count("rekey_collisions")
        mine.rival = Rival(new, min(nonce, ours))
        return
    adopt(core, sa, new, now)


@dataclass(frozen=True, slots=True)
class AwaitedIke:
    """The peer's rekeying, which has agreed on everything but the additional key exchanges."""

    selection: Selection
    spi: bytes
    """Ours."""
    nonces: tuple[bytes, bytes]
    shared: bytes = field(repr=False)

    def complete(self, core: Core, sa: IkeSa, additional: bytes, now: float) -> None:
        """Take over the children."""
        new = successor(core, sa, self.selection.peer_spi, self.spi, initiator=False, now=now)
        _establish(core, sa, new, self.selection, self.nonces, self.shared, additional)
        adopt(core, sa, new, now)

    def record(self) -> Record:
        """All of it."""
        return {
            "spi": values.octets(self.spi),
            "nonces": list(map(values.octets, self.nonces)),
            "agreed": _record_agreed(self.selection, self.shared),
        }

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        theirs, ours = values.items(record["nonces"], 2)
        return cls(
            _read_selection(record["agreed"]),
            values.spi(record["spi"]),
            (values.read_octets(theirs, 1, 256), values.read_octets(ours, 1, 256)),
            _read_shared(record["agreed"]),
        )


def _record_agreed(selection: Selection, shared: bytes) -> Record:
    return {
        "suite": values.ike_suite(selection.suite),
        "spi": values.octets(selection.peer_spi),
        "shared": values.octets(shared),
    }


def _read_selection(record: Record) -> Selection:
    """Without what only the answer needed, which is on its way."""
    suite = values.read_ike_suite(values.fields(record)["suite"])
    return Selection(suite, 0, (), values.spi(record["spi"]))


def _read_shared(record: Record) -> bytes:
    return values.read_octets(record["shared"], 1, 4096)


def settle_before_close(core: Core, sa: IkeSa, now: float) -> None:
    """The peer deletes an SA that it has rekeyed while our own rekeying is under way."""
    mine = under_way(sa)
    if mine is not None and mine.rival is not None and mine.rival.sa.established:
        if sa.state is State.ESTABLISHED:
            adopt(core, sa, mine.rival.sa, now)
        mine.rival = None


# -- as the requester -----------------------------------------------------------------------


class RekeyIke(exchange.Exchange):
    """Ask for a successor of the IKE SA."""

    __slots__ = (
        "_agreed",
        "_group",
        "_nonce",
        "_pair",
        "_retries",
        "_rival_spi",
        "_spi",
        "rival",
    )
    name = "rekey IKE SA"
    exchange_type = ExchangeType.CREATE_CHILD_SA
    in_record = "rekey IKE SA"

    def __init__(self, group: DhGroup | None = None, retries: int = 0) -> None:
        self._group = group
        self._retries = retries
        self.rival: Rival | None = None
        self._rival_spi: tuple[bytes, bytes] | None = None
        self._agreed: Agreed | None = None
        self._pair: dh.DhKeyPair | None = None
        self._spi = self._nonce = b""

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """SA with our new SPI, Ni, KE."""
        del now
        connection = sa.connection
        if connection is None or sa.state is not State.ESTABLISHED or sa.suite is None:
            return None
        if any(child.state is ChildState.REKEYING for child in sa.children.values()):
            return None
        self._spi = core.new_ike_spi()
        self._nonce = core.random(init.NONCE_OCTETS)
        offered = connection.ike_offer.groups()
        usual = sa.suite.group if sa.suite.group in offered else offered[0]
        self._pair = dh.generate(self._group or usual)
        return [
            connection.ike_offer.to_payload(ProtocolId.IKE, self._spi),
            Nonce(self._nonce),
            KeyExchange(self._pair.group, self._pair.public),
        ]

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """Take over the children, or make sense of the refusal."""
        error = view.error()
        if error is not None:
            self._refused(core, sa, error, now)
            return
        try:
            agreed = self._agreed = self._accept(sa, view)
        except Refused as refused:
            name = sa.connection_name
            report_refusal(
                core, refused, sa.peer_name, sa.path.remote, self.name, connection=name, sa=sa
            )
            self._again(core, sa, rekey.REFUSED_RETRY_S, now)
            return
        additional = agreed.selection.suite.additional
        if not additional:
            self.complete(core, sa, b"", now)
            return
        following = followup.FollowupKe(followup.link_of(view), additional, self)
        exchange.begin(core, sa, following, now)

    def abandoned(self, core: Core, sa: IkeSa, now: float) -> None:
        """The SA ends before it is settled who replaces it: what the peer made goes too."""
        rival, self.rival = self.rival, None
        if rival is not None and rival.sa.established:
            rival.sa.rekeyed_by = sa
            core.touch(rival.sa)
            deleting.delete_ike_sa(core, rival.sa, "closed with the SA that it replaces", now)

    def followup_refused(self, core: Core, sa: IkeSa, error: Notify, now: float) -> None:
        """The peer refused an additional key exchange."""
        self._refused(core, sa, error, now)

    def complete(self, core: Core, sa: IkeSa, additional: bytes, now: float) -> None:
        """All key exchanges are done: take over the children."""
        agreed = self._agreed
        if agreed is None:
            raise ValueError("nothing is agreed on")
        new = successor(core, sa, self._spi, agreed.selection.peer_spi, initiator=True, now=now)
        nonces = (self._nonce, agreed.nonce)
        _establish(core, sa, new, agreed.selection, nonces, agreed.shared, additional)
        low = min(nonces)
        rival = self.rival
        if rival is not None and rival.sa.established and low < rival.low:
            # Ours has the lowest nonce of all four: ours goes, the peer deletes the old one.
            adopt(core, sa, rival.sa, now)
            new.rekeyed_by = rival.sa
            deleting.delete_ike_sa(core, new, "redundant after simultaneous rekeying", now)
            return
        adopt(core, sa, new, now)
        deleting.delete_ike_sa(core, sa, "rekeyed", now)
        if rival is not None:
            # The peer deletes its own; without a Delete it goes when its time is over.
            rival.sa.rekeyed_by = new
            core.touch(rival.sa)
            core.timers.set((TimerKind.EXPIRE_IKE, rival.sa.local_spi), now + OLD_SA_S)

    def _accept(self, sa: IkeSa, view: Payloads) -> Agreed:
        connection = sa.connection
        if connection is None:
            raise Refused(NotifyType.NO_ADDITIONAL_SAS, "the connection is gone")
        answered = view.need(SecurityAssociation)
        nonce = view.need(Nonce).data
        theirs = view.need(KeyExchange)
        try:
            selection = check_selected(connection.ike_offer, answered, spi_octets=8)
        except NoProposalChosen as wrong:
            raise Refused(NotifyType.NO_PROPOSAL_CHOSEN, f"the peer's choice: {wrong}") from None
        if self._pair is None or not theirs.group == selection.group == self._pair.group:
            raise Refused(NotifyType.INVALID_KE_PAYLOAD, "the peer answered with another group")
        if not any(selection.peer_spi):
            raise WireError("the new IKE SA has an SPI of zero")
        try:
            shared = self._pair.shared_secret(theirs.data)
        except dh.InvalidKeyExchange as invalid:
            raise WireError(f"key exchange value refused: {invalid}") from None
        return Agreed(selection, nonce, shared)

    def _refused(self, core: Core, sa: IkeSa, error: Notify, now: float) -> None:
        core.count("rekey_ike_refused")
        rival = self.rival
        if rival is not None and rival.sa.established:
            adopt(core, sa, rival.sa, now)
            return
        group = int.from_bytes(error.data, "big")
        if (
            error.type == NotifyType.INVALID_KE_PAYLOAD
            and self._retries < rekey.MAX_GROUP_RETRIES
            and sa.connection is not None
            and group in sa.connection.ike_offer.groups()
        ):
            exchange.begin(core, sa, RekeyIke(DhGroup(group), self._retries + 1), now)
            return
        if error.type == NotifyType.TEMPORARY_FAILURE:
            self._again(core, sa, rekey.RETRY_S * (1 + core.fraction()), now)
            return
        refused = Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            f"the peer answered {describe_notify(error.type)}",
            "see the peer's log for its reason",
        )
        name = sa.connection_name
        report_refusal(
            core, refused, sa.peer_name, sa.path.remote, self.name, connection=name, sa=sa
        )
        self._again(core, sa, rekey.REFUSED_RETRY_S, now)

    def rejoin(self, core: Core, sa: IkeSa) -> None:
        """Find the IKE SA that the peer made meanwhile."""
        if self._rival_spi is not None:
            spi, low = self._rival_spi
            made = core.sas.get(spi)
            self.rival = Rival(made, low) if isinstance(made, IkeSa) and made is not sa else None
            self._rival_spi = None
            core.touch(sa)

    def record(self) -> Record:
        """Our nonce and private key once it was sent, and what was agreed on."""
        record: Record = {
            "group": None if self._group is None else int(self._group),
            "retries": self._retries,
        }
        if self._pair is not None:
            record["sent"] = [values.octets(self._spi), values.octets(self._nonce)]
            record["key"] = [int(self._pair.group), values.octets(self._pair.private)]
        if self._agreed is not None:
            record["agreed"] = _record_agreed(self._agreed.selection, self._agreed.shared)
            record["theirs"] = values.octets(self._agreed.nonce)
        if self.rival is not None:
            record["rival"] = [
                values.octets(self.rival.sa.local_spi),
                values.octets(self.rival.low),
            ]
        return record

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        mine = cls(
            values.read_group(record["group"]),
            values.number(record["retries"], 0, rekey.MAX_GROUP_RETRIES),
        )
        if "sent" in record:
            spi, nonce = values.items(record["sent"], 2)
            mine._spi, mine._nonce = values.spi(spi), values.read_octets(nonce, 1, 256)
            group, private = values.items(record["key"], 2)
            mine._pair = dh.resume(group, values.read_octets(private))
        if "agreed" in record:
            agreed = record["agreed"]
            mine._agreed = Agreed(
                _read_selection(agreed),
                values.read_octets(record["theirs"], 1, 256),
                _read_shared(agreed),
            )
        if "rival" in record:
            spi, low = values.items(record["rival"], 2)
            mine._rival_spi = values.spi(spi), values.read_octets(low, 1, 256)
        return mine

    def _again(self, core: Core, sa: IkeSa, delay: float, now: float) -> None:
        if sa.state is State.ESTABLISHED:
            core.timers.set((TimerKind.REKEY_IKE, sa.local_spi), now + delay)


def rekey_ike(core: Core, sa: IkeSa, now: float) -> None:
    """Replace the IKE SA, unless that is under way."""
    if sa.state is not State.ESTABLISHED or under_way(sa) is not None:
        return
    if followup.is_waiting(sa, now):
        core.timers.set((TimerKind.REKEY_IKE, sa.local_spi), now + followup.FOLLOWUP_S)
        return
    # Should children be busy, try again soon.
    core.timers.set((TimerKind.REKEY_IKE, sa.local_spi), now + rekey.REFUSED_RETRY_S)
    exchange.begin(core, sa, RekeyIke(), now)
