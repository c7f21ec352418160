"""Every kind of client that a gateway can have, with its connection at the gateway.

Each kind has an identity and a connection of its own, so that who is let in says by which proof.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from certs_v2 import anchors, credential
from harness_v2 import GATEWAY, device_policy, gateway_policy
from users_v2 import PASSWORD, find_user

from gateway.domain.endpoint import Endpoint
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import (
    ConfigMode,
    ConnectionPolicy,
    PeerAuth,
    Ppk,
    PpkPolicy,
    Profile,
    UserAuth,
    UserCredential,
    UserMethod,
    V1Exchange,
)

FAST = SuiteOffer.parse("ike", ["aes128gcm16-prfsha256-ecp256"])
FAST_V1 = SuiteOffer.parse("ike", ["aes128-sha256-ecp256"])
HYBRID_KE = SuiteOffer.parse("ike", ["aes128gcm16-prfsha256-x25519-ke1_mlkem768"])
ESP = SuiteOffer.parse("esp", ["aes128gcm16"])
ESP_V1 = SuiteOffer.parse("esp", ["aes128-sha256"])
KEY = PresharedKey(b"a key that only its owner has")
OTHER_KEY = PresharedKey(b"a key of nobody here")
PPK = Ppk(b"ppk of ada", b"thirty-two octets of nobody else")
STAFF = Profile("staff", frozenset({"staff"}), pool="staff")


@dataclass(frozen=True)
class Kind:
    """How a client and its gateway are configured."""

    name: str
    gateway: ConnectionPolicy
    device: ConnectionPolicy
    user: str = ""
    """Who must have logged in when it is established."""
    rogue: bool = False
    """Whether its credentials are wrong: it must never be let in."""

    @property
    def identity(self) -> str:
        return f"{self.name}@example.com"


def _address(number: int) -> Endpoint:
    return Endpoint(ip_address(f"198.51.100.{10 + number}"), 500)


def _kind(
    name: str,
    version: int,
    of_device: PeerAuth,
    of_gateway: PeerAuth,
    credentials: tuple[Any, Any],
    user: str = "",
    both: dict[str, Any] | None = None,
    only_device: dict[str, Any] | None = None,
) -> Kind:
    """``of_device`` is what the gateway demands; ``credentials``: the gateway's, the device's."""
    shared = {
        "version": version,
        "ike_offer": FAST if version == 2 else FAST_V1,
        "esp_offer": ESP if version == 2 else ESP_V1,
        **(both or {}),
    }
    identity = f"{name}@example.com"
    return Kind(
        name,
        gateway_policy(
            name=name,
            remote_id=IdentityPattern.parse(identity),
            local_credential=credentials[0],
            peer_auth=of_device,
            profiles=(STAFF,) if user else (),
            **shared,
        ),
        device_policy(
            name=name,
            local_id=Identity.parse(identity),
            local_credential=credentials[1],
            peer_auth=of_gateway,
            **{**shared, **(only_device or {})},
        ),
        user,
    )


def _users() -> list[Kind]:
    """IKEv2 with EAP, of every method."""
    certificate = credential("gw.example.com")
    by_certificate = PeerAuth(anchors=anchors())
    found = []
    for name, method, backend in (
        ("mschap", UserMethod.EAP_MSCHAPV2, "local"),
        ("gtc", UserMethod.EAP_GTC, "local"),
        ("tls", UserMethod.EAP_TLS, "local"),
        ("radius", UserMethod.EAP_RADIUS, "dc"),
    ):
        with_certificate = method is UserMethod.EAP_TLS
        login = UserCredential(
            "ada@example.com" if with_certificate else "ada",
            b"" if with_certificate else PASSWORD.encode(),
            credential("ada@example.com") if with_certificate else None,
            anchors() if with_certificate else None,
        )
        user = UserAuth((method,), backend, anchors=anchors() if with_certificate else None)
        found.append(
            _kind(
                name,
                2,
                PeerAuth(user=user),
                by_certificate,
                (certificate, KEY),
                login.name,
                only_device={"user_credential": login},
            )
        )
    return found


def _ikev1() -> list[Kind]:
    key, certs = PeerAuth(preshared_key=KEY), PeerAuth(anchors=anchors())
    rsa = credential("gw.example.com", "rsa")
    login = {"user_credential": UserCredential("ada", PASSWORD.encode())}
    user = UserAuth((UserMethod.XAUTH,))
    push = {"v1_config_mode": ConfigMode.PUSH}
    with_user = PeerAuth(preshared_key=KEY, user=user)
    own = credential("cert1@example.com", "rsa")
    return [
        _kind("main", 1, key, key, (KEY, KEY)),
        _kind("cert1", 1, certs, certs, (rsa, own)),
        _kind("aggressive", 1, key, key, (KEY, KEY), both={"v1_exchange": V1Exchange.AGGRESSIVE}),
        _kind("hybrid", 1, PeerAuth(user=user), certs, (rsa, KEY), "ada", only_device=login),
        _kind("xauth", 1, with_user, key, (KEY, KEY), "ada", only_device=login),
        _kind("push", 1, with_user, key, (KEY, KEY), "ada", both=push, only_device=login),
    ]


def _honest() -> list[Kind]:
    key, certs = PeerAuth(preshared_key=KEY), PeerAuth(anchors=anchors())
    mine = credential("gw.example.com")
    ppk = {"ppk": PpkPolicy((PPK,), required=True)}
    return [
        _kind("psk", 2, key, key, (KEY, KEY)),
        _kind("cert", 2, certs, certs, (mine, credential("cert@example.com"))),
        _kind("mlkem", 2, key, key, (KEY, KEY), both={"ike_offer": HYBRID_KE}),
        _kind("ppk", 2, key, key, (KEY, KEY), both=ppk),
        *_users(),
        *_ikev1(),
    ]


def _rogues(honest: dict[str, Kind]) -> list[Kind]:
    """Strangers who claim to be somebody, with everything but the right secret."""
    other_key = {"local_credential": OTHER_KEY, "peer_auth": PeerAuth(preshared_key=OTHER_KEY)}
    wrong_password = {"user_credential": UserCredential("ada", b"guessed")}
    changes: dict[str, dict[str, Any]] = {
        "psk": other_key,
        "cert": {"local_credential": credential("cert@example.com", issuer="Other CA")},
        "ppk": {"ppk": PpkPolicy((replace(PPK, secret=bytes(32)),), required=True)},
        "mschap": wrong_password,
        "gtc": wrong_password,
        "radius": wrong_password,
        "tls": {
            "user_credential": UserCredential(
                "ada@example.com",
                b"",
                credential("ada@example.com", issuer="Other CA"),
                anchors(),
            )
        },
        "main": other_key,
        "cert1": {"local_credential": credential("cert1@example.com", "rsa", "Other CA")},
        "aggressive": other_key,
        "hybrid": wrong_password,
        "xauth": wrong_password,
        "push": wrong_password,
    }
    rogues = [
        replace(honest[name], device=replace(honest[name].device, **change), rogue=True)
        for name, change in changes.items()
    ]
    # The key is right, the PPK is not even tried; the user is not even asked about.
    rogues.append(
        replace(honest["ppk"], device=replace(honest["ppk"].device, ppk=None), rogue=True)
    )
    for name in ("xauth", "push"):
        device = replace(honest[name].device, user_credential=None)
        rogues.append(replace(honest[name], device=device, rogue=True))
    # A shared key where a certificate or a user is wanted, and a certificate where a user is.
    for name, own in (("cert", KEY), ("mschap", KEY), ("tls", credential("tls@example.com"))):
        of_gateway = PeerAuth(anchors=anchors())
        device = replace(
            honest[name].device, local_credential=own, user_credential=None, peer_auth=of_gateway
        )
        rogues.append(replace(honest[name], device=device, rogue=True))
    return rogues


def _with_addresses(kinds: list[Kind]) -> list[Kind]:
    return [
        replace(kind, device=replace(kind.device, local=_address(number), remote=GATEWAY))
        for number, kind in enumerate(kinds)
    ]


def clients() -> list[Kind]:
    """Honest ones and strangers, each at an address of its own."""
    honest = _honest()
    return _with_addresses(honest + _rogues({kind.name: kind for kind in honest}))


HONEST_NAMES = tuple(kind.name for kind in _honest())
FIND_USER: Callable[[str], Any] = find_user
