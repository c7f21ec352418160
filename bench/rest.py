"""The REST interface with ten thousand devices: lists, a new device, listeners.

Over TLS on loopback, against the whole gateway of :mod:`bench.quiet_core`. Beside each figure
stands a floor of the same run: the cheapest request that there is, or the disk alone.
"""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import Bar, Result, spread
from gateway.lab.processes import LabError, wait_until
from gateway.store.database import Store, StoreSettings
from gateway.store.objects import ObjectRepository

DEVICES = 10_000
ROUNDS = 30
LISTENERS = 200
LISTENERS_OF_ONE = 40
EVENTS = 20
READY_S = 60.0

CONFIGURATION = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"
[ike]
listen = ["127.0.0.1"]
[store]
state_dir = "{folder}/state"
[pools.road]
network = "10.64.0.0/16"
[connections.road]
local_auth = "psk"
remote_auth = "psk"
psk = "one long shared secret of a bench"
remote_id = "*@example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
[api]
listen = "127.0.0.1:{port}"
"""


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Fill a database, start, measure."""
    with tempfile.TemporaryDirectory(prefix="gateway-rest-") as name:
        folder = Path(name)
        say(f"{DEVICES} devices into a fresh database")
        fill(folder / "state")
        with gateway(folder) as there:
            say(f"ready with {DEVICES} devices after {there.ready_s:.2f} s")
            return [*lists(there), created(there, folder), listened(there)]


def fill(state: Path) -> None:
    """Devices as an administrator would have made them over the years."""
    state.mkdir(mode=0o711)
    store = Store(StoreSettings(state_dir=state), lambda _event: None)
    store.open()
    try:
        store.do(lambda connection: _insert(ObjectRepository(connection, store.sealer)))
    finally:
        store.close()


def _insert(objects: ObjectRepository) -> None:
    for number in range(DEVICES):
        document = {"identity": f"d{number:05}@example.com", "connection": "road"}
        objects.create("devices", f"d{number:05}", {**document, "platform": "strongswan"})


class There:
    """A running gateway and how to ask it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.ready_s = 0.0
        self._headers: dict[str, str] = {}
        self._context = ssl.create_default_context()
        # Its certificate is its own and made a moment ago; what is measured is the way there.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self.kept: http.client.HTTPSConnection | None = None

    def show(self, token: str) -> None:
        """Ask with this token from now on."""
        self._headers = {"Authorization": f"Bearer {token}"}

    def connect(self) -> http.client.HTTPSConnection:
        """A connection of its own."""
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, context=self._context
        )

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401
        """One request on the kept connection; raises LabError for what is not a success."""
        if self.kept is None:
            self.kept = self.connect()
        data = None if body is None else json.dumps(body)
        sent = {**self._headers, "Content-Type": "application/json"}
        self.kept.request(method, f"/api/v1{path}", data, sent)
        answer = self.kept.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise LabError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return json.loads(content) if content else None

    def timed_ms(self, method: str, path: str, body: object = None) -> float:
        """How long one request takes."""
        began = time.perf_counter()
        self.ask(method, path, body)
        return (time.perf_counter() - began) * 1000

    def listen(self, number: int) -> socket.socket:
        """A listener to events, past the head of its answer; so many have one address."""
        source = f"127.0.1.{1 + number // LISTENERS_OF_ONE}"
        raw = socket.create_connection(("127.0.0.1", self.port), 30, (source, 0))
        sock = self._context.wrap_socket(raw)
        lines = [f"{name}: {value}" for name, value in self._headers.items()]
        head = ["GET /api/v1/events HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]
        sock.sendall("\r\n".join(head).encode())
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = sock.recv(4096)
            if not chunk:
                raise LabError(f"a listener was turned away: {received[:200]!r}")
            received += chunk
        if not received.startswith(b"HTTP/1.1 200"):
            raise LabError(f"a listener was turned away: {received[:200]!r}")
        return sock


@contextmanager
def gateway(folder: Path) -> Iterator[There]:
    """Started, ready, and ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "gateway.toml"
    config.touch(mode=0o600)
    config.write_text(CONFIGURATION.format(folder=folder, port=port))
    log = (folder / "log").open("wb")
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.quiet_core", str(config)], stdout=log, stderr=log
    )
    try:
        token_file = folder / "api-token"
        wait_until(lambda: token_file.exists() or process.poll() is not None, READY_S, "the core")
        there = There(process, port)

        def answers() -> bool:
            if process.poll() is not None:
                raise LabError((folder / "log").read_text()[-3000:])
            there.show(token_file.read_text().strip())
            try:
                there.ask("GET", "/devices?limit=1")
            except (OSError, LabError, http.client.HTTPException):
                there.kept = None
                return False
            return True

        wait_until(answers, READY_S, "the REST interface")
        there.ready_s = time.monotonic() - began
        yield there
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
            process.wait(20)
        log.close()


