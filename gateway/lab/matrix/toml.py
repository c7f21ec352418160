"""gateway.toml of our own gateway for a row, for either side of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gateway.lab import plan
from gateway.lab.matrix import world
from gateway.lab.matrix.cells import Auth, Configuration, Event, Exchange, Role, Row

NAME = "matrix"

HEAD = """
[gateway]
name = "{name}"
runtime_dir = "{folder}"
log_format = "json"
log_level = "{level}"

[api]
enabled = false

[ike]
listen = ["{listen}"]
retransmit_first_s = 0.5
retransmit_factor = 1.5
retransmit_tries = 4
fragment_size = 1100

[pools.inner]
network = "{pool}"
dns = ["{dns}"]
"""


def head(host: str, folder: Path, level: str = "debug") -> str:
    """What every row shares."""
    return HEAD.format(
        name=world.RESPONDER_ID,
        folder=folder,
        level=level,
        listen=world.RESPONDER if host == "gw" else "0.0.0.0",
        pool=world.POOL,
        dns=plan.SERVER,
    )


def table(name: str, keys: Mapping[str, object]) -> str:
    """A table; values that are mappings become tables below it."""
    lines = [f"\n[{name}]"]
    below = ""
    for key, value in keys.items():
        if isinstance(value, Mapping):
            below += table(f"{name}.{key}", value)
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n" + below


def connection(row: Row, role: Role, files: Mapping[str, str]) -> str:
    """The table of the connection `matrix`; `files` are paths of ca, certificate and key."""
    opens = role is Role.INITIATOR
    suite = world.suite(row)
    keys: dict[str, object] = {
        "local_id": world.INITIATOR_ID if opens else world.RESPONDER_ID,
        "remote_id": world.RESPONDER_ID if opens else world.INITIATOR_ID,
        "ike_proposals": [suite.ike],
        "esp_proposals": [suite.esp],
        "mobike": Event.INITIATOR_MOVES in row.events,
        **_proof(row, role, files),
        **(_initiator(row) if opens else _responder(row)),
    }
    if row.version == 1:
        keys["version"] = 1
        exchange = row.exchange if opens else world.responder_exchange(row)
        keys["v1_exchange"] = "aggressive" if exchange is Exchange.AGGRESSIVE else "main"
        if world.asks_for_address(row):
            push = row.configuration is Configuration.PUSH
            keys["v1_config_mode"] = "push" if push else "pull"
    if Event.PEER_DIES in row.events:
        keys["liveness_s"] = 2
    return table(f"connections.{NAME}", keys)


def _initiator(row: Row) -> dict[str, object]:
    keys: dict[str, object] = {
        "remote": str(world.RESPONDER),
        "remote_subnets": [world.INTRANET],
    }
    if world.asks_for_address(row):
        keys["request_inner_address"] = True
    else:
        keys["local_subnets"] = [f"{world.SITE}/32"]
    return keys


def _responder(row: Row) -> dict[str, object]:
    keys: dict[str, object] = {"local_subnets": [world.INTRANET]}
    if world.asks_for_address(row):
        keys["pool"] = "inner"
    else:
        keys["remote_subnets"] = [f"{world.SITE}/32"]
    return keys


def _proof(row: Row, role: Role, files: Mapping[str, str]) -> dict[str, object]:
    opens = role is Role.INITIATOR
    keys: dict[str, object] = {}
    if row.auth in {Auth.PSK, Auth.XAUTH_PSK}:
        keys |= {"local_auth": "psk", "remote_auth": "psk"}
        keys["psk"] = world.secret(row) if opens else world.SECRET
    else:
        keys |= {"local_auth": "certificate", "remote_auth": "certificate"}
    if "certificate" in files:
        keys |= {"certificate": files["certificate"], "private_key": files["key"]}
    if "ca" in files:
        keys["ca_certificates"] = [files["ca"]]
    return keys
