"""The list of revoked certificates (RFC 5280 section 5)."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from gateway.provisioning.ca import Authority, key_identifier, signing_digest
from gateway.provisioning.names import one_line
from gateway.provisioning.problem import ProvisioningRefusedError

RENEW_AT = 0.5
"""Of its life: nobody shall ever see a stale list."""

_BEGIN, _END = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"


class Reason(enum.StrEnum):
    """Why a certificate counts no more."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    SUPERSEDED = "superseded"
    CESSATION = "cessation"
    PRIVILEGE_WITHDRAWN = "privilege-withdrawn"


_FLAGS = {
    Reason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    Reason.SUPERSEDED: x509.ReasonFlags.superseded,
    Reason.CESSATION: x509.ReasonFlags.cessation_of_operation,
    Reason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
}


@dataclass(frozen=True, slots=True)
class Revoked:
    """One entry."""

    serial: int
    at: datetime
    reason: Reason = Reason.UNSPECIFIED


def make(
    authority: Authority, revoked: Iterable[Revoked], number: int, now: datetime, days: int
) -> bytes:
    """The list as PEM, good for ``days``; ``number`` must grow.

    Raises :class:`ProvisioningRefusedError`.
    """
    key = authority.key
    if key is None:
        why = (
            f"the key of {one_line(authority.title)} is not here; have it make the list, and name "
            "that in credentials.crl_files"
        )
        raise ProvisioningRefusedError("ca", why)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - timedelta(minutes=5))
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(key_identifier(authority.certificate), critical=False)
    )
    for one in sorted(revoked, key=lambda entry: entry.serial):
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.at)
        if one.reason in _FLAGS:
            entry = entry.add_extension(x509.CRLReason(_FLAGS[one.reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, signing_digest(key)).public_bytes(serialization.Encoding.PEM)


def published(authority: Authority, content: bytes) -> tuple[int, list[Revoked]]:
    """Number and entries of the list in a file that this CA has signed; 0 and none without one.

    ``content`` is one list after the other, as PEM; what makes no sense is passed over.
    """
    number, found = 0, list[Revoked]()
    for part in content.split(_END)[:-1]:
        try:
            one = x509.load_pem_x509_crl(part[max(0, part.find(_BEGIN)) :] + _END + b"\n")
            if not one.is_signature_valid(authority.certificate.public_key()):  # type: ignore[arg-type]
                continue
            numbered = one.extensions.get_extension_for_class(x509.CRLNumber)
            entries = [
                Revoked(entry.serial_number, entry.revocation_date_utc, _reason_of(entry))
                for entry in one
            ]
        except (ValueError, TypeError, x509.ExtensionNotFound, UnsupportedAlgorithm):
            continue
        number = max(number, numbered.value.crl_number)
        found += entries
    return number, found


def _reason_of(entry: x509.RevokedCertificate) -> Reason:
    try:
        given = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return Reason.UNSPECIFIED
    return next((one for one, flag in _FLAGS.items() if flag is given), Reason.UNSPECIFIED)
