"""EAP inside IKE_AUTH as the initiator (RFC 7296 sections 2.16 and 3.16).

It begins only after the responder's AUTH was verified, with the certificate or key that the
connection demands: an impostor learns neither a password nor anything made from one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.eap.method import EapMethod
from gateway.eap.peer import EapPeer, Login, PeerStep
from gateway.eap.server import Outcome
from gateway.eap.tls import TlsParty
from gateway.ike.auth.credentials import PresharedKey, TrustAnchors
from gateway.ike.auth.identity import Identity
from gateway.ike.codec import Authentication, Eap, IdInitiator, Notify, Payload, describe_notify
from gateway.ike.core import Core
from gateway.ike.policy import ConnectionPolicy, UserCredential
from gateway.ike.refusal import Refused
from gateway.ike.registry import ExchangeType, IdType, NotifyType
from gateway.ike.v2 import exchange, ppk, proof
from gateway.ike.v2.sa import Evidence, IkeSa
from gateway.ike.v2.user_certificate import validate
from gateway.ike.v2.view import Payloads

if TYPE_CHECKING:
    from gateway.ike.v2.auth_exchange import AuthExchange


def begin(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    first: "AuthExchange",
    connection: ConnectionPolicy,
    view: Payloads,
    now: float,
) -> None:
    """Answer the responder's first EAP request, or say first who our user is.

    Raises:
        Refused: the responder has not proven itself, or wants no EAP.
    """
    if not sa.evidence & Evidence.PEER_AUTH:
        raise Refused(NotifyType.AUTHENTICATION_FAILED, "the peer has not proven itself")
    credential = connection.user_credential
    if credential is None:
        raise ValueError("nobody logs in")
    peer = EapPeer(_login(core, sa, credential), core.random)
    if not connection.device_too:
        _next(core, sa, UserExchange(first, peer, first.id), view, now)
        return
    if view.get(Eap) is not None:
        raise Refused(NotifyType.AUTHENTICATION_FAILED, "the peer asks for EAP before its turn")
    exchange.begin(core, sa, UserExchange(first, peer, _claim(credential.name)), now)


def problem(connection: ConnectionPolicy, view: Payloads) -> str | None:
    """Why the IKE_SA_INIT response cannot be used; None if it can."""
    if connection.user_credential is None or not connection.device_too:
        return None
    if view.notify(NotifyType.MULTIPLE_AUTH_SUPPORTED) is not None:
        return None
    return "the peer takes no proof of a user after that of the device (RFC 4739)"


def _claim(name: str) -> IdInitiator:
    """Who our user is, as the IDi payload of the second round."""
    try:
        identity = Identity.parse(name)
    except ValueError:
        identity = Identity(IdType.KEY_ID, name.encode())
    return IdInitiator(identity.type, identity.data)


def _login(core: Core, sa: IkeSa, credential: UserCredential) -> Login:
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    methods: list[EapMethod] = []
    party: TlsParty | None = None
    certificate = credential.certificate
    if certificate is not None and credential.anchors is not None:
        methods.append(EapMethod.TLS)
        anchors = credential.anchors.certificates
        party = TlsParty(certificate.certificates, certificate.private_key, anchors)
    if credential.password:
        methods.append(EapMethod.MSCHAPV2)
        if not isinstance(connection.peer_auth.preshared_key, PresharedKey):
            # A password in clear is only for whom a certificate vouches.
            methods.append(EapMethod.GTC)
    check = _ServerCheck(core, credential.anchors).check
    try:
        return Login(credential.name, tuple(methods), credential.password, party, check)
    except ValueError as missing:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"we cannot log in with EAP: {missing}",
            f"correct user_credential of connections.{connection.name}",
        ) from None


class _ServerCheck:
    """Whether the server's certificate in EAP-TLS is valid.

    Its name does not count: it may be that of a RADIUS server behind the gateway, which has
    proven itself already.
    """

    __slots__ = ("_anchors", "_core")

    def __init__(self, core: Core, anchors: TrustAnchors | None) -> None:
        self._core = core
        self._anchors = anchors

    def check(self, chain: tuple[bytes, ...], user: str) -> str | None:
        """The refusal, or None."""
        del user
        if self._anchors is None:
            return "nobody is trusted"
        try:
            validate(self._anchors, chain, self._core.wall_clock())
        except ValueError as refused:
            return str(refused)
        return None


class UserExchange(exchange.Exchange):
    """One of the IKE_AUTH exchanges that carry EAP; the last of them carries AUTH."""

    __slots__ = ("_first", "_id", "_msk", "_peer", "_send")
    name = "IKE_AUTH with EAP"
    exchange_type = ExchangeType.IKE_AUTH

    def __init__(self, first: "AuthExchange", peer: EapPeer, mine: IdInitiator) -> None:
        self._first = first
        self._id = mine
        """What AUTH after EAP is bound to."""
        self._peer = peer
        self._send = b""
        self._msk: bytes | None = None
        """The key, once EAP is over; empty when the method makes none."""

    def follow(self, packet: bytes) -> PeerStep:
        """Give a packet to our side of EAP, and remember what is to be sent next."""
        step = self._peer.receive(packet)
        self._send = step.send or b""
        if step.outcome is Outcome.SUCCESS:
            self._msk = step.msk
        return step

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:  # noqa: ARG002 - as in Exchange
        """Our next EAP response, or AUTH when EAP is over."""
        if self._msk is None:
            return [Eap(self._send)] if self._send else [self._id]
        connection, mine = sa.connection, self._id
        if connection is None:
            return None
        # Where the device has proven itself before, the PPK is settled.
        secret = None if connection.device_too else ppk.chosen(sa, connection)
        if secret is None:
            return [proof.own_proof_after_eap(sa, mine, self._msk)]
        ppk.use(sa, secret)
        payloads: list[Payload] = [
            proof.own_proof_after_eap(sa, mine, self._msk),
            ppk.identity(secret),
        ]
        if connection.ppk is not None and not connection.ppk.required:
            without = proof.own_proof_after_eap(sa, mine, self._msk, without_ppk=True)
            payloads.append(Notify(NotifyType.NO_PPK_AUTH, without.data))
        return payloads

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """The next EAP request, EAP's end, or the responder's AUTH."""
        connection = sa.connection
        if connection is None:
            return
        try:
            if self._msk is None:
                _next(core, sa, self, view, now)
                return
            if view.get(Eap) is not None:
                raise Refused(NotifyType.AUTHENTICATION_FAILED, "the peer goes on with EAP")
            _refuse_error(view)
            if not connection.device_too:
                ppk.settle(sa, connection, view)
            shown = view.get(Authentication)
            proof.verify_after_eap(sa, shown, self._first.id_responder, self._msk)
        except Refused as refused:
            believed = self._msk is not None and view.get(Authentication) is not None
            self._first.fail(core, sa, refused, now, believed=believed)
            return
        self._first.complete(core, sa, connection, view, now)


def _refuse_error(view: Payloads) -> None:
    error = view.error()
    if error is not None and view.get(Authentication) is None:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer answered {describe_notify(error.type)}",
            "check user name and password; see the peer's log for its reason",
        )


def _next(core: Core, sa: IkeSa, mine: UserExchange, view: Payloads, now: float) -> None:
    """Take an EAP packet out of a response and go on. Raises Refused."""
    packet = view.get(Eap)
    if packet is None:
        _refuse_error(view)
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            "the peer does not ask who our user is",
            "set the gateway to EAP, or remove user_credential",
        )
    step = mine.follow(packet.data)
    if step.outcome is Outcome.FAILURE:
        reason = step.reason or "the peer refused the login"
        raise Refused(NotifyType.AUTHENTICATION_FAILED, reason, step.remedy)
    exchange.begin(core, sa, mine, now)
