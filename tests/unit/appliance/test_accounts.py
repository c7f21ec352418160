"""Whether the API's user can reach what it needs, whatever links lead there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.appliance.accounts import Account, out_of_reach

STRANGER = Account(uid=4_000_000, gid=4_000_000)


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may enter, as are those above it."""
    above = [folder for folder in (tmp_path, *tmp_path.parents) if not folder.stat().st_mode & 1]
    for folder in above:
        folder.chmod(folder.stat().st_mode | 1)
    yield tmp_path
    for folder in above:
        folder.chmod(folder.stat().st_mode & ~1)


def folder(path: Path, mode: int) -> Path:
    path.mkdir(parents=True)
    path.chmod(mode)
    return path


def test_an_open_way_is_within_reach(top: Path) -> None:
    assert out_of_reach([folder(top / "open", 0o755) / "python"], STRANGER) is None


def test_a_closed_folder_on_the_way_is_named(top: Path) -> None:
    closed = folder(top / "closed", 0o700)
    assert out_of_reach([folder(closed / "bin", 0o755) / "python"], STRANGER) == closed


def test_a_link_to_a_folder_behind_a_closed_one_is_followed(top: Path) -> None:
    closed = folder(top / "closed", 0o700)
    folder(closed / "venv" / "bin", 0o755)
    (closed / "venv").chmod(0o755)
    (closed / "venv" / "bin" / "python").symlink_to("/usr/bin/env")
    (top / "venv").symlink_to(closed / "venv")
    assert out_of_reach([top / "venv" / "bin" / "python"], STRANGER) == closed


def test_a_file_link_through_a_closed_folder_is_followed(top: Path) -> None:
    closed = folder(top / "closed", 0o700)
    (closed / "second").symlink_to("/usr/bin/env")
    (top / "first").symlink_to(closed / "second")
    assert out_of_reach([top / "first"], STRANGER) == closed


def test_the_owner_may_enter(top: Path) -> None:
    closed = folder(top / "closed", 0o700)
    status = closed.stat()
    owner = Account(uid=status.st_uid, gid=status.st_gid)
    assert out_of_reach([closed / "python"], owner) is None
