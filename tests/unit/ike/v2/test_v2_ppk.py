"""Post-quantum pre-shared keys (RFC 8784), both sides."""

import hashlib
import hmac
from dataclasses import replace

import pytest
from certs_v2 import anchors, credential
from harness_v2 import (
    PSK,
    Network,
    assert_consistent,
    connect,
    device_policy,
    established,
    gateway_policy,
    pair,
    sa_of,
)
from users_v2 import Stranger, device_of_user, gateway_of_users, log_in, reasons

from gateway.ike.codec import Authentication, Notify, Payload
from gateway.ike.crypto.keymat import IkeKeys
from gateway.ike.policy import Lifetimes, PeerAuth, Ppk, PpkPolicy
from gateway.ike.registry import NotifyType, PrfId
from gateway.ike.v2 import ppk

SECRET = Ppk(b"moon", bytes(range(32)))
OTHER = Ppk(b"sun", bytes(range(1, 33)))
WRONG = Ppk(b"moon", bytes(32))


def policy(*ppks: Ppk, required: bool = False) -> PpkPolicy:
    return PpkPolicy(ppks, required)


def independent_prf_plus(key: bytes, seed: bytes, size: int, name: str) -> bytes:
    """prf+ of RFC 7296 section 2.13, once more and slowly."""
    out, block, number = b"", b"", 1
    while len(out) < size:
        block = hmac.new(key, block + seed + bytes((number,)), name).digest()
        out += block
        number += 1
    return out[:size]


@pytest.mark.parametrize(
    ("prf", "name"),
    [
        (PrfId.HMAC_SHA2_256, "sha256"),
        (PrfId.HMAC_SHA2_384, "sha384"),
        (PrfId.HMAC_SHA2_512, "sha512"),
    ],
)
@pytest.mark.parametrize("octets", [1, 16, 32, 64, 200])
def test_mixed_keys(prf: PrfId, name: str, octets: int) -> None:
    """SK_d = prf+ (PPK, SK_d'), and SK_pi and SK_pr likewise; the others stay."""
    size = hashlib.new(name).digest_size
    plain = IkeKeys(*(bytes((n,)) * size for n in range(7)))
    secret = bytes(range(octets % 256)) + b"\1" * (octets - octets % 256)
    made = ppk.mixed(prf, plain, secret)
    for field in ("sk_d", "sk_pi", "sk_pr"):
        old = getattr(plain, field)
        assert getattr(made, field) == independent_prf_plus(secret, old, size, name)
    for field in ("sk_ai", "sk_ar", "sk_ei", "sk_er"):
        assert getattr(made, field) == getattr(plain, field)


def attempt(
    ours: PpkPolicy | None, theirs: PpkPolicy | None, *, certificates: bool = False
) -> Network:
    gateway, device = gateway_policy(ppk=ours), device_policy(ppk=theirs)
    if certificates:
        gateway = replace(
            gateway,
            local_credential=credential("gw.example.com"),
            peer_auth=PeerAuth(anchors=anchors()),
        )
        device = replace(
            device,
            local_credential=credential("ada@example.com"),
            peer_auth=PeerAuth(anchors=anchors()),
        )
    return connect(pair(gateway, device))


@pytest.mark.parametrize("certificates", [False, True])
@pytest.mark.parametrize("required", [False, True])
def test_both_know_it(certificates: bool, required: bool) -> None:
    ours = policy(OTHER, SECRET, required=required)
    theirs = policy(SECRET, required=required)
    network = attempt(ours, theirs, certificates=certificates)
    assert established(network.gateway)[0].auth.endswith(" with PPK")
    assert established(network.device)[0].auth.endswith(" with PPK")
    assert_consistent(network)
    assert sa_of(network.gateway).sk_d == sa_of(network.device).sk_d


@pytest.mark.parametrize("certificates", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (None, policy(SECRET)),
        (policy(SECRET), None),
        (policy(OTHER), policy(SECRET)),
    ],
)
def test_optional_and_not_shared(
    ours: PpkPolicy | None, theirs: PpkPolicy | None, certificates: bool
) -> None:
    network = attempt(ours, theirs, certificates=certificates)
    assert "PPK" not in established(network.gateway)[0].auth
    assert "PPK" not in established(network.device)[0].auth
    assert_consistent(network)
    assert sa_of(network.gateway).sk_d == sa_of(network.device).sk_d


@pytest.mark.parametrize(
    ("ours", "theirs", "side", "reason"),
    [
        (policy(SECRET, required=True), None, "gateway", "uses no PPK"),
        (None, policy(SECRET, required=True), "device", "does not use PPKs"),
        (policy(OTHER), policy(SECRET, required=True), "gateway", "PPK moon is not known"),
        (policy(OTHER, required=True), policy(SECRET), "gateway", "PPK moon is not known"),
        (policy(WRONG), policy(SECRET), "gateway", "the pre-shared key is not that of"),
        (policy(WRONG), policy(SECRET, required=True), "gateway", "the pre-shared key is not"),
    ],
)
def test_required_or_wrong(
    ours: PpkPolicy | None, theirs: PpkPolicy | None, side: str, reason: str
) -> None:
    network = attempt(ours, theirs)
    network.pass_time(200)
    assert not established(network.gateway)
    assert not established(network.device)
    assert reason in reasons(network.hosts[side])[0]


