"""The dashboard's files, read and compressed once, at the start.

A request can only name what was there then: nothing of its path ever reaches the disk.
"""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

FOLDER: Final = Path(__file__).with_name("dashboard")
MAX_FILES: Final = 200
MAX_FILE_OCTETS: Final = 1024 * 1024
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}
_PLAIN: Final = frozenset({".png", ".woff2", ".ico"})
"""Compressed already."""
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    packed: bytes | None
    media_type: str
    etag: str


class Dashboard:
    """Answers GET and HEAD for the files of a folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Raises OSError when a file cannot be read; a folder that is not there has no files."""
        self._files = dict(_read(folder))
        if "/index.html" in self._files:
            self._files["/"] = self._files["/index.html"]

    def __len__(self) -> int:
        return len(self._files)

    def answer(self, request: Request) -> Response | None:
        """The file that a request names, or None."""
        file = self._files.get(request.url.path)
        if file is None or request.method not in {"GET", "HEAD"}:
            return None
        headers = {
            "ETag": file.etag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": CSP,
            "Vary": "Accept-Encoding",
        }
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        content = file.content
        if file.packed is not None and _takes_gzip(request):
            content, headers["Content-Encoding"] = file.packed, "gzip"
        headers["Content-Length"] = str(len(content))
        body = b"" if request.method == "HEAD" else content
        return Response(body, headers=headers, media_type=file.media_type)


def _read(folder: Path) -> Iterator[tuple[str, _File]]:
    found = sorted(path for path in folder.rglob("*") if path.suffix in _TYPES)
    for path in found[:MAX_FILES]:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FILE_OCTETS:
            continue
        content = path.read_bytes()
        packed = None
        if path.suffix not in _PLAIN:
            smaller = gzip.compress(content, 9, mtime=0)
            packed = smaller if len(smaller) < len(content) else None
        tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        yield (
            f"/{path.relative_to(folder).as_posix()}",
            _File(content, packed, _TYPES[path.suffix], tag),
        )


def _takes_gzip(request: Request) -> bool:
    """Whether the client said so, and not with a weight of nothing."""
    for one in request.headers.get("accept-encoding", "").lower().split(","):
        coding, _, weight = one.strip().partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
