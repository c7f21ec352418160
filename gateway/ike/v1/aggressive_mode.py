"""Aggressive mode, both sides (RFC 2408 section 4.7, RFC 2409 sections 5.1 and 5.4).

::

    1  SA, KE, Ni, IDii, [CR], VID...  ->
    2                    <-  SA, KE, Nr, IDir, [CERT, CR], HASH or SIG, VID..., NAT-D...
    3  [CERT], HASH or SIG, NAT-D..., [INITIAL-CONTACT]  ->   (may be encrypted; ours is)
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike import draft_features, users
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.core import Core
from gateway.ike.crypto import dh
from gateway.ike.crypto.sk import IntegrityError
from gateway.ike.crypto.suites import NoProposalChosen
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import NotifyType
from gateway.ike.v1 import (
    exchange,
    failing,
    initiate,
    nat,
    offers,
    phase1,
    proof,
    protect,
    respond,
    vendor_ids,
)
from gateway.ike.v1.codec import (
    ExchangeType,
    FaAdvertisement,
    Header,
    Identification,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    VendorId,
    find_all,
    is_encrypted,
    parse_message,
)
from gateway.ike.v1.codec import NotifyType as V1Notify
from gateway.ike.v1.sa import AuthMethod, Evidence, IkeSa, State, transition

AGGRESSIVE = ExchangeType.AGGRESSIVE


# -- the initiator ----------------------------------------------------------------------------


def start(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, method: AuthMethod, now: float
) -> None:
    """Message 1. Raises NoProposalChosen when IKEv1 has none of our suites."""
    phase = phase1.state_of(sa)
    sa.auth_method = method
    group = offers.first_group(connection.ike_offer)
    offered = offers.to_payload(
        connection.ike_offer, method, respond.life_s(connection), only_group=group
    )
    if group is None:
        raise NoProposalChosen(f"IKEv1 has no group of [{connection.ike_offer}]")
    phase.sa_body = offered.body()
    phase.key_pair = dh.generate(group)
    phase.nonce_i = core.random(phase1.NONCE_OCTETS)
    transition(core, sa, State.AGGRESSIVE_1_SENT, f"initiating {connection.name}")
    sending: list[Payload] = [
        offered,
        KeyExchange(phase.key_pair.public),
        Nonce(phase.nonce_i),
        proof.own_id(connection),
        *proof.certificate_requests([connection]),
        *(VendorId(vid) for vid in vendor_ids.offered(connection)),
    ]
    phase1.send(core, sa, AGGRESSIVE, sending, sa.path, now, encrypted=False, retransmitted=True)


def receive_2(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    header: Header,
    payloads: Sequence[Payload],
    path: Path,
    now: float,
) -> None:
    """The responder's choice and proof. What proves nothing changes nothing."""
    phase, connection, method = phase1.state_of(sa), sa.connection, sa.auth_method
    if connection is None or method is None or not any(header.responder_spi):
        raise WireError("aggressive mode message 2 without a responder cookie")
    answered = phase1.need(payloads, SecurityAssociation)
    identification = phase1.need(payloads, Identification)
    theirs = phase1.need(payloads, KeyExchange).data
    nonce = phase1.nonce_of(phase1.need(payloads, Nonce).data)
    before = (sa.responder_spi, sa.path, sa.suite, sa.peer, sa.fragmentation)
    try:
        life = respond.life_s(connection)
        chosen = offers.check_selected(connection.ike_offer, method, answered, life_s=life)
        if phase.key_pair is None or chosen.suite.group != phase.key_pair.group:
            raise NoProposalChosen(f"the answer has group {chosen.suite.group.name}")
        sa.responder_spi = header.responder_spi
        sa.path = replace(sa.path, local=path.local)
        phase1.use(sa, chosen)
        phase.nonce_r = nonce
        phase1.agree(sa, theirs)
        phase1.install_keys(sa, connection.peer_auth.preshared_key if method.with_key else None)
        phase1.check_identity(sa, connection, proof.peer_identity(identification))
        proof.verify_peer(core, sa, connection, payloads, identification)
    except (NoProposalChosen, Refused) as wrong:
        # Anybody may have sent it: a better answer may still come.
        phase.hint = f"aggressive mode message 2 was refused: {wrong}"
        core.count("unauthenticated_errors")
        sa.responder_spi, sa.path, sa.suite, sa.peer, sa.fragmentation = before
        sa.keys, sa.cipher_key = None, b""
        sa.evidence = Evidence(0)
        return
    except proof.Pending as pending:
        _take_rest_of_2(core, sa, connection, payloads, path)
        phase1.wait_for_answer(core, sa, pending, _send_3, now)
        return
    _take_rest_of_2(core, sa, connection, payloads, path)
    _send_3(core, sa, now)


