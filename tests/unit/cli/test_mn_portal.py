"""``gateway mn portal``: what it asks of the node, what it says, and the browser that it shows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_answers import Answers
from typer.testing import CliRunner

from gateway.cli import exits, mn_portal, portal_browser
from gateway.cli.commands import app
from gateway.cli.portal_browser import Browser, User, command_of, display_of, user_of
from gateway.control.protocol import ControlError, ErrorCode

OPENED = {
    "open": True,
    "address": "127.0.0.1",
    "port": 41234,
    "interface": "wlan0",
    "page": "http://example.com/",
    "ends_in_s": 600,
}
PAGE = "http://example.com/"
ME = User(os.getuid(), os.getgid(), "me", "/home/me")


def held(why: str = "wlan0 wants a login") -> dict[str, object]:
    return {"mode": "held", "place": "unknown", "why": why}


WORKS: dict[str, object] = {"mode": "vf", "place": "outside", "why": "the x-HA answered"}


class Shown:
    """In place of a browser."""

    ended = gone = False

    def end(self) -> None:
        self.ended = True


class Turns:
    """Changes what the node answers, one step for each pause of the command."""

    def __init__(self, answers: Answers, *steps: dict[str, object]) -> None:
        self._answers, self._steps = answers, list(steps)
        self.now = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds
        if self._steps:
            self._answers.results |= self._steps.pop(0)

    def clock(self) -> float:
        return self.now


def run(answers: Answers, *steps: dict[str, object], shown: Shown | None = None) -> int:
    turns = Turns(answers, *steps)

    def start(_user: User, _port: int, _page: str, _command: str | None) -> Browser | None:
        return shown  # type: ignore[return-value]

    return mn_portal.portal(answers.path, None, start=start, pause=turns.pause, clock=turns.clock)


def closed(reason: str) -> dict[str, object]:
    return {"node-portal": {"open": False, "reason": reason}}


def test_it_says_what_to_do_keeps_asking_and_waits(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = {"node-portal": OPENED, "node-status": held()}
    assert run(answers, {}, {}, closed("the network is open"), {"node-status": WORKS}) == exits.OK
    told = capsys.readouterr().out
    for part in ("127.0.0.1, port 41234", PAGE, "the network is open: outside, mode vf"):
        assert part in told, part
    uid = user_of(os.environ).uid
    keep = ("node-portal", {"uid": uid, "keep": True})
    assert answers.asked[:4] == [("node-portal", {"uid": uid}), keep, keep, keep]


def test_the_browser_is_closed_when_the_network_is_open(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = {"node-portal": OPENED, "node-status": WORKS}
    shown = Shown()
    assert run(answers, closed("no login is needed: mode vf works"), shown=shown) == exits.OK
    assert shown.ended
    assert "Only this browser speaks in the clear" in capsys.readouterr().out


def test_a_browser_that_was_closed_leaves_the_way_open(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = {"node-portal": OPENED, "node-status": WORKS}
    shown = Shown()
    shown.gone = True
    assert run(answers, {}, closed("the network is open"), shown=shown) == exits.OK
    assert shown.ended
    told = capsys.readouterr().out
    assert told.count("127.0.0.1, port 41234") == 1
    assert "the network is open: outside" in told


@pytest.mark.parametrize("reason", ["10 minutes are over", "wlan0 is another network now"])
def test_it_fails_where_nothing_became_open(
    answers: Answers, capsys: pytest.CaptureFixture[str], reason: str
) -> None:
    answers.results = {"node-portal": OPENED, "node-status": held()}
    shown = Shown()
    assert run(answers, closed(reason), shown=shown) == exits.FAILED
    told = capsys.readouterr()
    assert reason in told.out
    assert "wlan0 wants a login" in told.err
    assert shown.ended


def test_it_does_not_wait_for_ever_for_a_mode(answers: Answers) -> None:
    answers.results = {"node-portal": OPENED, "node-status": held("connecting")}
    assert run(answers, closed("the network is open")) == exits.FAILED


def test_an_interrupt_closes_the_way(answers: Answers) -> None:
    answers.results = {"node-portal": OPENED, "node-portal-stop": {"open": False}}

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    shown = Shown()
    with pytest.raises(KeyboardInterrupt):
        mn_portal.portal(
            answers.path,
            None,
            start=lambda *_: shown,  # type: ignore[arg-type, return-value]
            pause=interrupted,
        )
    assert answers.asked[-1] == ("node-portal-stop", {})
    assert shown.ended


def test_where_no_portal_is_it_says_so(answers: Answers) -> None:
    why = "no login is needed: mode vf works"
    answers.results = {"node-portal": ControlError(ErrorCode.REFUSED, why)}
    found = CliRunner().invoke(app, ["mn", "portal", "--socket", str(answers.path)])
    assert found.exit_code == exits.FAILED
    assert why in found.output


def test_stop(answers: Answers) -> None:
    answers.results = {"node-portal-stop": {"open": False}}
    found = CliRunner().invoke(app, ["mn", "portal", "--stop", "--socket", str(answers.path)])
    assert found.exit_code == 0
    assert answers.asked == [("node-portal-stop", {})]
    assert "closed" in found.stdout


# -- the browser ----------------------------------------------------------------------------------


def test_whose_browser_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert user_of({"SUDO_UID": "1234567"}).uid == 1234567
    assert user_of({"PKEXEC_UID": "1234567"}).uid == 1234567
    assert user_of({}).uid == 0
    assert user_of({"SUDO_UID": "-1"}).uid == 0
    assert user_of({"SUDO_UID": "x"}).uid == 0
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert user_of({"SUDO_UID": "0"}).uid == 1000


def test_a_screen_is_found_or_not(tmp_path: Path) -> None:
    assert display_of(ME, {"PATH": "/bin"}, tmp_path) == {}
    found = display_of(ME, {"PATH": "/bin", "DISPLAY": ":0", "SECRET": "x"}, tmp_path)
    assert found == {
        "PATH": "/bin",
        "DISPLAY": ":0",
        "HOME": "/home/me",
        "USER": "me",
        "LOGNAME": "me",
    }


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["/usr/bin/chromium"], ["--user-data-dir=/p", "--proxy-server=http://127.0.0.1:99"]),
        (["google-chrome", "--incognito"], ["--incognito", "--proxy-bypass-list=<-loopback>"]),
        (["firefox"], ["--no-remote", "--profile", "/p"]),
        (["w3m"], []),
    ],
)
def test_command_lines(argv: list[str], parts: list[str]) -> None:
    found = command_of(argv, "/p", 99, PAGE)
    assert found[0] == argv[0]
    assert found[-1] == PAGE
    assert set(parts) <= set(found)


@pytest.fixture
def eager(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a program that notes what it was given, and stays."""

    def write(name: str) -> Path:
        program, notes = tmp_path / name, tmp_path / "notes"
        program.write_text(
            f"#!{sys.executable}\n"
            "import os, sys, time\n"
            f"with open({str(notes)!r} + '.new', 'w') as file:\n"
            "    print(os.environ['http_proxy'], *sys.argv[1:], sep='\\n', file=file)\n"
            f"os.rename({str(notes)!r} + '.new', {str(notes)!r})\n"
            "time.sleep(600)\n"
        )
        program.chmod(0o755)
        return program

    return write


