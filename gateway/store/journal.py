"""The journal of sessions: what was said last about each, there at once, also after ``kill -9``.

Files ``sessions.N.journal`` in a folder (on tmpfs), read in the order of N. Each begins with
:data:`MAGIC`, the boot id (36 octets of ASCII) and a CRC-32 of both; then frames follow::

    a5 4a | length of body (4) | CRC-32 of body (4) | body
    body: 1 keep or 2 forget (1) | length of kind (1) | kind | length of key (1) | key | record

A frame is appended with one write(2). A file that ends within a frame was cut short while that
frame was written: nobody was told yet that it is there, so nothing is lost. What is damaged before
the end is skipped and counted.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MAGIC: Final = b"GWSJ\x01\r\n\x00"
MAX_RECORD: Final = 65_536 + 64
MAX_KIND: Final = 127
MAX_KEY: Final = 253
MAX_FILE_OCTETS: Final = 256 << 20
"""A file beyond is not read: nobody made it by appending."""
_BOOT: Final = 36
_HEADER: Final = len(MAGIC) + _BOOT + 4
_MARK: Final = b"\xa5J"
_FRAME: Final = struct.Struct("!2sII")
_MAX_BODY: Final = 3 + MAX_KIND + MAX_KEY + MAX_RECORD
_KEEP: Final = 1
_FORGET: Final = 2
_NAME: Final = re.compile(r"sessions\.(\d{1,12})\.journal", re.ASCII)

Name = tuple[str, str]
"""Kind and key."""


def encode(name: Name, record: bytes | None) -> bytes:
    """One frame; None forgets. ValueError: too long."""
    kind, key = (one.encode() for one in name)
    if not 0 < len(kind) <= MAX_KIND or len(key) > MAX_KEY or len(record or b"") > MAX_RECORD:
        raise ValueError(
            f"session record {name[0][:40]!r}/{name[1][:40]!r} of {len(record or b'')} octets:"
            f" kinds have 1 to {MAX_KIND} octets, keys at most {MAX_KEY}, records {MAX_RECORD}"
        )
    what = _FORGET if record is None else _KEEP
    body = b"".join((bytes((what, len(kind))), kind, bytes((len(key),)), key, record or b""))
    return _FRAME.pack(_MARK, len(body), zlib.crc32(body)) + body


def header(boot_id: str) -> bytes:
    """How a file begins."""
    head = MAGIC + boot_id.encode("ascii", "replace")[:_BOOT].ljust(_BOOT)
    return head + zlib.crc32(head).to_bytes(4, "big")


@dataclass(slots=True)
class Contents:
    """What a file holds."""

    boot_id: str = ""
    """Empty: it holds nothing."""
    changes: dict[Name, bytes | None] = field(default_factory=dict)
    """The last word about each name, in the order of the file; None: it is gone."""
    torn_octets: int = 0
    """At its end, of a frame that was never whole."""
    damaged_octets: int = 0
    """Before its end: something was lost."""


def decode(data: bytes) -> Contents:
    """Whatever ``data`` is, what can be read of it."""
    head = data[:_HEADER]
    if len(head) < _HEADER:
        return Contents(torn_octets=len(data))
    if head[: len(MAGIC)] != MAGIC or zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "big"):
        return Contents(damaged_octets=len(data))
    contents = Contents(head[len(MAGIC) : -4].decode("ascii", "replace").rstrip())
    at = _HEADER
    for begin, end, name, record in _frames(data):
        contents.damaged_octets += begin - at
        contents.changes.pop(name, None)
        contents.changes[name] = record
        at = end
    rest = len(data) - at
    if rest and _is_cut_short(data, at):
        contents.torn_octets = rest
    else:
        contents.damaged_octets += rest
    return contents


def _is_cut_short(data: bytes, at: int) -> bool:
    """Whether the rest is the beginning of a frame."""
    if len(data) - at < _FRAME.size:
        return data[at : at + 2] == _MARK[: len(data) - at]
    mark, length, _ = _FRAME.unpack_from(data, at)
    return bool(mark == _MARK and length <= _MAX_BODY and at + _FRAME.size + length > len(data))


def _frames(data: bytes) -> Iterator[tuple[int, int, Name, bytes | None]]:
    at = _HEADER
    while (at := data.find(_MARK, at)) != -1 and at + _FRAME.size <= len(data):
        _, length, crc = _FRAME.unpack_from(data, at)
        begin = at + _FRAME.size
        end = begin + length
        parsed = None
        if length <= _MAX_BODY and end <= len(data):
            body = data[begin:end]
            if zlib.crc32(body) == crc:
                parsed = _body(body)
        if parsed is None:
            at += 1
            continue
        yield at, end, *parsed
        at = end


def _body(body: bytes) -> tuple[Name, bytes | None] | None:
    if len(body) < 3 or body[0] not in {_KEEP, _FORGET}:
        return None
    kind_end = 2 + body[1]
    if len(body) <= kind_end:
        return None
    key_end = kind_end + 1 + body[kind_end]
    if len(body) < key_end:
        return None
    try:
        name = (body[2:kind_end].decode(), body[kind_end + 1 : key_end].decode())
    except UnicodeDecodeError:
        return None
    return name, body[key_end:] if body[0] == _KEEP else None


class Journal:
    """One file that is appended to. Everything raises OSError."""

    def __init__(self, folder: Path, number: int, boot_id: str) -> None:
        self.number = number
        self.file = folder / f"sessions.{number}.journal"
        self._descriptor = os.open(
            self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self.size = 0
        try:
            self._append(header(boot_id))
        except BaseException:
            self.close()
            raise

    def append(self, frame: bytes) -> None:
        """One write(2): all of the frame or none of it."""
        self._append(frame)

    def _append(self, data: bytes) -> None:
        try:
            written = os.write(self._descriptor, data)
            if written != len(data):
                raise OSError(28, f"only {written} of {len(data)} octets fitted")
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += written

    def close(self) -> None:
        """Let the file go; it stays."""
        os.close(self._descriptor)


def found_in(folder: Path) -> list[tuple[int, Path]]:
    """The files in the order of their numbers. Raises OSError."""
    matches = ((_NAME.fullmatch(one.name), one) for one in folder.iterdir())
    return sorted((int(match[1]), one) for match, one in matches if match)


def read(file: Path) -> Contents:
    """Raises OSError, also when it is far too long."""
    with file.open("rb") as opened:
        if (octets := os.fstat(opened.fileno()).st_size) > MAX_FILE_OCTETS:
            raise OSError(27, f"{octets} octets; at most {MAX_FILE_OCTETS} are read")
        return decode(opened.read(MAX_FILE_OCTETS))


def write_whole(folder: Path, number: int, boot_id: str, changes: dict[Name, bytes | None]) -> int:
    """Make file ``number`` out of ``changes`` at once; its size. Raises OSError."""
    file = folder / f"sessions.{number}.journal"
    new = file.with_suffix(".new")
    with new.open("wb") as opened:
        new.chmod(0o600)
        opened.write(header(boot_id))
        for name, record in changes.items():
            opened.write(encode(name, record))
        size = opened.tell()
    new.replace(file)
    return size
