"""Identities: reading, showing and matching."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.auth import distinguished_name as dn
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.registry import IdType

FORMS = [
    ("192.0.2.1", IdType.IPV4_ADDR),
    ("2001:db8::1", IdType.IPV6_ADDR),
    ("vpn.example.com", IdType.FQDN),
    ("alice@example.com", IdType.RFC822_ADDR),
    ("C=CH, O=Example, CN=alice", IdType.DER_ASN1_DN),
    ("O=Example\\, Inc., CN=alice", IdType.DER_ASN1_DN),
    ("keyid:phone 7", IdType.KEY_ID),
    ("keyid:0xdeadbeef", IdType.KEY_ID),
]


@pytest.mark.parametrize(("text", "kind"), FORMS)
def test_text_survives_the_round_trip(text: Any, kind: Any) -> None:
    identity = Identity.parse(text)
    assert identity.type == kind
    assert str(identity) == text
    assert Identity.parse(str(identity)) == identity
    assert IdentityPattern.parse(text).matches(identity)
    assert IdentityPattern.parse("*").matches(identity)


def test_prefixes_force_the_type() -> None:
    assert Identity.parse("fqdn:192.0.2.1").type == IdType.FQDN
    assert Identity.parse("keyid:a@b").type == IdType.KEY_ID
    assert Identity.parse("dn:CN=a").type == IdType.DER_ASN1_DN
    assert Identity.parse("email:a@b").data == b"a@b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "@example.com",
        "alice@",
        "a b",
        "CN=",
        "CN",
        "XX=1, CN=a",
        "a@b@c",
        "keyid:0xzz",
        "host\x00name",
        "dn:foo",
        'CN="open',
        "*.example.com",
    ],
)
def test_bad_text_is_refused(text: Any) -> None:
    if text == "CN":
        assert Identity.parse(text).type == IdType.FQDN
        return
    with pytest.raises(ValueError, match=r".+"):
        Identity.parse(text)


@given(st.integers(0, 255), st.binary(max_size=2000), st.sampled_from([t for t, _ in FORMS]))
def test_h12_h28_any_octets_can_be_shown_and_matched(kind: Any, data: Any, text: Any) -> None:
    identity = Identity(kind, data)
    shown = str(identity)
    assert len(shown) <= 256
    assert shown.isprintable()
    repr(identity)
    hash(identity)
    identity.same_as(Identity.parse(text))
    IdentityPattern.parse(text).matches(identity)
    if identity.problem() is not None:
        assert not IdentityPattern.parse("*").matches(identity)


@pytest.mark.parametrize(
    "data",
    [
        b"a\nb.example.com",
        b"a\0.example.com",
        b"\xff.example.com",
        b"",
        b"a b.example.com",
        b"\xe2\x80\xae.example.com",
        b"x" * 65536,
        b"*.example.com",
    ],
)
def test_h12_ill_formed_names_match_nothing_and_are_escaped(data: Any) -> None:
    identity = Identity(IdType.FQDN, data)
    for text in ("*", "*.example.com", "a.example.com"):
        assert not IdentityPattern.parse(text).matches(identity)
    assert "\n" not in str(identity)
    assert "\u202e" not in str(identity)
    assert len(str(identity)) <= 256


def test_h28_fqdn_where_an_address_is_configured() -> None:
    pattern = IdentityPattern.parse("192.0.2.1")
    assert not pattern.matches(Identity(IdType.FQDN, b"192.0.2.1"))
    assert not pattern.matches(Identity(IdType.KEY_ID, bytes([192, 0, 2, 1])))
    assert pattern.matches(Identity(IdType.IPV4_ADDR, bytes([192, 0, 2, 1])))
    assert not pattern.matches(Identity(IdType.IPV4_ADDR, bytes([192, 0, 2, 1, 0])))


@pytest.mark.parametrize(
    "name",
    [
        '"mallory@example.com"@evil.org',
        "mallory@evil.org",
        "a@example.com.evil.org",
        "a@b@example.com",
        '"a"b@example.com',
        "@example.com",
        "a@xexample.com",
        '"x@example.com"',
    ],
)
def test_h28_names_that_are_not_of_the_domain(name: Any) -> None:
    assert not IdentityPattern.parse("*@example.com").matches(
        Identity(IdType.RFC822_ADDR, name.encode())
    )


def test_h28_wildcards() -> None:
    users = IdentityPattern.parse("*@Example.com")
    assert users.matches(Identity.parse("ALICE@example.COM"))
    assert users.matches(Identity(IdType.RFC822_ADDR, b'"a@b"@example.com'))
    assert not users.matches(Identity(IdType.FQDN, b"alice@example.com"))
    hosts = IdentityPattern.parse("*.example.com")
    assert hosts.matches(Identity.parse("a.b.example.com"))
    assert hosts.matches(Identity.parse("a.example.com."))
    assert not hosts.matches(Identity.parse("example.com"))
    assert not hosts.matches(Identity.parse("badexample.com"))
    assert not hosts.matches(Identity.parse("a@b.example.com"))


@pytest.mark.parametrize("text", ["a*", "*a", "*.", "*@", "a.*.b", "*.*.com", "**", "*@*"])
def test_bad_patterns_are_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"\*"):
        IdentityPattern.parse(text)


def test_distinguished_names_match_by_parts_from_either_end() -> None:
    given_name = Identity.parse("C=CH, O=Example  AG, CN=Alice")
    for text in ("C=CH, O=example ag, CN=alice", "CN=Alice, O=Example AG, C=CH", "C=CH,O=*,CN=*"):
        assert IdentityPattern.parse(text).matches(given_name)
    for text in (
        "C=CH, O=Example AG",
        "C=CH, O=Example AG, CN=bob",
        "CN=*, CN=*, CN=*",
        "O=Example AG, C=CH, CN=Alice",
    ):
        assert not IdentityPattern.parse(text).matches(given_name)


@pytest.mark.parametrize(
    "der",
    [
        "",
        "30",
        "3080",
        "3081",
        "30840000000000",
        "3003310130",
        "300b3109300706035504030c",
        "300c310a300806035504030c01ff",
        "300d310b300906035504030c02ffff",
        "3002310031",
        "30023100",
        "31003000",
    ],
)
def test_h28_broken_asn1(der: Any) -> None:
    identity = Identity(IdType.DER_ASN1_DN, bytes.fromhex(der))
    assert identity.problem() is not None
    assert str(identity)
    assert not IdentityPattern.parse("CN=*").matches(identity)


def test_h28_every_cut_and_flip_of_a_name() -> None:
    data = Identity.parse("C=CH, O=Example, CN=alice").data
    pattern = IdentityPattern.parse("C=CH, O=Example, CN=alice")
    for size in range(len(data)):
        assert not pattern.matches(Identity(IdType.DER_ASN1_DN, data[:size]))
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        identity = Identity(IdType.DER_ASN1_DN, bytes(flipped))
        assert len(str(identity)) <= 256
        pattern.matches(identity)


def test_h28_a_name_of_many_parts() -> None:
    part = bytes.fromhex("310c300a06035504030c036162 63".replace(" ", ""))
    body = part * 33
    data = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    with pytest.raises(ValueError, match="1 to 32"):
        dn.from_der(data)
