"""What an administrator may see of the SAs, as plain JSON values; no keys."""

from dataclasses import dataclass

from gateway.domain.endpoint import IpAddress
from gateway.ike.sa import Child, IkeSa
from gateway.ike.selectors import text


@dataclass(frozen=True, slots=True)
class IkeSaSnapshot:
    """An IKE SA now."""

    spis: str
    """``initiatorspi_responderspi`` in hexadecimal: its name in commands."""
    local_spi: str
    state: str
    initiator: bool
    """Whether we initiated the session."""
    version: int
    """Of IKE: 1 or 2."""
    connection: str
    peer: str
    user: str
    """Who proved itself by EAP or XAUTH; empty when nobody was asked to."""
    profile: str
    auth: str
    """How the peer proved itself."""
    local_id: str
    local: str
    remote: str
    inner_address: str | None
    suite: str
    encapsulated: bool
    local_natted: bool
    remote_natted: bool
    mobike: bool
    fragmentation: bool
    peer_knows_endpoint_update: bool
    """Both sides sent the vendor id of SA endpoint update (draft 001, appendix C)."""
    peer_knows_vpn_fa: bool
    """Both sides sent the vendor id of the foreign agent in the gateway (appendix B)."""
    age_s: float
    idle_s: float
    """Since the last authenticated IKE message."""
    rekey_in_s: float | None
    """Until we rekey it; None when it is on its way out."""
    child_sas: tuple[str, ...]
    """Inbound SPIs in hexadecimal."""
    last_move: dict[str, object] | None
    """``age_s``, ``old``, ``new`` and ``proof`` of the last endpoint move."""
    session: str = ""
    """The correlation id of its events, which stays through rekeyings."""
    rtt_s: float | None = None
    """From our last request to its answer; None before one was answered at once."""
    inner_addresses: tuple[str, ...] = ()
    """Of the device, in the tunnel: leased, or its own."""


@dataclass(frozen=True, slots=True)
class ChildSaSnapshot:
    """A child SA now."""

    spi_in: int
    spi_out: int
    reqid: int
    state: str
    connection: str
    peer: str
    ike_spis: str
    local: str
    remote: str
    suite: str
    encapsulated: bool
    outbound_active: bool
    endpoint_update: bool
    """Whether both sides agreed on SA endpoint update for this SA."""
    vpn_fa: bool
    """Whether both sides agreed on the foreign agent in the gateway for this SA."""
    local_ts: tuple[str, ...]
    remote_ts: tuple[str, ...]
    age_s: float
    last_move: dict[str, object] | None
    """As the IKE SA's: they move together."""


def _last_move(sa: IkeSa, now: float) -> dict[str, object] | None:
    move = sa.last_move
    if move is None:
        return None
    age_s = round(now - move.at, 3)
    return {"age_s": age_s, "old": move.old, "new": move.new, "proof": move.proof}


def _inside(sa: IkeSa) -> list[IpAddress]:
    return [*(one.address for one in sa.leases if not one.leads_nowhere), *sa.own_addresses]


def of_ike_sa(sa: IkeSa, now: float, rekey_at: float | None = None) -> IkeSaSnapshot:
    """Describe an IKE SA; ``rekey_at`` is when its rekeying is due."""
    return IkeSaSnapshot(
        spis=sa.spis,
        local_spi=sa.local_spi.hex(),
        state=sa.state_name,
        initiator=sa.session_initiator,
        version=sa.version,
        connection=sa.connection_name,
        peer=sa.peer_name,
        user=sa.user.user if sa.user is not None else "",
        profile=sa.profile,
        auth=sa.auth,
        local_id=str(sa.local_id) if sa.local_id is not None else "",
        local=str(sa.path.local),
        remote=str(sa.path.remote),
        inner_address=str(sa.inner_address) if sa.inner_address is not None else None,
        suite=sa.suite_name,
        encapsulated=sa.encapsulate,
        local_natted=sa.local_natted,
        remote_natted=sa.remote_natted,
        mobike=sa.mobike,
        fragmentation=sa.fragmentation,
        peer_knows_endpoint_update=sa.peer_knows_endpoint_update,
        peer_knows_vpn_fa=sa.peer_knows_vpn_fa,
        age_s=round(now - sa.created_at, 3),
        idle_s=round(now - sa.last_inbound, 3),
        rekey_in_s=None if rekey_at is None else round(rekey_at - now, 3),
        child_sas=tuple(f"{spi:08x}" for spi in sa.children),
        last_move=_last_move(sa, now),
        session=sa.session_id,
        rtt_s=sa.rtt_s,
        inner_addresses=tuple(map(str, _inside(sa))),
    )


def of_child(sa: IkeSa, child: Child, now: float) -> ChildSaSnapshot:
    """Describe a child SA."""
    return ChildSaSnapshot(
        spi_in=child.spi_in,
        spi_out=child.spi_out,
        reqid=child.reqid,
        state=child.state.value,
        connection=sa.connection_name,
        peer=sa.peer_name,
        ike_spis=sa.spis,
        local=str(sa.path.local),
        remote=str(sa.path.remote),
        suite=str(child.suite),
        encapsulated=child.udp_encapsulation,
        outbound_active=child.outbound_active,
        endpoint_update=child.endpoint_update,
        vpn_fa=child.vpn_fa,
        local_ts=tuple(map(text, child.local_ts)),
        remote_ts=tuple(map(text, child.remote_ts)),
        age_s=round(now - child.installed_at, 3),
        last_move=_last_move(sa, now),
    )
