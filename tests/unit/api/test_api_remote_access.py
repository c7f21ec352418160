"""Remote access by REST, against a live gateway: objects, what is in force, the audit."""

from typing import Any

import httpx
from live_gateway import Live


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in answer.text


def test_a_rule_is_in_force_when_its_answer_comes(live: Live) -> None:
    document = {"users": ["ann"], "protocols": ["tcp"], "ports": [443, "8000-8099"]}
    with live.client() as client:
        made = client.post("/api/v1/config/rules", json={"name": "web", "document": document})
        assert ok(made, 201)["object"]["name"] == "web"
        try:
            shown = ok(client.get("/api/v1/config/rules/web"))
            assert shown["document"]["ports"] == [443, "8000-8099"]
            rules = ok(client.get("/api/v1/rules", params={"q": "web"}))
            assert [one["name"] for one in rules["items"]] == ["web"]
            assert "tcp" in rules["items"][0]["words"]
            assert ok(client.get("/api/v1/rules", params={"q": "nothing-like-it"}))["total"] == 0
        finally:
            ok(client.delete("/api/v1/config/rules/web", headers={"If-Match": "*"}))
        assert ok(client.get("/api/v1/rules", params={"q": "web"}))["total"] == 0
        audit = ok(client.get("/api/v1/audit", params={"target": "rules/web"}))
    assert len(audit["items"]) >= 2


def test_h78_what_does_not_fit_is_refused_at_its_field(live: Live) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("rules", {"users": ["ann"], "ports": [80]}, "needs protocols"),
        ("rules", {"protocols": ["tpc"]}, "choose one of icmp"),
        ("rules", {"times": ["mon-fri"]}, "mon-fri"),
        ("redirects", {"device": "cam", "ports": "0"}, "1 to 65535"),
        ("redirects", {"device": "cam", "ports": "1-9", "to_port": 65535}, "too high"),
        ("translations", {"network": "10.1.0.0/24", "shown_as": "10.2.0.0/25"}, "give a /24"),
        ("translations", {"network": "10.9.0.0/24", "shown_as": "10.2.0.0/24"}, "pools.road"),
        ("napt", {"addresses": ["10.1.0.9-10.1.0.1"]}, "smaller address first"),
        ("bridges", {"interface": "gw0", "address": "10.1.0.1"}, "xfrm_interface"),
        ("profiles", {"groups": ["g"], "rules": ["none"]}, "no such table"),
    ]
    with live.client() as client:
        for kind, document, words in wrong:
            answer = client.post(
                f"/api/v1/config/{kind}?dry_run=true", json={"name": "x", "document": document}
            )
            assert answer.status_code == 422, (kind, document, answer.text)
            assert words in answer.text, (kind, document, answer.text)


def test_what_others_name_is_not_deleted(live: Live) -> None:
    profile = {"groups": ["g"], "rules": ["first"]}
    with live.client() as client:
        rule = {"name": "first", "document": {"protocols": ["udp"]}}
        ok(client.post("/api/v1/config/rules", json=rule), 201)
        ok(client.post("/api/v1/config/profiles", json={"name": "p", "document": profile}), 201)
        everything = {"If-Match": "*"}
        answer = client.delete("/api/v1/config/rules/first", headers=everything)
        assert answer.status_code in {409, 422}, answer.text
        assert "profiles" in answer.text
        ok(client.delete("/api/v1/config/profiles/p", headers=everything))
        ok(client.delete("/api/v1/config/rules/first", headers=everything))


def test_what_operators_do_is_in_the_audit_also_when_it_is_refused(live: Live) -> None:
    with live.client() as client:
        answer = client.delete("/api/v1/leases/road/10.9.0.200")
        refused(answer, answer.status_code, "10.9.0.200")
        assert answer.status_code in {404, 409}
        refused(client.post("/api/v1/devices/nobody-has-this/path-test"), 404)
        audit = ok(client.get("/api/v1/audit"))["items"][:5]
    found = {(one["action"], one["target"], one["outcome"]) for one in audit}
    assert ("lease-release", "10.9.0.200", "refused") in found
    assert ("path-test", "nobody-has-this", "refused") in found


def test_what_is_not_there_says_so(live: Live) -> None:
    with live.client() as client:
        for path in ("rules", "mtu", "rule-test?address=10.1.0.1&protocol=6"):
            refused(client.get(f"/api/v1/devices/nobody-has-this/{path}"), 404, "nobody-has-this")
        refused(client.post("/api/v1/devices/nobody-has-this/path-test"), 404)
        assert client.get("/api/v1/redirects").json()["items"] == []
        assert client.get("/api/v1/names").json()["forwarder"]["state"] == "off"
        assert ok(client.get("/api/v1/leases", params={"pool": "road"}))["next"] is None


def test_h78_arguments_are_bounded(live: Live) -> None:
    wrong = [
        "leases?limit=0",
        "leases?limit=201",
        "leases?pool=%00",
        "leases?q=" + "x" * 254,
        "leases/history?address=10.0.0.0/8",
        "leases/history?cursor=" + "f" * 300,
        "devices/x/rule-test?address=10.1.0.1&protocol=0",
        "devices/x/rule-test?address=10.1.0.1&protocol=6&port=65536",
        "devices/x/rule-test?address=zz&protocol=6",
        "devices/x/rule-test?address=10.1.0.1&protocol=6&direction=up",
    ]
    with live.client() as client:
        for path in wrong:
            refused(client.get(f"/api/v1/{path}"), 422)
        for path in ("leases/road/999.1.1.1", "leases/road/::gg", "leases/road/" + "1" * 60):
            answer = client.delete(f"/api/v1/{path}")
            assert answer.status_code in {404, 422}, answer.text
