"""Server and clients over a real unix socket."""

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.control import server as server_module
from gateway.control.actor import Actor
from gateway.control.async_client import AsyncControlClient, Caller
from gateway.control.client import ControlClient, ControlUnavailableError
from gateway.control.peer import Access, Peer
from gateway.control.protocol import MAX_REQUEST_OCTETS, ControlError, ErrorCode, Role
from gateway.control.server import MAX_QUEUED_EVENTS, ControlServer, SocketInUseError


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines = []

    def _write(self, event: Any, **fields: Any) -> None:
        self.lines.append((event, fields))

    debug = info = warning = error = _write


async def handle(request: Any) -> Any:
    match request.operation.name:
        case "health":
            return {"status": "ok"}
        case "close-ike-sa":
            raise ControlError(ErrorCode.NOT_FOUND, "there is none", "id")
        case "ike-sas":
            start = int(request.text("cursor") or "0", 16)
            following = f"{start + 1:x}" if start < 2 else None
            return {"items": [{"id": start}], "next": following, "total": 3}
        case "status":
            raise ZeroDivisionError("secret")
    return {}


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, **options: Any) -> Any:
    log = Lines()
    options.setdefault("access", Access())
    server = ControlServer(tmp_path / "control.sock", log=log, **options)
    await server.start(handle)
    server.log_lines = log.lines
    try:
        yield server, tmp_path / "control.sock"
    finally:
        await server.stop()


def run(coroutine: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await coroutine

    return asyncio.run(bounded())


def test_sync_client_asks_and_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):

            def ask() -> None:
                with ControlClient(path) as client:
                    assert client.call("health") == {"status": "ok"}
                    with pytest.raises(ControlError) as caught:
                        client.call("close-ike-sa", id="0" * 16 + "_" + "1" * 16)
                    assert (caught.value.code, caught.value.field) == ("not-found", "id")
                    assert list(client.pages("ike-sas")) == [{"id": 0}, {"id": 1}, {"id": 2}]

            await asyncio.to_thread(ask)

    run(scenario())


def test_async_client_asks_and_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):
            assert await AsyncControlClient(path).call("health") == {"status": "ok"}

    run(scenario())


def test_nobody_there_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ControlUnavailableError, match=r"no gateway answers.*gateway run"):
        ControlClient(tmp_path / "none").call("health")
    with pytest.raises(ControlUnavailableError, match="no gateway answers"):
        run(AsyncControlClient(tmp_path / "none").call("health"))


def test_a_fault_of_ours_is_answered_without_details_and_logged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, path):
            client = AsyncControlClient(path)
            with pytest.raises(ControlError) as caught:
                await client.call("status")
            assert caught.value.code == "internal"
            assert "secret" not in caught.value.message
            assert "secret" in str(server.log_lines)
            assert await client.call("health") == {"status": "ok"}

    run(scenario())


def test_the_socket_file_is_not_for_everybody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):
            assert path.stat().st_mode & 0o777 == 0o660
        assert not path.exists()

    run(scenario())


def test_a_second_gateway_is_refused_and_a_dead_ones_socket_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):
            with pytest.raises(SocketInUseError, match="another gateway"):
                ControlServer(path, access=Access(), log=Lines()).bind()
            assert await AsyncControlClient(path).call("health")
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(path))
        dead.close()
        async with serving(tmp_path):
            assert await AsyncControlClient(path).call("health")

    run(scenario())


@pytest.mark.parametrize(
    ("peer", "role"),
    [
        (Peer(1, 0, frozenset({0})), Role.ADMINISTRATOR),
        (Peer(1, 1001, frozenset({1001})), Role.ADMINISTRATOR),
        (Peer(1, 1002, frozenset({5, 50})), Role.ADMINISTRATOR),
        (Peer(1, 65534, frozenset({65534})), Role.NOBODY),
        (Peer(1, 65534, frozenset({65534, 50})), Role.NOBODY),
        (Peer(1, 1003, frozenset({1003})), None),
    ],
)
def test_credentials_decide_what_a_peer_may(peer: Any, role: Any) -> None:
    assert Access(frozenset({1001}), frozenset({50}), 65534).role(peer) is role


