"""The fingerprint of a connection: whether an SA of a former process may live on under it.

What counts is what ``commands.compatible`` compares of two connections of one process. Our own
credential does not: a renewed certificate must not end sessions.
"""

from hashlib import blake2b

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.domain.child_sa import Mode, TrafficSelector
from gateway.domain.remote_access import Presence
from gateway.ike.auth.credentials import TrustAnchors
from gateway.ike.auth.identity import Identity
from gateway.ike.policy import ConnectionPolicy, PeerAuth, UserAuth
from gateway.ike.sa import IkeSa

FINGERPRINT_OCTETS = 16


def of_sa(sa: IkeSa) -> bytes:
    """The fingerprint of the connection that an SA is under. Raises ValueError without one."""
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    known = sa.policy_mark
    if known is None or known[0] is not connection:
        known = sa.policy_mark = (connection, fingerprint(connection))
    return known[1]


def fingerprint(connection: ConnectionPolicy) -> bytes:
    """16 octets over all that an SA depends on; secrets are in it, but cannot be read from it."""
    remote = connection.remote
    parts = (
        str(connection.version),
        _identity(connection.local_id),
        _peer_auth(connection.peer_auth),
        _selectors(connection.local_ts),
        _selectors(connection.remote_ts),
        repr(connection.pool),
        "" if remote is None else str(remote),
        str(connection.force_encapsulation),
        *_inside(connection),
    )
    return blake2b(
        "\0".join(parts).encode("utf-8", "backslashreplace"), digest_size=FINGERPRINT_OCTETS
    ).digest()


def _inside(connection: ConnectionPolicy) -> tuple[str, ...]:
    """What is not as it was before there was anything else: records of then stay good."""
    if (connection.pool6, connection.presence, connection.mode) == _ONCE:
        return ()
    return repr(connection.pool6), connection.presence.value, connection.mode.value


_ONCE = (None, Presence.ADDRESS, Mode.TUNNEL)


def _identity(identity: Identity) -> str:
    return f"{int(identity.type)} {identity.data.hex()}"


def _selectors(selectors: tuple[TrafficSelector, ...]) -> str:
    return " ".join(
        f"{one.start}-{one.end}/{one.protocol}/{one.start_port}-{one.end_port}" for one in selectors
    )


def _peer_auth(auth: PeerAuth) -> str:
    key = "" if auth.preshared_key is None else auth.preshared_key.secret.hex()
    parts = (key, _anchors(auth.anchors), _user(auth.user), str(auth.allow_sha1_signatures))
    return "\1".join(parts)


def _user(user: UserAuth | None) -> str:
    if user is None:
        return ""
    identities = user.identities
    parts = (
        " ".join(method.value for method in user.methods),
        repr(user.backend),
        "" if identities is None else repr(identities.text),
        str(user.eap_identity),
        _anchors(user.anchors),
    )
    return "\2".join(parts)


def _anchors(anchors: TrustAnchors | None) -> str:
    if anchors is None:
        return ""
    return " ".join(map(_certificate, anchors.certificates))


def _certificate(certificate: x509.Certificate) -> str:
    der = certificate.public_bytes(Encoding.DER)
    return blake2b(der, digest_size=FINGERPRINT_OCTETS).hexdigest()
