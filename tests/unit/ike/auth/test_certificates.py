"""Chains of certificates, good and hostile; refusals in an administrator's words."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from certificate_authorities import DAY, NOW, Authority, build, key, name, root, usage
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.ike.auth.credentials import (
    CertificateRefused,
    LocalCredential,
    PresharedKey,
    TrustAnchors,
)
from gateway.ike.auth.identity import Identity

ALICE = x509.RFC822Name("alice@example.com")
WHO = Identity.parse("alice@example.com")


def accept(anchor: Authority, *chain: Authority, who: Identity = WHO) -> x509.Certificate:
    return TrustAnchors((anchor.certificate,)).validate([one.der for one in chain], who, NOW)


def refuse(anchor: Authority, *chain: Authority, match: str, who: Identity = WHO) -> str:
    with pytest.raises(CertificateRefused, match=match) as caught:
        accept(anchor, *chain, who=who)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["ed25519", "ed448", "ecp256", "ecp384", "ecp521", "rsa2048"])
def test_a_leaf_under_a_root_of_every_kind(kind: Any) -> None:
    ca = root("Root " + kind, kind)
    leaf = ca.issue("alice", ALICE, kind=kind)
    assert accept(ca, leaf) == leaf.certificate
    assert accept(ca, leaf, ca) == leaf.certificate


def test_intermediates_in_any_order() -> None:
    ca = root()
    one = ca.issue("One", ca=True)
    two = one.issue("Two", ca=True)
    leaf = two.issue("alice", ALICE)
    stranger = root("Stranger")
    assert accept(ca, leaf, two, one)
    assert accept(ca, leaf, stranger, one, two)
    assert accept(two, leaf)
    refuse(ca, leaf, two, match='certificate of "O=Example, CN=Two" is issued by "O=Exam.*CN=One"')


def test_an_own_certificate_as_anchor() -> None:
    private = key("ed25519", 5)
    own = Authority(build(name("me"), name("me"), private.public_key(), private, (ALICE,)), private)
    assert accept(own, own)
    refuse(own, own, who=Identity.parse("bob@example.com"), match="is not in the certificate")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("alice@example.com", True),
        ("Alice@EXAMPLE.com", True),
        ("phone.example.com", True),
        ("192.0.2.7", True),
        ("2001:db8::7", True),
        ("O=Example, CN=alice", True),
        ("O=example, CN=ALICE", True),
        ("CN=alice", False),
        ("bob@example.com", False),
        ("example.com", False),
        ("alice", False),
        ("192.0.2.8", False),
        ("fqdn:192.0.2.7", False),
        ("keyid:alice@example.com", False),
    ],
)
def test_h28_identities_in_a_certificate(text: Any, named: Any) -> None:
    ca = root()
    leaf = ca.issue(
        "alice",
        ALICE,
        x509.DNSName("phone.example.com"),
        x509.IPAddress(ip_address("192.0.2.7")),
        x509.IPAddress(ip_address("2001:db8::7")),
    )
    if named:
        assert accept(ca, leaf, who=Identity.parse(text))
    else:
        said = refuse(ca, leaf, who=Identity.parse(text), match="not in the certificate")
        assert '"alice@example.com"' in said


def test_wildcards_of_a_certificate_name_nobody() -> None:
    ca = root()
    leaf = ca.issue("alice", x509.DNSName("*.example.com"))
    refuse(ca, leaf, who=Identity.parse("a.example.com"), match="not in the certificate")
    refuse(ca, leaf, who=Identity(2, b"*.example.com"), match="not in the certificate")


def test_expired_and_not_yet_valid() -> None:
    ca = root()
    refuse(
        ca,
        ca.issue("alice", ALICE, after=NOW - DAY / 2),
        match=r'"O=Example, CN=alice" is expired since 2030-06-01 00:00:00 UTC',
    )
    refuse(ca, ca.issue("alice", ALICE, before=NOW + DAY), match="not valid before 2030-06-02")
    old = root("Old", after=NOW - DAY / 2)
    refuse(old, old.issue("alice", ALICE), match='CN=Old" is expired since')
    middle = ca.issue("Middle", ca=True, after=NOW - DAY / 2)
    refuse(ca, middle.issue("alice", ALICE), middle, match='CN=Middle" is expired since')


def test_a_remembered_chain_expires_all_the_same() -> None:
    ca = root()
    leaf = ca.issue("alice", ALICE, after=NOW + DAY)
    anchors = TrustAnchors((ca.certificate,))
    assert anchors.validate([leaf.der], WHO, NOW) == anchors.validate([leaf.der], WHO, NOW)
    with pytest.raises(CertificateRefused, match="expired since"):
        anchors.validate([leaf.der], WHO, NOW + 2 * DAY)
    with pytest.raises(CertificateRefused, match="not in the certificate"):
        anchors.validate([leaf.der], Identity.parse("bob@example.com"), NOW)


def test_unknown_authority_and_a_false_one_of_the_same_name() -> None:
    ca, other = root(), root("Other")
    refuse(
        ca,
        other.issue("alice", ALICE),
        match=r'issued by "O=Example, CN=Other", which is not among the trusted CAs: '
        r'\["O=Example, CN=Root"\]',
    )
    private = key("ed25519", 77)
    forged = Authority(
        build(name("Root"), name("Root"), private.public_key(), private, ca=True), private
    )
    refuse(ca, forged.issue("alice", ALICE), forged, match="not signed with the key")


def test_h29_garbage() -> None:
    anchors = TrustAnchors((root().certificate,))
    leaf = root().issue("alice", ALICE).der
    for data in (b"", b"\x30", b"garbage", leaf[:-1], leaf + b"\0", bytes(1000)):
        with pytest.raises(CertificateRefused, match=r"X\.509|broken"):
            anchors.validate([data], WHO, NOW)
    with pytest.raises(CertificateRefused, match="no certificate"):
        anchors.validate([], WHO, NOW)


def test_h29_every_octet_changed() -> None:
    ca = root()
    leaf = ca.issue("alice", ALICE).der
    anchors = TrustAnchors((ca.certificate,))
    for at in range(len(leaf)):
        changed = bytearray(leaf)
        changed[at] ^= 0x41
        with pytest.raises(CertificateRefused):
            anchors.validate([bytes(changed)], WHO, NOW)


def test_h29_too_large_and_too_long() -> None:
    ca = root()
    leaf = ca.issue("alice", ALICE)
    anchors = TrustAnchors((ca.certificate,))
    with pytest.raises(CertificateRefused, match="1000000 octets, at most"):
        anchors.validate([bytes(1_000_000)], WHO, NOW)
    with pytest.raises(CertificateRefused, match="16385 octets, at most 16384"):
        anchors.validate([bytes(16_385)], WHO, NOW)
    refuse(ca, leaf, *[leaf] * 31, match="32 certificates, at most 8")


def test_h29_loops_end() -> None:
    ca = root("Elsewhere")
    a_key, b_key = key("ed25519", 1), key("ed25519", 2)
    a = Authority(build(name("A"), name("B"), a_key.public_key(), b_key, ca=True), a_key)
    b = Authority(build(name("B"), name("A"), b_key.public_key(), a_key, ca=True), b_key)
    leaf = a.issue("alice", ALICE)
    refuse(ca, leaf, a, b, match="not among the trusted CAs")
    itself = root("Itself")
    refuse(ca, itself.issue("alice", ALICE), itself, itself, match="not among the trusted CAs")


def test_h29_many_authorities_of_one_name_cost_a_bounded_number_of_checks() -> None:
    private = key("ed25519", 9)
    clones = [
        Authority(
            build(name("Same"), name("Same"), private.public_key(), private, ca=True), private
        )
        for _ in range(7)
    ]
    refuse(root(), clones[0].issue("alice", ALICE), *clones, match="signature checks")


def test_h29_weak_keys() -> None:
    ca = root()
    for kind, message in (
        ("rsa1024", "RSA with 1024 bits; 2048"),
        ("rsa3", "exponent 3; use 65537"),
        ("secp256k1", "on the curve secp256k1"),
    ):
        refuse(ca, ca.issue("alice", ALICE, kind=kind), match=message)
    issued = ca.issue("alice", ALICE, kind="rsa2048")
    public = issued.certificate.public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki.endswith(bytes.fromhex("0203010001"))
    assert spki in issued.der
    anchors = TrustAnchors((ca.certificate,))
    for exponent in (b"\x00\x00\x00", b"\x00\x00\x01", b"\x00\x00\x03"):
        der = issued.der.replace(spki, spki[:-3] + exponent)
        with pytest.raises(CertificateRefused, match=r"exponent|broken|X\.509") as caught:
            anchors.validate([der], WHO, NOW)
        assert "issuer" not in str(caught.value)
    for exponent in (b"\x01", b"\x03"):
        numbers = rsa.RSAPublicNumbers(exponent[0], public.public_numbers().n)
        try:
            weak = numbers.public_key()
        except ValueError:
            continue
        refuse(ca, ca.issue("alice", ALICE, public=weak), match="exponent")


def test_weak_signatures() -> None:
    ca = root("RSA", "rsa2048")
    leaf = ca.issue("alice", ALICE)
    assert accept(ca, leaf)
    for broken in (hashes.SHA1(), hashes.MD5()):
        try:
            weak = ca.issue("alice", ALICE, digest=broken)
        except (ValueError, UnsupportedAlgorithm):
            continue  # the library makes none any more
        refuse(ca, weak, match=f"signed with {broken.name}, which is broken")


def test_only_authorities_certify() -> None:
    ca = root()
    middle = ca.issue("Middle")
    refuse(ca, middle.issue("alice", ALICE), middle, match="CN=Middle.*no authority")
    middle = ca.issue("Middle", ca=True, extensions=((usage("digital_signature"), True),))
    refuse(ca, middle.issue("alice", ALICE), middle, match="does not allow certifying")
    plain = root("Plain", ca=False)
    refuse(plain, plain.issue("alice", ALICE), match="no authority")


def test_path_lengths() -> None:
    ca = root("Short", path_length=0)
    assert accept(ca, ca.issue("alice", ALICE))
    middle = ca.issue("Middle", ca=True)
    refuse(ca, middle.issue("alice", ALICE), middle, match="allows 0 authorities below it")


def test_usages_of_the_leaf() -> None:
    ca = root()
    for good in ("digital_signature", "content_commitment"):
        assert accept(ca, ca.issue("alice", ALICE, extensions=((usage(good), True),)))
    bad = ca.issue("alice", ALICE, extensions=((usage("key_encipherment"), True),))
    refuse(ca, bad, match="does not allow signatures")
    extended = x509.ExtendedKeyUsage
    for oid in (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.IPSEC_IKE):
        assert accept(ca, ca.issue("alice", ALICE, extensions=((extended([oid]), True),)))
    bad = ca.issue(
        "alice", ALICE, extensions=((extended([ExtendedKeyUsageOID.CODE_SIGNING]), False),)
    )
    refuse(ca, bad, match=r"allows only 1\.3\.6\.1\.5\.5\.7\.3\.3")


def test_h29_critical_unknown_extension() -> None:
    ca = root()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert accept(ca, ca.issue("alice", ALICE, extensions=((unknown, False),)))
    refuse(ca, ca.issue("alice", ALICE, extensions=((unknown, True),)), match=r"extension 1\.2\.3")


def test_h29_addresses_in_certificates_are_not_fetched(monkeypatch: Any) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", forbidden)
    monkeypatch.setattr("socket.getaddrinfo", forbidden)
    address = x509.UniformResourceIdentifier("http://192.0.2.1/crl")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([address], None, None, None)])
    access = x509.AuthorityInformationAccess(
        [x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, address)]
    )
    ca = root()
    assert accept(ca, ca.issue("alice", ALICE, extensions=((points, False), (access, False))))


def constrained(permitted: list[x509.GeneralName] | None, excluded: Any = None) -> Authority:
    extension = x509.NameConstraints(permitted, excluded)
    return root("Constrained", extensions=((extension, True),))


DIRECTORY = x509.DirectoryName(
    x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example")])
)
OTHER = x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Other")]))
NET = x509.IPAddress(ip_network("192.0.2.0/24"))


@pytest.mark.parametrize(
    ("base", "inside", "outside"),
    [
        (x509.DNSName("example.com"), x509.DNSName("a.EXAMPLE.com"), x509.DNSName("xexample.com")),
        (x509.RFC822Name("example.com"), ALICE, x509.RFC822Name("alice@sub.example.com")),
        (x509.RFC822Name(".example.com"), x509.RFC822Name("a@sub.example.com"), ALICE),
        (ALICE, ALICE, x509.RFC822Name("bob@example.com")),
        (NET, x509.IPAddress(ip_address("192.0.2.9")), x509.IPAddress(ip_address("192.0.3.9"))),
    ],
)
def test_h29_name_constraints(base: Any, inside: Any, outside: Any) -> None:
    who = Identity.parse("O=Example, CN=alice")
    permits, excludes = constrained([base]), constrained(None, [base])
    assert accept(permits, permits.issue("alice", inside), who=who)
    refuse(permits, permits.issue("alice", outside), who=who, match="must not certify the name")
    assert accept(excludes, excludes.issue("alice", outside), who=who)
    refuse(excludes, excludes.issue("alice", inside), who=who, match="must not certify the name")


def test_h29_name_constraints_on_subjects_and_below_intermediates() -> None:
    assert accept(constrained([DIRECTORY]), constrained([DIRECTORY]).issue("alice", ALICE))
    ca = constrained([OTHER])
    refuse(ca, ca.issue("alice", ALICE), match="must not certify")
    ca = constrained([x509.RFC822Name("example.com")])
    middle = ca.issue("Middle", ca=True)
    assert accept(ca, middle.issue("alice", ALICE), middle)
    leaf = middle.issue("alice", ALICE, x509.RFC822Name("alice@other.com"))
    refuse(ca, leaf, middle, match=r'must not certify the name "alice@other\.com"')


def test_h29_name_constraints_that_cannot_be_checked() -> None:
    form = x509.UniformResourceIdentifier("http://example.com")
    ca = constrained([form])
    assert accept(ca, ca.issue("alice", ALICE))
    refuse(ca, ca.issue("alice", ALICE, form), match="cannot be applied")


def test_hash_list_and_equality() -> None:
    one, two = root("One"), root("Two")
    anchors = TrustAnchors((one.certificate, two.certificate))
    assert len(anchors.hash_list()) == 40
    digest = x509.SubjectKeyIdentifier.from_public_key
    context = hashes.Hash(hashes.SHA1())
    context.update(
        one.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    assert anchors.hash_list()[:20] == context.finalize()
    assert digest
    assert anchors == TrustAnchors((one.certificate, two.certificate))
    assert hash(anchors) == hash(TrustAnchors((one.certificate, two.certificate)))
    assert anchors != TrustAnchors((one.certificate,))
    with pytest.raises(ValueError, match="no trusted certificate"):
        TrustAnchors(())


def test_local_credentials_belong_together_and_hide() -> None:
    ca = root()
    leaf = ca.issue("alice", ALICE)
    credential = LocalCredential((leaf.certificate, ca.certificate), leaf.private)
    assert credential.proves(WHO)
    assert not credential.proves(Identity.parse("bob@example.com"))
    assert "private" not in repr(credential)
    with pytest.raises(ValueError, match='does not belong to the certificate of "O=Example'):
        LocalCredential((leaf.certificate,), ca.private)
    weak = ca.issue("alice", ALICE, kind="rsa1024")
    with pytest.raises(ValueError, match="1024 bits"):
        LocalCredential((weak.certificate,), weak.private)


def test_shared_keys_hide_and_are_not_empty() -> None:
    assert "s3cret" not in repr(PresharedKey(b"s3cret")) + str(PresharedKey(b"s3cret"))
    with pytest.raises(ValueError, match="empty"):
        PresharedKey(b"")
