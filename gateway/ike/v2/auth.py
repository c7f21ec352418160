"""IKE_AUTH as the responder (RFC 7296 section 1.2), and what both sides do once established."""

from dataclasses import dataclass
from typing import Self

from gateway.ike import child_sas, closing, presence, selectors, timing, users
from gateway.ike.auth.identity import Identity, escape
from gateway.ike.codec import (
    Authentication,
    Configuration,
    IdInitiator,
    IdResponder,
    Payload,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
from gateway.ike.core import Core, TimerKind
from gateway.ike.draft_features import Features, granted, refuse_held
from gateway.ike.mobility_authority import settle_home_address
from gateway.ike.outputs import Severity
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import AuthMethod, NotifyType
from gateway.ike.sa import Child
from gateway.ike.v2 import (
    child,
    config_payload,
    draft_notifies,
    exchange,
    failing,
    mobike,
    mobility_login,
    ocsp_questions,
    ppk,
    proof,
    reauthentication,
    transport_mode,
)
from gateway.ike.v2.sa import Evidence, IkeSa, State, transition
from gateway.ike.v2.view import Payloads, Request


def prove_device(core: Core, sa: IkeSa, request: Request) -> list[Payload] | None:
    """Judge the device's proof in a first request; returns our own, which the answer begins with.

    None: it was refused, or is being asked about.
    """
    view = request.view
    try:
        connection, id_initiator, id_responder = identify(core, sa, view)
        user_follows = view.notify(NotifyType.ANOTHER_AUTH_FOLLOWS) is not None
        if user_follows != (connection.peer_auth.user is not None):
            raise _wrong_number_of_proofs(connection)
        shown, notifies = ppk.take(sa, connection, view)
        proof.verify_peer(core, sa, connection, view, id_initiator, shown)
        return [id_responder, *own_proof(core, sa, connection, id_responder), *notifies]
    except proof.OcspNeeded as needed:
        ocsp_questions.ask(core, sa, needed, request)
    except Refused as refused:
        refuse(core, sa, refused, request)
    return None


def _wrong_number_of_proofs(connection: ConnectionPolicy) -> Refused:
    name = connection.name
    if connection.peer_auth.user is None:
        reason = f"the peer wants to prove its user as well, {name} asks for none"
        remedy = "let the client use one authentication only"
    elif connection.peer_auth.device_too:
        reason = f"the device proves itself, but not its user as well, which {name} asks for"
        remedy = "use a client with multiple authentication (RFC 4739): its second one is EAP"
    else:
        reason = f"the device proves itself, {name} asks for its user instead, by EAP"
        remedy = "set the client to user name and password, or to EAP"
    return Refused(NotifyType.AUTHENTICATION_FAILED, reason, remedy)


def own_proof(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, identification: IdResponder
) -> list[Payload]:
    """CERT and AUTH as the responder. Raises Refused."""
    certificates = proof.own_certificates(core, connection)
    return [*certificates, proof.own_auth(sa, connection, identification)]


def finish(core: Core, sa: IkeSa, request: Request, view: Payloads, reply: list[Payload]) -> None:
    """The peer has proven itself: establish the SA and answer with ``reply`` and a child SA.

    ``view`` has what the peer's first IKE_AUTH request asked for.
    """
    path, now, connection = request.path, request.now, sa.connection
    if connection is None:
        raise ValueError("no connection")
    core.timers.cancel((TimerKind.GIVE_UP, sa.local_spi))
    sa.path = path
    if ppk.is_used(sa):
        sa.auth += ppk.TITLE
    refused_child: Refused | None = None
    first: Child | None = None
    mobike.note_support(core, sa, view)
    sa.encapsulate = sa.encapsulate and path.local.port == core.settings.nat_port
    transition(core, sa, State.ESTABLISHED, "IKE_AUTH verified")
    if view.notify(NotifyType.INITIAL_CONTACT) is not None:
        replace_older(core, sa, now)
    try:
        if _is_childless(sa, view):
            reply += _configuration(core, sa, connection, view)
        else:
            payloads, first = _first_child(core, sa, connection, view, now)
            reply += payloads
    except Refused as refused:
        refused_child = refused
        core.release_address(sa)
        reply.append(refused.notify())
    reply += mobike.announce(core, sa)
    reply += reauthentication.announce(sa, connection)
    reply += mobility_login.answer(core, sa, view)
    exchange.respond(core, sa, request, reply)
    established(core, sa, first, now)
    if refused_child is not None:
        step = "IKE_AUTH (child SA)"
        name = connection.name
        report_refusal(core, refused_child, sa.peer_name, path.remote, step, connection=name, sa=sa)


def refuse(
    core: Core,
    sa: IkeSa,
    refused: Refused,
    request: Request,
    *,
    reply: Payload | None = None,
    step: str = "IKE_AUTH",
) -> None:
    """Answer with ``reply``, or the refusal itself, and forget the half-open SA."""
    exchange.respond(core, sa, request, [reply or refused.notify()])
    name = sa.connection_name
    report_refusal(core, refused, sa.peer_name, request.path.remote, step, connection=name, sa=sa)
    failing.refuse_login(core, sa, refused.reason, request.now)


@dataclass(frozen=True, slots=True)
class _Proofs:
    """How the peer is about to prove itself."""

    method: int
    """Of its AUTH payload; 0 when it sent none and so wants EAP."""
    user_follows: bool
    """The user proves itself after the device (RFC 4739)."""

    @classmethod
    def of(cls, view: Payloads) -> Self:
        """What a first IKE_AUTH request says."""
        shown = view.get(Authentication)
        follows = view.notify(NotifyType.ANOTHER_AUTH_FOLLOWS) is not None
        return cls(0 if shown is None else shown.method, follows)

    def fit(self, connection: ConnectionPolicy) -> bool:
        """Whether that is what the connection asks for."""
        wanted = connection.peer_auth
        if self.method == 0:
            return wanted.user is not None and not wanted.device_too
        if self.user_follows != (wanted.user is not None):
            return False
        if self.method == AuthMethod.SHARED_KEY:
            return wanted.preshared_key is not None
        return wanted.anchors is not None


def identify(
    core: Core, sa: IkeSa, view: Payloads
) -> tuple[ConnectionPolicy, IdInitiator, IdResponder]:
    """Find the connection for the identity that the peer claims; returns both ID payloads.

    Raises Refused with AUTHENTICATION_FAILED, or WireError when a payload is missing.
    """
    theirs = view.need(IdInitiator)
    if not _is_childless(sa, view):
        view.need(SecurityAssociation)
        view.need(TrafficSelectorsInitiator)
        view.need(TrafficSelectorsResponder)
    sa.peer_id = Identity(theirs.id_type, theirs.data)
    users.refuse_blocked(core, sa)
    wanted = view.get(IdResponder)
    connection = _find_connection(core, sa, sa.peer_id, wanted, _Proofs.of(view))
    sa.connection = connection
    sa.local_id = connection.local_id
    if not connection.childless:
        # The peer was told about another connection.
        view.need(SecurityAssociation)
    sa.evidence |= Evidence.PEER_IDENTITY
    mine = connection.local_id
    return connection, theirs, IdResponder(mine.type, mine.data)


def _is_childless(sa: IkeSa, view: Payloads) -> bool:
    """Whether the request asks for no child SA, to a peer that was told it may (RFC 6023)."""
    return (
        sa.handshake is not None
        and sa.handshake.peer_is_childless
        and view.get(SecurityAssociation) is None
        and view.get(TrafficSelectorsInitiator) is None
        and view.get(TrafficSelectorsResponder) is None
    )


def _find_connection(
    core: Core, sa: IkeSa, peer: Identity, wanted: IdResponder | None, proofs: _Proofs
) -> ConnectionPolicy:
    """The first connection that fits both identities and the way the peer proves itself."""
    handshake = sa.handshake
    candidates = handshake.candidates if handshake is not None else ()
    # Meanwhile the configuration may have been read again.
    live = [
        fresh
        for one in candidates
        if (fresh := core.connections.get(one.name)) is not None
        and fresh.ike_offer == one.ike_offer
    ]
    of_peer = [one for one in live if one.remote_id.matches(peer)]
    if not of_peer:
        names = ", ".join(f"{one.name} ({one.remote_id})" for one in live[:8]) or "none"
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"no connection accepts the identity {peer}",
            "set remote_id of a connection to it, or correct the client's identity",
            theirs=str(peer),
            ours=names,
        )
    fitting = of_peer
    if wanted is not None:
        asked = Identity(wanted.id_type, wanted.data)
        fitting = [one for one in of_peer if one.local_id.same_as(asked)]
        if not fitting:
            theirs = str(asked)
            raise Refused(
                NotifyType.AUTHENTICATION_FAILED,
                f"the peer asks for {theirs}, which is not our identity",
                "set local_id to it, or correct the gateway's identity in the client",
                theirs=theirs,
                ours=", ".join(str(one.local_id) for one in of_peer[:8]),
            )
    return next((one for one in fitting if proofs.fit(one)), fitting[0])


