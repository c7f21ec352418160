"""Asking an OCSP responder about one certificate, and judging its answer (RFC 6960, RFC 9654)."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.ike.auth import certificates
from gateway.ike.auth.certificates import BROKEN, CertificateRefused, ParsedCertificate, quiet
from gateway.ike.auth.crl import CLOCK_SKEW, Revoked, date
from gateway.ike.auth.der import SEQUENCE, elements, only
from gateway.ike.auth.identity import escape
from gateway.ike.auth.signatures import SignedObject

MAX_ANSWER_OCTETS = 65_536
MAX_CERTIFICATES = 8
"""In an answer; one is used."""
NONCE_OCTETS = 32
UNDATED_LIFETIME = timedelta(minutes=5)
"""An answer without nextUpdate may be replaced at any time; so long it is used."""

_OCTET_STRING, _EXPLICIT_0 = 0x04, 0xA0
# The hash only names the issuer (RFC 5019 section 2.1.1); responders know no other for certain.
_ID_HASH = hashes.SHA1()  # noqa: S303


class OcspRefused(ValueError):  # noqa: N818 - named for what it is
    """An answer of a responder that does not count. The text is for the administrator."""


CertId = tuple[bytes, bytes, int]
"""Hash of the issuer's name, hash of its key, serial number."""


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """A question that is to be put to the responder at ``url``: POST ``der`` to it."""

    url: str
    der: bytes
    cert_id: CertId
    nonce: bytes
    certificate: ParsedCertificate = field(repr=False, compare=False)
    issuer: ParsedCertificate = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """What a responder said of one certificate, with everything checked."""

    status: ocsp.OCSPCertStatus
    revoked: Revoked | None
    this_update: datetime
    good_until: datetime
    """With the skew of clocks."""


def cert_id(certificate: ParsedCertificate, issuer: ParsedCertificate) -> CertId:
    """What names a certificate to responders (RFC 6960 section 4.1.1)."""
    context = hashes.Hash(_ID_HASH)
    context.update(issuer.subject)
    key_hash = x509.SubjectKeyIdentifier.from_public_key(issuer.key).digest
    return context.finalize(), key_hash, certificate.certificate.serial_number


def build(
    url: str,
    certificate: ParsedCertificate,
    issuer: ParsedCertificate,
    random: Callable[[int], bytes],
) -> OcspRequest:
    """The question whether ``certificate``, issued by ``issuer``, is revoked."""
    nonce = random(NONCE_OCTETS)
    request = (
        ocsp.OCSPRequestBuilder()
        .add_certificate(certificate.certificate, issuer.certificate, _ID_HASH)
        .add_extension(x509.OCSPNonce(nonce), critical=False)
        .build()
    )
    return OcspRequest(
        url,
        request.public_bytes(Encoding.DER),
        cert_id(certificate, issuer),
        nonce,
        certificate,
        issuer,
    )


def judge(
    request: OcspRequest,
    der: bytes,
    now: datetime,
    revoked_by_list: Callable[[ParsedCertificate], Revoked | None],
) -> OcspAnswer:
    """What the answer says, if it is one to the request, fresh, and signed by who may.

    ``revoked_by_list`` looks a responder's own certificate up in the CRLs. Raises
    :class:`OcspRefused`.
    """
    if len(der) > MAX_ANSWER_OCTETS:
        raise OcspRefused(f"has {len(der)} octets, allowed are {MAX_ANSWER_OCTETS}")
    with quiet():
        try:
            return _judge(request, der, now, revoked_by_list)
        except OcspRefused:
            raise
        except CertificateRefused as refused:
            raise OcspRefused(f"has a certificate that cannot be used: {refused}") from None
        except BROKEN as error:
            raise OcspRefused(f"is broken: {escape(str(error), 160)}") from None


def _judge(
    request: OcspRequest,
    der: bytes,
    now: datetime,
    revoked_by_list: Callable[[ParsedCertificate], Revoked | None],
) -> OcspAnswer:
    response = ocsp.load_der_ocsp_response(der)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise OcspRefused(f'is the refusal "{response.response_status.name.lower()}"')
    # Signature first: nothing that is not signed needs to be looked at.
    signed = SignedObject.split(_basic_response(der), inner_algorithm=False)
    _check_signature(request, response, signed, now, revoked_by_list)
    _check_extensions(request, response)
    answers = list(response.responses)
    if len(answers) != 1:
        raise OcspRefused(f"is about {len(answers)} certificates, we asked about one")
    single = answers[0]
    about = (single.issuer_name_hash, single.issuer_key_hash, single.serial_number)
    if not isinstance(single.hash_algorithm, hashes.SHA1) or about != request.cert_id:
        raise OcspRefused("is about another certificate")
    return _check_times(single, now)


