"""Killed at any moment, or cut off in the middle of a write: what was acknowledged is there."""

import os
import random
import select
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.event import Event
from gateway.store.audit import AuditFilter, AuditRepository
from gateway.store.database import Store, StoreSettings, StoreState
from gateway.store.objects import ObjectRepository
from gateway.store.sessions import SessionStore

ROUNDS = 6
WRITER = Path(__file__).with_name("writer.py")


class Acknowledged:
    """What the killed processes said that they had written."""

    def __init__(self) -> None:
        self.objects: set[int] = set()
        self.sessions: dict[str, str] = {}
        self.other: list[str] = []

    def take(self, output: bytes) -> None:
        """Whole lines only: the last one may have been cut."""
        for line in output[: output.rfind(b"\n") + 1].decode().splitlines():
            what, _, rest = line.partition(" ")
            if what == "object":
                self.objects.add(int(rest))
            elif what == "session":
                key, _, record = rest.partition(" ")
                self.sessions[key] = record
            elif what != "ready":
                self.other.append(line)


def killed(folder: Path, url: str | None, begin: int, lines: int) -> bytes:
    """Run the writer, kill it once it has said so many lines; all it said."""
    process = subprocess.Popen(
        [sys.executable, WRITER, str(folder), url or "", str(begin)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    output = b""
    try:
        while output.count(b"\n") <= lines:
            readable, _, _ = select.select([process.stdout], [], [], 60)
            assert readable, "the writer writes nothing"
            part = os.read(process.stdout.fileno(), 4096)
            assert part, output[-500:]
            output += part
    finally:
        process.kill()
        output += process.stdout.read()
        process.stdout.close()
        process.wait()
    return output


def test_killed_at_random_moments_nothing_acknowledged_is_lost(
    url: str | None, tmp_path: Path
) -> None:
    chance = random.Random(7)
    known = Acknowledged()
    for number in range(ROUNDS):
        known.take(killed(tmp_path, url, number * 1000, chance.randrange(1, 200)))
        events: list[Event] = []
        settings = StoreSettings(tmp_path / "state", url, runtime_dir=tmp_path / "run")
        store = Store(settings, events.append)
        store.open()
        assert store.state is StoreState.GOOD
        sealer = store.sealer
        objects = store.do(lambda c, s=sealer: ObjectRepository(c, s).all(with_secrets=True))
        there = {int(one.name[1:]): one for one in objects}
        assert known.objects <= set(there)
        assert len(set(there) - known.objects) <= number + 1, "one each may not have been told"
        for n, one in there.items():
            assert one.secrets == {"password": f"p{n}"}
        audited = store.do(lambda c: AuditRepository(c).count(AuditFilter()))
        assert audited == len(there), "an object and its audit are one transaction"
        sessions = SessionStore(store, tmp_path / "run" / "sessions", events.append)
        found = sessions.open()
        for key, record in known.sessions.items():
            kept = found.of("ike", this_boot=True)[key].decode()
            said, had = ([int(part) for part in one.split(".")] for one in (record, kept))
            assert had >= said, "never an older record than the one that was acknowledged"
        assert events == []
        assert known.other == []
        store.close()
        known.objects = set(there)


# -- a write that was cut in the middle ------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A database whose changes are all in the log, and the log's length after each of them."""
    folder = tmp_path_factory.mktemp("written")
    store = Store(StoreSettings(folder), print)
    store.open()
    log = folder / "gateway.sqlite-wal"
    lengths = []
    for number in range(12):
        store.do(
            lambda c, n=number: ObjectRepository(c, store.sealer).create("pools", f"p{n}", {"n": n})
        )
        lengths.append(log.stat().st_size)
    copy = tmp_path_factory.mktemp("copy")
    for one in ("gateway.sqlite", "gateway.sqlite-wal", "store.key"):
        shutil.copy2(folder / one, copy / one)
    store.close()
    return copy, lengths


def opened_with(folder: Path, log: bytes, to: Path) -> tuple[list[str], list[str], StoreState]:
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for one in ("gateway.sqlite", "store.key"):
        shutil.copy2(folder / one, to / one)
    (to / "gateway.sqlite-wal").write_bytes(log)
    events: list[Event] = []
    store = Store(StoreSettings(to), events.append)
    store.open()
    names = [one.name for one in store.do(lambda c: ObjectRepository(c, store.sealer).all())]
    store.do(lambda c: ObjectRepository(c, store.sealer).create("pools", "after", {}))
    state = store.state
    store.close()
    return names, [one.name for one in events], state


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_a_log_cut_anywhere_has_all_that_was_whole_before(
    written: tuple[Path, list[int]], tmp_path: Path, data: st.DataObject
) -> None:
    folder, lengths = written
    log = (folder / "gateway.sqlite-wal").read_bytes()
    cut = data.draw(st.integers(lengths[0], len(log)))
    names, events, state = opened_with(folder, log[:cut], tmp_path / "cut")
    complete = sum(1 for length in lengths if length <= cut)
    assert names == sorted(f"p{n}" for n in range(complete))
    assert events == []
    assert state is StoreState.GOOD


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_a_log_whose_last_write_is_rubbish_has_all_that_was_before(
    written: tuple[Path, list[int]], tmp_path: Path, data: st.DataObject
) -> None:
    folder, lengths = written
    log = (folder / "gateway.sqlite-wal").read_bytes()
    last = data.draw(st.integers(1, len(lengths) - 1))
    begin, end = lengths[last - 1], lengths[last]
    rubbish = data.draw(st.binary(min_size=end - begin, max_size=end - begin))
    names, events, _ = opened_with(folder, log[:begin] + rubbish, tmp_path / "torn")
    assert names == sorted(f"p{n}" for n in range(last))
    assert events == []


def test_sqlite_here_syncs_its_log_before_it_acknowledges(tmp_path: Path) -> None:
    """What kill -9 cannot show: the order of write, fsync and acknowledgement."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace")
    code = (
        "import sys; from pathlib import Path; from gateway.store.database import *;"
        "from gateway.store.settings import SettingRepository;"
        "store = Store(StoreSettings(Path(sys.argv[1])), print); store.open();"
        "print('BEGIN', flush=True);"
        "store.do(lambda c: SettingRepository(c).put('x', 1));"
        "print('END', flush=True); store.close()"
    )
    trace = tmp_path / "trace"
    watch = [strace, "-f", "-y", "-e", "trace=write,pwrite64,fsync,fdatasync"]
    subprocess.run(
        [*watch, "-o", str(trace), sys.executable, "-c", code, str(tmp_path / "state")],
        check=True,
        capture_output=True,
    )
    lines = trace.read_text("utf-8", "replace").splitlines()
    begin = next(n for n, line in enumerate(lines) if "BEGIN" in line)
    end = next(n for n, line in enumerate(lines) if '"END' in line)
    during = [line for line in lines[begin:end] if "gateway.sqlite-wal" in line]
    writes = [n for n, line in enumerate(during) if "pwrite64" in line]
    syncs = [n for n, line in enumerate(during) if "sync(" in line]
    assert writes
    assert syncs
    assert max(syncs) > max(writes), during


def test_a_backup_is_whole_while_others_write(tmp_path: Path) -> None:
    import threading

    from gateway.store.backup import copy_sqlite

    store = Store(StoreSettings(tmp_path), print)
    store.open()
    ended = threading.Event()
    written: list[int] = []

    def write() -> None:
        number = 0
        while not ended.is_set():
            store.do(
                lambda c, n=number: ObjectRepository(c, store.sealer).create(
                    "pools", f"p{n:05}", {"note": "x" * 3000}
                )
            )
            written.append(number)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            while len(written) < 10 * (number + 1):
                ended.wait(0.001)
            before = len(written)
            target = tmp_path / "backups" / f"{number}.sqlite"
            copy_sqlite(tmp_path / "gateway.sqlite", target)
            with closing(sqlite3.connect(target)) as copy:
                names = [row[0] for row in copy.execute("SELECT name FROM object ORDER BY name")]
                assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert names == [f"p{n:05}" for n in range(len(names))]
            assert len(names) >= before
            assert target.stat().st_mode & 0o077 == 0
            assert not list(target.parent.glob(".*"))
    finally:
        ended.set()
        writer.join()
        store.close()
