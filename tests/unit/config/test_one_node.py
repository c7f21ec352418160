"""A node judged by itself is judged as the whole configuration would judge it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Config, ConfigError, load
from gateway.config.kinds import Stored
from gateway.config.one_node import with_node
from gateway.config.to_mobility import home_agents

FILE = """
[home_networks.roaming]
network = "10.20.0.0/24"
dynamic = "10.20.0.128/25"

[home_networks.other]
network = "10.21.0.0/24"

[home_agents.office]
address = "10.20.0.1"
placement = "inside"
home_networks = ["roaming"]

[home_agents.far]
address = "10.21.0.1"
placement = "inside"
home_networks = ["other"]
remote = true

[mobile_nodes.first]
home_address = "10.20.0.2"
nai = "first@example.com"
spi = 256
key = "0f1d03c6a94e57b2e06f7c12d5983ba4"

[mobility]
state_dir = "state"
"""
KEYS = ("0f1d03c6a94e57b2e06f7c12d5983ba4", "1f2d03c6a94e57b2e06f7c12d5983ba4", "short")
NODES = st.fixed_dictionaries(
    {},
    optional={
        "home_address": st.sampled_from(["10.20.0.2", "10.20.0.3", "10.20.0.1", "10.21.0.5", "x"]),
        "nai": st.sampled_from(["first@EXAMPLE.com", "ann@example.com"]),
        "spi": st.sampled_from([256, 300, 3]),
        "key": st.sampled_from(KEYS),
        "keys": st.sampled_from(["login", [{"spi": 300, "key": KEYS[1]}], [{"spi": 256}]]),
        "identity": st.sampled_from(["ann@example.com", "bob@example.com", "*"]),
        "home_agents": st.sampled_from([["office"], ["far"], ["none"]]),
        "home_network": st.sampled_from(["roaming", "other", "none"]),
        "key_file": st.just("missing.key"),
    },
)
GOOD: dict[str, Any] = {"home_address": "10.20.0.9", "spi": 256, "key": KEYS[1]}


def judged(path: Path, nodes: dict[str, Any]) -> Config | None:
    try:
        objects = [Stored("mobile_nodes", name, one) for name, one in nodes.items()]
        return load(path, objects=objects)
    except ConfigError:
        return None


def tried(config: Config, name: str, document: Any) -> tuple[Config | None, list[str]]:
    try:
        return with_node(config, name, document), []
    except ConfigError as error:
        return None, [one.key for one in error.problems]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), NODES)), max_size=6))
def test_by_itself_as_in_the_whole(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.toml"
        path.write_text(FILE)
        path.chmod(0o600)
        nodes: dict[str, Any] = {"good": GOOD}
        config = judged(path, nodes)
        assert config is not None
        for name, document in steps:
            wanted = {key: one for key, one in nodes.items() if key != name}
            if document is not None:
                wanted[name] = document
            whole = judged(path, wanted)
            found, faults = tried(config, name, document)
            assert (found is None) == (whole is None), faults
            if found is None or whole is None:
                own = (f"mobile_nodes/{name}", "mobility.")
                assert any(key.startswith(own) for key in faults)
                continue
            assert found.mobile_nodes == whole.mobile_nodes
            config, nodes = found, wanted
        again = judged(path, nodes)
        assert again is not None
        for one, other in zip(home_agents(config), home_agents(again), strict=True):
            assert one.name == other.name
            for section in config.mobile_nodes.values():
                address = section.home_address
                if address is not None:
                    mine, theirs = (a.nodes.by_home_address(address) for a in (one, other))
                    assert mine == theirs
