"""IKE_SA_INIT as the responder (RFC 7296 sections 1.2, 2.6, 2.7)."""

import struct
from hashlib import sha256

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike import closing
from gateway.ike.codec import (
    CertificateRequest,
    Header,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    UnsupportedCriticalPayload,
    VendorId,
    parse_message,
    serialize_message,
)
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.crypto.proposals import (
    IkeSuite,
    NoProposalChosen,
    Selection,
    SuiteOffer,
    select_ike,
)
from gateway.ike.draft_features import note_vendor_ids, vendor_ids
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import (
    ADDITIONAL_KE,
    CertEncoding,
    DhGroup,
    ExchangeType,
    Flag,
    HashId,
    NotifyType,
    ProtocolId,
)
from gateway.ike.v2 import intermediate, keys, nat, ppk
from gateway.ike.v2.sa import IkeSa, State, transition
from gateway.ike.v2.view import Payloads

MAX_INIT_OCTETS = 4096
"""Of an IKE_SA_INIT message, which is kept until the peer has proven itself."""
NONCE_OCTETS = 32
SIGNATURE_HASHES = struct.pack(
    "!4H", HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512, HashId.IDENTITY
)
MAX_SELECTION_MEMO = 256
IKE_MAJOR = 2


def receive_request(core: Core, octets: bytes, header: Header, path: Path, now: float) -> None:
    """Answer a request: with the former answer, a cookie demand, a refusal, or a half-open SA.

    Raises WireError for everything that deserves no answer.
    """
    if any(header.responder_spi) or header.message_id != 0:
        raise WireError("IKE_SA_INIT request with a responder SPI or a message id")
    if len(octets) > MAX_INIT_OCTETS:
        raise WireError(f"IKE_SA_INIT of {len(octets)} octets, at most {MAX_INIT_OCTETS} allowed")
    digest = sha256(octets).digest()
    known = core.half_open.find(digest, path.remote)
    if isinstance(known, IkeSa):
        core.count("requests_repeated")
        if known.window.may_repeat(now):
            core.transmit(known.window.responses, path)
        return
    if header.initiator_spi in core.sas:
        # A request of our own that came back: nobody may log in to us with our own proof.
        core.count("messages_reflected")
        return
    full = len(core.half_open) >= core.settings.half_open_limit
    if full and core.settings.cookie_threshold > core.settings.half_open_limit:
        core.count("half_open_limit_reached")
        return
    try:
        view = Payloads(parse_message(octets, header).payloads)
        _answer(core, octets, digest, header, view, path, now)
    except UnsupportedCriticalPayload as unsupported:
        refused = Refused(
            NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD,
            str(unsupported),
            data=bytes([unsupported.payload_type]),
        )
        _refuse(core, header, refused, path, now)
    except Refused as refused:
        _refuse(core, header, refused, path, now)


def _refuse(core: Core, header: Header, refused: Refused, path: Path, now: float) -> None:
    _send_stateless(core, header, [refused.notify()], path)
    if refused.notify_type is not NotifyType.INVALID_KE_PAYLOAD:
        report_refusal(core, refused, "a peer", path.remote, "IKE_SA_INIT", now=now)


def _send_stateless(core: Core, header: Header, payloads: list[Payload], path: Path) -> None:
    message = serialize_message(
        header.initiator_spi,
        bytes(8),
        exchange=ExchangeType.IKE_SA_INIT,
        flags=Flag.RESPONSE,
        message_id=0,
        payloads=payloads,
    )
    core.transmit((message,), path)


