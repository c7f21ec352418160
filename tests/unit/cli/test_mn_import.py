"""`gateway mn import`: one file becomes a profile, whole or not at all."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.mn_import import ImportRefusedError, import_file, tables_of
from gateway.config.problem import ConfigError
from gateway.config.profile import load_profile
from gateway.provisioning import qr

PSK = """
[gateway]
address = "gw.example.com"
[login]
method = "psk"
identity = "ann@example.com"
psk_file = "ann.psk"
[files]
"ann.psk" = "a shared key of some length"
"""
USER = """
[gateway]
address = "gw.example.com"
[login]
method = "psk"
identity = "ann@example.com"
user = "ann"
password_file = "password"
psk = "a shared key of some length"
"""


def nobody(_user: str) -> str:
    raise AssertionError("no password is wanted")


def run(folder: Path, text: str | bytes, *, replace: bool = False, password: str = "") -> Path:
    source = folder / "bundle"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    target = folder / "mn" / "profile.toml"
    ask = (lambda _user: password) if password else nobody
    import_file(str(source), target, ask, replace=replace)
    return target


def left(folder: Path) -> list[str]:
    return sorted(one.name for one in (folder / "mn").iterdir())


def test_a_file_becomes_a_profile_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = run(tmp_path, PSK)
    profile = load_profile(target)
    assert profile.login is not None
    assert profile.login.psk_file == target.parent / "ann.psk"
    assert left(tmp_path) == ["ann.psk", "profile.toml"]
    assert {one.stat().st_mode & 0o777 for one in target.parent.iterdir()} == {0o600}
    assert "gateway mn check" in capsys.readouterr().out


def test_a_profile_that_is_there_stays_unless_told(tmp_path: Path) -> None:
    target = run(tmp_path, PSK)
    with pytest.raises(ImportRefusedError, match="--replace"):
        run(tmp_path, PSK.replace("gw.", "vpn."))
    assert "gw.example.com" in target.read_text()
    run(tmp_path, PSK.replace("gw.", "vpn."), replace=True)
    assert "vpn.example.com" in target.read_text()


def test_the_text_of_a_code_is_taken(tmp_path: Path) -> None:
    packed = qr.pack(PSK.encode())
    assert packed is not None
    assert load_profile(run(tmp_path, packed + "\n")).gateway is not None


def test_standard_input_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(PSK.encode())))
    target = tmp_path / "profile.toml"
    import_file("-", target, nobody, replace=False)
    assert target.exists()


def test_a_password_is_asked_for_and_kept_beside_it(tmp_path: Path) -> None:
    target = run(tmp_path, USER, password="the password of ann")
    assert (target.parent / "password").read_text() == "the password of ann\n"
    assert (target.parent / "password").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", ".hidden", "", "x\\u0000", "profile.toml", "a" * 64]
)
def test_h78_a_file_name_never_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImportRefusedError):
        run(tmp_path, PSK + f'"{name}" = "x"\n')
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "mn").exists() or left(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "files = 3\n",
        "[files]\na = 3\n",
        "x = 1\n",
        "[a]\nb = 1979-05-27\n",
        "[[files]]\n",
        "[files]\n" + "".join(f"f{number} = 'x'\n" for number in range(17)),
        b"\xff\xfe",
        b"x" * 300_000,
        "GWMN1:",
        "GWMN1:%%%",
        '[login]\npassword_file = "../x"\nmethod = "password"\n',
    ],
)
def test_h78_what_is_no_profile_is_refused_and_leaves_nothing(
    tmp_path: Path, text: str | bytes
) -> None:
    with pytest.raises((ImportRefusedError, ConfigError)):
        run(tmp_path, text)
    assert not (tmp_path / "mn").exists() or left(tmp_path) == []


def test_a_profile_that_cannot_work_leaves_the_old_one(tmp_path: Path) -> None:
    target = run(tmp_path, PSK)
    before = {one: one.read_bytes() for one in target.parent.iterdir()}
    with pytest.raises(ConfigError):
        run(tmp_path, PSK.replace("psk_file", "nonsense"), replace=True)
    assert {one: one.read_bytes() for one in target.parent.iterdir()} == before


def test_a_device_file_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError, match="not a file"):
        import_file("/dev/zero", tmp_path / "p.toml", nobody, replace=False)
    with pytest.raises(OSError, match="No such file"):
        import_file(str(tmp_path / "none"), tmp_path / "p.toml", nobody, replace=False)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_h78_octets_of_anybody_are_refused_cleanly(data: bytes) -> None:
    with contextlib.suppress(ImportRefusedError):
        tables_of(data)
