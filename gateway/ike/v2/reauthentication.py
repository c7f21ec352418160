"""Reauthentication: a new login replaces an IKE SA (RFC 7296 section 2.8.3, RFC 4478).

Make before break: the initiator logs in anew beside the old IKE SA, with child SAs of its own, and
deletes the old one when the new one stands. The responder only says how long a login is good for.
"""

from typing import TYPE_CHECKING

from gateway.ike.codec import Notify, Payload
from gateway.ike.core import Core, TimerKind
from gateway.ike.registry import NotifyType
from gateway.ike.v2 import rekey
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.view import Payloads

if TYPE_CHECKING:
    from gateway.ike.policy import ConnectionPolicy

OLD_SA_S = 2.0
"""So long the old IKE SA stays: packets on their way find their child SA."""
EARLIER = 0.1
"""We log in anew this fraction of the lifetime before the responder ends it, or a minute."""
MAX_EARLIER_S = 60.0
MIN_LIFETIME_S = 10.0
"""A responder that grants less gets no more attempts than this for it."""
MAX_LIFETIME_S = 2**32 - 1


# -- responder ------------------------------------------------------------------------------


def announce(sa: IkeSa, connection: "ConnectionPolicy") -> list[Payload]:
    """AUTH_LIFETIME of the IKE_AUTH response, where the login is good for a limited time."""
    limits = []
    if connection.reauthenticate:
        limits.append(connection.lifetimes.ike_rekey_s)
    if sa.user is not None and sa.user.session_timeout_s is not None:
        limits.append(sa.user.session_timeout_s)
    if not limits:
        return []
    seconds = int(min(*limits, MAX_LIFETIME_S))
    return [Notify(NotifyType.AUTH_LIFETIME, seconds.to_bytes(4, "big"))]


# -- initiator ------------------------------------------------------------------------------


def take_lifetime(core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
    """The responder says how long our login is good for."""
    told = view.notify(NotifyType.AUTH_LIFETIME)
    if told is None or len(told.data) != 4 or not sa.session_initiator:
        return
    seconds = max(float(int.from_bytes(told.data, "big")), MIN_LIFETIME_S)
    sa.login_again_at = now + seconds - min(seconds * EARLIER, MAX_EARLIER_S)
    watch(core, sa, now)


def watch(core: Core, sa: IkeSa, now: float) -> None:
    """Set the timer for the next login; for a successor too."""
    if sa.login_again_at is not None:
        at = max(sa.login_again_at, now)
        core.timers.set((TimerKind.REAUTHENTICATE, sa.local_spi), at)


def start(core: Core, sa: IkeSa, now: float) -> None:
    """Log in anew, unless that is under way; tried again until the old SA's time is over."""
    from gateway.ike.v2 import initiate  # noqa: PLC0415 - it needs all the exchanges

    connection = core.connections.get(sa.connection_name)
    if sa.state is not State.ESTABLISHED or not sa.session_initiator or connection is None:
        return
    core.timers.set((TimerKind.REAUTHENTICATE, sa.local_spi), now + rekey.REFUSED_RETRY_S)
    if connection.remote is None or any(_replaces(one, sa) for one in core.sas.values()):
        return
    core.count("reauthentications")
    initiate.start(core, connection, now, replaces=sa)


def _replaces(one: object, old: IkeSa) -> bool:
    return (
        isinstance(one, IkeSa)
        and one.handshake is not None
        and one.handshake.replaces == old.local_spi
    )


def replaced_by(core: Core, sa: IkeSa) -> IkeSa | None:
    """The established IKE SA in whose place this one comes."""
    spi = sa.handshake.replaces if sa.handshake is not None else b""
    old = core.sas.get(spi)
    return old if isinstance(old, IkeSa) and old.state is State.ESTABLISHED else None


def finish(core: Core, old: IkeSa, new: IkeSa, now: float) -> None:
    """The new login stands: let the old one go."""
    core.touch(old)
    old.rekeyed_by = new
    for kind in (
        TimerKind.LIVENESS,
        TimerKind.REKEY_IKE,
        TimerKind.REAUTHENTICATE,
        TimerKind.CHILDLESS,
    ):
        core.timers.cancel((kind, old.local_spi))
    for spi_in in old.children:
        core.timers.cancel((TimerKind.REKEY_CHILD, spi_in))
    core.timers.set((TimerKind.EXPIRE_IKE, old.local_spi), now + OLD_SA_S)
    core.count("ike_sas_reauthenticated")
    core.emit(
        "ike_sa_reauthenticated",
        f"logged in again at {new.peer_name} ({new.connection_name}), {new.suite}",
        peer=new.peer_name,
        session=new.session_id,
        connection=new.connection_name,
        old_spis=old.spis,
        spis=new.spis,
    )
