"""The CA's own things in the store: authorities, the gateway's certificate, the CRL.

Everything here runs in the store's thread, within one transaction. What is to be in files comes
back as a :class:`Publication`, written once the transaction is done.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from sqlalchemy import Connection

from gateway.appliance.provisioning.publishing import Publication
from gateway.appliance.provisioning.wanted import Wanted
from gateway.provisioning import ca, crl
from gateway.provisioning.names import one_line
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.store.certificates import CertificateRepository, StoredCertificate
from gateway.store.errors import NotThereError
from gateway.store.sealing import Sealer
from gateway.store.settings import SettingRepository

CRL_SETTING = "crl"
RENEW_LEFT = 1 / 3
"""Of its life: then the gateway's certificate is renewed."""
MAKE_ANOTHER = timedelta(days=180)
"""So long before its CA ends, a new one may be made beside it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A CA that counts here."""

    authority: ca.Authority
    serial: str
    external: bool = False
    """Of others: the configuration's, or imported."""

    @property
    def issues(self) -> bool:
        """Whether its key is here."""
        return self.authority.key is not None

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether it issued a certificate."""
        try:
            certificate.verify_directly_issued_by(self.authority.certificate)
        except Exception:  # noqa: BLE001 - whatever is wrong with either of them, it is not
            return False
        return True


@dataclass(frozen=True, slots=True)
class GatewayCertificate:
    """The one in force."""

    certificate: x509.Certificate
    key: bytes = field(repr=False)


class Keeping:
    """The CA's things at one moment."""

    def __init__(
        self, connection: Connection, sealer: Sealer, wanted: Wanted, now: datetime
    ) -> None:
        self._certificates = CertificateRepository(connection, sealer)
        self._settings = SettingRepository(connection)
        self._wanted = wanted
        self._now = now

    # -- authorities ---------------------------------------------------------------------

    def authorities(self) -> list[Kept]:
        """Those that count, the one for new certificates first."""
        found = []
        if self._wanted.external is not None:
            external = ca.load(*self._wanted.external, self._now)
            found.append(Kept(external, ca.serial_text(external.certificate), external=True))
        for row in self._certificates.find(purpose="ca", revoked=False):
            if row.not_after > self._now.timestamp():
                stored = self._certificates.get(row.serial)
                authority = ca.load(stored.pem.encode(), stored.key, self._now)
                found.append(Kept(authority, row.serial, row.identity == "external"))
        # One without its key never hides one that can issue.
        return sorted(found, key=lambda one: not one.issues)

    def create_authority(self, name: str, kind: ca.KeyKind) -> Kept:
        """A new one. Raises :class:`ProvisioningRefusedError` where there is one in use."""
        self._may_replace()
        made = ca.create(name, self._now, kind=kind, days=self._wanted.ca_days)
        return self._keep(made, external=False)

    def import_authority(self, certificate: bytes, key: bytes | None) -> Kept:
        """One of others. Raises :class:`ProvisioningRefusedError`."""
        authority = ca.load(certificate, key, self._now)
        serial = ca.serial_text(authority.certificate)
        if any(one.serial == serial for one in self.authorities()):
            raise ProvisioningRefusedError("certificate", "is here already")
        return self._keep(authority, external=True)

    def _may_replace(self) -> None:
        used = self._certificates.count(purpose="device")
        for one in self.authorities():
            left = one.authority.certificate.not_valid_after_utc - self._now
            if one.issues and used and left > MAKE_ANOTHER:
                why = (
                    f"{one_line(one.authority.title)} is in use by {used} device certificates and "
                    f"good until {one.authority.certificate.not_valid_after_utc:%Y-%m-%d}; a new "
                    f"one is made in its last {MAKE_ANOTHER.days} days"
                )
                raise ProvisioningRefusedError("name", why)

    def _keep(self, authority: ca.Authority, *, external: bool) -> Kept:
        key = None if authority.key is None else ca.key_pem(authority.key)
        row = self._row(authority.certificate, "ca", "external" if external else "", key=key)
        if not external and not self._certificates.count(purpose="device"):
            for older in self._certificates.find(purpose="ca", revoked=False):
                if older.identity != "external":
                    self._certificates.revoke(older.serial, self._now.timestamp(), "superseded")
        self._certificates.create(row)
        return Kept(authority, row.serial, external)

    def _row(
        self,
        certificate: x509.Certificate,
        purpose: str,
        identity: str,
        *,
        key: bytes | None = None,
        device: str | None = None,
    ) -> StoredCertificate:
        return StoredCertificate(
            serial=ca.serial_text(certificate),
            purpose=purpose,
            identity=identity,
            pem=ca.certificate_pem(certificate).decode(),
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
            issued_at=self._now.timestamp(),
            device=device,
            key=key,
        )

    # -- the gateway ---------------------------------------------------------------------

    def gateway(self) -> GatewayCertificate | None:
        """Its newest certificate, whether still good or not."""
        rows = self._certificates.find(purpose="gateway", revoked=False, limit=1)
        if not rows:
            return None
        stored = self._certificates.get(rows[0].serial)
        certificate = x509.load_pem_x509_certificate(stored.pem.encode())
        return GatewayCertificate(certificate, stored.key or b"")

    def _renewed(self, authorities: list[Kept]) -> GatewayCertificate | None:
        """One that is good, made now if need be; None where the gateway has one of others."""
        names = self._wanted.names
        if not names:
            return None
        current = self.gateway()
        issuer = self._issuer(current, authorities)
        if current is not None:
            certificate = current.certificate
            if issuer.issued(certificate) and self._is_good(certificate):
                return current
        key = ca.new_key(self._wanted.gateway_key)
        certificate = issuer.authority.issue_gateway(
            key.public_key(), names, self._now, self._wanted.gateway_days
        )
        pem = ca.key_pem(key)
        self._certificates.create(self._row(certificate, "gateway", names[0].plain, key=pem))
        return GatewayCertificate(certificate, pem)

    def _issuer(self, current: GatewayCertificate | None, authorities: list[Kept]) -> Kept:
        """The one that devices believe already, as long as it lasts."""
        able = sorted((one for one in authorities if one.issues), key=lambda one: one.external)
        if current is not None and self._certificates.count(purpose="device"):
            for one in able:
                left = one.authority.certificate.not_valid_after_utc - self._now
                if one.issued(current.certificate) and left > timedelta(days=30):
                    return one
        return able[0]

    def _is_good(self, certificate: x509.Certificate) -> bool:
        whole = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        left = certificate.not_valid_after_utc - self._now
        wanted = {name.in_certificate() for name in self._wanted.names}
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        kind = ca.kind_of(certificate)
        return (
            left > whole * RENEW_LEFT and wanted <= set(names) and kind is self._wanted.gateway_key
        )

    # -- the whole -----------------------------------------------------------------------

    def ensure(self, *, new_crl: bool = False) -> Publication:
        """Make what is missing or due: CA, gateway's certificate, CRL."""
        authorities = self.authorities()
        if not any(one.issues for one in authorities):
            made = ca.create(self._wanted.ca_name, self._now, days=self._wanted.ca_days)
            self._keep(made, external=False)
            authorities = self.authorities()
        gateway = self._renewed(authorities)
        files = self._wanted.files
        contents = {
            files.authorities: _joined(one.authority.certificate for one in authorities),
        }
        if gateway is not None:
            contents[files.private_key] = gateway.key
            contents[files.certificate] = ca.certificate_pem(gateway.certificate)
        if new_crl or self._crl_is_due(authorities) or not self._is_published(files.crl):
            contents[files.crl] = self._make_crl(authorities)
        return Publication(contents, frozenset({files.private_key}))

    def crl_state(self) -> tuple[int, float]:
        """Number and next update of the CRL; zeros before the first."""
        state = self._settings.get(CRL_SETTING)
        if not isinstance(state, dict):
            return 0, 0.0
        return int(state.get("number", 0)), float(state.get("next_update", 0.0))

    def _crl_is_due(self, authorities: list[Kept]) -> bool:
        state = self._settings.get(CRL_SETTING)
        known = state if isinstance(state, dict) else {}
        if known.get("authorities") != _serials(authorities):
            return True
        if known.get("revoked") != _digest(row.serial for row in self._revoked()):
            return True  # we ended between a revocation and its CRL
        left_s = self.crl_state()[1] - self._now.timestamp()
        return left_s < self._wanted.crl_days * 86_400 * crl.RENEW_AT

    def _is_published(self, file: Path) -> bool:
        """Whether the CRL that was made last is in its file: it may not have been writable."""
        state = self._settings.get(CRL_SETTING)
        wanted = state.get("sha256") if isinstance(state, dict) else None
        try:
            return wanted == hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError:
            return False

    def _revoked(self) -> list[StoredCertificate]:
        """What a CRL has to name."""
        now = self._now.timestamp()
        found = self._certificates.find(revoked=True)
        return [row for row in found if row.purpose != "ca" and row.not_after > now]

    def _published(self, authority: ca.Authority) -> tuple[int, list[crl.Revoked]]:
        """Number of the list in the file, and its entries that the database knows nothing of.

        A database that was restored from a backup, or imported, is older than the file: what was
        revoked stays revoked.
        """
        try:
            content = self._wanted.files.crl.read_bytes()
        except OSError:
            return 0, []
        number, entries = crl.published(authority, content)
        known, strange = {row.serial for row in self._certificates.find(revoked=True)}, []
        for one in entries:
            serial = f"{one.serial:x}"
            if serial in known:
                continue
            try:
                self._certificates.revoke(serial, one.at.timestamp(), one.reason.value)
            except NotThereError:
                strange.append(one)
        return number, strange

    def _make_crl(self, authorities: list[Kept]) -> bytes:
        before = {one.serial: self._published(one.authority) for one in authorities if one.issues}
        number = 1 + max(self.crl_state()[0], *(last for last, _ in before.values()), 0)
        rows = self._revoked()
        revoked = [(x509.load_pem_x509_certificate(row.pem.encode()), row) for row in rows]
        lists = []
        for one in authorities:
            if not one.issues:
                continue
            entries = [_entry(row) for certificate, row in revoked if one.issued(certificate)]
            entries += before[one.serial][1]
            days = self._wanted.crl_days
            lists.append(crl.make(one.authority, entries, number, self._now, days))
        state = {
            "number": number,
            "next_update": (self._now + timedelta(days=self._wanted.crl_days)).timestamp(),
            "authorities": _serials(authorities),
            "revoked": _digest(row.serial for row in rows),
            "sha256": hashlib.sha256(content := b"".join(lists)).hexdigest(),
        }
        self._settings.put(CRL_SETTING, state)
        return content

    def beyond_us(self, pems: Iterable[str]) -> set[str]:
        """Those whose CA's key is not here: no CRL of ours revokes them."""
        able = [one for one in self.authorities() if one.issues]
        return {
            pem
            for pem in pems
            if not any(one.issued(x509.load_pem_x509_certificate(pem.encode())) for one in able)
        }

    def add_device(self, certificate: x509.Certificate, device: str, identity: str) -> None:
        """A device's certificate. Raises :class:`gateway.store.errors.ExistsError`."""
        self._certificates.create(self._row(certificate, "device", identity, device=device))


def _joined(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(map(ca.certificate_pem, certificates))


def _serials(authorities: list[Kept]) -> list[str]:
    return sorted(one.serial for one in authorities if one.issues)


def _digest(serials: Iterable[str]) -> str:
    return hashlib.sha256(",".join(sorted(serials)).encode()).hexdigest()


def _entry(row: StoredCertificate) -> crl.Revoked:
    at = datetime.fromtimestamp(row.revoked_at or 0.0, UTC)
    try:
        reason = crl.Reason(row.reason or "")
    except ValueError:
        reason = crl.Reason.UNSPECIFIED
    return crl.Revoked(int(row.serial, 16), at, reason)
