"""The inner address of a peer: from its user's RADIUS answer, else from the connection's pool.

Called only after the peer has proven who it is, by every version of IKE.
"""

from collections.abc import Collection

from gateway.domain.endpoint import IpAddress
from gateway.domain.pools import PoolExhausted
from gateway.ike import users
from gateway.ike.core import Core
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa


def assign(
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    families: Collection[int],
    wanted: IpAddress | None,
) -> IpAddress | None:
    """Give ``sa`` an inner address of one of the IP versions in ``families``.

    ``wanted`` is the address the peer asks for, if it names one. A peer with networks of its own
    and no pool gets none. An SA that has an address already keeps it.

    Raises:
        Refused: INTERNAL_ADDRESS_FAILURE, with what to change.
    """
    if sa.inner_address is not None:
        return sa.inner_address
    framed = sa.user.inner_address if sa.user is not None else None
    older = _same_device(core, sa, framed or wanted)
    if older is not None and framed is None and older.pool != connection.pool:
        older = None
    if older is not None:
        core.hand_over_address(older, sa)
        return sa.inner_address
    if framed is not None:
        return _of_user(core, sa, framed, families)
    if connection.pool is None:
        if connection.remote_ts:
            return None
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"the peer asks for an inner address, connection {connection.name} has no pool",
            f"set pool in connections.{connection.name}",
        )
    return _of_pool(core, sa, connection, families, wanted)


def _same_device(core: Core, sa: IkeSa, wanted: IpAddress | None) -> IkeSa | None:
    """The SA of the same device that has the wanted address: it logs in again and keeps it.

    Same identity, same user, and the same socket: another device of the same user that once had
    the address gets another one.
    """
    for older in core.of_peer(sa):
        if (
            older is not sa
            and wanted is not None
            and older.inner_address == wanted
            and older.path.remote == sa.path.remote
            and users.of_same_login(older, sa)
        ):
            return older
    return None


def _of_pool(
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    families: Collection[int],
    wanted: IpAddress | None,
) -> IpAddress:
    pool = core.pools.get(connection.pool or "")
    if pool is None:
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"pool {connection.pool} of connection {connection.name} does not exist",
            f"add [pools.{connection.pool}]",
        )
    version = pool.network.version
    if version not in families:
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"the peer asks for an IPv{10 - version} inner address, pool {pool.name} has"
            f" IPv{version} addresses only",
            "request an address of the pool's family",
        )
    identity = sa.user.user if sa.user is not None else sa.peer_name
    try:
        address = pool.lease(identity, wanted)
    except PoolExhausted as exhausted:
        core.count("pool_exhausted")
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            str(exhausted),
            f"enlarge network of pools.{pool.name}",
        ) from None
    sa.inner_address = address
    sa.pool = pool.name
    return address


def _of_user(core: Core, sa: IkeSa, framed: IpAddress, families: Collection[int]) -> IpAddress:
    """The address that the RADIUS server gives this user (Framed-IP-Address)."""
    who = sa.user.user if sa.user is not None else sa.peer_name
    if framed.version not in families:
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"RADIUS gives {who} the address {framed}, the peer asks for another family",
            "request an address of that family",
        )
    leasing = next((p for p in core.pools.values() if framed in p.network), None)
    if leasing is not None and int(framed) not in leasing.reserved:
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"RADIUS gives {who} the address {framed}, which pool {leasing.name} leases too",
            f"add it to reserved of pools.{leasing.name}, or give an address outside"
            f" {leasing.network}",
        )
    holder = core.framed.get(framed)
    if holder is not None and holder in core.sas:
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"RADIUS gives {who} the address {framed}, which {core.sas[holder].peer_name} has now",
            "disconnect that session first, or give each device an address of its own",
        )
    core.framed[framed] = sa.local_spi
    sa.inner_address = framed
    return framed
