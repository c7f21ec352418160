"""Rekeying of the IKE SA itself, as the responder (RFC 7296 sections 1.3.2, 2.8, 2.25.2)."""

import struct
from dataclasses import dataclass, field
from typing import Self

from gateway.domain.wire import WireError
from gateway.ike import record_values as values
from gateway.ike.codec import KeyExchange, Nonce, Payload, SecurityAssociation
from gateway.ike.core import Core
from gateway.ike.crypto import dh
from gateway.ike.crypto.proposals import NoProposalChosen, Selection, select_ike
from gateway.ike.record_values import Record
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.v2 import deleting, exchange, followup, init, rekey, succession
from gateway.ike.v2.rekey_ike import Rival, under_way
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.view import Request


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
    new = succession.successor(core, sa, selection.peer_spi, spi, initiator=False, now=now)
    succession.establish(core, sa, new, selection, (nonce, ours), shared)
    exchange.respond(core, sa, request, reply)
    if mine is not None:
        core.count("rekey_collisions")
        mine.rival = Rival(new, min(nonce, ours))
        return
    succession.adopt(core, sa, new, now)


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
        new = succession.successor(
            core, sa, self.selection.peer_spi, self.spi, initiator=False, now=now
        )
        succession.establish(core, sa, new, self.selection, self.nonces, self.shared, additional)
        succession.adopt(core, sa, new, now)

    def record(self) -> Record:
        """All of it."""
        return {
            "spi": values.octets(self.spi),
            "nonces": list(map(values.octets, self.nonces)),
            "agreed": succession.record_agreed(self.selection, self.shared),
        }

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        theirs, ours = values.items(record["nonces"], 2)
        return cls(
            succession.read_selection(record["agreed"]),
            values.spi(record["spi"]),
            (values.read_octets(theirs, 1, 256), values.read_octets(ours, 1, 256)),
            succession.read_shared(record["agreed"]),
        )


def settle_before_close(core: Core, sa: IkeSa, now: float) -> None:
    """The peer deletes an SA that it has rekeyed while our own rekeying is under way."""
    mine = under_way(sa)
    if mine is not None and mine.rival is not None and mine.rival.sa.established:
        if sa.state is State.ESTABLISHED:
            succession.adopt(core, sa, mine.rival.sa, now)
        mine.rival = None
