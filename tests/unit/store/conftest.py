"""Every test of the store runs on SQLite and on PostgreSQL, Debian's, started here."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.domain.event import Event
from gateway.store.database import Store, StoreSettings

REQUIRED = bool(os.environ.get("GATEWAY_LAB_REQUIRED") or os.environ.get("CI"))
BINARIES = Path("/usr/lib/postgresql")


class Server:
    """PostgreSQL on a unix socket in a folder, without fsync."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make the cluster."""
        self._run(
            "initdb", "-D", self.folder / "data", "-U", "gateway", "-A", "trust", "-E", "UTF8"
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_connections": "20",
        }
        switches = [f"--{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_other(), self.binaries / "postgres", "-D", self.folder / "data", *switches],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        ready = [self.binaries / "pg_isready", "-h", self.folder, "-d", "postgres", "-t", "1"]
        for _ in range(300):
            if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
                return
            if self._process.poll() is not None:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        raise RuntimeError((self.folder / "log").read_text("utf-8", "replace")[-2000:])

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """SIGQUIT: at once, as if the power failed."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    @property
    def url(self) -> str:
        """Of its one database."""
        return f"postgresql://gateway@/postgres?host={self.folder}"

    def empty(self) -> None:
        """Whoever is connected goes, and so do all tables: quicker than a new database."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [*_as_other(), self.binaries / program, *map(str, arguments)],
            capture_output=True,
            check=False,
            cwd=self.folder,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode("utf-8", "replace"))


def _as_other() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid():
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    found = sorted(BINARIES.glob("*/bin/postgres"), key=lambda one: float(one.parts[-3]))
    if not found:
        message = f"no PostgreSQL in {BINARIES}: apt-get install postgresql"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    # Sockets have short names, and pytest's folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="gw-pg-", dir="/tmp"))
    server = Server(found[-1].parent, folder)
    try:
        if not os.geteuid():
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        server.prepare()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None: SQLite in the state directory."""
    if request.param == "sqlite":
        yield None
        return
    server: Server = request.getfixturevalue("postgresql")
    yield server.url
    server.empty()


@pytest.fixture
def events() -> list[Event]:
    return []


OpenStore = Callable[[], Store]


@pytest.fixture
def open_store(url: str | None, tmp_path: Path, events: list[Event]) -> Iterator[OpenStore]:
    """Opens the same database each time."""
    settings = StoreSettings(tmp_path / "state", url, runtime_dir=tmp_path / "run")
    stores = []

    def opened() -> Store:
        store = Store(settings, events.append)
        stores.append(store)
        store.open()
        return store

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()
