"""What administrators ask of provisioning, on a real store."""

import asyncio
import base64
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from provisioning_office import BASIC, bench
from provisioning_setups import authority, mail
from sqlalchemy import delete, update

from gateway.control.actor import NOBODY
from gateway.control.protocol import ControlError, ErrorCode
from gateway.ike.auth import crl as engine_crl
from gateway.provisioning import ca, crl
from gateway.store.certificates import CertificateRepository
from gateway.store.links import LinkRepository
from gateway.store.schema import CERTIFICATES, LINKS
from gateway.store.settings import SettingRepository

DAY_S = 86_400
BASE_P256 = BASIC.replace("enabled = true", 'enabled = true\ngateway_key = "ecdsa-p256"')


def crl_of(path: Path) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(path.read_bytes())


async def nothing_behind(office: Any, made: dict[str, Any]) -> None:
    token = str(made["link"]).removeprefix("/d/")
    with pytest.raises(ControlError) as refused:
        await office.call("link-look", actor=NOBODY, token=token)
    assert refused.value.code == ErrorCode.NOT_FOUND


def test_a_start_makes_ca_certificate_and_crl_that_the_engine_takes(tmp_path: Path) -> None:
    with bench(tmp_path) as office:
        certificate = x509.load_pem_x509_certificate(office.file("gateway.pem").read_bytes())
        root = x509.load_pem_x509_certificate(office.file("ca.pem").read_bytes())
        certificate.verify_directly_issued_by(root)
        assert office.file("gateway.key").stat().st_mode & 0o777 == 0o600
        assert engine_crl.read(office.file("crl.pem").read_bytes(), "crl")
        assert not office.config.warnings
        before = {one.name: one.read_bytes() for one in office.file("").iterdir()}
    with bench(tmp_path) as again:
        assert {one.name: one.read_bytes() for one in again.file("").iterdir()} == before


