"""What the CA publishes as files, each whole or not at all."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Publication:
    """Contents by file; those of ``secret`` only their owner reads."""

    contents: Mapping[Path, bytes] = field(repr=False)
    secret: frozenset[Path]

    def write(self) -> frozenset[Path]:
        """Write what differs from what is there; which files that were. Raises OSError.

        The key is written before its certificate: a process that is killed in between leaves a
        pair that does not fit, which the next start mends before it reads them.
        """
        changed = set()
        for path, content in self.contents.items():
            secret = path in self.secret
            if _content(path) != content or (secret and _is_open(path)):
                _write(path, content, 0o600 if secret else 0o644)
                changed.add(path)
        return frozenset(changed)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _is_open(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o077)


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
