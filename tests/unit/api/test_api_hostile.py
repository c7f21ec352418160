"""Hostile input 78: what browsers, strangers and bad neighbours try, against a live gateway."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_gateway import Live

from gateway.api.caller import csrf_of
from gateway.api.guard import MAX_BODY_OCTETS
from gateway.api.links import _READY, _escaped, safe_name
from gateway.api.listener import MAX_CONNECTIONS_OF_ONE

PASSWORD = "correct horse battery"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module", autouse=True)
def ann(live: Live) -> None:
    with live.client() as client:
        body = {"name": "ann", "role": "admin", "password": PASSWORD}
        assert client.post("/api/v1/administrators", json=body).status_code == 201


@contextlib.contextmanager
def login(live: Live, **options: Any) -> Iterator[Any]:
    """A browser that has logged in; ``client.csrf`` is what goes with changes."""
    with live.client(None, **options) as client:
        answer = client.post("/api/v1/session", json={"name": "ann", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        browser: Any = client
        browser.csrf = answer.json()["csrf"]
        yield browser


def raw(live: Live, data: bytes, *, timeout_s: float = 20.0) -> bytes:
    """What comes back for octets as they are."""
    with socket.create_connection(("127.0.0.1", live.port), timeout_s) as sock:
        sock.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while piece := sock.recv(65_536):
                answer += piece
        return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# -- the cookie --------------------------------------------------------------------------------


def test_h78_the_cookie_is_out_of_reach_for_scripts_and_other_sites(live: Live) -> None:
    with live.client(None) as client:
        answer = client.post("/api/v1/session", json={"name": "ann", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Domain" not in cookie
        assert "session" not in answer.json()
        assert "Max-Age" not in cookie  # ends with the browser


def test_h78_with_tls_the_cookie_is_secure_and_of_this_host_only(live_tls: Live) -> None:
    with live_tls.client() as client:
        body = {"name": "ann", "role": "admin", "password": PASSWORD}
        assert client.post("/api/v1/administrators", json=body).status_code == 201
    with live_tls.client(None) as client:
        answer = client.post("/api/v1/session", json={"name": "ann", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-session=")
        assert "; Secure" in cookie
        assert "; Path=/" in cookie
        assert client.get("/api/v1/session").json()["administrator"] == "ann"


def test_h78_session_fixation_a_login_never_takes_a_session_that_was_brought_along(
    live: Live,
) -> None:
    with live.client(None, cookies={"session": "chosen-by-the-attacker"}) as client:
        answer = client.post("/api/v1/session", json={"name": "ann", "password": PASSWORD})
        assert "chosen-by-the-attacker" not in answer.headers["set-cookie"]
    with live.client(None, cookies={"session": "chosen-by-the-attacker"}) as client:
        assert client.get("/api/v1/session").status_code == 401


def test_h78_a_new_login_ends_the_one_before_in_the_same_browser(live: Live) -> None:
    with login(live) as client:
        old = client.cookies["session"]
        client.post("/api/v1/session", json={"name": "ann", "password": PASSWORD})
        assert client.cookies["session"] != old
        with live.client(None, cookies={"session": old}) as other:
            assert other.get("/api/v1/session").status_code == 401


def test_h78_two_cookies_of_the_same_name_are_none(live: Live) -> None:
    with login(live) as client:
        session = client.cookies["session"]
    with live.client(None) as other:
        cookies = {"Cookie": f"session={session}; session=other"}
        assert other.get("/api/v1/session", headers=cookies).status_code == 401


# -- changes that a browser makes for others ----------------------------------------------------


def test_h78_csrf_a_cookie_alone_changes_nothing(live: Live) -> None:
    with login(live) as client:
        body = {"name": "csrf", "role": "read-only"}
        answer = client.post("/api/v1/tokens", json=body)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:gateway:problem:csrf")
        for wrong in ("", "x", csrf_of("another session")):
            headers = {"X-CSRF-Token": wrong}
            assert client.post("/api/v1/tokens", json=body, headers=headers).status_code == 403
        headers = {"X-CSRF-Token": client.csrf}
        assert client.post("/api/v1/tokens", json=body, headers=headers).status_code == 201
        assert client.get("/api/v1/session").json()["csrf"] == client.csrf
        assert client.delete("/api/v1/session", headers=headers).status_code == 204
        assert client.get("/api/v1/session").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},  # another port is another origin
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "SAME"},
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/session", "/api/v1/tokens", "/d/" + "x" * 43])
def test_h78_csrf_pages_of_other_sites_change_nothing(
    live: Live, headers: dict[str, str], path: str
) -> None:
    given = {name: live.base if value == "SAME" else value for name, value in headers.items()}
    with live.client(headers=given) as client:
        answer = client.post(path, json={"name": "ann", "password": PASSWORD})
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:gateway:problem:cross-site"


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_pages_are_let_in(live: Live, site: str) -> None:
    headers = {"Sec-Fetch-Site": site, "Origin": live.base}
    with login(live, headers=headers) as client:
        assert client.get("/api/v1/session").status_code == 200


def test_h78_a_form_cannot_log_anybody_in(live: Live) -> None:
    with live.client(None) as client:
        form = {"name": "ann", "password": PASSWORD}
        assert client.post("/api/v1/session", data=form).status_code == 422
        text = {"Content-Type": "text/plain"}
        answer = client.post("/api/v1/session", content=json.dumps(form), headers=text)
        assert answer.status_code == 422


def test_h78_no_answer_may_be_read_by_pages_of_others(live: Live) -> None:
    with live.client(headers={"Origin": "https://evil.example"}) as client:
        answer = client.get("/api/v1/status")
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        preflight = client.options(
            "/api/v1/status", headers={"Access-Control-Request-Method": "DELETE"}
        )
        assert preflight.status_code == 405


# -- what is shown ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/health", "/api/v1/nothing", "/d/" + "x" * 43, "/metrics", "/app.css"]
)
def test_h78_clickjacking_nothing_of_ours_may_be_framed(live: Live, path: str) -> None:
    with live.client() as client:
        headers = client.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_h78_html_in_names_is_never_answered_as_html(live: Live) -> None:
    name = SCRIPT.replace("/", "")
    with live.client() as client:
        document = {"identity": "x@example.com", "note": SCRIPT, "platform": "other"}
        made = client.post("/api/v1/config/devices", json={"name": name, "document": document})
        assert made.status_code in {201, 422}, made.text
        for path in (
            f"/api/v1/config/devices?q={SCRIPT}",
            f"/api/v1/config/devices/{name}",
            f"/api/v1/devices?q={SCRIPT}",
            "/api/v1/audit",
            f"/api/v1/{SCRIPT}",
        ):
            answer = client.get(path)
            kind = answer.headers["content-type"]
            assert kind in {"application/json", "application/problem+json"}, (path, kind)


def test_h78_the_page_of_a_link_escapes_what_it_shows() -> None:
    shown = _READY.format(
        **_escaped({"device": SCRIPT, "file_name": '"><img src=x>', "expires_at": SCRIPT})
    )
    assert "<script>" not in shown
    assert "<img" not in shown
    for name in ("../../etc/passwd", "a/b", "a\r\nSet-Cookie: x", ".hidden", "", "a" * 200, "a..b"):
        assert safe_name(name) == "download.bin"
    assert safe_name("phone-1.mobileconfig") == "phone-1.mobileconfig"


def test_h78_a_link_is_not_used_up_by_those_who_look_at_it(live: Live) -> None:
    with live.client() as client:
        body = {"name": "link-phone", "platform": "apple", "connection": "road"}
        made = client.post("/api/v1/provision", json=body)
        assert made.status_code == 201, made.text
        link = made.json()["link"]
    with live.client(None) as stranger:
        for _ in range(3):
            page = stranger.get(link)
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert "<script" not in page.text
            assert page.headers["cache-control"] == "no-store"
        taken = stranger.post(link)
        assert taken.headers["content-disposition"].startswith("attachment; filename=")
        assert taken.content
        assert stranger.post(link).status_code == 404
        assert stranger.get(link).status_code == 404
    log = (live.folder / "log").read_text()
    assert link.rpartition("/")[2] not in log


# -- paths, hosts, bodies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/js/../../app.py",
        "/js/..%5c..%5capp.py",
        "//etc/passwd",
        "/js//../app.py",
        "/index.html%00.js",
        "/js/",
        "/.git/config",
        "/api/v1/config/pools/..%2f..%2fetc",
        "/api/v1/config/..%2f",
        "/api/v1/captures/..%2f..%2fetc%2fpasswd",
        "/d/..%2f..%2fetc%2fpasswd",
    ],
)
def test_h78_path_traversal_finds_nothing(live: Live, path: str) -> None:
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {live.token}\r\n"
        "Connection: close\r\n\r\n"
    )
    answer = raw(live, request.encode())
    assert status_of(answer) in {400, 404, 405, 422}, answer[:200]
    assert b"root:" not in answer
    assert b"create_app" not in answer


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"],
        ["gateway.example.com.evil.example"],
        ["127.0.0.1", "evil.example"],
        ["127.0.0.1:80:80"],
        ["user@127.0.0.1"],
        ["127.1"],
        [],
    ],
)
def test_h78_host_header_rebinding_finds_nobody(live: Live, hosts: list[str]) -> None:
    lines = "".join(f"Host: {one}\r\n" for one in hosts)
    answer = raw(live, f"GET / HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    assert status_of(answer) in {400, 421}


@pytest.mark.parametrize("host", ["gateway.example.com", "GATEWAY.example.com:8443", "[::1]:1"])
def test_names_of_the_configuration_are_ours(live: Live, host: str) -> None:
    answer = raw(live, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert status_of(answer) == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host"])
def test_h78_forwarding_headers_are_not_believed(live: Live, name: str) -> None:
    with live.client(headers={name: "203.0.113.99"}) as client:
        made = client.post("/api/v1/tokens", json={"name": f"f-{name}", "role": "read-only"})
        assert made.status_code == 201
        entry = client.get(f"/api/v1/audit?target=f-{name}").json()["items"][0]
        assert entry["remote"] == "127.0.0.1"


def test_h78_large_bodies_are_refused_whether_announced_or_not(live: Live) -> None:
    with live.client() as client:
        body = b"x" * (MAX_BODY_OCTETS + 1)
        answer = client.post("/api/v1/config/pools", content=body)
        assert answer.status_code == 413

        def pieces() -> Any:
            for _ in range(20):
                yield b"x" * 8192

        answer = client.post("/api/v1/config/pools", content=pieces())
        assert answer.status_code == 413
        announced = {"Content-Length": "99999999999999999999"}
        head = "POST /api/v1/tokens HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        lines = "".join(f"{k}: {v}\r\n" for k, v in announced.items())
        assert status_of(raw(live, f"{head}{lines}\r\n".encode())) in {400, 413}


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":' + b"[" * 30_000,
        b"{" * 30_000,
        b'{"name": "\\ud800", "role": "admin"}',
        b'{"name": "a", "name": "b", "role": NaN}',
        b"\xff\xfe\x00",
        b"",
        b"null",
        b"[]",
        b'"text"',
        b'{"name": "a\\u0000b", "role": "admin"}',
        b'{"name": 1e400, "role": "admin"}',
        b'{"name": "a", "role": "admin", "expires_in_s": 99999999999999999999999}',
        b'{"name": "a", "role": "admin", "more": 1}',
    ],
)
def test_h78_bodies_that_make_no_sense_are_problems(live: Live, body: bytes) -> None:
    with live.client(headers={"Content-Type": "application/json"}) as client:
        answer = client.post("/api/v1/tokens", content=body)
        assert answer.status_code in {400, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "document",
    [
        {"network": "\ud800"},
        {"network": float("nan")},
        {"network": {"a": {"b": [[[[[[]]]]]]}}},
        {"network": "10.0.0.0/8", "dns": ["x"] * 5000},
        {"__proto__": {}, "network": "10.0.0.0/8"},
        {"network": "10.0.0.0/8\x00"},
        {"network": 10},
    ],
)
def test_h78_documents_that_make_no_sense_name_the_field(live: Live, document: Any) -> None:
    with live.client(headers={"Content-Type": "application/json"}) as client:
        body = json.dumps({"name": "bad", "document": document}).encode()
        answer = client.post("/api/v1/config/pools", content=body)
        assert answer.status_code in {400, 422}, answer.text
        assert client.get("/api/v1/config/pools/bad").status_code == 404


def test_h78_a_secret_that_is_refused_is_not_repeated(live: Live) -> None:
    with live.client() as client:
        secret = "\x01 a secret with a control character"
        body = {"name": "eve", "role": "admin", "password": secret}
        answer = client.post("/api/v1/administrators", json=body)
        assert answer.status_code == 422
        assert "a secret with" not in answer.text
        long = client.post("/api/v1/administrators", json={**body, "password": "secret" * 500})
        assert long.status_code == 422
        assert "secretsecret" not in long.text
        assert "a secret with" not in client.get("/api/v1/audit").text


def test_h78_tokens_in_addresses_open_nothing(live: Live) -> None:
    with live.client(None) as client:
        for name in ("token", "access_token", "api_key", "session"):
            assert client.get(f"/api/v1/status?{name}={live.token}").status_code == 401


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic YTpi",
        "Bearer",
        "bearer  x y",
        "Token TOKEN",
        "TOKEN",
        "Bearer " + "x" * 9000,
    ],
)
def test_h78_other_credentials_are_wrong_ones(live: Live, authorization: str) -> None:
    given = authorization.replace("TOKEN", live.token)
    with login(live) as client:  # the cookie does not stand in for a wrong header
        answer = client.get("/api/v1/status", headers={"Authorization": given})
        assert answer.status_code in {401, 429}


def test_h78_no_websocket(live: Live) -> None:
    request = (
        "GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://evil.example\r\n\r\n"
    )
    assert status_of(raw(live, request.encode(), timeout_s=2)) == 401


def test_h78_smuggling_two_lengths_are_refused(live: Live) -> None:
    head = "POST /api/v1/tokens HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for lines in (
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +5\r\n",
    ):
        answer = raw(live, f"{head}{lines}Connection: close\r\n\r\n0\r\n\r\n".encode(), timeout_s=5)
        assert status_of(answer) in {400, 401, 411, 413, 422, 501}, (lines, answer[:100])


# -- slow and many ------------------------------------------------------------------------------


def test_h78_headers_that_never_end_are_cut_off(live: Live) -> None:
    with socket.create_connection(("127.0.0.1", live.port), 40) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        assert sock.recv(1) == b""


def test_h78_endless_headers_are_refused(live: Live) -> None:
    answer = raw(live, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000)
    assert status_of(answer) in {0, 400, 431}


def test_h78_connections_of_one_address_are_bounded_and_come_free(live: Live) -> None:
    held = []
    try:
        for _ in range(MAX_CONNECTIONS_OF_ONE + 20):
            held.append(socket.create_connection(("127.0.0.1", live.port), 5))  # noqa: PERF401
        answered = b"?"
        with contextlib.suppress(ConnectionError):
            held[-1].sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answered = held[-1].recv(100)
        assert not answered.startswith(b"HTTP")
    finally:
        for sock in held:
            sock.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError), live.client(None) as client:
            if client.get("/api/v1/health").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the API does not answer any more")


def test_h78_a_crowd_that_guesses_is_told_to_wait(live: Live) -> None:
    with live.client(None) as client:
        answers = [
            client.post("/api/v1/session", json={"name": "victim", "password": f"guess {n}"})
            for n in range(14)
        ]
        assert {one.status_code for one in answers} == {401, 429}
        last = answers[-1]
        assert last.status_code == 429
        assert int(last.headers["retry-after"]) >= 1
        assert len({one.text for one in answers if one.status_code == 401}) == 1


# -- TLS ----------------------------------------------------------------------------------------


def test_plain_http_to_the_port_of_https_is_told_where_to_go(live_tls: Live) -> None:
    answer = raw(live_tls, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert status_of(answer) == 400
    assert b"https://" in answer


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_h78_old_tls_and_no_tls_at_all_get_nothing(live_tls: Live) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", live_tls.port), 10) as sock,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(sock)
    assert raw(live_tls, b"\x16garbage that is no handshake" * 10, timeout_s=5)[:1] in {
        b"",
        b"\x15",
    }


def test_the_key_of_tls_is_its_users_alone(live_tls: Live) -> None:
    folder = live_tls.folder / "state" / "api"
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "key.pem").stat().st_mode & 0o077 == 0


def test_a_new_certificate_is_used_without_a_restart(live_tls: Live) -> None:
    folder = live_tls.folder / "state" / "api"
    before = ssl.get_server_certificate(("127.0.0.1", live_tls.port))
    make = [sys.executable, "-m", "gateway.api.make_certificate", str(folder)]
    subprocess.run([*make, "127.0.0.1", "localhost"], check=True, cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if ssl.get_server_certificate(("127.0.0.1", live_tls.port)) != before:
            break
        time.sleep(0.2)
    else:
        raise AssertionError("the old certificate is still shown")
    with live_tls.client(None) as client:
        assert client.get("/api/v1/health").status_code == 200
