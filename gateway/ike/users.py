"""The user behind a peer: whether it may log in, which profile it gets, and its session.

Shared by EAP in IKEv2 and XAUTH in IKEv1. The proof itself comes before: :func:`admit` is called
with what a backend or an EAP method accepted, never with what a peer merely says.
"""

from cryptography import x509

from gateway.domain.user_auth import Accepted, Asker, Session
from gateway.ike.auth.identity import Identity, IdentityPattern, certificate_identities, escape
from gateway.ike.core import Core, TimerKind
from gateway.ike.outputs import SessionOpened
from gateway.ike.policy import ConnectionPolicy, Profile, UserAuth
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa

MAX_USER_OCTETS = 253
"""What fits into the User-Name of RADIUS (RFC 2865 section 5)."""


def asker(sa: IkeSa) -> Asker:
    """The facts of a login for a question about its user."""
    return Asker(sa.connection_name, sa.path.local, sa.path.remote, sa.spis)


def may_log_in(auth: UserAuth, user: str) -> bool:
    """Whether a user of this name may log in by the connection at all. Never raises."""
    return auth.identities is None or _fits(auth.identities, user)


def _fits(pattern: IdentityPattern, user: str) -> bool:
    if pattern.text == "*":
        return True
    try:
        return pattern.matches(Identity.parse(user))
    except ValueError:
        return False


def is_of(sa: IkeSa, identity: str) -> bool:
    """Whether this is its peer or its user; as in logins, letter case and a final dot count not."""
    wanted = _folded(identity)
    return _folded(sa.peer_name) == wanted or (
        sa.user is not None and _folded(sa.user.user) == wanted
    )


def _folded(text: str) -> str:
    return text.casefold().removesuffix(".")


def refuse_blocked(core: Core, sa: IkeSa, user: str = "") -> None:
    """Nobody gets further whose device is blocked.

    Raises:
        Refused: AUTHENTICATION_FAILED.
    """
    _refuse_blocked(core, sa.peer_name, user)


def _refuse_blocked(core: Core, identity: str, user: str) -> None:
    why = None if core.refuse_login is None else core.refuse_login(identity, user)
    if why is not None:
        remedy = "unblock the device, if it may log in again"
        raise Refused(NotifyType.AUTHENTICATION_FAILED, why, remedy)


def refuse_blocked_certificate(core: Core, leaf: x509.Certificate) -> None:
    """As :func:`refuse_blocked`, for every identity of the certificate that the peer has proven.

    A peer chooses which of them it claims: the name of its device, or the certificate's subject.
    """
    if core.refuse_login is None:
        return
    for identity in certificate_identities(leaf):
        _refuse_blocked(core, str(identity), "")


def admit(core: Core, sa: IkeSa, accepted: Accepted) -> ConnectionPolicy:
    """The user proved itself: remember it, and use the connection as its profile has it.

    Sets ``user``, ``profile`` and ``connection`` of the SA and returns the latter. Call it once,
    before an inner address is assigned or anything of a child SA is negotiated.

    Raises:
        Refused: AUTHENTICATION_FAILED; the user may not log in here, or has no profile.
    """
    refuse_blocked(core, sa, accepted.user)
    connection = sa.connection
    auth = connection.peer_auth.user if connection is not None else None
    if connection is None or auth is None:
        raise ValueError("a user where none was asked for")
    name = escape(accepted.user, 80)
    if not accepted.user or len(accepted.user.encode("utf-8", "replace")) > MAX_USER_OCTETS:
        raise Refused(NotifyType.AUTHENTICATION_FAILED, f"{name!r} is no usable user name")
    if not may_log_in(auth, accepted.user):
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"user {name} may not log in by connection {connection.name}",
            f"extend identities of connections.{connection.name}.user to this name",
            theirs=name,
            ours=str(auth.identities),
        )
    profile = profile_of(connection, accepted.groups)
    if profile is None and connection.profile_required:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"user {name} is in no group that has a profile of connection {connection.name}",
            "add the user to one of these groups, or let a profile name one of the user's",
            theirs=", ".join(escape(group, 80) for group in accepted.groups[:8]) or "no group",
            ours=", ".join(sorted(set().union(*(one.groups for one in connection.profiles)))[:8]),
        )
    sa.user = accepted
    if profile is not None:
        sa.profile = profile.name
        sa.connection = connection.with_profile(profile)
    return sa.connection or connection


def profile_of(connection: ConnectionPolicy, groups: tuple[str, ...]) -> Profile | None:
    """The first profile of the connection that one of the groups has."""
    members = frozenset(groups)
    return next((one for one in connection.profiles if one.groups & members), None)


def open_session(core: Core, sa: IkeSa, now: float) -> None:
    """Accounting starts, once for each login; an SA without a user has no session.

    Call it when the SA is established and has the inner address that it will have.
    """
    connection, user = sa.connection, sa.user
    auth = connection.peer_auth.user if connection is not None else None
    if connection is None or auth is None or user is None or sa.session is not None:
        return
    first, second, *_ = (*(one.address for one in sa.leases if not one.leads_nowhere), None, None)
    sa.session = Session(
        session_id=sa.spis,
        backend=auth.backend,
        user=user.user,
        connection=connection.name,
        local=sa.path.local,
        remote=sa.path.remote,
        inner_address=first,
        inner_address6=second,
        radius_class=user.radius_class,
        interim_interval_s=user.interim_interval_s,
    )
    core.outputs.append(SessionOpened(sa.session))
    watch_session(core, sa, now)


def watch_session(core: Core, sa: IkeSa, now: float) -> None:
    """End the SA with a Delete when the time that its user has is over (Session-Timeout).

    Call it for a successor too, which has the ``established_at`` and the user of the first SA.
    """
    ends_at = session_ends_at(sa)
    if ends_at is not None:
        core.timers.set((TimerKind.SESSION, sa.local_spi), max(ends_at, now))


def session_ends_at(sa: IkeSa) -> float | None:
    """When the user's time is over; None when it has no limit."""
    if sa.user is None or sa.user.session_timeout_s is None:
        return None
    return sa.established_at + sa.user.session_timeout_s


def of_same_user(one: IkeSa, other: IkeSa) -> bool:
    """Whether two SAs have the same user, or both none.

    An IKE identity that only accompanies a user's login is not proven: no user may end what
    belongs to another by claiming its identity.
    """
    mine = one.user.user if one.user is not None else None
    theirs = other.user.user if other.user is not None else None
    return mine == theirs


def of_same_login(one: IkeSa, other: IkeSa) -> bool:
    """Whether two SAs of one identity were logged in to in the same way: connection, us, user.

    A connection is a way to prove an identity: with the key of a group everybody in it can claim
    to be somebody who proves it with a certificate elsewhere, and may not end that one's session.
    """
    return (
        one.connection_name == other.connection_name
        and one.local_id == other.local_id
        and of_same_user(one, other)
    )
