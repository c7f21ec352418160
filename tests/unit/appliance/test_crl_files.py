"""CRL files: read when they change, a broken one never takes the place of a good one."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.appliance import crl_files
from gateway.appliance.crl_files import CrlFiles
from gateway.ike.auth.credentials import TrustAnchors
from gateway.ike.auth.revocation import Revocation, RevocationMode, RevocationPolicy
from gateway.ike.outputs import Event

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Root")])
KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
CA = (
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(KEY.public_key())
    .serial_number(1)
    .not_valid_before(NOW - DAY)
    .not_valid_after(NOW + 365 * DAY)
    .add_extension(x509.BasicConstraints(True, None), True)
    .sign(KEY, hashes.SHA256())
)


def crl(
    number: int, *serials: int, key: ec.EllipticCurvePrivateKey = KEY, until: datetime = NOW + DAY
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(NAME)
        .last_update(NOW - DAY)
        .next_update(until)
        .add_extension(x509.CRLNumber(number), False)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def replace(path: Path, data: bytes) -> None:
    """As one does it: a new file under the same name."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def anchors(*files: Path) -> TrustAnchors:
    return TrustAnchors([CA], Revocation(RevocationPolicy(RevocationMode.REQUIRED, files)))


def revoked(trust: TrustAnchors) -> set[int]:
    assert trust.revocation is not None
    return {serial for serial in range(2, 10) for one in trust.revocation.crls if one.find(serial)}


class Watch:
    """The files with their events, at a time of the test's choice."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now = NOW
        self.files = CrlFiles(self.events.append, lambda: self.now)

    def refresh(self) -> list[str]:
        """The names of the events that it made."""
        before = len(self.events)
        asyncio.run(self.files.refresh())
        return [event.name for event in self.events[before:]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.crl"
    path.write_bytes(crl(1, 5))
    return path


def test_start_and_change(file: Path) -> None:
    watch, trust = Watch(), anchors(file)
    assert watch.files.follow([trust]) == {}
    assert revoked(trust) == {5}
    assert watch.events[0].text == (
        f'CRL {file} of "CN=Root" is in force: 1 entries, next update 2030-06-02 12:00:00 UTC'
    )
    assert watch.refresh() == []
    replace(file, crl(2, 5, 6))
    assert watch.refresh() == ["crl_in_force"]
    assert revoked(trust) == {5, 6}


def test_equal_anchors_of_two_connections_both_have_the_list(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, one, two = Watch(), anchors(file), anchors(file)
    assert one == two
    reads: list[Path] = []
    real = crl_files._read
    monkeypatch.setattr(crl_files, "_read", lambda path: (reads.append(path), real(path))[1])
    watch.files.follow([one, two, one])
    assert revoked(one) == revoked(two) == {5}
    assert reads == [file]
    replace(file, crl(2, 6))
    watch.refresh()
    assert revoked(one) == revoked(two) == {6}
    watch.refresh()
    assert reads == [file, file]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is no CRL in PEM or DER"),
        (crl(2)[:200], "ends in the middle of a list"),
        (crl(2, key=OTHER_KEY), 'is not signed with the key of "CN=Root"'),
        (crl(0), "is older than the one in force"),
    ],
)
def test_h29_a_broken_file_keeps_the_former_in_force(file: Path, data: bytes, why: str) -> None:
    watch, trust = Watch(), anchors(file)
    watch.files.follow([trust])
    replace(file, data)
    assert watch.refresh() == ["crl_refused"]
    assert f"CRL {file} {why}" in watch.events[-1].text
    assert watch.events[-1].text.endswith("; the one read before stays in force")
    assert revoked(trust) == {5}
    assert watch.refresh() == []
    again = anchors(file)
    assert watch.files.follow([again]) == {}
    assert revoked(again) == {5}
    replace(file, crl(3, 7))
    assert watch.refresh() == ["crl_in_force"]
    assert revoked(again) == {7}


def test_a_file_that_vanishes(file: Path) -> None:
    watch, trust = Watch(), anchors(file)
    watch.files.follow([trust])
    file.unlink()
    assert watch.refresh() == ["crl_refused"]
    assert "cannot be read: No such file or directory" in watch.events[-1].text
    assert watch.refresh() == []
    assert revoked(trust) == {5}
    file.write_bytes(crl(2, 6))
    assert watch.refresh() == ["crl_in_force"]


def test_the_configuration_is_refused_if_nothing_can_be_put_in_force(
    file: Path, tmp_path: Path
) -> None:
    watch, former = Watch(), anchors(file)
    watch.files.follow([former])
    missing = tmp_path / "missing.crl"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    wanted = anchors(file, missing, pipe, tmp_path)
    problems = watch.files.follow([wanted])
    assert problems == {
        missing: f"CRL {missing} cannot be read: No such file or directory",
        pipe: f"CRL {pipe} is not a file",
        tmp_path: f"CRL {tmp_path} cannot be read: Is a directory",
    }
    replace(file, crl(2, 6))
    watch.refresh()
    assert revoked(former) == {6}


def test_files_that_no_connection_names_are_left_alone(file: Path) -> None:
    watch = Watch()
    watch.files.follow([anchors(file)])
    assert watch.files.follow([TrustAnchors([CA])]) == {}
    file.unlink()
    assert watch.refresh() == []


def test_an_overdue_list_is_said_once(file: Path) -> None:
    watch = Watch()
    watch.files.follow([anchors(file)])
    watch.now = NOW + 2 * DAY
    assert watch.refresh() == ["crl_stale"]
    assert watch.events[-1].text == (
        f'CRL {file} of "CN=Root" is out of date since 2030-06-02 12:00:00 UTC'
    )
    assert watch.refresh() == []
    replace(file, crl(2, 5, until=NOW + 3 * DAY))
    assert watch.refresh() == ["crl_in_force"]
    watch.now = NOW + 4 * DAY
    assert watch.refresh() == ["crl_stale"]


def test_a_reload_during_a_look_wins(file: Path) -> None:
    watch, former, wanted = Watch(), anchors(file), anchors(file)
    watch.files.follow([former])
    replace(file, crl(2, 6))

    async def both() -> None:
        look = asyncio.create_task(watch.files.refresh())
        await asyncio.sleep(0)
        watch.files.follow([wanted])
        await look

    asyncio.run(both())
    assert revoked(wanted) == {6}
    assert watch.refresh() == []
