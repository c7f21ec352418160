"""IKE_SA_INIT and IKE_AUTH as the initiator (RFC 7296 sections 1.2, 2.6, 2.7, 2.15)."""

from collections.abc import Sequence
from ipaddress import IPv4Address

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.wire import WireError
from gateway.ike import child_sas, closing, selectors
from gateway.ike.auth.identity import Identity
from gateway.ike.codec import (
    Configuration,
    Header,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    describe_notify,
    parse_message,
    serialize_message,
)
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.crypto.proposals import NoProposalChosen, check_selected
from gateway.ike.draft_features import Features, note_vendor_ids, vendor_ids, wanted
from gateway.ike.draft_features import agreed as agreed_features
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import DhGroup, ExchangeType, Flag, NotifyType, ProtocolId
from gateway.ike.sa import Child
from gateway.ike.v2 import (
    auth,
    child,
    config_payload,
    deleting,
    draft_notifies,
    exchange,
    init,
    mobike,
    nat,
    proof,
)
from gateway.ike.v2.sa import Evidence, IkeSa, State, transition
from gateway.ike.v2.view import Payloads

MAX_RETRIES = 4
"""Answers to COOKIE and INVALID_KE_PAYLOAD in one attempt."""
NO_PROPOSAL_WAIT_S = 2.0
"""How long after an unauthenticated NO_PROPOSAL_CHOSEN a better answer may still come."""


class InitExchange(exchange.Exchange):
    """The unprotected first exchange; its response is handled by :func:`receive_response`."""

    __slots__ = ()
    name = "IKE_SA_INIT"
    exchange_type = ExchangeType.IKE_SA_INIT


def start(core: Core, connection: ConnectionPolicy, now: float) -> None:
    """Send the first IKE_SA_INIT request of a connection that names its remote endpoint."""
    if connection.remote is None:
        raise ValueError(f"connection {connection.name} has no remote endpoint")
    remote = connection.remote
    unspecified = type(remote.address)(0)
    local = connection.local or Endpoint(unspecified, 500)
    sa = IkeSa(core.new_ike_spi(), bytes(8), initiator=True, path=Path(local, remote), now=now)
    sa.connection = connection
    sa.local_id = connection.local_id
    handshake = sa.handshake
    if handshake is None:
        return
    handshake.nonce_i = core.random(init.NONCE_OCTETS)
    handshake.key_pair = dh.generate(connection.ike_offer.first_group())
    core.add_sa(sa)
    transition(core, sa, State.INIT_SENT, f"initiating {connection.name}")
    core.count("handshakes_initiated")
    _send_request(core, sa, connection, now)


def _send_request(core: Core, sa: IkeSa, connection: ConnectionPolicy, now: float) -> None:
    handshake = sa.handshake
    if handshake is None or handshake.key_pair is None:
        return
    pair = handshake.key_pair
    payloads: list[Payload] = []
    if handshake.cookie:
        payloads.append(Notify(NotifyType.COOKIE, handshake.cookie))
    payloads += [
        connection.ike_offer.to_payload(ProtocolId.IKE, b""),
        KeyExchange(pair.group, pair.public),
        Nonce(handshake.nonce_i),
        *nat.detection_notifies(
            sa.initiator_spi,
            bytes(8),
            sa.path,
            force_encapsulation=connection.force_encapsulation,
        ),
        Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, init.SIGNATURE_HASHES),
        *draft_notifies.vendor_id_payloads((connection,)),
    ]
    message = serialize_message(
        sa.initiator_spi,
        bytes(8),
        exchange=ExchangeType.IKE_SA_INIT,
        flags=Flag.INITIATOR,
        message_id=0,
        payloads=payloads,
    )
    handshake.init_request = message
    sa.window.next_request = 0
    exchange.send_request(core, sa, InitExchange(), (message,), now)