def _configuration(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, view: Payloads
) -> list[Payload]:
    """What a peer gets that asks for no child SA yet: its inner address, if it asks for one."""
    asked = view.get(Configuration)
    if asked is None:
        return []
    configuration = config_payload.answer(core, sa, connection, asked)
    return [] if configuration is None else [configuration]


def _first_child(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, view: Payloads, now: float
) -> tuple[list[Payload], Child]:
    """Inner address, proposal, selectors and keys of the child SA that comes with IKE_AUTH."""
    handshake = sa.handshake
    if handshake is None:
        raise ValueError("no handshake")
    offered = view.need(SecurityAssociation)
    selection = child.choose_esp(core, connection, offered, with_group=False)
    spi_out = child.spi_of(offered, selection.proposal_number)
    theirs = view.need(TrafficSelectorsInitiator)
    settle_home_address(core, sa, connection, theirs.selectors)
    configuration = config_payload.answer(
        core, sa, connection, view.get(Configuration), selection.suite
    )
    presence.settle(core, sa, connection, theirs.selectors)
    ours = view.need(TrafficSelectorsResponder)
    transport_mode.need(connection, view)
    sides = transport_mode.Sides(sa, connection, theirs.selectors, ours.selectors)
    local_ts, remote_ts = child.narrow(core, sa, connection, sides)
    suite = selection.suite
    of_peer, of_us = child.keys(sa, suite, handshake.nonce_i, handshake.nonce_r, b"")
    features = granted(sa, connection, draft_notifies.asked_in(view), local_ts, remote_ts)
    if features.vpn_fa:
        refuse_held(core.home_addresses, sa, remote_ts)
    agreed = child_sas.Agreed(
        core.new_child_spi(),
        spi_out,
        suite,
        selection.group,
        local_ts,
        remote_ts,
        features.endpoint_update,
        features.vpn_fa,
        connection.mode,
    )
    made = child_sas.install(core, sa, agreed, of_peer, of_us, now)
    payloads: list[Payload] = [] if configuration is None else [configuration]
    payloads += [
        child.answer_payload(selection, made.spi_in),
        TrafficSelectorsInitiator(sides.told(remote_ts)),
        TrafficSelectorsResponder(sides.told(local_ts)),
        *transport_mode.notifies(connection),
        *draft_notifies.notifies(features),
        *draft_notifies.advertise(sa, connection),
    ]
    return payloads, made


