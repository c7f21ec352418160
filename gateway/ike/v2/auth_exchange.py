"""IKE_AUTH as the initiator (RFC 7296 sections 1.2, 2.15), with the first child SA."""

from collections.abc import Sequence
from ipaddress import IPv4Address

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.wire import WireError
from gateway.ike import child_sas, client, closing, selectors
from gateway.ike.auth.identity import Identity
from gateway.ike.codec import (
    Authentication,
    Configuration,
    IdInitiator,
    IdResponder,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    describe_notify,
)
from gateway.ike.core import Core
from gateway.ike.crypto.proposals import NoProposalChosen, check_selected
from gateway.ike.draft_features import Features, wanted
from gateway.ike.draft_features import agreed as agreed_features
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import ExchangeType, NotifyType, ProtocolId
from gateway.ike.sa import Child
from gateway.ike.v2 import (
    auth,
    child,
    config_payload,
    deleting,
    draft_notifies,
    eap_initiator,
    exchange,
    failing,
    init,
    mobike,
    mobility_login,
    ocsp_questions,
    ppk,
    proof,
    reauthentication,
    transport_mode,
)
from gateway.ike.v2.sa import Evidence, IkeSa, State, transition
from gateway.ike.v2.view import Payloads


class AuthExchange(exchange.Exchange):
    """IKE_AUTH with the first child SA."""

    __slots__ = ("_asked", "_spi", "id", "id_responder")
    name = "IKE_AUTH"
    exchange_type = ExchangeType.IKE_AUTH

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """IDi, certificates, AUTH, CP, SA, TSi, TSr."""
        connection, handshake = sa.connection, sa.handshake
        if connection is None or handshake is None:
            return None
        mine = connection.local_id
        self.id = IdInitiator(mine.type, mine.data)
        self._spi = core.new_child_spi()
        payloads: list[Payload] = [self.id]
        own_auth: list[Payload] = []
        if connection.user_credential is None or connection.device_too:
            # Otherwise no AUTH at all: that asks for EAP.
            try:
                own_auth = self._prove(sa, connection)
            except Refused as refused:
                self.fail(core, sa, refused, now)
                return None
            payloads += proof.own_certificates(core, connection)
        asked = init.certificate_request((connection,))
        if asked is not None:
            payloads.append(asked)
        exact = connection.remote_id.exact
        if exact is not None and "*" not in connection.remote_id.text:
            payloads.append(IdResponder(exact.type, exact.data))
        payloads += own_auth
        if connection.user_credential is not None and connection.device_too:
            payloads.append(Notify(NotifyType.MULTIPLE_AUTH_SUPPORTED))
            payloads.append(Notify(NotifyType.ANOTHER_AUTH_FOLLOWS))
        old = reauthentication.replaced_by(core, sa)
        if old is None:
            payloads.append(Notify(NotifyType.INITIAL_CONTACT))
        if connection.request_inner_address:
            former = old.inner_addresses if old is not None else ()
            payloads.append(config_payload.request(sa, connection, former))
        if mobike.is_wanted(connection):
            payloads.append(Notify(NotifyType.MOBIKE_SUPPORTED))
        payloads += mobility_login.ask(sa)
        if handshake.peer_is_childless:
            return payloads
        local, remote = child_sas.allowed_selectors(sa, connection)
        try:
            self._asked = wanted(sa, connection, _asked_selectors(sa, connection, local), remote)
        except Refused as refused:
            self.fail(core, sa, refused, now)
            return None
        payloads += [
            connection.esp_offer.to_payload(
                ProtocolId.ESP, self._spi.to_bytes(4, "big"), with_group=False
            ),
            TrafficSelectorsInitiator(local),
            TrafficSelectorsResponder(remote),
            *transport_mode.notifies(connection),
            *draft_notifies.notifies(self._asked),
        ]
        return payloads

    def _prove(self, sa: IkeSa, connection: ConnectionPolicy) -> list[Payload]:
        """AUTH, with a PPK where both sides use one. Raises Refused."""
        secret = ppk.chosen(sa, connection)
        if secret is None:
            return [proof.own_auth(sa, connection, self.id)]
        ppk.use(sa, secret)
        payloads: list[Payload] = [
            proof.own_auth(sa, connection, self.id),
            ppk.identity(secret),
        ]
        if connection.ppk is not None and not connection.ppk.required:
            without = proof.own_auth(sa, connection, self.id, without_ppk=True)
            payloads.append(Notify(NotifyType.NO_PPK_AUTH, without.data))
        return payloads

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """Verify the responder, then take the child SA, or prove who our user is."""
        try:
            connection = self._authenticate(core, sa, view)
            if connection.user_credential is not None:
                # Whatever we say of the user, we say to a responder that has proven itself.
                eap_initiator.begin(core, sa, self, connection, view, now)
                return
        except proof.OcspNeeded as needed:
            ocsp_questions.ask_about_response(core, sa, needed, self, view, now)
            return
        except Refused as refused:
            self.fail(core, sa, refused, now, believed=view.get(Authentication) is not None)
            return
        self.complete(core, sa, connection, view, now)

    def complete(
        self, core: Core, sa: IkeSa, connection: ConnectionPolicy, view: Payloads, now: float
    ) -> None:
        """Both sides have proven themselves: take what the last response brings."""
        if ppk.is_used(sa):
            sa.auth += ppk.TITLE
        mobike.note_support(core, sa, view)
        mobility_login.take(core, sa, view, now)
        transition(core, sa, State.ESTABLISHED, "IKE_AUTH verified")
        first: Child | None = None
        refused_child: Refused | None = None
        childless = sa.handshake is not None and sa.handshake.peer_is_childless
        old = reauthentication.replaced_by(core, sa)
        try:
            if childless:
                self._take_address(sa, connection, view)
            else:
                first = self._first_child(core, sa, connection, view, old, now)
        except Refused as refused:
            refused_child = refused
        except WireError as malformed:
            refused_child = Refused(NotifyType.INVALID_SYNTAX, str(malformed))
        auth.established(core, sa, first, now)
        reauthentication.take_lifetime(core, sa, view, now)
        if refused_child is not None:
            self._report(core, sa, refused_child, "IKE_AUTH (child SA)")
            client.ended(core, sa, refused_child.reason, refused=True, hint=refused_child.remedy)
            deleting.delete_ike_sa(core, sa, refused_child.reason, now)
            return
        if childless:
            # The child SA gets an exchange, and where policy has groups a key exchange, of its own.
            core.version_of(sa).create_child(core, sa, core.take_reqid(connection.name), now)
        if old is not None:
            reauthentication.finish(core, old, sa, now)

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
        self.id_responder = theirs
        if connection.user_credential is None or connection.device_too:
            ppk.settle(sa, connection, view)
        proof.verify_peer(core, sa, connection, view, theirs, view.get(Authentication))
        return connection

    def _take_address(self, sa: IkeSa, connection: ConnectionPolicy, view: Payloads) -> None:
        """The inner address that the responder leases us, if we asked. Raises Refused."""
        assigned = config_payload.read_reply(view.get(Configuration))
        sa.assigned = assigned
        if connection.asks_inner_address(sa.peer_knows_vpn_fa):
            if not assigned.leases:
                raise Refused(
                    NotifyType.INTERNAL_ADDRESS_FAILURE, "the peer assigned no inner address"
                )
            sa.leases = assigned.leases

    def _first_child(  # noqa: PLR0917 - one fact each
        self,
        core: Core,
        sa: IkeSa,
        connection: ConnectionPolicy,
        view: Payloads,
        old: IkeSa | None,
        now: float,
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
        self._take_address(sa, connection, view)
        local, remote = child_sas.allowed_selectors(sa, connection)
        draft_notifies.take_advertised(core, sa, connection, view)
        agreed = read_agreed(
            connection, view, self._spi, local, remote, self._asked, with_group=False
        )
        of_us, of_peer = child.keys(sa, agreed.suite, handshake.nonce_i, handshake.nonce_r, b"")
        reqid = _reqid_of(old, agreed)
        return child_sas.install(core, sa, agreed, of_peer, of_us, now, reqid=reqid)

    def fail(
        self, core: Core, sa: IkeSa, refused: Refused, now: float, *, believed: bool = False
    ) -> None:
        """End it, for the administrator to read why.

        With ``believed`` the responder takes this SA for established, or goes on with EAP.
        """
        if believed:
            failing.say_farewell(core, sa)
        self._report(core, sa, refused, "IKE_AUTH")
        closing.close(core, sa, refused.reason, now, hint=refused.remedy)

    def _report(self, core: Core, sa: IkeSa, refused: Refused, step: str) -> None:
        peer = sa.peer_name if sa.peer_id is not None else sa.connection_name
        report_refusal(
            core, refused, peer, sa.path.remote, step, connection=sa.connection_name, sa=sa
        )


def _reqid_of(old: IkeSa | None, agreed: child_sas.Agreed) -> int | None:
    """That of the same child SA under the IKE SA that goes, as when it is rekeyed."""
    for one in old.children.values() if old is not None else ():
        if (one.local_ts, one.remote_ts) == (agreed.local_ts, agreed.remote_ts):
            return one.reqid
    return None


def _asked_selectors(
    sa: IkeSa, connection: ConnectionPolicy, local: tuple[TrafficSelector, ...]
) -> tuple[TrafficSelector, ...]:
    """Our side as it will be: a leased inner address is a single one, whichever it is."""
    if connection.asks_inner_address(sa.peer_knows_vpn_fa):
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
    transport_mode.need(connection, view)
    transport_mode.refuse_tunnel_wish(connection, view)
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
        connection.mode,
    )
