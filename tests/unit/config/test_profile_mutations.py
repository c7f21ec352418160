"""Whatever is wrong in a profile, the error names the key; nothing else ever comes out."""

import copy
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.config.problem import ConfigError
from gateway.config.profile import (
    DataplanePart,
    DetectionPart,
    GatewayPart,
    HintsPart,
    HomeAgentPart,
    LoginPart,
    NetworkPart,
    OutsidePart,
    ProcessPart,
    load_profile,
)
from gateway.config.to_node import connection_policy, node_policy, node_settings

SECRET = "0f1d03c6a94e57b2e06f7c12d5983ba4"
GOOD: dict[str, dict[str, object]] = {
    "profile": {"name": "ann", "kill_switch": "always", "log_level": "debug"},
    "gateway": {
        "address": "192.0.2.1",
        "identity": "gw.example.com",
        "port": 500,
        "tcp_ports": [443],
        "version": 2,
        "ike_proposals": ["aes256gcm16-prfsha384-x25519"],
        "vpn_fa": True,
        "liveness_s": 20,
    },
    "login": {"method": "psk", "identity": "ann@example.com", "psk": "a rather long secret text"},
    "inside": {
        "home_agent": "10.20.0.1",
        "home_address": "10.20.0.77",
        "home_network": "10.20.0.0/24",
        "spi": 256,
        "key": SECRET,
        "algorithm": "hmac-sha256",
        "replay": "nonces",
        "nai": "ann@example.com",
    },
    "outside": {
        "home_agent": "198.51.100.2",
        "home_address": "198.51.100.77",
        "spi": 257,
        "key": SECRET[::-1],
        "force_udp": False,
        "zero_overhead": True,
    },
    "detection": {"retransmit_first_s": 0.5, "retransmit_max_s": 4, "monitor_tries_s": 20},
    "hints": {"domains": ["corp.example.com"], "router_link_addresses": ["00:16:3e:0a:1b:2c"]},
    "network": {
        "interfaces": ["eth*"],
        "modes": ["home", "c", "vc"],
        "networks": ["10.0.0.0/8"],
        "direct_networks": ["192.168.0.0/16"],
        "dhcp_command": ["udhcpc", "-i", "{interface}"],
        "accept_inside": ["tcp/22 from 10.0.0.0/8"],
        "portal_probe": "http://connectivity.example.com/generate_204",
        "mtu": 1400,
    },
}
VALUES = st.one_of(
    st.sampled_from(
        [
            "",
            "-",
            "192.0.2.1",
            "10.20.0.1",
            "2001:db8::1",
            "224.0.0.1",
            "10.0.0.0/8",
            "10.0.0.1/8",
            "0.0.0.0/0",
            "tcp/22 from 10.0.0.0/8",
            "sctp/1 from 10.0.0.0/8",
            "vc",
            "psk",
            "certificate",
            "a\0b",
            "93be1f07c2d84a65b0e9716a2fcd5830",
            "00" * 20,
        ]
    ),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.just({}),
    st.lists(
        st.one_of(st.text(st.characters(codec="utf-8"), max_size=8), st.integers(-5, 70_000)),
        max_size=3,
    ),
)
SECTIONS: dict[str, type[BaseModel]] = {
    "profile": ProcessPart,
    "gateway": GatewayPart,
    "login": LoginPart,
    "inside": HomeAgentPart,
    "outside": OutsidePart,
    "detection": DetectionPart,
    "hints": HintsPart,
    "network": NetworkPart,
    "dataplane": DataplanePart,
}
KEYS = [(part, key) for part, keys in GOOD.items() for key in keys]


def toml(tables: dict[str, dict[str, object]]) -> str:
    return "\n".join(
        f"[{part}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in keys.items())
        for part, keys in tables.items()
    )


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def refusal(path: Path) -> ConfigError | None:
    """Why a profile does not load; one that does can be used."""
    try:
        profile = load_profile(path)
    except ConfigError as error:
        return error
    node_policy(profile)
    node_settings(profile)
    connection_policy(profile)
    return None


def check(path: Path, tables: dict[str, dict[str, object]]) -> None:
    """It loads and can be used, or every problem names a key of the profile."""
    path.write_text(toml(tables))
    path.chmod(0o600)
    refused = refusal(path)
    problems = refused.problems if refused else []
    assert refused is None or problems
    for problem in problems:
        part, _, key = re.sub(r"\[[0-9]+\]", "", problem.key).partition(".")
        fields = SECTIONS[part].model_fields
        assert not key or key in fields, problem
        assert problem.why
        assert "\n" not in str(problem)
        assert SECRET not in str(problem)
        assert "connections." not in str(problem)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles") / "profile.toml"


def test_it_is_good(path: Path) -> None:
    path.write_text(toml(GOOD))
    path.chmod(0o600)
    assert load_profile(path).warnings == ()


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(KEYS), VALUES)
def test_one_value_changed(path: Path, where: tuple[str, str], value: object) -> None:
    tables = copy.deepcopy(GOOD)
    tables[where[0]][where[1]] = value
    check(path, tables)


@pytest.mark.parametrize(("part", "key"), KEYS)
def test_a_wrong_type_is_named_exactly(path: Path, part: str, key: str) -> None:
    tables = copy.deepcopy(GOOD)
    tables[part][key] = {}
    path.write_text(toml(tables))
    with pytest.raises(ConfigError) as refused:
        load_profile(path)
    assert {p.key.partition("[")[0] for p in refused.value.problems} == {f"{part}.{key}"}


@pytest.mark.parametrize(("part", "key"), KEYS)
def test_a_misspelt_key_is_named(path: Path, part: str, key: str) -> None:
    tables = copy.deepcopy(GOOD)
    tables[part][f"{key}x"] = tables[part].pop(key)
    path.write_text(toml(tables))
    with pytest.raises(ConfigError) as refused:
        load_profile(path)
    assert f"{part}.{key}x" in {problem.key for problem in refused.value.problems}
    assert SECRET not in str(refused.value)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sets(st.sampled_from(KEYS), min_size=1, max_size=6))
def test_keys_taken_away(path: Path, gone: set[tuple[str, str]]) -> None:
    tables = copy.deepcopy(GOOD)
    for part, key in gone:
        del tables[part][key]
    check(path, tables)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sets(st.sampled_from(sorted(GOOD)), min_size=1, max_size=6))
def test_tables_taken_away(path: Path, gone: set[str]) -> None:
    check(path, {part: keys for part, keys in GOOD.items() if part not in gone})
