"""The journal: whatever happens to its end, all that was whole comes back."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store import journal
from gateway.store.journal import (
    MAX_KEY,
    MAX_KIND,
    MAX_RECORD,
    Journal,
    decode,
    encode,
    found_in,
    header,
    read,
    write_whole,
)

BOOT = "0f4ab7b2-6b0e-4c6c-9a55-0d6a3a1f2b3c"
NAMES = st.tuples(
    st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=8),
    st.text(max_size=8),
)
CHANGES = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=60)), max_size=12)


def whole(changes: list[tuple[tuple[str, str], bytes | None]]) -> bytes:
    return header(BOOT) + b"".join(encode(name, record) for name, record in changes)


@given(CHANGES)
def test_what_was_written_is_read(changes: list[tuple[tuple[str, str], bytes | None]]) -> None:
    contents = decode(whole(changes))
    assert contents.boot_id == BOOT
    assert contents.changes == dict(changes)
    assert (contents.torn_octets, contents.damaged_octets) == (0, 0)


@given(CHANGES, st.data())
def test_of_a_file_cut_short_anywhere_the_whole_frames_are_read(
    changes: list[tuple[tuple[str, str], bytes | None]], data: st.DataObject
) -> None:
    octets = whole(changes)
    cut = data.draw(st.integers(0, len(octets)))
    contents = decode(octets[:cut])
    ends = [len(header(BOOT))]
    for name, record in changes:
        ends.append(ends[-1] + len(encode(name, record)))
    complete = sum(1 for end in ends[1:] if end <= cut)
    assert contents.changes == dict(changes[:complete])
    assert contents.damaged_octets == 0
    assert contents.torn_octets == cut - max((end for end in ends if end <= cut), default=0)


@given(CHANGES, st.binary(min_size=1, max_size=40))
def test_rubbish_at_the_end_changes_nothing(
    changes: list[tuple[tuple[str, str], bytes | None]], rubbish: bytes
) -> None:
    contents = decode(whole(changes) + rubbish)
    assert contents.changes == dict(changes)
    assert contents.torn_octets + contents.damaged_octets == len(rubbish)


@given(st.binary(max_size=300))
def test_anything_can_be_read(data: bytes) -> None:
    decode(data)
    decode(header(BOOT) + data)


@given(CHANGES, st.data())
def test_a_damaged_octet_costs_at_most_one_frame_and_is_noticed(
    changes: list[tuple[tuple[str, str], bytes | None]], data: st.DataObject
) -> None:
    octets = bytearray(whole(changes))
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    contents = decode(bytes(octets))
    assert contents.damaged_octets or contents.torn_octets
    if at >= len(header(BOOT)):
        begin, hit = len(header(BOOT)), None
        for number, (name, record) in enumerate(changes):
            end = begin + len(encode(name, record))
            if begin <= at < end:
                hit = number
            begin = end
        assert hit is not None
        assert contents.changes == dict(changes[:hit] + changes[hit + 1 :])


def test_a_frame_within_a_record_is_no_frame() -> None:
    inner = encode(("ike", "inner"), b"forged")
    octets = whole([(("ike", "a"), inner), (("ike", "b"), b"2")])
    assert decode(octets).changes == {("ike", "a"): inner, ("ike", "b"): b"2"}


@pytest.mark.parametrize(
    ("name", "record"),
    [
        (("", "key"), b""),
        (("k" * (MAX_KIND + 1), "key"), b""),
        (("kind", "k" * (MAX_KEY + 1)), b""),
        (("kind", "\N{SNOWMAN}" * 85), b""),
        (("kind", "key"), bytes(MAX_RECORD + 1)),
    ],
)
def test_what_is_too_long_is_refused(name: tuple[str, str], record: bytes) -> None:
    with pytest.raises(ValueError, match="session record"):
        encode(name, record)


def test_the_longest_fits() -> None:
    name = ("k" * MAX_KIND, "k" * MAX_KEY)
    assert decode(whole([(name, bytes(MAX_RECORD))])).changes == {name: bytes(MAX_RECORD)}


def test_files_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 100):
        Journal(tmp_path, number, BOOT).close()
    for other in ("sessions.journal", "sessions.x.journal", "sessions.3.new", "sessions.٣.journal"):
        (tmp_path / other).touch()
    assert [number for number, _ in found_in(tmp_path)] == [2, 10, 100]


def test_a_file_is_its_owners_and_grows_by_whole_frames(tmp_path: Path) -> None:
    made = Journal(tmp_path, 1, BOOT)
    assert made.file.stat().st_mode & 0o077 == 0
    for number in range(5):
        made.append(encode(("ike", str(number)), b"x" * number))
        assert made.size == made.file.stat().st_size
    made.close()
    assert len(read(made.file).changes) == 5


def test_a_frame_that_fits_only_partly_is_not_there_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Journal(tmp_path, 1, BOOT)
    made.append(encode(("ike", "a"), b"1"))
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="fitted") as refused:
            made.append(encode(("ike", "a"), b"2"))
    assert refused.value.errno == errno.ENOSPC
    made.append(encode(("ike", "b"), b"3"))
    made.close()
    contents = read(made.file)
    assert contents.changes == {("ike", "a"): b"1", ("ike", "b"): b"3"}
    assert contents.damaged_octets == 0


def test_a_file_written_anew_is_there_at_once_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[tuple[str, str], bytes | None] = {("ike", "a"): b"1", ("ike", "b"): None}
    size = write_whole(tmp_path, 3, BOOT, changes)
    ((number, file),) = found_in(tmp_path)
    assert (number, file.stat().st_size) == (3, size)
    assert read(file).changes == changes

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        write_whole(tmp_path, 4, BOOT, changes)
    assert [one for one, _ in found_in(tmp_path)] == [3]


def test_a_file_that_is_far_too_long_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "sessions.1.journal"
    with file.open("wb") as opened:
        opened.truncate(journal.MAX_FILE_OCTETS + 1)
    with pytest.raises(OSError, match="at most"):
        read(file)
