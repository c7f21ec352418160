"""The inner addresses of a peer: from its user's RADIUS answer, else from the connection's pools.

Called only after the peer has proven who it is, by every version of IKE.
"""

from collections.abc import Collection

from gateway.domain.endpoint import IpAddress
from gateway.domain.pools import AddressPool, PoolExhausted
from gateway.domain.remote_access import NOWHERE, Presence
from gateway.ike import access, users
from gateway.ike.core import Core
from gateway.ike.lease import Lease
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa


def assign(
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    families: Collection[int],
    wanted: Collection[IpAddress] = (),
) -> tuple[IpAddress, ...]:
    """Give ``sa`` an inner address of each IP version in ``families`` that there are any for it.

    ``wanted`` are the addresses that the peer asks for, where it names some. A peer with networks
    or addresses of its own and no pool gets none. An SA that has addresses already keeps them. The
    first one is of IPv4, if any is.

    Raises:
        Refused: INTERNAL_ADDRESS_FAILURE, with what to change; nothing is leased then.
    """
    if sa.leases:
        return sa.inner_addresses
    framed = sa.user.inner_addresses if sa.user is not None else ()
    older = _same_device(core, sa, framed or wanted)
    pools = _pools(connection)
    if older is not None and not framed and any(one.pool not in pools for one in older.leases):
        older = None
    if older is not None:
        access.pass_on(core, older, sa)
        return sa.inner_addresses
    try:
        sa.leases = _leased(core, sa, connection, families, wanted)
    except Refused:
        access.release(core, sa)
        raise
    return sa.inner_addresses


def _pools(connection: ConnectionPolicy) -> tuple[str | None, ...]:
    """None stands for what comes from no pool."""
    nowhere = (None,) if connection.block_ipv6 else ()
    return (*(one for one in (connection.pool, connection.pool6) if one is not None), *nowhere)


def _same_device(core: Core, sa: IkeSa, wanted: Collection[IpAddress]) -> IkeSa | None:
    """The SA of the same device that has the wanted addresses: it logs in again and keeps them.

    Same identity, same user, and the same socket: another device of the same user that once had
    the address gets another one.
    """
    for older in core.of_peer(sa):
        if (
            older is not sa
            and wanted
            and older.leases
            and any(one in wanted for one in older.inner_addresses)
            and older.path.remote == sa.path.remote
            and users.of_same_login(older, sa)
        ):
            return older
    return None


def _leased(
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    families: Collection[int],
    wanted: Collection[IpAddress],
) -> tuple[Lease, ...]:
    """One of each version, IPv4 first. What is leased before a refusal is in ``sa.leases``."""
    framed = sa.user.inner_addresses if sa.user is not None else ()
    found: list[Lease] = []
    for one in framed:
        if len(framed) == 1 or one.version in families:
            found.append(_of_user(core, sa, one, families))
            sa.leases = tuple(found)
    pools = [_pool(core, connection, one) for one in _pools(connection) if one is not None]
    for pool in pools:
        version = pool.network.version
        if version in families and all(version != one.address.version for one in found):
            found.append(_of_pool(core, sa, pool, wanted))
            sa.leases = tuple(found)
    if not found:
        _refuse(connection, families, pools)
        return ()
    if connection.block_ipv6 and 6 in families and all(one.address.version == 4 for one in found):
        found.append(Lease(NOWHERE[int.from_bytes(b"\x01" + core.random(7), "big")]))
    return tuple(sorted(found, key=lambda one: one.address.version))


def _refuse(
    connection: ConnectionPolicy, families: Collection[int], pools: list[AddressPool]
) -> None:
    """There is no address for the peer. Raises Refused, unless it is to use its own."""
    name = connection.name
    if pools:
        asked, ours = min(families), pools[0].network.version
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"the peer asks for an IPv{asked} inner address, pool {pools[0].name} has"
            f" IPv{ours} addresses only",
            f"request an address of the pool's family, or set pool6 in connections.{name}",
        )
    if not connection.remote_ts and connection.presence is Presence.ADDRESS:
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"the peer asks for an inner address, connection {name} has no pool",
            f"set pool in connections.{name}",
        )


def _pool(core: Core, connection: ConnectionPolicy, name: str) -> AddressPool:
    pool = core.pools.get(name)
    if pool is None:
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            f"pool {name} of connection {connection.name} does not exist",
            f"add [pools.{name}]",
        )
    return pool


def _of_pool(core: Core, sa: IkeSa, pool: AddressPool, wanted: Collection[IpAddress]) -> Lease:
    identity, device = access.lease_names(sa)
    version = pool.network.version
    asked = next((one for one in wanted if one.version == version), None)
    try:
        address = pool.lease(identity, asked, device=device)
    except PoolExhausted as exhausted:
        core.count("pool_exhausted")
        raise Refused(
            NotifyType.INTERNAL_ADDRESS_FAILURE,
            str(exhausted),
            f"enlarge network of pools.{pool.name}",
        ) from None
    return Lease(address, pool.name)


def _of_user(core: Core, sa: IkeSa, framed: IpAddress, families: Collection[int]) -> Lease:
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
    return Lease(framed)
