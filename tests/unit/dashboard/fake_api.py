"""A REST server with made-up data that behaves as the gateway's does: sessions, CSRF, ETags, SSE.

Run it to look at the pages without a gateway: ``python tests/unit/dashboard/fake_api.py 8080``.
"""

import json
import mimetypes
import queue
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import fake_data as data
import fake_remote_access as access

DASHBOARD = Path(__file__).resolve().parents[3] / "gateway" / "api" / "dashboard"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
CODE = "ABCDE-FGHJK-LMNPQ-RSTUV"
PASSWORD = "correct horse battery"
QR_TEXT = "https://gw.example.com/d/" + "A" * 43

Document = dict[str, Any]


class FaultError(Exception):
    """Answer with a problem."""

    def __init__(self, status: int, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"type": "urn:gateway:problem:x", "status": status, "detail": detail, **more}


@dataclass
class World:
    """What the fake gateway has."""

    devices: list[Document] = field(default_factory=list)
    objects: dict[str, dict[str, Document]] = field(default_factory=dict)
    failures: list[Document] = field(default_factory=list)
    tokens: list[Document] = field(default_factory=list)
    role: str = "admin"
    configured: bool = True
    logged_in: bool = True
    listeners: list["queue.Queue[Document | None]"] = field(default_factory=list)
    seen: list[tuple[str, str, object]] = field(default_factory=list)
    """Method, path and body of what came, except reading."""
    broken: dict[str, FaultError] = field(default_factory=dict)
    """Paths that answer with a problem."""

    def say(self, name: str, text: str, **fields: object) -> None:
        """Send an event to every page."""
        event = {
            "time": data.ago(0),
            "name": name,
            "severity": "info",
            "text": text,
            "fields": fields,
        }
        for listener in self.listeners:
            listener.put(event)


def usual(devices: int = 60) -> World:
    """A gateway at work."""
    world = World(devices=[data.device(number) for number in range(devices)])
    world.failures = [data.failure(1, "guest@example.net"), data.failure(2, "old-printer")]
    world.objects = {
        "pools": {"staff": _stored({"network": "10.83.112.0/22", "dns": ["10.1.0.53"]})},
        "connections": {
            "staff": _stored(
                {
                    "remote_id": "*@example.com",
                    "pool": "staff",
                    "local_subnets": ["0.0.0.0/0"],
                    "psk": {"secret": True},
                }
            ),
            "branch": {**_stored({"remote_id": "branch.example.com"}), "source": "file"},
        },
        "users": {name: _stored({"groups": ["staff"]}) for name in data.PEOPLE},
        "devices": {
            one["name"]: _stored({"identity": one["identity"], "platform": one["platform"]})
            for one in world.devices[:50]
        },
    }
    world.tokens = [
        {
            "id": "00112233445566aa",
            "name": "prometheus",
            "role": "read-only",
            "created_at": data.ago(9e5),
            "created_by": "admin ann",
            "expires_at": None,
            "expired": False,
            "last_used_at": data.ago(5),
            "last_used_from": "10.1.0.9",
        }
    ]
    return world


def hostile() -> World:
    """Everything that somebody else may name is markup."""
    world = usual(0)
    evil = data.HOSTILE
    world.devices = [
        data.device(number, name=f"{evil}{number}", identity=evil) for number in range(12)
    ]
    for one in world.devices:
        one |= {"user": evil, "connection": evil, "outer": evil, "source": "seen", "note": evil}
    world.failures = [
        {**data.failure(1, evil), "reason": evil, "theirs": evil, "ours": evil, "remedy": evil}
    ]
    for kind in ("users", "devices", "pools"):
        world.objects[kind] = {evil: _stored({"identity": evil, "note": evil, "groups": [evil]})}
    world.tokens = [{**world.tokens[0], "name": evil, "created_by": evil, "last_used_from": evil}]
    return world


def first_run() -> World:
    """A gateway that was just installed."""
    return World(configured=False, logged_in=False)


