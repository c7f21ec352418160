"""The user file: what an administrator wrote stays, what is wrong is named, edits are atomic."""

import os
import stat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.users.document import UserEntry, UserFileError, parse, with_user, without_user
from gateway.users.editing import UserFile
from gateway.users.names import NameRefusedError, canonical_name
from gateway.users.settings import ScryptCost, UserBaseSettings
from gateway.users.store import UserBase

CHEAP = ScryptCost(10, 1, 1)
TEXT = """\
# Our users. Ask Eva before you change this.

[users.anna]          # works from home
groups = [
  "staff",   # everybody
  "admins",
]
enabled = true

# left in May
[users."bob@example.org"]
enabled = false
groups = ["staff"]
"""


@pytest.fixture
def base(tmp_path: Any) -> Any:
    settings = UserBaseSettings(tmp_path / "users.toml", tmp_path / "users.key", CHEAP)
    settings.path.write_text(TEXT)
    settings.path.chmod(0o640)
    return settings


def test_parse_reads_groups_and_enabled() -> None:
    users = parse(TEXT)
    assert users["anna"].groups == ("staff", "admins")
    assert users["anna"].enabled
    assert not users["bob@example.org"].enabled


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[users.a]\nenabled = 1\n", "line 2: user a, enabled: must be true or false"),
        ("[users.a]\n\ngroup = []\n", "line 3: user a, group: unknown"),
        ('[users.a]\ngroups = "staff"\n', "line 2: user a, groups: must be a list"),
        ('[users.a]\ngroups = ["x", ""]\n', "line 2: user a, groups: the group name is empty"),
        ('[users.a]\npassword = "hunter2"\n', "line 2: user a, password: is no password hash"),
        ("[users.a]\npassword = 5\n", "line 2: user a, password: must be a text"),
        ("[users.a]\nnt_hash = 5\n", "line 2: user a, nt_hash: must be a text"),
        ('[users.a]\n[users."b\\nc"]\n', "line 2: the user name has a control character"),
        ("[user.a]\n", "line 1: user: unknown"),
        ("users = 3\n", "line 1: users: must be tables"),
        ("[users]\na = 3\n", "line 2: user a: must be a table"),
        ("[users.a\n", "line 1"),
        ('[users."A\u0308"]\n[users."\u00c4"]\n', "line 2: user \u00c4: stands here twice"),
    ],
)
def test_errors_name_the_line_and_the_field(text: Any, wrong: Any) -> None:
    with pytest.raises(UserFileError) as error:
        parse(text)
    assert wrong in str(error.value)
    assert "hunter2" not in str(error.value)


def test_costs_out_of_bounds_are_refused() -> None:
    text = '[users.a]\npassword = "$scrypt$ln=99,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$' + "A" * 43 + '"\n'
    with pytest.raises(UserFileError, match="ln is 99"):
        parse(text)


def test_edits_leave_everything_else(base: Any) -> None:
    file = UserFile(base)
    file.set_groups("anna", ["guests"])
    text = base.path.read_text()
    assert "# Our users. Ask Eva" in text
    assert "# works from home" in text
    assert "# left in May" in text
    assert parse(text)["anna"].groups == ("guests",)
    file.add_user("carl \u00d6", 'p"w\\', groups=['we"ird\\'])
    file.set_enabled("bob@example.org", enabled=True)
    assert [user.name for user in file.list()] == ["anna", "bob@example.org", "carl \u00d6"]
    file.remove_user("carl \u00d6")
    file.remove_user("anna")
    text = base.path.read_text()
    assert "# left in May" in text
    assert list(parse(text)) == ["bob@example.org"]


