"""One login for IPsec and Mobile IP (draft 002, section 4.2.1): notify 41204 in IKE_AUTH.

The device asks, and the gateway says which home addresses this login brings, with a ticket for
each home agent. The keys are never sent: both sides derive them from SK_d.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address

from gateway.domain.mobility_credential import MobilityCredential, MobilityGrant
from gateway.domain.wire import WireError
from gateway.ike import mobility_authority
from gateway.ike.codec import Notify, Payload
from gateway.ike.codec.mobility_grants import (
    FIRST_SPI,
    MAX_GRANTS,
    TicketedGrant,
    parse,
    serialize,
)
from gateway.ike.core import Core
from gateway.ike.crypto.prf import Prf
from gateway.ike.outputs import Severity
from gateway.ike.registry import NotifyType
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.view import Payloads

KEY_OCTETS = 32
_LABEL = b"Mobile IPv4 mobility security association"
_LOGGED = 200
"""Characters of a reason in a log line."""


def derive_key(sa: IkeSa, grant: MobilityGrant, spi: int) -> bytes:
    """prf+(SK_d, label | home agent | home address | SPI | Ni | Nr), 32 octets.

    Only while the handshake's nonces are there. The label keeps it apart from the keys of child
    SAs, which begin with a nonce or a shared secret.
    """
    handshake = sa.handshake
    if handshake is None or sa.suite is None or not sa.sk_d:
        raise ValueError("no handshake")
    seed = b"".join(
        (
            _LABEL,
            grant.home_agent.packed,
            grant.home_address.packed,
            spi.to_bytes(4, "big"),
            handshake.nonce_i,
            handshake.nonce_r,
        )
    )
    return Prf.of(sa.suite.prf).plus(sa.sk_d, seed, KEY_OCTETS)


def _is_spoken(sa: IkeSa) -> bool:
    """Whether both sides said that they know the drafts: nobody else sees the notify."""
    return sa.peer_knows_vpn_fa or sa.peer_knows_endpoint_update


# -- device ---------------------------------------------------------------------------------


def ask(sa: IkeSa) -> list[Payload]:
    """What the first IKE_AUTH request says, where we are a device and not another gateway."""
    connection = sa.connection
    if connection is None or not _is_spoken(sa):
        return []
    if not connection.request_inner_address and connection.home_address is None:
        return []
    sa.asked_mobility = True
    return [Notify(NotifyType.MOBILITY_GRANTS)]


def take(core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
    """Keep what the gateway grants. What is malformed or makes no sense is left out, and told."""
    told = view.notify_data(NotifyType.MOBILITY_GRANTS)
    if not told:
        return
    if not sa.asked_mobility or len(told) > 1:
        _ignored(core, sa, "they were not asked for, or came twice", now)
        return
    try:
        grants = parse(told[0])
    except WireError as problem:
        _ignored(core, sa, str(problem), now)
        return
    wall_s = core.wall_clock().timestamp()
    found: dict[tuple[bool, IPv4Address], MobilityCredential] = {}
    for one in grants:
        wrong = _objection(sa, one)
        if wrong is not None:
            _ignored(core, sa, wrong, now)
            continue
        grant = one.grant
        key = derive_key(sa, grant, one.spi)
        found.setdefault(
            (grant.inside, grant.home_agent),
            MobilityCredential(grant, one.spi, key, one.ticket, wall_s + one.lifetime_s),
        )
    sa.mobility_credentials = tuple(found.values())


def _objection(sa: IkeSa, one: TicketedGrant) -> str | None:
    """Why a grant is none, or None: it must name a host here and a host there."""
    grant = one.grant
    home, agent, network = grant.home_address, grant.home_agent, grant.home_network
    if not one.lifetime_s:
        return f"the ticket for {home} has expired"
    if not network.prefixlen:
        return f"the home network of {home} is everything"
    for what, address in (("home address", home), ("home agent", agent)):
        if _is_no_host(address):
            return f"the {what} {address} is no host's"
    ends = (network.network_address, network.broadcast_address)
    if home == agent or (network.prefixlen < 31 and home in ends):
        return f"{home} cannot be a home address in {network}"
    if sa.path.local.address in (home, agent):
        return f"{sa.path.local.address} is our own outer address"
    return None


def _is_no_host(address: IPv4Address) -> bool:
    return (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_reserved
        or address.is_link_local
    )


def _ignored(core: Core, sa: IkeSa, reason: str, now: float) -> None:
    core.count("mobility_grants_ignored")
    core.emit_limited(
        f"mobility grants {sa.spis}",
        now,
        "mobility_grants_ignored",
        f"mobility grants of {sa.peer_name} ({sa.connection_name}) ignored: {reason[:_LOGGED]}",
        Severity.WARNING,
        peer=sa.peer_name,
        session=sa.session_id,
        spis=sa.spis,
        connection=sa.connection_name,
        reason=reason[:_LOGGED],
    )


# -- gateway --------------------------------------------------------------------------------


def answer(core: Core, sa: IkeSa, view: Payloads) -> list[Payload]:
    """What the last IKE_AUTH response says to a device that asked in its first request."""
    if core.mobility is None or not _is_spoken(sa):
        return []
    asked = view.notify(NotifyType.MOBILITY_GRANTS)
    if asked is None or asked.data:
        return []
    grants = _seal_all(core, sa)
    if not grants:
        return []
    core.count("mobility_grants_given")
    addresses = ", ".join(str(one.grant.home_address) for one in grants)
    core.emit(
        "mobility_granted",
        f"{sa.peer_name} ({sa.connection_name}) got home addresses with its login: {addresses}",
        peer=sa.peer_name,
        session=sa.session_id,
        spis=sa.spis,
        connection=sa.connection_name,
        home_addresses=addresses,
    )
    return [Notify(NotifyType.MOBILITY_GRANTS, serialize(grants))]


def _seal_all(core: Core, sa: IkeSa) -> Sequence[TicketedGrant]:
    authority = core.mobility
    if authority is None:
        return ()
    for identity in mobility_authority.proven(sa):
        made: list[TicketedGrant] = []
        for grant in authority.grants(identity)[:MAX_GRANTS]:
            spi = _new_spi(core)
            try:
                ticket, lifetime_s = authority.seal(
                    identity, grant, spi, derive_key(sa, grant, spi)
                )
            except ValueError as problem:
                core.emit(
                    "mobility_grant_failed",
                    f"no ticket for the home address {grant.home_address} of {identity}: {problem}",
                    Severity.WARNING,
                    peer=str(identity),
                    home_address=str(grant.home_address),
                )
                continue
            made.append(TicketedGrant(grant, spi, lifetime_s, ticket))
        if made:
            return made
    return ()


def _new_spi(core: Core) -> int:
    while True:
        spi = int.from_bytes(core.random(4), "big")
        if spi >= FIRST_SPI:
            return spi
