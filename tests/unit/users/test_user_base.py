"""Logins against the user base: passwords, NT hashes, and what each answer costs."""

import hashlib
from typing import Any

import pytest

from gateway.domain.user_auth import Accepted, LocalUser, Rejected
from gateway.users import passwords
from gateway.users.document import UserFileError, parse
from gateway.users.editing import UserFile
from gateway.users.passwords import PasswordHash, PasswordRefusedError
from gateway.users.sealing import Sealing, SealingError, ensure_key
from gateway.users.settings import ScryptCost, UserBaseSettings
from gateway.users.store import UserBase

CHEAP = ScryptCost(10, 1, 1)
NT = bytes(range(16))


@pytest.fixture
def base(tmp_path: Any) -> Any:
    settings = UserBaseSettings(tmp_path / "users.toml", tmp_path / "users.key", CHEAP)
    file = UserFile(settings)
    file.add_user("anna", "s\u00fc\u00dfes", groups=["staff"], nt_hash=NT)
    file.add_user("bob", "pw", enabled=False)
    return settings


def test_the_right_password_gives_the_groups(base: Any) -> None:
    users = UserBase.load(base)
    assert users.verify("anna", "s\u00fc\u00dfes".encode()) == Accepted("anna", ("staff",))
    assert users.verify("anna", "su\u0308\u00dfes".encode()) == Accepted("anna", ("staff",))


@pytest.mark.parametrize("password", [b"", b"x", b"s\xff\xfe", b"S\xc3\xbc\xc3\x9fes", b"x" * 5000])
def test_wrong_passwords(base: Any, password: Any) -> None:
    assert UserBase.load(base).verify("anna", password) == Rejected("wrong password")


def test_users_that_may_not_log_in(base: Any) -> None:
    users = UserBase.load(base)
    assert isinstance(users.verify("Anna", "s\u00fc\u00dfes".encode()), Rejected)
    assert users.verify("bob", b"pw") == Rejected("the user is disabled")
    assert users.verify("bob", b"no") == Rejected("wrong password")
    assert users.find("bob") is None
    assert users.find("zoe") is None


def test_every_answer_costs_one_scrypt_of_the_same_parameters(base: Any, monkeypatch: Any) -> None:
    users = UserBase.load(base)
    seen = []
    real = hashlib.scrypt

    def spy(password: Any, **cost: Any) -> Any:
        seen.append((cost["n"], cost["r"], cost["p"], cost["dklen"]))
        return real(password, **cost)

    monkeypatch.setattr(passwords.hashlib, "scrypt", spy)
    for name, password in ("anna", b"x"), ("bob", b"pw"), ("zoe", b"x"), ("a\0", b"x"):
        users.verify(name, password)
    assert seen == [(1024, 1, 1, 32)] * 4


def test_the_nt_hash_comes_back_for_its_user_alone(base: Any) -> None:
    assert UserBase.load(base).find("anna") == LocalUser("anna", ("staff",), NT, True)
    text = base.path.read_text()
    sealed = next(line for line in text.splitlines() if line.startswith("nt_hash"))
    base.path.write_text(text.replace("[users.bob]", f"[users.bob]\n{sealed}"))
    with pytest.raises(UserFileError, match="user bob, nt_hash: was sealed for another user"):
        UserBase.load(base)


def test_a_new_password_takes_the_old_nt_hash_away(base: Any) -> None:
    UserFile(base).set_password("anna", "new")
    found = UserBase.load(base).find("anna")
    assert found is not None
    assert found.nt_hash is None
    assert isinstance(UserBase.load(base).verify("anna", b"new"), Accepted)


def test_the_key_must_be_there_and_private(base: Any) -> None:
    base.key_path.chmod(0o640)
    with pytest.raises(UserFileError, match=r"users\.key: others may read the key; chmod 600"):
        UserBase.load(base)
    base.key_path.unlink()
    with pytest.raises(UserFileError, match="the key file is missing"):
        UserBase.load(base)
    ensure_key(base.key_path, lambda size: b"\7" * size)
    with pytest.raises(UserFileError, match="restore the key file"):
        UserBase.load(base)


def test_the_key_is_made_once(tmp_path: Any) -> None:
    path = tmp_path / "k"
    ensure_key(path, lambda size: b"\1" * size)
    text = path.read_bytes()
    ensure_key(path, lambda size: b"\2" * size)
    assert path.read_bytes() == text


@pytest.mark.parametrize("text", ["", "$aes256gcm$AAAA", "$aes256gcm$" + "A" * 60, "x" * 100])
def test_damaged_sealed_values(text: Any) -> None:
    with pytest.raises(SealingError):
        Sealing(bytes(32)).open("anna", text)


def test_a_file_that_everybody_reads_is_refused(base: Any) -> None:
    base.path.chmod(0o644)
    with pytest.raises(UserFileError, match="chmod 600"):
        UserBase.load(base)


def test_no_file_is_an_empty_base(tmp_path: Any) -> None:
    users = UserBase.load(UserBaseSettings(tmp_path / "none", tmp_path / "key", CHEAP))
    assert len(users) == 0
    assert isinstance(users.verify("anna", b"x"), Rejected)


def test_the_second_vector_of_rfc_7914() -> None:
    salt, digest = (
        b"NaCl",
        bytes.fromhex(
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
            "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
        ),
    )
    stored = PasswordHash(ScryptCost(10, 8, 16), salt, digest)
    assert stored.matches(b"password")
    assert not stored.matches(b"Password")


def test_secrets_are_in_no_repr(base: Any) -> None:
    users = UserBase.load(base)
    entry = parse(base.path.read_text())["anna"]
    shown = repr(users) + repr(entry) + repr(entry.password) + repr(users.find("anna"))
    assert entry.password is not None
    assert str(entry.password)[-20:] not in shown
    assert repr(NT)[2:20] not in shown


@pytest.mark.parametrize("password", ["", "a\0b", "x" * 1025])
def test_passwords_that_are_refused(password: Any) -> None:
    with pytest.raises(PasswordRefusedError):
        PasswordHash.of(password, CHEAP, bytes)
