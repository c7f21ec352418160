"""Certificate revocation lists: what counts, what is refused, and in which words."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from certificate_authorities import DAY, NOW, Authority, build, root, usage
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from revocation_sources import (
    COMPROMISE,
    HOUR,
    OpensslCa,
    crl,
    entry,
    needs_openssl,
    scope,
    wall_clock,
)

from gateway.ike.auth import crl as crl_module
from gateway.ike.auth.credentials import CertificateRefused, TrustAnchors
from gateway.ike.auth.crl import CrlRefused, read
from gateway.ike.auth.identity import Identity
from gateway.ike.auth.revocation import Revocation, RevocationMode, RevocationPolicy

ALICE = x509.RFC822Name("alice@example.com")
WHO = Identity.parse("alice@example.com")
FILE = "/etc/gateway/crl.pem"
REQUIRED, WHEN_KNOWN, OFF = RevocationMode.REQUIRED, RevocationMode.WHEN_KNOWN, RevocationMode.OFF


def anchors(
    *authorities: Authority, mode: RevocationMode = WHEN_KNOWN, grace_s: float = 0
) -> TrustAnchors:
    policy = RevocationPolicy(mode, (Path(FILE),), crl_grace_s=grace_s)
    certificates = [one.certificate for one in authorities]
    return TrustAnchors(certificates, Revocation(policy))


def take(trust: TrustAnchors, *lists: bytes, source: str = FILE) -> None:
    trust.take_crls(source, tuple(one for data in lists for one in read(data, source)))


def accept(trust: TrustAnchors, *chain: Authority, now: Any = NOW) -> None:
    leaf = trust.validate([one.der for one in chain], WHO, now)
    assert leaf == chain[0].certificate


def refuse(trust: TrustAnchors, *chain: Authority, match: str, now: Any = NOW) -> None:
    with pytest.raises(CertificateRefused, match=match):
        trust.validate([one.der for one in chain], WHO, now)


def refuse_list(*data: bytes, match: str, of: Authority | None = None) -> None:
    with pytest.raises(CrlRefused, match=match):
        take(anchors(of or root()), *data)


@pytest.mark.parametrize("kind", ["ed25519", "ed448", "ecp256", "ecp521", "rsa2048"])
@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_revoked_certificate_is_refused_with_date_reason_and_source(
    kind: str, encoding: Encoding
) -> None:
    ca = root("Root " + kind, kind)
    bad, good = ca.issue("alice", ALICE), ca.issue("carol", ALICE)
    trust = anchors(ca)
    accept(trust, bad)
    take(trust, crl(ca, entry(7), entry(bad, (COMPROMISE, False)), encoding=encoding))
    serial = bad.certificate.serial_number
    octets = serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex(":")
    refuse(
        trust,
        bad,
        match=f'^certificate {octets} of "O=Example, CN=alice" was revoked on '
        rf"2030-05-31 12:00:00 UTC \(keyCompromise\), says CRL {FILE}$",
    )
    accept(trust, good)


def test_without_a_reason_none_is_given() -> None:
    ca = root()
    bad = ca.issue("alice", ALICE)
    trust = anchors(ca)
    take(trust, crl(ca, entry(bad)))
    refuse(trust, bad, match=r"was revoked on 2030-05-31 12:00:00 UTC, says CRL")


def test_policies_off_when_known_required() -> None:
    ca = root()
    bad, good = ca.issue("alice", ALICE), ca.issue("carol", ALICE)
    off, lax, strict = (anchors(ca, mode=mode) for mode in (OFF, WHEN_KNOWN, REQUIRED))
    for trust in (off, lax):
        accept(trust, good)
    refuse(
        strict, good, match=r'not known whether.*revoked: there is no CRL of "O=Example, CN=Root"'
    )
    for trust in (off, lax, strict):
        take(trust, crl(ca, entry(bad)))
        accept(trust, good)
    accept(off, bad)
    refuse(lax, bad, match="was revoked")
    refuse(strict, bad, match="was revoked")
    # A change of the policy ends no session.
    assert lax == strict == anchors(ca)


def test_every_certificate_of_the_path_is_judged_but_the_anchor() -> None:
    ca = root()
    middle = ca.issue("Middle", ca=True)
    leaf = middle.issue("alice", ALICE)
    strict = anchors(ca, mode=REQUIRED)
    take(strict, crl(middle), source="middle.crl")
    refuse(strict, leaf, middle, match="there is no CRL of.*CN=Root")
    take(strict, crl(ca))
    accept(strict, leaf, middle)
    take(strict, crl(ca, entry(middle)))
    refuse(strict, leaf, middle, match=r'of "O=Example, CN=Middle" was revoked')
    take(strict, crl(ca, entry(ca)))
    accept(strict, leaf, middle)


def test_paths_that_another_protocol_validated() -> None:
    ca = root()
    middle = ca.issue("Middle", ca=True)
    leaf = middle.issue("alice", ALICE)
    path = [one.der for one in (leaf, middle, ca)]
    TrustAnchors((ca.certificate,)).check_revocation(path, NOW)
    trust = anchors(ca, mode=REQUIRED)
    trust.check_revocation([ca.der], NOW)
    with pytest.raises(CertificateRefused, match="there is no CRL"):
        trust.check_revocation(path, NOW)
    take(trust, crl(ca))
    take(trust, crl(middle), source="middle.crl")
    trust.check_revocation(path, NOW)
    take(trust, crl(middle, entry(leaf)), source="middle.crl")
    with pytest.raises(CertificateRefused, match='of "O=Example, CN=alice" was revoked'):
        trust.check_revocation(path, NOW)


def test_an_own_certificate_as_anchor_needs_no_list() -> None:
    leaf = root().issue("alice", ALICE)
    accept(anchors(leaf, mode=REQUIRED), leaf)


def test_stale_lists_vouch_for_nobody_but_still_revoke() -> None:
    ca = root()
    bad, good = ca.issue("alice", ALICE), ca.issue("carol", ALICE)
    lax, strict, patient = (
        anchors(ca),
        anchors(ca, mode=REQUIRED),
        anchors(ca, mode=REQUIRED, grace_s=2 * 86_400),
    )
    for trust in (lax, strict, patient):
        take(trust, crl(ca, entry(bad)))
        accept(trust, good)
        refuse(trust, bad, match="was revoked", now=NOW + 2 * DAY)
    later = NOW + 2 * DAY
    accept(lax, good, now=later)
    accept(patient, good, now=later)
    refuse(strict, good, match=f"CRL {FILE} is out of date since 2030-06-02 12:00:00", now=later)
    refuse(patient, good, match="out of date", now=NOW + 4 * DAY)


def test_lists_from_the_future_vouch_for_nobody() -> None:
    ca = root()
    strict = anchors(ca, mode=REQUIRED)
    take(strict, crl(ca, this_update=NOW + HOUR))
    refuse(strict, ca.issue("alice", ALICE), match="is dated 2030-06-01 13:00:00 UTC.*future")
    accept(strict, ca.issue("alice", ALICE), now=NOW + HOUR)


def test_scopes_users_and_authorities() -> None:
    ca = root()
    middle = ca.issue("Middle", ca=True)
    leaf, inner = ca.issue("alice", ALICE), middle.issue("alice", ALICE)
    users = crl(ca, extensions=((scope(only_contains_user_certs=True), True),))
    authorities = crl(ca, extensions=((scope(only_contains_ca_certs=True), True),))
    strict = anchors(ca, mode=REQUIRED)
    take(strict, users)
    take(strict, crl(middle), source="middle.crl")
    accept(strict, leaf)
    refuse(strict, inner, middle, match="is about other certificates")
    take(strict, authorities)
    refuse(strict, leaf, match="is about other certificates")
    accept(strict, inner, middle)
    take(strict, users + b"", source="users.crl")
    accept(strict, leaf)
    accept(strict, inner, middle)


def test_lists_of_one_distribution_point() -> None:
    ca = root()
    here = x509.UniformResourceIdentifier("http://pki.example.com/1.crl")
    there = x509.UniformResourceIdentifier("http://pki.example.com/2.crl")

    def issue(point: x509.GeneralName, issuer: list[x509.GeneralName] | None = None) -> Authority:
        points = x509.CRLDistributionPoints([x509.DistributionPoint([point], None, None, issuer)])
        return ca.issue("alice", ALICE, extensions=((points, False),))

    strict = anchors(ca, mode=REQUIRED)
    take(strict, crl(ca, extensions=((scope(full_name=[here]), True),)))
    accept(strict, issue(here))
    refuse(strict, issue(there), match="other certificates")
    refuse(strict, ca.issue("alice", ALICE), match="other certificates")
    elsewhere: list[x509.GeneralName] = [x509.DirectoryName(root("Other").certificate.subject)]
    refuse(strict, issue(here, elsewhere), match="other certificates")


def test_several_lists_in_one_file() -> None:
    one, two = root("One"), root("Two")
    first, second = one.issue("alice", ALICE), two.issue("alice", ALICE)
    trust = anchors(one, two, mode=REQUIRED)
    text = b"Some words before.\n" + crl(one, encoding=Encoding.PEM) + b"\n"
    take(trust, text + crl(two, entry(second), encoding=Encoding.PEM))
    accept(trust, first)
    refuse(trust, second, match="was revoked")
    assert [one.issuer_title for one in trust.revocation.crls] == [  # type: ignore[union-attr]
        '"O=Example, CN=One"',
        '"O=Example, CN=Two"',
    ]


def test_a_broken_or_older_list_leaves_the_former_in_force() -> None:
    ca = root()
    bad = ca.issue("alice", ALICE)
    trust = anchors(ca)
    take(trust, crl(ca, entry(bad), number=8))
    impostor = root("Impostor")
    for data, match in (
        (b"", "no CRL"),
        (crl(ca, number=7), r"older than the one in force: its number is 7, that of the other 8"),
        (crl(ca, number=9, signer=impostor), "is not signed with the key of"),
        (crl(ca, number=9)[:-9], "broken"),
    ):
        with pytest.raises(CrlRefused, match=match):
            take(trust, data)
        refuse(trust, bad, match="was revoked")
    take(trust, crl(ca, number=9))
    accept(trust, bad)


def test_h29_a_list_of_another_authority_with_the_same_name() -> None:
    ca, impostor = root("Root", "ecp256"), root("Root", "ecp384")
    assert ca.certificate.subject == impostor.certificate.subject
    refuse_list(crl(impostor), match='not signed with the key of "O=Example, CN=Root"', of=ca)
    # Below the anchor nobody knows the key in time: such a list neither vouches nor revokes.
    middle, twin = ca.issue("Middle", ca=True), root("Middle", "ecp384")
    leaf = middle.issue("alice", ALICE)
    lax, strict = anchors(ca), anchors(ca, mode=REQUIRED)
    for trust in (lax, strict):
        take(trust, crl(ca))
        take(trust, crl(twin, entry(leaf)), source="twin.crl")
    accept(lax, leaf, middle)
    refuse(strict, leaf, middle, match='twin.crl is not signed with the key of "O=.*CN=Middle"')
    take(strict, crl(middle), source="middle.crl")
    accept(strict, leaf, middle)


def test_h29_signers_whose_key_usage_forbids_it() -> None:
    mute = root("Mute", extensions=((usage("key_cert_sign"), True),))
    refuse_list(crl(mute), match="key usage does not allow signing CRLs", of=mute)
    able = root("Able", extensions=((usage("key_cert_sign", "crl_sign"), True),))
    take(anchors(able), crl(able))


def test_h29_weak_and_ambiguous_signatures() -> None:
    ca = root("Root rsa2048", "rsa2048")
    good = crl(ca)
    refuse_list(good[:-1] + bytes((good[-1] ^ 1,)), match="not signed with the key", of=ca)
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert good.count(sha256) == 2
    refuse_list(good.replace(sha256, sha1), match="SHA1, which is too weak", of=ca)
    head, _, tail = good.rpartition(sha256)
    refuse_list(head + bytes.fromhex("2a864886f70d01010c") + tail, match="CRL.*broken", of=ca)


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


@pytest.mark.parametrize(
    ("extension", "match"),
    [
        (scope(indirect_crl=True), "is indirect"),
        (scope(only_contains_attribute_certs=True), "attribute certificates only"),
        (
            scope(only_some_reasons=frozenset((x509.ReasonFlags.key_compromise,))),
            "some reasons of revocation only",
        ),
        (UNKNOWN, r"critical extension 1\.3\.6\.1\.4\.1\.99999\.1, which is not known"),
        (x509.DeltaCRLIndicator(3), "is a delta CRL, which is not used; give the full one"),
    ],
)
def test_h29_lists_that_cannot_be_understood(extension: x509.ExtensionType, match: str) -> None:
    refuse_list(crl(root(), extensions=((extension, True),)), match=f"CRL {FILE} .*{match}")


def test_delta_lists_beside_full_ones_are_ignored() -> None:
    ca = root()
    bad = ca.issue("alice", ALICE)
    trust = anchors(ca)
    delta = crl(
        ca, entry(bad), extensions=((x509.DeltaCRLIndicator(3), True),), encoding=Encoding.PEM
    )
    take(trust, delta + crl(ca, encoding=Encoding.PEM))
    accept(trust, bad)


def test_extensions_that_are_not_critical_do_no_harm() -> None:
    ca = root()
    bad = ca.issue("alice", ALICE)
    date = x509.InvalidityDate(NOW.replace(tzinfo=None))
    trust = anchors(ca)
    take(trust, crl(ca, entry(bad, (UNKNOWN, False), (date, True)), extensions=((UNKNOWN, False),)))
    refuse(trust, bad, match="was revoked")


def test_h29_critical_extensions_of_entries() -> None:
    other = x509.CertificateIssuer([x509.DirectoryName(root("Other").certificate.subject)])
    refuse_list(crl(root(), entry(5, (other, True))), match="indirect: an entry names another")
    refuse_list(crl(root(), entry(5, (other, False))), match="indirect: an entry names another")
    refuse_list(crl(root(), entry(5, (UNKNOWN, True))), match="entry with the critical extension")


def test_h29_serial_numbers_of_any_size() -> None:
    ca = root()
    serials = [1, 127, 128, 255, 256, 2**63, 2**64, 2**158, 2**159 - 1]
    (one,) = read(crl(ca, *map(entry, serials)), FILE)
    assert len(one) == len(serials)
    assert all(one.find(serial) for serial in serials)
    near = {serial + step for serial in serials for step in (-1, 1)} - set(serials)
    assert not any(one.find(serial) for serial in (*near, 2**159, 2**700, 0, -1, -128))


def test_h29_an_empty_list_is_good_for_everybody() -> None:
    ca = root()
    (one,) = read(crl(ca), FILE)
    assert len(one) == 0
    assert one.find(1) is None


def test_h29_a_huge_list_is_read_once_and_small() -> None:
    ca = root("Root ecp256", "ecp256")
    bad = ca.issue("alice", ALICE)
    serials = [(i * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**158 + 1 for i in range(30_000)]
    data = crl(ca, *map(entry, serials), entry(bad, (COMPROMISE, False)))
    (one,) = read(data, FILE)
    assert len(one) == 30_001
    assert len(one._records) == 29 * len(one)
    assert all(one.find(serial) for serial in serials[::997])
    trust = anchors(ca)
    trust.take_crls(FILE, (one,))
    refuse(trust, bad, match="keyCompromise")


def test_h29_the_size_of_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = crl(root(), encoding=Encoding.PEM)
    monkeypatch.setattr(crl_module, "MAX_LISTS", 2)
    assert len(read(data * 2, FILE)) == 2
    refuse_list(data * 3, match="more than 2 lists")
    monkeypatch.setattr(crl_module, "MAX_FILE_OCTETS", len(data))
    read(data, FILE)
    refuse_list(data + b"\n", match=f"has {len(data) + 1} octets, allowed are {len(data)}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello",
        b"0",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        b"-----BEGIN X509 CRL-----",
    ],
)
def test_h29_garbage(data: bytes) -> None:
    refuse_list(data, match=f"^CRL {re.escape(FILE)} (is|ends)")


def test_h29_odd_names_write_nothing_on_standard_error() -> None:
    authority = root()
    private = authority.private
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "Atlantis", _validate=False)
        name = x509.Name([odd])
        certificate = build(name, name, private.public_key(), private, ca=True)
        data = crl(Authority(certificate, private))
    (one,) = read(data, FILE)  # warnings are errors in these tests
    assert one.issuer_title == '"C=Atlantis"'


_SAMPLE = crl(root("Root ecp256", "ecp256"), entry(5, (COMPROMISE, False)), number=4)


@given(st.integers(0, len(_SAMPLE) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_h29_every_octet_counts(at: int, flip: int) -> None:
    """A changed list is refused, whatever the octet: nothing in it is left unsigned."""
    changed = _SAMPLE[:at] + bytes((_SAMPLE[at] ^ flip,)) + _SAMPLE[at + 1 :]
    ca = root("Root ecp256", "ecp256")
    try:
        lists = read(changed, FILE)
    except CrlRefused:
        return
    parsed = TrustAnchors((ca.certificate,))._anchors[0]
    assert all(one.problem_with(parsed) for one in lists)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_h29_random_octets(data: bytes) -> None:
    for prefix in (b"", b"\x30", b"-----BEGIN X509 CRL-----\n"):
        with pytest.raises(CrlRefused):
            read(prefix + data, FILE)


def test_the_signature_is_judged_once_for_each_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    ca = root()
    leaf = ca.issue("alice", ALICE)
    trust = anchors(ca, mode=REQUIRED)
    take(trust, crl(ca))
    accept(trust, leaf)
    monkeypatch.setattr(
        crl_module.SignedObject, "signed_by", lambda *_: pytest.fail("judged again")
    )
    accept(trust, leaf)
    accept(trust, ca.issue("carol", ALICE))


def test_required_needs_a_source() -> None:
    with pytest.raises(ValueError, match="no CRL file and no OCSP responder"):
        RevocationPolicy(REQUIRED)
    with pytest.raises(ValueError, match="seconds from 0 on"):
        RevocationPolicy(crl_grace_s=-1)


@needs_openssl
@pytest.mark.parametrize("kind", ["ecp256", "rsa2048", "ed25519"])
def test_lists_made_by_openssl(tmp_path: Path, kind: str) -> None:
    now = wall_clock()
    ca = root("Openssl " + kind, kind, before=now - DAY, after=now + DAY)
    good, bad = (ca.issue("alice", ALICE, before=now - DAY, after=now + DAY) for _ in range(2))
    judge = OpensslCa(tmp_path, ca)
    judge.list(good, revoked=False)
    judge.list(bad, revoked=True)
    strict = anchors(ca, mode=REQUIRED)
    take(strict, judge.crl())
    accept(strict, good, now=wall_clock())
    refuse(strict, bad, match="keyCompromise", now=wall_clock())


@needs_openssl
@pytest.mark.parametrize("version", [1, 2])
def test_lists_of_openssl_without_extensions_and_with_pss(tmp_path: Path, version: int) -> None:
    now = wall_clock()
    ca = root("Openssl rsa2048", "rsa2048", before=now - DAY, after=now + DAY)
    good, bad = (ca.issue("alice", ALICE, before=now - DAY, after=now + DAY) for _ in range(2))
    judge = OpensslCa(tmp_path, ca, version=version)
    judge.list(bad, revoked=True)
    strict = anchors(ca, mode=REQUIRED)
    pss = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32")
    take(strict, judge.crl(*(pss if version == 2 else ())))
    accept(strict, good, now=wall_clock())
    refuse(strict, bad, match="was revoked", now=wall_clock())


@needs_openssl
def test_h29_a_list_of_openssl_about_users_only(tmp_path: Path) -> None:
    now = wall_clock()
    ca = root("Openssl", "ecp256", before=now - DAY, after=now + DAY)
    good = ca.issue("alice", ALICE, before=now - DAY, after=now + DAY)
    extensions = (
        "crl_extensions = ext\n[ext]\nissuingDistributionPoint = critical,@point\n"
        "[point]\nonlyuser = TRUE\n"
    )
    strict = anchors(ca, mode=REQUIRED)
    take(strict, OpensslCa(tmp_path, ca, extensions).crl())
    accept(strict, good, now=wall_clock())
    extensions = extensions.replace("onlyuser", "indirectCRL")
    refuse_list(OpensslCa(tmp_path, ca, extensions).crl(), match="is indirect", of=ca)


def test_h29_addresses_in_certificates_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("touched the network")

    for name in ("socket.socket", "socket.getaddrinfo", "socket.create_connection"):
        monkeypatch.setattr(name, forbidden)
    url = x509.UniformResourceIdentifier("http://192.0.2.1/evil")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(x509.AuthorityInformationAccessOID.OCSP, url),
            x509.AccessDescription(x509.AuthorityInformationAccessOID.CA_ISSUERS, url),
        ]
    )
    ca = root()
    leaf = ca.issue("alice", ALICE, extensions=((points, False), (access, False)))
    accept(anchors(ca), leaf)
    refuse(anchors(ca, mode=REQUIRED), leaf, match="there is no CRL of")