def test_ppk_secrets_are_in_no_log() -> None:
    network = attempt(policy(SECRET), policy(SECRET))
    assert SECRET.secret.hex() not in repr([host.log for host in network.hosts.values()])
    assert "secret" not in repr(SECRET)


def test_it_stays_in_the_keys_when_rekeyed() -> None:
    lives = Lifetimes(ike_rekey_s=100, child_rekey_s=60, jitter=0)
    network = connect(
        pair(
            gateway_policy(ppk=policy(SECRET)),
            device_policy(ppk=policy(SECRET), lifetimes=lives),
        )
    )
    network.pass_time(310)
    assert established(network.gateway)[0].auth == "pre-shared key with PPK"
    assert_consistent(network)


@pytest.mark.parametrize("required", [False, True])
def test_with_eap(required: bool) -> None:
    network = log_in(
        gateway_of_users(ppk=policy(SECRET, required=required)),
        device_of_user(ppk=policy(SECRET, required=required)),
    )
    assert established(network.gateway)[0].auth == "EAP-MSCHAPv2 with PPK"
    assert established(network.device)[0].auth == "certificate with PPK"
    assert_consistent(network)


def test_with_eap_and_not_shared() -> None:
    network = log_in(
        gateway_of_users(ppk=policy(OTHER)),
        device_of_user(ppk=policy(SECRET)),
    )
    assert established(network.gateway)[0].auth == "EAP-MSCHAPv2"
    assert_consistent(network)
    network = log_in(
        gateway_of_users(ppk=policy(OTHER, required=True)),
        device_of_user(ppk=policy(SECRET)),
    )
    assert not established(network.gateway)
    assert not established(network.device)


# -- a peer that plays with it --------------------------------------------------------------


def stranger(**changes: object) -> Stranger:
    network = pair(
        gateway_policy(ppk=policy(SECRET), **changes),
        device_policy(ppk=policy(SECRET)),
    )
    return Stranger(network)


def parts(one: Stranger) -> tuple[list[Payload], Authentication, Notify, Notify]:
    """The first request without its proofs, AUTH, PPK_IDENTITY and NO_PPK_AUTH."""
    rest: list[Payload] = []
    found: dict[object, Payload] = {}
    for payload in one.first():
        if isinstance(payload, Authentication):
            found["auth"] = payload
        elif isinstance(payload, Notify) and payload.type in (
            NotifyType.PPK_IDENTITY,
            NotifyType.NO_PPK_AUTH,
        ):
            found[payload.type] = payload
        else:
            rest.append(payload)
    return (
        rest,
        found["auth"],
        found[NotifyType.PPK_IDENTITY],
        found[NotifyType.NO_PPK_AUTH],
    )


def test_the_stranger_itself_gets_in() -> None:
    one = stranger()
    answer = one.send(*one.first())
    assert answer.notify(NotifyType.PPK_IDENTITY).data == b""
    assert established(one.network.gateway)


def test_auth_with_and_without_the_ppk_are_not_exchanged() -> None:
    one = stranger()
    rest, auth, identity, without = parts(one)
    swapped = Authentication(auth.method, without.data)
    one.send(*rest, swapped, identity, Notify(NotifyType.NO_PPK_AUTH, auth.data))
    assert not established(one.network.gateway)


def test_auth_with_the_ppk_but_without_its_name() -> None:
    one = stranger()
    rest, auth, _, _ = parts(one)
    one.send(*rest, auth)
    assert not established(one.network.gateway)


def test_auth_without_the_ppk_is_enough_only_if_it_is_optional() -> None:
    one = stranger()
    rest, auth, _, without = parts(one)
    one.send(*rest, Authentication(auth.method, without.data))
    assert established(one.network.gateway)[0].auth == "pre-shared key"
    network = pair(
        gateway_policy(ppk=policy(SECRET, required=True)), device_policy(ppk=policy(SECRET))
    )
    one = Stranger(network)
    rest, auth, _, without = parts(one)
    one.send(*rest, Authentication(auth.method, without.data))
    assert not established(network.gateway)


@pytest.mark.parametrize(
    "data", [b"", b"\2", b"\1moon", b"\2moo", b"\2moonshine", b"\3moon", b"\2" + bytes(3000)]
)
def test_names_that_are_none(data: bytes) -> None:
    one = stranger()
    rest, auth, _, without = parts(one)
    one.send(*rest, auth, Notify(NotifyType.PPK_IDENTITY, data))
    assert not established(one.network.gateway)
    assert one.network.gateway.engine.counters["internal_errors"] == 0
    one = stranger()
    rest, auth, _, without = parts(one)
    one.send(*rest, auth, Notify(NotifyType.PPK_IDENTITY, data), without)
    assert established(one.network.gateway)[0].auth == "pre-shared key"


@pytest.mark.parametrize("data", [b"", b"\0" * 48, b"x"])
def test_no_ppk_auth_is_a_proof_too(data: bytes) -> None:
    one = stranger()
    rest, auth, _, _ = parts(one)
    unknown = Notify(NotifyType.PPK_IDENTITY, b"\2unknown")
    one.send(*rest, auth, unknown, Notify(NotifyType.NO_PPK_AUTH, data))
    assert not established(one.network.gateway)


def test_a_ppk_is_no_substitute_for_the_shared_key() -> None:
    network = connect(
        pair(
            gateway_policy(ppk=policy(SECRET)),
            device_policy(
                ppk=policy(SECRET),
                local_credential=replace(PSK, secret=b"guess"),
            ),
        )
    )
    assert not established(network.gateway)
