"""What main mode and aggressive mode share, and what happens when phase 1 is over."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike import closing, selectors, timing, users
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, escape
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.crypto.prf import Prf
from gateway.ike.draft_features import Features
from gateway.ike.outputs import AskOcsp, Severity
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.sa import Child
from gateway.ike.v1 import exchange, failing, keys, phase2, proof, protect, renew
from gateway.ike.v1.codec import (
    ExchangeType,
    NatDetection,
    NatDetectionDraft,
    Notify,
    Payload,
    find,
    find_all,
)
from gateway.ike.v1.codec import NotifyType as V1Notify
from gateway.ike.v1.nat import NAT_D, detection_hashes, payload_type, take
from gateway.ike.v1.offers import Chosen
from gateway.ike.v1.sa import (
    Evidence,
    IkeSa,
    NatTraversal,
    PendingCertificate,
    PhaseOne,
    State,
    transition,
)

NONCE_OCTETS = 32
MIN_NONCE_OCTETS, MAX_NONCE_OCTETS = 8, 256
"""RFC 2409 section 5."""
LOGIN_S = 120.0
"""How long a user may take for XAUTH: people type passwords."""
MAX_REVOCATION_ROUNDS = 8
"""Questions to an OCSP responder about one chain."""
LAST_MESSAGE_TRIES = 4
"""Transmissions of the last message of aggressive mode when nothing at all comes after it."""
PROOF_REMEMBERED_S = 60.0
"""How long the last message of phase 1 is kept for repetitions of the peer's."""
P = TypeVar("P", bound=Payload)


def state_of(sa: IkeSa) -> PhaseOne:
    """The state of a phase 1 that is not over. Raises ValueError when it is."""
    if sa.phase1 is None:
        raise ValueError("phase 1 is over")
    return sa.phase1


def need(payloads: Sequence[Payload], kind: type[P]) -> P:
    """The payload of a kind. Raises WireError when it is missing."""
    found = find(payloads, kind)
    if found is None:
        raise WireError(f"{kind.__name__} payload is missing")
    return found


def nonce_of(data: bytes) -> bytes:
    """A nonce of the peer. Raises WireError for a size that RFC 2409 does not allow."""
    if not MIN_NONCE_OCTETS <= len(data) <= MAX_NONCE_OCTETS:
        raise WireError(
            f"nonce of {len(data)} octets, {MIN_NONCE_OCTETS} to {MAX_NONCE_OCTETS} are allowed"
        )
    return data


def use(sa: IkeSa, chosen: Chosen) -> None:
    """Take over what was negotiated."""
    sa.suite = chosen.suite
    sa.auth_method = chosen.method
    state_of(sa).life_s = float(chosen.life_s or 0)


def agree(sa: IkeSa, theirs: bytes) -> None:
    """Compute g^xy from our key pair and the peer's public value.

    Raises WireError for a value that is not one of the group.
    """
    phase = state_of(sa)
    if phase.key_pair is None:
        raise ValueError("no key pair")
    try:
        phase.shared = phase.key_pair.shared_secret(theirs)
    except dh.InvalidKeyExchange as invalid:
        raise WireError(f"key exchange value refused: {invalid}") from None
    ours = phase.key_pair.public
    if ours == theirs:
        raise WireError("our own key exchange value came back")
    phase.public_i, phase.public_r = (ours, theirs) if sa.initiator else (theirs, ours)


def install_keys(sa: IkeSa, secret: PresharedKey | None) -> None:
    """Derive SKEYID and what follows from it; ``secret`` unless signatures authenticate."""
    phase, suite = state_of(sa), sa.suite
    if suite is None:
        raise ValueError("no suite")
    prf = Prf.of(suite.prf)
    if secret is not None:
        skeyid = keys.skeyid_of_preshared_key(prf, secret.secret, phase.nonce_i, phase.nonce_r)
    else:
        skeyid = keys.skeyid_of_signatures(prf, phase.nonce_i, phase.nonce_r, phase.shared)
    made = keys.derive(prf, skeyid, phase.shared, sa.initiator_spi, sa.responder_spi)
    sa.keys = made
    sa.cipher_key = keys.encryption_key(prf, made, suite.encr, suite.key_bits)
    sa.iv = keys.phase1_iv(prf, phase.public_i, phase.public_r, suite.encr)
    sa.evidence |= Evidence.KEYS


def nat_payloads(sa: IkeSa, path: Path, *, force: bool) -> list[Payload]:
    """Our NAT-D payloads; none for a peer that does not know them."""
    if sa.peer.nat_traversal is NatTraversal.NONE:
        return []
    kind = NatDetection if payload_type(sa) == NAT_D else NatDetectionDraft
    return [kind(data) for data in detection_hashes(sa, path, force_encapsulation=force)]


def take_nat_payloads(sa: IkeSa, payloads: Sequence[Payload], path: Path) -> None:
    """Judge the peer's NAT-D payloads, of either number."""
    found = [one.data for one in payloads if isinstance(one, NatDetection | NatDetectionDraft)]
    take(sa, path, found)


