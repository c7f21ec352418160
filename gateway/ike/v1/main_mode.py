"""Main mode, both sides (RFC 2408 section 4.5, RFC 2409 sections 5.1 and 5.4).

::

    1  SA, VID...             ->
    2                         <-   SA, VID...
    3  KE, Ni, [CR], NAT-D... ->
    4                         <-   KE, Nr, [CR], NAT-D...
    5  {IDii, [CERT], HASH or SIG, [INITIAL-CONTACT]}  ->
    6                         <-   {IDir, [CERT], HASH or SIG, [FA advertisement]}
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike import draft_features, users
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.crypto.sk import IntegrityError
from gateway.ike.crypto.suites import NoProposalChosen
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.v1 import failing, nat, offers, phase1, proof, protect, respond, vendor_ids
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
    find,
    find_all,
)
from gateway.ike.v1.codec import NotifyType as V1Notify
from gateway.ike.v1.sa import AuthMethod, Evidence, IkeSa, State, transition

MAIN = ExchangeType.IDENTITY_PROTECTION


def _send(
    core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float, **how: bool
) -> None:
    encrypted = how.get("encrypted", False)
    phase1.send(
        core, sa, MAIN, payloads, path, now, encrypted=encrypted, retransmitted=sa.initiator
    )


# -- the initiator ----------------------------------------------------------------------------


def start(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, method: AuthMethod, now: float
) -> None:
    """Message 1. Raises NoProposalChosen when IKEv1 has none of our suites."""
    phase = phase1.state_of(sa)
    sa.auth_method = method
    offered = offers.to_payload(connection.ike_offer, method, respond.life_s(connection))
    phase.sa_body = offered.body()
    transition(core, sa, State.MAIN_1_SENT, f"initiating {connection.name}")
    vids = [VendorId(vid) for vid in vendor_ids.offered(connection)]
    _send(core, sa, [offered, *vids], sa.path, now)


def receive_2(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    header: Header,
    payloads: Sequence[Payload],
    path: Path,
    now: float,
) -> None:
    """The responder's choice, which nobody vouches for yet: message 3."""
    phase, connection, method = phase1.state_of(sa), sa.connection, sa.auth_method
    if connection is None or method is None or not any(header.responder_spi):
        raise WireError("main mode message 2 without a responder cookie")
    answered = phase1.need(payloads, SecurityAssociation)
    try:
        chosen = offers.check_selected(
            connection.ike_offer, method, answered, life_s=respond.life_s(connection)
        )
    except NoProposalChosen as wrong:
        phase.hint = f"the answer to main mode message 1 was unusable: {wrong}"
        core.count("unauthenticated_errors")
        return
    sa.responder_spi = header.responder_spi
    sa.path = replace(sa.path, local=path.local)
    core.own_addresses.add(path.local.address)
    phase1.use(sa, chosen)
    vendor_ids.take(sa, [one.data for one in find_all(payloads, VendorId)], [connection])
    phase.key_pair = dh.generate(chosen.suite.group)
    phase.nonce_i = core.random(phase1.NONCE_OCTETS)
    transition(core, sa, State.MAIN_3_SENT, "main mode message 2 taken")
    sending: list[Payload] = [KeyExchange(phase.key_pair.public), Nonce(phase.nonce_i)]
    sending += proof.certificate_requests([connection])
    sending += phase1.nat_payloads(sa, sa.path, force=connection.force_encapsulation)
    _send(core, sa, sending, sa.path, now)