def test_one_question_makes_a_device_that_a_link_gives_out_once(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        made = await office.call("provision", name="laptop", platform="gateway-mn")
        assert made["identity"] == "laptop@example.com"
        assert made["connection"] == "staff"
        assert made["qr_holds"] == "profile"
        assert made["qr_svg"].startswith("<svg")
        assert made["url"].startswith("https://")
        assert made["url"].endswith(made["link"])
        assert office.objects.documents["laptop"]["identity"] == "laptop@example.com"
        token = made["link"].removeprefix("/d/")
        assert len(token) == 43
        looked = await office.call("link-look", actor=NOBODY, token=token)
        assert looked["device"] == "laptop"
        assert looked["file_name"] == "laptop.gateway-mn"
        taken = await office.call("link-take", actor=NOBODY, token=token)
        profile = tomllib.loads(base64.b64decode(taken["content"]).decode())
        certificate = x509.load_pem_x509_certificate(profile["files"]["device.pem"].encode())
        assert ca.serial_text(certificate) == made["serial"]
        with pytest.raises(ControlError) as refused:
            await office.call("link-take", actor=NOBODY, token=token)
        assert refused.value.code == ErrorCode.NOT_FOUND
        await nothing_behind(office, made)
        (link,) = (await office.call("links"))["items"]
        assert link["used_from"] == NOBODY.remote

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_a_devices_key_is_nowhere_once_its_link_was_taken(tmp_path: Path) -> None:
    async def run(office: Any) -> bytes:
        made = await office.call("provision", name="laptop", platform="strongswan")
        token = made["link"].removeprefix("/d/")
        taken = await office.call("link-take", actor=NOBODY, token=token)
        rows = await office.store.run(lambda c: c.execute(LINKS.select()).all())
        assert [row.content for row in rows] == [b""]
        return base64.b64decode(taken["content"])

    with bench(tmp_path) as office:
        content = asyncio.run(run(office))
    key = content[content.index(b"-----BEGIN PRIVATE") :][:200]
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert key not in file.read_bytes(), file


def test_h78_a_link_expires_and_its_content_is_wiped(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        made = await office.call("provision", name="laptop", platform="other", link_minutes=5)
        office.now += 301
        token = made["link"].removeprefix("/d/")
        with pytest.raises(ControlError):
            await office.call("link-take", actor=NOBODY, token=token)
        await office.side.office.renew()
        rows = await office.store.run(lambda c: c.execute(LINKS.select()).all())
        assert [row.content for row in rows] == [b""]

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_h78_guessing_links_is_slowed_down(tmp_path: Path) -> None:
    async def run(office: Any) -> list[str]:
        codes = []
        for _ in range(20):
            try:
                await office.call("link-take", actor=NOBODY, token="A" * 43)
            except ControlError as error:
                codes.append(str(error.code))
        return codes

    with bench(tmp_path) as office:
        codes = asyncio.run(run(office))
    assert codes == ["not-found"] * 10 + [str(ErrorCode.TOO_MANY)] * 10


def test_two_who_take_a_link_at_once_get_it_once(tmp_path: Path) -> None:
    async def run(office: Any) -> list[bool]:
        made = await office.call("provision", name="laptop", platform="other")
        token = made["link"].removeprefix("/d/")
        takes = [office.call("link-take", actor=NOBODY, token=token) for _ in range(4)]
        found = await asyncio.gather(*takes, return_exceptions=True)
        return sorted(isinstance(one, dict) for one in found)

    with bench(tmp_path) as office:
        assert asyncio.run(run(office)) == [False, False, False, True]


def test_a_taken_link_is_never_kept_for_an_idempotency_key(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        made = await office.call("provision", name="laptop", platform="gateway-mn", key="k1")
        assert made["qr_holds"] == "link"
        token = made["link"].removeprefix("/d/")
        with pytest.raises(ControlError, match="taken once"):
            await office.call("link-take", actor=NOBODY, token=token, key="k2")

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_a_revoked_certificate_is_on_the_list_and_its_sessions_end(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        for name in ("laptop", "desk"):
            await office.call("provision", name=name, platform="strongswan")
        office.engine.peers = {"a": "laptop@example.com", "b": "desk@example.com"}
        number = crl_of(office.file("crl.pem")).extensions
        before = number.get_extension_for_class(x509.CRLNumber).value.crl_number
        revoked = await office.call("device-revoke", name="laptop")
        assert revoked["sessions_ended"] == 1
        assert office.engine.peers == {"b": "desk@example.com"}
        found = crl_of(office.file("crl.pem"))
        assert [f"{one.serial_number:x}" for one in found] == revoked["revoked"]
        after = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert after > before
        assert office.crls_read == 1
        assert [one.name for one in office.events] == ["certificate_revoked"]
        with pytest.raises(ControlError, match="no valid certificate"):
            await office.call("device-revoke", name="laptop")
        listed = await office.call("certificates", device="laptop")
        assert listed["items"][0]["reason"] == "privilege-withdrawn"
        assert (await office.call("crl"))["entries"] == 1

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_a_revocation_that_was_cut_short_reaches_the_list_all_the_same(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        made = await office.call("provision", name="laptop", platform="strongswan")
        file = office.file("crl.pem")
        assert not list(crl_of(file))
        store = office.store
        # Killed after this: the database knows of it, the list does not.
        await store.run(
            lambda c: CertificateRepository(c, store.sealer).revoke(
                made["serial"], office.now, "key-compromise"
            )
        )
        await office.side.office.renew()
        assert [f"{one.serial_number:x}" for one in crl_of(file)] == [made["serial"]]
        listed = file.read_bytes()
        await office.side.office.renew()
        assert file.read_bytes() == listed  # a list is made once
        file.write_bytes(b"another file, or an older one")
        await office.side.office.renew()
        assert [f"{one.serial_number:x}" for one in crl_of(file)] == [made["serial"]]

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_a_database_older_than_the_list_gives_no_revoked_certificate_back(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        made = {
            name: (await office.call("provision", name=name, platform="strongswan"))["serial"]
            for name in ("laptop", "desk", "phone")
        }
        for name in ("laptop", "desk"):
            await office.call("certificate-revoke", serial=made[name], reason="key-compromise")
        file = office.file("crl.pem")
        last = file.read_bytes()

        def older(connection: Any) -> None:
            """As in a backup of before: one was not revoked yet, one was not made yet."""
            one = CERTIFICATES.c.serial
            connection.execute(delete(CERTIFICATES).where(one == made["laptop"]))
            connection.execute(
                update(CERTIFICATES).where(one == made["desk"]).values(revoked_at=None, reason=None)
            )
            SettingRepository(connection).put("crl", {"number": 1})

        await office.store.run(older)
        await office.side.office.renew()
        found = crl_of(file)
        assert {f"{one.serial_number:x}" for one in found} == {made["laptop"], made["desk"]}
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        old = x509.load_pem_x509_crl(last).extensions.get_extension_for_class(x509.CRLNumber)
        assert number == old.value.crl_number + 1
        (desk,) = (await office.call("certificates", device="desk"))["items"]
        assert desk["reason"] == "key-compromise"

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_a_list_that_another_ca_signed_is_not_believed() -> None:
    now = datetime.now(UTC)
    ours, theirs = authority(), ca.create("Another CA", now, days=100)
    entry = crl.Revoked(7, now.replace(microsecond=0), crl.Reason.SUPERSEDED)
    first, second = crl.make(ours, [entry], 5, now, 7), crl.make(theirs, [], 9, now, 7)
    assert crl.published(ours, second + b"rubbish\n" + first) == (5, [entry])
    assert crl.published(theirs, first + second) == (9, [])
    assert crl.published(ours, first[:-40]) == (0, [])
    assert crl.published(ours, b"-----END X509 CRL-----" * 3) == (0, [])


def test_a_rotation_revokes_the_old_certificate_and_voids_its_link(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        first = await office.call("provision", name="laptop", platform="strongswan")
        second = await office.call("device-bundle", name="laptop", platform="android")
        assert second["file_name"] == "laptop.sswan"
        third = await office.call("device-rotate", name="laptop")
        assert third["file_name"] == "laptop-swanctl.tar"
        listed = await office.call("certificates", device="laptop", revoked=False)
        assert [one["serial"] for one in listed["items"]] == [third["serial"]]
        for gone in (first, second):
            await nothing_behind(office, gone)
        assert len(list(crl_of(office.file("crl.pem")))) == 2

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_a_device_that_was_removed_has_no_certificate_any_more(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        await office.call("provision", name="laptop", platform="strongswan")
        await office.side.device_gone("laptop")
        assert not (await office.call("certificates", device="laptop", revoked=False))["items"]
        assert not (await office.call("links"))["items"]
        await office.side.device_gone("nobody")

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        with pytest.raises(ControlError) as refused:
            await office.call("provision", name="pc", platform="windows")
        assert refused.value.field == "identity"
        with pytest.raises(ControlError, match="is not of the form"):
            await office.call("provision", name="pc", platform="other", identity="pc.example.org")
        with pytest.raises(ControlError, match="choose one of: staff"):
            await office.call("provision", name="pc", platform="other", connection="nobody")
        await office.call("provision", name="pc", platform="other")
        with pytest.raises(ControlError, match="there already"):
            await office.call("provision", name="pc", platform="other")
        assert (await office.call("certificates", purpose="device"))["total"] == 1

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_a_store_that_fails_takes_the_new_device_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no space")

    async def run(office: Any) -> None:
        monkeypatch.setattr(LinkRepository, "create", broken)
        with pytest.raises(ValueError, match="no space"):
            await office.call("provision", name="laptop", platform="other")
        assert office.objects.documents == {}
        assert (await office.call("certificates", purpose="device"))["total"] == 0

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_a_request_keeps_its_key_and_counts_for_nothing_else(tmp_path: Path) -> None:
    key = ca.new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ceo@example.com")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, ca.signing_digest(key))
    pem = signed.public_bytes(ca.serialization.Encoding.PEM).decode()

    async def run(office: Any) -> None:
        made = await office.call("provision", name="laptop", platform="strongswan", request=pem)
        (row,) = (await office.call("certificates", device="laptop"))["items"]
        certificate = x509.load_pem_x509_certificate(row["pem"].encode())
        assert certificate.public_key() == key.public_key()
        assert row["identity"] == "laptop@example.com"
        assert "ceo" not in certificate.subject.rfc4514_string()
        token = made["link"].removeprefix("/d/")
        taken = await office.call("link-take", actor=NOBODY, token=token)
        assert b"PRIVATE KEY" not in base64.b64decode(taken["content"])
        with pytest.raises(ControlError, match="key is not here"):
            await office.call("provision", name="phone", platform="apple", request=pem)

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_certificates_of_an_imported_ca_are_uploaded(tmp_path: Path) -> None:
    outside = authority()
    key = ca.new_key()
    now = datetime.now(UTC)
    issued = outside.issue_device(key.public_key(), mail("ann@example.com"), "x", now, 5)

    async def run(office: Any) -> None:
        pem = ca.certificate_pem(issued).decode()
        with pytest.raises(ControlError, match="import its CA first"):
            await office.call("provision", name="laptop", platform="other", certificate=pem)
        root = ca.certificate_pem(outside.certificate).decode()
        found = await office.call("ca-import", certificate=root)
        assert [one["external"] for one in found["authorities"]] == [False, True]
        assert office.applied == 1
        with pytest.raises(ControlError, match="does not name"):
            await office.call("provision", name="laptop", platform="other", certificate=pem)
        made = await office.call(
            "provision",
            name="laptop",
            platform="other",
            identity="ann@example.com",
            certificate=pem,
        )
        assert made["serial"] == ca.serial_text(issued)
        office.events.clear()
        await office.call("certificate-revoke", serial=made["serial"], reason="key-compromise")
        told = {one.name: one.text for one in office.events}
        assert "block the device" in told["revocation_elsewhere"]

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_the_ca_is_replaced_only_while_nobody_depends_on_it(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        found = await office.call("ca-create", name="Example CA", algorithm="ecdsa-p384")
        assert [one["title"] for one in found["authorities"]] == ["Example CA"]
        certificate = x509.load_pem_x509_certificate(office.file("gateway.pem").read_bytes())
        root = x509.load_pem_x509_certificate(office.file("ca.pem").read_bytes())
        certificate.verify_directly_issued_by(root)
        await office.call("provision", name="laptop", platform="other")
        with pytest.raises(ControlError, match="in use by 1 device"):
            await office.call("ca-create", name="Another")

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_crl_and_certificate_are_renewed_before_they_end(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        first = office.file("gateway.pem").read_bytes()
        crl = office.file("crl.pem").read_bytes()
        office.now += 2 * DAY_S
        await office.side.office.renew()
        assert office.file("crl.pem").read_bytes() == crl
        office.now += 2 * DAY_S
        await office.side.office.renew()
        assert office.file("crl.pem").read_bytes() != crl
        assert office.file("gateway.pem").read_bytes() == first
        assert office.applied == 0
        office.now += 270 * DAY_S
        await office.side.office.renew()
        assert office.file("gateway.pem").read_bytes() != first
        assert office.applied == 1

    with bench(tmp_path) as office:
        asyncio.run(run(office))


def test_another_kind_of_key_makes_another_certificate(tmp_path: Path) -> None:
    with bench(tmp_path) as office:
        first = x509.load_pem_x509_certificate(office.file("gateway.pem").read_bytes())
        assert ca.kind_of(first) is ca.KeyKind.RSA3072
    text = BASE_P256
    with bench(tmp_path, text) as office:
        second = x509.load_pem_x509_certificate(office.file("gateway.pem").read_bytes())
        assert ca.kind_of(second) is ca.KeyKind.P256


def test_the_gateways_certificate_proves_every_name_of_its_connections(tmp_path: Path) -> None:
    text = BASIC.replace('remote_id = "*@', 'local_id = "vpn.example.com"\nremote_id = "*@')
    text = text.replace("enabled = true", 'enabled = true\naddress = "203.0.113.1"')
    with bench(tmp_path, text) as office:
        certificate = x509.load_pem_x509_certificate(office.file("gateway.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [str(one.value) for one in names]
    assert found == ["gw.example.com", "vpn.example.com", "203.0.113.1"]


def test_a_connection_that_believes_others_gets_no_useless_certificate(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(ca.certificate_pem(authority().certificate))
    text = BASIC.replace("pool =", f'ca_certificates = ["{other}"]\npool =')

    async def run(office: Any) -> None:
        with pytest.raises(ControlError, match="does not have Gateway device CA") as refused:
            await office.call("provision", name="laptop", platform="other")
        assert refused.value.field == "connections.staff.ca_certificates"

    with bench(tmp_path, text) as office:
        asyncio.run(run(office))


def test_provisioning_that_is_off_says_how_to_switch_it_on(tmp_path: Path) -> None:
    text = BASIC.replace("enabled = true", "enabled = false")
    text = text[: text.index("[connections")]

    async def run(office: Any) -> None:
        assert not (await office.call("ca"))["enabled"]
        with pytest.raises(ControlError, match="enabled = true"):
            await office.call("provision", name="laptop", platform="other")

    with bench(tmp_path, text) as office:
        asyncio.run(run(office))


def test_certificates_are_listed_a_page_at_a_time(tmp_path: Path) -> None:
    async def run(office: Any) -> None:
        await office.call("provision", name="laptop", platform="other")
        made = {(await office.call("device-bundle", name="laptop"))["serial"] for _ in range(4)}
        seen: list[str] = []
        cursor = None
        while True:
            more = {} if cursor is None else {"cursor": cursor}
            page = await office.call("certificates", device="laptop", limit=2, **more)
            seen += [one["serial"] for one in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == page["total"] == 5
        assert made <= set(seen)

    with bench(tmp_path) as office:
        asyncio.run(run(office))
