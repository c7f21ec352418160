"""Every metric is documented, every query uses one that is there, and numbers are the gateway's."""

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from observation_fakes import Chronicle, Clock, Engine, failed, usage

from gateway.appliance.observation.exposition import Metric, Sample, rendered
from gateway.appliance.observation.following import Follower
from gateway.appliance.observation.metric_names import METRICS
from gateway.appliance.observation.metrics import Metrics
from gateway.appliance.observation.register import Register
from gateway.appliance.observation.rings import Rings
from gateway.appliance.observation.sampling import Sampler
from gateway.appliance.observation.tally import GAP_BUCKETS_S, MAX_REASONS, Histogram, Tally
from gateway.cli.status import samples
from gateway.domain.event import Event, Severity

ROOT = Path(__file__).parents[3]
_USED = re.compile(r"\bgateway_[a-z0-9_]+")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def _metric_of(word: str) -> str:
    if word in METRICS:
        return word
    base = _SUFFIX.sub("", word)
    return base if METRICS.get(base, Metric("", "", "")).kind == "histogram" else word


def test_every_metric_is_in_the_documentation_and_no_other() -> None:
    text = (ROOT / "docs" / "observability.md").read_text()
    for metric in METRICS.values():
        labels = ", ".join(f"`{one}`" for one in metric.labels) or "-"
        assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |" in text
    rows = re.findall(r"^\| `(gateway_\w+)` \|", text, re.MULTILINE)
    assert rows == list(METRICS)


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in METRICS.values():
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert re.fullmatch(r"gateway_[a-z0-9_]+", metric.name)
        assert metric.help.endswith(".")