def receive_response(  # noqa: PLR0917 - one fact each
    core: Core, sa: IkeSa, octets: bytes, header: Header, path: Path, now: float
) -> None:
    """Act on an answer that nobody vouches for: it may start the next step, never end the SA.

    Raises WireError for malformed answers.
    """
    handshake, connection = sa.handshake, sa.connection
    if sa.state is not State.INIT_SENT or handshake is None or connection is None:
        core.count("responses_unexpected")
        return
    if path.remote != sa.path.remote:
        core.count("responses_from_elsewhere")
        return
    if len(octets) > init.MAX_INIT_OCTETS or header.message_id != 0:
        raise WireError("IKE_SA_INIT response too large or with a message id")
    view = Payloads(parse_message(octets, header).payloads)
    cookie = view.notify(NotifyType.COOKIE)
    other_group = view.notify(NotifyType.INVALID_KE_PAYLOAD)
    error = view.error()
    if cookie is not None:
        _retry_with_cookie(core, sa, connection, cookie.data, now)
    elif other_group is not None:
        _retry_with_group(core, sa, connection, other_group.data, now)
    elif error is not None:
        handshake.hint = f"the peer answered {describe_notify(error.type)} to IKE_SA_INIT"
        core.count("unauthenticated_errors")
        if error.type == NotifyType.NO_PROPOSAL_CHOSEN:
            core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + NO_PROPOSAL_WAIT_S)
    elif any(header.responder_spi):
        _accept(core, sa, connection, view, octets, header, path, now)
    else:
        raise WireError("IKE_SA_INIT response without a responder SPI")


def _retry_with_cookie(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, cookie: bytes, now: float
) -> None:
    handshake = sa.handshake
    if handshake is None or handshake.retries >= MAX_RETRIES or not 1 <= len(cookie) <= 64:
        core.count("retries_refused")
        return
    handshake.retries += 1
    handshake.cookie = cookie
    _send_request(core, sa, connection, now)


def _retry_with_group(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, data: bytes, now: float
) -> None:
    handshake = sa.handshake
    group = int.from_bytes(data, "big")
    offered = connection.ike_offer.groups()
    if (
        handshake is None
        or handshake.key_pair is None
        or handshake.retries >= MAX_RETRIES
        or len(data) != 2
        or group not in offered
        or group == handshake.key_pair.group
    ):
        core.count("retries_refused")
        return
    handshake.retries += 1
    handshake.key_pair = dh.generate(DhGroup(group))
    _send_request(core, sa, connection, now)


def _accept(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    view: Payloads,
    octets: bytes,
    header: Header,
    path: Path,
    now: float,
) -> None:
    handshake = sa.handshake
    if handshake is None or handshake.key_pair is None:
        return
    answered = view.need(SecurityAssociation)
    theirs = view.need(KeyExchange)
    nonce = view.need(Nonce)
    pair = handshake.key_pair
    try:
        suite = check_selected(connection.ike_offer, answered).suite
        if theirs.group != pair.group or suite.group != pair.group:
            raise WireError(f"key exchange of group {theirs.group}, {pair.group} expected")
        shared = pair.shared_secret(theirs.data)
    except (NoProposalChosen, dh.InvalidKeyExchange) as wrong:
        handshake.hint = f"the answer to IKE_SA_INIT was unusable: {wrong}"
        core.count("unauthenticated_errors")
        return
    sa.responder_spi = header.responder_spi
    sa.path = Path(path.local, sa.path.remote)
    core.own_addresses.add(path.local.address)
    handshake.nonce_r = nonce.data
    handshake.init_response = octets
    init.take_capabilities(sa, view, path)
    note_vendor_ids(sa, view.vendor_ids, vendor_ids((connection,)))
    init.install_keys(sa, suite, shared, b"", None)
    handshake.wanted_authorities = b"".join(one.authorities for one in view.authorities)
    sa.encapsulate = handshake.nat_t and (
        sa.local_natted or sa.remote_natted or connection.force_encapsulation
    )
    if handshake.nat_t and (sa.encapsulate or connection.mobike):
        port = core.settings.nat_port
        sa.path = Path(Endpoint(path.local.address, port), Endpoint(sa.path.remote.address, port))
    sa.window.outstanding = None
    core.timers.cancel((TimerKind.RETRANSMIT, sa.local_spi))
    core.timers.cancel((TimerKind.GIVE_UP, sa.local_spi))
    transition(core, sa, State.AUTH_SENT, "IKE_SA_INIT answered")
    exchange.begin(core, sa, AuthExchange(), now)


