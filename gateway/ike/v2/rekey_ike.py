"""Rekeying of the IKE SA itself, as the requester (RFC 7296 sections 1.3.2, 2.8, 2.18)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from gateway.domain.wire import WireError
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
)
from gateway.ike.record_values import Record
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import DhGroup, ExchangeType, NotifyType, ProtocolId
from gateway.ike.sa import ChildState
from gateway.ike.v2 import deleting, exchange, followup, init, rekey, succession
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.view import Payloads


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
        new = succession.successor(
            core, sa, self._spi, agreed.selection.peer_spi, initiator=True, now=now
        )
        nonces = (self._nonce, agreed.nonce)
        succession.establish(core, sa, new, agreed.selection, nonces, agreed.shared, additional)
        low = min(nonces)
        rival = self.rival
        if rival is not None and rival.sa.established and low < rival.low:
            # Ours has the lowest nonce of all four: ours goes, the peer deletes the old one.
            succession.adopt(core, sa, rival.sa, now)
            new.rekeyed_by = rival.sa
            deleting.delete_ike_sa(core, new, "redundant after simultaneous rekeying", now)
            return
        succession.adopt(core, sa, new, now)
        deleting.delete_ike_sa(core, sa, "rekeyed", now)
        if rival is not None:
            # The peer deletes its own; without a Delete it goes when its time is over.
            rival.sa.rekeyed_by = new
            core.touch(rival.sa)
            core.timers.set((TimerKind.EXPIRE_IKE, rival.sa.local_spi), now + succession.OLD_SA_S)

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
            succession.adopt(core, sa, rival.sa, now)
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
            record["agreed"] = succession.record_agreed(self._agreed.selection, self._agreed.shared)
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
                succession.read_selection(agreed),
                values.read_octets(record["theirs"], 1, 256),
                succession.read_shared(agreed),
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
