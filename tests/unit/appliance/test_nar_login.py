"""The real engine and the real user base over loopback: logins, and what they do not open."""

import asyncio
import os
import struct
import time
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from nar_fakes import World, until

from gateway.appliance.backends import Backends, BackendSettings
from gateway.nar.codec.numbers import Reply
from gateway.nar.policy import NarRule
from gateway.nar.server.engine import NarServer
from gateway.users.document import UserEntry
from gateway.users.passwords import PasswordHash
from gateway.users.settings import ScryptCost
from gateway.users.store import UserBase

ANNA = UserEntry("anna", ("staff",), True, PasswordHash.of("right", ScryptCost(10, 1, 1), bytes))


class RealWorld(World):
    """Everything but the kernel."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        super().__init__(folder)
        (soho,) = self.servers
        self.servers = [replace(soho, policy=replace(soho.policy, **policy))]
        self.backends = Backends(
            BackendSettings(UserBase({"anna": ANNA})), usage=lambda _: None, emit=self.events.append
        )

    def engine(self, policy: Any, occupied: Any) -> Any:
        made = self.engines[policy.name] = NarServer(
            policy, random=os.urandom, wall_clock=time.time, occupied=occupied
        )
        return made

    async def __aenter__(self) -> Any:
        await super().__aenter__()
        self.nar._ask_user = self.backends.ask_password
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        await self.backends.stop()


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


def login(user: bytes, password: bytes) -> bytes:
    return bytes((1, len(user))) + user + bytes((len(password),)) + password


async def offer(world: World, *methods: int) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(bytes((5, len(methods), *methods)))
    return reader, writer, (await reader.readexactly(2))[1]


def test_passwords_are_those_of_the_user_base(tmp_path: Path) -> None:
    async def main() -> None:
        async with RealWorld(
            tmp_path, backend="local", require_tls=False, rules=(NarRule("staff"),)
        ) as world:
            reader, writer, method = await offer(world, 0, 2)
            assert method == 2
            writer.write(login(b"anna", b"right"))
            assert await reader.readexactly(2) == b"\1\0"
            # Let in is not let through: this rule has no proxy.
            writer.write(b"\5\1\0\1\xc0\0\2\7" + struct.pack("!H", 80))
            assert (await reader.readexactly(10))[1] == Reply.NOT_ALLOWED
            writer.close()
            reader, writer, _ = await offer(world, 2)
            writer.write(login(b"anna", b"wrong"))
            assert (await reader.readexactly(2))[1] != 0
            assert await reader.read() == b""
            writer.close()
            counters = world.backends.facts()["users"]["counters"]
            assert (counters["accepted"], counters["rejected"]) == (1, 1)

    run(main())


def test_h69_passwords_are_not_taken_in_the_clear(tmp_path: Path) -> None:
    async def main() -> None:
        async with RealWorld(tmp_path, backend="local", rules=(NarRule("all"),)) as world:
            reader, writer, method = await offer(world, 0, 2)
            assert method == 0xFF
            assert await reader.read() == b""
            writer.close()

    run(main())


def test_h76_loopback_is_no_target_by_name_or_number(tmp_path: Path) -> None:
    async def main() -> None:
        trusted = (IPv4Network("127.0.0.0/8"),)
        rules = (NarRule("all", proxy=True),)
        async with RealWorld(tmp_path, trusted=trusted, rules=rules) as world:
            for address in (b"\1\x7f\0\0\1", b"\3\x09localhost", b"\3\x0a2130706433"):
                reader, writer, method = await offer(world, 0)
                assert method == 0
                writer.write(b"\5\1\0" + address + struct.pack("!H", 22))
                reply = await reader.readexactly(2)
                assert reply[1] in {Reply.NOT_ALLOWED, Reply.HOST_UNREACHABLE}
                writer.close()
            assert world.nar._fleet.running["soho"].proxy.counters["opened"] == 0

    run(main())


def test_h72_slow_clients_are_closed_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        trusted = (IPv4Network("127.0.0.0/8"),)
        async with RealWorld(
            tmp_path, trusted=trusted, rules=(NarRule("all"),), handshake_s=0.1
        ) as world:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"\5")
            assert await reader.read() == b""
            writer.close()
            await until(lambda: len(world.nar._fleet.running["soho"].connections) == 0)

    run(main())