def _take_rest_of_2(
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    payloads: Sequence[Payload],
    path: Path,
) -> None:
    core.own_addresses.add(path.local.address)
    vendor_ids.take(sa, [one.data for one in find_all(payloads, VendorId)], [connection])
    phase1.take_nat_payloads(sa, payloads, path)


def _send_3(core: Core, sa: IkeSa, now: float) -> None:
    """Our proof; it is sent again until the responder shows by an exchange that it has it."""
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    force = connection.force_encapsulation
    nat.floated(sa, core.settings.nat_port, force=force)
    nat_payloads = phase1.nat_payloads(sa, sa.path, force=force)
    try:
        own = proof.own_proof(core, sa, connection, proof.own_id(connection))
    except Refused as refused:
        failing.refuse(core, sa, refused, now)
        return
    sending: list[Payload] = [*own, *nat_payloads]
    if sa.replaces is None:
        spi = sa.initiator_spi + sa.responder_spi
        sending.append(Notify(V1Notify.INITIAL_CONTACT, b"", spi=spi))
    phase1.send(core, sa, AGGRESSIVE, sending, sa.path, now, encrypted=True, retransmitted=False)
    phase1.proven(core, sa, now)
    if not sa.closed:
        sa.retransmit_at = now + core.settings.retransmit_first_s
        exchange.arm(core, sa)


# -- the responder ----------------------------------------------------------------------------


def receive_1(  # noqa: PLR0917 - one fact each
    core: Core,
    digest: bytes,
    header: Header,
    payloads: Sequence[Payload],
    path: Path,
    now: float,
) -> None:
    """An offer with an identity: message 2 with our proof.

    An identity that no connection accepts gets the same kind of answer, made with a key that
    nobody has: who asks learns nothing about which identities there are.

    Raises:
        Refused: nothing fits; there is no SA yet.
    """
    offered = phase1.need(payloads, SecurityAssociation)
    theirs = phase1.need(payloads, KeyExchange).data
    nonce = phase1.nonce_of(phase1.need(payloads, Nonce).data)
    identification = phase1.need(payloads, Identification)
    chosen, candidates = respond.choose(core, offered, path, aggressive=True)
    pair = dh.generate(chosen.suite.group)
    try:
        shared = pair.shared_secret(theirs)
    except dh.InvalidKeyExchange as invalid:
        raise WireError(f"key exchange value refused: {invalid}") from None
    sa = respond.new_sa(core, header, path, digest, now)
    phase = phase1.state_of(sa)
    phase.sa_body = offered.body()
    phase.candidates = candidates
    phase.key_pair, phase.shared = pair, shared
    phase.public_i, phase.public_r = theirs, pair.public
    phase.nonce_i, phase.nonce_r = nonce, core.random(phase1.NONCE_OCTETS)
    phase1.use(sa, chosen)
    shown = [one.data for one in find_all(payloads, VendorId)]
    vendor_ids.take(sa, shown, candidates)
    vids = vendor_ids.answered(sa, shown, candidates)
    connection, secret = _find_connection(core, sa, identification, candidates)
    if chosen.method.with_key:
        initiate.warn_of_exposure(core, connection, now)
    phase1.install_keys(sa, secret if chosen.method.with_key else None)
    mine = proof.own_id(connection)
    try:
        own = proof.own_proof(core, sa, connection, mine)
    except Refused as refused:
        sa.evidence &= ~Evidence.KEYS
        failing.refuse(core, sa, refused, now, step="aggressive mode message 1")
        return
    sending: list[Payload] = [
        offers.answer(chosen),
        KeyExchange(pair.public),
        Nonce(phase.nonce_r),
        mine,
        *own,
        *proof.certificate_requests([connection]),
        *map(VendorId, vids),
    ]
    sending += phase1.nat_payloads(sa, path, force=connection.force_encapsulation)
    transition(core, sa, State.AGGRESSIVE_2_SENT, "aggressive mode message 1 answered")
    phase1.send(core, sa, AGGRESSIVE, sending, path, now, encrypted=False, retransmitted=False)


