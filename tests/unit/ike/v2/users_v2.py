"""Users for the tests of EAP in IKEv2: a small user base, and both sides' connections."""

from typing import Any

from certs_v2 import anchors, credential
from harness_v2 import Network, connect, device_policy, gateway_policy, pair

from gateway.domain.user_auth import LocalUser
from gateway.eap.mschapv2_crypto import nt_password_hash
from gateway.ike.policy import (
    ConnectionPolicy,
    PeerAuth,
    UserAuth,
    UserCredential,
    UserMethod,
)

PASSWORD = "Lovelace 1815"
USERS = {
    "ada": LocalUser("ada", ("engineers", "staff"), nt_password_hash(PASSWORD)),
    "grace": LocalUser("grace", ("staff",), nt_password_hash("COBOL")),
    "oneway": LocalUser("oneway", (), None),
}


def find_user(name: str) -> LocalUser | None:
    return USERS.get(name)


def gateway_of_users(*methods: UserMethod, **changes: Any) -> ConnectionPolicy:
    """A gateway with a certificate whose peers prove their users only."""
    auth = {
        name: changes.pop(name)
        for name in ("backend", "identities", "eap_identity", "anchors")
        if name in changes
    }
    user = UserAuth(methods or (UserMethod.EAP_MSCHAPV2,), **auth)
    values: dict[str, Any] = {
        "local_credential": credential("gw.example.com"),
        "peer_auth": PeerAuth(user=user),
    }
    return gateway_policy(**{**values, **changes})


def device_of_user(
    name: str = "ada", password: str = PASSWORD, *, certificate: bool = False, **changes: Any
) -> ConnectionPolicy:
    """A device whose user logs in with a password, or with a certificate."""
    login = UserCredential(
        name,
        password.encode(),
        credential(f"{name}@example.com") if certificate else None,
        anchors() if certificate else None,
    )
    values: dict[str, Any] = {"peer_auth": PeerAuth(anchors=anchors()), "user_credential": login}
    return device_policy(**{**values, **changes})


def log_in(
    gateway: ConnectionPolicy | None = None,
    device: ConnectionPolicy | None = None,
    **more: Any,
) -> Network:
    """Try to log in; whether it worked is for the test to say."""
    more.setdefault("find_user", find_user)
    answer = more.pop("answer_user", None)
    network = pair(gateway or gateway_of_users(), device or device_of_user(), **more)
    if answer is not None:
        network.answer_user = answer
    return connect(network)


def reasons(host: Any) -> list[str]:
    return [event.fields["reason"] for event in host.named("handshake_failed")]