def test_a_peer_without_business_here_is_told_and_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, path):
            stranger = Peer(1, 4711, frozenset())
            monkeypatch.setattr(server_module, "peer_of", lambda _sock: stranger)
            with pytest.raises(ControlError, match="uid 4711 may not"):
                await AsyncControlClient(path).call("health")
            assert server.counters["requests"] == 0
            assert server.counters["connections_refused"] == 1

    run(scenario())


def test_peer_credentials_are_the_kernels(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = server_module.peer_of(ours)
        assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
        assert os.getgid() in peer.groups


async def until(condition: Any) -> None:
    """Wait for a condition; the scenario's own bound ends it."""
    while not condition():  # noqa: ASYNC110 - what changes it does not know of us
        await asyncio.sleep(0.01)


async def raw(path: Any) -> Any:
    return await asyncio.open_unix_connection(str(path))


def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):
            reader, writer = await raw(path)
            writer.write(b"x" * (MAX_REQUEST_OCTETS * 3))
            answer = json.loads(await reader.readline())
            assert str(MAX_REQUEST_OCTETS) in answer["error"]["message"]
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            assert await AsyncControlClient(path).call("health")

    run(scenario())


def test_garbage_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):
            reader, writer = await raw(path)
            for line in (b"\xff\xfe\n", b"[]\n", b"{}\n", b'{"op":"health","id":"a"}\n'):
                writer.write(line)
            answers = [json.loads(await reader.readline()) for _ in range(4)]
            assert [a["ok"] for a in answers] == [False, False, False, True]
            assert answers[3]["id"] == "a"
            writer.close()

    run(scenario())


def test_connections_are_bounded_and_come_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS_PER_UID", 2)

    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):
            held = []
            for _ in range(2):
                reader, writer = await raw(path)
                writer.write(b'{"op":"health"}\n')
                await reader.readline()
                held.append(writer)
            with pytest.raises(ControlError, match="too many connections"):
                await AsyncControlClient(path).call("health")
            held[0].close()
            while True:  # until the server has noticed
                with contextlib.suppress(ControlError):
                    await AsyncControlClient(path).call("health")
                    break
                await asyncio.sleep(0.01)
            held[1].close()

    run(scenario())


def test_a_client_that_does_not_read_is_cut_off_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "WRITE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(server_module, "REQUESTS_PER_SECOND", 10**9)

    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):
            deaf = socket.socket(socket.AF_UNIX)
            deaf.setblocking(False)
            deaf.connect(str(path))
            loop = asyncio.get_running_loop()
            line = b'{"op":"health"}\n' * 256

            async def flood() -> None:
                while True:  # until the server gives up on us
                    await loop.sock_sendall(deaf, line)

            with pytest.raises(ConnectionError):
                await flood()
            deaf.close()
            assert await AsyncControlClient(path).call("health") == {"status": "ok"}

    run(scenario())


def test_subscribers_get_events_and_debug_only_when_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, path):
            quiet = AsyncControlClient(path).events()
            chatty = AsyncControlClient(path).events(debug=True)
            first, second = (
                asyncio.ensure_future(anext(quiet)),
                asyncio.ensure_future(anext(chatty)),
            )
            await until(lambda: len(server._subscribers) == 2)
            server.publish({"name": "detail"}, debug=True)
            server.publish({"name": "moved"})
            assert (await second)["name"] == "detail"
            assert (await anext(chatty))["name"] == "moved"
            assert (await first)["name"] == "moved"
            await quiet.aclose()
            await chatty.aclose()
            await until(lambda: not server.has_subscribers)

    run(scenario())


def test_a_slow_subscriber_is_dropped_with_a_notice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, path):
            reader, writer = await raw(path)
            writer.write(b'{"op":"events"}\n')
            await reader.readline()
            for number in range(MAX_QUEUED_EVENTS + 1):  # without a chance to write in between
                server.publish({"name": "n", "number": number})
            notice = json.loads((await reader.read()).splitlines()[-1])
            assert notice["notice"] == "dropped"
            assert server.counters["subscribers_dropped"] == 1
            assert not server.has_subscribers
            writer.close()

    run(scenario())