def receive_4(core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float) -> None:
    """The responder's public value: keys, then our proof in message 5."""
    phase, connection = phase1.state_of(sa), sa.connection
    if connection is None or sa.auth_method is None:
        raise ValueError("no connection")
    theirs = phase1.need(payloads, KeyExchange).data
    phase.nonce_r = phase1.nonce_of(phase1.need(payloads, Nonce).data)
    phase1.agree(sa, theirs)
    phase1.install_keys(sa, connection.peer_auth.preshared_key if sa.auth_method.with_key else None)
    phase1.take_nat_payloads(sa, payloads, path)
    nat.floated(sa, core.settings.nat_port, force=connection.force_encapsulation)
    identification = proof.own_id(connection)
    try:
        own = proof.own_proof(core, sa, connection, identification)
    except Refused as refused:
        sa.evidence &= ~Evidence.KEYS
        failing.refuse(core, sa, refused, now)
        return
    sending: list[Payload] = [identification, *own]
    if sa.replaces is None:
        spi = sa.initiator_spi + sa.responder_spi
        sending.append(Notify(V1Notify.INITIAL_CONTACT, b"", spi=spi))
    transition(core, sa, State.MAIN_5_SENT, "main mode message 4 taken")
    _send(core, sa, sending, sa.path, now, encrypted=True)


def receive_6(core: Core, sa: IkeSa, data: bytes, header: Header, path: Path, now: float) -> None:  # noqa: PLR0917 - one fact each
    """The responder's proof. Raises IntegrityError for what does not decrypt."""
    del path
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    phase1.state_of(sa).hint = "the answer to our proof cannot be decrypted: the keys differ"
    opened = protect.open_message(sa, data, header.next_payload, sa.iv)
    identification = find(opened.payloads, Identification)
    if identification is None:
        raise IntegrityError("no identity in main mode message 6")
    sa.iv = opened.next_iv
    try:
        phase1.check_identity(sa, connection, proof.peer_identity(identification))
        proof.verify_peer(core, sa, connection, opened.payloads, identification)
    except Refused as refused:
        failing.refuse(core, sa, refused, now)
        return
    except proof.Pending as pending:
        resume = partial(_finish_6, find(opened.payloads, FaAdvertisement), connection)
        phase1.wait_for_answer(core, sa, pending, resume, now)
        return
    _finish_6(find(opened.payloads, FaAdvertisement), connection, core, sa, now)


def _finish_6(
    advertised: FaAdvertisement | None,
    connection: ConnectionPolicy,
    core: Core,
    sa: IkeSa,
    now: float,
) -> None:
    """The responder is proven, and with it what it advertises."""
    if advertised is not None:
        draft_features.take_advertisement(sa, connection, advertised.data)
    phase1.proven(core, sa, now)


# -- the responder ----------------------------------------------------------------------------


def receive_1(  # noqa: PLR0917 - one fact each
    core: Core,
    digest: bytes,
    header: Header,
    payloads: Sequence[Payload],
    path: Path,
    now: float,
) -> None:
    """An offer: choose, and answer with message 2.

    Raises:
        Refused: nothing fits; there is no SA yet.
    """
    offered = phase1.need(payloads, SecurityAssociation)
    chosen, candidates = respond.choose(core, offered, path, aggressive=False)
    sa = respond.new_sa(core, header, path, digest, now)
    phase = phase1.state_of(sa)
    phase.sa_body = offered.body()
    phase.candidates = candidates
    phase1.use(sa, chosen)
    shown = [one.data for one in find_all(payloads, VendorId)]
    vendor_ids.take(sa, shown, candidates)
    vids = vendor_ids.answered(sa, shown, candidates)
    transition(core, sa, State.MAIN_2_SENT, "main mode message 1 answered")
    _send(core, sa, [offers.answer(chosen), *map(VendorId, vids)], path, now)


def receive_3(core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float) -> None:
    """The initiator's public value: ours in message 4. It has our cookie, so it receives."""
    phase = phase1.state_of(sa)
    theirs = phase1.need(payloads, KeyExchange).data
    nonce = phase1.nonce_of(phase1.need(payloads, Nonce).data)
    if sa.suite is None or sa.auth_method is None:
        raise ValueError("no suite")
    phase.key_pair = dh.generate(sa.suite.group)
    phase1.agree(sa, theirs)
    phase.nonce_i, phase.nonce_r = nonce, core.random(phase1.NONCE_OCTETS)
    sa.path = path
    phase1.take_nat_payloads(sa, payloads, path)
    force = any(one.force_encapsulation for one in phase.candidates)
    sending: list[Payload] = [KeyExchange(phase.key_pair.public), Nonce(phase.nonce_r)]
    sending += proof.certificate_requests(phase.candidates)
    sending += phase1.nat_payloads(sa, path, force=force)
    nat.floated(sa, core.settings.nat_port, force=force)
    if not sa.auth_method.with_key:
        phase1.install_keys(sa, None)
    transition(core, sa, State.MAIN_4_SENT, "main mode message 3 answered")
    _send(core, sa, sending, path, now)


