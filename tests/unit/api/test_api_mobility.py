"""The API of the mobility agents, against a core that answers as the real one."""

import asyncio
from typing import Any

import httpx
import pytest

from gateway.api.app import SiteSettings, create_site
from gateway.control.protocol import ControlError, ErrorCode

BINDING = {
    "home_agent": "outside",
    "node": "ann",
    "nai": None,
    "home_address": "10.20.0.10",
    "home_network": "roaming",
    "dynamic": False,
    "care_of_addresses": [
        {
            "address": "192.0.2.7",
            "tunnel": "ip-ip to 192.0.2.7",
            "flags": ["reverse"],
            "lifetime_s": None,
            "expires_in_s": None,
            "nat": False,
            "via_foreign_agent": "192.0.2.1",
        }
    ],
    "lifetime_s": None,
    "registered_for_s": 2.5,
    "expires_in_s": None,
    "zero_overhead": None,
    "registrations": 1,
    "last_code": 0,
}
VISITOR = {
    "foreign_agent": "hall",
    "home_address": "10.20.0.11",
    "home_agent": "10.20.0.1",
    "care_of_address": "10.4.0.1",
    "nai": "x@example.com",
    "interface": "eth2",
    "link_address": None,
    "tunnel": None,
    "flags": ["vpn"],
    "lifetime_s": 60,
    "expires_in_s": 59.0,
    "installed": True,
    "registrations": 1,
    "last_code": 0,
}
NETWORK = {
    "name": "roaming",
    "network": "10.20.0.0/24",
    "interface": None,
    "home_agent": "inside",
    "home_agent_address": "10.20.0.1",
    "placement": "inside",
    "bindings": 4,
    "dynamic_addresses": 12,
    "dynamic_addresses_in_use": 5,
}
DENIED = {
    "id": "1",
    "first_at": "2026-01-01T10:00:00+00:00",
    "last_at": "2026-01-01T10:05:00+00:00",
    "count": 3,
    "node": "ann",
    "source": "198.51.100.7:434",
    "agent": "outside",
    "denied_by": "home agent",
    "code": 131,
    "reason": "its authenticator is wrong",
    "remedy": "compare the keys",
}


class FakeCore:
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, object]]] = []

    async def request(
        self, op: str, args: Any, caller: Any = None, *, timeout_s: Any = None
    ) -> dict[str, object]:
        if caller.credential != "token":
            raise ControlError(ErrorCode.UNAUTHENTICATED, "not valid")
        given = {name: value for name, value in args.items() if value is not None}
        self.calls.append((op, given))
        if given.get("home_address") == "10.20.0.99":
            raise ControlError(ErrorCode.NOT_FOUND, "there is no binding", "home_address")
        items: dict[str, Any] = {
            "bindings": BINDING,
            "visitors": VISITOR,
            "home-networks": NETWORK,
            "registration-failures": DENIED,
        }
        if op == "binding":
            return {**BINDING, "added_later": 1}
        return {"items": [items[op]], "next": None, "total": 1} if op in items else {}


def ask(core: FakeCore, method: str, url: str, *, token: str | None = "token") -> httpx.Response:
    async def run() -> httpx.Response:
        headers = {"Host": "127.0.0.1:8443"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        transport = httpx.ASGITransport(create_site(core, SiteSettings(tls=False)))
        base = "http://127.0.0.1:8443/api/v1"
        async with httpx.AsyncClient(transport=transport, base_url=base, headers=headers) as client:
            return await client.request(method, url)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "op", "item", "args"),
    [
        ("/bindings?node=ann&limit=5", "bindings", BINDING, {"node": "ann", "limit": 5}),
        (
            "/bindings?home_agent=outside&care_of_address=192.0.2.7&cursor=0a14000a",
            "bindings",
            BINDING,
            {
                "home_agent": "outside",
                "care_of_address": "192.0.2.7",
                "cursor": "0a14000a",
                "limit": 100,
            },
        ),
        (
            "/visitors?foreign_agent=hall&home_agent_address=10.20.0.1",
            "visitors",
            VISITOR,
            {"foreign_agent": "hall", "home_agent_address": "10.20.0.1", "limit": 100},
        ),
        ("/home-networks", "home-networks", NETWORK, {}),
        (
            "/registration-failures?who=ann&agent=outside&within_s=9",
            "registration-failures",
            DENIED,
            {"who": "ann", "agent": "outside", "within_s": 9, "limit": 100},
        ),
    ],
)
def test_lists(url: str, op: str, item: dict[str, object], args: dict[str, object]) -> None:
    core = FakeCore()
    answer = ask(core, "GET", url)
    assert answer.status_code == 200
    assert answer.json() == {"items": [item], "next": None, "total": 1}
    assert core.calls == [(op, args)]


def test_one_binding() -> None:
    core = FakeCore()
    assert ask(core, "GET", "/bindings/10.20.0.10?home_agent=outside").json() == BINDING
    assert core.calls == [("binding", {"home_address": "10.20.0.10", "home_agent": "outside"})]


def test_revoking() -> None:
    core = FakeCore()
    answer = ask(core, "DELETE", "/bindings/10.20.0.10")
    assert (answer.status_code, answer.content) == (204, b"")
    assert core.calls == [("revoke-binding", {"home_address": "10.20.0.10"})]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_such_binding(method: str) -> None:
    answer = ask(FakeCore(), method, "/bindings/10.20.0.99")
    assert answer.status_code == 404
    assert answer.json()["field"] == "home_address"


@pytest.mark.parametrize(
    "url",
    [
        "/bindings?home_address=ten",
        "/bindings?limit=201",
        "/bindings/ten",
        "/visitors?home_agent_address=::1",
        "/home-networks?home_agent=a%20b",
        "/registration-failures?within_s=0",
    ],
)
def test_what_is_not_allowed_never_reaches_the_core(url: str) -> None:
    core = FakeCore()
    answer = ask(core, "GET", url)
    assert answer.status_code == 422
    assert answer.json()["field"]
    assert core.calls == []


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/bindings"),
        ("GET", "/bindings/10.20.0.10"),
        ("DELETE", "/bindings/10.20.0.10"),
        ("GET", "/visitors"),
        ("GET", "/home-networks"),
        ("GET", "/registration-failures"),
    ],
)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_nothing_without_the_token(method: str, url: str, token: str | None) -> None:
    core = FakeCore()
    assert ask(core, method, url, token=token).status_code == 401
    assert core.calls == []
