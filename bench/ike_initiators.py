"""Initiators for the load: what each does from its first message to the responder's last AUTH.

They share one key pair (RFC 7296 section 2.12 allows it) and look for the payloads of the answers
without checking proofs, so that most of the processor's time is left to the responder; every
responder sees the same messages. IKEv1 is spoken by our own engine, which costs more.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bench.ike_policies import device_policy, make_engine
from gateway.domain.child_sa import ANY_IPV4, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.domain.endpoint import Path as NetworkPath
from gateway.eap.method import EapMethod
from gateway.eap.packet import Code
from gateway.eap.peer import EapPeer, Login
from gateway.ike.auth.credentials import LocalCredential, PresharedKey, TrustAnchors
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.auth.methods import psk_auth, sign, signed_octets
from gateway.ike.codec import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    ConfigurationAttribute,
    Eap,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    encrypted_prefix,
    parse_message,
    parse_payloads,
    serialize_message,
    serialize_payloads,
)
from gateway.ike.crypto import dh
from gateway.ike.crypto.keymat import derive_ike_keys, sk_ciphers
from gateway.ike.crypto.prf import Prf
from gateway.ike.crypto.proposals import SuiteOffer, select_ike
from gateway.ike.outputs import Event, Severity, Transmit
from gateway.ike.policy import ConnectionPolicy, PeerAuth
from gateway.ike.registry import (
    AuthMethod,
    CertEncoding,
    CfgAttribute,
    CfgType,
    DhGroup,
    ExchangeType,
    Flag,
    HashId,
    IdType,
    NotifyType,
    ProtocolId,
)

IKE_OFFER = SuiteOffer.parse("ike", ["aes128gcm16-prfsha256-x25519"])
ESP_OFFER = SuiteOffer.parse("esp", ["aes128gcm16"])
PAIR = dh.generate(DhGroup.X25519)
KEY_EXCHANGE = KeyExchange(DhGroup.X25519, PAIR.public)
IKE_SA = IKE_OFFER.to_payload(ProtocolId.IKE, b"")
SUITE = select_ike(IKE_OFFER, IKE_SA).suite
PRF = Prf.of(SUITE.prf)
REQUEST_ADDRESS = Configuration(
    CfgType.REQUEST, (ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_ADDRESS, b""),)
)
V1_IKE_OFFER = SuiteOffer.parse("ike", ["aes128-sha256-ecp256"])
V1_ESP_OFFER = SuiteOffer.parse("esp", ["aes128-sha256"])
INTRANET = TrafficSelector(IPv4Address("10.1.0.0"), IPv4Address("10.1.0.255"))
HASHES = (HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512)
SIGNATURE_HASHES = Notify(
    NotifyType.SIGNATURE_HASH_ALGORITHMS, b"".join(one.to_bytes(2, "big") for one in HASHES)
)


NOWHERE = NetworkPath(
    Endpoint(IPv4Address("198.51.100.7"), 500), Endpoint(IPv4Address("192.0.2.1"), 500)
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the devices prove themselves with, and whom they expect."""

    responder: str
    psk: PresharedKey
    certificates: tuple[bytes, ...] = ()
    """DER, one for each device."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None
    """Of all these certificates."""
    authority: x509.Certificate | None = None
    user: str = ""
    password: bytes = b""
    path: NetworkPath = NOWHERE
    """From the load to the responder: IKEv1 looks for a NAT on it."""

    @classmethod
    def load(
        cls, folder: Path | None, responder: str, psk: str, user: str, password: str
    ) -> "Credentials":
        """Read ``devices`` (certificates with their lengths), ``device.key`` and ``ca.crt``."""
        given = cls(responder, PresharedKey(psk.encode()), user=user, password=password.encode())
        if folder is None:
            return given
        key = load_pem_private_key((folder / "device.key").read_bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise TypeError("neither RSA nor ECDSA")
        return replace(
            given,
            certificates=tuple(_split((folder / "devices").read_bytes())),
            key=key,
            authority=x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()),
        )


def _split(octets: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(octets):
        size = int.from_bytes(octets[at : at + 4], "big")
        yield octets[at + 4 : at + 4 + size]
        at += 4 + size


class Failed(Exception):  # noqa: N818 - named for what it is
    """The responder refused, or left out what it owes."""


class Ikev2:
    """One initiator of IKEv2; subclasses prove it."""

    name = ""
    """Of the method, and in the devices' identities."""
    extra: tuple[Payload, ...] = ()
    """In IKE_SA_INIT."""

    def __init__(self, number: int, credentials: Credentials) -> None:
        self.number = number
        self.credentials = credentials
        self.spi = os.urandom(8)
        self.nonce = os.urandom(32)
        self.message_id = 0
        self.first = serialize_message(
            self.spi,
            bytes(8),
            exchange=ExchangeType.IKE_SA_INIT,
            flags=Flag.INITIATOR,
            message_id=0,
            payloads=(
                IKE_SA,
                KeyExchange(DhGroup.X25519, PAIR.public),
                Nonce(self.nonce),
                *self.extra,
            ),
        )
        self.me = self.identity()
        self.done = False
        """Whether the SA is there."""
        self.began = time.perf_counter()

    def identity(self) -> IdInitiator:
        """Every device has its own."""
        return IdInitiator(IdType.RFC822_ADDR, b"d%d@%b.bench" % (self.number, self.name.encode()))

    def start(self) -> bytes:
        """The first message."""
        return self.first

    def receive(self, message: bytes) -> bytes | None:
        """The next message, if there is one. Raises :class:`Failed`."""
        if message[18] == ExchangeType.IKE_SA_INIT:
            self._take_keys(message)
            return self._seal((self.me, *self._expected(), *self.prove(), *self._wanted()))
        opened = self._open(message)
        return self.follow(opened)

    def _expected(self) -> tuple[Payload, ...]:
        return (IdResponder(IdType.FQDN, self.credentials.responder.encode()),)

    def _wanted(self) -> tuple[Payload, ...]:
        return (
            REQUEST_ADDRESS,
            ESP_OFFER.to_payload(ProtocolId.ESP, os.urandom(4), with_group=False),
            TrafficSelectorsInitiator((ANY_IPV4,)),
            TrafficSelectorsResponder((INTRANET,)),
        )

    def _take_keys(self, message: bytes) -> None:
        found = {type(payload): payload for payload in parse_message(message).payloads}
        ke, nonce = found.get(KeyExchange), found.get(Nonce)
        if not isinstance(ke, KeyExchange) or not isinstance(nonce, Nonce):
            raise Failed("no key exchange")
        self.spi_r = message[8:16]
        shared = PAIR.shared_secret(ke.data)
        self.keys = derive_ike_keys(SUITE, self.nonce, nonce.data, shared, self.spi, self.spi_r)
        self.cipher_out, self.cipher_in = sk_ciphers(SUITE, self.keys)
        self.octets = signed_octets(PRF, self.keys.sk_pi, self.first, nonce.data, self.me.body())

    def _seal(self, payloads: tuple[Payload, ...]) -> bytes:
        self.message_id += 1
        inner_first, plaintext = serialize_payloads(payloads)
        prefix = encrypted_prefix(
            self.spi,
            self.spi_r,
            exchange=ExchangeType.IKE_AUTH,
            flags=Flag.INITIATOR,
            message_id=self.message_id,
            first_payload=inner_first,
            sealed_octets=self.cipher_out.overhead(len(plaintext)) + len(plaintext),
        )
        return self.cipher_out.seal(prefix, plaintext)

    def _open(self, message: bytes) -> dict[type[Payload], Payload]:
        parsed = parse_message(message)
        if parsed.encrypted is None:
            raise Failed("an answer in the clear")
        opened = self.cipher_in.open(message, parsed.encrypted.offset)
        return {type(p): p for p in parse_payloads(parsed.encrypted.first_payload, opened)}

    def prove(self) -> tuple[Payload, ...]:
        """What the first IKE_AUTH request says of us besides the identity."""
        raise NotImplementedError

    def follow(self, opened: dict[type[Payload], Payload]) -> bytes | None:
        """Judge the response."""
        if not {Authentication, TrafficSelectorsInitiator, Configuration} <= opened.keys():
            raise Failed(f"the response has {sorted(one.__name__ for one in opened)}: {opened}")
        self.done = True
        return None