def receive_5(core: Core, sa: IkeSa, data: bytes, header: Header, path: Path, now: float) -> None:  # noqa: PLR0917 - one fact each
    """The initiator's proof: judge it and send ours in message 6.

    Raises IntegrityError for what does not decrypt; the SA waits on.
    """
    opened, secret = _decrypt_5(core, sa, data, header, path, now)
    phase = phase1.state_of(sa)
    identification = find(opened.payloads, Identification)
    if identification is None:
        raise IntegrityError("no identity in main mode message 5")
    sa.iv = opened.next_iv
    sa.path = path
    sa.encapsulate = sa.encapsulate and path.local.port == core.settings.nat_port
    try:
        sa.peer_id = proof.peer_identity(identification)
        users.refuse_blocked(core, sa)
        with_key = [
            one
            for one in phase.candidates
            if secret is None or one.peer_auth.preshared_key == secret
        ]
        connection = phase1.choose_connection(core, with_key, sa.peer_id)
        sa.connection = connection
        sa.local_id = connection.local_id
        sa.evidence |= Evidence.PEER_IDENTITY
        phase1.take_notifies(sa, opened.payloads)
        proof.verify_peer(core, sa, connection, opened.payloads, identification)
    except Refused as refused:
        failing.refuse(core, sa, refused, now)
        return
    except proof.Pending as pending:
        phase1.wait_for_answer(core, sa, pending, answer_5, now)
        return
    answer_5(core, sa, now)


def _decrypt_5(  # noqa: PLR0917 - one fact each
    core: Core, sa: IkeSa, data: bytes, header: Header, path: Path, now: float
) -> tuple[protect.Opened, PresharedKey | None]:
    """Message 5 in the clear, and the pre-shared key that did it.

    The identity is inside, so the key must be found before it: by trying those of the connections
    that take this proposal from this address.
    """
    phase, method = phase1.state_of(sa), sa.auth_method
    if method is None:
        raise ValueError("no method")
    if not method.with_key:
        return protect.open_message(sa, data, header.next_payload, sa.iv), None
    for secret in proof.preshared_keys(phase.candidates)[: respond.MAX_KEYS_TRIED]:
        phase1.install_keys(sa, secret)
        try:
            opened = protect.open_message(sa, data, header.next_payload, sa.iv)
        except IntegrityError:
            continue
        identification = find(opened.payloads, Identification)
        if identification is not None and proof.hash_fits(sa, opened.payloads, identification):
            return opened, secret
    sa.keys, sa.cipher_key = None, b""
    sa.evidence &= ~Evidence.KEYS
    if not phase.undecipherable:
        phase.undecipherable = True
        names = ", ".join(one.name for one in phase.candidates[:8])
        respond.report_unreadable(core, sa, path, names, now)
        failing.refuse_in_the_clear(core, header, V1Notify.AUTHENTICATION_FAILED, path, now)
    raise IntegrityError("no pre-shared key decrypts main mode message 5")


def answer_5(core: Core, sa: IkeSa, now: float) -> None:
    """Everything about the initiator is proven: message 6 with our own proof."""
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    identification = proof.own_id(connection)
    try:
        own = proof.own_proof(core, sa, connection, identification)
    except Refused as refused:
        failing.refuse(core, sa, refused, now)
        return
    sending: list[Payload] = [identification, *own]
    advertisement = draft_features.advertisement(sa, connection)
    if advertisement:
        sending.append(FaAdvertisement(advertisement))
    core.timers.cancel((TimerKind.GIVE_UP, sa.local_spi))
    _send(core, sa, sending, sa.path, now, encrypted=True)
    phase1.proven(core, sa, now)
