"""IKE_SA_INIT as the initiator (RFC 7296 sections 1.2, 2.6, 2.7)."""

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.wire import WireError
from gateway.ike import client
from gateway.ike.codec import (
    Header,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    describe_notify,
    parse_message,
    serialize_message,
)
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.crypto.proposals import NoProposalChosen, check_selected
from gateway.ike.draft_features import note_vendor_ids, vendor_ids
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.registry import DhGroup, ExchangeType, Flag, NotifyType, ProtocolId
from gateway.ike.v2 import (
    draft_notifies,
    eap_initiator,
    exchange,
    init,
    intermediate,
    keys,
    mobike,
    nat,
    ppk,
)
from gateway.ike.v2.auth_exchange import AuthExchange
from gateway.ike.v2.sa import IkeSa, State, transition
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


def start(
    core: Core, connection: ConnectionPolicy, now: float, *, replaces: IkeSa | None = None
) -> None:
    """Send the first IKE_SA_INIT request of a connection that names its remote endpoint.

    ``replaces`` is the IKE SA that goes when the new one is established.
    """
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
    if replaces is not None:
        handshake.replaces = replaces.local_spi
    handshake.nonce_i = core.random(init.NONCE_OCTETS)
    handshake.key_pair = dh.generate(connection.ike_offer.first_group())
    core.add_sa(sa)
    client.began(core, connection, sa)
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
        *init.intermediate_support(connection.ike_offer),
        *ppk.announce((connection,)),
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
    unusable = ppk.problem(connection, view) or eap_initiator.problem(connection, view)
    if unusable is not None:
        handshake.hint = unusable
        core.count("unauthenticated_errors")
        return
    answered = view.need(SecurityAssociation)
    theirs = view.need(KeyExchange)
    nonce = view.need(Nonce)
    pair = handshake.key_pair
    try:
        suite = check_selected(connection.ike_offer, answered).suite
        if theirs.group != pair.group or suite.group != pair.group:
            raise WireError(f"key exchange of group {theirs.group}, {pair.group} expected")
        if suite.additional and view.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is None:
            raise WireError("additional key exchanges, but no IKE_INTERMEDIATE to carry them")
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
    handshake.peer_uses_ppk = view.notify(NotifyType.USE_PPK) is not None
    supported = view.notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED) is not None
    handshake.peer_is_childless = supported and connection.childless
    init.take_capabilities(sa, view, path)
    note_vendor_ids(sa, view.vendor_ids, vendor_ids((connection,)))
    keys.install(sa, suite, shared, b"", None)
    intermediate.prepare(sa)
    handshake.wanted_authorities = b"".join(one.authorities for one in view.authorities)
    sa.encapsulate = handshake.nat_t and (
        sa.local_natted or sa.remote_natted or connection.force_encapsulation
    )
    if (
        handshake.nat_t
        and (sa.encapsulate or mobike.is_wanted(connection))
        and not sa.path.remote.stands_for_tcp
    ):
        port = core.settings.nat_port
        sa.path = Path(Endpoint(path.local.address, port), Endpoint(sa.path.remote.address, port))
    sa.window.outstanding = None
    core.timers.cancel((TimerKind.RETRANSMIT, sa.local_spi))
    core.timers.cancel((TimerKind.GIVE_UP, sa.local_spi))
    transition(core, sa, State.AUTH_SENT, "IKE_SA_INIT answered")
    following: exchange.Exchange = AuthExchange()
    if intermediate.is_pending(sa):
        following = intermediate.IntermediateExchange(following)
    exchange.begin(core, sa, following, now)
