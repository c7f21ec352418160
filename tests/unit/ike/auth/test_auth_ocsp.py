"""OCSP: what we ask, whose answers count, and what the handshake sees of it."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certificate_authorities import DAY, NOW, Authority, root, usage
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as library
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from revocation_sources import (
    HOUR,
    OpensslCa,
    answer,
    crl,
    entry,
    needs_openssl,
    openssl,
    wall_clock,
)

from gateway.ike.auth import revocation as revocation_module
from gateway.ike.auth.credentials import CertificateRefused, TrustAnchors
from gateway.ike.auth.crl import read
from gateway.ike.auth.identity import Identity
from gateway.ike.auth.ocsp import OcspRequest
from gateway.ike.auth.revocation import (
    Revocation,
    RevocationMode,
    RevocationPending,
    RevocationPolicy,
)

ALICE = x509.RFC822Name("alice@example.com")
WHO = Identity.parse("alice@example.com")
URL = "http://ocsp.example.com/ask"
REQUIRED, WHEN_KNOWN = RevocationMode.REQUIRED, RevocationMode.WHEN_KNOWN
UNKNOWN, REVOKED = library.OCSPCertStatus.UNKNOWN, library.OCSPCertStatus.REVOKED
SIGNING = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
MINUTE = timedelta(minutes=1)


def counting() -> Callable[[int], bytes]:
    """Random octets that repeat from run to run."""
    state = [0]

    def random(size: int) -> bytes:
        state[0] += 1
        return bytes([state[0]]) * size

    return random


def anchors(*authorities: Authority, mode: RevocationMode = REQUIRED) -> TrustAnchors:
    policy = RevocationPolicy(mode, (), URL)
    return TrustAnchors(
        [one.certificate for one in authorities], Revocation(policy, random=counting())
    )


def pending(trust: TrustAnchors, *chain: Authority, now: datetime = NOW) -> OcspRequest:
    with pytest.raises(RevocationPending) as caught:
        trust.validate([one.der for one in chain], WHO, now)
    assert caught.value.leaf == chain[0].certificate
    return caught.value.request


def accept(trust: TrustAnchors, *chain: Authority, now: datetime = NOW) -> None:
    assert trust.validate([one.der for one in chain], WHO, now) == chain[0].certificate


def refuse(trust: TrustAnchors, *chain: Authority, match: str, now: datetime = NOW) -> None:
    with pytest.raises(CertificateRefused, match=match) as caught:
        trust.validate([one.der for one in chain], WHO, now)
    assert not isinstance(caught.value, RevocationPending)


@pytest.fixture
def ca() -> Authority:
    return root("Root ecp256", "ecp256")


@pytest.fixture
def leaf(ca: Authority) -> Authority:
    return ca.issue("alice", ALICE)


def refused_answer(der: bytes, ca: Authority, leaf: Authority, match: str) -> None:
    """Such an answer does not count: required refuses, the other policy takes no notice."""
    for mode in (REQUIRED, WHEN_KNOWN):
        trust = anchors(ca, mode=mode)
        why = trust.take_ocsp_response(pending(trust, leaf), der, NOW)
        assert why is not None
        assert why.startswith(f"the answer of OCSP responder {URL} ")
        assert re.search(match, why), why
        if mode is REQUIRED:
            refuse(trust, leaf, match="it is not known whether certificate.*" + match)
        else:
            accept(trust, leaf)


def test_a_good_answer_is_asked_for_once(ca: Authority, leaf: Authority) -> None:
    trust = anchors(ca)
    request = pending(trust, leaf)
    assert request.url == URL
    assert trust.take_ocsp_response(request, answer(leaf, ca), NOW) is None
    accept(trust, leaf)
    accept(trust, leaf, now=NOW + 59 * MINUTE)


def test_the_request_is_what_the_rfc_says(ca: Authority, leaf: Authority) -> None:
    request = pending(anchors(ca), leaf)
    parsed = library.load_der_ocsp_request(request.der)
    assert parsed.serial_number == leaf.certificate.serial_number
    assert isinstance(parsed.hash_algorithm, hashes.SHA1)
    assert (parsed.issuer_name_hash, parsed.issuer_key_hash) == request.cert_id[:2]
    (nonce,) = parsed.extensions
    assert nonce.value == x509.OCSPNonce(b"\x01" * 32)
    assert request.nonce == b"\x01" * 32


@pytest.mark.parametrize("mode", [REQUIRED, WHEN_KNOWN])
def test_a_revoked_certificate(ca: Authority, leaf: Authority, mode: RevocationMode) -> None:
    trust = anchors(ca, mode=mode)
    trust.take_ocsp_response(pending(trust, leaf), answer(leaf, ca, status=REVOKED), NOW)
    refuse(
        trust,
        leaf,
        match=r'^certificate [0-9a-f:]+ of "O=Example, CN=alice" was revoked on '
        rf"2030-05-31 12:00:00 UTC \(keyCompromise\), says OCSP responder {URL}$",
    )


@pytest.mark.parametrize("kind", ["ed25519", "ecp384", "rsa2048", "ed448"])
@pytest.mark.parametrize("by_name", [False, True])
def test_answers_of_the_issuer_and_of_delegates(kind: str, by_name: bool) -> None:
    ca = root("Root " + kind, kind)
    leaf = ca.issue("alice", ALICE)
    delegate = ca.issue("Responder", kind=kind, extensions=(SIGNING,))
    for der in (
        answer(leaf, ca, by_name=by_name),
        answer(leaf, ca, signer=delegate, certificates=(delegate,), by_name=by_name),
        answer(leaf, ca, signer=delegate, certificates=(ca, delegate), by_name=by_name),
    ):
        trust = anchors(ca)
        assert trust.take_ocsp_response(pending(trust, leaf), der, NOW) is None
        accept(trust, leaf)


def test_unknown_is_refused_when_required(ca: Authority, leaf: Authority) -> None:
    der = answer(leaf, ca, status=UNKNOWN)
    strict, lax = anchors(ca), anchors(ca, mode=WHEN_KNOWN)
    for trust in (strict, lax):
        assert trust.take_ocsp_response(pending(trust, leaf), der, NOW) is None
    refuse(strict, leaf, match=f"OCSP responder {URL} does not know it; there is no CRL of")
    accept(lax, leaf)


def test_no_answer(ca: Authority, leaf: Authority) -> None:
    strict, lax = anchors(ca), anchors(ca, mode=WHEN_KNOWN)
    for trust in (strict, lax):
        assert "did not come" in str(trust.take_ocsp_response(pending(trust, leaf), None, NOW))
    refuse(strict, leaf, match="not known whether.*did not come")
    accept(lax, leaf)
    for trust in (strict, lax):
        pending(trust, leaf, now=NOW + revocation_module.RETRY_AFTER)


def test_a_list_vouches_where_the_responder_is_silent(ca: Authority, leaf: Authority) -> None:
    trust = anchors(ca)
    trust.take_crls("ca.crl", read(crl(ca), "ca.crl"))
    trust.take_ocsp_response(pending(trust, leaf), None, NOW)
    accept(trust, leaf)


def test_what_a_list_revokes_is_not_asked_about(ca: Authority, leaf: Authority) -> None:
    trust = anchors(ca)
    trust.take_crls("ca.crl", read(crl(ca, entry(leaf)), "ca.crl"))
    refuse(trust, leaf, match="was revoked on.*, says CRL ca.crl")


def test_the_responder_knows_better_than_the_list(ca: Authority, leaf: Authority) -> None:
    trust = anchors(ca)
    trust.take_crls("ca.crl", read(crl(ca), "ca.crl"))
    trust.take_ocsp_response(pending(trust, leaf), answer(leaf, ca, status=REVOKED), NOW)
    refuse(trust, leaf, match="was revoked on.*says OCSP responder")


def test_the_whole_path_is_asked_about(ca: Authority) -> None:
    middle = ca.issue("Middle", ca=True, kind="ecp256")
    leaf = middle.issue("alice", ALICE)
    trust = anchors(ca)
    first = pending(trust, leaf, middle)
    assert first.cert_id[2] == leaf.certificate.serial_number
    assert trust.take_ocsp_response(first, answer(leaf, middle), NOW) is None
    second = pending(trust, leaf, middle)
    assert second.cert_id[2] == middle.certificate.serial_number
    assert trust.take_ocsp_response(second, answer(middle, ca), NOW) is None
    accept(trust, leaf, middle)
    other = middle.issue("carol", ALICE)
    trust.take_ocsp_response(pending(trust, other, middle), answer(other, middle), NOW)
    accept(trust, other, middle)


def test_renewal_keeps_a_good_answer_while_the_responder_is_silent(
    ca: Authority, leaf: Authority
) -> None:
    trust = anchors(ca)
    trust.take_ocsp_response(pending(trust, leaf), answer(leaf, ca), NOW)
    later = NOW + HOUR
    request = pending(trust, leaf, now=later)
    trust.take_ocsp_response(request, None, later)
    accept(trust, leaf, now=later)
    again = later + revocation_module.RETRY_AFTER
    der = answer(leaf, ca, status=REVOKED, this_update=again)
    trust.take_ocsp_response(pending(trust, leaf, now=again), der, again)
    refuse(trust, leaf, match="was revoked", now=again)


def test_answers_end_with_their_next_update(ca: Authority, leaf: Authority) -> None:
    trust = anchors(ca)
    der = answer(leaf, ca, next_update=NOW + 10 * MINUTE)
    trust.take_ocsp_response(pending(trust, leaf), der, NOW)
    accept(trust, leaf, now=NOW + 14 * MINUTE)
    end = NOW + 16 * MINUTE
    trust.take_ocsp_response(pending(trust, leaf, now=end), None, end)
    refuse(trust, leaf, match="did not come", now=end)


def test_answers_without_next_update_are_good_for_minutes(ca: Authority, leaf: Authority) -> None:
    trust = anchors(ca)
    der = answer(leaf, ca, this_update=NOW, next_update=None)
    trust.take_ocsp_response(pending(trust, leaf), der, NOW)
    accept(trust, leaf, now=NOW + 4 * MINUTE)
    pending(trust, leaf, now=NOW + 6 * MINUTE)
    old = answer(leaf, ca, this_update=NOW - HOUR, next_update=None)
    refused_answer(old, ca, leaf, "does not say for how long")


def test_those_who_wait_share_one_question(ca: Authority, leaf: Authority) -> None:
    trust = anchors(ca)
    first, second = pending(trust, leaf), pending(trust, leaf)
    assert first is second
    other = pending(trust, ca.issue("carol", ALICE))
    assert other.nonce != first.nonce
    later = NOW + revocation_module.QUESTION_LIFETIME
    assert pending(trust, leaf, now=later).nonce not in (first.nonce, other.nonce)
    der = answer(leaf, ca, nonce=first.nonce)
    assert trust.take_ocsp_response(first, der, NOW) is None
    assert trust.take_ocsp_response(second, der, NOW) is None
    accept(trust, leaf)


def test_the_caches_are_bounded(
    ca: Authority, leaf: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_module, "MAX_ANSWERS", 2)
    trust = anchors(ca)
    others = [ca.issue(f"user {i}", ALICE) for i in range(3)]
    for one in (leaf, *others):
        trust.take_ocsp_response(pending(trust, one), answer(one, ca), NOW)
    revocation = trust.revocation
    assert revocation is not None
    for one in others[1:]:
        accept(trust, one)
    for one in (leaf, others[0]):
        trust.take_ocsp_response(pending(trust, one), None, NOW)
    for i in range(5):
        pending(trust, ca.issue(f"more {i}", ALICE))
    caches = (revocation._kept, revocation._failed, revocation._asked)
    assert [len(cache) for cache in caches] == [2, 2, 2]


def test_h29_an_older_answer_replaces_no_newer(ca: Authority, leaf: Authority) -> None:
    trust = anchors(ca)
    request = pending(trust, leaf)
    newer = answer(leaf, ca, status=REVOKED, this_update=NOW - MINUTE)
    trust.take_ocsp_response(request, newer, NOW)
    trust.take_ocsp_response(request, answer(leaf, ca), NOW)
    refuse(trust, leaf, match="was revoked")


def test_h29_nonces_that_are_not_ours(ca: Authority, leaf: Authority) -> None:
    refused_answer(answer(leaf, ca, nonce=b"\x63" * 32), ca, leaf, "nonce that is not ours")
    trust = anchors(ca)
    request = pending(trust, leaf)
    der = answer(leaf, ca, nonce=request.nonce)
    assert trust.take_ocsp_response(request, der, NOW) is None
    accept(trust, leaf)


def test_h29_answers_about_others(ca: Authority, leaf: Authority) -> None:
    other = ca.issue("carol", ALICE)
    refused_answer(answer(other, ca), ca, leaf, "is about another certificate")
    refused_answer(answer(leaf, ca, digest=hashes.SHA256()), ca, leaf, "about another certificate")
    twin = root("Root ecp256", "ecp384")
    refused_answer(answer(leaf, twin, signer=ca), ca, leaf, "about another certificate")


def test_h29_answers_at_the_wrong_time(ca: Authority, leaf: Authority) -> None:
    late = answer(leaf, ca, this_update=NOW - DAY, next_update=NOW - HOUR)
    refused_answer(late, ca, leaf, "is out of date since 2030-06-01 11:00:00 UTC")
    early = answer(leaf, ca, this_update=NOW + HOUR)
    refused_answer(early, ca, leaf, "is dated 2030-06-01 13:00:00 UTC, which is in the future")


def test_h29_signers_who_may_not(ca: Authority, leaf: Authority) -> None:
    def by(signer: Authority, *certificates: Authority) -> bytes:
        return answer(leaf, ca, signer=signer, certificates=certificates)

    stranger = root("Stranger", extensions=(SIGNING,))
    refused_answer(by(stranger), ca, leaf, "signed neither by .* nor with a certificate that it")
    refused_answer(by(stranger, stranger), ca, leaf, "Stranger.* who is not certified by")
    plain = ca.issue("Plain")
    refused_answer(by(plain, plain), ca, leaf, "lacks OCSPSigning")
    anything = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    vague = ca.issue("Vague", extensions=((anything, False),))
    refused_answer(by(vague, vague), ca, leaf, "lacks OCSPSigning")
    middle = ca.issue("Middle", ca=True)
    nephew = middle.issue("Nephew", extensions=(SIGNING,))
    refused_answer(by(nephew, nephew, middle), ca, leaf, "Nephew.* who is not certified by")
    mute = ca.issue("Mute", extensions=(SIGNING, (usage("key_agreement"), True)))
    refused_answer(by(mute, mute), ca, leaf, "key usage allows no signatures")
    gone = ca.issue("Gone", extensions=(SIGNING,), after=NOW - HOUR)
    refused_answer(by(gone, gone), ca, leaf, "certificate is not valid now")
    weak = ca.issue("Weak", extensions=(SIGNING,), kind="rsa1024")
    refused_answer(by(weak, weak), ca, leaf, "certificate that cannot be used.*1024 bits")
    crowd = tuple(ca.issue(f"One {i}", extensions=(SIGNING,)) for i in range(9))
    refused_answer(by(crowd[0], *crowd), ca, leaf, "has 9 certificates, allowed are 8")
    # The responder of the leaf's own making: the name of the issuer alone is worth nothing.
    twin = root("Root ecp256", "ecp384")
    forged = answer(leaf, ca, signer=twin, by_name=True)
    refused_answer(forged, ca, leaf, "not signed with the key of")


def test_h29_a_delegate_that_was_revoked(ca: Authority, leaf: Authority) -> None:
    delegate = ca.issue("Responder", extensions=(SIGNING,))
    trust = anchors(ca)
    trust.take_crls("ca.crl", read(crl(ca, entry(delegate)), "ca.crl"))
    der = answer(leaf, ca, signer=delegate, certificates=(delegate,))
    why = trust.take_ocsp_response(pending(trust, leaf), der, NOW)
    assert 'is signed by "O=Example, CN=Responder", whose certificate was revoked on' in str(why)


def test_h29_critical_extensions(ca: Authority, leaf: Authority) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.9.9"), b"\5\0")
    der = answer(leaf, ca, extensions=((unknown, True),))
    refused_answer(der, ca, leaf, r"critical extension 1\.3\.6\.1\.4\.1\.9\.9, which is not known")
    harmless = answer(leaf, ca, extensions=((unknown, False),))
    trust = anchors(ca)
    assert trust.take_ocsp_response(pending(trust, leaf), harmless, NOW) is None


@pytest.mark.parametrize(
    "status",
    [one for one in library.OCSPResponseStatus if one is not library.OCSPResponseStatus.SUCCESSFUL],
)
def test_h29_refusals_of_the_responder(
    ca: Authority, leaf: Authority, status: library.OCSPResponseStatus
) -> None:
    der = library.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)
    refused_answer(der, ca, leaf, f'is the refusal "{status.name.lower()}"')


@pytest.mark.parametrize("der", [b"", b"\0", b"\x30\x03\x0a\x01\x00", b"\x30\x80", b"<html>"])
def test_h29_garbage_for_an_answer(ca: Authority, leaf: Authority, der: bytes) -> None:
    refused_answer(der, ca, leaf, "is broken")


def test_h29_huge_answers(ca: Authority, leaf: Authority) -> None:
    refused_answer(b"\x30" * 65_537, ca, leaf, "has 65537 octets, allowed are 65536")


_CA = root("Root ecp256", "ecp256")
_LEAF = _CA.issue("alice", ALICE)
_SAMPLE = answer(_LEAF, _CA)


@given(st.integers(0, len(_SAMPLE) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_h29_every_octet_of_an_answer_counts(at: int, flip: int) -> None:
    trust = anchors(_CA)
    changed = _SAMPLE[:at] + bytes((_SAMPLE[at] ^ flip,)) + _SAMPLE[at + 1 :]
    assert trust.take_ocsp_response(pending(trust, _LEAF), changed, NOW) is not None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ocsp.example.com",
        "ftp://ocsp.example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://user:secret@ocsp.example.com/",
        "http://ocsp.example.com:0/",
        "http://ocsp.example.com:99999/",
        "http://ocsp.example.com/\r\nX: y",
        "http://ocsp.example.com/a b",
        "http://[::1/",
    ],
)
def test_h29_addresses_that_are_no_responder(url: str) -> None:
    with pytest.raises(ValueError, match="the OCSP responder"):
        RevocationPolicy(REQUIRED, (), url)


def test_h29_the_responder_of_a_certificate_is_never_asked(ca: Authority) -> None:
    evil = x509.UniformResourceIdentifier("http://192.0.2.1/evil")
    access = x509.AuthorityInformationAccess(
        [x509.AccessDescription(x509.AuthorityInformationAccessOID.OCSP, evil)]
    )
    leaf = ca.issue("alice", ALICE, extensions=((access, False),))
    assert pending(anchors(ca), leaf).url == URL
    policy = RevocationPolicy(REQUIRED, (Path("ca.crl"),))
    refuse(TrustAnchors([ca.certificate], Revocation(policy)), leaf, match="there is no CRL")


def test_who_does_not_know_the_exception_refuses(ca: Authority, leaf: Authority) -> None:
    with pytest.raises(
        CertificateRefused, match=f"responder {URL} must be asked about certificate"
    ):
        anchors(ca).validate([leaf.der], WHO, NOW)


@needs_openssl
@pytest.mark.parametrize("kind", ["ecp256", "rsa2048"])
@pytest.mark.parametrize("delegated", [False, True])
def test_openssl_answers_our_requests(tmp_path: Path, kind: str, delegated: bool) -> None:
    now = wall_clock()
    times: dict[str, Any] = {"before": now - DAY, "after": now + DAY}
    ca = root("Openssl " + kind, kind, **times)
    good, bad, strange = (ca.issue(f"user {i}", ALICE, kind=kind, **times) for i in range(3))
    delegate = ca.issue("Responder", kind=kind, extensions=(SIGNING,), **times)
    judge = OpensslCa(tmp_path, ca)
    judge.list(good, revoked=False)
    judge.list(bad, revoked=True)
    trust = anchors(ca)
    for one in (good, bad, strange):
        request = pending(trust, one, now=now)
        der = judge.answer(request.der, delegate if delegated else None)
        assert trust.take_ocsp_response(request, der, wall_clock()) is None
        assert library.load_der_ocsp_response(der).extensions.get_extension_for_class(
            x509.OCSPNonce
        ).value == x509.OCSPNonce(request.nonce)
    accept(trust, good, now=wall_clock())
    refuse(trust, bad, match="keyCompromise", now=wall_clock())
    refuse(trust, strange, match="does not know it", now=wall_clock())


@needs_openssl
def test_an_answer_of_openssl_with_pss(tmp_path: Path) -> None:
    now = wall_clock()
    ca = root("Openssl rsa2048", "rsa2048", before=now - DAY, after=now + DAY)
    leaf = ca.issue("alice", ALICE, before=now - DAY, after=now + DAY)
    judge = OpensslCa(tmp_path, ca)
    judge.list(leaf, revoked=False)
    trust = anchors(ca)
    request = pending(trust, leaf, now=now)
    pss = ("rsa_padding_mode:pss", "rsa_pss_saltlen:32")
    der = judge.answer(request.der, None, *(word for one in pss for word in ("-rsigopt", one)))
    assert bytes.fromhex("2a864886f70d01010a") in der
    assert trust.take_ocsp_response(request, der, wall_clock()) is None
    accept(trust, leaf, now=wall_clock())


@needs_openssl
def test_openssl_reads_our_request(tmp_path: Path, ca: Authority, leaf: Authority) -> None:
    file = tmp_path / "request.der"
    file.write_bytes(pending(anchors(ca), leaf).der)
    text = openssl("ocsp", "-reqin", file, "-req_text")
    assert f"Serial Number: {leaf.certificate.serial_number:X}" in text.replace(
        "Number: 0", "Number: "
    )
    assert "OCSP Nonce" in text
    assert "Hash Algorithm: sha1" in text