class AuthExchange(exchange.Exchange):
    """IKE_AUTH with the first child SA."""

    __slots__ = ("_asked", "_id", "_spi")
    name = "IKE_AUTH"
    exchange_type = ExchangeType.IKE_AUTH

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """IDi, certificates, AUTH, CP, SA, TSi, TSr."""
        connection, handshake = sa.connection, sa.handshake
        if connection is None or handshake is None:
            return None
        mine = connection.local_id
        self._id = IdInitiator(mine.type, mine.data)
        self._spi = core.new_child_spi()
        try:
            *certificates, own_auth = proof.own_proof(core, sa, connection, self._id)
        except Refused as refused:
            self._fail(core, sa, refused, now)
            return None
        payloads: list[Payload] = [self._id, *certificates]
        asked = init.certificate_request((connection,))
        if asked is not None:
            payloads.append(asked)
        exact = connection.remote_id.exact
        if exact is not None and "*" not in connection.remote_id.text:
            payloads.append(IdResponder(exact.type, exact.data))
        payloads += [own_auth, Notify(NotifyType.INITIAL_CONTACT)]
        if connection.request_inner_address:
            payloads.append(config_payload.request())
        local, remote = child_sas.allowed_selectors(sa, connection)
        try:
            self._asked = wanted(sa, connection, _asked_selectors(connection, local), remote)
        except Refused as refused:
            self._fail(core, sa, refused, now)
            return None
        payloads += [
            connection.esp_offer.to_payload(
                ProtocolId.ESP, self._spi.to_bytes(4, "big"), with_group=False
            ),
            TrafficSelectorsInitiator(local),
            TrafficSelectorsResponder(remote),
            *draft_notifies.notifies(self._asked),
        ]
        if connection.mobike:
            payloads.append(Notify(NotifyType.MOBIKE_SUPPORTED))
        return payloads

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """Verify the responder, then take the child SA."""
        try:
            connection = self._authenticate(core, sa, view)
        except Refused as refused:
            self._fail(core, sa, refused, now)
            # The responder believes in this SA; tell it the truth (RFC 7296 section 2.21.2).
            return
        mobike.note_support(core, sa, view)
        transition(core, sa, State.ESTABLISHED, "IKE_AUTH verified")
        first: Child | None = None
        refused_child: Refused | None = None
        try:
            first = self._first_child(core, sa, connection, view, now)
        except Refused as refused:
            refused_child = refused
        except WireError as malformed:
            refused_child = Refused(NotifyType.INVALID_SYNTAX, str(malformed))
        auth.established(core, sa, first, now)
        if refused_child is not None:
            self._report(core, sa, refused_child, "IKE_AUTH (child SA)")
            deleting.delete_ike_sa(core, sa, refused_child.reason, now)

    def _authenticate(self, core: Core, sa: IkeSa, view: Payloads) -> ConnectionPolicy:
        connection = sa.connection
        if connection is None:
            raise ValueError("no connection")
        theirs = view.get(IdResponder)
        error = view.error()
        if theirs is None:
            said = describe_notify(error.type) if error is not None else "a reply without IDr"
            raise Refused(
                NotifyType.AUTHENTICATION_FAILED,
                f"the peer answered {said}",
                "see the peer's log for its reason",
            )
        sa.peer_id = Identity(theirs.id_type, theirs.data)
        if not connection.remote_id.matches(sa.peer_id):
            raise Refused(
                NotifyType.AUTHENTICATION_FAILED,
                f"the peer is {sa.peer_id}, expected {connection.remote_id}",
                f"correct remote_id of {connection.name}",
                theirs=str(sa.peer_id),
                ours=str(connection.remote_id),
            )
        sa.evidence |= Evidence.PEER_IDENTITY
        proof.verify_peer(core, sa, connection, view, theirs)
        return connection

    def _first_child(
        self, core: Core, sa: IkeSa, connection: ConnectionPolicy, view: Payloads, now: float
    ) -> Child:
        handshake = sa.handshake
        error = view.error()
        if error is not None or handshake is None:
            said = describe_notify(error.type) if error is not None else "nothing"
            raise Refused(
                NotifyType.NO_PROPOSAL_CHOSEN,
                f"the peer refused the child SA with {said}",
                "see the peer's log for its reason",
            )
        assigned = config_payload.read_reply(view.get(Configuration))
        local, remote = child_sas.allowed_selectors(sa, connection)
        if connection.request_inner_address:
            if assigned.address is None:
                raise Refused(
                    NotifyType.INTERNAL_ADDRESS_FAILURE, "the peer assigned no inner address"
                )
            sa.inner_address = assigned.address
            local = (TrafficSelector.of_address(assigned.address),)
        draft_notifies.take_advertised(core, sa, connection, view)
        agreed = read_agreed(
            connection, view, self._spi, local, remote, self._asked, with_group=False
        )
        of_us, of_peer = child.keys(sa, agreed.suite, handshake.nonce_i, handshake.nonce_r, b"")
        return child_sas.install(core, sa, agreed, of_peer, of_us, now)

    def _fail(self, core: Core, sa: IkeSa, refused: Refused, now: float) -> None:
        self._report(core, sa, refused, "IKE_AUTH")
        closing.close(core, sa, refused.reason, now)

    def _report(self, core: Core, sa: IkeSa, refused: Refused, step: str) -> None:
        peer = sa.peer_name if sa.peer_id is not None else sa.connection_name
        report_refusal(core, refused, peer, sa.path.remote, step, connection=sa.connection_name)


