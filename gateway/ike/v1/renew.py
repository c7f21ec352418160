"""A new phase 1 before the old one's life is over: it takes over the children and the session.

IKEv1 cannot rekey an ISAKMP SA; it makes another one. Child SAs belong to the peer, not to the
ISAKMP SA that they were negotiated under, so they move to the new one and live on.
"""

from gateway.ike import client, closing, moving, users
from gateway.ike.core import Core, TimerKind
from gateway.ike.sa import IkeSa as AnyIkeSa
from gateway.ike.v1 import initiate
from gateway.ike.v1.sa import IkeSa, State, transition

DELETE_AFTER_S = 2.0
"""So long the replaced SA stays when we replaced it: peers move its children in their own time."""
OLD_SA_S = 30.0
"""It is deleted by us when the peer, whose task it is, has not done so after this."""
CROSSING_S = 30.0
"""Two SAs made within this time replace the same one: both sides renewed at once."""
RETRY_S = 30.0
"""A renewal that failed is tried again after this."""


def possible(sa: IkeSa) -> bool:
    """Whether we can begin a phase 1 with this peer at all.

    A gateway cannot where the user logs in: the peer has to prove it, and only the initiator does.
    """
    connection = sa.connection
    return connection is not None and (sa.initiator or connection.peer_auth.user is None)


def renew(core: Core, sa: IkeSa, now: float) -> None:
    """Begin a new phase 1 with the peer, unless that is under way."""
    if sa.state is not State.ESTABLISHED or not possible(sa):
        return
    core.timers.set((TimerKind.REKEY_IKE, sa.local_spi), now + RETRY_S)
    if any(isinstance(one, IkeSa) and one.replaces is sa for one in core.sas.values()):
        return
    core.touch(sa)
    sa.renewing = True
    initiate.renewal(core, sa, now)


def settle(core: Core, new: IkeSa, now: float) -> None:
    """A new SA is established: let it replace the one that it was made for, if there is any."""
    begun_from = new.replaces
    old = begun_from if begun_from is not None else _predecessor(core, new)
    new.replaces = None
    if old is None:
        return
    rival = old.rekeyed_by
    if old.state is State.ESTABLISHED:
        # What was begun when the other one was there already has not crossed it.
        crossed = begun_from is not old and _crossed(old, new, now)
        if crossed and old.initiator_spi < new.initiator_spi:
            _give_way(core, new, old, now)
        else:
            adopt(core, old, new, now)
    elif rival is not None and rival.state is State.ESTABLISHED and rival is not new:
        if rival.initiator_spi < new.initiator_spi:
            _give_way(core, new, rival, now)
        else:
            adopt(core, rival, new, now)


def _crossed(old: IkeSa, new: IkeSa, now: float) -> bool:
    """Whether the SA that we have is itself a renewal of ours, made at the same time."""
    return old.renewal and old.initiator != new.initiator and now - old.created_at < CROSSING_S


def _predecessor(core: Core, new: IkeSa) -> IkeSa | None:
    """The peer's SA that a new one of the peer's making is to replace."""
    if new.initiator:
        return None
    for one in core.of_peer(new):
        if (
            isinstance(one, IkeSa)
            and one is not new
            and one.state is State.ESTABLISHED
            and one.connection_name == new.connection_name
            and one.path.remote == new.path.remote
            and users.of_same_user(one, new)
        ):
            return one
    return None


def adopt(core: Core, old: IkeSa, new: IkeSa, now: float) -> None:
    """Move the children, the inner address and the session from ``old`` to ``new``."""
    for child in old.children.values():
        new.children[child.spi_in] = child
        core.children[child.spi_in] = new
    old.children = {}
    core.hand_over_address(old, new)
    new.origin = old.origin = old.session_id
    core.families.join(new, old)
    new.session, old.session = old.session, None
    new.assigned = new.assigned or old.assigned
    new.fa_advertisement = new.fa_advertisement or old.fa_advertisement
    new.home_address = new.home_address or old.home_address
    client.succeeded(core, old, new)
    new.session_initiator = old.session_initiator
    new.established_at = old.established_at
    new.last_move, new.move_budget = old.last_move, old.move_budget
    if old.profile and not new.profile:
        new.profile, new.connection = old.profile, old.connection
    old.rekeyed_by = new
    new.renewal = True
    transition(core, old, State.REPLACED, f"replaced by {new.spis}")
    users.watch_session(core, new, now)
    _retire(core, old, delete=new.initiator, now=now)
    core.count("ike_sas_rekeyed")
    if old.path != new.path and new.children:
        # The peer proved itself where it is now; its children are still where it was.
        here, new.path = new.path, old.path
        moving.perform(core, new, here, "a new phase 1", now)


def _give_way(core: Core, new: IkeSa, winner: IkeSa, now: float) -> None:
    """Both sides renewed at once and the other SA has the lower cookie: it stays."""
    core.count("rekey_collisions")
    new.rekeyed_by = winner
    transition(core, new, State.REPLACED, f"gives way to {winner.spis}")
    _retire(core, new, delete=new.initiator, now=now)


def _retire(core: Core, old: IkeSa, *, delete: bool, now: float) -> None:
    """Delete a replaced SA, or leave that to the peer whose renewal it was."""
    for kind in (
        TimerKind.LIVENESS,
        TimerKind.REKEY_IKE,
        TimerKind.KEEPALIVE,
        TimerKind.CHILDLESS,
        TimerKind.SESSION,
    ):
        core.timers.cancel((kind, old.local_spi))
    wait_s = DELETE_AFTER_S if delete else OLD_SA_S
    core.timers.set((TimerKind.EXPIRE_IKE, old.local_spi), now + wait_s)


def deleted_by_peer(core: Core, sa: IkeSa, now: float) -> None:
    """The peer deleted the ISAKMP SA: its children live on under another one of the peer's.

    Without another one there is nothing left to manage them with, and they go too; likewise when
    the other one has children of its own, as after a second login.
    """
    successor = _other(core, sa)
    if successor is not None and successor.inner_address not in (None, sa.inner_address):
        # It has an address of its own, and its own children with it: this one's are no use there.
        successor = None
    if successor is not None and sa.state is State.ESTABLISHED:
        adopt(core, sa, successor, now)
        if not sa.closed:
            closing.close(core, sa, "deleted by the peer", now)
        return
    closing.close(core, sa, "deleted by the peer", now)


def _other(core: Core, sa: IkeSa) -> IkeSa | None:
    found: list[AnyIkeSa] = core.of_peer(sa)
    for one in found:
        if (
            isinstance(one, IkeSa)
            and one is not sa
            and one.state is State.ESTABLISHED
            and one.connection_name == sa.connection_name
            and not one.children
            and users.of_same_user(one, sa)
        ):
            return one
    return None
