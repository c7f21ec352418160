"""The CA: what it issues, what it refuses, what it revokes."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from provisioning_setups import NOW, address, authority, host, mail, subject

from gateway.ike.auth import crl as engine_crl
from gateway.ike.auth.credentials import TrustAnchors
from gateway.ike.auth.identity import Identity, certificate_identities
from gateway.provisioning import ca, crl
from gateway.provisioning.names import Kind, PeerName
from gateway.provisioning.problem import ProvisioningRefusedError

KEY = ca.new_key()


def issue(name: PeerName, days: int = 30, device: str = "laptop") -> x509.Certificate:
    return authority().issue_device(KEY.public_key(), name, device, NOW, days)


@pytest.mark.parametrize("kind", [ca.KeyKind.P256, ca.KeyKind.P384])
def test_a_ca_issues_what_clients_of_every_platform_demand(kind: ca.KeyKind) -> None:
    root = ca.create("Example CA", NOW, kind=kind)
    names = [host("gw.example.com"), address("192.0.2.1"), mail("gw@example.com")]
    found = root.issue_gateway(KEY.public_key(), names, NOW, ca.GATEWAY_DAYS)
    found.verify_directly_issued_by(root.certificate)
    assert found.not_valid_after_utc - found.not_valid_before_utc <= timedelta(days=398)
    purposes = list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert ExtendedKeyUsageOID.SERVER_AUTH in purposes
    assert ca.IKE_INTERMEDIATE in purposes
    assert found.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    proven = {str(one) for one in certificate_identities(found)}
    assert {"gw.example.com", "192.0.2.1", "gw@example.com"} <= proven
    TrustAnchors([root.certificate])


def test_a_device_cannot_pass_for_a_gateway() -> None:
    found = issue(mail("ann@example.com"))
    purposes = list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert ExtendedKeyUsageOID.SERVER_AUTH not in purposes
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        (host("laptop.example.com"), "laptop.example.com"),
        (mail("ann@example.com"), "ann@example.com"),
        (address("192.0.2.7"), "192.0.2.7"),
        (address("2001:db8::7"), "2001:db8::7"),
        (subject("laptop"), "CN=laptop"),
    ],
)
def test_a_device_proves_its_identity(name: PeerName, identity: str) -> None:
    found = certificate_identities(issue(name))
    assert any(one.same_as(Identity.parse(identity)) for one in found)


@pytest.mark.parametrize(
    "name",
    [
        mail("änn@example.com"),
        host("späti.example.com"),
        host("a b"),
        PeerName(Kind.KEY_ID, b"ann", (), "keyid:ann"),
    ],
)
def test_what_no_certificate_can_say_is_refused(name: PeerName) -> None:
    with pytest.raises(ProvisioningRefusedError) as refused:
        issue(name)
    assert refused.value.field == "identity"


def test_no_certificate_outlives_its_ca() -> None:
    found = issue(mail("ann@example.com"), ca.MAX_DAYS)
    assert found.not_valid_after_utc == authority().certificate.not_valid_after_utc
    late = NOW + timedelta(days=ca.AUTHORITY_DAYS + 1)
    with pytest.raises(ProvisioningRefusedError, match="ended on"):
        authority().issue_device(KEY.public_key(), mail("a@b.c"), "x", late, 1)


def test_a_host_whose_clock_is_not_set_makes_no_certificates() -> None:
    with pytest.raises(ProvisioningRefusedError, match="1970-01-01"):
        ca.create("Example CA", datetime(1970, 1, 1, 0, 5, tzinfo=UTC))
    with pytest.raises(ProvisioningRefusedError, match="set it first"):
        authority().issue_device(KEY.public_key(), mail("a@b.c"), "x", NOW - timedelta(days=400), 5)


@pytest.mark.parametrize("days", [0, -1, ca.MAX_DAYS + 1])
def test_a_life_of_a_certificate_is_bounded(days: int) -> None:
    with pytest.raises(ProvisioningRefusedError, match="1 to 3650"):
        issue(mail("ann@example.com"), days)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_h78_any_name_of_a_ca_is_taken_or_refused_cleanly(name: str) -> None:
    try:
        made = ca.create(name, NOW)
    except ProvisioningRefusedError:
        text = name.strip()
        assert not text.isprintable() or not 1 <= len(text.encode()) <= 64
        return
    assert made.title == name.strip()


def pem(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return ca.key_pem(key)


def test_a_ca_of_others_is_taken_with_its_key_and_without() -> None:
    root = authority()
    text = ca.certificate_pem(root.certificate)
    assert root.key is not None
    assert ca.load(text, ca.key_pem(root.key), NOW).key is not None
    without = ca.load(text, None, NOW)
    with pytest.raises(ProvisioningRefusedError, match="key of Test CA is not here"):
        without.issue_device(KEY.public_key(), mail("a@b.c"), "x", NOW, 1)
    with pytest.raises(ProvisioningRefusedError, match="have it make the list"):
        crl.make(without, [], 1, NOW, 7)


def test_what_is_no_ca_or_no_key_of_it_is_refused() -> None:
    leaf = ca.certificate_pem(issue(mail("ann@example.com")))
    root = ca.certificate_pem(authority().certificate)
    encrypted = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for certificate, key, why in (
        (leaf, None, "is no CA"),
        (b"", None, "no usable certificate"),
        (b"x" * 70_000, None, "at most 65536"),
        (root, ca.key_pem(KEY), "does not belong"),
        (root, b"x", "no usable private key"),
        (root, encrypted, "is encrypted"),
        (root, edwards, "neither ECDSA nor RSA"),
    ):
        with pytest.raises(ProvisioningRefusedError, match=why):
            ca.load(certificate, key, NOW)
    with pytest.raises(ProvisioningRefusedError, match="ended on"):
        ca.load(root, None, NOW + timedelta(days=4000))


def test_a_request_must_be_signed_by_a_strong_key() -> None:
    def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        made = builder.sign(key, ca.signing_digest(key))
        return made.public_bytes(serialization.Encoding.PEM)

    assert ca.read_request(request(KEY)) == KEY.public_key()  # type: ignore[arg-type]
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(ProvisioningRefusedError, match="another key than"):
        ca.read_request(request(weak))
    broken = bytearray(
        x509.load_pem_x509_csr(request(KEY)).public_bytes(serialization.Encoding.DER)  # type: ignore[arg-type]
    )
    broken[-1] ^= 1
    again = x509.load_der_x509_csr(bytes(broken)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(ProvisioningRefusedError, match="signature is wrong"):
        ca.read_request(again)
    with pytest.raises(ProvisioningRefusedError, match="no certificate request"):
        ca.read_request(ca.certificate_pem(authority().certificate))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_h78_octets_of_anybody_are_refused_cleanly(octets: bytes) -> None:
    framed = b"-----BEGIN CERTIFICATE-----\n" + octets + b"\n-----END CERTIFICATE-----\n"
    for text in (octets, framed):
        with pytest.raises(ProvisioningRefusedError):
            ca.read_certificate("certificate", text)
        with pytest.raises(ProvisioningRefusedError):
            ca.read_request(text)


def test_an_uploaded_certificate_must_be_the_cas_be_valid_and_name_the_device() -> None:
    ann = mail("ann@example.com")
    found = issue(ann)
    ca.check_uploaded(authority(), found, ann, NOW)
    with pytest.raises(ProvisioningRefusedError, match="does not name"):
        ca.check_uploaded(authority(), found, mail("bob@example.com"), NOW)
    with pytest.raises(ProvisioningRefusedError, match="valid until"):
        ca.check_uploaded(authority(), found, ann, NOW + timedelta(days=31))
    with pytest.raises(ProvisioningRefusedError, match="not issued by"):
        ca.check_uploaded(ca.create("Test CA", NOW), found, ann, NOW)


def test_the_engine_reads_our_list() -> None:
    found = issue(mail("ann@example.com"))
    entries = [
        crl.Revoked(found.serial_number, NOW, crl.Reason.KEY_COMPROMISE),
        crl.Revoked(5, NOW),
    ]
    text = crl.make(authority(), entries, 7, NOW, 7)
    (read,) = engine_crl.read(text, "crl.pem")
    TrustAnchors([authority().certificate]).check_crls([read])
    parsed = x509.load_pem_x509_crl(text)
    entry = parsed.get_revoked_certificate_by_serial_number(found.serial_number)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == (
        x509.ReasonFlags.key_compromise
    )
    assert parsed.next_update_utc == NOW + timedelta(days=7)
