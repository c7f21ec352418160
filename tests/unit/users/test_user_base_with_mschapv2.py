"""What the user file keeps is what EAP-MSCHAPv2 needs."""

import itertools
from typing import Any

import pytest

from gateway.eap.method import EapMethod
from gateway.eap.mschapv2_crypto import nt_password_hash
from gateway.eap.peer import EapPeer, Login
from gateway.eap.server import EapServer, Offer, Outcome
from gateway.users.editing import UserFile
from gateway.users.passwords import canonical_password
from gateway.users.settings import ScryptCost, UserBaseSettings
from gateway.users.store import UserBase

WRITTEN, TYPED = "Su\u0308\u00dfes Geheimnis", "S\u00fc\u00dfes Geheimnis"


def random(size: Any) -> Any:
    return bytes(at % 251 for at in range(size))


def log_in(users: Any, name: Any, password: Any) -> Any:
    """Whether the server lets the client in."""
    server = EapServer(Offer(methods=(EapMethod.MSCHAPV2,), find_user=users.find), random)
    peer = EapPeer(Login(name, (EapMethod.MSCHAPV2,), password.encode()), random)
    packet = server.start()
    for _ in itertools.repeat(None, 12):
        said = peer.receive(packet).send
        if said is None:
            return False
        step = server.receive(said)
        if step.outcome is not Outcome.CONTINUE:
            return step.outcome is Outcome.SUCCESS
        packet = step.send
    raise AssertionError("no end")


@pytest.fixture
def file(tmp_path: Any) -> Any:
    settings = UserBaseSettings(tmp_path / "u.toml", tmp_path / "u.key", ScryptCost(10, 1, 1))
    nt_hash = nt_password_hash(canonical_password(WRITTEN))
    UserFile(settings).add_user("anna", WRITTEN, nt_hash=nt_hash)
    UserFile(settings).add_user("bob", "one-way")
    return settings


def test_logins(file: Any) -> None:
    users = UserBase.load(file)
    assert log_in(users, "anna", TYPED)
    assert not log_in(users, "anna", "wrong")
    assert not log_in(users, "bob", "one-way")
    assert not log_in(users, "zoe", TYPED)


def test_who_is_disabled_or_has_a_new_password(file: Any) -> None:
    UserFile(file).set_enabled("anna", enabled=False)
    assert not log_in(UserBase.load(file), "anna", TYPED)
    UserFile(file).set_enabled("anna", enabled=True)
    UserFile(file).set_password("anna", "new", nt_hash=nt_password_hash("new"))
    assert not log_in(UserBase.load(file), "anna", TYPED)
    assert log_in(UserBase.load(file), "anna", "new")
