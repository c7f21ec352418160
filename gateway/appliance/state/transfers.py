"""Files on their way in or out, in parts: a few, for a while, in a folder of their own."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.control.protocol import ControlError, ErrorCode
from gateway.control.store_operations import MAX_FILE_OCTETS, MAX_PART_OCTETS

MAX_TRANSFERS: Final = 4
LIFE_S: Final = 3600.0
"""Of a file that nobody reads or writes."""
IDLE_S: Final = 60.0
"""After so long it makes room for another one: nobody says when they have read the last part."""
FOLDER: Final = "transfer"


class Transfers:
    """By id. Everything raises :class:`ControlError`; disk faults are BUSY."""

    def __init__(
        self,
        state_dir: Path,
        clock: Callable[[], float],
        *,
        token: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._folder = state_dir / FOLDER
        self._clock = clock
        self._token = token
        self._used_at: dict[str, float] = {}
        self._incoming: set[str] = set()

    def clear(self) -> None:
        """Remove every file, also those of an earlier process."""
        self._used_at.clear()
        self._incoming.clear()
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                with contextlib.suppress(OSError):
                    file.unlink()

    def begin(self, *, incoming: bool) -> tuple[str, Path]:
        """A new file: its id and where it is to be."""
        self._expire(LIFE_S if len(self._used_at) < MAX_TRANSFERS else IDLE_S)
        if len(self._used_at) >= MAX_TRANSFERS:
            raise ControlError(
                ErrorCode.TOO_MANY,
                f"{MAX_TRANSFERS} files are on their way already; try again in a minute",
                retry_after_s=IDLE_S,
            )
        name = self._token(16)
        self._used_at[name] = self._clock()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if incoming:
                self._incoming.add(name)
                os.close(os.open(self._file(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            self.end(name)
            raise _broken(error) from error
        return name, self._file(name)

    def end(self, name: str) -> None:
        """Remove it."""
        self._used_at.pop(name, None)
        self._incoming.discard(name)
        with contextlib.suppress(OSError):
            self._file(name).unlink(missing_ok=True)

    def incoming(self, name: str) -> Path:
        """A file that was given in parts."""
        self._check(name, incoming=True)
        return self._file(name)

    def read(self, name: str, offset: int) -> tuple[bytes, int | None]:
        """A part, and the offset of the next one; None after the last."""
        self._check(name, incoming=False)
        try:
            with self._file(name).open("rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                opened.seek(offset)
                part = opened.read(MAX_PART_OCTETS)
        except OSError as error:
            raise _broken(error) from error
        end = offset + len(part)
        if end >= size:
            self.end(name)  # whoever has the last part has all of it
            return part, None
        return part, end

    def append(self, name: str, offset: int, part: bytes) -> int:
        """Octets so far."""
        self._check(name, incoming=True)
        if len(part) > MAX_PART_OCTETS:
            why = f"content: {len(part)} octets; a part has at most {MAX_PART_OCTETS}"
            raise ControlError(ErrorCode.INVALID, why, "content")
        try:
            with self._file(name).open("ab") as opened:
                size = opened.tell()
                if offset != size:
                    why = f"offset = {offset}: {size} octets are there, so the next part is there"
                    raise ControlError(ErrorCode.INVALID, why, "offset")
                if size + len(part) > MAX_FILE_OCTETS:
                    why = f"content: a file has at most {MAX_FILE_OCTETS} octets"
                    raise ControlError(ErrorCode.INVALID, why, "content")
                opened.write(part)
        except OSError as error:
            raise _broken(error) from error
        return size + len(part)

    def _check(self, name: str, *, incoming: bool) -> None:
        self._expire()
        if name not in self._used_at or (name in self._incoming) is not incoming:
            raise ControlError(ErrorCode.NOT_FOUND, "id: there is no such file any more", "id")
        self._used_at[name] = self._clock()

    def _expire(self, life_s: float = LIFE_S) -> None:
        oldest = self._clock() - life_s
        for name in [one for one, at in self._used_at.items() if at < oldest]:
            self.end(name)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"


def _broken(error: OSError) -> ControlError:
    return ControlError(ErrorCode.BUSY, f"the disk does not take it: {error}; free space")
