"""Whatever is created, changed and deleted: it is as if the same stood in the file."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects_bench import FILE, PSK, opened

from gateway.config.difference import difference
from gateway.config.kinds import Stored
from gateway.config.loader import load
from gateway.config.merging import merged
from gateway.control.protocol import ControlError

NAMES = ("a", "b", "c")
POOLS = st.fixed_dictionaries(
    {"network": st.sampled_from(["10.90.0.0/22", "10.91.0.0/22", "10.90.1.0/24", "bad"])},
    optional={"dns": st.just(["10.1.0.53"])},
)
CONNECTIONS = st.fixed_dictionaries(
    {
        "remote_id": st.sampled_from(["*@one.example", "*@two.example", "x@three.example"]),
        "local_auth": st.just("psk"),
        "remote_auth": st.just("psk"),
        "psk": st.sampled_from([PSK, PSK + " another", {"secret": True}]),
        "pool": st.sampled_from(NAMES),
        "local_subnets": st.just(["10.1.0.0/16"]),
    },
    optional={"liveness_s": st.sampled_from([0, 60, -1]), "lifetimes": st.just({"jitter": 0.2})},
)
STEPS = st.one_of(
    st.tuples(st.just("create"), st.just("pools"), st.sampled_from(NAMES), POOLS),
    st.tuples(st.just("replace"), st.just("pools"), st.sampled_from(NAMES), POOLS),
    st.tuples(st.just("create"), st.just("connections"), st.sampled_from(NAMES), CONNECTIONS),
    st.tuples(st.just("replace"), st.just("connections"), st.sampled_from(NAMES), CONNECTIONS),
    st.tuples(
        st.just("merge"),
        st.just("connections"),
        st.sampled_from(NAMES),
        st.sampled_from([{"liveness_s": 90}, {"liveness_s": None}, {"lifetimes": {"jitter": 0.1}}]),
    ),
    st.tuples(
        st.just("delete"),
        st.sampled_from(["pools", "connections"]),
        st.sampled_from(NAMES),
        st.just({}),
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=14))
def test_any_changes_make_what_the_same_file_would(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_compare(Path(folder), steps))


async def _compare(folder: Path, steps: list[Any]) -> None:
    async with opened(folder) as bench:
        for op, kind, name, document in steps:
            try:
                if op == "delete":
                    await bench.objects.delete(kind, name)
                else:
                    await getattr(bench.objects, op)(kind, name, document)
            except ControlError:
                continue
        # In the order of their names, as the configuration has them, whichever came first.
        objects = sorted(bench.administration.known.heavy(), key=lambda one: one.name)
        live = bench.config
        store_tables = merged(bench.administration.source.tables, objects)  # type: ignore[union-attr]
        same = load(bench.path, tables=store_tables)
        assert difference(live, same) == []
        assert live.connections == same.connections
        assert list(live.pools) == list(same.pools)
        assert list(live.connections) == list(same.connections)
        shown = json.dumps([await bench.ask("objects", kind="connections")])
        assert PSK not in shown
    async with opened(folder) as bench:
        assert not bench.config.broken
        assert difference(live, bench.config) == []
        assert live.connections == bench.config.connections


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), POOLS, max_size=3),
    st.dictionaries(st.sampled_from(NAMES), CONNECTIONS, max_size=3),
)
def test_whatever_is_stored_the_gateway_starts(pools: Any, connections: Any) -> None:
    objects = [Stored("pools", name, one) for name, one in pools.items()]
    objects += [Stored("connections", name, one) for name, one in connections.items()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.toml"
        path.write_text(FILE)
        config = load(path, objects=objects, required=())
        wanted = {(one.kind, one.name) for one in objects}
        there = {("pools", name) for name in config.pools}
        there |= {("connections", name) for name in config.connections}
        assert there | set(config.broken) == wanted
        assert not there & set(config.broken)
        for (kind, name), problems in config.broken.items():
            assert problems
            assert all(one.key.startswith(f"{kind}/{name}") for one in problems)