def test_the_dashboard_for_grafana_asks_for_metrics_that_exist() -> None:
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    for query in queries:
        found = _USED.findall(query)
        assert found, query
        assert all(_metric_of(word) in METRICS for word in found), query
        assert query.count("(") == query.count(")")
        for label in re.findall(r"by \(([a-z_, ]+)\)", query):
            labels = {one for word in found for one in METRICS[_metric_of(word)].labels}
            assert set(label.split(", ")) <= labels | {"le"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_alarms_ask_for_metrics_that_exist() -> None:
    text = (ROOT / "deploy" / "prometheus-alerts.yml").read_text()
    rules = re.findall(
        r"- alert: (\w+)\n        expr: >-\n          (.+)\n        for: \d+[mh]\n", text
    )
    assert len(rules) == text.count("- alert:") > 10
    for name, query in rules:
        found = _USED.findall(query.replace('job="gateway"', ""))
        assert found, name
        assert all(_metric_of(word) in METRICS for word in found), name
    assert text.count("remedy:") == len(rules)


class Around(SimpleNamespace):
    """What the core is, as far as metrics look."""


@pytest.fixture
def bed() -> Any:
    clock, engine, chronicle = Clock(), Engine(), Chronicle()
    register, rings, tally = Register(), Rings(), Tally()
    usages: dict[int, Any] = {}
    sampler = Sampler(
        register, rings, chronicle, usage=usages.get, clock=clock, wall_clock=clock.wall
    )
    follower = Follower(
        register, chronicle, engine, lambda: None, clock=clock, wall_clock=clock.wall
    )
    follower.gaps_s = tally.gaps.add
    facts = {
        "ike_sas": 1,
        "counters": {"ike": {"retransmissions": 4, "malformed_messages": 2}},
        "dataplane": {"counters": {"slow_path_accepted": 1}},
        "reloads": {"count": 3, "refused": 1},
        "api": {"state": "running"},
    }
    config = SimpleNamespace(connections={"staff": None, "branch": None})
    for section in ("staff", "branch"):
        config.connections[section] = SimpleNamespace(
            needs_certificate=False,
            certificate=None,
            private_key=None,
            ca_certificates=(),
        )
    config.credentials = SimpleNamespace(certificate=None, private_key=None, ca_certificates=())
    config.provisioning = SimpleNamespace(enabled=False)
    around = Around(
        engine=engine,
        config=lambda: config,
        facts=lambda: facts,
        mobility=lambda: None,
        wall_clock=clock.wall,
        clock=clock,
    )
    observed = SimpleNamespace(
        register=register,
        chronicle=SimpleNamespace(counters={"written": 1, "failures": 0, "lost": 0}, waiting=0),
        sampler=sampler,
        follower=follower,
        tally=tally,
        lag_s=0.01,
        captures_running=0,
    )

    def hear(event: Event) -> None:
        tally.hear(event, clock.wall())
        follower(event)

    def text(**options: Any) -> str:
        metrics = Metrics(observed, around)  # type: ignore[arg-type]
        return asyncio.run(metrics.answer(**{"devices": False, **options}))["text"]

    return SimpleNamespace(
        hear=hear, text=text, engine=engine, usages=usages, sampler=sampler, clock=clock
    )


def test_a_connection_that_is_down_is_there_with_zero(bed: Any) -> None:
    bed.hear(bed.engine.connect("ann"))
    found = samples(bed.text())
    assert found["gateway_connection_up", ("staff",)] == 1
    assert found["gateway_connection_up", ("branch",)] == 0
    assert found["gateway_connection_configured", ("branch",)] == 1
    assert found["gateway_sessions", ("staff",)] == 1
    assert found["gateway_handshakes_total", ("branch",)] == 0
    assert found["gateway_half_open", ()] == 0
    assert found["gateway_reloads_total", ("refused",)] == 1
    assert found["gateway_ike_dropped_total", ("malformed_messages",)] == 2


def test_traffic_is_the_kernel_s_through_rekeyings_and_ends(bed: Any) -> None:
    event = bed.engine.connect("ann")
    bed.hear(event)
    (spi,) = bed.engine.children
    for octets in (100, 250, 250, 700):
        bed.usages[spi] = usage(octets, 2 * octets, octets // 50, 1)
        bed.clock.now += 1.0
        for _ in range(10):
            bed.sampler.turn()
    bed.usages[spi] = usage(900, 2000, 18, 1)
    bed.sampler.ending(spi)
    bed.hear(bed.engine.close(event))
    found = samples(bed.text(devices=True))
    assert found["gateway_traffic_bytes_total", ("staff", "in")] == 900
    assert found["gateway_traffic_bytes_total", ("staff", "out")] == 2000
    assert found["gateway_traffic_packets_total", ("staff", "in")] == 18


def test_failures_are_counted_by_names_of_ours_not_by_what_peers_say(bed: Any) -> None:
    bed.hear(failed("x", notify="NO_PROPOSAL_CHOSEN", connection="staff"))
    bed.hear(failed("x", "user eve: wrong password"))
    for number in range(2 * MAX_REASONS):
        bed.hear(failed("x", f"evil {number}", step=f"IKE_AUTH, {number}", connection="staff"))
        bed.hear(
            Event(
                "registration_denied",
                "",
                Severity.WARNING,
                {"home_agent": f"ha{number}", "code_name": "ha_unknown"},
            )
        )
    text = bed.text()
    found = samples(text)
    assert found["gateway_login_failures_total", ("staff", "IKE_AUTH", "NO_PROPOSAL_CHOSEN")] == 1
    assert found["gateway_login_failures_total", ("", "IKE_AUTH", "AUTHENTICATION_FAILED")] == 1
    assert found["gateway_login_failures_total", ("staff", "IKE_AUTH", "OTHER")] == 400
    assert "evil" not in text
    assert sum(1 for name, _ in found if name == "gateway_registration_failures_total") <= 201


def test_the_gap_is_a_histogram(bed: Any) -> None:
    event = bed.engine.connect("ann")
    bed.hear(event)
    bed.clock.now += 0.3
    bed.hear(bed.engine.move(event, "203.0.113.1:500"))
    found = samples(bed.text())
    assert found["gateway_handover_gap_seconds_bucket", ("0.2",)] == 0
    assert found["gateway_handover_gap_seconds_bucket", ("0.5",)] == 1
    assert found["gateway_handover_gap_seconds_bucket", ("+Inf",)] == 1
    assert found["gateway_handover_gap_seconds_count", ()] == 1
    histogram = Histogram()
    for value in (*GAP_BUCKETS_S, 1e9):
        histogram.add(value)
    assert [count for _, count in histogram.cumulative()] == list(range(1, 12))


def test_h78_names_with_quotes_and_newlines_stay_inside_their_label() -> None:
    metric = Metric("gateway_x", "gauge", "X.", ("name",))
    hostile = 'a"} 1\ngateway_up 0\n\\'
    lines = rendered([(metric, [Sample((hostile,), 1)])]).splitlines()
    assert len(lines) == 3
    assert lines[2] == 'gateway_x{name="a\\"} 1\\ngateway_up 0\\n\\\\"} 1'