def test_edits_keep_mode_and_links(base: Any, tmp_path: Any) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(base.path)
    UserFile(UserBaseSettings(link, base.key_path, CHEAP)).set_groups("anna", [])
    assert link.is_symlink()
    assert stat.S_IMODE(base.path.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.toml", "users.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_edits_keep_the_owner(base: Any) -> None:
    os.chown(base.path, 12, 13)
    UserFile(base).set_groups("anna", [])
    found = base.path.stat()
    assert (found.st_uid, found.st_gid) == (12, 13)


def test_a_new_file_is_private(tmp_path: Any) -> None:
    settings = UserBaseSettings(tmp_path / "users.toml", tmp_path / "users.key", CHEAP)
    UserFile(settings).add_user("anna", "secret", nt_hash=b"n" * 16)
    for path in settings.path, settings.key_path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"n" * 16 not in settings.path.read_bytes()


def test_nothing_is_written_over_a_broken_file(base: Any) -> None:
    base.path.write_text(TEXT + "oops")
    with pytest.raises(UserFileError, match=r"users\.toml: is no TOML"):
        UserFile(base).add_user("carl", "pw")
    assert base.path.read_text() == TEXT + "oops"


def test_a_change_by_somebody_else_meanwhile_is_not_lost(base: Any, monkeypatch: Any) -> None:
    file = UserFile(base)
    real = UserFile._replace

    def late(self: Any, path: Any, text: Any, before: Any) -> None:
        path.write_text(TEXT + "\n[users.dora]\n")
        real(self, path, text, before)

    monkeypatch.setattr(UserFile, "_replace", late)
    with pytest.raises(UserFileError, match="changed by somebody else"):
        file.set_groups("anna", [])
    assert "dora" in parse(base.path.read_text())
    assert len(list(base.path.parent.iterdir())) == 1


def test_users_without_a_header_are_left_to_the_administrator() -> None:
    with pytest.raises(UserFileError, match=r"no header \[users\.anna\]"):
        with_user("users.anna.enabled = true\n", UserEntry("anna", ("x",)))
    with pytest.raises(UserFileError, match="no header"):
        without_user("[users]\nanna = {}\n", "anna")


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\x00b", "a\u202eb", "x" * 254, "\u00e4" * 127])
def test_names_that_are_refused(name: Any, base: Any) -> None:
    with pytest.raises(NameRefusedError):
        canonical_name(name)
    assert UserBase.load(base).find(name) is None
    with pytest.raises(UserFileError, match="user name"):
        UserFile(base).add_user(name, "pw")


def test_unknown_and_known_users_are_told_apart(base: Any) -> None:
    file = UserFile(base)
    with pytest.raises(UserFileError, match="no user zoe"):
        file.set_password("zoe", "pw")
    with pytest.raises(UserFileError, match="a user anna already"):
        file.add_user("anna", "pw")


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), min_size=1)
NAMES = NAMES.filter(lambda text: text == text.strip() and len(text.encode()) < 60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=3), st.booleans()), max_size=5))
def test_any_names_survive_adding_changing_and_removing(users: Any) -> None:
    text = TEXT
    wanted = dict(parse(TEXT))
    for given_name, given_groups, enabled in users:
        name = canonical_name(given_name)
        groups = tuple(dict.fromkeys(canonical_name(group) for group in given_groups))
        wanted[name] = UserEntry(name, groups, enabled)
        text = with_user(text, wanted[name])
    assert parse(text) == wanted
    for name in list(wanted):
        text = without_user(text, name)
        wanted.pop(name)
        assert parse(text) == wanted
    assert "# Our users" in text


def test_files_with_dos_line_ends() -> None:
    text = TEXT.replace("\n", "\r\n")
    with pytest.raises(UserFileError, match="line 9: user anna, group: unknown"):
        parse(text.replace("enabled = true", "enabled = true\r\ngroup = 1"))
    edited = with_user(text, UserEntry("anna", ("x",)))
    assert parse(edited)["anna"].groups == ("x",)
    assert edited.count("\r\n") >= 8


def test_a_missing_folder_is_named(tmp_path: Any) -> None:
    settings = UserBaseSettings(tmp_path / "no" / "users.toml", tmp_path / "users.key", CHEAP)
    with pytest.raises(UserFileError, match=r"there is no folder .*/no; create it"):
        UserFile(settings).add_user("anna", "pw")
    missing = UserBaseSettings(tmp_path / "users.toml", tmp_path / "no" / "users.key", CHEAP)
    with pytest.raises(UserFileError, match=r"users\.key: cannot be written: No such file"):
        UserFile(missing).add_user("anna", "pw", nt_hash=bytes(16))
