"""Making our AUTH payload and judging the peer's (RFC 7296 section 2.15, RFC 7427)."""

import hmac

from gateway.ike import users
from gateway.ike.auth import methods
from gateway.ike.auth.credentials import (
    CertificateRefused,
    PresharedKey,
    RevocationPending,
    TrustAnchors,
)
from gateway.ike.auth.ocsp import OcspRequest
from gateway.ike.codec import Authentication, Certificate, Identification, Payload
from gateway.ike.core import Core
from gateway.ike.crypto.prf import Prf
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import AuthMethod, CertEncoding, NotifyType
from gateway.ike.v2 import intermediate
from gateway.ike.v2.sa import Evidence, IkeSa
from gateway.ike.v2.view import Payloads

MAX_CERTIFICATES = 8
"""Of a chain that the peer sends."""


class OcspNeeded(Exception):  # noqa: N818 - not a fault
    """A peer proved that it has its key; whether its certificate was revoked must be asked."""

    def __init__(self, anchors: TrustAnchors, request: OcspRequest) -> None:
        super().__init__(request.url)
        self.anchors = anchors
        self.request = request


def _octets(
    sa: IkeSa, identification: Identification, *, of_initiator: bool, without_ppk: bool = False
) -> bytes:
    """What the initiator or the responder signs."""
    handshake, suite = sa.handshake, sa.suite
    keys = handshake.keys if handshake is not None else None
    if handshake is None or keys is None or suite is None:
        raise ValueError("no handshake")
    if without_ppk:
        keys = handshake.plain_keys or keys
    if of_initiator:
        message, nonce, key = handshake.init_request, handshake.nonce_r, keys.sk_pi
    else:
        message, nonce, key = handshake.init_response, handshake.nonce_i, keys.sk_pr
    octets = methods.signed_octets(Prf.of(suite.prf), key, message, nonce, identification.body())
    return octets + intermediate.auth_octets(sa)


def own_certificates(core: Core, connection: ConnectionPolicy) -> list[Payload]:
    """Our certificates, as far as policy sends them."""
    credential = connection.local_credential
    if isinstance(credential, PresharedKey) or not connection.send_certificate:
        return []
    return [
        Certificate(CertEncoding.X509_SIGNATURE, der) for der in core.certificates_of(credential)
    ]


def own_auth(
    sa: IkeSa,
    connection: ConnectionPolicy,
    identification: Identification,
    *,
    without_ppk: bool = False,
) -> Authentication:
    """Our AUTH payload.

    Raises:
        Refused: the peer accepts no signature that our key can make.
    """
    octets = _octets(sa, identification, of_initiator=sa.initiator, without_ppk=without_ppk)
    handshake, suite = sa.handshake, sa.suite
    if handshake is None or suite is None:
        raise ValueError("no handshake")
    credential = connection.local_credential
    if isinstance(credential, PresharedKey):
        data = methods.psk_auth(Prf.of(suite.prf), credential, octets)
        return Authentication(AuthMethod.SHARED_KEY, data)
    try:
        method, data = methods.sign(credential, octets, handshake.peer_hashes)
    except methods.AuthenticationRefused as refused:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"our key cannot sign for this peer: {refused}",
            f"give {connection.name} another certificate",
        ) from None
    return Authentication(method, data)


def verify_peer(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    view: Payloads,
    identification: Identification,
    proof: Authentication | None,
) -> None:
    """Judge the peer's AUTH payload and collect the evidence.

    Raises:
        Refused: AUTHENTICATION_FAILED, whose reason is for the administrator only.
        OcspNeeded: the proof is right, but a responder must be asked about the certificate.
    """
    if proof is None:
        raise Refused(NotifyType.AUTHENTICATION_FAILED, "the peer sent no AUTH payload")
    octets = _octets(sa, identification, of_initiator=not sa.initiator)
    if proof.method == AuthMethod.SHARED_KEY:
        _verify_psk(sa, connection, proof, octets)
        sa.evidence |= Evidence.PEER_AUTH
        sa.auth = "pre-shared key"
        return
    _verify_signature(core, sa, connection, view, proof, octets)


