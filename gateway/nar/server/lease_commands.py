"""Our extension: SESSION, RENEW, RELEASE and L2TP-ASSOCIATE (flag LEASES)."""

from gateway.domain.nar import Delivery
from gateway.nar.codec.leases import (
    NEW_SESSION,
    TOKEN_OCTETS,
    L2tpAssociate,
    L2tpReply,
    LeaseKey,
    NoticeMessage,
    Release,
    ReleaseReply,
    Renew,
    RenewReply,
    SessionReply,
)
from gateway.nar.codec.leases import Session as SessionRequest
from gateway.nar.codec.numbers import Notice, Reply
from gateway.nar.server.authorization import Refused, rule_of
from gateway.nar.server.connections import Connection
from gateway.nar.server.core import Core
from gateway.nar.server.granting import (
    attach,
    drop_session,
    end_lease,
    end_session,
    ended_notice,
    open_session,
    owner_of,
    remember,
    use_l2tp,
)
from gateway.nar.server.sessions import Session


def session(core: Core, connection: Connection, request: SessionRequest) -> bytes:
    """SESSION: a token, or the session of one. Raises Refused for one that is no session's.

    A token is good for the same user at the same address only, and nothing tells a wrong one from
    that of somebody else.
    """
    rule_of(connection.rule)
    if request.token == NEW_SESSION:
        ours = open_session(core, connection)
        token = core.random(TOKEN_OCTETS)
        core.sessions.give_token(ours, token)
        if ours.leases:
            remember(core, ours)
            core.timers.set(ours, core.now + core.policy.lease_s)
        return _session_reply(core, connection, token)
    found = core.sessions.with_token(request.token, owner_of(connection))
    if found is None:
        raise Refused(Reply.NOT_ALLOWED, "asked for a session by a token that is not one of its")
    if found is not connection.session:
        _resume(core, connection, found)
    if found.leases:
        core.timers.set(found, core.now + core.policy.lease_s)
    return _session_reply(core, connection, request.token) + _news(connection, found)


def _resume(core: Core, connection: Connection, found: Session) -> None:
    empty = connection.session
    if empty is not None:
        if empty.leases:
            raise Refused(Reply.NOT_ALLOWED, "asked for another session while it has leases")
        drop_session(core, empty)
    before = found.connection
    if before is not None:
        before.session = None
        core.close(before)
    found.groups = connection.groups
    attach(core, found, connection)
    if found.leases:
        remember(core, found)
    core.tell(
        "nar_session_resumed",
        f"{connection} came back to its session with {len(found.leases)} leases",
        client=str(connection.xa),
        user=found.owner.user,
        leases=len(found.leases),
    )


def _news(connection: Connection, found: Session) -> bytes:
    """What happened to the leases while the client was away."""
    news = b"".join(map(ended_notice, found.missed))
    if found.moved or found.address != connection.address:
        connection.address = found.address
        news += NoticeMessage(Notice.ADDRESS_CHANGED, found.address).to_octets()
    found.missed.clear()
    found.moved = False
    return news


def _session_reply(core: Core, connection: Connection, token: bytes) -> bytes:
    lease_s = _lease_s(core, connection)
    return SessionReply(Reply.SUCCEEDED, token, lease_s, int(core.policy.grace_s)).to_octets()


def _lease_s(core: Core, connection: Connection) -> int:
    longest_s = rule_of(connection.rule).max_lease_s
    lease_s = core.policy.lease_s
    return int(lease_s if longest_s is None else min(lease_s, longest_s))


def renew(core: Core, connection: Connection, _request: Renew) -> bytes:
    """RENEW: all leases go on for another lease time. Raises Refused."""
    ours = connection.session
    if ours is None or not ours.token_digest:
        raise Refused(Reply.NOT_ALLOWED, "asked to renew without SESSION before")
    if ours.leases:
        core.timers.set(ours, core.now + core.policy.lease_s)
    return RenewReply(Reply.SUCCEEDED, _lease_s(core, connection)).to_octets()


def release(core: Core, connection: Connection, request: Release) -> bytes:
    """RELEASE: one lease of its own, or all. Raises Refused for one that is not its own."""
    ours, key = connection.session, request.key
    if key is None:
        if ours is not None:
            end_session(core, ours, "released", tell=False)
        return ReleaseReply(Reply.SUCCEEDED).to_octets()
    lease = None if ours is None else core.find(key.at(ours.address))
    if lease is None or lease.session is not ours:
        what = _describe(key)
        raise Refused(Reply.NOT_ALLOWED, f"asked to release {what}, which is not its own")
    end_lease(core, lease, "released", tell=False)
    return ReleaseReply(Reply.SUCCEEDED, key).to_octets()


def _describe(key: LeaseKey) -> str:
    return f"{key.protocol.name} {key.value}"


def l2tp(core: Core, connection: Connection, _request: L2tpAssociate) -> bytes:
    """L2TP-ASSOCIATE: what the client's end of the delivering session needs. Raises Refused."""
    if connection.delivery is not Delivery.L2TP:
        raise Refused(
            Reply.NOT_ALLOWED,
            f"asked for an L2TP session, but its delivery is {connection.delivery.value}",
        )
    ours = open_session(core, connection)
    if use_l2tp(core, ours) and ours.leases:
        remember(core, ours)
    if ours.l2tp is None:
        raise Refused(Reply.GENERAL_FAILURE, "asked for an L2TP session, and there is none")
    return L2tpReply.of(ours.l2tp).to_octets()
