"""NAR-MODE: the target, the address and the delivery of what is leased next (section 3.1)."""

from ipaddress import IPv4Address

from gateway.nar.codec.numbers import NarFlag, Reply
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.server.authorization import (
    Refused,
    delivery_for,
    flags_of,
    permit_anybody,
    permit_target,
    rule_of,
)
from gateway.nar.server.connections import Connection, Step
from gateway.nar.server.core import Core
from gateway.nar.server.granting import owner_of
from gateway.nar.server.targets import is_unicast


def nar_mode(
    core: Core, connection: Connection, request: SocksRequest, target: IPv4Address
) -> bytes:
    """Enter NAR mode, or change the target there; what is leased stays. Raises Refused."""
    rule = rule_of(connection.rule)
    if request.port:
        raise Refused(
            Reply.GENERAL_FAILURE, f"asked for NAR mode with port {request.port} in place of 0"
        )
    _check_client(core, connection)
    if int(target):
        permit_target(rule, core.forbidden, target, (connection.local.address,))
    else:
        permit_anybody(rule, "NAR mode")
    knows_leases = bool(request.flags & NarFlag.LEASES)
    delivery = delivery_for(core.policy, rule, request.flags, knows_leases=knows_leases)
    address = _address(core, connection)
    if not connection.advance(Step.NAR_MODE):
        raise Refused(Reply.GENERAL_FAILURE, "asked for NAR mode at the wrong time")
    connection.target = core.shared(target) if int(target) else None
    connection.address = address
    connection.delivery = delivery
    connection.knows_leases = knows_leases
    flags = flags_of(delivery, knows_leases=knows_leases)
    return SocksReply(Reply.SUCCEEDED, address, 0, flags).to_octets()


def _check_client(core: Core, connection: Connection) -> None:
    """Packets have to find their way to Xa, so it is no address of ours, and of IPv4."""
    xa = connection.xa
    if not is_unicast(xa) or xa == core.policy.tunnel_address or xa in core.policy.addresses:
        raise Refused(
            Reply.NOT_ALLOWED,
            f"asked for NAR mode from {connection.client.address}, where nothing can be delivered",
        )


def _address(core: Core, connection: Connection) -> IPv4Address:
    """Nb: that of its session, what the host has already, or the first with room."""
    host = owner_of(connection).host
    addresses = core.policy.addresses
    if connection.session is not None:
        return connection.session.address
    if host.address is None or host.address not in addresses:
        if not addresses:
            raise Refused(
                Reply.NETWORK_UNREACHABLE, "asked for NAR mode while there is no address to lend"
            )
        roomy = (one for one in addresses if core.space(one).has_room)
        host.address = next(roomy, addresses[0])
    return host.address