def _asked_selectors(
    connection: ConnectionPolicy, local: tuple[TrafficSelector, ...]
) -> tuple[TrafficSelector, ...]:
    """Our side as it will be: a leased inner address is a single one, whichever it is."""
    if connection.request_inner_address:
        return (TrafficSelector.of_address(IPv4Address(0)),)
    return local


def read_agreed(  # noqa: PLR0917 - one fact each
    connection: ConnectionPolicy,
    view: Payloads,
    spi_in: int,
    local: tuple[TrafficSelector, ...],
    remote: tuple[TrafficSelector, ...],
    asked: Features,
    *,
    with_group: bool,
) -> child_sas.Agreed:
    """What the responder chose from our offer of a child SA.

    ``local`` and ``remote`` are the selectors that we offered, or less.

    Raises:
        Refused: it chose what we did not offer.
        WireError: a payload is missing.
    """
    answered = view.need(SecurityAssociation)
    try:
        selection = check_selected(connection.esp_offer, answered, with_group=with_group)
    except NoProposalChosen as wrong:
        raise Refused(NotifyType.NO_PROPOSAL_CHOSEN, f"the peer's choice: {wrong}") from None
    spi_out = child.spi_of(answered, selection.proposal_number)
    local_ts = selectors.narrow(child.known(view.need(TrafficSelectorsInitiator).selectors), local)
    remote_ts = selectors.narrow(
        child.known(view.need(TrafficSelectorsResponder).selectors), remote
    )
    if not local_ts or not remote_ts:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            "the peer chose traffic selectors that were not offered",
            theirs=f"{view.need(TrafficSelectorsInitiator)}"[:200],
            ours=f"{selectors.describe(local)} === {selectors.describe(remote)}",
        )
    features = agreed_features(connection, asked, draft_notifies.asked_in(view))
    return child_sas.Agreed(
        spi_in,
        spi_out,
        selection.suite,
        selection.group,
        local_ts,
        remote_ts,
        features.endpoint_update,
        features.vpn_fa,
    )
