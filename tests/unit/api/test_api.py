"""The API against a fake core behind a real control socket."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api.app import SiteSettings, create_site, openapi
from gateway.api.guard import MAX_BODY_OCTETS
from gateway.appliance.access.token_file import TokenFile, TokenFileError, ensure_token
from gateway.control.async_client import AsyncControlClient
from gateway.control.peer import Access
from gateway.control.protocol import ControlError, ErrorCode, Role
from gateway.control.server import ControlServer
from gateway.domain.log import configure

SA = "0123456789abcdef_fedcba9876543210"
OTHER = "f" * 16 + "_" + "0" * 16
MOVE = {"old": "192.0.2.7:4500", "new": "198.51.100.9:1024", "proof": "mobike", "age_s": 2.5}
IKE_SA = {
    "id": SA,
    "version": 2,
    "connection": "road",
    "state": "established",
    "initiator": False,
    "local_id": "gw",
    "remote_id": "<script>alert(1)</script>\\n=cmd()",
    "auth": "EAP-MSCHAPv2",
    "user": "ada",
    "profile": None,
    "local": "203.0.113.1:4500",
    "remote": "198.51.100.9:1024",
    "nat": {"local": False, "remote": True},
    "suite": "aes_gcm_16_256",
    "age_s": 12.0,
    "idle_s": 1.0,
    "rekey_in_s": 100.0,
    "inner_addresses": ["10.9.0.1"],
    "mobike": True,
    "fragmentation": True,
    "knows": {"endpoint_update": True, "vpn_fa": False},
    "children": ["c0ffee01"],
    "last_move": MOVE,
    "added_later": 1,
}
CHILD_SA = {
    "spi_in": "c0ffee01",
    "spi_out": "c0ffee02",
    "reqid": 7,
    "ike_sa": SA,
    "connection": "road",
    "state": "installed",
    "remote_id": "device",
    "suite": "aes_gcm_16_256",
    "local_ts": ["10.1.0.0/24"],
    "remote_ts": ["10.9.0.1/32"],
    "local": "203.0.113.1:4500",
    "remote": "198.51.100.9:1024",
    "encapsulation": "esp-in-udp",
    "endpoint_update": True,
    "vpn_fa": False,
    "age_s": 12.0,
    "bytes_in": 1,
    "packets_in": 2,
    "bytes_out": 3,
    "packets_out": 4,
    "last_in_age_s": None,
    "last_move": None,
}


FAILURE = {
    "id": "0000002a",
    "first_at": "2026-01-01T10:00:00.000+00:00",
    "last_at": "2026-01-01T10:05:00.000+00:00",
    "count": 3,
    "remote": "198.51.100.7:500",
    "peer": "a peer",
    "connection": None,
    "step": "IKE_SA_INIT",
    "reason": "encryption differs",
    "theirs": "3des",
    "ours": "aes256",
    "remedy": "offer one of ours",
}


class FakeCore:
    def __init__(self) -> None:
        self.calls = []

    async def handle(self, request: Any) -> Any:
        self.calls.append((request.operation.name, request.arguments))
        match request.operation.name:
            case "health":
                return {"status": "ok", "secret": "not shown"}
            case "ike-sas":
                if request.text("id") == OTHER:
                    raise ControlError(ErrorCode.NOT_FOUND, "there is no such IKE SA", "id")
                return {"items": [IKE_SA], "next": None, "total": 1}
            case "child-sas":
                return {"items": [CHILD_SA], "next": "c0ffee01", "total": 2}
            case "ike-failures":
                return {"items": [FAILURE], "next": None, "total": 1}
            case "close-ike-sa" if request.text("id") == OTHER:
                raise ControlError(ErrorCode.NOT_FOUND, "there is no such IKE SA", "id")
        return {}


class Site:
    def __init__(self, tmp_path: Path) -> None:
        self.socket = tmp_path / "control.sock"
        self.token_file = tmp_path / "token"
        ensure_token(self.token_file)
        self.token = self.token_file.read_text().strip()
        self.core = FakeCore()
        self.file = TokenFile(self.token_file)
        self.app = create_site(AsyncControlClient(self.socket), SiteSettings(tls=False))

    def client(self, *, token: Any = True, host: Any = "127.0.0.1:8443") -> Any:
        headers: dict[str, str | bytes] = {"Host": host}
        if token is not None:
            given = f"Bearer {self.token if token is True else token}"
            headers["Authorization"] = given.encode()
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8443/api/v1", headers=headers
        )

    @contextlib.asynccontextmanager
    async def core_running(self) -> Any:
        server = ControlServer(
            self.socket, access=Access(), log=configure(), authenticate=self.file.authenticate
        )
        await server.start(self.core.handle)
        try:
            yield
        finally:
            await server.stop()


@pytest.fixture
def site(tmp_path: Path) -> Any:
    return Site(tmp_path)


def ask(
    site: Any, method: Any, url: Any, *, core: Any = True, content: Any = None, **client: Any
) -> Any:
    async def scenario() -> Any:
        async with asyncio.timeout(20), contextlib.AsyncExitStack() as stack:
            if core:
                await stack.enter_async_context(site.core_running())
            http = await stack.enter_async_context(site.client(**client))
            return await http.request(method, url, content=content)

    return asyncio.run(scenario())


def is_problem(response: Any, status: Any, kind: Any) -> Any:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"] == f"urn:gateway:problem:{kind}"
    return body


def test_health_needs_no_token_and_says_only_its_status(site: Any) -> None:
    response = ask(site, "GET", "/health", token=None)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_ike_sas_show_the_peers_and_their_moves(site: Any) -> None:
    response = ask(site, "GET", "/ike-sas?limit=5&connection=road")
    assert response.status_code == 200
    (shown,) = response.json()["items"]
    assert shown == {key: value for key, value in IKE_SA.items() if key != "added_later"}
    assert site.core.calls == [("ike-sas", {"limit": 5, "connection": "road"})]


def test_child_sas_show_their_traffic(site: Any) -> None:
    response = ask(site, "GET", f"/child-sas?ike_sa={SA}&cursor=c0ffee00")
    assert response.json() == {"items": [CHILD_SA], "next": "c0ffee01", "total": 2}
    assert site.core.calls[0][1] == {"ike_sa": SA, "cursor": "c0ffee00", "limit": 100}


def test_one_ike_sa(site: Any) -> None:
    assert ask(site, "GET", f"/ike-sas/{SA}").json()["id"] == SA
    is_problem(ask(site, "GET", f"/ike-sas/{OTHER}"), 404, "not-found")


def test_a_peer_is_disconnected(site: Any) -> None:
    response = ask(site, "DELETE", f"/ike-sas/{SA}")
    assert (response.status_code, response.content) == (204, b"")
    assert site.core.calls == [("close-ike-sa", {"id": SA})]
    is_problem(ask(site, "DELETE", f"/ike-sas/{OTHER}"), 404, "not-found")


@pytest.mark.parametrize("url", ["/ike-sas", f"/ike-sas/{SA}", "/child-sas"])
@pytest.mark.parametrize("token", [None, "", "wrong", "\N{SNOWMAN}"])
def test_without_the_token_nothing_is_shown(site: Any, url: Any, token: Any) -> None:
    response = ask(site, "GET", url, token=token)
    is_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"].startswith('Bearer realm="gateway"')
    assert site.core.calls == []


def test_the_token_is_not_taken_from_the_url(site: Any) -> None:
    is_problem(ask(site, "GET", f"/ike-sas?token={site.token}", token=None), 401, "unauthorized")


def test_h78_tokens_are_never_logged(site: Any, caplog: Any) -> None:
    ask(site, "GET", "/ike-sas", token="guessed-token-value")
    assert "guessed-token-value" not in caplog.text
    assert site.token not in caplog.text
    assert site.token not in repr(TokenFile(site.token_file))


def test_core_down_is_said_with_the_remedy(site: Any) -> None:
    body = is_problem(ask(site, "GET", "/ike-sas", core=False), 503, "core-down")
    assert "start it" in body["detail"]
    is_problem(ask(site, "GET", "/health", core=False, token=None), 503, "core-down")


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("/ike-sas?limit=0", "limit"),
        ("/ike-sas?limit=1000000", "limit"),
        ("/ike-sas?cursor=%00", "cursor"),
        ("/ike-sas?connection=a%20b", "connection"),
        ("/child-sas?ike_sa=1", "ike_sa"),
        ("/ike-sas/..%2f..%2fetc", None),
        ("/ike-sas/nonsense", "ike_sa"),
    ],
)
def test_h78_a_wrong_parameter_is_named_and_never_reaches_the_core(
    site: Any, url: Any, field: Any
) -> None:
    response = ask(site, "GET", url)
    assert site.core.calls == []
    if field is None:
        is_problem(response, 404, "not-found")
    else:
        assert is_problem(response, 422, "invalid")["field"] == field


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:80:80", "[::1]x", "", "999.0.0.1"]
)
def test_h78_host_header_rebinding_is_refused(site: Any, host: Any) -> None:
    is_problem(ask(site, "GET", "/health", token=None, host=host), 421, "wrong-host")
    assert site.core.calls == []


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8443", "127.0.0.1", "[::1]:8443", "203.0.113.1"]
)
def test_names_of_loopback_and_addresses_are_answered(site: Any, host: Any) -> None:
    assert ask(site, "GET", "/health", token=None, host=host).status_code == 200


def test_a_large_body_is_refused(site: Any) -> None:
    response = ask(site, "DELETE", f"/ike-sas/{SA}", content=b"x" * (MAX_BODY_OCTETS + 1))
    is_problem(response, 413, "body-too-large")
    assert site.core.calls == []


def test_unknown_paths_and_methods_are_problems(site: Any) -> None:
    is_problem(ask(site, "GET", "/nothing"), 404, "not-found")
    is_problem(ask(site, "PUT", "/ike-sas"), 405, "method-not-allowed")


def test_no_page_loads_scripts_from_elsewhere(site: Any) -> None:
    for page in ("/docs", "/redoc", "/../docs", "/../../docs"):
        assert ask(site, "GET", page).status_code == 404
    headers = ask(site, "GET", "/health", token=None).headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"


def test_the_committed_openapi_document_is_the_codes() -> None:
    committed = Path(__file__).parents[3] / "docs" / "openapi.json"
    assert json.loads(committed.read_text()) == openapi()


def test_every_operation_of_the_document_is_described() -> None:
    document = openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            # What stands for itself has no credential; the core knows who reads /metrics.
            open_to_all = operation["x-role"] == "nobody" or path == "/metrics"
            assert bool(operation.get("security")) is not open_to_all, (method, path)


def test_the_token_file_is_for_its_user_only_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert ensure_token(path)
    token = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(token.strip()) >= 32
    assert not ensure_token(path)
    assert path.read_text() == token


def test_a_replaced_token_counts_and_the_old_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "token"
    ensure_token(path)
    file = TokenFile(path)
    old = path.read_text().strip()
    assert file.authenticate(old, "192.0.2.7").role is Role.ADMINISTRATOR
    path.unlink()
    with pytest.raises(TokenFileError, match="cannot read"):
        file.refresh()
    assert file.authenticate(old, "192.0.2.7").role is Role.ADMINISTRATOR
    ensure_token(path)
    file.refresh()
    with pytest.raises(ControlError, match="not valid"):
        file.authenticate(old, "192.0.2.7")
    assert file.authenticate(path.read_text().strip(), "192.0.2.7").role is Role.ADMINISTRATOR
    assert file.authenticate("", "192.0.2.7").role is Role.NOBODY


@pytest.mark.parametrize(("content", "mode"), [(b"", 0o600), (b"short", 0o600), (b"x" * 32, 0o644)])
def test_a_token_file_that_protects_nothing_is_refused(
    tmp_path: Path, content: Any, mode: Any
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(TokenFileError, match=str(path)):
        TokenFile(path)


def test_a_token_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="none"):
        ensure_token(tmp_path / "none" / "token")


def test_failed_logins_say_what_to_do(site: Any) -> None:
    shown = ask(site, "GET", "/ike-failures?who=ada&within_s=60&remote=198.51.100.7")
    assert shown.json()["items"] == [FAILURE]
    assert site.core.calls[-1] == (
        "ike-failures",
        {"who": "ada", "remote": "198.51.100.7", "within_s": 60, "limit": 100},
    )
    is_problem(ask(site, "GET", "/ike-failures?within_s=0"), 422, "invalid")
    assert ask(site, "GET", "/ike-failures", token=None).status_code == 401
