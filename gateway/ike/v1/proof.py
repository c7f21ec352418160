"""Proving who we are in phase 1 and judging the peer's proof (RFC 2409 section 5)."""

import hmac
from collections.abc import Sequence

from gateway.ike import users
from gateway.ike.auth.credentials import (
    CertificateRefused,
    LocalCredential,
    PresharedKey,
    TrustAnchors,
)
from gateway.ike.auth.identity import Identity
from gateway.ike.auth.methods import AuthenticationRefused
from gateway.ike.auth.revocation import RevocationPending
from gateway.ike.core import Core
from gateway.ike.crypto.prf import Prf
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.v1 import keys, signatures
from gateway.ike.v1.codec import (
    Certificate,
    CertificateRequest,
    Hash,
    Identification,
    Payload,
    Signature,
    find,
    find_all,
)
from gateway.ike.v1.codec.registry import CertEncoding
from gateway.ike.v1.sa import AuthMethod, Evidence, IkeSa

MAX_CERTIFICATES = 8
"""Of a chain that the peer sends."""
MAX_AUTHORITIES = 16
"""Certificate requests in one message of ours."""
_UDP = 17
_PORTS = frozenset({0, 500, 4500})


class Pending(Exception):  # noqa: N818 - named for what it is
    """The proof is right, but an OCSP responder must be asked about the certificate."""

    def __init__(self, pending: RevocationPending, chain: tuple[bytes, ...]) -> None:
        super().__init__(str(pending))
        self.request = pending.request
        self.chain = chain


def own_id(connection: ConnectionPolicy) -> Identification:
    """Our ID payload of phase 1."""
    return Identification(connection.local_id.type, connection.local_id.data)


def peer_identity(identification: Identification) -> Identity:
    """The identity of an ID payload of phase 1.

    Raises:
        Refused: it is bound to another protocol or port than IKE's own (RFC 2407 section 4.6.2).
    """
    protocol, port = identification.protocol, identification.port
    if (protocol, port) != (0, 0) and (protocol != _UDP or port not in _PORTS):
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer's identity is for protocol {protocol}, port {port}",
            "phase 1 identities have protocol 0, or UDP and port 500",
        )
    return Identity(identification.id_type, identification.data)


def certificate_requests(connections: Sequence[ConnectionPolicy]) -> list[Payload]:
    """CR payloads: the authorities under which these connections take certificates."""
    names: dict[bytes, None] = {}
    for connection in connections:
        anchors = connection.peer_auth.anchors
        for anchor in anchors.certificates if anchors is not None else ():
            names[anchor.subject.public_bytes()] = None
    return [
        CertificateRequest(CertEncoding.X509_SIGNATURE, name)
        for name in list(names)[:MAX_AUTHORITIES]
    ]


def hash_of(sa: IkeSa, id_body: bytes, *, of_initiator: bool) -> bytes:
    """HASH_I or HASH_R over an identity."""
    phase, suite, made = sa.phase1, sa.suite, sa.keys
    if phase is None or suite is None or made is None or sa.auth_method is None:
        raise ValueError("no keys yet")
    prf = signatures.prf_of_hash(sa.auth_method, Prf.of(suite.prf))
    compute = keys.hash_i if of_initiator else keys.hash_r
    return compute(
        prf,
        made,
        phase.public_i,
        phase.public_r,
        sa.initiator_spi,
        sa.responder_spi,
        phase.sa_body,
        id_body,
    )


def own_proof(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, identification: Identification
) -> list[Payload]:
    """Our certificates, as far as policy sends them, and our HASH or SIG payload.

    Raises:
        Refused: our key cannot make the signature that was negotiated.
    """
    made = hash_of(sa, identification.body(), of_initiator=sa.initiator)
    method, credential = sa.auth_method, connection.local_credential
    unsigned = method is AuthMethod.HYBRID_INIT_RSA and sa.initiator
    if method is None or method.with_key or unsigned:
        return [Hash(made)]
    if not isinstance(credential, LocalCredential):
        raise ValueError("a signature without a certificate")
    try:
        signature = signatures.sign(credential, method, made)
    except AuthenticationRefused as refused:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"our key cannot sign for this peer: {refused}",
            f"give {connection.name} another certificate",
        ) from None
    payloads: list[Payload] = []
    if connection.send_certificate:
        payloads += [
            Certificate(CertEncoding.X509_SIGNATURE, der)
            for der in core.certificates_of(credential)
        ]
    return [*payloads, Signature(signature)]


