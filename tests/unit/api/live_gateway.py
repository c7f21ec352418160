"""A gateway without a kernel: the real core with its store, engine and control socket, and the real
API process; only the dataplane remembers instead of doing.

``python live_gateway.py FOLDER`` runs one until its standard input ends; it prints a line when it
is ready. Tests use :func:`running`.
"""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

CONFIGURATION = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}/run"
log_format = "json"
[store]
state_dir = "{folder}/state"
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
[provisioning]
enabled = true
address = "203.0.113.7"
[api]
listen = "127.0.0.1:{port}"
user = "{user}"
names = ["gateway.example.com"]
{api}
"""


@dataclass
class Live:
    """A running gateway."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    tls: bool
    token: str

    @property
    def base(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def client(self, token: str | None = "", **options: Any) -> httpx.Client:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        verify: ssl.SSLContext | bool = True
        if self.tls:
            certificate = self.folder / "state" / "api" / "certificate.pem"
            verify = ssl.create_default_context(cafile=str(certificate))
        return httpx.Client(
            base_url=self.base, headers=headers, verify=verify, timeout=60, **options
        )

    def processes(self) -> dict[str, int]:
        """Resident memory of core and API in KiB."""
        found = {"core": _resident_kib(self.process.pid)}
        for pid in [one.name for one in Path("/proc").iterdir() if one.name.isdigit()]:
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"gateway.api" in line and str(self.folder).encode() in b" ".join(line):
                    found["api"] = _resident_kib(int(pid))
        return found


def _resident_kib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * (os.sysconf("SC_PAGE_SIZE") // 1024)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    folder: Path, *, tls: bool = False, user: str = "nobody", api: str = ""
) -> Iterator[Live]:
    """One gateway, ready to be asked."""
    port = free_port()
    config = folder / "gateway.toml"
    more = api if tls else f"tls = false\n{api}"
    config.write_text(CONFIGURATION.format(folder=folder, port=port, api=more, user=user))
    config.chmod(0o600)
    for name in ("state", "run"):
        (folder / name).mkdir(exist_ok=True)
    one = folder
    while one != one.parent and user == "nobody":  # temporary folders are nobody's own otherwise
        with contextlib.suppress(OSError):
            one.chmod(one.stat().st_mode | 0o011)
        one = one.parent
    log = (folder / "log").open("wb")
    command = [sys.executable, "-W", "error", __file__, str(folder)]
    with log, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log) as process:
        try:
            live = Live(folder, port, process, tls, "")
            _await(live)
            live.token = (folder / "run" / "api-token").read_text().strip()
            yield live
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _await(live: Live) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if live.process.poll() is not None:
            break
        with contextlib.suppress(OSError, httpx.HTTPError), live.client(None) as client:
            if client.get("/api/v1/health").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError((live.folder / "log").read_text()[-4000:])


def _main(folder: Path) -> int:
    sys.path.insert(0, str(Path(__file__).parents[1] / "appliance"))
    import asyncio

    from appliance_fakes import FakeDataplane

    from gateway.appliance import core
    from gateway.appliance.administration.composition import Administration
    from gateway.appliance.keeper import fork_keeper
    from gateway.appliance.parts import Parts
    from gateway.appliance.start import configure_log
    from gateway.ike.transport import IkeSockets
    from gateway.ike.transport_esp import EspInUdp

    class Unprivileged(Parts):
        """Everything but what needs a kernel."""

        def sockets(self, config: Any, held: Any = ()) -> Any:
            return IkeSockets(config.ike.listen, ike_port=0, nat_port=0, esp=EspInUdp.NONE)

        def dataplane(self, config: Any) -> Any:
            return FakeDataplane()

    for name in ("drop_capabilities", "no_new_privileges", "not_dumpable"):
        setattr(core, name, lambda *_: frozenset())
    keeper = fork_keeper()
    parts, administration = Unprivileged(), Administration()
    config = administration.begin(folder / "gateway.toml", parts.load)
    log = configure_log(config)

    async def serve() -> None:
        made = core.Appliance(
            config,
            parts,
            keeper,
            log=log,
            configure_log=configure_log,
            administration=administration,
        )
        task = asyncio.create_task(made.run())
        gone = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            os.kill(os.getpid(), 2)
        await task

    try:
        asyncio.run(serve())
    finally:
        administration.close()
        keeper.stop()
    return 0


def load_json(path: Path) -> Any:
    return json.loads(path.read_text())


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