def _basic_response(der: bytes) -> bytes:
    """The BasicOCSPResponse inside (RFC 6960 section 4.2.1)."""
    parts = list(elements(only(der, SEQUENCE)))
    if len(parts) != 2 or parts[1][0] != _EXPLICIT_0:
        raise ValueError("broken ASN.1: OCSP response")
    inner = list(elements(only(parts[1][1], SEQUENCE)))
    if len(inner) != 2 or inner[1][0] != _OCTET_STRING:
        raise ValueError("broken ASN.1: OCSP response bytes")
    return inner[1][1]


def _check_signature(
    request: OcspRequest,
    response: ocsp.OCSPResponse,
    signed: SignedObject,
    now: datetime,
    revoked_by_list: Callable[[ParsedCertificate], Revoked | None],
) -> None:
    issuer = request.issuer
    if _is_responder(response, issuer.certificate):
        if not signed.signed_by(issuer.key):
            raise OcspRefused(f"is not signed with the key of {issuer.title}")
        return
    supplied = response.certificates
    if len(supplied) > MAX_CERTIFICATES:
        raise OcspRefused(f"has {len(supplied)} certificates, allowed are {MAX_CERTIFICATES}")
    for certificate in supplied:
        if _is_responder(response, certificate):
            break
    else:
        raise OcspRefused(f"is signed neither by {issuer.title} nor with a certificate that it has")
    responder = certificates.read(certificate, certificate.public_bytes(Encoding.DER))
    _check_delegate(responder, issuer, now)
    if not signed.signed_by(responder.key):
        raise OcspRefused(f"is not signed with the key of {responder.title}")
    revoked = revoked_by_list(responder)
    if revoked is not None:
        raise OcspRefused(f"is signed by {responder.title}, whose certificate {revoked}")


def _is_responder(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    by_key = response.responder_key_hash
    if by_key is None:
        return response.responder_name == certificate.subject
    key = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    return hmac.compare_digest(by_key, key.digest)


def _check_delegate(responder: ParsedCertificate, issuer: ParsedCertificate, now: datetime) -> None:
    """A responder that the issuer itself named for this (RFC 6960 section 4.2.2.2)."""
    try:
        responder.certificate.verify_directly_issued_by(issuer.certificate)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        raise OcspRefused(
            f"is signed by {responder.title}, who is not certified by {issuer.title}"
        ) from None
    SignedObject.split(responder.der, inner_algorithm=True)  # refuses weak hashes
    extended = responder.extended_usage
    if extended is None or ExtendedKeyUsageOID.OCSP_SIGNING not in list(extended):
        raise OcspRefused(f"is signed by {responder.title}, whose certificate lacks OCSPSigning")
    usage = responder.usage
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise OcspRefused(f"is signed by {responder.title}, whose key usage allows no signatures")
    if not responder.not_before - CLOCK_SKEW <= now <= responder.not_after:
        raise OcspRefused(f"is signed by {responder.title}, whose certificate is not valid now")


def _check_extensions(request: OcspRequest, response: ocsp.OCSPResponse) -> None:
    for extension in response.extensions:
        value = extension.value
        if isinstance(value, x509.OCSPNonce):
            if not hmac.compare_digest(value.nonce, request.nonce):
                raise OcspRefused("has a nonce that is not ours: it answers another request")
        elif extension.critical:
            raise _unknown(extension)
    for extension in response.single_extensions:
        if extension.critical:
            raise _unknown(extension)


def _unknown(extension: x509.Extension[x509.ExtensionType]) -> OcspRefused:
    oid = extension.oid.dotted_string
    return OcspRefused(f"has the critical extension {oid}, which is not known")


def _check_times(single: ocsp.OCSPSingleResponse, now: datetime) -> OcspAnswer:
    made, following = single.this_update_utc, single.next_update_utc
    if made > now + CLOCK_SKEW:
        raise OcspRefused(f"is dated {date(made)}, which is in the future")
    if following is None:
        if made + UNDATED_LIFETIME + CLOCK_SKEW < now:
            raise OcspRefused(f"is from {date(made)} and does not say for how long it is true")
        good_until = now + UNDATED_LIFETIME
    else:
        good_until = following + CLOCK_SKEW
    if good_until < now:
        raise OcspRefused(f"is out of date since {date(following or made)}")
    revoked = None
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        at, reason = single.revocation_time_utc, single.revocation_reason
        revoked = Revoked(at or made, None if reason is None else reason.value)
    return OcspAnswer(single.certificate_status, revoked, made, good_until)
