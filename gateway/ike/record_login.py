"""What came of a login, in the record of an IKE SA: user, session, addresses, what we were told."""

from gateway.domain.endpoint import IpAddress
from gateway.domain.mobility_credential import MobilityCredential, MobilityGrant
from gateway.domain.remote_access import LAST_ZONE
from gateway.domain.user_auth import Accepted, Session
from gateway.ike import record_values as values
from gateway.ike.assigned import Assigned
from gateway.ike.endpoint_update import Move
from gateway.ike.lease import Lease
from gateway.ike.record_values import Json, Record
from gateway.ike.sa import IkeSa

_INNER = ("inner", "inner6")
"""Of the first and the second inner address."""


def write(sa: IkeSa, record: Record) -> None:
    """Add it to the record of an SA."""
    for key, one in zip(_INNER, sa.leases, strict=False):
        record[key] = [values.address(one.address), one.pool]
    if sa.own_addresses:
        record["keeps"] = [values.address(one) for one in sa.own_addresses]
    if sa.zone:
        record["zone"] = sa.zone
    if sa.home_address is not None:
        record["home"] = values.address(sa.home_address)
    if sa.user is not None:
        record["user"] = _user(sa.user)
    if sa.session is not None:
        record["session"] = _session(sa.session)
    if sa.last_move is not None:
        move = sa.last_move
        record["moved"] = [move.at, move.old, move.new, move.proof]
    if sa.fa_advertisement:
        record["advertisement"] = values.octets(sa.fa_advertisement)
    if sa.assigned is not None:
        record["assigned"] = _assigned(sa.assigned)
    if sa.mobility_credentials:
        record["credentials"] = [_credential(one) for one in sa.mobility_credentials]


def _user(user: Accepted) -> Json:
    """Without what only the login needed: no key, no EAP."""
    return [
        user.user,
        list(user.groups),
        values.maybe_address(user.inner_address),
        [values.octets(one) for one in user.radius_class],
        user.session_timeout_s,
        user.interim_interval_s,
        values.maybe_address(user.inner_address6),
    ]


def _session(session: Session) -> Json:
    return [
        session.session_id,
        session.backend,
        session.user,
        session.connection,
        values.endpoint(session.local),
        values.endpoint(session.remote),
        values.maybe_address(session.inner_address),
        [values.octets(one) for one in session.radius_class],
        session.interim_interval_s,
        values.maybe_address(session.inner_address6),
    ]


def _assigned(assigned: Assigned) -> Json:
    return [
        values.maybe_address(assigned.address),
        [values.address(one) for one in assigned.dns],
        [values.network(one) for one in assigned.subnets],
        list(assigned.domains),
        values.maybe_address(assigned.address6),
        assigned.mtu,
    ]


def _credential(one: MobilityCredential) -> Json:
    grant = one.grant
    return [
        grant.inside,
        values.address(grant.home_agent),
        values.address(grant.home_address),
        values.network(grant.home_network),
        one.spi,
        values.octets(one.key),
        values.octets(one.ticket),
        one.expires_at,
    ]


def read(sa: IkeSa, record: Record) -> None:
    """Put it back. Raises what ``record_values.UNREADABLE`` names."""
    sa.leases = tuple(_read_lease(record[key]) for key in _INNER if key in record)
    sa.own_addresses = tuple(map(values.read_address, values.items(record.get("keeps", []), 2)))
    for addresses in (sa.inner_addresses, sa.own_addresses):
        if len({one.version for one in addresses}) != len(addresses):
            raise ValueError("two addresses of one IP version")
    sa.zone = values.number(record.get("zone", 0), 0, LAST_ZONE)
    if "home" in record:
        sa.home_address = values.read_v4(record["home"])
    if "user" in record:
        sa.user = _read_user(record["user"])
    if "session" in record:
        sa.session = _read_session(record["session"])
    if "moved" in record:
        at, old, new, proof = values.items(record["moved"], 4)
        sa.last_move = Move(values.time(at), values.text(old), values.text(new), values.text(proof))
    if "advertisement" in record:
        sa.fa_advertisement = values.read_octets(record["advertisement"], 0, 4096)
    if "assigned" in record:
        sa.assigned = _read_assigned(record["assigned"])
    if "credentials" in record:
        sa.mobility_credentials = tuple(
            map(_read_credential, values.items(record["credentials"], 32))
        )


def _read_lease(value: Json) -> Lease:
    inner, pool = values.items(value, 2)
    return Lease(values.read_address(inner), None if pool is None else values.text(pool))


def _maybe_time(value: Json) -> float | None:
    return None if value is None else values.time(value)


def _class(value: Json) -> tuple[bytes, ...]:
    return tuple(values.read_octets(one) for one in values.items(value))


def _last(value: list[Json]) -> IpAddress | None:
    """A second address; records of an earlier version end before it."""
    return values.read_maybe_address(value[0]) if value else None


def _read_user(value: Json) -> Accepted:
    user, groups, inner, radius_class, timeout, interim, *inner6 = values.items(value, 7)
    return Accepted(
        values.text(user),
        tuple(values.text(group) for group in values.items(groups, 1024)),
        inner_address=values.read_maybe_address(inner),
        radius_class=_class(radius_class),
        session_timeout_s=_maybe_time(timeout),
        interim_interval_s=_maybe_time(interim),
        inner_address6=_last(inner6),
    )


def _read_session(value: Json) -> Session:
    name, backend, user, connection, local, remote, inner, *more = values.items(value, 10)
    radius_class, interim, *inner6 = more
    return Session(
        values.text(name),
        values.text(backend),
        values.text(user),
        values.text(connection),
        values.read_endpoint(local),
        values.read_endpoint(remote),
        values.read_maybe_address(inner),
        _class(radius_class),
        _maybe_time(interim),
        _last(inner6),
    )


def _read_assigned(value: Json) -> Assigned:
    inner, dns, subnets, domains, *more = values.items(value, 6)
    # The last two are new; records of an earlier version do not have them.
    inner6, mtu = more or (None, None)
    return Assigned(
        values.read_maybe_address(inner),
        tuple(map(values.read_address, values.items(dns))),
        tuple(map(values.read_network, values.items(subnets))),
        tuple(values.text(one) for one in values.items(domains)),
        values.read_maybe_address(inner6),
        None if mtu is None else values.number(mtu, 0, 0xFFFF),
    )


def _read_credential(value: Json) -> MobilityCredential:
    inside, agent, home, network, spi, key, ticket, expires_at = values.items(value, 8)
    base = values.read_network(network)
    if base.version != 4:
        raise ValueError("a home network of IPv4 is needed")
    grant = MobilityGrant(values.flag(inside), values.read_v4(agent), values.read_v4(home), base)
    return MobilityCredential(
        grant,
        values.number(spi, 256, 0xFFFFFFFF),
        values.read_octets(key, 1, 64),
        values.read_octets(ticket, 0, 4096),
        values.time(expires_at),
    )
