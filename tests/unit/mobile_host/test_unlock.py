"""Passwords: right, wrong, too often; and who may ask for what."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mobile_host_fakes import FakeNodeEngine

from gateway.config.profile import LoginPart, Profile
from gateway.config.profile_sealing import Unlocked, WrongPasswordError
from gateway.control.node_operations import NODE_OPERATIONS
from gateway.control.protocol import ControlError, ErrorCode, Request, Role, check_request
from gateway.mobile_host.control import NodeControl
from gateway.mobile_host.unlock import FREE_TRIES, Lock
from gateway.mobile_node.status import NodeStatus

SECRETS = Unlocked({"login.psk": "secret"})


def opener(_profile: Profile, password: str) -> Unlocked:
    if password != "right":
        raise WrongPasswordError
    return SECRETS


def profile(sealed: str = "/etc/gateway-mn/profile.sealed") -> Profile:
    return Profile(login=LoginPart(sealed=Path(sealed)))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def open_with(lock: Lock, password: str) -> ErrorCode | None:
    try:
        asyncio.run(lock.open(password))
    except ControlError as error:
        return ErrorCode(error.code)
    return None


def test_the_right_password_opens_and_locking_forgets() -> None:
    lock = Lock(profile(), Clock(), opener)
    assert lock.locked
    assert open_with(lock, "right") is None
    assert not lock.locked
    assert lock.secrets is SECRETS
    lock.close()
    assert lock.locked


def test_guessing_gets_slower() -> None:
    clock = Clock()
    lock = Lock(profile(), clock, opener)
    for _ in range(FREE_TRIES + 1):
        assert open_with(lock, "wrong") is ErrorCode.DENIED
    assert open_with(lock, "right") is ErrorCode.BUSY
    clock.now = 2.1
    assert open_with(lock, "wrong") is ErrorCode.DENIED
    clock.now = 4.5
    assert open_with(lock, "right") is ErrorCode.BUSY
    clock.now = 60.0
    assert open_with(lock, "right") is None


def test_a_profile_without_sealed_secrets_is_never_locked() -> None:
    lock = Lock(Profile(), Clock(), opener)
    assert not lock.locked
    assert open_with(lock, "right") is ErrorCode.REFUSED
    with pytest.raises(ControlError, match="seal"):
        lock.close()


def test_another_sealed_file_needs_its_own_password() -> None:
    lock = Lock(profile(), Clock(), opener)
    open_with(lock, "right")
    lock.use(profile())
    assert not lock.locked
    lock.use(profile("/etc/other.sealed"))
    assert lock.locked


class Node:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def status(self) -> NodeStatus:
        return FakeNodeEngine().status(0.0)

    async def unlock(self, password: str) -> None:
        self.asked.append(f"unlock {password}")

    def lock(self) -> None:
        self.asked.append("lock")

    def reconnect(self) -> None:
        self.asked.append("reconnect")

    @property
    def portal_door(self) -> Any:
        return Door(self.asked)


class Door:
    def __init__(self, asked: list[str]) -> None:
        self._asked = asked

    def ask(self, uid: int) -> dict[str, object]:
        self._asked.append(f"portal {uid}")
        return {"open": True}

    def end(self, _reason: str) -> None:
        self._asked.append("portal-stop")


def request(op: str, **args: object) -> Request:
    return check_request({"op": op, "args": args}, Role.ADMINISTRATOR, NODE_OPERATIONS)


def test_every_operation_is_answered() -> None:
    node = Node()
    control = NodeControl(node, lambda: 10.0)
    arguments = {"node-unlock": {"password": "right"}, "node-portal": {"uid": 1000}}
    for name in NODE_OPERATIONS:
        if name != "events":
            found = asyncio.run(control.handle(request(name, **arguments.get(name, {}))))
            assert isinstance(found, dict)
    assert node.asked == ["unlock right", "lock", "reconnect", "portal 1000", "portal-stop"]


def test_status() -> None:
    found = asyncio.run(NodeControl(Node(), lambda: 10.0).handle(request("node-status")))
    assert isinstance(found, dict)
    assert (found["mode"], found["for_s"]) == ("held", 6.0)
