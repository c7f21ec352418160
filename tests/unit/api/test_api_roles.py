"""Who may do what: every route of the OpenAPI document with every role, against a live gateway."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_gateway import Live

DOCUMENT = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())
RANKS = {"nobody": 0, "read-only": 1, "operator": 2, "admin": 3}

ROLES: dict[tuple[str, str], str] = {
    ("GET", "/api/v1/health"): "nobody",
    ("GET", "/api/v1/healthz"): "nobody",
    ("GET", "/api/v1/status"): "read-only",
    ("GET", "/api/v1/ike-sas"): "read-only",
    ("GET", "/api/v1/ike-sas/{ike_sa}"): "read-only",
    ("DELETE", "/api/v1/ike-sas/{ike_sa}"): "operator",
    ("POST", "/api/v1/ike-sas/{ike_sa}/rekey"): "operator",
    ("POST", "/api/v1/connections/{connection}/initiate"): "operator",
    ("GET", "/api/v1/child-sas"): "read-only",
    ("GET", "/api/v1/ike-failures"): "read-only",
    ("GET", "/api/v1/bindings"): "read-only",
    ("GET", "/api/v1/bindings/{home_address}"): "read-only",
    ("DELETE", "/api/v1/bindings/{home_address}"): "operator",
    ("GET", "/api/v1/visitors"): "read-only",
    ("GET", "/api/v1/home-networks"): "read-only",
    ("GET", "/api/v1/registration-failures"): "read-only",
    ("GET", "/api/v1/nar/clients"): "read-only",
    ("DELETE", "/api/v1/nar/clients/{client}"): "operator",
    ("GET", "/api/v1/nar/mappings"): "read-only",
    ("DELETE", "/api/v1/nar/mappings/{lease}"): "operator",
    ("GET", "/api/v1/nar/audit"): "read-only",
    ("POST", "/api/v1/reload"): "admin",
    ("GET", "/api/v1/events"): "read-only",
    ("GET", "/api/v1/captures"): "admin",
    ("GET", "/api/v1/devices/{name}/captures"): "admin",
    ("POST", "/api/v1/devices/{name}/captures"): "admin",
    ("POST", "/api/v1/captures/{capture}/stop"): "admin",
    ("POST", "/api/v1/devices/{name}/captures/{capture}/stop"): "admin",
    ("GET", "/api/v1/captures/{capture}"): "admin",
    ("GET", "/api/v1/devices/{name}/captures/{capture}"): "admin",
    ("DELETE", "/api/v1/captures/{capture}"): "admin",
    ("DELETE", "/api/v1/devices/{name}/captures/{capture}"): "admin",
    ("POST", "/api/v1/support"): "admin",
    ("GET", "/api/v1/devices"): "read-only",
    ("GET", "/api/v1/devices/{name}"): "read-only",
    ("GET", "/api/v1/topology"): "read-only",
    ("GET", "/api/v1/devices/{name}/traffic"): "read-only",
    ("GET", "/api/v1/devices/{name}/history"): "read-only",
    ("GET", "/api/v1/leases"): "read-only",
    ("GET", "/api/v1/leases/history"): "read-only",
    ("DELETE", "/api/v1/leases/{pool}/{address}"): "operator",
    ("GET", "/api/v1/reachability"): "read-only",
    ("GET", "/api/v1/napt-sessions"): "read-only",
    ("GET", "/api/v1/redirects"): "read-only",
    ("GET", "/api/v1/rules"): "read-only",
    ("GET", "/api/v1/devices/{name}/rules"): "read-only",
    ("GET", "/api/v1/devices/{name}/rule-test"): "read-only",
    ("GET", "/api/v1/names"): "read-only",
    ("GET", "/api/v1/names/verify"): "read-only",
    ("GET", "/api/v1/devices/{name}/mtu"): "read-only",
    ("POST", "/api/v1/devices/{name}/path-test"): "operator",
    ("POST", "/api/v1/devices/{name}/block"): "operator",
    ("POST", "/api/v1/devices/{name}/unblock"): "operator",
    ("POST", "/api/v1/devices/{name}/disconnect"): "operator",
    ("POST", "/api/v1/devices/{name}/revoke"): "admin",
    ("POST", "/api/v1/devices/{name}/bundle"): "admin",
    ("POST", "/api/v1/devices/{name}/rotate"): "admin",
    ("GET", "/api/v1/config/kinds"): "read-only",
    ("GET", "/api/v1/config/{kind}"): "read-only",
    ("POST", "/api/v1/config/{kind}"): "admin",
    ("GET", "/api/v1/config/{kind}/{name}"): "read-only",
    ("PUT", "/api/v1/config/{kind}/{name}"): "admin",
    ("PATCH", "/api/v1/config/{kind}/{name}"): "admin",
    ("DELETE", "/api/v1/config/{kind}/{name}"): "admin",
    ("POST", "/api/v1/provision"): "admin",
    ("GET", "/api/v1/links"): "read-only",
    ("GET", "/api/v1/ca"): "read-only",
    ("POST", "/api/v1/ca"): "admin",
    ("POST", "/api/v1/ca/import"): "admin",
    ("GET", "/api/v1/crl"): "read-only",
    ("GET", "/api/v1/crl.pem"): "read-only",
    ("GET", "/api/v1/certificates"): "read-only",
    ("POST", "/api/v1/certificates/{serial}/revoke"): "admin",
    ("GET", "/api/v1/store"): "read-only",
    ("POST", "/api/v1/backup"): "admin",
    ("POST", "/api/v1/export"): "admin",
    ("POST", "/api/v1/import"): "admin",
    ("POST", "/api/v1/session"): "nobody",
    ("GET", "/api/v1/session"): "read-only",
    ("DELETE", "/api/v1/session"): "read-only",
    ("PUT", "/api/v1/session/password"): "read-only",
    ("GET", "/api/v1/setup"): "nobody",
    ("POST", "/api/v1/setup/claim"): "nobody",
    ("POST", "/api/v1/setup/basics"): "admin",
    ("GET", "/api/v1/tokens"): "admin",
    ("POST", "/api/v1/tokens"): "admin",
    ("DELETE", "/api/v1/tokens/{token}"): "admin",
    ("GET", "/api/v1/administrators"): "admin",
    ("POST", "/api/v1/administrators"): "admin",
    ("PATCH", "/api/v1/administrators/{name}"): "admin",
    ("DELETE", "/api/v1/administrators/{name}"): "admin",
    ("GET", "/api/v1/audit"): "read-only",
    ("GET", "/metrics"): "read-only",
    ("GET", "/d/{token}"): "nobody",
    ("POST", "/d/{token}"): "nobody",
}
"""Written by hand: a route that is not here, or has another role in the code, fails."""

PATH_VALUES = {
    "ike_sa": "0" * 16 + "_" + "1" * 16,
    "connection": "nowhere",
    "home_address": "10.20.0.99",
    "client": "10.20.0.99",
    "lease": "tcp,192.0.2.1,80,any,any",
    "capture": "0" * 16,
    "name": "nobody-has-this",
    "kind": "pools",
    "pool": "road",
    "address": "10.9.0.77",
    "serial": "ff",
    "token": "0" * 16,
}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/v1/config/{kind}"): {"name": "a b", "document": {"no": "such field"}},
    ("PUT", "/api/v1/config/{kind}/{name}"): {},
    ("PATCH", "/api/v1/config/{kind}/{name}"): {},
    ("POST", "/api/v1/provision"): {"name": "x", "platform": "other", "connection": "nowhere"},
    ("POST", "/api/v1/ca"): {"name": "Another CA"},
    ("POST", "/api/v1/ca/import"): {"certificate": "no PEM"},
    ("POST", "/api/v1/session"): {"name": "nobody", "password": "not-a-password"},
    ("PUT", "/api/v1/session/password"): {"current": "x", "password": "long enough to be one"},
    ("POST", "/api/v1/setup/claim"): {"code": "x", "name": "x", "password": "long enough 1"},
    ("POST", "/api/v1/setup/basics"): {"dry_run": True},
    ("POST", "/api/v1/tokens"): {"name": "roles", "role": "read-only"},
    ("POST", "/api/v1/administrators"): {"name": "roles", "role": "operator", "password": "x"},
    ("PATCH", "/api/v1/administrators/{name}"): {"role": "operator"},
}

QUERIES: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/api/v1/devices/{name}/rule-test"): {"address": "10.1.0.1", "protocol": 6},
}


def routes() -> list[tuple[str, str]]:
    return [
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    ]


def test_every_route_is_in_the_table_with_the_role_of_the_document() -> None:
    found = {
        (method.upper(), path): operation["x-role"]
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert found == ROLES


@pytest.fixture(scope="module")
def tokens(live: Live) -> dict[str, str]:
    """One token of each role."""
    found = {}
    with live.client() as client:
        for role in ("read-only", "operator", "admin"):
            answer = client.post("/api/v1/tokens", json={"name": f"t-{role}", "role": role})
            assert answer.status_code == 201, answer.text
            found[role] = answer.json()["token"]
    return found


def ask(live: Live, route: tuple[str, str], token: str | None) -> httpx.Response:
    method, path = route
    values = dict(PATH_VALUES)
    if path.startswith("/d/"):
        values["token"] = "x" * 43
    for name, value in values.items():
        path = path.replace("{" + name + "}", value)
    headers = {} if method in {"GET", "POST"} else {"If-Match": '"1"'}
    given: dict[str, Any] = {"json": BODIES[route]} if route in BODIES else {}
    given |= {"params": QUERIES[route]} if route in QUERIES else {}
    if route == ("POST", "/api/v1/import"):
        given = {"content": b"no export"}
    with (
        live.client(token, headers=headers) as client,
        client.stream(method, path, **given) as answer,
    ):
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.read()
        return answer


@pytest.mark.parametrize("route", sorted(ROLES), ids=" ".join)
def test_a_route_lets_its_role_in_and_nobody_below(
    live: Live, tokens: dict[str, str], route: tuple[str, str]
) -> None:
    needed = ROLES[route]
    shown: dict[str, str | None] = {"nobody": None, **tokens}
    for role, token in shown.items():
        # Logging in and claiming answer 401 to what is wrong, whoever asks.
        open_door = route in {("POST", "/api/v1/session"), ("POST", "/api/v1/setup/claim")}
        answer = ask(live, route, token)
        if RANKS[role] >= RANKS[needed]:
            assert answer.status_code not in ({403} if open_door else {401, 403}), (role, answer)
            assert answer.status_code < 500 or answer.status_code == 503, (role, answer.text)
        else:
            assert answer.status_code == (401 if role == "nobody" else 403), (role, answer)
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("route", sorted(ROLES), ids=" ".join)
def test_h78_a_wrong_token_opens_nothing(live: Live, route: tuple[str, str]) -> None:
    answer = ask(live, route, "gw_" + "A" * 43)
    assert answer.status_code in {401, 429}, answer.status_code
    if answer.status_code == 429:
        assert int(answer.headers["retry-after"]) >= 1