def _stored(document: Document) -> Document:
    return {
        "version": 1,
        "source": "store",
        "broken": [],
        "document": document,
        "created_at": 1_790_000_000.0,
        "changed_at": 1_790_000_000.0,
    }


def _page(items: list[Document], query: dict[str, str]) -> Document:
    limit = int(query.get("limit", "100"))
    start = int(query.get("cursor", "0"), 16)
    following = start + limit
    return {
        "items": items[start:following],
        "next": f"{following:x}" if following < len(items) else None,
        "total": len(items),
    }


def _bundle(name: str, platform: str) -> Document:
    import segno

    return {
        "device": name,
        "identity": f"{name}@example.com",
        "connection": "devices",
        "platform": platform,
        "link": "/d/" + "A" * 43,
        "url": QR_TEXT,
        "expires_at": 4_000_000_000.0,
        "file_name": f"{name}.sswan",
        "qr_svg": segno.make(QR_TEXT).svg_inline(),
        "qr_holds": "link",
        "serial": "1f",
        "not_after": 4_000_000_000.0,
    }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    world: World

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Silent."""

    def do_GET(self) -> None:
        self._any()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the base's names

    def _any(self) -> None:
        split = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        if not split.path.startswith("/api/v1/"):
            self._file(split.path)
            return
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        body = json.loads(raw) if raw else None
        path = split.path.removeprefix("/api/v1")
        if self.command != "GET":
            self.world.seen.append((self.command, path, body))
        try:
            if path == "/events":
                self._events()
                return
            self._answer(200, *self._route(path, query, body))
        except FaultError as fault:
            self._answer(fault.status, fault.body, None)

    def _file(self, path: str) -> None:
        wanted = (DASHBOARD / (unquote(path).lstrip("/") or "index.html")).resolve()
        if not wanted.is_relative_to(DASHBOARD) or not wanted.is_file():
            self._answer(404, {"detail": "no such file"}, None)
            return
        content = wanted.read_bytes()
        kind = mimetypes.guess_type(wanted.name)[0] or "application/octet-stream"
        self._send(200, content, {"Content-Type": f"{kind}; charset=utf-8"})

    def _answer(self, status: int, body: object, etag: str | None = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if etag:
            headers["ETag"] = etag
        self._send(status, content, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def _events(self) -> None:
        if not self.world.logged_in:
            raise FaultError(401, "Log in.")
        mine: queue.Queue[Document | None] = queue.Queue()
        self.world.listeners.append(mine)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(b": hello\n\n")
            self.wfile.flush()
            while (event := mine.get()) is not None:
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
        except OSError:
            pass
        finally:
            self.world.listeners.remove(mine)

    def _route(self, path: str, query: dict[str, str], body: Any) -> tuple[object, str | None]:
        world = self.world
        if path in world.broken:
            raise world.broken[path]
        public = {("GET", "/setup"), ("POST", "/setup/claim"), ("POST", "/session")}
        if (self.command, path) not in public:
            if not world.logged_in:
                raise FaultError(401, "Log in.")
            if self.command != "GET" and self.headers.get("X-CSRF-Token") != "csrf-token":
                raise FaultError(403, "X-CSRF-Token is missing.")
        for pattern, handler in ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                parts = [unquote(part) for part in found.groups()]
                result = handler(self, world, query, body, *parts)
                return result if isinstance(result, tuple) else (result, None)
        raise FaultError(404, f"There is no {path} here.")


def _session(_self: Handler, world: World, _query: object, _body: object) -> Document:
    return {
        "administrator": "ann",
        "role": world.role,
        "expires_at": data.ago(-3600),
        "csrf": "csrf-token",
    }


def _login(self: Handler, world: World, query: object, body: Document) -> Document:
    if body["password"] != PASSWORD:
        raise FaultError(401, "The name or the password is wrong.")
    world.logged_in = True
    return _session(self, world, query, body)


def _logout(_self: Handler, world: World, _query: object, _body: object) -> None:
    world.logged_in = False


def _setup(_self: Handler, world: World, _query: object, _body: object) -> Document:
    return {
        "needed": not world.configured,
        "name": "gw.example.com",
        "has_connection": world.configured,
        "has_pool": world.configured,
        "provisioning": True,
        "proposed_pool": "10.83.112.0/22",
        "devices": len(world.devices),
    }


def _claim(self: Handler, world: World, query: object, body: Document) -> Document:
    if body["code"] != CODE:
        raise FaultError(401, "The code is wrong or used up.", field="code")
    world.logged_in = True
    return _session(self, world, query, body)


def _basics(_self: Handler, world: World, _query: object, body: Document) -> Document:
    if not re.fullmatch(r"[\d.]+/\d+", body["pool"]):
        raise FaultError(422, "pool: must be a network such as 10.83.112.0/22", field="pool")
    if not body.get("dry_run"):
        world.configured = True
    return {"created": ["pools/devices", "connections/devices"], "changes": []}


def _devices(_self: Handler, world: World, query: dict[str, str], _body: object) -> Document:
    wanted = query.get("q", "").lower()
    found = [
        one
        for one in world.devices
        if (not wanted or wanted in f"{one['name']} {one['identity']} {one['user']}".lower())
        and (not query.get("where") or one["where"] == query["where"])
    ]
    sort = query.get("sort", "name")
    key: Callable[[Document], object] = lambda one: str(one.get(sort.lstrip("-")) or "")  # noqa: E731
    if sort.endswith("traffic"):
        key = lambda one: one["bytes_in"] + one["bytes_out"]  # noqa: E731
    return _page(sorted(found, key=key, reverse=sort.startswith("-")), query)


def _device(_self: Handler, world: World, _query: object, _body: object, name: str) -> Document:
    one = next((one for one in world.devices if one["name"] == name), None)
    if one is None:
        raise FaultError(404, f"There is no device {name}.")
    away = one["where"] == "outside"
    return {
        "note": "",
        **one,
        "mobile_node": None,
        "sessions": ["00000001"] if away else [],
        "ike_sas": [data.ike_sa(1, one["identity"])] if away else [],
        "child_sas": [data.child_sa(1, one["identity"])] if away else [],
        "bindings": [data.binding(1, name)] if away else [],
        "visitors": [],
        "nar_leases": 0,
        "foreign_agent": None,
        "layers": data.LAYERS if away else [],
        "path_mtu": {
            "link": 1500,
            "overhead": 109,
            "inner": 1391,
            "arithmetic": "1500 - 32 (x-MIP) - 57 (ESP) - 20 (i-MIP)",
        },
        "moves": [
            data.move(40, "198.51.0.3:4500", "198.51.0.7:4500", 38.0),
            data.move(4000, "192.0.2.3:4500", "198.51.0.3:4500", None),
        ],
        "recent_failures": [data.failure(1, name)] if one["failures"] else [],
    }


def _act(verb: str) -> Callable[..., object]:
    def act(_self: Handler, world: World, _query: object, body: object, name: str) -> object:
        one = next(one for one in world.devices if one["name"] == name)
        if verb == "block":
            one |= {"blocked": True, "where": "blocked", "place": "offline"}
        if verb == "unblock":
            one |= {"blocked": False, "where": "offline"}
        if verb in {"bundle", "rotate"}:
            platform = body.get("platform") if isinstance(body, dict) else None
            return _bundle(name, platform or one["platform"])
        return {"device": name, "sessions_cut": []}

    return act


def _history(
    _self: Handler, _world: World, query: dict[str, str], _body: object, name: str
) -> Document:
    what = ("connected", "moved", "failed", "disconnected")
    items = [
        {
            "id": str(number),
            "at": data.ago(number * 700),
            "what": what[number % 4],
            "session": "00000001",
            "text": f"{name} {what[number % 4]}",
            "fields": {},
        }
        for number in range(12)
    ]
    return _page(items, query)


def _provision(_self: Handler, world: World, _query: object, body: Document) -> Document:
    if any(one["name"] == body["name"] for one in world.devices):
        raise FaultError(409, f"There is a device {body['name']} already.", field="name")
    one = data.device(5, name=body["name"])
    world.devices.append({**one, "where": "offline", "place": "offline", "mode": None})
    return _bundle(body["name"], body["platform"])


def _kind(world: World, path: str) -> dict[str, Document]:
    return world.objects.setdefault(path.replace("-", "_"), {})


def _objects(
    _self: Handler, world: World, query: dict[str, str], _b: object, path: str
) -> Document:
    found = [
        {"kind": path.replace("-", "_"), "name": name, **one}
        for name, one in sorted(_kind(world, path).items())
        if query.get("q", "") in name
    ]
    return _page(found, query)


def _object(
    _self: Handler, world: World, _query: object, _body: object, path: str, name: str
) -> tuple[object, str]:
    one = _kind(world, path).get(name)
    if one is None:
        raise FaultError(404, f"There is no {path}/{name}.")
    return {"kind": path, "name": name, **one}, f'"{one["version"]}"'


def _plan(path: str, name: str, key: str, old: object, new: object) -> Document:
    cut = [{"session": "1", "peer": "ann@example.com"}] if path == "pools" else []
    change = {
        "kind": "changed",
        "key": f"{path}.{name}.{key}",
        "effect": "new devices get it",
        "old": old,
        "new": new,
        "needs_restart": False,
    }
    return {"object": None, "changes": [change], "sessions_cut": cut, "dry_run": True}


def _check(path: str, document: Document) -> None:
    network = document.get("network")
    if path == "pools" and not re.fullmatch(r"[\d.]+/\d+", str(network)):
        text = f"network = {network}: must be a network such as 10.83.112.0/22"
        raise FaultError(422, text, field="network", errors=[{"field": "network", "message": text}])


def _create(
    _self: Handler, world: World, query: dict[str, str], body: Document, path: str
) -> tuple[object, str]:
    name, document = body["name"], body["document"]
    if name in _kind(world, path):
        raise FaultError(409, f"There is {path}/{name} already.", field="name")
    _check(path, document)
    plan = _plan(path, name, "", None, json.dumps(document))
    if query.get("dry_run") != "true":
        _kind(world, path)[name] = _stored(document)
    return plan, '"1"'


def _versioned(self: Handler, world: World, path: str, name: str) -> Document:
    one = _kind(world, path)[name]
    given = self.headers.get("If-Match")
    if given is None:
        raise FaultError(428, "Send If-Match.")
    if given != f'"{one["version"]}"':
        raise FaultError(412, "Somebody else changed it.")
    return one


def _merge(
    self: Handler, world: World, query: dict[str, str], body: Document, path: str, name: str
) -> tuple[object, str]:
    one = _versioned(self, world, path, name)
    document = {**one["document"], **body}
    document = {key: value for key, value in document.items() if value is not None}
    _check(path, document)
    key = next(iter(body))
    plan = _plan(path, name, key, str(one["document"].get(key)), str(body[key]))
    if query.get("dry_run") != "true":
        one["document"] = document
        one["version"] += 1
    return plan, f'"{one["version"]}"'


def _remove(
    self: Handler, world: World, query: dict[str, str], _body: object, path: str, name: str
) -> Document:
    _versioned(self, world, path, name)
    if query.get("dry_run") != "true":
        del _kind(world, path)[name]
    return _plan(path, name, "", "there", None)


def _token(_self: Handler, world: World, _query: object, body: Document) -> Document:
    view = {
        **(world.tokens or [{}])[0],
        **body,
        "id": f"{len(world.tokens):016x}",
        "last_used_at": None,
    }
    world.tokens.append(view)
    return {**view, "token": "gw_" + "S" * 43}


def _listed(items: Callable[[World], list[Document]]) -> Callable[..., Document]:
    def listed(_self: Handler, world: World, query: dict[str, str], *_rest: object) -> Document:
        return _page(items(world), query)

    return listed


def _said(value: object) -> Callable[..., object]:
    return lambda *_: value


def _away(world: World) -> list[Document]:
    return [one for one in world.devices if one["where"] == "outside"]


def _persons(_world: World) -> list[Document]:
    view = {"version": 1, "created_at": data.ago(9e6), "changed_at": data.ago(9e6)}
    return [
        {"name": "ann", "role": "admin", "last_login_at": data.ago(30), **view},
        {"name": "ops", "role": "operator", "last_login_at": None, **view},
    ]


def _audit(world: World) -> list[Document]:
    evil = world.devices[0]["name"] if world.devices else "x"
    return [
        {
            "id": number,
            "at": data.ago(number * 400),
            "actor": "admin ann",
            "remote": "10.1.0.9",
            "action": "object-merge",
            "target": f"devices/{evil}",
            "outcome": ("done", "refused")[number % 2],
            "before": {"note": "", "identity": evil},
            "after": {"note": evil, "identity": evil},
            "detail": None,
        }
        for number in range(5)
    ]


CA: Document = {
    "enabled": True,
    "authorities": [
        {
            "serial": "01",
            "title": "Gateway CA",
            "not_before": 1_700_000_000.0,
            "not_after": 2_100_000_000.0,
            "has_key": True,
            "external": False,
            "current": True,
            "fingerprint": "ab" * 32,
        }
    ],
    "gateway": {
        "serial": "02",
        "names": ["gw.example.com"],
        "not_before": 1_700_000_000.0,
        "not_after": 2_000_000_000.0,
    },
    "crl_number": 7,
    "crl_next_update": 2_000_000_000.0,
    "pem": "-----BEGIN CERTIFICATE-----\n",
}


def _certificates(world: World) -> list[Document]:
    return [
        {
            "serial": f"{number:040x}",
            "purpose": "device",
            "device": one["name"],
            "identity": one["identity"],
            "not_before": 1_700_000_000.0,
            "not_after": 2_000_000_000.0,
            "issued_at": 1_700_000_000.0,
            "revoked_at": 1_750_000_000.0 if number == 1 else None,
            "reason": "superseded" if number == 1 else None,
            "pem": "",
        }
        for number, one in enumerate(world.devices[:8])
    ]


def _status(_self: Handler, world: World, *_: object) -> Document:
    return {**data.STATUS, "pools": data.STATUS["pools"] if world.objects else []}


def _networks(world: World) -> list[Document]:
    if not world.objects:
        return []
    return [
        {
            "name": "roaming",
            "network": "10.20.0.0/24",
            "interface": None,
            "home_agent": "office",
            "home_agent_address": "10.20.0.1",
            "placement": "inside",
            "bindings": 7,
            "dynamic_addresses": 100,
            "dynamic_addresses_in_use": 12,
        }
    ]


def _denied(world: World) -> list[Document]:
    return [
        {**one, "source": one["remote"], "agent": "office", "denied_by": "home agent", "code": 131}
        for one in world.failures
    ]


def _names(_self: Handler, world: World, *_: object) -> Document:
    if not world.objects:
        raise FaultError(404, "names: nothing is configured that needs it")
    return access.names(world.devices)


ROUTES: list[tuple[str, Callable[..., Any]]] = [
    (r"GET /session", _session),
    (r"POST /session", _login),
    (r"DELETE /session", _logout),
    (r"GET /setup", _setup),
    (r"POST /setup/claim", _claim),
    (r"POST /setup/basics", _basics),
    (r"GET /status", _status),
    (r"GET /topology", lambda _s, world, *_: data.topology(world.devices)),
    (r"GET /devices", _devices),
    (r"GET /devices/([^/]+)", _device),
    (r"GET /devices/[^/]+/traffic", _said(data.traffic())),
    (r"GET /devices/([^/]+)/history", _history),
    (r"GET /devices/[^/]+/captures", _said({"items": [], "next": None, "total": 0})),
    *[
        (rf"POST /devices/([^/]+)/{verb}", _act(verb))
        for verb in ("disconnect", "block", "unblock", "revoke", "rotate", "bundle")
    ],
    (r"POST /provision", _provision),
    (r"GET /config/kinds", lambda *_: {"kinds": data.kinds()}),
    (r"GET /config/([^/]+)", _objects),
    (r"POST /config/([^/]+)", _create),
    (r"GET /config/([^/]+)/([^/]+)", _object),
    (r"PATCH /config/([^/]+)/([^/]+)", _merge),
    (r"DELETE /config/([^/]+)/([^/]+)", _remove),
    (
        r"GET /ike-sas",
        _listed(lambda w: [data.ike_sa(i, one["identity"]) for i, one in enumerate(_away(w))]),
    ),
    (
        r"GET /child-sas",
        _listed(lambda w: [data.child_sa(i, one["identity"]) for i, one in enumerate(_away(w))]),
    ),
    (r"POST /ike-sas/[^/]+/rekey", _said({})),
    (r"DELETE /ike-sas/[^/]+", _said(None)),
    (
        r"GET /bindings",
        _listed(lambda w: [data.binding(i, one["name"]) for i, one in enumerate(_away(w))]),
    ),
    (r"GET /visitors", _listed(lambda w: [data.visitor(i) for i in range(min(4, len(w.devices)))])),
    (r"GET /home-networks", _listed(_networks)),
    (
        r"GET /nar/clients",
        _listed(lambda w: [data.nar_client(i) for i in range(min(3, len(w.devices)))]),
    ),
    (
        r"GET /nar/mappings",
        _listed(lambda w: [data.nar_lease(i) for i in range(min(3, len(w.devices)))]),
    ),
    (
        r"GET /nar/audit",
        _listed(lambda w: [data.nar_lease(i) for i in range(min(3, len(w.devices)))]),
    ),
    (r"GET /leases", _listed(lambda w: access.leases(w.devices))),
    (r"GET /leases/history", _listed(lambda w: access.lease_history(w.devices))),
    (r"DELETE /leases/[^/]+/[^/]+", _said({})),
    (r"GET /reachability", lambda _s, w, *_: access.reachability(bool(w.objects))),
    (r"GET /napt-sessions", _listed(lambda w: access.napt(w.devices))),
    (r"GET /redirects", _listed(lambda w: access.redirects(w.devices))),
    (r"GET /rules", _listed(lambda w: access.rules(w.devices))),
    (r"GET /devices/([^/]+)/rules", lambda _s, _w, _q, _b, name: access.rules_of(name)),
    (r"GET /devices/([^/]+)/rule-test", lambda _s, _w, query, *_: access.rule_test(query)),
    (r"GET /devices/([^/]+)/mtu", lambda _s, _w, _q, _b, name: access.mtu(name)),
    (r"POST /devices/([^/]+)/path-test", lambda _s, _w, _q, _b, name: access.path_test(name)),
    (r"GET /names", _names),
    (r"GET /names/verify", _said(access.VERIFY)),
    (r"GET /ike-failures", _listed(lambda w: w.failures)),
    (r"GET /registration-failures", _listed(_denied)),
    (r"GET /tokens", _listed(lambda w: w.tokens)),
    (r"POST /tokens", _token),
    (r"DELETE /tokens/[^/]+", _said(None)),
    (r"GET /administrators", _listed(_persons)),
    (r"GET /audit", _listed(_audit)),
    (r"GET /ca", _said(CA)),
    (r"GET /certificates", _listed(_certificates)),
    (r"GET /links", _said({"items": [], "next": None, "total": 0})),
]


class FakeApi:
    """The server, running; as a context manager."""

    def __init__(self, world: World, port: int = 0) -> None:
        self.world = world
        handler = type("BoundHandler", (Handler,), {"world": world})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for listener in list(self.world.listeners):
            listener.put(None)
        self._server.shutdown()
        self._server.server_close()


if __name__ == "__main__":
    made = {"usual": usual, "hostile": hostile, "first": first_run, "many": lambda: usual(10_000)}
    with FakeApi(made[(sys.argv[2:] or ["usual"])[0]](), int((sys.argv[1:] or ["8080"])[0])) as api:
        print(api.url)
        threading.Event().wait()
