"""A successor takes an IKE SA's place (RFC 7296 sections 2.8 and 2.18)."""

from gateway.ike import client, users
from gateway.ike import record_values as values
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto.proposals import Selection
from gateway.ike.record_values import Record
from gateway.ike.v2 import auth, exchange, keys
from gateway.ike.v2.mobike import MobikeState
from gateway.ike.v2.sa import Evidence, IkeSa, State, transition

OLD_SA_S = 30.0
"""The old SA is deleted by us when the peer, whose task it is, has not done so after this."""


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


def establish(  # noqa: PLR0917 - one fact each
    core: Core,
    old: IkeSa,
    new: IkeSa,
    selection: Selection,
    nonces: tuple[bytes, bytes],
    shared: bytes,
    additional: bytes = b"",
) -> None:
    """Derive the keys of a successor: it stands beside the old IKE SA."""
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


def record_agreed(selection: Selection, shared: bytes) -> Record:
    """What both sides agreed on, for another process."""
    return {
        "suite": values.ike_suite(selection.suite),
        "spi": values.octets(selection.peer_spi),
        "shared": values.octets(shared),
    }


def read_selection(record: Record) -> Selection:
    """Of :func:`record_agreed`, without what only the answer needed, which is on its way."""
    suite = values.read_ike_suite(values.fields(record)["suite"])
    return Selection(suite, 0, (), values.spi(record["spi"]))


def read_shared(record: Record) -> bytes:
    """The shared secret of :func:`record_agreed`."""
    return values.read_octets(record["shared"], 1, 4096)
