"""The appliance with real sockets on loopback and a real API, but a fake engine and dataplane."""

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from appliance_fakes import FakeDataplane, FakeEngine

from gateway.appliance.core import Appliance
from gateway.appliance.keeper import Keeper, fork_keeper
from gateway.appliance.session_takeover import TakenOver
from gateway.appliance.systemd import ServiceManager
from gateway.config.loader import load
from gateway.control.async_client import AsyncControlClient
from gateway.control.client import ControlUnavailableError
from gateway.control.protocol import ControlError
from gateway.dataplane.interface import EndpointRejected, Usage
from gateway.domain.endpoint import Endpoint
from gateway.domain.log import configure
from gateway.ike.outputs import Event, RecordSa, Severity
from gateway.ike.snapshot import ChildSaSnapshot, IkeSaSnapshot
from gateway.ike.transport import IkeSockets
from gateway.ike.transport_esp import EspInUdp
from gateway.store.sessions import Restored

CONFIGURATION = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"
{gateway}
[ike]
listen = ["127.0.0.1"]
[pools.road]
network = "10.9.0.0/24"
[connections.road]
local_auth = "psk"
remote_auth = "psk"
psk = "one long shared secret"
remote_id = "device@example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
{road}
[api]
enabled = {api}
tls = false
listen = "127.0.0.1:{port}"
"""

IKE = IkeSaSnapshot(
    spis="0123456789abcdef_fedcba9876543210",
    local_spi="fedcba9876543210",
    state="established",
    initiator=False,
    version=2,
    connection="road",
    peer="device@example.com",
    user="",
    profile="",
    auth="certificate",
    local_id="gateway.example.com",
    local="203.0.113.1:4500",
    remote="198.51.100.9:1024",
    inner_address="10.9.0.1",
    suite="aes256gcm16-prfsha256-x25519",
    encapsulated=True,
    local_natted=False,
    remote_natted=True,
    mobike=True,
    fragmentation=True,
    peer_knows_endpoint_update=False,
    peer_knows_vpn_fa=False,
    age_s=1.5,
    idle_s=0.5,
    rekey_in_s=100.0,
    child_sas=("c0ffee01",),
    last_move={"age_s": 1.0, "old": "192.0.2.7:4500", "new": "198.51.100.9:1024", "proof": "x"},
)


def child(spi_in: int) -> ChildSaSnapshot:
    return ChildSaSnapshot(
        spi_in=spi_in,
        spi_out=2,
        reqid=7,
        state="installed",
        connection="road",
        peer="device@example.com",
        ike_spis=IKE.spis,
        local=IKE.local,
        remote=IKE.remote,
        suite="aes_gcm_16_256",
        encapsulated=True,
        outbound_active=True,
        endpoint_update=False,
        vpn_fa=False,
        local_ts=("10.1.0.0/24",),
        remote_ts=("10.9.0.1/32",),
        age_s=1.0,
        last_move=None,
    )


class FakeParts:
    """Real configuration, policies and sockets; fake engine and dataplane."""

    def __init__(self) -> None:
        self.made = FakeEngine()
        self.kernel = FakeDataplane()
        self.sessions: Any = None

    load = staticmethod(load)
    plane = None

    def taken_over(self, config: Any, administration: Any, emit: Any) -> Any:
        return TakenOver(self.sessions, emit)

    def connections(self, config: Any) -> Any:
        from gateway.config import to_policy

        return to_policy.connections(config)

    def pools(self, config: Any) -> Any:
        from gateway.config import to_policy

        return to_policy.pools(config)

    def kernel_settings(self, config: Any) -> Any:
        from gateway.config import to_dataplane

        return to_dataplane.kernel_settings(config)

    def sockets(self, config: Any, held: Any = ()) -> Any:
        return IkeSockets(config.ike.listen, ike_port=0, nat_port=0, esp=EspInUdp.NONE)

    def dataplane(self, config: Any) -> Any:
        return self.kernel

    def backends(self, config: Any) -> Any:
        from gateway.appliance.backends import BackendSettings

        return BackendSettings()

    def mobility(self, config: Any) -> Any:
        return None

    def mobility_login(self, config: Any) -> Any:
        return None

    def nar(self, config: Any) -> Any:
        return None

    def engine(
        self,
        config: Any,
        connections: Any,
        dataplane: Any,
        find_user: Any,
        *,
        debug: bool,
        recording: bool = False,
    ) -> Any:
        return self.made


class Bed:
    """One appliance; privileges are left alone, as the test process needs its own."""

    def __init__(self, tmp_path: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("drop_capabilities", "no_new_privileges", "not_dumpable"):
            monkeypatch.setattr(f"gateway.appliance.core.{name}", lambda *_: frozenset())
        monkeypatch.setattr("gateway.appliance.core.gc.freeze", lambda: None)
        self.folder = tmp_path
        self.keeper = keeper
        self.config = tmp_path / "gateway.toml"
        self.parts = FakeParts()
        self.stream = io.StringIO()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(tmp_path / "notify"))
        self.notify.setblocking(False)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.api = "false"
        self.write()

    def write(self, *, gateway: str = "", road: str = "") -> None:
        self.config.write_text(
            CONFIGURATION.format(
                folder=self.folder, gateway=gateway, road=road, api=self.api, port=self.port
            )
        )
        self.config.chmod(0o600)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def notified(self) -> list[bytes]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.notify.recv(500).split(b"\n")[0])
        return found

    def configure_log(self, config: Any) -> Any:
        return configure(style="json", level=config.gateway.log_level, stream=self.stream)

    @property
    def client(self) -> AsyncControlClient:
        return AsyncControlClient(self.folder / "control.sock", timeout_s=20)

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        config = load(self.config)
        manager = ServiceManager({"NOTIFY_SOCKET": str(self.folder / "notify")})
        appliance = Appliance(
            config,
            self.parts,  # type: ignore[arg-type]
            self.keeper,
            log=self.configure_log(config),
            configure_log=self.configure_log,
            manager=manager,
        )
        task = asyncio.create_task(appliance.run())
        async with asyncio.timeout(30):
            while not self.has("started"):
                assert not task.done(), await task
                await asyncio.sleep(0.005)
            yield appliance
            if not task.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await task

    def has(self, event: str) -> bool:
        return any(line["event"] == event for line in self.log())

    async def until(self, condition: Any) -> None:
        while not condition():  # noqa: ASYNC110 - bounded by running()
            await asyncio.sleep(0.005)


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    keeper = fork_keeper()
    made = Bed(tmp_path, keeper, monkeypatch)
    yield made
    keeper.stop()
    made.notify.close()


def test_it_starts_answers_and_stops_cleanly(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running():
            assert await bed.client.call("health") == {"status": "ok"}
            status = await bed.client.call("status")
            assert status["connections"] == ["road"]
            assert status["counters"]["ike"] == {"messages_in": 3}  # type: ignore[index]
            assert status["dataplane"]["counters"] == {"slow_path_accepted": 1}  # type: ignore[index]
            assert bed.notified() == [b"READY=1"]
            bed.parts.made.ike = [IKE]
        assert ("close_all",) in bed.parts.made.calls
        assert bed.parts.kernel.closed
        assert bed.notified() == [b"STOPPING=1"]
        assert not (bed.folder / "control.sock").exists()
        assert [line["event"] for line in bed.log()] == ["started", "stopped"]

    asyncio.run(scenario())


class FakeSessions:
    """A session store that has a little."""

    database = None

    def __init__(self, records: Any = None) -> None:
        self.found = Restored(records or {})
        self.log: list[str] = []

    def open(self) -> Any:
        return self.found

    def start(self) -> None:
        self.log.append("start")

    async def stop(self) -> None:
        self.log.append("stop")

    def keep(self, kind: str, key: str, record: bytes) -> None:
        self.log.append(f"keep {kind} {key}")

    def forget(self, kind: str, key: str) -> None:
        self.log.append(f"forget {kind} {key}")


def test_who_is_stopping_already_goes_on_as_begun(bed: Bed) -> None:
    bed.parts.sessions = FakeSessions({"ike": {"one": b"1"}})
    bed.write()

    async def scenario() -> None:
        async with bed.running():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            await bed.until(lambda: bed.has("stopped"))
        assert "close_all" in [call[0] for call in bed.parts.made.calls]
        assert not bed.parts.kernel.kept

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("number", "gateway", "kept"),
    [
        (signal.SIGTERM, "", True),
        (signal.SIGTERM, 'on_sigterm = "close"', False),
        (signal.SIGINT, "", False),
    ],
)
def test_a_signal_says_whether_sessions_go_on(
    bed: Bed, number: signal.Signals, gateway: str, kept: bool
) -> None:
    bed.parts.sessions = sessions = FakeSessions({"ike": {"one": b"1"}})
    bed.write(gateway=gateway)

    async def scenario() -> None:
        async with bed.running():
            bed.notified()
            bed.parts.made.reactions["hand_over"] = [RecordSa("one", b"2")]
            os.kill(os.getpid(), number)
            await bed.until(lambda: bed.has("stopped"))
        calls = [call[0] for call in bed.parts.made.calls]
        assert ("restore", ("one",)) in bed.parts.made.calls
        assert ("hand_over" in calls, "close_all" in calls) == (kept, not kept)
        assert bed.parts.kernel.kept is kept
        # What was recorded last is written down before the end.
        assert sessions.log[-1] == "stop"
        assert ("keep ike one" in sessions.log) is kept
        last = bed.notified()
        assert last[0] == b"STOPPING=1"
        assert (b"FDSTOREREMOVE=1" in last) is not kept

    asyncio.run(scenario())


def test_a_start_that_fails_leaves_sessions_for_the_next_try(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.parts.sessions = FakeSessions({"ike": {"one": b"1"}})

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("no engine today")

    monkeypatch.setattr(bed.parts, "engine", fails)

    async def scenario() -> None:
        with pytest.raises(OSError, match="no engine"):
            async with bed.running():
                pass

    asyncio.run(scenario())
    assert (bed.parts.kernel.closed, bed.parts.kernel.kept) == (True, True)


def test_datagrams_reach_the_engine_and_its_answers_the_peer(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running():
            listen = (await bed.client.call("status"))["listen"]
            port = int(listen[0].rpartition(":")[2])  # type: ignore[index]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.setblocking(False)
                peer.sendto(b"hello", ("127.0.0.1", port))
                answer = await asyncio.get_running_loop().sock_recv(peer, 100)
            assert answer == b"re:hello"

    asyncio.run(scenario())


def test_lists_show_sas_with_their_traffic_page_by_page(bed: Bed) -> None:
    bed.parts.made.ike = [IKE]
    bed.parts.made.children = [child(number) for number in (5, 3, 4)]
    bed.parts.kernel.usages = {3: Usage(10, 1, 20, 2, 0.5)}

    async def scenario() -> None:
        async with bed.running():
            page = await bed.client.call("ike-sas")
            (shown,) = page["items"]  # type: ignore[misc]
            assert shown["id"] == IKE.spis
            assert shown["remote_id"] == "device@example.com"
            assert shown["nat"] == {"local": False, "remote": True}
            assert shown["last_move"] == IKE.last_move

            first = await bed.client.call("child-sas", limit=2)
            assert [sa["spi_in"] for sa in first["items"]] == ["00000003", "00000004"]  # type: ignore[attr-defined]
            assert first["total"] == 3
            assert first["items"][0]["bytes_out"] == 20  # type: ignore[index]
            assert first["items"][1]["bytes_out"] is None  # type: ignore[index]
            rest = await bed.client.call("child-sas", limit=2, cursor=first["next"])
            assert [sa["spi_in"] for sa in rest["items"]] == ["00000005"]  # type: ignore[attr-defined]
            assert rest["next"] is None

            other = "f" * 16 + "_" + "0" * 16
            assert (await bed.client.call("child-sas", ike_sa=other))["items"] == []
            with pytest.raises(ControlError, match="no IKE SA"):
                await bed.client.call("ike-sas", id=other)

    asyncio.run(scenario())


def test_commands_reach_the_engine(bed: Bed) -> None:
    bed.parts.made.ike = [IKE]

    async def scenario() -> None:
        async with bed.running():
            await bed.client.call("close-ike-sa", id=IKE.spis)
            await bed.client.call("initiate", connection="branch")
            with pytest.raises(ControlError, match="no connection nowhere"):
                await bed.client.call("initiate", connection="nowhere")
            with pytest.raises(ControlError, match="no IKE SA"):
                await bed.client.call("close-ike-sa", id="f" * 16 + "_" + "0" * 16)
            await bed.client.call("rekey", id=IKE.spis, children=True)
            with pytest.raises(ControlError, match="no established IKE SA"):
                await bed.client.call("rekey", id="f" * 16 + "_" + "0" * 16)
            calls = bed.parts.made.calls
            assert ("close_ike_sa", IKE.spis) in calls
            assert ("rekey", (IKE.spis, True)) in calls
            assert ("initiate", "branch") in calls

    asyncio.run(scenario())


def test_reload_applies_the_difference_and_tells_the_manager(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running():
            bed.notified()
            bed.write(gateway='log_level = "warning"', road="liveness_s = 99")
            os.kill(os.getpid(), signal.SIGHUP)
            await bed.until(lambda: ("reconfigure", ("road",)) in bed.parts.made.calls)
            await bed.until(lambda: bed.notified() == [b"RELOADING=1", b"READY=1"])
            # The new level counts from now on.
            assert [line["event"] for line in bed.log() if line["level"] == "info"] == [
                "started",
                "reload_change",
                "reload_change",
            ]

    asyncio.run(scenario())


def test_what_needs_a_restart_is_said_on_reload(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running():
            bed.config.write_text(bed.config.read_text() + "\n[dataplane]\nqueue = 7\n")
            result = await bed.client.call("reload")
            assert any("dataplane.queue" in change for change in result["changes"])  # type: ignore[attr-defined]
            (line,) = [line for line in bed.log() if line["level"] == "warning"]
            assert "needs a restart" in line["text"]
            again = await bed.client.call("reload")
            assert again["changes"] == result["changes"]  # still waiting

    asyncio.run(scenario())


def test_a_pool_changes_without_a_restart(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running():
            bed.config.write_text(bed.config.read_text().replace("10.9.0.0/24", "10.8.0.0/24"))
            await bed.client.call("reload")
            assert str(bed.parts.made.pools["road"].network) == "10.8.0.0/24"
            settings = bed.parts.kernel.settings
            assert [str(network) for network in settings.inner_networks] == ["10.8.0.0/24"]

    asyncio.run(scenario())


def test_a_bad_configuration_is_refused_on_reload_and_the_old_goes_on(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running():
            bed.write(road='mobike = "perhaps"')
            with pytest.raises(ControlError, match=r"connections\.road\.mobike"):
                await bed.client.call("reload")
            os.kill(os.getpid(), signal.SIGHUP)
            await bed.until(
                lambda: sum(line["event"] == "reload_refused" for line in bed.log()) >= 4
            )
            assert not any(call[0] == "reconfigure" for call in bed.parts.made.calls)
            status = await bed.client.call("status")
            assert status["reloads"]["refused"] == 2  # type: ignore[index]
            assert await bed.client.call("health") == {"status": "ok"}

    asyncio.run(scenario())


def test_events_are_logged_and_published(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running() as appliance:
            events = bed.client.events()
            waiting = asyncio.ensure_future(anext(events))
            await bed.until(lambda: appliance._control.has_subscribers)
            bed.parts.made.outputs = [
                Event("detail", "not shown", Severity.DEBUG),
                Event("endpoint_moved", "it moved", fields={"old": "a", "new": "b"}),
            ]
            appliance._service.flush()
            event = await waiting
            assert (event["name"], event["fields"]) == ("endpoint_moved", {"old": "a", "new": "b"})
            await events.aclose()
            line = bed.log()[-1]
            assert (line["event"], line["text"], line["old"]) == ("endpoint_moved", "it moved", "a")

    asyncio.run(scenario())


def test_failed_logins_are_recorded_also_those_that_the_log_leaves_out(bed: Bed) -> None:
    def failed(remote: str, *, logged: bool) -> Event:
        fields: dict[str, object] = {"peer": "ada", "remote": remote, "reason": "wrong key"}
        return Event("handshake_failed", "it failed", Severity.WARNING, fields, logged=logged)

    async def scenario() -> None:
        async with bed.running() as appliance:
            bed.parts.made.outputs = [
                failed("192.0.2.7:500", logged=True),
                failed("192.0.2.7:501", logged=False),
                failed("192.0.2.8:500", logged=False),
            ]
            appliance._service.flush()
            assert sum(line["event"] == "handshake_failed" for line in bed.log()) == 1
            page = await bed.client.call("ike-failures", limit=1)
            assert (page["total"], len(page["items"])) == (2, 1)  # type: ignore[arg-type]
            rest = await bed.client.call("ike-failures", cursor=page["next"])
            (older,) = rest["items"]  # type: ignore[misc]
            assert (older["count"], older["remote"]) == (2, "192.0.2.7:501")  # type: ignore[index]
            with pytest.raises(ControlError, match="remote"):
                await bed.client.call("ike-failures", remote="somewhere")

    asyncio.run(scenario())


def test_h45_a_flood_of_forged_packets_fills_no_log(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running() as appliance:
            remote = Endpoint(ip_address("192.0.2.66"), 0)
            appliance._service.dataplane_events(
                [EndpointRejected(number, remote, "forged") for number in range(5000)]
            )
            lines = [line for line in bed.log() if line["event"] == "endpoint_rejected"]
            assert 0 < len(lines) < 50
            status = await bed.client.call("status")
            assert status["counters"]["log"]["lines_suppressed"] > 4900  # type: ignore[index]
            assert status["counters"]["service"]["endpoints_rejected"] == 5000  # type: ignore[index]

    asyncio.run(scenario())


def test_a_fault_in_a_callback_is_one_line_and_the_service_goes_on(bed: Bed) -> None:
    async def scenario() -> None:
        async with bed.running():

            def broken() -> None:
                raise ZeroDivisionError("oops")

            asyncio.get_running_loop().call_soon(broken)
            await bed.until(lambda: bed.has("internal_fault"))
            line = bed.log()[-1]
            assert "ZeroDivisionError: oops at" in line["text"]
            assert "test_core.py" in line["text"]
            assert await bed.client.call("health") == {"status": "ok"}

    asyncio.run(scenario())


def test_a_failing_start_undoes_what_was_done(bed: Bed) -> None:
    def refuse(_config: Any) -> Any:
        raise OSError(95, "this kernel cannot")

    bed.parts.dataplane = refuse  # type: ignore[method-assign]

    async def scenario() -> None:
        with pytest.raises(OSError, match="this kernel cannot"):
            async with bed.running():
                pass
        assert not (bed.folder / "control.sock").exists()
        with pytest.raises(ControlUnavailableError):
            await bed.client.call("health")

    asyncio.run(scenario())


def test_the_api_serves_dies_and_comes_back_without_the_core_noticing(bed: Bed) -> None:
    bed.api = "true"
    bed.write()
    bed.parts.made.ike = [IKE]

    async def get(path: str) -> bytes:
        token = (bed.folder / "api-token").read_text().strip()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        except ConnectionError:
            return b""
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        writer.write(request.encode() + b"Connection: close\r\n\r\n")
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def serves() -> None:
        while b"device@example.com" not in await get("/api/v1/ike-sas"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def scenario() -> None:
        async with bed.running():
            await serves()
            first = (await bed.client.call("status"))["api"]
            os.kill(first["pid"], signal.SIGKILL)  # type: ignore[index]
            await bed.until(lambda: bed.has("api_ended"))
            assert await bed.client.call("health") == {"status": "ok"}
            await serves()
            second = (await bed.client.call("status"))["api"]
            assert second["state"] == "running"  # type: ignore[index]
            assert second["pid"] != first["pid"]  # type: ignore[index]

    asyncio.run(scenario())
