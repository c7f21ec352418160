"""Judges objects that stand by themselves, quick with ten thousand of them: devices and users."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.appliance.administration.devices import Devices
from gateway.appliance.administration.disconnecting import Sessions
from gateway.appliance.administration.judging import check_device, check_user, invalid
from gateway.appliance.administration.objects import Wanted
from gateway.appliance.administration.side import Surroundings
from gateway.appliance.administration.views import of_light
from gateway.config.administration import UserSection
from gateway.config.administration_checks import canonical_identity, device_faults
from gateway.config.difference import device_effect
from gateway.config.problem import Problem, shown
from gateway.config.secrets import MASK
from gateway.control.object_operations import CutSession
from gateway.control.operation import Document
from gateway.control.protocol import ControlError, ErrorCode
from gateway.users.live import LiveUser, LiveUsers
from gateway.users.passwords import PasswordHash, PasswordRefusedError, canonical_password
from gateway.users.settings import ScryptCost

if TYPE_CHECKING:
    from gateway.store.objects import StoredObject as Kept

PASSWORD = "/password"  # noqa: S105 - names of secrets, as gateway.config.secrets gives them
NT_HASH = "/nt_hash"


class DeviceJudge:
    """Of devices."""

    def __init__(self, devices: Devices, sessions: Sessions, surroundings: Surroundings) -> None:
        self._devices = devices
        self._sessions = sessions
        self._around = surroundings

    def in_file(self, _kind: str, name: str) -> bool:
        """Whether the file has one of this name."""
        found = self._devices.get(name)
        return found is not None and found.source == "file"

    async def judge(
        self, kind: str, name: str, old: "Kept | None", document: Document | None
    ) -> Wanted:
        """See :class:`gateway.appliance.administration.objects.Judge`."""
        before = old.document if old is not None else None
        if document is None:
            changes = of_light(kind, name, before, None, device_effect("removed"))

            async def forget(_kept: "Kept | None") -> None:
                self._devices.remove(name)

            return Wanted(None, {}, changes, [], forget)
        section = check_device(name, document)
        found = device_faults(self._around.config(), section)
        other = self._devices.of_identity(canonical_identity(section.identity))
        if other is not None and other.name != name:
            why = f"is that of devices/{other.name} as well; give each device its own"
            found.append(("identity", section.identity, why))
        if found:
            problems = [
                Problem(Path(), f"{kind}/{name}.{field}", why, shown(value))
                for field, value, why in found
            ]
            raise invalid(kind, name, problems)
        effect = device_effect("added" if before is None else "blocked")
        changes = of_light(kind, name, before, document, effect)
        cut: list[CutSession] = []
        if section.blocked:
            cut = self._sessions.of(canonical_identity(section.identity), section.mobile_node)

        async def use(_kept: "Kept | None") -> None:
            device = self._devices.put(name, section)
            if section.blocked:
                self._sessions.end(device.identity, section.mobile_node, "the device is blocked")

        return Wanted(document, {}, changes, cut, use)


class UserJudge:
    """Of users, whose passwords are hashed."""

    def __init__(self, users: LiveUsers, surroundings: Surroundings) -> None:
        self._users = users
        self._around = surroundings

    def in_file(self, _kind: str, name: str) -> bool:
        """Whether the user file has one of this name."""
        base = self._around.backends.file_users
        return base is not None and name in base

    async def judge(
        self, kind: str, name: str, old: "Kept | None", document: Document | None
    ) -> Wanted:
        """See :class:`gateway.appliance.administration.objects.Judge`."""
        before = old.document if old is not None else None
        if document is None:
            effect = "its logins are refused; its sessions stay"

            async def forget(_kept: "Kept | None") -> None:
                self._users.remove(name)

            changes = of_light(kind, name, before, None, effect)
            return Wanted(None, {}, changes, [], forget)
        kept = old.secrets if old is not None else {}
        same = kept and document.get("password") == kept.get(PASSWORD)
        given = {key: value for key, value in document.items() if not (same and key == "password")}
        section = check_user(name, given)
        if same:
            secrets = dict(kept)
        else:
            secrets = await self._hashed(kind, name, section)
        after: Document = {key: value for key, value in document.items() if key != "password"}
        after["password"] = dict(MASK)
        user = live_user(name, after, secrets)
        changes = of_light(kind, name, before, after, "the next logins")
        if before is not None and not same:
            key = f"{kind}.{name}.password"
            hidden = "(hidden)"
            changes.append(
                {
                    "kind": "changed",
                    "key": key,
                    "effect": "the next logins",
                    "old": hidden,
                    "new": hidden,
                    "needs_restart": False,
                }
            )

        async def use(_kept: "Kept | None") -> None:
            self._users.put(user)

        return Wanted(after, secrets, changes, [], use)

    async def _hashed(self, kind: str, name: str, section: UserSection) -> Document:
        if section.password is None:
            why = "is required; give the password, or the mask of the one that is stored"
            raise invalid(kind, name, [Problem(Path(), f"{kind}/{name}.password", why)])
        password = section.password.get_secret_value()
        config = self._around.config()
        wanted = section.mschapv2
        if wanted is None:
            wanted = any(
                "eap-mschapv2" in one.user_auth and one.user_backend == "local"
                for one in config.connections.values()
            )
        cost = ScryptCost(config.users.scrypt_ln)
        try:
            return await asyncio.to_thread(
                _secrets, password, cost, self._around.random, nt_hash=wanted
            )
        except PasswordRefusedError as error:
            problem = Problem(Path(), f"{kind}/{name}.password", str(error))
            raise invalid(kind, name, [problem]) from None


def _secrets(
    password: str, cost: ScryptCost, random: Callable[[int], bytes], *, nt_hash: bool
) -> Document:
    found: Document = {PASSWORD: str(PasswordHash.of(password, cost, random))}
    if nt_hash:
        from gateway.eap.mschapv2_crypto import nt_password_hash  # noqa: PLC0415 - seldom needed

        found[NT_HASH] = nt_password_hash(canonical_password(password)).hex()
    return found


def live_user(name: str, document: Document, secrets: Document) -> LiveUser:
    """A stored user as logins use it. Raises :class:`ControlError` when it is damaged."""
    groups, password, nt_hash = document.get("groups"), secrets.get(PASSWORD), secrets.get(NT_HASH)
    try:
        return LiveUser(
            name,
            tuple(map(str, groups)) if isinstance(groups, list | tuple) else (),
            document.get("enabled", True) is True,
            PasswordHash.parse(password) if isinstance(password, str) else None,
            bytes.fromhex(nt_hash) if isinstance(nt_hash, str) else None,
        )
    except ValueError as error:
        raise ControlError(ErrorCode.INTERNAL, f"users/{name}: {error}") from None
