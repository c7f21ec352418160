"""``gateway mn``: against a socket that answers like a node, and on profiles."""

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_answers import Answers
from typer.testing import CliRunner, Result

from gateway.cli import exits, mn_release, passwords
from gateway.cli import mn as node
from gateway.cli.app import main
from gateway.cli.commands import app
from gateway.cli.mn_commands import mn
from gateway.cli.mn_run import DEFAULT_PROFILE, profile_of
from gateway.cli.mn_views import headline, new_events
from gateway.config.profile import load_profile
from gateway.config.to_node import connection_policy, unlock
from gateway.control.node_operations import NODE_OPERATIONS, status_json
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode, Role, check_request
from gateway.mobile_node.status import InterfaceStatus, LayerStatus, NodeStatus

STATUS = NodeStatus(
    name="ann",
    mode="cvc",
    place="outside",
    why="the i-HA does not answer; \x1b[2J",
    since_s=910.0,
    home_address="10.20.0.77",
    overhead_octets=97,
    locked=False,
    layers=(
        LayerStatus("link", "up", local="198.51.100.9"),
        LayerStatus(
            "x-MIP",
            "registered",
            local="198.51.100.9",
            remote="192.0.2.78",
            address="198.51.100.77",
            overhead_octets=20,
            detail="behind a NAT",
            since_s=905.0,
            expires_in_s=1700.0,
        ),
    ),
    interfaces=(
        InterfaceStatus("eth0", "outside", "198.51.100.9/24", "198.51.100.1", in_use=True),
        InterfaceStatus("wlan0", "captive portal"),
    ),
    messages={"x-MIP": 4, "i-MIP": 9},
    last_events=("12:00:01 the inside is lost", "12:00:02 x-MIP registered"),
)
JSON = status_json(STATUS, 1000.0)
PROFILE = """
[gateway]
address = "192.0.2.1"
[login]
method = "psk"
identity = "ann@example.com"
psk = "a secret of sufficient length"
[inside]
home_agent = "10.20.0.1"
home_address = "10.20.0.77"
spi = 300
key = "0f1d03c6a94e57b2e06f7c12d5983ba4"
[hints]
router_link_addresses = ["00:16:3e:0a:1b:2c"]
"""


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["mn", *arguments], input=given)


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


# -- asking a running node ------------------------------------------------------------------------


def test_status(answers: Answers) -> None:
    answers.results = {"node-status": JSON}
    found = run("status", "--socket", str(answers.path))
    assert found.exit_code == 0
    for part in (
        "ann: outside for 1m 30s, mode cvc: x-MIP, VPN, i-MIP",
        "the i-HA does not answer; \\x1b[2J",
        "Home address 10.20.0.77, overhead 97 octets",
        "x-MIP",
        "behind a NAT",
        "28m 20s",
        "* eth0",
        "captive portal",
        "i-MIP 9, x-MIP 4",
        "12:00:02 x-MIP registered",
    ):
        assert part in found.stdout, part
    assert "\x1b[2J" not in found.stdout


def test_status_as_json(answers: Answers) -> None:
    answers.results = {"node-status": JSON}
    told = json.loads(run("status", "--json", "--socket", str(answers.path)).stdout)
    assert told == json.loads(json.dumps(JSON))
    assert told["for_s"] == 90.0
    assert [layer["for_s"] for layer in told["layers"]] == [None, 95.0]
    assert "since_s" not in json.dumps(told)


def test_status_while_locked_names_the_remedy() -> None:
    assert headline({**JSON, "locked": True}) == "ann: locked; run: gateway mn unlock"


def test_an_empty_status_is_shown(answers: Answers) -> None:
    answers.results = {"node-status": {"place": "nowhere", "mode": "held", "layers": None}}
    found = run("status", "--socket", str(answers.path))
    assert found.exit_code == 0
    assert "without a network" in found.stdout
    assert "No interface" in found.stdout