def _find_connection(
    core: Core,
    sa: IkeSa,
    identification: Identification,
    candidates: Sequence[ConnectionPolicy],
) -> tuple[ConnectionPolicy, PresharedKey | None]:
    """The connection for the claimed identity and its key; a decoy of both where there is none."""
    phase = phase1.state_of(sa)
    phase.identification = identification
    try:
        sa.peer_id = proof.peer_identity(identification)
        users.refuse_blocked(core, sa)
        connection = phase1.choose_connection(core, candidates, sa.peer_id)
    except Refused as refused:
        phase.decoy = refused.reason
        step = "aggressive mode message 1"
        report_refusal(core, refused, "a peer", sa.path.remote, step, now=sa.created_at, sa=sa)
        return candidates[0], PresharedKey(core.random(32))
    sa.connection = connection
    sa.local_id = connection.local_id
    sa.evidence |= Evidence.PEER_IDENTITY
    return connection, connection.peer_auth.preshared_key


def receive_3(core: Core, sa: IkeSa, data: bytes, header: Header, path: Path, now: float) -> None:  # noqa: PLR0917 - one fact each
    """The initiator's proof. Raises IntegrityError or WireError for what proves nothing."""
    phase = phase1.state_of(sa)
    protected = is_encrypted(header)
    next_iv = sa.iv
    if protected:
        opened = protect.open_message(sa, data, header.next_payload, sa.iv)
        payloads, next_iv = opened.payloads, opened.next_iv
    else:
        payloads = parse_message(data, header).payloads
    connection, claimed = sa.connection, phase.identification
    pending: proof.Pending | None = None
    try:
        if connection is None or claimed is None or phase.decoy:
            raise Refused(
                NotifyType.AUTHENTICATION_FAILED,
                phase.decoy or "no identity",
                "set remote_id of a connection to it, or correct the client's identity",
            )
        proof.verify_peer(core, sa, connection, payloads, claimed)
    except Refused as refused:
        if not protected:
            # Anybody may have sent it: the true one may still come.
            raise IntegrityError(f"aggressive mode message 3: {refused}") from None
        failing.refuse(core, sa, refused, now)
        return
    except proof.Pending as asking:
        pending = asking
    sa.iv = next_iv
    sa.path = path
    phase1.take_nat_payloads(sa, payloads, path)
    force = connection is not None and connection.force_encapsulation
    nat.floated(sa, core.settings.nat_port, force=force)
    sa.encapsulate = sa.encapsulate and path.local.port == core.settings.nat_port
    phase1.take_notifies(sa, payloads)
    if pending is not None:
        phase1.wait_for_answer(core, sa, pending, _finish, now)
        return
    _finish(core, sa, now)


def _finish(core: Core, sa: IkeSa, now: float) -> None:
    """The initiator is proven; what belongs into the last message goes after it (appendix B.2)."""
    connection = sa.connection
    sa.last_sent = ()
    phase1.proven(core, sa, now)
    if connection is None or sa.closed:
        return
    advertisement = draft_features.advertisement(sa, connection)
    if advertisement:
        sending = [FaAdvertisement(advertisement)]
        exchange.send_alone(core, sa, ExchangeType.INFORMATIONAL, sending)
