"""The API of NAR servers, against a core that answers as the real one."""

import asyncio
from typing import Any

import httpx
import pytest

from gateway.api.app import SiteSettings, create_site
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode

LEASE_ID = "tcp,203.0.113.5,20010,198.51.100.7,443"
CLIENT = {
    "server": "soho",
    "client": "192.168.1.20",
    "port": 40001,
    "user": None,
    "rule": "all",
    "state": "nar",
    "connected": True,
    "tls": True,
    "address": "203.0.113.5",
    "target": "198.51.100.7",
    "delivery": "ip-ip",
    "session": "90c1f2d30a774be5",
    "resumable": True,
    "leases": 3,
    "since": "2026-01-01T10:00:00.000+00:00",
    "expires_in_s": 500.5,
}
LEASE = {
    "id": LEASE_ID,
    "server": "soho",
    "protocol": "tcp",
    "address": "203.0.113.5",
    "value": "20010",
    "remote": "198.51.100.7",
    "remote_port": 443,
    "client": "192.168.1.20",
    "user": "ann",
    "rule": "all",
    "session": "90c1f2d30a774be5",
    "connected": True,
    "delivery": "translated",
    "client_port": 80,
    "peer": None,
    "since": "2026-01-01T10:00:00.000+00:00",
    "expires_in_s": None,
}
ENTRY = {
    "id": "000000000000002a",
    "server": "soho",
    "protocol": "esp",
    "address": "203.0.113.5",
    "value": "0x41f3a2c7",
    "remote": None,
    "remote_port": None,
    "client": "192.168.1.20",
    "user": "ann",
    "delivery": "ip-ip",
    "client_port": None,
    "peer": "198.51.100.7",
    "since": "2026-01-01T10:00:00.000+00:00",
    "until": None,
    "ended_by": None,
}


class FakeCore:
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, object]]] = []
        self.error: ControlError | None = None

    async def request(
        self, op: str, args: Any, caller: Any = None, *, timeout_s: Any = None
    ) -> dict[str, object]:
        if caller.credential != "token":
            raise ControlError(ErrorCode.UNAUTHENTICATED, "not valid")
        arguments = {name: value for name, value in args.items() if value is not None}
        OPERATIONS[op].check(arguments)  # what the API lets through, the core knows
        self.calls.append((op, arguments))
        if self.error is not None:
            raise self.error
        items: dict[str, Any] = {"nar-clients": CLIENT, "nar-mappings": LEASE, "nar-audit": ENTRY}
        return {"items": [items[op]], "next": None, "total": 1} if op in items else {}


def ask(core: FakeCore, method: str, url: str, *, token: str | None = "token") -> httpx.Response:
    async def run() -> httpx.Response:
        headers = {"Host": "127.0.0.1:8443"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        transport = httpx.ASGITransport(create_site(core, SiteSettings(tls=False)))
        base = "http://127.0.0.1:8443/api/v1/nar"
        async with httpx.AsyncClient(transport=transport, base_url=base, headers=headers) as client:
            return await client.request(method, url)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "op", "item", "args"),
    [
        ("/clients", "nar-clients", CLIENT, {"limit": 100}),
        (
            "/clients?server=soho&client=192.168.1.20&user=ann&limit=5&cursor=c0a80114_0000",
            "nar-clients",
            CLIENT,
            {
                "server": "soho",
                "client": "192.168.1.20",
                "user": "ann",
                "limit": 5,
                "cursor": "c0a80114_0000",
            },
        ),
        (
            "/mappings?protocol=ip-ip&value=10.20.0.10&address=203.0.113.5",
            "nar-mappings",
            LEASE,
            {"protocol": "ip-ip", "value": "10.20.0.10", "address": "203.0.113.5", "limit": 100},
        ),
        (
            "/mappings?client=192.168.1.20&user=ann&server=soho&value=0x41f3a2c7",
            "nar-mappings",
            LEASE,
            {
                "client": "192.168.1.20",
                "user": "ann",
                "server": "soho",
                "value": "0x41f3a2c7",
                "limit": 100,
            },
        ),
        (
            "/audit?address=203.0.113.5&protocol=tcp&value=20010&at=2026-01-31T12:00:00%2B01:00",
            "nar-audit",
            ENTRY,
            {
                "address": "203.0.113.5",
                "protocol": "tcp",
                "value": "20010",
                "at": "2026-01-31T12:00:00+01:00",
                "limit": 100,
            },
        ),
    ],
)
def test_lists(url: str, op: str, item: dict[str, object], args: dict[str, object]) -> None:
    core = FakeCore()
    answer = ask(core, "GET", url)
    assert answer.status_code == 200
    assert answer.json() == {"items": [item], "next": None, "total": 1}
    assert core.calls == [(op, args)]


@pytest.mark.parametrize(
    ("url", "call"),
    [
        ("/clients/192.168.1.20", ("nar-end-client", {"client": "192.168.1.20"})),
        (
            "/clients/192.168.1.20?server=soho",
            ("nar-end-client", {"client": "192.168.1.20", "server": "soho"}),
        ),
        (f"/mappings/{LEASE_ID}", ("nar-end-lease", {"id": LEASE_ID})),
    ],
)
def test_ending(url: str, call: object) -> None:
    core = FakeCore()
    answer = ask(core, "DELETE", url)
    assert (answer.status_code, answer.content) == (204, b"")
    assert core.calls == [call]


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/clients?client=here"),
        ("GET", "/clients?server=a%20b"),
        ("GET", "/clients?limit=0"),
        ("GET", "/mappings?protocol=sctp"),
        ("GET", "/mappings?value=-1"),
        ("GET", "/mappings?cursor=XYZ"),
        ("GET", "/audit?user=%00"),
        ("GET", f"/audit?at={'1' * 36}"),
        ("DELETE", "/clients/all"),
        ("DELETE", "/mappings/tcp"),
    ],
)
def test_what_is_not_allowed_never_reaches_the_core(method: str, url: str) -> None:
    core = FakeCore()
    answer = ask(core, method, url)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"]
    assert core.calls == []


@pytest.mark.parametrize(
    ("method", "url", "code", "status"),
    [
        ("DELETE", "/clients/192.168.1.20", ErrorCode.NOT_FOUND, 404),
        ("DELETE", f"/mappings/{LEASE_ID}", ErrorCode.NOT_FOUND, 404),
        ("GET", "/audit", ErrorCode.REFUSED, 409),
        ("GET", "/audit?at=2026-02-30T00:00:00Z", ErrorCode.INVALID, 422),
    ],
)
def test_refusals_of_the_core(method: str, url: str, code: ErrorCode, status: int) -> None:
    core = FakeCore()
    core.error = ControlError(code, "no", "at")
    answer = ask(core, method, url)
    assert (answer.status_code, answer.json()["field"]) == (status, "at")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/clients"),
        ("GET", "/mappings"),
        ("GET", "/audit"),
        ("DELETE", "/clients/192.168.1.20"),
        ("DELETE", f"/mappings/{LEASE_ID}"),
    ],
)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_nothing_without_the_token(method: str, url: str, token: str | None) -> None:
    core = FakeCore()
    assert ask(core, method, url, token=token).status_code == 401
    assert core.calls == []