def replace_older(core: Core, sa: IkeSa, now: float) -> None:
    """The peer says that this is its only IKE SA: its others are leftovers (INITIAL_CONTACT)."""
    for older in core.of_peer(sa):
        if older is sa or not users.of_same_login(older, sa):
            continue
        closing.close(core, older, "replaced by a new login of the peer (INITIAL_CONTACT)", now)


def established(core: Core, sa: IkeSa, first: Child | None, now: float) -> None:
    """Drop what only the handshake needed, start the timers, tell the administrator."""
    handshake = sa.handshake
    if handshake is not None and handshake.half_open_key is not None:
        core.half_open.remove(handshake.half_open_key)
    sa.handshake = None
    sa.established_at = sa.last_inbound = now
    core.add_peer(sa)
    start_timers(core, sa, now)
    if first is None:
        core.watch_childless(sa, now)
    connection = sa.connection
    if connection is not None and connection.name in core.wanted:
        core.wanted[connection.name] = 0
    core.count("ike_sas_established")
    _announce(core, sa, first)
    users.open_session(core, sa, now)


def start_timers(core: Core, sa: IkeSa, now: float) -> None:
    """Rekeying, liveness, keepalives of an established SA."""
    connection = sa.connection
    if connection is None:
        return
    life = connection.lifetimes
    # A login lasts as long however often the peer rekeys the IKE SA that came of it.
    since = sa.established_at if connection.reauthenticate else now
    early = life.ike_rekey_s * (1 - life.jitter * core.fraction())
    core.timers.set((TimerKind.REKEY_IKE, sa.local_spi), since + early)
    end = since + life.ike_rekey_s + life.ike_over_s
    core.timers.set((TimerKind.EXPIRE_IKE, sa.local_spi), end)
    reauthentication.watch(core, sa, now)
    timing.watch_peer(core, sa, now)


def _announce(core: Core, sa: IkeSa, first: Child | None) -> None:
    parts = [f"{sa.peer_name} connected from {sa.path.remote} ({sa.connection_name})"]
    fields: dict[str, object] = {
        "peer": sa.peer_name,
        "remote": str(sa.path.remote),
        "local": str(sa.path.local),
        "connection": sa.connection_name,
        "spis": sa.spis,
        "session": sa.session_id,
        "suite": str(sa.suite),
        "auth": sa.auth,
    }
    if sa.user is not None:
        user = escape(sa.user.user, 80)
        fields["user"] = user
        parts.append(f"user {user}")
    if sa.profile:
        fields["profile"] = sa.profile
        parts.append(f"profile {sa.profile}")
    parts.append(sa.auth)
    if sa.leases:
        inside = ", ".join(map(str, sa.inner_addresses))
        fields["inner_address"] = inside
        parts.append(f"inner address {inside}")
    parts.append(str(sa.suite))
    if first is None:
        parts.append("no child SA")
    else:
        local, remote = first.local_ts, first.remote_ts
        fields["child"] = f"{selectors.describe(local)} === {selectors.describe(remote)}"
        fields["child_suite"] = str(first.suite)
        fields["encapsulated"] = first.udp_encapsulation
        how = "ESP in UDP" if first.udp_encapsulation else "ESP"
        parts.append(f"{how} {first.suite} {fields['child']}")
        features = str(Features(first.endpoint_update, first.vpn_fa))
        if features:
            fields["features"] = features
            parts.append(features)
    core.emit("ike_sa_established", ", ".join(parts), Severity.INFO, **fields)