def test_watch_tells_changes_only(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = {**JSON, "place": "inside", "mode": "c", "why": "proven", "last_events": ["a", "b"]}
    steps: Iterator[dict[str, object]] = iter([JSON, JSON, moved])

    def sleep(_: float) -> None:
        try:
            answers.results = {"node-status": next(steps)}
        except StopIteration:
            raise KeyboardInterrupt from None

    answers.results = {"node-status": next(steps)}
    monkeypatch.setattr(node.time, "sleep", sleep)
    found = run("watch", "--socket", str(answers.path))
    assert found.exit_code == 130
    lines = found.stdout.splitlines()
    assert len([line for line in lines if line.startswith("outside, mode cvc: ")]) == 1
    assert lines[-3:] == ["  a", "  b", "inside, mode c: proven"]


def test_watch_as_json_lines(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    answers.results = {"node-status": JSON}
    monkeypatch.setattr(node.time, "sleep", stop)
    found = run("watch", "--json", "--socket", str(answers.path))
    assert json.loads(found.stdout)["mode"] == "cvc"


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ([], ["a", "b"], ["a", "b"]),
        (["a", "b"], ["a", "b"], []),
        (["a", "b"], ["b", "c"], ["c"]),
        (["a", "b"], ["x", "y"], ["x", "y"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a"], [], []),
    ],
)
def test_new_events(before: list[str], now: list[str], new: list[str]) -> None:
    assert new_events(before, now) == new


@pytest.mark.parametrize(
    ("command", "op", "words"),
    [
        ("lock", "node-lock", "locked"),
        ("reconnect", "node-reconnect", "proving anew"),
    ],
)
def test_orders(answers: Answers, command: str, op: str, words: str) -> None:
    answers.results = {op: {}}
    found = run(command, "--socket", str(answers.path))
    assert found.exit_code == 0
    assert words in found.stdout
    assert answers.asked == [(op, {})]


def test_unlock(answers: Answers) -> None:
    answers.results = {"node-status": {"locked": True}, "node-unlock": {"locked": False}}
    found = run("unlock", "--password-stdin", "--socket", str(answers.path), given="open sesame\n")
    assert found.exit_code == 0
    assert answers.asked[-1] == ("node-unlock", {"password": "open sesame"})
    assert "sesame" not in found.output


def test_unlock_where_nothing_is_locked(answers: Answers) -> None:
    answers.results = {"node-status": {"locked": False}}
    found = run("unlock", "--socket", str(answers.path))
    assert (found.exit_code, found.stdout) == (0, "not locked\n")


def test_unlock_without_terminal(answers: Answers) -> None:
    answers.results = {"node-status": {"locked": True}}
    found = run("unlock", "--socket", str(answers.path))
    assert found.exit_code == exits.USAGE
    assert "--password-stdin" in found.stderr


def test_a_wrong_password(answers: Answers) -> None:
    wrong = ControlError(ErrorCode.REFUSED, "the password is wrong; try again", "password")
    answers.results = {"node-status": {"locked": True}, "node-unlock": wrong}
    found = run("unlock", "--password-stdin", "--socket", str(answers.path), given="x")
    assert found.exit_code == exits.FAILED
    assert found.stderr == "gateway: the password is wrong; try again\n"


def test_a_gateways_socket(answers: Answers) -> None:
    unknown = ControlError(ErrorCode.UNKNOWN_OPERATION, "op: unknown", "op")
    answers.results = {"node-status": unknown}
    found = run("status", "--socket", str(answers.path))
    assert found.exit_code == exits.FAILED
    assert "is a gateway's, not a mobile node's" in found.stderr


def test_no_node(tmp_path: Path) -> None:
    found = run("status", "--socket", str(tmp_path / "none"))
    assert found.exit_code == exits.UNAVAILABLE
    assert "no mobile node answers on" in found.stderr
    assert "systemctl start gateway-mn" in found.stderr


def test_the_socket_of_a_profile(tmp_path: Path) -> None:
    profile = put(tmp_path / "p.toml", PROFILE + f'[profile]\nruntime_dir = "{tmp_path}"\n')
    assert node.socket_of(None, profile) == tmp_path / "control.sock"
    assert node.socket_of(Path("x"), profile) == Path("x")
    assert node.socket_of(None, None) == Path("/run/gateway-mn/control.sock")


# -- operations of the socket ---------------------------------------------------------------------


def test_gateway_and_node_answer_their_own_operations() -> None:
    assert set(OPERATIONS) & set(NODE_OPERATIONS) == {"health", "events"}
    with pytest.raises(ControlError, match="unknown, allowed are health, status"):
        check_request({"op": "node-status"}, Role.ADMINISTRATOR)
    with pytest.raises(ControlError, match="unknown to a mobile node, allowed are health, node-st"):
        check_request({"op": "ike-sas"}, Role.ADMINISTRATOR, NODE_OPERATIONS)


@pytest.mark.parametrize("password", [12345678, "geheim" * 200, ["geheim"]])
def test_a_password_is_never_repeated(password: object) -> None:
    request = {"op": "node-unlock", "args": {"password": password}}
    with pytest.raises(ControlError) as refused:
        check_request(request, Role.ADMINISTRATOR, NODE_OPERATIONS)
    assert refused.value.field == "password"
    assert not re.search("geheim|1234", refused.value.message)


def test_orders_are_for_administrators() -> None:
    for name in ("node-unlock", "node-lock", "node-reconnect", "node-portal", "node-portal-stop"):
        with pytest.raises(ControlError, match="is for admins"):
            check_request({"op": name}, Role.OPERATOR, NODE_OPERATIONS)


# -- run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "variable", "profile"),
    [
        ([], None, DEFAULT_PROFILE),
        ([], "/x", Path("/x")),
        (["--profile", "a"], None, Path("a")),
        (["-p", "a"], None, Path("a")),
        (["--profile=a"], None, Path("a")),
        (["--help"], None, None),
        (["--profile"], None, None),
        (["--profile", "a", "b"], None, None),
    ],
)
def test_profile_of(arguments: list[str], variable: str | None, profile: Path | None) -> None:
    assert profile_of(arguments, variable) == profile


def test_run_with_a_wrong_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path / "p.toml", PROFILE.replace('"psk"', '"pskk"'))
    monkeypatch.setattr(sys, "argv", ["gateway", "mn", "run", "--profile", str(path)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == exits.BAD_CONFIG
    assert 'login.method = "pskk": not one of the choices' in capsys.readouterr().err


# -- profiles -------------------------------------------------------------------------------------


def test_profile_show_hides_secrets(tmp_path: Path) -> None:
    path = put(tmp_path / "p.toml", PROFILE)
    for more in ((), ("--json",)):
        found = run("profile", "show", "--profile", str(path), *more)
        assert found.exit_code == 0, found.stderr
        assert "10.20.0.77" in found.stdout
        assert "00:16:3e:0a:1b:2c" in found.stdout
        assert "sufficient" not in found.stdout
        assert "0f1d03c6" not in found.stdout


def test_seal(tmp_path: Path) -> None:
    path = put(tmp_path / "p.toml", PROFILE)
    found = run("profile", "seal", str(path), "--password-stdin", given="open sesame\n")
    assert found.exit_code == 0, found.stderr
    sealed = tmp_path / "p.sealed"
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert "sufficient" not in sealed.read_text()
    assert "remove: login.psk, inside.key." in found.stdout
    assert 'add: sealed = "p.sealed"' in found.stdout
    lines = [line for line in PROFILE.splitlines() if not line.startswith(("psk", "key"))]
    text = "\n".join(lines).replace("[login]", '[login]\nsealed = "p.sealed"')
    profile = load_profile(put(path, text))
    policy = connection_policy(profile, unlocked=unlock(profile, "open sesame"))
    assert policy is not None
    assert connection_policy(profile) is None


def test_seal_again_keeps_what_is_sealed(tmp_path: Path) -> None:
    path = put(tmp_path / "p.toml", PROFILE)
    run("profile", "seal", str(path), "--password-stdin", given="open sesame")
    text = PROFILE.replace("[login]", '[login]\nsealed = "p.sealed"').replace("psk = ", "# ")
    put(path, text.replace('method = "psk"', 'method = "psk"\nuser = "ann"\npassword = "new one"'))
    wrong = run("profile", "seal", str(path), "--password-stdin", given="other")
    assert wrong.exit_code == exits.FAILED
    assert "another password" in wrong.stderr
    done = run("profile", "seal", str(path), "--password-stdin", given="open sesame")
    assert done.exit_code == 0, done.stderr
    assert "add: sealed" not in done.stdout
    secrets = unlock(load_profile(path), "open sesame").secrets
    assert set(secrets) == {"login.psk", "login.password", "inside.key"}


def test_seal_with_files(tmp_path: Path) -> None:
    put(tmp_path / "psk", "a secret of sufficient length\n")
    text = PROFILE.replace('psk = "a secret of sufficient length"', 'psk_file = "psk"')
    path = put(tmp_path / "p.toml", text)
    found = run("profile", "seal", str(path), "--password-stdin", given="open sesame")
    assert f"shred -u {tmp_path / 'psk'}" in found.stdout
    (tmp_path / "psk").unlink()
    again = run("profile", "seal", str(path), "--password-stdin", given="open sesame")
    assert again.exit_code == exits.BAD_CONFIG
    assert "login.psk_file" in again.stderr


@pytest.mark.parametrize("password", ["", "a\x07b"])
def test_seal_needs_a_password(tmp_path: Path, password: str) -> None:
    path = put(tmp_path / "p.toml", PROFILE)
    found = run("profile", "seal", str(path), "--password-stdin", given=password)
    assert found.exit_code == exits.FAILED
    assert "the password" in found.stderr
    assert not (tmp_path / "p.sealed").exists()


def test_nothing_to_seal(tmp_path: Path) -> None:
    path = put(tmp_path / "p.toml", '[gateway]\naddress = "192.0.2.1"\n')
    found = run("profile", "seal", str(path), "--password-stdin", given="x")
    assert found.exit_code == exits.BAD_CONFIG
    assert "login: is required" in found.stderr


def test_asked_once_to_unlock_and_twice_to_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked: list[str] = []

    def prompt(text: str) -> str:
        asked.append(text)
        return "secret"

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(passwords, "getpass", prompt)
    assert passwords.given_password("Password", from_stdin=False, twice=False) == "secret"
    assert passwords.given_password("New password", from_stdin=False, twice=True) == "secret"
    assert asked == ["Password: ", "New password: ", "Again: "]


# -- release --------------------------------------------------------------------------------------


class Forwarder:
    """What is asked of it first."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.left: list[str] = []

    def release(self, folder: Path) -> list[str]:
        self.folders.append(folder)
        removed, self.left = self.left, []
        return removed


class Kernel:
    """What ``release`` finds."""

    def __init__(self, *left: str) -> None:
        self.left = list(left)
        self.forwarder = Forwarder()

    def release(self) -> list[str]:
        removed, self.left = self.left, []
        return removed


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    fake = Kernel("interface mn0", "the kill switch")
    monkeypatch.setitem(sys.modules, "gateway.dataplane.kernel.node.release", fake)
    monkeypatch.setitem(sys.modules, "gateway.dataplane.portable.node.release", fake.forwarder)
    return fake


def released(tmp_path: Path, socket: Path, *more: str) -> Result:
    text = f'{PROFILE}[profile]\nstate_dir = "{tmp_path / "state"}"\n'
    path = put(tmp_path / "p.toml", text)
    return run("release", "--profile", str(path), "--socket", str(socket), *more)


def test_release(tmp_path: Path, kernel: Kernel) -> None:
    first = released(tmp_path, tmp_path / "none")
    assert first.exit_code == 0
    assert first.stdout == "removed interface mn0\nremoved the kill switch\n"
    assert "nothing was left" in released(tmp_path, tmp_path / "none").stdout
    assert not kernel.left


def test_release_ends_a_forwarder_first(tmp_path: Path, kernel: Kernel) -> None:
    kernel.forwarder.left = ["interface mn-vpn and its forwarder"]
    told = released(tmp_path, tmp_path / "none").stdout
    assert told.startswith("removed interface mn-vpn and its forwarder\nremoved interface mn0\n")
    assert kernel.forwarder.folders == [tmp_path]


def test_release_leaves_a_running_node_alone(
    tmp_path: Path, answers: Answers, kernel: Kernel
) -> None:
    answers.results = {"health": {}}
    refused = released(tmp_path, answers.path)
    assert refused.exit_code == exits.FAILED
    assert "stop it first" in refused.stderr
    assert kernel.left
    assert released(tmp_path, answers.path, "--force").exit_code == 0
    assert not kernel.left


def test_node_runs(answers: Answers, tmp_path: Path) -> None:
    answers.results = {"health": ControlError(ErrorCode.BUSY, "not ready")}
    assert mn_release.node_runs(answers.path)
    assert not mn_release.node_runs(tmp_path / "none")


def test_every_command_has_help() -> None:
    for command in (*mn.registered_commands, *mn.registered_groups):
        name = command.name or getattr(command.callback, "__name__", "")
        found = run(name, "--help")
        assert found.exit_code == 0
        assert "gateway" in found.output or "root mn" in found.output