def test_a_browser_with_a_profile_of_its_own(
    tmp_path: Path, eager: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(portal_browser, "END_S", 20.0)
    browser = Browser.start(ME, 4711, PAGE, str(eager("firefox")))
    assert browser is not None
    notes, end = tmp_path / "notes", time.monotonic() + 20
    while not notes.exists():
        assert time.monotonic() < end
    proxy, no_remote, option, profile, page = notes.read_text().splitlines()
    assert (proxy, no_remote, option, page) == (
        "http://127.0.0.1:4711",
        "--no-remote",
        "--profile",
        PAGE,
    )
    settings = (Path(profile) / "user.js").read_text()
    assert 'user_pref("network.proxy.ssl_port", 4711);' in settings
    assert Path(profile).stat().st_mode & 0o077 == 0
    browser.end()
    assert not Path(profile).exists()
    assert browser._process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("command", ["/nowhere/firefox", "'"])
def test_a_browser_that_cannot_be_started_is_no_failure(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", ":99")
    assert Browser.start(ME, 4711, PAGE, command) is None
    assert capsys.readouterr().err


def test_without_a_screen_there_is_no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    nobody = User(2**31, 2**31, "nobody", "/")

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(subprocess, "Popen", never)
    assert Browser.start(nobody, 4711, PAGE, None) is None