def known(credential: str, remote: str) -> Actor:
    if credential == "wrong":
        raise ControlError(ErrorCode.UNAUTHENTICATED, "no such token")
    role = {"": Role.NOBODY, "look": Role.READ_ONLY, "do": Role.OPERATOR}[credential]
    return Actor(f"token {credential}", role, remote)


def as_uid(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(server_module, "peer_of", lambda _sock: Peer(1, uid, frozenset()))


def test_the_api_may_only_what_the_one_who_asks_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_uid(monkeypatch, 4711)

    async def scenario() -> None:
        options = {"access": Access(api_uid=4711), "authenticate": known}
        async with serving(tmp_path, **options) as (_, path):
            client = AsyncControlClient(path)

            async def code(op: str, credential: str | None, **args: object) -> str:
                caller = None if credential is None else Caller(credential, "192.0.2.7")
                try:
                    await client.request(op, args, caller)
                except ControlError as error:
                    return str(error.code)
                return "ok"

            sa = "0" * 16 + "_" + "1" * 16
            assert await code("health", None) == "ok"
            assert await code("ike-sas", None) == "unauthenticated"
            assert await code("ike-sas", "") == "unauthenticated"
            assert await code("ike-sas", "wrong") == "unauthenticated"
            assert await code("ike-sas", "look") == "ok"
            assert await code("close-ike-sa", "look", id=sa) == "denied"
            assert await code("close-ike-sa", "do", id=sa) == "not-found"
            assert await code("reload", "do") == "denied"

    run(scenario())


def test_root_loses_its_role_when_it_asks_for_somebody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, authenticate=known) as (_, path):
            client = AsyncControlClient(path)
            with pytest.raises(ControlError, match="log in"):
                await client.request("ike-sas", {}, Caller("", "192.0.2.7"))
            assert await client.call("ike-sas")

    run(scenario())


def test_h78_nobody_but_the_api_speaks_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_uid(monkeypatch, 1001)

    async def scenario() -> None:
        options = {"access": Access(frozenset({1001}), api_uid=4711), "authenticate": known}
        async with serving(tmp_path, **options) as (_, path):
            for envelope in ({"as": "do"}, {"from": "192.0.2.7"}):
                reader, writer = await raw(path)
                writer.write(json.dumps({"op": "health", **envelope}).encode() + b"\n")
                answer = json.loads(await reader.readline())
                assert answer["error"]["code"] == "denied"
                writer.close()

    run(scenario())


def test_connections_of_the_asyncio_client_are_shared_and_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, path):
            client = AsyncControlClient(path, max_connections=3, keep=True)
            for _ in range(10):
                await client.call("health")
            assert server.counters["connections"] == 1
            await asyncio.gather(*(client.call("health") for _ in range(50)))
            assert server.counters["connections"] <= 3
            client.close()

    run(scenario())


def test_a_kept_connection_that_the_core_closed_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (_, path):
            client = AsyncControlClient(path, keep=True)
            await client.call("health")
        async with serving(tmp_path) as (_, path):
            assert await client.call("health") == {"status": "ok"}
            client.close()

    run(scenario())


def test_an_answer_that_comes_late_becomes_nobody_elses(tmp_path: Path) -> None:
    async def scenario() -> None:
        slow = asyncio.Event()

        async def answer(request: Any) -> Any:
            if request.operation.name == "status":
                await slow.wait()
            return {"op": request.operation.name}

        server = ControlServer(tmp_path / "control.sock", access=Access(), log=Lines())
        await server.start(answer)
        client = AsyncControlClient(tmp_path / "control.sock", keep=True)
        with pytest.raises(ControlUnavailableError, match="within its time"):
            await client.request("status", {}, timeout_s=0.05)
        slow.set()
        assert await client.call("health") == {"op": "health"}
        client.close()
        await server.stop()

    run(scenario())
