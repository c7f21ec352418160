"""Everything as one file: it comes back as it was, and nothing in it is trusted."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import OpenStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gateway.store import importing
from gateway.store.administrators import AdministratorRepository
from gateway.store.audit import AuditEntry, AuditFilter, AuditRepository
from gateway.store.certificates import CertificateRepository, StoredCertificate
from gateway.store.database import Store, StoreSettings
from gateway.store.errors import ImportRefusedError, UnavailableError, WrongKeyError
from gateway.store.export import AsTheyAre, Exported, Secrets, UnderPassphrase, export
from gateway.store.migrations import HEAD
from gateway.store.objects import ObjectRepository
from gateway.store.schema import METADATA
from gateway.store.sealing import Sealer
from gateway.store.settings import SettingRepository
from gateway.store.tokens import StoredToken, TokenRepository
from gateway.store.usage import Usage, UsageRepository
from gateway.store.web_sessions import WebSession, WebSessionRepository

SECRETS = (b"psk-of-office", b"private key", b"$scrypt$", hashlib.sha256(b"t").hexdigest().encode())


def fill(store: Store) -> None:
    def work(connection: Any) -> None:
        objects = ObjectRepository(connection, store.sealer, wall_clock=lambda: 5.0)
        objects.create("pools", "b\u00fcro", {"range": "10.0.0.0/24", "n": [1, None, True]})
        objects.create(
            "connections", "office", {"psk": {"secret": True}}, {"/psk": "psk-of-office"}
        )
        AdministratorRepository(connection).create("anna", "admin", "$scrypt$1")
        TokenRepository(connection).create(
            StoredToken("aa", "portal", "operator", hashlib.sha256(b"t").digest(), 1.0, "uid 0")
        )
        CertificateRepository(connection, store.sealer).create(
            StoredCertificate("01", "ca", "CN=x", "PEM", 0.0, 9e9, 1.0, key=b"private key")
        )
        SettingRepository(connection).put("crl-number", 7)
        UsageRepository(connection).add([Usage("a", 3, 2**40, 2)])
        AuditRepository(connection).append(AuditEntry(1.0, "a", "local", "x", "t", "done"))

    store.do(work)


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """Another gateway, on SQLite, with another key."""
    store = Store(StoreSettings(tmp_path / "other"), print)
    store.open()
    yield store
    store.close()


def exported(store: Store, file: Path, passphrase: str | None = None, **more: Any) -> Exported:
    secrets = Secrets() if passphrase is None else UnderPassphrase(store.sealer, passphrase)
    given: dict[str, Any] = {"records": False, "program": "1.0", **more}
    return store.do(lambda c: export(c, file, secrets, **given))


def take(store: Store, file: Path, passphrase: str | None = None, **more: Any) -> Any:
    wanted = importing.read(file, store.sealer, passphrase)
    return store.do(lambda c: importing.apply(c, wanted, store.sealer, now=9.0, **more))


def contents(store: Store) -> dict[str, Any]:
    """Everything, secrets opened."""

    def work(connection: Any) -> dict[str, Any]:
        certificates = CertificateRepository(connection, store.sealer)
        return {
            "objects": [
                (one.kind, one.name, one.document, one.secrets)
                for one in ObjectRepository(connection, store.sealer).all(with_secrets=True)
            ],
            "people": [
                (one.name, one.role, one.password)
                for one in AdministratorRepository(connection).all()
            ],
            "tokens": TokenRepository(connection).all(),
            "certificates": [certificates.get(one.serial) for one in certificates.find()],
            "crl": SettingRepository(connection).get("crl-number"),
        }

    return store.do(work)


def everything(store: Store) -> dict[str, list[Any]]:
    """Every row of every table, as it is."""
    return store.do(
        lambda c: {
            table.name: sorted(map(repr, c.execute(select(table))))
            for table in METADATA.tables.values()
        }
    )


def test_with_a_passphrase_everything_comes_back(
    store: Store, other: Store, tmp_path: Path
) -> None:
    fill(store)
    file = tmp_path / "all.jsonl"
    done = exported(store, file, "correct horse", records=True)
    octets = file.read_bytes()
    assert done.octets == len(octets)
    assert done.sha256 == hashlib.sha256(octets).hexdigest()
    assert file.stat().st_mode & 0o077 == 0
    for secret in SECRETS:
        assert secret not in octets
    outcome = take(other, file, "correct horse")
    assert contents(other) == contents(store)
    assert set(outcome.created) == {("connections", "office"), ("pools", "b\u00fcro")}
    assert (outcome.changed, outcome.removed, outcome.left_out) == ((), (), {})
    assert other.do(lambda c: UsageRepository(c).of("a", 3, 3)) == (Usage("a", 3, 2**40, 2),)
    assert other.do(lambda c: AuditRepository(c).count(AuditFilter())) == 1
    next_id = other.do(
        lambda c: AuditRepository(c).append(AuditEntry(2.0, "a", "local", "x", "t", "done"))
    )
    assert next_id == 2
    again = take(other, file, "correct horse")
    assert (again.created, again.changed, again.removed) == ((), (), ())
    assert set(again.left_out) == {"usage", "audit"}, "what happened is not overwritten"


def test_without_a_passphrase_no_secret_leaves_and_none_is_lost(
    store: Store, tmp_path: Path
) -> None:
    fill(store)
    file = tmp_path / "plain.jsonl"
    exported(store, file)
    octets = file.read_bytes()
    for secret in SECRETS:
        assert secret not in octets
    before = contents(store)
    store.do(
        lambda c: ObjectRepository(c, store.sealer).replace("pools", "b\u00fcro", {"range": "x"})
    )
    outcome = take(store, file)
    assert outcome.changed == (("pools", "b\u00fcro"),)
    assert contents(store) == before, "secrets, logins and tokens that are there stay"
    assert set(outcome.left_out) == {"token", "administrator"}


def test_what_the_file_does_not_have_goes(store: Store, tmp_path: Path) -> None:
    fill(store)
    file = tmp_path / "all.jsonl"
    exported(store, file, "x")
    store.do(lambda c: ObjectRepository(c, store.sealer).create("pools", "later", {}))
    outcome = take(store, file, "x")
    assert outcome.removed == (("pools", "later"),)
    names = [name for _, name, *_ in contents(store)["objects"]]
    assert "later" not in names


def test_an_older_file_gives_no_revoked_certificate_back(store: Store, tmp_path: Path) -> None:
    fill(store)

    def device(serial: str) -> StoredCertificate:
        return StoredCertificate(serial, "device", "a@x", "PEM", 0.0, 9e9, 2.0, device="a")

    def work(connection: Any, *, revoke: tuple[str, ...] = (), add: tuple[str, ...] = ()) -> None:
        certificates = CertificateRepository(connection, store.sealer)
        for serial in add:
            certificates.create(device(serial))
        for serial in revoke:
            certificates.revoke(serial, 8.0, "key-compromise")

    store.do(lambda c: work(c, add=("0a", "0b")))
    file = tmp_path / "older.jsonl"
    exported(store, file, "correct horse")
    store.do(lambda c: work(c, add=("0c", "0d"), revoke=("0a", "0c")))
    take(store, file, "correct horse")
    found = store.do(lambda c: CertificateRepository(c, store.sealer).find(device="a"))
    assert {(one.serial, one.revoked_at, one.reason) for one in found} == {
        ("0a", 8.0, "key-compromise"),
        ("0b", None, None),
        ("0c", 8.0, "key-compromise"),
    }


def test_logins_with_another_password_end(store: Store, tmp_path: Path) -> None:
    fill(store)
    store.do(lambda c: AdministratorRepository(c).create("bob", "admin", "$scrypt$2"))
    file = tmp_path / "older.jsonl"
    exported(store, file, "correct horse")

    def work(connection: Any) -> None:
        AdministratorRepository(connection).change("anna", password="$scrypt$3")
        AdministratorRepository(connection).create("late", "admin", "$scrypt$4")
        for name in ("anna", "bob", "late"):
            login = WebSession(hashlib.sha256(name.encode()).digest(), name, 1.0, 9e9, "x")
            WebSessionRepository(connection).create(login)

    store.do(work)
    take(store, file, "correct horse")
    left = store.do(lambda c: WebSessionRepository(c).all())
    assert [one.administrator for one in left] == ["bob"]


def test_versions_go_on_rising(store: Store, tmp_path: Path) -> None:
    fill(store)
    file = tmp_path / "all.jsonl"
    exported(store, file, "x")

    def version() -> int:
        return store.do(
            lambda c: ObjectRepository(c, store.sealer).get("pools", "b\u00fcro").version
        )

    for _ in range(3):
        store.do(lambda c: ObjectRepository(c, store.sealer).replace("pools", "b\u00fcro", {}))
    before = version()
    take(store, file, "x")
    assert version() == before + 1, "no ETag of before fits what is there now"


def test_a_dry_run_changes_nothing(store: Store, tmp_path: Path) -> None:
    fill(store)
    file = tmp_path / "all.jsonl"
    exported(store, file, "x", records=True)
    store.do(lambda c: ObjectRepository(c, store.sealer).delete("pools", "b\u00fcro"))
    before = everything(store)
    outcome = take(store, file, "x", dry_run=True)
    assert outcome.created == (("pools", "b\u00fcro"),)
    assert everything(store) == before


def test_a_wrong_or_missing_passphrase_is_told(store: Store, tmp_path: Path) -> None:
    fill(store)
    file = tmp_path / "all.jsonl"
    exported(store, file, "right")
    with pytest.raises(WrongKeyError, match="passphrase: is wrong"):
        importing.read(file, store.sealer, "wrong")
    with pytest.raises(ImportRefusedError, match="passphrase: is missing"):
        importing.read(file, store.sealer)


def test_a_backup_of_postgresql_needs_its_own_key(
    store: Store, other: Store, tmp_path: Path
) -> None:
    fill(store)
    file = tmp_path / "backup.jsonl"
    store.do(lambda c: export(c, file, AsTheyAre(store.sealer), records=True, program="1.0"))
    for secret in SECRETS:
        assert secret not in file.read_bytes()
    with pytest.raises(WrongKeyError, match="another key file"):
        importing.read(file, other.sealer)
    before = contents(store)
    for table in ("object", "token", "administrator", "certificate"):
        store.do(lambda c, table=table: c.execute(METADATA.tables[table].delete()))
    take(store, file)
    assert contents(store) == before


# -- hostile files ---------------------------------------------------------------------------

OWN = Sealer(bytes(32))


def signed(lines: list[Any]) -> bytes:
    """With the right last line, as somebody who means harm would write it."""
    octets = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    end = {"end": True, "rows": len(lines) - 1, "sha256": hashlib.sha256(octets).hexdigest()}
    return octets + json.dumps(end).encode() + b"\n"


def head(**changes: Any) -> dict[str, Any]:
    return {
        "format": "gateway-export",
        "version": 1,
        "made_at": 1.0,
        "program": "1.0",
        "schema": HEAD,
        "secrets": {"how": "none"},
        **changes,
    }


def an_object(**changes: Any) -> dict[str, Any]:
    row = {
        "kind": "pools",
        "name": "a",
        "version": 1,
        "document": {},
        "secrets": None,
        "created_at": 1.0,
        "changed_at": 1.0,
        **changes,
    }
    return {"table": "object", "row": row}


def an_administrator(role: str) -> dict[str, Any]:
    table = METADATA.tables["administrator"]
    row: dict[str, Any] = dict.fromkeys((column.name for column in table.c), 1)
    return {"table": "administrator", "row": {**row, "name": "ann", "password": "00", "role": role}}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([head(format="x")], "format"),
        ([head(version=2)], "version"),
        ([head(version=True)], "version"),
        ([head(made_at="now")], "made_at"),
        ([head(program="x" * 100)], "program"),
        ([head(secrets=None)], "secrets.how"),
        ([head(secrets={"how": "passphrase"})], "passphrase"),
        ([head(), []], "object"),
        ([head(), {"table": "sqlite_master", "row": {}}], "table"),
        ([head(), {"table": "session", "row": {}}], "table"),
        ([head(), {"table": "object", "row": []}], "row"),
        ([head(), {"table": "object", "row": {"kind": "x"}}], "columns"),
        ([head(), an_object(extra=1)], "columns"),
        ([head(), an_object(name=None)], "object.name: is missing"),
        ([head(), an_object(name=5)], "object.name"),
        ([head(), an_object(name="x" * 64)], "64 characters; 63 fit"),
        ([head(), an_object(name="a\0b")], "object.name"),
        ([head(), an_object(version=2**31)], "object.version"),
        ([head(), an_object(version=True)], "object.version"),
        ([head(), an_object(version=1.5)], "object.version"),
        ([head(), an_object(created_at=float("nan"))], "object.created_at"),
        ([head(), an_object(created_at="x")], "object.created_at"),
        ([head(), an_object(document=[])], "document: must be an object"),
        ([head(), an_object(secrets="zz")], "hexadecimal"),
        ([head(), an_object(secrets="00")], "says that it has no secrets"),
        ([head(), an_object(), an_object()], "is there twice"),
        ([head(), an_administrator("root")], "administrator.role: must be one of"),
    ],
)
def test_h78_a_file_that_makes_no_sense_is_refused_with_the_place(
    tmp_path: Path, lines: list[Any], why: str
) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(signed(lines))
    with pytest.raises(ImportRefusedError) as refused:
        importing.read(file, OWN)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\n",
        b"not json\n",
        b"\xff\xfe\n",
        b"[" * 200_000 + b"\n",
        b'{"a":' * 40_000 + b"\n",
        json.dumps(head()).encode() + b"\n",
        json.dumps(head()).encode(),
        signed([head()])[:-5],
        signed([head()]) + b"{}\n",
        signed([head(), an_object()]).replace(b'"a"', b'"b"'),
        signed([head(), an_object(document={"x": "y" * 300_000})]),
    ],
)
def test_h78_a_file_cut_changed_or_absurd_is_refused(tmp_path: Path, octets: bytes) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(octets)
    with pytest.raises(ImportRefusedError):
        importing.read(file, OWN)


def test_h78_there_is_a_bound_on_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MAX_OBJECTS", 3)
    file = tmp_path / "x.jsonl"
    file.write_bytes(signed([head(), *(an_object(name=str(n)) for n in range(4))]))
    with pytest.raises(ImportRefusedError, match="at most 3"):
        importing.read(file, OWN)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_h78_any_changed_octet_is_noticed_and_anything_else_is_refused(
    tmp_path: Path, data: st.DataObject
) -> None:
    octets = bytearray(signed([head(), an_object(), an_object(name="b")]))
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    file = tmp_path / "x.jsonl"
    file.write_bytes(octets)
    whole: Callable[[], object] = lambda: importing.read(file, OWN)  # noqa: E731
    if octets.strip() == signed([head(), an_object(), an_object(name="b")]).strip():
        return  # only the very last newline
    with pytest.raises(ImportRefusedError):
        whole()


def test_an_import_that_fails_in_the_middle_changes_nothing(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    fill(store)
    file = tmp_path / "all.jsonl"
    exported(store, file, "x")
    store.do(lambda c: ObjectRepository(c, store.sealer).create("pools", "later", {}))
    before = everything(store)
    real = importing.seal_secret
    calls = 0

    def broken(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(5, "input/output error")
        real(*arguments)

    monkeypatch.setattr(importing, "seal_secret", broken)
    with pytest.raises(UnavailableError):
        take(store, file, "x")
    assert everything(store) == before


def test_a_disk_without_space_leaves_no_half_file(store: Store, tmp_path: Path) -> None:
    fill(store)
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="no export to"):
        exported(store, tmp_path / "file" / "x.jsonl")
    assert list(tmp_path.glob("**/*.new")) == []