class Psk(Ikev2):
    """A pre-shared key."""

    name = "psk"

    def prove(self) -> tuple[Payload, ...]:
        """A MAC."""
        proof = psk_auth(PRF, self.credentials.psk, self.octets)
        return (Authentication(AuthMethod.SHARED_KEY, proof),)


class _Certificate(Ikev2):
    extra = (SIGNATURE_HASHES,)

    def prove(self) -> tuple[Payload, ...]:
        """Certificate and signature, and the wish to see the responder's."""
        given = self.credentials
        der = given.certificates[self.number % len(given.certificates)]
        method, signature = sign(_signer(given), self.octets, HASHES)
        return (
            Certificate(CertEncoding.X509_SIGNATURE, der),
            _request(given),
            Authentication(method, signature),
        )

    def identity(self) -> IdInitiator:
        """The one in the certificate."""
        number = self.number % len(self.credentials.certificates)
        return IdInitiator(IdType.RFC822_ADDR, b"d%d@%b.bench" % (number, self.name.encode()))


@lru_cache(maxsize=4)
def _signer(credentials: Credentials) -> LocalCredential:
    if credentials.key is None:
        raise Failed("no key")
    leaf = x509.load_der_x509_certificate(credentials.certificates[0])
    return LocalCredential((leaf,), credentials.key)


