"""Which authentication methods of phase 1 a connection can be used with."""

from gateway.ike.auth.credentials import LocalCredential, PresharedKey
from gateway.ike.policy import ConnectionPolicy, UserMethod
from gateway.ike.v1 import signatures
from gateway.ike.v1.sa import AuthMethod


class Unusable(ValueError):  # noqa: N818 - named for what it is
    """The connection cannot be used with IKEv1. The text says what to change."""


def method_of(connection: ConnectionPolicy, *, initiator: bool) -> AuthMethod:
    """The one method that we offer as the initiator, or accept as the responder.

    Raises:
        Unusable: IKEv1 has no method for this combination.
    """
    with_user = _with_user(connection, initiator=initiator)
    credential, auth = connection.local_credential, connection.peer_auth
    if isinstance(credential, PresharedKey):
        if auth.preshared_key is not None:
            return _with_key(connection, with_user=with_user)
        if initiator and auth.anchors is not None and with_user:
            return AuthMethod.HYBRID_INIT_RSA
        raise Unusable(
            f"{connection.name}: with a pre-shared key of ours, IKEv1 needs one of the peer's too"
        )
    own = _own_method(connection, credential)
    if auth.anchors is not None:
        if not with_user:
            return own
        if own is not AuthMethod.RSA_SIGNATURES:
            raise Unusable(f"{connection.name}: XAUTH with certificates needs an RSA key of ours")
        return AuthMethod.XAUTH_INIT_RSA
    if auth.preshared_key is None and with_user and not initiator:
        if own is not AuthMethod.RSA_SIGNATURES:
            raise Unusable(f"{connection.name}: hybrid authentication needs an RSA key of ours")
        return AuthMethod.HYBRID_INIT_RSA
    raise Unusable(
        f"{connection.name}: IKEv1 wants the same from both sides: two certificates or one key"
    )


def _with_user(connection: ConnectionPolicy, *, initiator: bool) -> bool:
    if initiator:
        return connection.user_credential is not None
    user = connection.peer_auth.user
    if user is not None and UserMethod.XAUTH not in user.methods:
        raise Unusable(f"{connection.name}: users of IKEv1 log in by xauth, which is not allowed")
    return user is not None


def _with_key(connection: ConnectionPolicy, *, with_user: bool) -> AuthMethod:
    credential, auth = connection.local_credential, connection.peer_auth
    if credential != auth.preshared_key:
        raise Unusable(f"{connection.name}: IKEv1 has one pre-shared key for both sides")
    return AuthMethod.XAUTH_INIT_PRE_SHARED if with_user else AuthMethod.PRE_SHARED_KEY


def _own_method(connection: ConnectionPolicy, credential: LocalCredential) -> AuthMethod:
    own = signatures.method_of_key(credential.signing_key)
    if own is None:
        raise Unusable(f"{connection.name}: IKEv1 knows RSA and ECDSA keys only")
    return own