def send(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    exchange_type: ExchangeType,
    payloads: Sequence[Payload],
    path: Path,
    now: float,
    *,
    encrypted: bool,
    retransmitted: bool,
) -> None:
    """Send a message of phase 1 and keep it: to send again, or to answer repetitions."""
    whole, next_iv = protect.message(
        sa, exchange_type, 0, payloads, iv=sa.iv if encrypted else None
    )
    if encrypted:
        sa.iv = next_iv
    sa.last_sent = protect.datagrams(core, sa, whole)
    sa.tries, state_of(sa).repeated = 1, 0
    core.transmit(sa.last_sent, path)
    sa.retransmit_at = now + core.settings.retransmit_first_s if retransmitted else 0.0
    exchange.arm(core, sa)


def retransmit(core: Core, sa: IkeSa, now: float) -> None:
    """Send our last message of phase 1 again, or give the SA up.

    The last message of aggressive mode has no answer of its own: it goes a few times more, until
    the responder shows that it has it.
    """
    if not sa.retransmit_at or now < sa.retransmit_at:
        return
    over = sa.state in (State.AUTHENTICATED, State.ESTABLISHED, State.REPLACED)
    if sa.tries >= (LAST_MESSAGE_TRIES if over else core.settings.retransmit_tries):
        sa.retransmit_at = 0.0
        core.touch(sa)
        if not over:
            core.count("retransmissions_exhausted")
            failing.unanswered(core, sa, now)
        return
    sa.tries += 1
    core.count("retransmissions")
    core.transmit(sa.last_sent, sa.path)
    sa.retransmit_at = now + exchange.delay(core, sa.tries)


def wait_for_answer(
    core: Core,
    sa: IkeSa,
    pending: proof.Pending,
    resume: Callable[[Core, IkeSa, float], None],
    now: float,
) -> None:
    """Ask the OCSP responder; :func:`ocsp_answered` goes on with ``resume``."""
    phase = state_of(sa)
    rounds = phase.pending.rounds + 1 if phase.pending is not None else 1
    phase.pending = PendingCertificate(pending.request, pending.chain, rounds, resume)
    if sa.state is not State.ASKED:
        transition(core, sa, State.ASKED, "the certificate's revocation is asked for")
        sa.retransmit_at = 0.0
        exchange.arm(core, sa)
        core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + core.settings.half_open_timeout_s)
    ticket = core.take_ticket(sa)
    core.outputs.append(AskOcsp(ticket, pending.request.url, pending.request.der))


def ocsp_answered(core: Core, sa: IkeSa, response: bytes | None, now: float) -> None:
    """Judge the certificate again with what the responder said."""
    phase, connection = sa.phase1, sa.connection
    if sa.state is not State.ASKED or phase is None or connection is None:
        core.count("answers_unexpected")
        return
    pending, anchors = phase.pending, connection.peer_auth.anchors
    if pending is None or anchors is None:
        core.count("answers_unexpected")
        return
    anchors.take_ocsp_response(pending.request, response, core.wall_clock())
    try:
        proof.validate_again(core, sa, anchors, pending.chain)
    except Refused as refused:
        failing.refuse(core, sa, refused, now)
        return
    except proof.Pending as more:
        if pending.rounds >= MAX_REVOCATION_ROUNDS:
            reason = "the OCSP responder leaves the certificate's state open"
            failing.refuse(core, sa, Refused(NotifyType.AUTHENTICATION_FAILED, reason), now)
            return
        wait_for_answer(core, sa, more, pending.resume, now)
        return
    pending.resume(core, sa, now)


def choose_connection(
    core: Core, candidates: Sequence[ConnectionPolicy], peer: Identity
) -> ConnectionPolicy:
    """The first candidate that accepts the peer's identity.

    Raises:
        Refused: none does; the reason is for the administrator only.
    """
    live = [
        fresh
        for one in candidates
        if (fresh := core.connections.get(one.name)) is not None
        and fresh.ike_offer == one.ike_offer
        and fresh.version == 1
    ]
    for one in live:
        if one.remote_id.matches(peer):
            return one
    names = ", ".join(f"{one.name} ({one.remote_id})" for one in live[:8]) or "none"
    raise Refused(
        NotifyType.AUTHENTICATION_FAILED,
        f"no connection accepts the identity {peer}",
        "set remote_id of a connection to it, or correct the client's identity",
        theirs=str(peer),
        ours=names,
    )


def check_identity(sa: IkeSa, connection: ConnectionPolicy, peer: Identity) -> None:
    """As the initiator: whether the responder is who the connection wants.

    Raises:
        Refused: AUTHENTICATION_FAILED.
    """
    sa.peer_id = peer
    if not connection.remote_id.matches(peer):
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer is {peer}, expected {connection.remote_id}",
            f"correct remote_id of {connection.name}",
            theirs=str(peer),
            ours=str(connection.remote_id),
        )
    sa.evidence |= Evidence.PEER_IDENTITY


def take_notifies(sa: IkeSa, payloads: Sequence[Payload]) -> None:
    """INITIAL-CONTACT inside of an authenticated message of phase 1."""
    if any(one.type == V1Notify.INITIAL_CONTACT for one in find_all(payloads, Notify)):
        state_of(sa).initial_contact = True


