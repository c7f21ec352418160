"""Informational exchanges: deletes, notifies, the advertisement (RFC 2408 section 4.8).

Everything here was verified by its HASH payload; what came in the clear never gets here.
"""

from collections.abc import Sequence

from gateway.domain.endpoint import Path
from gateway.ike import client, draft_features, users
from gateway.ike.core import Core
from gateway.ike.outputs import Severity
from gateway.ike.sa import ChildState
from gateway.ike.v1 import dpd, phase1, quick, renew
from gateway.ike.v1.codec import (
    Delete,
    FaAdvertisement,
    Notify,
    NotifyType,
    Payload,
    ProtocolId,
    describe_notify,
    find,
    find_all,
)
from gateway.ike.v1.quick_initiator import QuickInitiator
from gateway.ike.v1.sa import IkeSa, State

MAX_NOTIFIES = 16
"""Of one message that are looked at."""


def receive(core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float) -> None:
    """Act on a verified message: children's deletes, notifies, and the SA's own delete last."""
    _advertisement(core, sa, payloads)
    deletes = find_all(payloads, Delete)
    _delete_children(core, sa, deletes, now)
    for notify in find_all(payloads, Notify)[:MAX_NOTIFIES]:
        _notified(core, sa, notify, path, now)
        if sa.closed:
            return
    _delete_isakmp_sas(core, sa, deletes, now)


def _advertisement(core: Core, sa: IkeSa, payloads: Sequence[Payload]) -> None:
    """The gateway's, after aggressive mode, whose last message is not the gateway's."""
    found = find(payloads, FaAdvertisement)
    if found is None or sa.connection is None:
        return
    if not draft_features.take_advertisement(sa, sa.connection, found.data):
        core.count("advertisements_unexpected")
    client.tell(core, sa)


# -- deletes --------------------------------------------------------------------------------


def _same_peer(core: Core, sa: IkeSa) -> list[IkeSa]:
    """The SA, then the others of the same peer and user: its children may be on any of them."""
    found = [sa]
    if sa.state is State.AUTHENTICATED:
        return found
    found += [
        one
        for one in core.of_peer(sa)
        if isinstance(one, IkeSa)
        and one is not sa
        and one.connection_name == sa.connection_name
        and users.of_same_user(one, sa)
    ]
    return found


def _delete_children(core: Core, sa: IkeSa, deletes: list[Delete], now: float) -> None:
    spis = {
        int.from_bytes(spi, "big"): None
        for one in deletes
        if one.protocol == ProtocolId.ESP
        for spi in one.spis
    }
    if not spis:
        return
    by_spi = {
        child.spi_out: (owner, child)
        for owner in reversed(_same_peer(core, sa))
        for child in owner.children.values()
    }
    for spi in spis:
        owner, child = by_spi.get(spi, (None, None))
        if owner is None or child is None:
            core.count("deletes_of_unknown_spi")
        elif child.state is not ChildState.DELETING:
            quick.end(core, owner, child, "the peer deleted it", now)


def _delete_isakmp_sas(core: Core, sa: IkeSa, deletes: list[Delete], now: float) -> None:
    named = {spi for one in deletes if one.protocol == ProtocolId.ISAKMP for spi in one.spis}
    foreign = [one for one in deletes if one.protocol not in (ProtocolId.ESP, ProtocolId.ISAKMP)]
    if foreign:
        core.count("deletes_of_unknown_spi")
    if not named:
        return
    for one in reversed(_same_peer(core, sa)):
        cookies = one.initiator_spi + one.responder_spi
        if cookies in named:
            named.discard(cookies)
            renew.deleted_by_peer(core, one, now)
    if named:
        core.count("deletes_of_unknown_spi")


# -- notifies -------------------------------------------------------------------------------


def _notified(core: Core, sa: IkeSa, notify: Notify, path: Path, now: float) -> None:
    if notify.type == NotifyType.R_U_THERE:
        dpd.asked(core, sa, notify, path, now)
    elif notify.type == NotifyType.R_U_THERE_ACK:
        dpd.answered(core, sa, notify, path, now)
    elif notify.type == NotifyType.INITIAL_CONTACT:
        if sa.state is State.ESTABLISHED:
            phase1.replace_older(core, sa, now)
        elif sa.phase1 is not None:
            sa.phase1.initial_contact = True
    elif notify.is_error:
        _error(core, sa, notify, path, now)
    else:
        core.count("notifies_ignored")


def _error(core: Core, sa: IkeSa, notify: Notify, path: Path, now: float) -> None:
    """The peer refused something: the quick mode that it names, or the only one under way."""
    core.count("error_notifies")
    ours = [
        one
        for one in sa.exchanges.values()
        if isinstance(one, QuickInitiator) and one.finished_at is None
    ]
    named = [one for one in ours if one.spi_in.to_bytes(4, "big") == notify.spi]
    if not named and len(ours) == 1:
        named = ours
    if named:
        named[0].refused_by_peer(core, sa, notify, now)
        return
    core.emit_limited(
        f"notify {sa.spis}",
        now,
        "peer_reported_error",
        f"{sa.peer_name} ({sa.connection_name}) reports {describe_notify(notify.type)}",
        Severity.DEBUG,
        peer=sa.peer_name,
        session=sa.session_id,
        spis=sa.spis,
        connection=sa.connection_name,
        remote=str(path.remote),
        notify=describe_notify(notify.type),
    )
