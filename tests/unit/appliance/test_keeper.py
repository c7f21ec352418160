"""The keeper with a stand-in for the API, as real processes."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.appliance import keeper as keeper_module
from gateway.appliance.keeper import ApiCommand, fork_keeper

PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
"""One that every user can reach."""
LIVES = "import sys; sys.stdin.read()"
"""As the API does: ends with its lifeline."""
IGNORES = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(1, flush=True)
time.sleep(60)
"""


class Kept:
    """A keeper and what it reports."""

    def __init__(self) -> None:
        self.keeper = fork_keeper()
        self.reports = asyncio.Queue()

    def start(self, program: Any, **options: Any) -> None:
        command = ApiCommand((PYTHON, "-S", "-c", program), {}, **options)
        self.keeper.start(command, asyncio.get_running_loop(), self.reports.put_nowait)

    async def report(self) -> Any:
        async with asyncio.timeout(20):
            return await self.reports.get()


@contextlib.contextmanager
def kept() -> Any:
    """To be entered outside of the event loop, as the gateway does."""
    made = Kept()
    try:
        yield made
    finally:
        made.keeper.stop()


def run(made: Any, scenario: Any) -> None:
    async def go() -> None:
        made.reports = asyncio.Queue()
        await scenario()

    asyncio.run(go())


def alive(pid: Any) -> Any:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] != b"Z"
    except FileNotFoundError:
        return False


async def until_gone(pid: Any) -> None:
    async with asyncio.timeout(20):
        while alive(pid):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


def test_an_api_that_dies_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "FIRST_PAUSE_S", 0.01)
    with kept() as made:

        async def scenario() -> None:
            made.start(LIVES)
            first = await made.report()
            assert first["what"] == "started"
            os.kill(first["pid"], signal.SIGKILL)
            ended = await made.report()
            assert (ended["what"], ended["pid"], ended["status"]) == ("ended", first["pid"], -9)
            second = await made.report()
            assert second["what"] == "started"
            assert second["pid"] != first["pid"]

        run(made, scenario)


def test_the_pause_grows_while_it_keeps_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(keeper_module, "LONGEST_PAUSE_S", 0.04)
    with kept() as made:

        async def scenario() -> None:
            made.start("raise SystemExit(3)")
            pauses = []
            while len(pauses) < 4:
                report = await made.report()
                if report["what"] == "ended":
                    assert report["status"] == 3
                    pauses.append(report["again_in_s"])
            assert pauses == [0.01, 0.02, 0.04, 0.04]

        run(made, scenario)


@pytest.mark.parametrize("program", [LIVES, IGNORES])
def test_stopping_ends_keeper_and_api(monkeypatch: pytest.MonkeyPatch, program: Any) -> None:
    monkeypatch.setattr(keeper_module, "TERMINATE_S", 0.2)
    pids = []
    with kept() as made:

        async def scenario() -> None:
            made.start(program)
            pids.append((await made.report())["pid"])

        run(made, scenario)
        pids.append(made.keeper.pid)
    for pid in pids:
        asyncio.run(until_gone(pid))


def test_the_api_ends_when_the_keeper_is_killed() -> None:
    with kept() as made:

        async def scenario() -> None:
            made.start(LIVES)
            pid = (await made.report())["pid"]
            os.kill(made.keeper.pid, signal.SIGKILL)
            assert (await made.report())["what"] == "keeper_ended"
            await until_gone(pid)

        run(made, scenario)


def test_a_keeper_without_a_command_ends_with_the_core() -> None:
    with kept() as made:
        pid = made.keeper.pid
    asyncio.run(until_gone(pid))


SHOW = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
facts = {k: status[k].split() for k in ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "NoNewPrivs")}
facts["fds"] = sorted(int(n) for n in os.listdir("/proc/self/fd"))
facts["environment"] = dict(os.environ)
open(sys.argv[1], "w").write(json.dumps(facts))
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_the_api_has_another_user_no_capabilities_and_no_descriptors_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CORE", "x")
    shown = tmp_path / "facts"
    shown.touch()
    shown.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents):
        if folder == tmp_path or folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)
    with kept() as made, socket_left_open():

        async def scenario() -> None:
            program = SHOW.replace("sys.argv[1]", repr(str(shown)))
            made.start(program, uid=65534, gid=65534, groups=(4242,))
            await made.report()
            async with asyncio.timeout(20):
                while not shown.read_text():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)

        run(made, scenario)
    facts = json.loads(shown.read_text())
    assert facts["Uid"] == ["65534"] * 4
    assert facts["Gid"] == ["65534"] * 4
    assert facts["Groups"] == ["4242"]
    assert int(facts["CapEff"][0], 16) == int(facts["CapPrm"][0], 16) == 0
    assert facts["NoNewPrivs"] == ["1"]
    assert set(facts["fds"]) <= {0, 1, 2, 3}  # the fourth lists the folder
    assert "SECRET_OF_THE_CORE" not in facts["environment"]


@contextlib.contextmanager
def socket_left_open() -> Any:
    with Path("/dev/null").open("rb") as file:
        yield file