def _cookie_missing(  # noqa: PLR0917 - one fact each
    core: Core, view: Payloads, nonce: bytes, header: Header, path: Path, now: float
) -> bool:
    """Whether a cookie is needed and not shown; half of a source's room is for those who do."""
    settings = core.settings
    crowded = len(core.half_open) >= settings.cookie_threshold
    mine = core.half_open.of_source(path.remote)
    if not crowded and mine < max(settings.half_open_per_source // 2, 1):
        return False
    shown = view.notify(NotifyType.COOKIE)
    return shown is None or not core.cookies.verify(
        shown.data, nonce, header.initiator_spi, path.remote, now
    )


def _make_room(core: Core, path: Path, now: float) -> bool:
    """Give up somebody's half-open SA for a peer that showed a cookie; False when none may go."""
    other = core.half_open.in_the_way(path.remote.address)
    if other is None:
        return False
    core.count("half_open_given_up")
    closing.close(core, other, "its place went to another peer", now)
    return True


def _answer(  # noqa: PLR0917 - one fact each
    core: Core,
    octets: bytes,
    digest: bytes,
    header: Header,
    view: Payloads,
    path: Path,
    now: float,
) -> None:
    offered = view.need(SecurityAssociation)
    theirs = view.need(KeyExchange)
    nonce = view.need(Nonce).data
    if _cookie_missing(core, view, nonce, header, path, now):
        core.count("cookies_demanded")
        cookie = core.cookies.make(nonce, header.initiator_spi, path.remote, now)
        _send_stateless(core, header, [Notify(NotifyType.COOKIE, cookie)], path)
        return
    if core.half_open.of_source(path.remote) >= core.settings.half_open_per_source:
        core.count("half_open_source_limit_reached")
        return
    crowded = len(core.half_open) >= core.settings.cookie_threshold
    if crowded and not core.key_exchanges.may(now):
        # With cookies they are no forgeries, but so many cost us more than them.
        core.count("key_exchanges_put_off")
        return
    if len(core.half_open) >= core.settings.half_open_limit and not _make_room(core, path, now):
        core.count("half_open_limit_reached")
        return
    selection, candidates = choose(core, offered, path)
    suite: IkeSuite = selection.suite
    if suite.additional and view.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is None:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            "the peer offers additional key exchanges without IKE_INTERMEDIATE to carry them",
            "use a client that knows RFC 9242, or offer ke1_none too",
        )
    if theirs.group != suite.group:
        raise Refused(
            NotifyType.INVALID_KE_PAYLOAD,
            f"key exchange of group {theirs.group}, {suite.group.name} was chosen",
            data=struct.pack("!H", suite.group),
        )
    try:
        pair = dh.generate(suite.group)
        shared = pair.shared_secret(theirs.data)
    except dh.InvalidKeyExchange as invalid:
        raise Refused(NotifyType.INVALID_SYNTAX, f"key exchange value refused: {invalid}") from None
    sa = IkeSa(header.initiator_spi, core.new_ike_spi(), initiator=False, path=path, now=now)
    handshake = sa.handshake
    if handshake is None:
        return
    handshake.candidates = candidates
    handshake.init_request = octets
    handshake.nonce_i = nonce
    handshake.nonce_r = core.random(NONCE_OCTETS)
    take_capabilities(sa, view, path)
    sa.encapsulate = sa.local_natted or sa.remote_natted
    reply = _reply_payloads(sa, view, selection, pair.public, path)
    message = serialize_message(
        sa.initiator_spi,
        sa.responder_spi,
        exchange=ExchangeType.IKE_SA_INIT,
        flags=Flag.RESPONSE,
        message_id=0,
        payloads=reply,
    )
    handshake.init_response = message
    keys.install(sa, suite, shared, b"", None)
    intermediate.prepare(sa)
    handshake.half_open_key = core.half_open.add(digest, path.remote, sa)
    core.add_sa(sa)
    core.own_addresses.add(path.local.address)
    transition(core, sa, State.HALF_OPEN, "IKE_SA_INIT answered")
    sa.window.answer(digest, (message,))
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + core.settings.half_open_timeout_s)
    core.transmit((message,), path)


def choose(
    core: Core, offered: SecurityAssociation, path: Path
) -> tuple[Selection, tuple[ConnectionPolicy, ...]]:
    """Pick a proposal by the first connection that likes one, and all that would take it.

    Remembers its decisions by the octets offered, since clients of one kind offer the same.

    Raises:
        Refused: NO_PROPOSAL_CHOSEN, with theirs and ours.
    """
    connections = [
        connection
        for connection in core.connections.values()
        if connection.version == IKE_MAJOR
        and (connection.remote is None or connection.remote.address == path.remote.address)
    ]
    key = (offered, tuple(connection.name for connection in connections))
    known = core.selections.get(key)
    if known is None:
        known = _choose(offered, connections)
        if len(core.selections) >= MAX_SELECTION_MEMO:
            core.selections.clear()
        core.selections[key] = known
    return known


