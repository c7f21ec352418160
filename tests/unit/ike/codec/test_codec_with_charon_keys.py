"""The recorded sessions from end to end: derive charon's keys, open its messages, parse them."""

import pytest
from codec_samples import Recorded, recorded, recorded_contents

from gateway.ike.codec import (
    KeyExchange,
    Message,
    Nonce,
    Payload,
    SecurityAssociation,
    find,
    parse_message,
    parse_payloads,
)
from gateway.ike.crypto.keymat import derive_ike_keys, sk_ciphers
from gateway.ike.crypto.offers import SuiteOffer
from gateway.ike.crypto.proposals import select_ike
from gateway.ike.crypto.sk import IntegrityError, SkCipher
from gateway.ike.crypto.suites import IkeSuite
from gateway.ike.registry import PrfId


def test_derived_keys_open_every_recorded_message() -> None:
    ciphers = session_ciphers()
    opened = 0
    first, plain = 0, b""
    contents = iter(recorded_contents())
    for entry in recorded():
        message = parse_message(entry.message)
        if message.encrypted is None:
            continue
        assert entry.sa is not None
        number, total = message.encrypted.fragment or (1, 1)
        cipher = ciphers[entry.sa["initiator_spi"]][0 if message.header.from_initiator else 1]
        part = cipher.open(entry.message, message.encrypted.offset)
        assert part == entry.plain
        tampered = entry.message[:-1] + bytes((entry.message[-1] ^ 1,))
        with pytest.raises(IntegrityError):
            cipher.open(tampered, message.encrypted.offset)
        plain = part if number == 1 else plain + part
        first = message.encrypted.first_payload if number == 1 else first
        if number == total:
            assert (first, plain) == next(contents)
            parse_payloads(first, plain)
        opened += 1
    assert opened == 27


def session_ciphers() -> dict[str, tuple[SkCipher, SkCipher]]:
    """By initiator SPI: the ciphers of the two initial IKE SAs and of the rekeyed one."""
    ciphers = {}
    previous: tuple[str, PrfId] | None = None
    for request, response, sa in exchanges():
        suite = chosen_suite(response)
        nonces = [nonce_of(payloads) for payloads in (request, response)]
        spis = [bytes.fromhex(sa[name]) for name in ("initiator_spi", "responder_spi")]
        rekeyed = find(response, SecurityAssociation)
        assert rekeyed is not None
        old = previous if rekeyed.proposals[0].spi else None
        keys = derive_ike_keys(
            suite,
            *nonces,
            bytes.fromhex(sa["shared_secret"]),
            *spis,
            old_sk_d=bytes.fromhex(old[0]) if old else None,
            old_prf=old[1] if old else None,
        )
        for name in ("sk_d", "sk_ai", "sk_ar", "sk_ei", "sk_er", "sk_pi", "sk_pr"):
            assert getattr(keys, name).hex() == sa.get(name, ""), name
        ciphers[sa["initiator_spi"]] = sk_ciphers(suite, keys)
        previous = (sa["sk_d"], suite.prf)
    assert len(ciphers) == 3
    return ciphers


def exchanges() -> list[tuple[tuple[Payload, ...], tuple[Payload, ...], dict[str, str]]]:
    """Request, response and recorded keys of every exchange that made an IKE SA, in order."""
    made: list[tuple[Payload, ...]] = []
    for entry in recorded():
        payloads = clear_or_decrypted(entry, parse_message(entry.message))
        sa = find(payloads, SecurityAssociation)
        if find(payloads, KeyExchange) and sa and sa.proposals[0].protocol == 1:
            made.append(payloads)
    keys = list({e.sa["initiator_spi"]: e.sa for e in recorded() if e.sa}.values())
    return list(zip(made[::2], made[1::2], keys, strict=True))


def clear_or_decrypted(entry: Recorded, message: Message) -> tuple[Payload, ...]:
    if message.encrypted is None:
        return message.payloads
    if message.encrypted.fragment is not None or entry.plain is None:
        return ()
    return parse_payloads(message.encrypted.first_payload, entry.plain)


def nonce_of(payloads: tuple[Payload, ...]) -> bytes:
    nonce = find(payloads, Nonce)
    assert nonce is not None
    return nonce.data


def chosen_suite(response: tuple[Payload, ...]) -> IkeSuite:
    sa = find(response, SecurityAssociation)
    assert sa is not None
    offer = SuiteOffer.parse("ike", ["aes256gcm16-prfsha256-x25519", "aes256-sha256-ecp256"])
    return select_ike(offer, sa, spi_octets=len(sa.proposals[0].spi)).suite