def lists(there: There) -> list[Result]:
    """Pages of lists with ten thousand entries, and all of them."""
    results = []
    floor = [there.timed_ms("GET", "/healthz") for _ in range(ROUNDS)]
    for name, path in {
        "devices": "/devices?limit=200",
        "devices_searched": "/devices?limit=200&q=d09",
        "config_devices": "/config/devices?limit=200",
        "audit": "/audit?limit=200",
    }.items():
        times = [there.timed_ms("GET", path) for _ in range(ROUNDS)]
        results.append(
            Result(
                f"rest.list_{name}", median(times), "ms", Bar(100, at_least=False),
                {"cheapest_request_ms": median(floor)}, f"ms {spread(times)}",
            )
        )  # fmt: skip
    whole = _all_pages_s(there)
    note = "page after page of 200"
    return [*results, Result("rest.all_devices", whole * 1000, "ms", None, {}, note)]


def _all_pages_s(there: There) -> float:
    began, seen, cursor = time.perf_counter(), 0, ""
    while True:
        page = there.ask("GET", f"/devices?limit=200{cursor}")
        seen += len(page["items"])
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    if seen != DEVICES:
        raise LabError(f"{seen} of {DEVICES} devices are listed")
    return time.perf_counter() - began


def created(there: There, folder: Path) -> Result:
    """A new device, validated, on the disk and in force; the disk alone as the floor."""
    times, floor = [], []
    scratch = folder / "scratch"
    for number in range(ROUNDS):
        document = {"identity": f"new{number}@example.com", "connection": "road"}
        body = {"name": f"new{number}", "document": {**document, "platform": "android"}}
        times.append(there.timed_ms("POST", "/config/devices", body))
        began = time.perf_counter()
        with scratch.open("ab") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        floor.append((time.perf_counter() - began) * 1000)
    baseline = {
        "one_fsync_ms": median(floor),
        "cheapest_request_ms": there.timed_ms("GET", "/healthz"),
    }
    return Result(
        "rest.create_device", median(times), "ms", Bar(10, at_least=False), baseline,
        f"ms {spread(times)}",
    )  # fmt: skip


def listened(there: There) -> Result:
    """From a change until the last of two hundred listeners has heard of it."""
    listeners = [there.listen(number) for number in range(LISTENERS)]
    try:
        times, alone = [], []
        for number in range(EVENTS):
            times.append(_heard_ms(there, listeners, f"n{number}"))
            alone.append(_heard_ms(there, listeners[:1], f"a{number}"))
            for sock in listeners[1:]:
                _until(sock, f"a{number}")
    finally:
        for sock in listeners:
            sock.close()
    return Result(
        "rest.listeners_200", median(times), "ms", Bar(1000, at_least=False),
        {"one_listener_ms": median(alone)}, f"ms until the last has heard {spread(times)}",
    )  # fmt: skip


def _heard_ms(there: There, listeners: Sequence[socket.socket], name: str) -> float:
    began = time.perf_counter()
    document = {"identity": f"{name}@example.com", "connection": "road", "platform": "other"}
    there.ask("POST", "/config/devices", {"name": name, "document": document})
    for sock in listeners:
        _until(sock, name)
    return (time.perf_counter() - began) * 1000


def _until(sock: socket.socket, name: str) -> None:
    """Read until an event speaks of the device; raises TimeoutError when none does."""
    received = b""
    wanted = f"{name}".encode()
    while wanted not in received:
        chunk = sock.recv(65_536)
        if not chunk:
            raise LabError("a listener was disconnected")
        received += chunk
