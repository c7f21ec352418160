"""What is shown of CAs and certificates."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.appliance.provisioning.keeping import Keeping, Kept
from gateway.control.provisioning_operations import (
    AuthorityView,
    CaView,
    CertificateView,
    GatewayCertificateView,
)
from gateway.provisioning import ca
from gateway.store.certificates import StoredCertificate


def ca_view(keeping: Keeping) -> CaView:
    """The result of `ca`."""
    authorities = keeping.authorities()
    gateway = keeping.gateway()
    number, next_update = keeping.crl_state()
    pems = [ca.certificate_pem(one.authority.certificate).decode() for one in authorities]
    return {
        "enabled": True,
        "authorities": [_authority(one, current=not at) for at, one in enumerate(authorities)],
        "gateway": None if gateway is None else _gateway(gateway.certificate),
        "crl_number": number or None,
        "crl_next_update": next_update or None,
        "pem": "".join(pems),
    }


def no_ca() -> CaView:
    """Where provisioning is off."""
    return {
        "enabled": False,
        "authorities": [],
        "gateway": None,
        "crl_number": None,
        "crl_next_update": None,
        "pem": "",
    }


def _authority(kept: Kept, *, current: bool) -> AuthorityView:
    certificate = kept.authority.certificate
    return {
        "serial": kept.serial,
        "title": kept.authority.title,
        "not_before": _seconds(certificate.not_valid_before_utc),
        "not_after": _seconds(certificate.not_valid_after_utc),
        "has_key": kept.issues,
        "external": kept.external,
        "current": current,
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _gateway(certificate: x509.Certificate) -> GatewayCertificateView:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        "serial": ca.serial_text(certificate),
        "names": [str(one.value) for one in names],
        "not_before": _seconds(certificate.not_valid_before_utc),
        "not_after": _seconds(certificate.not_valid_after_utc),
    }


def _seconds(at: datetime) -> float:
    return at.timestamp()


def certificate_view(row: StoredCertificate) -> CertificateView:
    """One of `certificates`."""
    return {
        "serial": row.serial,
        "purpose": row.purpose,
        "device": row.device,
        "identity": row.identity,
        "not_before": row.not_before,
        "not_after": row.not_after,
        "issued_at": row.issued_at,
        "revoked_at": row.revoked_at,
        "reason": row.reason,
        "pem": row.pem,
    }
