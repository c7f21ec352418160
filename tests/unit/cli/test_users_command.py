"""``gateway users``: what is stored, what is printed, what is refused."""

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import exits, passwords
from gateway.cli.commands import app
from gateway.cli.passwords import given_password
from gateway.config import load, to_users
from gateway.domain.user_auth import Accepted, Rejected
from gateway.eap.mschapv2_crypto import nt_password_hash
from gateway.users.store import UserBase

PASSWORD = "clientPässword"
CONFIG = """
[users]
file = "users.toml"
scrypt_ln = 10
[pools.staff]
network = "10.83.112.0/22"
[connections.staff]
remote_auth = "user"
user_auth = ["METHOD"]
pool = "staff"
local_subnets = ["10.1.0.0/16"]
[api]
enabled = false
"""


class Command:
    """Runs ``gateway users`` on a configuration of its own."""

    def __init__(self, directory: Path, method: str = "eap-mschapv2") -> None:
        self.directory = directory
        self.config = directory / "gateway.toml"
        self.config.write_text(CONFIG.replace("METHOD", method))

    def __call__(self, *arguments: str, password: str | bytes | None = None) -> Result:
        name, *rest = arguments
        given = ["users", name, "-c", str(self.config), *rest]
        if password is not None:
            given.append("--password-stdin")
        result = CliRunner().invoke(app, given, input=password)
        assert not isinstance(result.exception, Exception), result.exception
        assert PASSWORD not in result.output
        return result

    def base(self) -> UserBase:
        settings = to_users.user_base(load(self.config, with_files=False))
        assert settings is not None
        return UserBase.load(settings)

    def listed(self) -> list[dict[str, object]]:
        users = json.loads(self("list", "--json").output)["users"]
        assert isinstance(users, list)
        return users


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_add_for_mschapv2(command: Command) -> None:
    done = command("add", "ann", "-g", "staff", "-g", "admins", password=f"{PASSWORD}\n")
    assert done.exit_code == exits.OK
    assert "NT hash, encrypted under" in done.output
    assert "gateway reload" in done.output
    user = command.base().find("ann")
    assert user is not None
    assert user.nt_hash == nt_password_hash(PASSWORD)
    assert user.groups == ("staff", "admins")
    assert isinstance(command.base().verify("ann", PASSWORD.encode()), Accepted)
    for file in ("users.toml", "users.toml.key"):
        assert (command.directory / file).stat().st_mode & 0o777 == 0o600
        assert PASSWORD.encode() not in (command.directory / file).read_bytes()
        assert (
            nt_password_hash(PASSWORD).hex().encode() not in (command.directory / file).read_bytes()
        )


def test_decomposed_letters_make_the_same_nt_hash(command: Command) -> None:
    command("add", "ann", password="clientPa\u0308ssword")
    user = command.base().find("ann")
    assert user is not None
    assert user.nt_hash == nt_password_hash(PASSWORD)


def test_nt_hash_only_where_it_is_used(tmp_path: Path) -> None:
    command = Command(tmp_path, "eap-gtc")
    done = command("add", "ann", password=PASSWORD)
    assert "not for EAP-MSCHAPv2" in done.output
    assert command.listed()[0]["password_for"] == ["eap-gtc", "xauth"]
    assert not (tmp_path / "users.toml.key").exists()
    command("passwd", "ann", "--mschapv2", password=PASSWORD)
    assert command.listed()[0]["password_for"] == ["eap-mschapv2", "eap-gtc", "xauth"]


def test_passwd_forgets_the_old_password_in_every_form(command: Command) -> None:
    command("add", "ann", password="the old one")
    done = command("passwd", "ann", "--no-mschapv2", password=PASSWORD)
    assert done.exit_code == exits.OK
    base = command.base()
    user = base.find("ann")
    assert user is not None
    assert user.nt_hash is None
    assert isinstance(base.verify("ann", b"the old one"), Rejected)
    assert isinstance(base.verify("ann", PASSWORD.encode()), Accepted)


def test_groups_disable_enable_remove(command: Command) -> None:
    command("add", "ann", "-g", "staff", password=PASSWORD)
    assert "admins, night" in command("groups", "ann", "admins", "night").output
    assert command.listed()[0]["groups"] == ["admins", "night"]
    assert "none" in command("groups", "ann").output
    command("disable", "ann")
    assert command.listed()[0]["enabled"] is False
    assert command.base().find("ann") is None
    command("enable", "ann")
    assert command.base().find("ann") is not None
    command("remove", "ann")
    assert command.listed() == []
    assert "No user." in command("list").output


def test_list_is_a_table(command: Command) -> None:
    command("add", "ann", "-g", "staff", password=PASSWORD)
    (row,) = [line for line in command("list").output.splitlines() if line.startswith("ann")]
    assert row.split() == ["ann", "staff", "yes", "eap-mschapv2,", "eap-gtc,", "xauth"]


@pytest.mark.parametrize("name", ["passwd", "groups", "enable", "disable", "remove"])
def test_unknown_user(command: Command, name: str) -> None:
    done = command(name, "bob", password=PASSWORD if name == "passwd" else None)
    assert done.exit_code == exits.FAILED
    assert "there is no user bob; see: gateway users list" in done.output


def test_added_twice(command: Command) -> None:
    command("add", "ann", password="the old one")
    done = command("add", "ann", password=PASSWORD)
    assert done.exit_code == exits.FAILED
    assert "there is a user ann already" in done.output
    assert isinstance(command.base().verify("ann", b"the old one"), Accepted)


@pytest.mark.parametrize(
    ("given", "words", "status"),
    [
        (b"", "the password is empty", exits.FAILED),
        (b"two\nlines\n", "control character", exits.FAILED),
        (b"\xff\xfe", "not UTF-8", exits.USAGE),
        (b"a" * 5000, "more than 4096 octets", exits.USAGE),
    ],
)
def test_no_password(command: Command, given: bytes, words: str, status: int) -> None:
    done = command("add", "ann", password=given)
    assert done.exit_code == status
    assert words in done.output
    assert not (command.directory / "users.toml").exists()


def test_never_asks_where_it_would_echo(command: Command) -> None:
    done = command("add", "ann")
    assert done.exit_code == exits.USAGE
    assert "--password-stdin" in done.output


def test_control_characters_in_a_name(command: Command) -> None:
    done = command("add", "ann\x1b[2J", password=PASSWORD)
    assert done.exit_code == exits.FAILED
    assert "control character" in done.output
    assert "\x1b" not in done.output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("again", "same"), [("one", True), ("two", False)])
def test_asked_twice(monkeypatch: pytest.MonkeyPatch, again: str, same: bool) -> None:
    answers = iter(["one", again])
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(passwords, "getpass", lambda _: next(answers))
    if same:
        assert given_password("Password", from_stdin=False, twice=True) == "one"
    else:
        with pytest.raises(passwords.PasswordNotGivenError, match="differ"):
            given_password("Password", from_stdin=False, twice=True)


def test_no_local_users(command: Command) -> None:
    command.config.write_text(
        CONFIG.replace('file = "users.toml"', "").replace("METHOD", "eap-tls")
    )
    done = command("list")
    assert done.exit_code == exits.BAD_CONFIG
    assert "users.file" in done.output


def test_open_file_is_refused(command: Command) -> None:
    command("add", "ann", password=PASSWORD)
    (command.directory / "users.toml").chmod(0o644)
    done = command("list")
    assert done.exit_code == exits.FAILED
    assert "chmod 600" in done.output