def _choose(
    offered: SecurityAssociation, connections: list[ConnectionPolicy]
) -> tuple[Selection, tuple[ConnectionPolicy, ...]]:
    selection: Selection | None = None
    reasons: dict[str, NoProposalChosen] = {}
    candidates: list[ConnectionPolicy] = []
    for connection in connections:
        try:
            if selection is None:
                selection = select_ike(connection.ike_offer, offered)
            else:
                select_ike(connection.ike_offer, chosen_payload(selection))
            candidates.append(connection)
        except NoProposalChosen as nothing:
            reasons.setdefault(str(nothing), nothing)
    if selection is None:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            " / ".join(list(reasons)[:3]) or "no connection is configured for this address",
            "offer one of ours, or add one of theirs to ike_proposals",
            theirs=next((one.theirs for one in reasons.values()), ""),
            ours=", ".join(dict.fromkeys(one.ours for one in reasons.values())),
        )
    return selection, tuple(candidates)


def chosen_payload(selection: Selection, spi: bytes = b"") -> SecurityAssociation:
    """The SA payload that answers with the chosen proposal."""
    proposal = Proposal(selection.proposal_number, ProtocolId.IKE, spi, tuple(selection.transforms))
    return SecurityAssociation((proposal,))


def take_capabilities(sa: IkeSa, view: Payloads, path: Path) -> None:
    """Note what the peer's IKE_SA_INIT says about NATs, fragments and signature hashes."""
    handshake = sa.handshake
    if handshake is None:
        return
    sources = view.notify_data(NotifyType.NAT_DETECTION_SOURCE_IP)
    destinations = view.notify_data(NotifyType.NAT_DETECTION_DESTINATION_IP)
    # The request's hashes are over a responder SPI of zero.
    spi_r = sa.responder_spi if sa.initiator else bytes(8)
    handshake.nat_t = bool(sources and destinations) or path.remote.stands_for_tcp
    if handshake.nat_t:
        sa.local_natted, sa.remote_natted = nat.detect(
            sa.initiator_spi, spi_r, path, sources, destinations
        )
    sa.fragmentation = view.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None
    hashes = view.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    if hashes is not None:
        data = hashes.data[:64]
        handshake.peer_hashes = tuple(
            int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)
        )


def intermediate_support(offer: SuiteOffer) -> list[Payload]:
    """What an initiator says that offers additional key exchanges (RFC 9370 section 2.2.1)."""
    additional = any(spec.allowed(kind) for spec in offer.proposals for kind in ADDITIONAL_KE)
    return [Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)] if additional else []


def certificate_request(candidates: tuple[ConnectionPolicy, ...]) -> CertificateRequest | None:
    """The authorities under which the candidates take certificates."""
    authorities = b"".join(
        dict.fromkeys(
            connection.peer_auth.anchors.hash_list()
            for connection in candidates
            if connection.peer_auth.anchors is not None
        )
    )
    if not authorities:
        return None
    return CertificateRequest(CertEncoding.X509_SIGNATURE, authorities)


def _reply_payloads(
    sa: IkeSa, view: Payloads, selection: Selection, public: bytes, path: Path
) -> list[Payload]:
    handshake = sa.handshake
    if handshake is None:
        return []
    group: DhGroup = selection.suite.group
    payloads: list[Payload] = [
        chosen_payload(selection),
        KeyExchange(group, public),
        Nonce(handshake.nonce_r),
    ]
    if handshake.nat_t:
        force = any(connection.force_encapsulation for connection in handshake.candidates)
        payloads += nat.detection_notifies(
            sa.initiator_spi, sa.responder_spi, path, force_encapsulation=force
        )
        sa.encapsulate = sa.encapsulate or force
    if sa.fragmentation:
        payloads.append(Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
    if selection.suite.additional:
        payloads.append(Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
    if view.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS) is not None:
        payloads.append(Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, SIGNATURE_HASHES))
    request = certificate_request(handshake.candidates)
    if request is not None:
        payloads.append(request)
    if view.notify(NotifyType.USE_PPK) is not None:
        use_ppk = ppk.announce(handshake.candidates)
        handshake.peer_uses_ppk = bool(use_ppk)
        payloads += use_ppk
    if any(one.peer_auth.user and one.peer_auth.device_too for one in handshake.candidates):
        payloads.append(Notify(NotifyType.MULTIPLE_AUTH_SUPPORTED))
    if any(connection.childless for connection in handshake.candidates):
        handshake.peer_is_childless = True
        payloads.append(Notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED))
    known = [one for one in vendor_ids(handshake.candidates) if one in view.vendor_ids]
    note_vendor_ids(sa, view.vendor_ids, known)
    payloads += [VendorId(one) for one in known]
    return payloads
