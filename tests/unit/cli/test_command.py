"""The command as its users run it: one clear message and the right exit status, no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import exits
from gateway.cli.failure import guarded
from gateway.cli.run import DEFAULT_CONFIG, config_of
from gateway.config import ConfigError, Problem
from gateway.control.client import ControlUnavailableError
from gateway.control.protocol import ControlError

ROOT = Path(__file__).parents[3]
SECRET = "a-secret-that-nobody-may-see-here"
CONFIG = f"""
[pools.staff]
network = "10.83.112.0/22"
[connections.staff]
local_auth = "psk"
remote_auth = "psk"
remote_id = "phone"
psk = "{SECRET}"
pool = "staff"
local_subnets = ["10.1.0.0/16"]
[api]
enabled = false
"""
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def gateway(tmp_path: Path) -> Command:
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    config.chmod(0o600)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        assert SECRET not in done.stdout + done.stderr
        return done

    return command


def test_version(gateway: Command) -> None:
    done = gateway("version")
    assert (done.returncode, done.stdout.split()[0]) == (exits.OK, "gateway")


def test_example_is_a_usable_file(gateway: Command, tmp_path: Path) -> None:
    done = gateway("config", "example")
    assert done.returncode == exits.OK
    (tmp_path / "example.toml").write_text(done.stdout)
    assert gateway("config", "show", "-c", "example.toml").returncode == exits.OK


def test_show_prints_a_file_that_loads_again(gateway: Command, tmp_path: Path) -> None:
    done = gateway("config", "show", "--config", "gateway.toml")
    assert done.returncode == exits.OK
    assert "# psk: hidden" in done.stdout
    again = done.stdout.replace("# psk: hidden", f'psk = "{SECRET}"')
    (tmp_path / "again.toml").write_text(again)
    assert gateway("config", "show", "--config", "again.toml").stdout == done.stdout
    shown = json.loads(gateway("config", "show", "-c", "gateway.toml", "--json").stdout)
    assert shown["connections"]["staff"]["psk"] == "(hidden)"
    assert shown["ike"]["port"] == 500


@pytest.mark.parametrize("command", [["run"], ["check"], ["config", "show"]])
def test_bad_configuration(gateway: Command, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "bad.toml").write_text(CONFIG.replace('pool = "staff"', 'pool = "stuff"'))
    done = gateway(*command, "--config", "bad.toml")
    assert done.returncode == exits.BAD_CONFIG
    said = done.stdout + done.stderr
    for part in ("connections.staff.pool", '"stuff"', "no such pool", "choose one of: staff"):
        assert part in said


@pytest.mark.parametrize("command", [["run"], ["check"], ["config", "show"]])
def test_no_such_configuration(gateway: Command, command: list[str]) -> None:
    done = gateway(*command, "--config", "none.toml")
    assert done.returncode == exits.BAD_CONFIG
    assert "no such file: none.toml" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["ike", "list"],
        ["child", "list", "--json"],
        ["ike", "close", "x"],
        ["reload"],
        ["events"],
    ],
)
def test_no_gateway_runs(gateway: Command, command: list[str]) -> None:
    done = gateway(*command, "--socket", "none.sock")
    assert done.returncode == exits.UNAVAILABLE
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("gateway: no gateway answers on none.sock: start it")


@pytest.mark.parametrize(
    "command",
    [
        ["status", "--nonsense"],
        ["run", "--config"],
        ["run", "x"],
        ["lab", "down", "--prefix", ""],
        ["lab", "down", "--prefix", "eth"],
        ["lab", "exec", "device"],
        ["lab", "exec", "device", "--"],
        ["nonsense"],
    ],
)
def test_wrong_arguments(gateway: Command, command: list[str]) -> None:
    assert gateway(*command).returncode == exits.USAGE


def test_help_tells_the_exit_statuses(gateway: Command) -> None:
    text = gateway("--help").stdout
    for number, meaning in exits.MEANING.items():
        assert f"{number}: {meaning}" in text


def test_diff(gateway: Command, tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(CONFIG.replace("10.1.0.0/16", "10.2.0.0/16"))
    done = gateway("check", "-c", "new.toml", "--diff", "gateway.toml", "--json")
    assert done.returncode == exits.OK
    (change,) = json.loads(done.stdout)["changes"]
    assert change["key"] == "connections.staff.local_subnets"
    assert (change["old"], change["new"]) == ('["10.1.0.0/16"]', '["10.2.0.0/16"]')
    assert change["needs_restart"] is False
    assert "No difference" in gateway("check", "-c", "new.toml", "--diff", "new.toml").stdout


def test_run_imports_neither_typer_nor_rich() -> None:
    """What ``gateway run`` imports stays in the memory of the core."""
    code = (
        "import sys; from gateway.cli.app import main; sys.argv[1:] = ['run', '-c', '/none'];"
        "sys.modules['gateway.appliance'] = type(sys)('stub');"
        "sys.modules['gateway.appliance'].run = lambda path: print(*sys.modules) or 7; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 7, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"typer", "rich", "click", "pydantic"}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], None, DEFAULT_CONFIG),
        ([], "/x", Path("/x")),
        (["-c", "/y"], "/x", Path("/y")),
        (["--config", "/y"], None, Path("/y")),
        (["--config=/y"], None, Path("/y")),
        (["--config="], None, None),
        (["--config"], None, None),
        (["--config", "--help"], None, None),
        (["--help"], None, None),
        (["/y"], None, None),
    ],
)
def test_arguments_of_run(arguments: list[str], environment: str | None, expected: object) -> None:
    assert config_of(arguments, environment) == expected


def _denied() -> ControlUnavailableError:
    error = ControlUnavailableError("/x: permission denied; be root")
    error.__cause__ = PermissionError(13, "Permission denied")
    return error


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigError([Problem(Path("g.toml"), "a", "b", "1")]), 78, "g.toml: a = 1: b"),
        (PermissionError(13, "Permission denied", "/x"), 77, "/x: Permission denied; run as root"),
        (PermissionError(1, "Operation not permitted"), 77, "Operation not permitted; run as root"),
        (OSError(98, "Address already in use"), 71, "Address already in use"),
        (ControlUnavailableError("no gateway"), 69, "no gateway"),
        (_denied(), 77, "/x: permission denied; be root"),
        (ControlError("not-found", "no such IKE SA", "id"), 1, "no such IKE SA"),
    ],
)
def test_errors(
    error: Exception, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        raise error

    assert guarded(command) == status
    assert capsys.readouterr().err == f"gateway: {message}\n"


def test_our_own_faults_are_not_hidden() -> None:
    def command() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(command)


@pytest.mark.parametrize("separator", [[], ["--"]])
def test_lab_exec_passes_everything_on(
    monkeypatch: pytest.MonkeyPatch, separator: list[str]
) -> None:
    from typer.testing import CliRunner

    from gateway.cli.commands import app
    from gateway.lab.topology import Lab

    ran: list[tuple[str, str, list[str]]] = []

    def run(self: Lab, host: str, argv: list[str]) -> int:
        ran.append((self.prefix, host, argv))
        return 7

    monkeypatch.setattr(Lab, "exec", run)
    arguments = ["lab", "exec", "--prefix", "gwx-", "device", *separator, "ls", "--prefix", "-l"]
    assert CliRunner().invoke(app, arguments).exit_code == 7
    assert ran == [("gwx-", "device", ["ls", "--prefix", "-l"])]


def test_documentation_has_every_command_and_status() -> None:
    from gateway.cli.commands import app

    text = (ROOT / "docs" / "command.md").read_text()
    for number, meaning in exits.MEANING.items():
        assert f"| {number} | {meaning} |" in text
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"`gateway {command.name or command.callback.__name__}" in text
    for group in app.registered_groups:
        assert f"`gateway {group.name} " in text
