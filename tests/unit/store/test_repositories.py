"""Tokens, administrators, logins, the audit and the rest, on both databases."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import insert, select

from gateway.store.administrators import AdministratorRepository
from gateway.store.audit import AuditEntry, AuditFilter, AuditRepository
from gateway.store.certificates import CertificateRepository, StoredCertificate
from gateway.store.database import Store
from gateway.store.errors import ExistsError, NotThereError, StoreError, VersionError
from gateway.store.history import HistoryEntry, HistoryRepository
from gateway.store.idempotency import IdempotencyRepository, KeptAnswer
from gateway.store.links import Link, LinkRepository
from gateway.store.schema import AUDIT, CERTIFICATES, IDEMPOTENCY, LINKS
from gateway.store.settings import SettingRepository
from gateway.store.tokens import StoredToken, TokenRepository
from gateway.store.usage import Usage, UsageRepository
from gateway.store.web_sessions import WebSession, WebSessionRepository


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Calls:
    """Each call of the repository is a transaction of its own."""

    def __init__(self, store: Store, make: Any) -> None:
        self.store, self.make = store, make

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **more: self.store.do(
            lambda c: getattr(self.make(c), name)(*given, **more)
        )


def test_tokens(store: Store) -> None:
    tokens = Calls(store, TokenRepository)
    first = StoredToken("aa", "portal", "operator", digest("a"), 1.0, "uid 0", 99.0)
    tokens.create(first)
    assert digest("a").hex() not in repr(first)
    for same in (
        StoredToken("aa", "other", "admin", digest("b"), 1.0, "uid 0"),
        StoredToken("bb", "other", "admin", digest("a"), 1.0, "uid 0"),
    ):
        with pytest.raises(ExistsError):
            tokens.create(same)
    tokens.create(StoredToken("bb", "portal", "admin", digest("b"), 0.5, "uid 0"))
    assert tokens.find(digest("a")) == first
    assert tokens.find(digest("x")) is None
    assert [one.id for one in tokens.all()] == ["bb", "aa"]
    tokens.note_use({"aa": (5.0, "192.0.2.1"), "gone": (6.0, "192.0.2.2")})
    used = tokens.find(digest("a"))
    assert (used.last_used_at, used.last_used_from) == (5.0, "192.0.2.1")
    assert tokens.delete("aa").name == "portal"
    with pytest.raises(NotThereError):
        tokens.delete("aa")


def test_administrators(store: Store) -> None:
    now = [10.0]
    people = Calls(store, lambda c: AdministratorRepository(c, wall_clock=lambda: now[0]))
    anna = people.create("anna", "admin", "$scrypt$1")
    assert "$scrypt$1" not in repr(anna)
    with pytest.raises(ExistsError):
        people.create("anna", "operator", "x")
    people.create("zoe", "read-only", "$scrypt$2")
    now[0] = 20.0
    changed = people.change("anna", password="$scrypt$3", version=1)
    assert (changed.version, changed.role, changed.password) == (2, "admin", "$scrypt$3")
    assert (changed.created_at, changed.changed_at) == (10.0, 20.0)
    with pytest.raises(VersionError):
        people.change("anna", role="operator", version=1)
    people.note_login("anna", 30.0)
    assert people.get("anna").last_login_at == 30.0
    assert (people.count(), people.count("admin"), people.count("operator")) == (2, 1, 0)
    assert [one.name for one in people.all()] == ["anna", "zoe"]
    assert people.delete("zoe").role == "read-only"
    assert people.find("zoe") is None
    for call in (people.get, people.delete, people.change):
        with pytest.raises(NotThereError):
            call("zoe")


def test_web_sessions(store: Store) -> None:
    logins = Calls(store, WebSessionRepository)
    for number, name in enumerate(("anna", "anna", "zoe")):
        logins.create(WebSession(digest(str(number)), name, number, 100.0 + number, "192.0.2.1"))
    assert logins.find(digest("1")).administrator == "anna"
    assert logins.find(digest("x")) is None
    logins.extend(digest("0"), 200.0)
    assert logins.delete_expired(102.0) == 2
    assert [one.expires_at for one in logins.all()] == [200.0]
    logins.create(WebSession(digest("3"), "anna", 3, 300.0, "192.0.2.1"))
    assert logins.delete_of("anna", but=digest("3")) == 1
    assert logins.delete(digest("3")) is True
    assert logins.delete(digest("3")) is False


def entry(at: float, actor: str = "admin anna", **more: Any) -> AuditEntry:
    return AuditEntry(at, actor, "192.0.2.1", "object-create", "pools/a", "done", **more)


def test_the_audit(store: Store) -> None:
    audit = Calls(store, AuditRepository)
    ids = [audit.append(entry(float(at), before=None, after={"n": at})) for at in range(5)]
    assert ids == sorted(ids)
    audit.append(entry(9.0, actor="token 100%", detail="why"))
    found = audit.find(AuditFilter(actor="ANNA"), limit=2)
    assert [one.at for one in found] == [4.0, 3.0]
    assert found[0].after == {"n": 4}
    assert found[0].before is None
    rest = audit.find(AuditFilter(actor="anna"), limit=10, before=found[-1].id)
    assert [one.at for one in rest] == [2.0, 1.0, 0.0]
    assert audit.count(AuditFilter(since=1.0, until=3.0)) == 2
    assert audit.count(AuditFilter(actor="0%")) == 1
    assert audit.count(AuditFilter(actor="n_a")) == 0
    assert audit.count(AuditFilter(action="object-create", target="POOLS", outcome="done")) == 6
    assert audit.count(AuditFilter(action="login")) == 0


def test_the_audit_forgets_only_what_is_older_than_its_days(store: Store) -> None:
    import time

    audit, now = Calls(store, AuditRepository), time.time()
    for days in (0, 1, 20, 40):
        audit.append(entry(now - days * 86_400.0 - 60))
    with pytest.raises(StoreError, match="append-only"):
        store.do(lambda c: c.execute(AUDIT.delete()))
    assert audit.trim(30, now) == 1
    assert audit.trim(30, now) == 0
    with pytest.raises(StoreError, match="append-only"):
        store.do(lambda c: c.execute(AUDIT.delete()))
    with pytest.raises(StoreError, match="append-only"):
        audit.trim(10, now + 60 * 86_400.0)  # a clock that lies
    assert audit.count(AuditFilter()) == 3


def test_audit_entries_never_get_an_id_twice(store: Store) -> None:
    audit = Calls(store, AuditRepository)
    last = audit.append(entry(1.0))
    assert audit.trim(1, 1e9) == 1
    assert audit.append(entry(2.0)) > last


def test_idempotency(store: Store) -> None:
    answers = Calls(store, lambda c: IdempotencyRepository(c, store.sealer))
    assert answers.find("token a", "k") is None
    kept = KeptAnswer(digest("request"), b'{"token": "gw_secret"}', 5.0)
    answers.keep("token a", "k", kept)
    assert answers.find("token a", "k") == kept
    assert answers.find("token b", "k") is None
    with pytest.raises(ExistsError):
        answers.keep("token a", "k", kept)
    raw = store.do(lambda c: c.scalars(select(IDEMPOTENCY.c.result)).one())
    assert b"gw_secret" not in bytes(raw)
    assert answers.delete_before(5.0) == 0
    assert answers.delete_before(6.0) == 1


def certificate(serial: str, **more: Any) -> StoredCertificate:
    values: dict[str, Any] = {"purpose": "device", "identity": "a@b", "issued_at": 1.0, **more}
    return StoredCertificate(serial, pem="PEM", not_before=0.0, not_after=9e9, **values)


def test_certificates(store: Store) -> None:
    certificates = Calls(store, lambda c: CertificateRepository(c, store.sealer))
    authority = certificate("01", purpose="ca", identity="CN=x", key=b"private key")
    certificates.create(authority)
    assert "private key" not in repr(authority)
    with pytest.raises(ExistsError):
        certificates.create(authority)
    for number in range(2, 6):
        certificates.create(certificate(f"0{number}", device="phone", issued_at=number // 2))
    assert certificates.get("01") == authority
    raw = store.do(
        lambda c: c.scalars(select(CERTIFICATES.c.key).where(CERTIFICATES.c.serial == "01")).one()
    )
    assert b"private key" not in bytes(raw)
    assert certificates.find(purpose="ca")[0].key is None
    first = certificates.find(device="phone", limit=3)
    assert [one.serial for one in first] == ["05", "04", "03"]
    after = (first[-1].issued_at, first[-1].serial)
    assert [one.serial for one in certificates.find(device="phone", after=after)] == ["02"]
    assert certificates.count(purpose="device") == 4
    assert certificates.revoke("03", 7.0, "keyCompromise") is True
    assert certificates.revoke("03", 8.0, "other") is False
    (revoked,) = certificates.find(revoked=True)
    assert (revoked.serial, revoked.revoked_at, revoked.reason) == ("03", 7.0, "keyCompromise")
    assert len(certificates.find(device="phone", revoked=False)) == 3
    for call in (lambda: certificates.get("99"), lambda: certificates.revoke("99", 1.0, "x")):
        with pytest.raises(NotThereError):
            call()


def link(token: str, **more: Any) -> Link:
    values: dict[str, Any] = {"expires_at": 100.0, **more}
    return Link(
        digest(token), "phone", "a.sswan", "text/plain", 1.0, "uid 0", content=b"key!", **values
    )


def test_h78_a_link_is_taken_once(store: Store) -> None:
    links = Calls(store, lambda c: LinkRepository(c, store.sealer))
    links.create(link("a"))
    assert "key!" not in repr(link("a"))
    raw = store.do(lambda c: c.scalars(select(LINKS.c.content)).one())
    assert b"key!" not in bytes(raw)
    assert links.look(digest("a"), 5.0).content == b""
    assert links.look(digest("x"), 5.0) is None
    assert links.look(digest("a"), 100.0) is None
    assert links.take(digest("a"), 100.0, "192.0.2.1") is None
    taken = links.take(digest("a"), 99.0, "192.0.2.1")
    assert (taken.content, taken.used_at, taken.used_from) == (b"key!", 99.0, "192.0.2.1")
    assert links.take(digest("a"), 99.0, "192.0.2.1") is None
    assert links.look(digest("a"), 5.0) is None
    (kept,) = links.all("phone")
    assert kept.used_from == "192.0.2.1"
    assert bytes(store.do(lambda c: c.scalars(select(LINKS.c.content)).one())) == b""


def test_links_end_with_their_device_and_their_time(store: Store) -> None:
    links = Calls(store, lambda c: LinkRepository(c, store.sealer))
    for token in "abc":
        links.create(link(token, expires_at=100.0 if token == "a" else 200.0))
    links.take(digest("b"), 5.0, "192.0.2.1")
    assert links.empty_expired(150.0) == 1
    assert links.empty_expired(150.0) == 0
    assert links.look(digest("a"), 5.0) is None, "the clock was set back"
    assert links.take(digest("a"), 5.0, "192.0.2.1") is None
    assert links.delete_of("phone") == 2
    assert links.delete_before(300.0) == 1
    assert links.all() == ()


def test_settings(store: Store) -> None:
    settings = Calls(store, SettingRepository)
    assert settings.get("x") is None
    assert settings.get("x", 5) == 5
    for value in ({"a": [1, None]}, "text", 7, False):
        settings.put("x", value)
        assert settings.get("x") == value
    assert settings.all()["x"] is False
    settings.put("once", "code")
    assert settings.take("once") == "code"
    assert settings.take("once") is None


def test_usage_is_added_up(store: Store) -> None:
    usage = Calls(store, UsageRepository)
    usage.add([])
    usage.add([Usage("a", 10, 1, 2, 3, 4, 0.5, 1), Usage("b", 10, bytes_in=2**40)])
    usage.add([Usage("a", 10, 10, 20, 30, 40, 1.0), Usage("a", 12, 1)])
    assert usage.of("a", 0, 11) == (Usage("a", 10, 11, 22, 33, 44, 1.5, 1),)
    assert [one.day for one in usage.of("a", 10, 12)] == [10, 12]
    assert usage.totals(10, 11) == (Usage("", 10, 2**40 + 11, 22, 33, 44, 1.5, 1),)
    most = usage.by_device(0, 20, limit=1)
    assert [(one.device, one.bytes_in, one.day) for one in most] == [("b", 2**40, 10)]
    assert usage.delete_before(12) == 2


def test_thousands_of_deltas_in_one_go(store: Store) -> None:
    usage = Calls(store, UsageRepository)
    usage.add([Usage(f"device {number % 1000}", 1, bytes_in=1) for number in range(5000)])
    assert usage.totals(1, 1)[0].bytes_in == 5000


def test_history(store: Store) -> None:
    history = Calls(store, HistoryRepository)
    history.append([])
    history.append(
        HistoryEntry(
            float(n), "ab"[n % 2], "s1", "moved" if n > 4 else "connected", "text", {"n": n}
        )
        for n in range(10)
    )
    found = history.find("a", limit=2)
    assert [(one.at, one.fields) for one in found] == [(8.0, {"n": 8}), (6.0, {"n": 6})]
    assert [one.at for one in history.find("a", before=found[-1].id)] == [4.0, 2.0, 0.0]
    assert [one.at for one in history.find("b", what="moved", since=6.0, until=9.0)] == [7.0]
    assert len(history.find(session="s1")) == 10
    assert history.trim(3.0) == 3
    assert history.trim(0.0, rows=2) == 5
    assert [one.at for one in history.find()] == [9.0, 8.0]


def test_several_repositories_share_a_transaction(store: Store) -> None:
    def work(connection: Any) -> None:
        SettingRepository(connection).put("x", 1)
        AuditRepository(connection).append(entry(1.0))
        connection.execute(insert(AUDIT).values(at=1.0))

    with pytest.raises(StoreError):
        store.do(work)
    assert store.do(lambda c: SettingRepository(c).get("x")) is None
    assert store.do(lambda c: AuditRepository(c).count(AuditFilter())) == 0


def test_h78_errors_of_the_database_tell_no_values(store: Store) -> None:
    secret = "hunter2"
    with pytest.raises(StoreError) as refused:
        store.do(lambda c: c.execute(insert(CERTIFICATES).values(serial="1", pem=secret)))
    assert secret not in str(refused.value)
