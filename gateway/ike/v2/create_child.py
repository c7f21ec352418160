"""CREATE_CHILD_SA: dispatch, and child SAs, new ones and successors, as the responder.

RFC 7296 sections 1.3.1, 1.3.3 and 2.25.
"""

import struct

from gateway.domain.wire import WireError
from gateway.ike import child_sas, presence
from gateway.ike.codec import (
    KeyExchange,
    Nonce,
    Payload,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.crypto.proposals import EspSelection
from gateway.ike.draft_features import granted, refuse_held
from gateway.ike.mobility_authority import settle_home_address
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import NotifyType, ProtocolId
from gateway.ike.sa import Child, ChildState
from gateway.ike.v2 import child as child_sa
from gateway.ike.v2 import (
    draft_notifies,
    exchange,
    followup,
    rekey,
    rekey_ike,
    rekey_ike_answer,
    transport_mode,
)
from gateway.ike.v2.init import NONCE_OCTETS
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.view import Payloads, Request

ACTIVATE_S = 4.0
"""When no Delete of the old child SA comes, we send on the new one after this long."""
QUIET = frozenset({NotifyType.TEMPORARY_FAILURE, NotifyType.INVALID_KE_PAYLOAD})
"""Refusals that are part of normal operation."""


def receive_request(core: Core, sa: IkeSa, request: Request) -> None:
    """Answer a CREATE_CHILD_SA request of any kind."""
    view = request.view
    try:
        offered = view.need(SecurityAssociation)
        nonce = view.need(Nonce).data
        if sa.state is not State.ESTABLISHED:
            raise Refused(NotifyType.TEMPORARY_FAILURE, f"the IKE SA is {sa.state.value}")
        if any(proposal.protocol == ProtocolId.IKE for proposal in offered.proposals):
            rekey_ike_answer.answer(core, sa, offered, nonce, request)
            return
        if rekey_ike.under_way(sa):
            raise Refused(NotifyType.TEMPORARY_FAILURE, "we are rekeying the IKE SA")
        if followup.is_waiting(sa, request.now):
            raise Refused(NotifyType.TEMPORARY_FAILURE, "the peer is rekeying the IKE SA")
        reply = _answer_child(core, sa, offered, nonce, request)
    except Refused as refused:
        core.count("create_child_refused")
        exchange.respond(core, sa, request, [refused.notify()])
        if refused.notify_type not in QUIET:
            report_refusal(
                core,
                refused,
                sa.peer_name,
                request.path.remote,
                "CREATE_CHILD_SA",
                connection=sa.connection_name,
                now=request.now,
                sa=sa,
            )
        return
    exchange.respond(core, sa, request, reply)


def _answer_child(
    core: Core, sa: IkeSa, offered: SecurityAssociation, nonce: bytes, request: Request
) -> list[Payload]:
    """Make the child SA that the peer asks for; returns the response's payloads.

    Raises Refused or WireError.
    """
    view, connection = request.view, sa.connection
    if connection is None:
        raise Refused(NotifyType.NO_ADDITIONAL_SAS, "the connection is gone")
    theirs = view.need(TrafficSelectorsInitiator)
    ours = view.need(TrafficSelectorsResponder)
    old = _replaced(core, sa, view)
    if len(sa.children) >= child_sas.MAX_CHILDREN:
        raise Refused(
            NotifyType.NO_ADDITIONAL_SAS,
            f"the IKE SA has {len(sa.children)} child SAs, at most"
            f" {child_sas.MAX_CHILDREN} allowed",
        )
    selection = child_sa.choose_esp(core, connection, offered, with_group=True)
    spi_out = child_sa.spi_of(offered, selection.proposal_number)
    settle_home_address(core, sa, connection, theirs.selectors)
    presence.settle(core, sa, connection, theirs.selectors, old)
    transport_mode.need(connection, view)
    sides = transport_mode.Sides(sa, connection, theirs.selectors, ours.selectors)
    local_ts, remote_ts = child_sa.narrow(core, sa, connection, sides)
    public, shared = _key_exchange(view, selection)
    ours_nonce = core.random(NONCE_OCTETS)
    of_peer, of_us = child_sa.keys(sa, selection.suite, nonce, ours_nonce, shared)
    features = granted(sa, connection, draft_notifies.asked_in(view), local_ts, remote_ts)
    if features.vpn_fa:
        refuse_held(core.home_addresses, sa, remote_ts)
    agreed = child_sas.Agreed(
        core.new_child_spi(),
        spi_out,
        selection.suite,
        selection.group,
        local_ts,
        remote_ts,
        features.endpoint_update,
        features.vpn_fa,
        connection.mode,
    )
    made = child_sas.install(
        core,
        sa,
        agreed,
        of_peer,
        of_us,
        request.now,
        reqid=child_sas.reqid_after(old, agreed),
        outbound=old is None,
    )
    if old is not None:
        _succeed(core, sa, old, made, min(nonce, ours_nonce), request.now)
    payloads: list[Payload] = [child_sa.answer_payload(selection, made.spi_in), Nonce(ours_nonce)]
    if public:
        payloads.append(KeyExchange(int(selection.group or 0), public))
    payloads += [
        TrafficSelectorsInitiator(sides.told(remote_ts)),
        TrafficSelectorsResponder(sides.told(local_ts)),
        *transport_mode.notifies(connection),
        *draft_notifies.notifies(features),
    ]
    return payloads


def _replaced(core: Core, sa: IkeSa, view: Payloads) -> Child | None:
    """The child SA that the request rekeys, or None for a new one. Raises Refused."""
    notify = view.notify(NotifyType.REKEY_SA)
    if notify is None:
        return None
    if notify.protocol != ProtocolId.ESP or len(notify.spi) != 4:
        raise WireError("REKEY_SA without the SPI of an ESP SA")
    spi_out = int.from_bytes(notify.spi, "big")
    for child in sa.children.values():
        if child.spi_out != spi_out:
            continue
        if child.state is ChildState.DELETING or child.replaced_by is not None:
            raise Refused(NotifyType.TEMPORARY_FAILURE, "the child SA is being deleted")
        return child
    if rekey.waits_for_answer(sa):
        # It may be the one that the peer's answer makes, which was lost so far.
        raise Refused(NotifyType.TEMPORARY_FAILURE, "a child SA is being made")
    core.count("rekeys_of_unknown_child")
    raise Refused(
        NotifyType.CHILD_SA_NOT_FOUND,
        f"there is no child SA {spi_out:08x} to rekey",
        protocol=ProtocolId.ESP,
        spi=notify.spi,
    )


def _key_exchange(view: Payloads, selection: EspSelection) -> tuple[bytes, bytes]:
    """(our public value, shared secret), both empty without PFS. Raises Refused."""
    group = selection.group
    if group is None:
        return b"", b""
    theirs = view.get(KeyExchange)
    if theirs is None or theirs.group != group:
        raise Refused(
            NotifyType.INVALID_KE_PAYLOAD,
            f"key exchange of group {group.name} is needed",
            data=struct.pack("!H", group),
        )
    try:
        pair = dh.generate(group)
        return pair.public, pair.shared_secret(theirs.data)
    except dh.InvalidKeyExchange as invalid:
        raise Refused(NotifyType.INVALID_SYNTAX, f"key exchange value refused: {invalid}") from None


def _succeed(core: Core, sa: IkeSa, old: Child, made: Child, low: bytes, now: float) -> None:  # noqa: PLR0917 - one fact each
    """``made`` replaces ``old``; if we are rekeying it ourselves, that exchange decides."""
    mine = rekey.outstanding_rekey(sa, old.spi_in)
    if mine is not None:
        mine.rival = rekey.Rival(made.spi_in, low)
        core.count("rekey_collisions")
        return
    old.state = ChildState.REKEYED
    old.replaced_by = made.spi_in
    core.timers.cancel((TimerKind.REKEY_CHILD, old.spi_in))
    core.timers.set((TimerKind.ACTIVATE, made.spi_in), now + ACTIVATE_S)
    core.count("child_sas_rekeyed")