@lru_cache(maxsize=4)
def _request(credentials: Credentials) -> CertificateRequest:
    if credentials.authority is None:
        raise Failed("no authority")
    anchors = TrustAnchors((credentials.authority,))
    return CertificateRequest(CertEncoding.X509_SIGNATURE, anchors.hash_list())


class Ecdsa(_Certificate):
    """Certificates with ECDSA keys on P-256."""

    name = "ecdsa"


class Rsa(_Certificate):
    """Certificates with RSA keys of 2048 bits."""

    name = "rsa"


class EapMschapv2(Ikev2):
    """A user name and a password; the responder proves itself by a certificate."""

    name = "eap"
    extra = (SIGNATURE_HASHES,)

    def prove(self) -> tuple[Payload, ...]:
        """No AUTH: the user will."""
        login = _login(self.credentials.user, self.credentials.password)
        self.peer = EapPeer(login, os.urandom)
        self.msk = b""
        return (_request(self.credentials),)

    def follow(self, opened: dict[type[Payload], Payload]) -> bytes | None:
        """The next EAP packet, then AUTH with the MSK, then all is said."""
        packet = opened.get(Eap)
        if packet is None and self.msk:
            return super().follow(opened)
        if not isinstance(packet, Eap):
            raise Failed(f"no EAP packet: {opened}")
        step = self.peer.receive(packet.data)
        if packet.data[0] == Code.SUCCESS:
            self.msk = step.msk
            proof = psk_auth(PRF, PresharedKey(step.msk), self.octets)
            return self._seal((Authentication(AuthMethod.SHARED_KEY, proof),))
        if step.send is None:
            raise Failed(step.reason)
        return self._seal((Eap(step.send),))


@lru_cache(maxsize=4)
def _login(user: str, password: bytes) -> Login:
    return Login(user, (EapMethod.MSCHAPV2,), password)


class _Ikev1:
    """Main mode, mode configuration and quick mode, by our own engine."""

    name = ""

    def __init__(self, number: int, credentials: Credentials) -> None:
        self.number = number
        plain = replace(
            device_policy(1, credentials.path.remote, credentials.path.local),
            local_id=Identity.parse(f"d{number}@{self.name}.bench"),
            remote_id=IdentityPattern.parse(credentials.responder),
            ike_offer=V1_IKE_OFFER,
            esp_offer=V1_ESP_OFFER,
            remote_ts=(INTRANET,),
        )
        self.path = credentials.path
        self.engine = make_engine(self.policy(plain, credentials))
        self.began = time.perf_counter()
        self.engine.initiate("office", 0.0)
        self.done = False
        (self.first,) = self._sent()
        self.spi = self.first[:8]

    def policy(self, plain: ConnectionPolicy, credentials: Credentials) -> ConnectionPolicy:
        """With the proof."""
        raise NotImplementedError

    def start(self) -> bytes:
        """The first message."""
        return self.first

    def receive(self, message: bytes) -> bytes | None:
        """The next message, if there is one. Raises :class:`Failed`."""
        self.engine.receive(message, self.path, 0.0)
        sent = self._sent()
        return sent[-1] if sent else None

    def _sent(self) -> list[bytes]:
        outputs = self.engine.take_outputs()
        for one in outputs:
            if not isinstance(one, Event):
                continue
            if one.severity is Severity.WARNING:
                raise Failed(one.text)
            self.done = self.done or one.name == "child_sa_installed"
        return [one.message for one in outputs if isinstance(one, Transmit)]


class Ikev1Psk(_Ikev1):
    """IKEv1 main mode with a pre-shared key."""

    name = "v1psk"

    def policy(self, plain: ConnectionPolicy, credentials: Credentials) -> ConnectionPolicy:
        """With the key."""
        key = credentials.psk
        return replace(plain, local_credential=key, peer_auth=PeerAuth(preshared_key=key))


class Ikev1Certificate(_Ikev1):
    """IKEv1 main mode with ECDSA certificates on P-256."""

    name = "v1cert"

    def policy(self, plain: ConnectionPolicy, credentials: Credentials) -> ConnectionPolicy:
        """With the certificate of this device."""
        if credentials.key is None or credentials.authority is None:
            raise Failed("no certificates")
        number = self.number % len(credentials.certificates)
        leaf = x509.load_der_x509_certificate(credentials.certificates[number])
        return replace(
            plain,
            local_id=Identity.parse(f"d{number}@{self.name}.bench"),
            local_credential=LocalCredential((leaf,), credentials.key),
            peer_auth=PeerAuth(anchors=TrustAnchors((credentials.authority,))),
        )


Initiator = Ikev2 | _Ikev1
INITIATORS: dict[str, Callable[[int, Credentials], Initiator]] = {
    one.name: one for one in (Psk, Ecdsa, Rsa, EapMschapv2, Ikev1Psk, Ikev1Certificate)
}
