"""Messages that strongSwan's charon wrote."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from codec_samples import (
    recorded,
    recorded_contents,
    recorded_payloads,
)

from gateway.ike.codec import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    ConfigurationAttribute,
    Delete,
    Eap,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
    Notify,
    Proposal,
    SecurityAssociation,
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    Transform,
    describe_exchange,
    describe_payloads,
    encrypted_prefix,
    find,
    find_all,
    find_notify,
    parse_message,
    parse_payloads,
    serialize_message,
    serialize_payloads,
)
from gateway.ike.registry import NotifyType, PayloadType


def test_what_charon_wrote_is_written_the_same_way() -> None:
    """Parsing loses nothing and writing adds nothing, to the octet."""
    clear = 0
    for entry in recorded():
        message = parse_message(entry.message)
        header = message.header
        if message.encrypted is None:
            clear += 1
            assert entry.message == serialize_message(
                header.initiator_spi,
                header.responder_spi,
                exchange=header.exchange,
                flags=header.flags,
                message_id=header.message_id,
                payloads=message.payloads,
            )
        else:
            offset = message.encrypted.offset
            assert entry.message[:offset] == encrypted_prefix(
                header.initiator_spi,
                header.responder_spi,
                exchange=header.exchange,
                flags=header.flags,
                message_id=header.message_id,
                first_payload=message.encrypted.first_payload,
                sealed_octets=len(entry.message) - offset,
                fragment=message.encrypted.fragment,
            )
    assert clear == 4
    for first, content in recorded_contents():
        assert serialize_payloads(parse_payloads(first, content)) == (first, content)


def test_the_recorded_sessions_hold_what_they_were_made_for() -> None:
    messages = [parse_message(entry.message) for entry in recorded()]
    assert {describe_exchange(message.header.exchange) for message in messages} == {
        "IKE_SA_INIT",
        "IKE_AUTH",
        "CREATE_CHILD_SA",
        "INFORMATIONAL",
    }
    fragments = [m.encrypted.fragment for m in messages if m.encrypted and m.encrypted.fragment]
    assert fragments == [(1, 2), (2, 2)] * 3
    kinds = {payload.payload_type for content in recorded_payloads() for payload in content}
    kinds |= {payload.payload_type for message in messages for payload in message.payloads}
    never = {PayloadType.NONE, PayloadType.VENDOR_ID, PayloadType.SK, PayloadType.SKF}
    assert kinds == set(PayloadType) - never


def test_ike_sa_init_request() -> None:
    entry = recorded()[0]
    message = parse_message(entry.message)
    assert message.header.from_initiator
    assert not message.header.is_response
    assert message.header.responder_spi == bytes(8)
    sa = find(message.payloads, SecurityAssociation)
    assert sa == SecurityAssociation(
        (
            Proposal(1, 1, b"", (Transform(1, 20, 256), Transform(2, 5), Transform(4, 31))),
            Proposal(
                2,
                1,
                b"",
                (Transform(1, 12, 128), Transform(3, 12), Transform(2, 5), Transform(4, 14)),
            ),
        )
    )
    key_exchange, nonce = find(message.payloads, KeyExchange), find(message.payloads, Nonce)
    assert key_exchange is not None
    assert (key_exchange.group, len(key_exchange.data)) == (31, 32)
    assert nonce is not None
    assert len(nonce.data) == 32
    hashes = find_notify(message.payloads, NotifyType.SIGNATURE_HASH_ALGORITHMS)
    assert hashes == Notify(16431, bytes.fromhex("0002000300040005"))


def test_ike_auth_request() -> None:
    payloads = recorded_payloads()[0]
    assert describe_payloads(payloads).startswith("IDI CERT N(INITIAL_CONTACT) CERTREQ IDR AUTH CP")
    assert find(payloads, IdInitiator) == IdInitiator(2, b"client.example.org")
    assert find(payloads, IdResponder) == IdResponder(2, b"gw.example.org")
    certificate, request = find(payloads, Certificate), find(payloads, CertificateRequest)
    assert certificate is not None
    assert certificate.encoding == 4
    assert certificate.data[:2] == b"\x30\x82"
    assert request is not None
    assert len(request.authorities) == 20
    assert find(payloads, Configuration) == Configuration(
        1,
        (ConfigurationAttribute(1), ConfigurationAttribute(8)),
    )
    authentication = find(payloads, Authentication)
    assert authentication is not None
    assert authentication.method == 14
    sa = find(payloads, SecurityAssociation)
    assert sa is not None
    assert [proposal.protocol for proposal in sa.proposals] == [3, 3]
    assert all(len(proposal.spi) == 4 for proposal in sa.proposals)


def test_ike_auth_response() -> None:
    payloads = recorded_payloads()[1]
    configuration = find(payloads, Configuration)
    assert configuration == Configuration(
        2,
        (
            ConfigurationAttribute(1, IPv4Address("10.9.0.1").packed),
            ConfigurationAttribute(8, IPv6Address("2001:db8:9::1").packed + b"\x40"),
            ConfigurationAttribute(3, IPv4Address("10.1.0.53").packed),
            ConfigurationAttribute(25, b"example.org"),
            ConfigurationAttribute(10, IPv6Address("2001:db8:1::53").packed),
        ),
    )
    assert find(payloads, TrafficSelectorsInitiator) == TrafficSelectorsInitiator(
        (
            TrafficSelector.of_address(IPv4Address("10.9.0.1")),
            TrafficSelector.of_address(IPv6Address("2001:db8:9::1")),
        )
    )
    assert find(payloads, TrafficSelectorsResponder) == TrafficSelectorsResponder(
        (
            TrafficSelector.of_network(IPv4Network("10.1.0.0/16")),
            TrafficSelector.of_network(IPv6Network("2001:db8:1::/64")),
        )
    )


def test_rekeying_and_deletes() -> None:
    (rekey,) = (
        content for content in recorded_payloads() if find_notify(content, NotifyType.REKEY_SA)
    )
    notify = find_notify(rekey, NotifyType.REKEY_SA)
    assert notify is not None
    assert (notify.protocol, len(notify.spi), notify.data) == (3, 4, b"")
    deletes = [delete for content in recorded_payloads() for delete in find_all(content, Delete)]
    assert Delete(3, (notify.spi,)) in deletes
    assert Delete(1) in deletes
    ike_rekeys = [
        proposal
        for content in recorded_payloads()
        for sa in find_all(content, SecurityAssociation)
        for proposal in sa.proposals
        if proposal.protocol == 1
    ]
    assert ike_rekeys
    assert all(len(proposal.spi) == 8 for proposal in ike_rekeys)


def test_eap_exchange() -> None:
    packets = [eap.data for content in recorded_payloads() for eap in find_all(content, Eap)]
    assert [(data[0], data[4:5]) for data in packets] == [
        (1, b"\x01"),  # request, identity
        (2, b"\x01"),
        (1, b"\x04"),  # request, MD5-Challenge
        (2, b"\x04"),
        (3, b""),  # success
    ]
