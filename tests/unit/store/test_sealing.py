"""Secrets at rest: sealed for one place, with a key file of its own."""

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.errors import SealError, UnavailableError, WrongKeyError
from gateway.store.sealing import (
    OVERHEAD_OCTETS,
    Sealer,
    make_key,
    passphrase_sealer,
    read_key,
)

SEALER = Sealer(bytes(range(32)))


@given(st.binary(max_size=200), st.text(max_size=50))
def test_what_is_sealed_opens_in_its_place(plain: bytes, context: str) -> None:
    sealed = SEALER.seal(context, plain)
    assert len(sealed) == len(plain) + OVERHEAD_OCTETS
    assert SEALER.open(context, sealed) == plain


@given(st.integers(min_value=0, max_value=OVERHEAD_OCTETS + 9), st.integers(1, 255))
def test_every_changed_octet_is_noticed(position: int, change: int) -> None:
    sealed = bytearray(SEALER.seal("place", b"ten octets"))
    sealed[position] ^= change
    with pytest.raises(SealError, match="place"):
        SEALER.open("place", bytes(sealed))


@given(st.binary(max_size=100))
def test_what_is_not_sealed_does_not_open(data: bytes) -> None:
    with pytest.raises(SealError):
        SEALER.open("place", data)


def test_another_place_or_key_does_not_open() -> None:
    sealed = SEALER.seal("users/anna", b"secret")
    with pytest.raises(SealError, match="users/eve"):
        SEALER.open("users/eve", sealed)
    with pytest.raises(SealError):
        Sealer(bytes(32)).open("users/anna", sealed)


def test_the_same_is_never_sealed_the_same_way() -> None:
    assert len({SEALER.seal("place", b"same") for _ in range(100)}) == 100


def test_a_passphrase_makes_the_same_key_with_the_same_salt_only() -> None:
    sealed = passphrase_sealer("correct horse", b"0" * 16).seal("place", b"secret")
    assert passphrase_sealer("correct horse", b"0" * 16).open("place", sealed) == b"secret"
    for other in (passphrase_sealer("correct horse", b"1" * 16), passphrase_sealer("x", b"0" * 16)):
        with pytest.raises(SealError):
            other.open("place", sealed)


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "store.key"
    assert read_key(file) is None
    key = make_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_key(file) == key
    assert make_key(file) == key, "a key that is there is never overwritten"
    assert list(file.parent.iterdir()) == [file]


def test_of_many_that_make_a_key_at_once_all_have_the_same(tmp_path: Path) -> None:
    file = tmp_path / "store.key"
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(make_key(file))) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


@pytest.mark.parametrize("text", [b"", b"short", b"g" * 64, b"0" * 63, b"0" * 66, b"\xff" * 64])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "store.key"
    file.write_bytes(text)
    file.chmod(0o600)
    with pytest.raises(WrongKeyError, match=r"store\.key_file: .* holds no key"):
        read_key(file)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store.key"
    make_key(file)
    file.chmod(0o640)
    with pytest.raises(WrongKeyError, match=f"chmod 600 {file}"):
        read_key(file)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=r"store\.key_file"):
        make_key(tmp_path / "file" / "store.key")