def _verify_psk(
    sa: IkeSa, connection: ConnectionPolicy, proof: Authentication, octets: bytes
) -> None:
    secret = connection.peer_auth.preshared_key
    if secret is None or sa.suite is None:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer proves itself with a pre-shared key, {connection.name} wants a certificate",
            "make both sides use the same kind of authentication",
        )
    expected = methods.psk_auth(Prf.of(sa.suite.prf), secret, octets)
    if not hmac.compare_digest(expected, proof.data):
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the pre-shared key is not that of connection {connection.name}",
            "enter the same key on both sides",
        )


def _verify_signature(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    view: Payloads,
    proof: Authentication,
    octets: bytes,
) -> None:
    anchors = connection.peer_auth.anchors
    if anchors is None:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer signs (method {proof.method}), {connection.name} wants a pre-shared key",
            "make both sides use the same kind of authentication",
        )
    chain = [
        certificate.data
        for certificate in view.certificates
        if certificate.encoding == CertEncoding.X509_SIGNATURE
    ]
    if not chain:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            "the peer sent no X.509 certificate",
            "set the client to send its certificate",
        )
    if len(chain) > MAX_CERTIFICATES:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer sent {len(chain)} certificates, at most {MAX_CERTIFICATES} are allowed",
        )
    if sa.peer_id is None:
        raise ValueError("no identity")
    pending: RevocationPending | None = None
    try:
        leaf = anchors.validate(chain, sa.peer_id, core.wall_clock())
    except RevocationPending as waiting:
        leaf, pending = waiting.leaf, waiting
    except CertificateRefused as refused:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED, str(refused), "renew or replace the certificate"
        ) from None
    try:
        methods.verify(leaf, proof.method, proof.data, octets)
    except methods.AuthenticationRefused as refused:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the signature was refused: {refused}",
            "check that certificate and private key of the peer belong together",
        ) from None
    users.refuse_blocked_certificate(core, leaf)
    if pending is not None:
        # Nobody but the holder of the key makes us ask.
        raise OcspNeeded(anchors, pending.request)
    sa.evidence |= Evidence.PEER_CERTIFICATE | Evidence.PEER_AUTH
    sa.auth = "certificate"


def _user_key(
    sa: IkeSa, msk: bytes, *, of_initiator: bool, without_ppk: bool = False
) -> PresharedKey:
    """What stands for the shared key after EAP: SK_pi or SK_pr where the method made none."""
    keys = sa.handshake.keys if sa.handshake is not None else None
    if sa.handshake is None or keys is None:
        raise ValueError("no handshake")
    if without_ppk:
        keys = sa.handshake.plain_keys or keys
    return PresharedKey(msk or (keys.sk_pi if of_initiator else keys.sk_pr))


def own_proof_after_eap(
    sa: IkeSa, identification: Identification, msk: bytes, *, without_ppk: bool = False
) -> Authentication:
    """Our AUTH payload over the EAP method's key (RFC 7296 section 2.16)."""
    if sa.suite is None:
        raise ValueError("no handshake")
    mine = sa.initiator
    octets = _octets(sa, identification, of_initiator=mine, without_ppk=without_ppk)
    key = _user_key(sa, msk, of_initiator=mine, without_ppk=without_ppk)
    data = methods.psk_auth(Prf.of(sa.suite.prf), key, octets)
    return Authentication(AuthMethod.SHARED_KEY, data)


def verify_after_eap(
    sa: IkeSa, proof: Authentication | None, identification: Identification, msk: bytes
) -> None:
    """Judge the AUTH payload that the peer made with the EAP method's key.

    Raises:
        Refused: AUTHENTICATION_FAILED.
    """
    if proof is None or sa.suite is None:
        raise Refused(NotifyType.AUTHENTICATION_FAILED, "no AUTH payload after EAP")
    octets = _octets(sa, identification, of_initiator=not sa.initiator)
    key = _user_key(sa, msk, of_initiator=not sa.initiator)
    expected = methods.psk_auth(Prf.of(sa.suite.prf), key, octets)
    right_method = proof.method == AuthMethod.SHARED_KEY
    if not hmac.compare_digest(expected, proof.data) or not right_method:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            "the AUTH payload after EAP was not made with the key of this login",
            "if this goes on, somebody may be between the peer and us",
        )
    sa.evidence |= Evidence.USER
