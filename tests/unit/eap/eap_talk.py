"""Both sides of EAP in one process, with what they need to log in."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.domain.user_auth import Accepted, Answer, LocalUser
from gateway.eap.method import EapMethod
from gateway.eap.mschapv2_crypto import nt_password_hash
from gateway.eap.peer import EapPeer, Login, PeerStep
from gateway.eap.server import EapServer, Offer, Outcome, Step
from gateway.eap.tls import TlsParty

PASSWORD = "Süßes Geheimnis"
USERS = {
    "alice": LocalUser("alice", ("staff",), nt_password_hash(PASSWORD)),
    "one-way": LocalUser("one-way"),
}
ALL = (EapMethod.MSCHAPV2, EapMethod.TLS, EapMethod.GTC)


def seeded(seed: str) -> Callable[[int], bytes]:
    """Random octets that are the same in every run."""

    def octets() -> Iterator[int]:
        count = 0
        while True:
            yield from hashlib.sha256(f"{seed}/{count}".encode()).digest()
            count += 1

    stream = octets()
    return lambda size: bytes(next(stream) for _ in range(size))


@dataclass
class Pki:
    """An authority and what it issued."""

    certificate: x509.Certificate
    key: Any

    def issue(
        self,
        common: str,
        *,
        days: tuple[int, int] = (-1, 30),
        ca: bool = False,
        padding: int = 0,
        usage: x509.ObjectIdentifier | None = None,
        key: Any = None,
    ) -> "Pki":
        return build(common, self, days, ca, padding, usage, key)


def build(
    common: str,
    issuer: Pki | None,
    days: tuple[int, int] = (-1, 30),
    ca: bool = True,
    padding: int = 0,
    usage: x509.ObjectIdentifier | None = None,
    key: Any = None,
) -> Pki:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = datetime.now(UTC)  # OpenSSL judges validity by the clock of the machine
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if padding:
        oid = x509.ObjectIdentifier("2.25.4711")
        large = x509.UnrecognizedExtension(oid, bytes(padding))
        builder = builder.add_extension(large, critical=False)
    return Pki(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


@cache
def authority(common: str = "authority") -> Pki:
    return build(common, None)


@cache
def server_party() -> TlsParty:
    leaf = authority().issue("gateway")
    return TlsParty([leaf.certificate], leaf.key, [authority().certificate])


@cache
def peer_party() -> TlsParty:
    leaf = authority().issue("alice")
    return TlsParty([leaf.certificate], leaf.key, [authority().certificate])


def server(*methods: EapMethod, seed: str = "server", user: str = "", **offer: Any) -> EapServer:
    settings: dict[str, Any] = {"find_user": USERS.get, "tls": server_party(), **offer}
    return EapServer(Offer(methods or ALL, **settings), seeded(seed), user)


def peer(*methods: EapMethod, name: str = "alice", seed: str = "peer", **login: Any) -> EapPeer:
    settings: dict[str, Any] = {"password": PASSWORD.encode(), "tls": peer_party(), **login}
    return EapPeer(Login(name, methods or ALL, **settings), seeded(seed))


def judge(step: Step) -> Answer:
    """The user base: knows one password."""
    assert step.password == PASSWORD.encode()
    return Accepted(step.user)


@dataclass
class Talk:
    """A conversation that has come to its end."""

    server: Step
    peer: PeerStep
    to_peer: list[bytes]
    to_server: list[bytes]


def talk(
    gate: EapServer, device: EapPeer, answer: Callable[[Step], Answer] = judge, limit: int = 150
) -> Talk:
    """Carry packets to and fro until both have ended, or one has nothing to say."""
    to_peer: list[bytes] = [gate.start()]
    to_server: list[bytes] = []
    step = Step(Outcome.CONTINUE)
    for _ in range(limit):
        said = device.receive(to_peer[-1])
        if said.send is None:
            return Talk(step, said, to_peer, to_server)
        to_server.append(said.send)
        step = gate.receive(said.send)
        if step.outcome is Outcome.ASK:
            step = gate.answered(answer(step))
        if step.send is None:
            return Talk(step, said, to_peer, to_server)
        to_peer.append(step.send)
    raise AssertionError("no end")
