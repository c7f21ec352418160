"""A load of IKEv2 handshakes against any responder: x25519, PSK, AES-GCM, an inner address.

Run as ``python -m bench.ike_load`` on a host of the lab; writes one JSON object. It reuses its
own key pair (RFC 7296 section 2.12 allows it), so that most of the processor's time is left to
the responder; both responders see the same messages.
"""

import argparse
import json
import os
import select
import socket
import time
from ipaddress import IPv4Address

from gateway.domain.child_sa import ANY_IPV4, TrafficSelector
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.methods import psk_auth, signed_octets
from gateway.ike.codec import (
    Authentication,
    Configuration,
    ConfigurationAttribute,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
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
from gateway.ike.registry import (
    AuthMethod,
    CfgAttribute,
    CfgType,
    DhGroup,
    ExchangeType,
    Flag,
    IdType,
    ProtocolId,
)

GIVE_UP_S = 5.0
IKE_OFFER = SuiteOffer.parse("ike", ["aes128gcm16-prfsha256-x25519"])
ESP_OFFER = SuiteOffer.parse("esp", ["aes128gcm16"])
PAIR = dh.generate(DhGroup.X25519)
IKE_SA = IKE_OFFER.to_payload(ProtocolId.IKE, b"")
SUITE = select_ike(IKE_OFFER, IKE_SA).suite
PRF = Prf.of(SUITE.prf)
REQUEST_ADDRESS = Configuration(
    CfgType.REQUEST, (ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_ADDRESS, b""),)
)
INTRANET = TrafficSelector(IPv4Address("10.1.0.0"), IPv4Address("10.1.0.255"))


class Handshake:
    """One initiator, from its first message to the responder's AUTH."""

    __slots__ = ("began", "cipher_in", "first", "nonce", "number", "psk", "spi")

    def __init__(self, number: int, psk: PresharedKey) -> None:
        self.number = number
        self.psk = psk
        self.spi = os.urandom(8)
        self.nonce = os.urandom(32)
        self.first = serialize_message(
            self.spi,
            bytes(8),
            exchange=ExchangeType.IKE_SA_INIT,
            flags=Flag.INITIATOR,
            message_id=0,
            payloads=(IKE_SA, KeyExchange(DhGroup.X25519, PAIR.public), Nonce(self.nonce)),
        )
        self.began = time.perf_counter()

    def answer(self, message: bytes, responder_id: IdResponder) -> bytes:
        """The IKE_AUTH request that follows an IKE_SA_INIT response."""
        parsed = parse_message(message)
        found = {type(payload): payload for payload in parsed.payloads}
        ke, nonce = found[KeyExchange], found[Nonce]
        assert isinstance(ke, KeyExchange)
        assert isinstance(nonce, Nonce)
        spi_r = parsed.header.responder_spi
        shared = PAIR.shared_secret(ke.data)
        keys = derive_ike_keys(SUITE, self.nonce, nonce.data, shared, self.spi, spi_r)
        cipher_out, self.cipher_in = sk_ciphers(SUITE, keys)
        me = IdInitiator(IdType.RFC822_ADDR, b"d%d@bench" % self.number)
        octets = signed_octets(PRF, keys.sk_pi, self.first, nonce.data, me.body())
        payloads: tuple[Payload, ...] = (
            me,
            responder_id,
            Authentication(AuthMethod.SHARED_KEY, psk_auth(PRF, self.psk, octets)),
            REQUEST_ADDRESS,
            ESP_OFFER.to_payload(ProtocolId.ESP, os.urandom(4), with_group=False),
            TrafficSelectorsInitiator((ANY_IPV4,)),
            TrafficSelectorsResponder((INTRANET,)),
        )
        inner_first, plaintext = serialize_payloads(payloads)
        prefix = encrypted_prefix(
            self.spi,
            spi_r,
            exchange=ExchangeType.IKE_AUTH,
            flags=Flag.INITIATOR,
            message_id=1,
            first_payload=inner_first,
            sealed_octets=cipher_out.overhead(len(plaintext)) + len(plaintext),
        )
        return cipher_out.seal(prefix, plaintext)

    def complete(self, message: bytes) -> bool:
        """Whether the IKE_AUTH response brings AUTH and selectors."""
        parsed = parse_message(message)
        assert parsed.encrypted is not None
        opened = self.cipher_in.open(message, parsed.encrypted.offset)
        found = {type(p) for p in parse_payloads(parsed.encrypted.first_payload, opened)}
        return {Authentication, TrafficSelectorsInitiator, Configuration} <= found


def run(
    to: str, count: int, at_once: int, psk: PresharedKey, first_number: int, name: str
) -> dict[str, object]:
    """Complete ``count`` handshakes with ``at_once`` under way at any moment."""
    responder_id = IdResponder(IdType.FQDN, name.encode())
    waiting: dict[bytes, Handshake] = {}
    latencies: list[float] = []
    failed = 0
    numbers = iter(range(first_number, first_number + count))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 500))
        sock.connect((to, 500))

        def begin() -> None:
            for number in numbers:
                one = Handshake(number, psk)
                waiting[one.spi] = one
                sock.send(one.first)
                return

        began = time.perf_counter()
        for _ in range(at_once):
            begin()
        while waiting:
            if not select.select([sock], [], [], GIVE_UP_S)[0]:
                break
            message = sock.recv(4096)
            handshake = waiting.get(message[:8])
            if handshake is None:
                continue
            if message[18] == ExchangeType.IKE_SA_INIT:
                sock.send(handshake.answer(message, responder_id))
                continue
            del waiting[handshake.spi]
            if handshake.complete(message):
                latencies.append((time.perf_counter() - handshake.began) * 1000)
            else:
                failed += 1
            begin()
        took_s = time.perf_counter() - began
    latencies.sort()
    done = len(latencies)
    return {
        "done": done,
        "failed": failed + len(waiting),
        "rate": done / took_s,
        "latency_ms": latencies[done // 2] if done else None,
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("to")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--first-number", type=int, default=0)
    parser.add_argument("--psk", required=True)
    parser.add_argument("--name", required=True)
    given = parser.parse_args()
    psk = PresharedKey(given.psk.encode())
    result = run(given.to, given.count, given.at_once, psk, given.first_number, given.name)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