def hash_fits(sa: IkeSa, payloads: Sequence[Payload], identification: Identification) -> bool:
    """Whether the peer's HASH payload is right: it has the keys, pre-shared one included."""
    theirs = find(payloads, Hash)
    made = hash_of(sa, identification.body(), of_initiator=not sa.initiator)
    return theirs is not None and hmac.compare_digest(made, theirs.data)


def verify_peer(
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    payloads: Sequence[Payload],
    identification: Identification,
) -> None:
    """Judge the peer's proof and collect the evidence.

    Raises:
        Refused: AUTHENTICATION_FAILED, whose reason is for the administrator only.
        Pending: all is well but for the revocation check.
    """
    method = sa.auth_method
    if method is None:
        raise ValueError("no authentication method")
    unsigned = method is AuthMethod.HYBRID_INIT_RSA and not sa.initiator
    if method.with_key or unsigned:
        if not hash_fits(sa, payloads, identification):
            raise Refused(
                NotifyType.AUTHENTICATION_FAILED,
                f"the pre-shared key is not that of connection {connection.name}"
                if method.with_key
                else "the HASH payload is missing or wrong",
                "enter the same key on both sides" if method.with_key else "",
            )
        if not unsigned:
            sa.evidence |= Evidence.PEER_AUTH
        return
    _verify_signature(core, sa, connection, payloads, identification)


def _verify_signature(
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    payloads: Sequence[Payload],
    identification: Identification,
) -> None:
    anchors, method, peer = connection.peer_auth.anchors, sa.auth_method, sa.peer_id
    signature = find(payloads, Signature)
    if anchors is None or method is None or peer is None:
        raise ValueError("a signature that nobody can judge")
    if signature is None:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            "the peer sent no signature",
            "make both sides use the same kind of authentication",
        )
    chain = tuple(
        one.data
        for one in find_all(payloads, Certificate)
        if one.encoding == CertEncoding.X509_SIGNATURE
    )
    if not chain:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            "the peer sent no X.509 certificate",
            "set the peer to send its certificate always",
        )
    if len(chain) > MAX_CERTIFICATES:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer sent {len(chain)} certificates, at most {MAX_CERTIFICATES} are allowed",
        )
    made = hash_of(sa, identification.body(), of_initiator=not sa.initiator)
    pending: RevocationPending | None = None
    try:
        leaf = anchors.validate(chain, peer, core.wall_clock())
    except RevocationPending as asking:
        pending, leaf = asking, asking.leaf
    except CertificateRefused as refused:
        raise _certificate_refused(refused) from None
    try:
        signatures.verify(leaf, method, made, signature.data)
    except AuthenticationRefused as refused:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the signature was refused: {refused}",
            "check that certificate and private key of the peer belong together",
        ) from None
    users.refuse_blocked_certificate(core, leaf)
    sa.evidence |= Evidence.PEER_AUTH
    if pending is not None:
        raise Pending(pending, chain)
    sa.evidence |= Evidence.PEER_CERTIFICATE


def validate_again(core: Core, sa: IkeSa, anchors: TrustAnchors, chain: tuple[bytes, ...]) -> None:
    """Judge a certificate again whose signature was verified, with an OCSP answer at hand.

    Raises as :func:`verify_peer` does.
    """
    if sa.peer_id is None or not sa.evidence & Evidence.PEER_AUTH:
        raise ValueError("no verified signature")
    try:
        anchors.validate(chain, sa.peer_id, core.wall_clock())
    except RevocationPending as asking:
        raise Pending(asking, chain) from None
    except CertificateRefused as refused:
        raise _certificate_refused(refused) from None
    sa.evidence |= Evidence.PEER_CERTIFICATE


def _certificate_refused(refused: CertificateRefused) -> Refused:
    return Refused(
        NotifyType.AUTHENTICATION_FAILED, str(refused), "renew or replace the certificate"
    )


def preshared_keys(connections: Sequence[ConnectionPolicy]) -> tuple[PresharedKey, ...]:
    """The different keys of these connections, in their order."""
    found: dict[bytes, PresharedKey] = {}
    for connection in connections:
        key = connection.peer_auth.preshared_key
        if key is not None:
            found.setdefault(key.secret, key)
    return tuple(found.values())
