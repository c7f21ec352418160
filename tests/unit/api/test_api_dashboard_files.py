"""The dashboard's files: exactly those, compressed, and only sent again when they changed."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api.app import SiteSettings, create_site
from gateway.api.static import FOLDER, Dashboard


class NoCore:
    async def request(self, *_args: Any, **_options: Any) -> dict[str, object]:
        raise AssertionError("nobody asks the core for a file")

    events = request


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "dashboard"
    (root / "js").mkdir(parents=True)
    (root / "index.html").write_text("<!doctype html>" + "<p>x</p>" * 200)
    (root / "js" / "app.js").write_text("let a = 1;\n" * 100)
    (root / "small.css").write_text("a")
    (root / "secret.txt").write_text("not for you")
    (tmp_path / "outside.js").write_text("outside")
    (root / "link.js").symlink_to(tmp_path / "outside.js")
    return root


def ask(folder: Path, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        settings = SiteSettings(tls=False, dashboard=Dashboard(folder))
        transport = httpx.ASGITransport(create_site(NoCore(), settings))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(run())


def test_files_have_their_type_an_etag_and_a_strict_policy(folder: Path) -> None:
    page = ask(folder, "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == ask(folder, "/index.html").text
    script = ask(folder, "/js/app.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    policy = script.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert script.headers["cache-control"] == "no-cache"
    again = ask(folder, "/js/app.js", **{"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_files_are_compressed_for_who_can_read_that(folder: Path) -> None:
    packed = ask(folder, "/js/app.js", **{"Accept-Encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 200
    assert packed.text == "let a = 1;\n" * 100
    for coding in ("identity", "gzip;q=0", "br", ""):
        plain = ask(folder, "/js/app.js", **{"Accept-Encoding": coding})
        assert "content-encoding" not in plain.headers
        assert plain.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in ask(folder, "/small.css").headers


def test_a_head_request_has_no_body(folder: Path) -> None:
    found = ask(folder, "/js/app.js", "HEAD", **{"Accept-Encoding": "identity"})
    assert found.status_code in {200, 405}
    assert found.content == b""


@pytest.mark.parametrize(
    "path", ["/secret.txt", "/link.js", "/js", "/js/", "/../outside.js", "/nothing.js"]
)
def test_h78_nothing_else_is_a_file(folder: Path, path: str) -> None:
    assert ask(folder, path).status_code == 404


def test_the_dashboard_is_small_enough_for_a_slow_line() -> None:
    files = [one for one in FOLDER.rglob("*") if one.is_file()]
    packed = sum(len(gzip.compress(one.read_bytes(), 9)) for one in files)
    assert packed <= 300 * 1024
    assert len(Dashboard()) >= 3
