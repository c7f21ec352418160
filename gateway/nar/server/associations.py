"""NAR's own commands: ICMP identifiers, SPIs and tunnels (draft 004, sections 3.2 to 3.4)."""

from ipaddress import IPv4Address

from gateway.domain.event import Severity
from gateway.domain.nar import Delivery, NarProtocol, NarTuple
from gateway.nar.codec.associate import (
    IcmpAssociate,
    IcmpReply,
    IpsecAssociate,
    IpsecReply,
    TunnelAssociate,
    TunnelReply,
)
from gateway.nar.codec.numbers import Reply
from gateway.nar.server.authorization import Refused, permit_anybody, permit_protocol, rule_of
from gateway.nar.server.choosing import drawn, mapping_of, named, wished, with_value
from gateway.nar.server.connections import Connection
from gateway.nar.server.core import Core
from gateway.nar.server.leases import Lease
from gateway.nar.server.targets import is_unicast

_IPSEC = {int(one): one for one in (NarProtocol.ESP, NarProtocol.AH)}
_TUNNELS = {int(one): one for one in (NarProtocol.IP_IP, NarProtocol.GRE)}


def icmp(core: Core, connection: Connection, request: IcmpAssociate) -> bytes:
    """ICMP-ASSOCIATE: an identifier towards the target. Raises Refused."""
    permit_protocol(rule_of(connection.rule), NarProtocol.ICMP)
    target = _target(connection, "an ICMP identifier")
    key = NarTuple(NarProtocol.ICMP, connection.address, 0, target)
    covered = core.space(connection.address).values(NarProtocol.ICMP).covers(request.identifier)
    lease = _wish_or_any(core, connection, key, request.identifier, target, covered=covered)
    return IcmpReply(Reply.SUCCEEDED, lease.mapping.tuple.value).to_octets()


def ipsec(core: Core, connection: Connection, request: IpsecAssociate) -> bytes:
    """IPSEC-ASSOCIATE: an SPI for incoming packets. Raises Refused.

    AH covers the addresses, so it cannot be translated. Nor can ESP in transport mode with TCP or
    UDP inside; that is the client's to know, the server cannot see it (section 2.6.2).
    """
    protocol = _IPSEC.get(request.protocol)
    if protocol is None:
        raise Refused(
            Reply.GENERAL_FAILURE,
            f"asked for an SPI of protocol {request.protocol}: only 50 (ESP) and 51 (AH) have one",
        )
    rule = rule_of(connection.rule)
    permit_protocol(rule, protocol)
    if protocol is NarProtocol.AH and connection.delivery is Delivery.TRANSLATED:
        raise Refused(
            Reply.NOT_ALLOWED,
            "asked for AH in translated mode: it covers the addresses, use end-to-end mode",
        )
    if connection.target is None:
        permit_anybody(rule, f"an SPI of {protocol.name}")
    key = NarTuple(protocol, connection.address, 0)
    covered = core.space(connection.address).values(protocol).covers(request.spi)
    lease = _wish_or_any(core, connection, key, request.spi, connection.target, covered=covered)
    return IpsecReply(Reply.SUCCEEDED, protocol, lease.mapping.tuple.value).to_octets()


def tunnel(core: Core, connection: Connection, request: TunnelAssociate) -> bytes:
    """TUNNEL-ASSOCIATE: packets from the target for an inner address. Raises Refused."""
    protocol = _TUNNELS.get(request.protocol)
    if protocol is None:
        raise Refused(
            Reply.GENERAL_FAILURE,
            f"asked for tunnels of protocol {request.protocol}: only 4 (IP-IP) and 47 (GRE) are",
        )
    permit_protocol(rule_of(connection.rule), protocol)
    target = _target(connection, f"{protocol.name} tunnels")
    if not is_unicast(request.inner):
        raise Refused(
            Reply.NOT_ALLOWED,
            f"asked for {protocol.name} tunnels to {request.inner}, which no host has",
        )
    key = NarTuple(protocol, connection.address, int(request.inner), target)
    got = wished(core, connection, mapping_of(core, connection, key, target))
    if isinstance(got, str):
        raise Refused(Reply.GENERAL_FAILURE, f"asked for {key}: {got}")
    return TunnelReply(Reply.SUCCEEDED, request.inner, protocol).to_octets()


def _target(connection: Connection, what: str) -> IPv4Address:
    if connection.target is None:
        raise Refused(
            Reply.NOT_ALLOWED, f"asked for {what}: NAR-MODE has to name the target for that"
        )
    return connection.target


def _wish_or_any(
    core: Core,
    connection: Connection,
    key: NarTuple,
    wish: int,
    peer: IPv4Address | None,
    *,
    covered: bool,
) -> Lease:
    if not wish:
        return drawn(core, connection, key, peer)
    why = "it is outside the server's ranges"
    if covered:
        wanted = mapping_of(core, connection, with_value(key, wish), peer)
        got = wished(core, connection, wanted)
        if isinstance(got, Lease):
            return got
        why = got
    lease = drawn(core, connection, key, peer)
    core.hint(
        "nar_value_replaced",
        f"{connection} asked for {wish:#x} as {named(key.protocol)}: {why};"
        f" it has {lease.mapping.tuple.value:#x} instead",
        Severity.INFO,
        client=str(connection.xa),
        protocol=key.protocol.name.lower(),
        value=wish,
        instead=lease.mapping.tuple.value,
    )
    return lease