def proven(core: Core, sa: IkeSa, now: float) -> None:
    """Phase 1 is over: go on with the user's login, or with what follows it."""
    phase = state_of(sa)
    core.timers.cancel((TimerKind.GIVE_UP, sa.local_spi))
    sa.retransmit_at = 0.0
    phase.shared = phase.sa_body = b""
    phase.key_pair = None
    phase.candidates = ()
    phase.pending = None
    sa.auth = _auth_words(sa)
    sa.last_inbound = now
    exchange.arm(core, sa)
    method = sa.auth_method
    if sa.user_must_prove_itself or (sa.initiator and method is not None and method.with_user):
        transition(core, sa, State.AUTHENTICATED, "phase 1 proven, XAUTH follows")
        if sa.evidence & Evidence.PEER_CERTIFICATE:
            # The key of a group, which all of it knows, is not enough to fill our memory with.
            failing.leave_half_open(core, sa)
        core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + LOGIN_S)
    else:
        establish(core, sa, now)
    phase2.begin(core, sa, now)


def _auth_words(sa: IkeSa) -> str:
    method = sa.auth_method
    if method is None:
        return ""
    if method.with_key:
        return "pre-shared key"
    return "certificate" if sa.evidence & Evidence.PEER_CERTIFICATE else "user only"


def establish(core: Core, sa: IkeSa, now: float) -> None:
    """Everything is proven, the user included: take the SA into service.

    Renewed SAs take over the children of the one they replace.
    """
    transition(core, sa, State.ESTABLISHED, "everything is proven")
    core.timers.cancel((TimerKind.GIVE_UP, sa.local_spi))
    failing.leave_half_open(core, sa)
    phase = state_of(sa)
    sa.phase1 = None
    sa.established_at = sa.last_inbound = now
    if phase.initial_contact:
        # The peer has nothing of its other SAs any more, so there is nothing to take over.
        replace_older(core, sa, now)
    renew.settle(core, sa, now)
    core.add_peer(sa)
    start_timers(core, sa, phase.life_s, now)
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + PROOF_REMEMBERED_S)
    if not sa.children:
        core.watch_childless(sa, now)
    connection = sa.connection
    if connection is not None and connection.name in core.wanted:
        core.wanted[connection.name] = 0
    core.count("ike_sas_established")


def start_timers(core: Core, sa: IkeSa, life_s: float, now: float) -> None:
    """Renewal, liveness, keepalives of an established SA."""
    connection = sa.connection
    if connection is None or sa.state is not State.ESTABLISHED:
        return
    life = connection.lifetimes
    whole = life.ike_rekey_s + life.ike_over_s
    end = min(whole, life_s) if life_s else whole
    renewed = end * life.ike_rekey_s / whole
    if renew.possible(sa):
        # The initiator goes first; the responder renews only what was left to it.
        early = life.jitter * core.fraction() if sa.initiator else -0.5 * (end / renewed - 1)
        core.timers.set((TimerKind.REKEY_IKE, sa.local_spi), now + renewed * (1 - early))
    core.timers.set((TimerKind.EXPIRE_IKE, sa.local_spi), now + end)
    timing.watch_peer(core, sa, now)


def replace_older(core: Core, sa: IkeSa, now: float) -> None:
    """The peer says that this is its only SA: its others are leftovers (INITIAL-CONTACT).

    An identity that many users share, as with a group's key, says nothing about the others' SAs.
    """
    for older in core.of_peer(sa):
        if older is sa or not users.of_same_login(older, sa):
            continue
        closing.close(core, older, "replaced by a new login of the peer (INITIAL-CONTACT)", now)


def connected(core: Core, sa: IkeSa, child: Child, now: float) -> None:
    """The first child SA is there: accounting starts, the administrator is told."""
    users.open_session(core, sa, now)
    parts = [f"{sa.peer_name} connected from {sa.path.remote} ({sa.connection_name})", "IKEv1"]
    fields: dict[str, object] = {
        "peer": sa.peer_name,
        "remote": str(sa.path.remote),
        "local": str(sa.path.local),
        "connection": sa.connection_name,
        "spis": sa.spis,
        "session": sa.session_id,
        "suite": str(sa.suite),
        "version": 1,
    }
    if sa.user is not None:
        fields["user"] = sa.user.user
        parts.append(f"user {escape(sa.user.user, 80)}")
    if sa.inner_address is not None:
        fields["inner_address"] = str(sa.inner_address)
        parts.append(f"inner address {sa.inner_address}")
    fields["child"] = (
        f"{selectors.describe(child.local_ts)} === {selectors.describe(child.remote_ts)}"
    )
    fields["child_suite"] = str(child.suite)
    fields["encapsulated"] = child.udp_encapsulation
    how = "ESP in UDP" if child.udp_encapsulation else "ESP"
    parts += [str(sa.suite), f"{how} {child.suite} {fields['child']}"]
    features = str(Features(child.endpoint_update, child.vpn_fa))
    if features:
        fields["features"] = features
        parts.append(features)
    core.emit("ike_sa_established", ", ".join(parts), Severity.INFO, **fields)
