"""gateway.toml of our own gateway for a row, for either side of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gateway.lab import plan
from gateway.lab.matrix import world
from gateway.lab.matrix.cells import Auth, Configuration, Event, Exchange, Fault, Role, Row

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
retransmit_factor = 1.8
retransmit_tries = 5
fragment_size = 1100

[pools.inner]
network = "{pool}"
dns = ["{dns}"]

[users]
file = "{folder}/users.toml"

[radius.matrix.servers.one]
address = "{dns}"
secret_file = "{folder}/radius.secret"
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
        exchange = row.exchange if opens else world.responder_exchange(row)
        keys |= {"ike_version": 1, "exchange": exchange.name.lower()}
        keys["config_mode"] = "push" if row.configuration is Configuration.PUSH else "pull"
        if exchange is Exchange.AGGRESSIVE and keys["local_auth"] == "psk":
            keys["allow_aggressive_psk"] = True
    if world.has_ppk(row, role):
        keys |= {"ppk_id": world.PPK_ID, "ppk_file": files["ppk"], "ppk_required": True}
    if not row.return_routability:
        keys["return_routability"] = False
    if row.childless:
        keys["childless"] = True
    if Event.WE_REAUTHENTICATE in row.events:
        keys["reauthenticate"] = True
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
    device, gateway = _device_proof(row), _gateway_proof(row)
    keys: dict[str, object] = {
        "local_auth": device if opens else gateway,
        "remote_auth": gateway if opens else device,
    }
    if "psk" in {device, gateway}:
        keys["psk"] = world.secret(row) if opens else world.SECRET
    if "certificate" in files:
        keys |= {"certificate": files["certificate"], "private_key": files["key"]}
    if "certificate" in {device, gateway} or row.auth is Auth.EAP_TLS:
        keys["ca_certificates"] = [files["ca"]]
    if opens and row.auth.user:
        keys["user"] = world.user_name(row)
        if row.auth is not Auth.EAP_TLS:
            keys["password"] = world.password(row)
    if not opens and world.responder_expects_user(row):
        keys["user_auth"] = [_method(row)]
        keys["user_backend"] = "matrix" if row.radius else "local"
    return keys


def _gateway_proof(row: Row) -> str:
    if row.auth is Auth.XAUTH_PSK or (row.auth is Auth.PSK and not _eap_skipped(row)):
        return "psk"
    return "certificate"


def _device_proof(row: Row) -> str:
    if row.auth is Auth.HYBRID or row.auth.eap or _eap_skipped(row):
        return "user"
    return "psk" if row.auth in {Auth.PSK, Auth.XAUTH_PSK} else "certificate"


def _eap_skipped(row: Row) -> bool:
    return row.version == 2 and row.fault is Fault.NO_USER


def _method(row: Row) -> str:
    if row.version == 1:
        return "xauth"
    if row.radius:
        return "eap-radius"
    return row.auth.value.lower() if row.auth.eap else "eap-mschapv2"
