"""Configurations of N, of the home agent and of a VPN gateway at `y`, as gateway.toml."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from gateway.lab.mobility.roles import head, table
from gateway.lab.nar import plan
from gateway.lab.pki import Authority
from gateway.mip_agents.policy import SecurityAssociation
from gateway.users.passwords import PasswordHash
from gateway.users.settings import ScryptCost

USERS = {
    "anna@example.org": ("Anna's own password", ("staff",)),
    "otto@example.org": ("Otto's own password", ("guests",)),
}
"""Name to password and groups."""
FAST_SCRYPT_LN = 10
PSK = "one long shared secret of the address sharing lab"
PORTS = "20000-29999"
ASSOCIATION = SecurityAssociation(3001, hashlib.sha256(b"lab 3001").digest()[:16])
ASSOCIATION_2 = SecurityAssociation(3002, hashlib.sha256(b"lab 3002").digest()[:16])
HOME_NODES = {"x1": (plan.XB, ASSOCIATION), "x2": (plan.XB2, ASSOCIATION_2)}

Rules = Mapping[str, Mapping[str, object]]
EVERYTHING: Rules = {"everything": {"any_remote": True, "proxy": True}}
"""Everybody who is let in may do all that NAR can."""


def settings(folder: object, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """What all NAR servers of a box share."""
    return table("nar_settings", state_dir=f"{folder}/state", **keys)


def server(name: str, *, rules: Rules = EVERYTHING, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """One NAR server for the clients inside; `keys` replace or add to those of the SOHO case."""
    fixed: dict[str, object] = {
        "listen": [str(plan.NA)],
        "addresses": [str(plan.NB)],
        "client_interfaces": ["inside"],
        "outside_interfaces": ["outside"],
        "ports": [PORTS],
        "trusted": [str(plan.INSIDE)],
        "max_connections_per_source": 5000,
        **keys,
    }
    kept = {key: value for key, value in fixed.items() if value is not None}
    return table(f"nar.{name}", **kept, rules=dict(rules))


def box(folder: object, *servers: str, offload: bool = True, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """N with these servers; `keys` are of `[nar_settings]`."""
    text = head("n", folder, plan.NB)
    return text + settings(folder, offload=offload, **keys) + "".join(servers)


def soho(folder: object, *, offload: bool = True, rules: Rules = EVERYTHING, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """One public address, which is N's own, lent to everybody inside (section 1.2)."""
    return box(folder, server("soho", rules=rules, **keys), offload=offload)


def dynamic(folder: object, *, offload: bool = True, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """The same with whatever address N's provider gives it."""
    return soho(folder, offload=offload, **{"addresses": ["interface:outside"], **keys})


def pool(folder: object, *, offload: bool = True, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """A pool of addresses that are routed to N, and its own when they are full."""
    lent = [str(plan.POOL), str(plan.NB)]
    return box(folder, server("pool", **{"addresses": lent, **keys}), offload=offload)


def imposed(folder: object, delivery: str, *, offload: bool = True, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """Every client gets one delivery, whatever it asks for (section 3.1)."""
    return soho(folder, offload=offload, **{"impose": delivery, **keys})


def firewall(folder: Path, authority: Authority, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """N as the firewall of section 1.2: clients outside come with TLS and a password."""
    fixed: dict[str, object] = {
        "listen": None,
        "tls_listen": [f"{plan.NB}:{plan.FIREWALL_PORT}"],
        "addresses": [str(plan.NA)],
        "client_interfaces": ["outside"],
        "outside_interfaces": ["inside"],
        "trusted": [],
        "backend": "local",
        **tls_files(folder, authority, plan.NB),
        **keys,
    }
    rules = {"staff": {"groups": ["staff"], "remotes": [f"{plan.LEGACY}/32"]}}
    return server("firewall", rules=rules, **fixed)


def tls_files(folder: Path, authority: Authority, *addresses: object) -> dict[str, object]:
    """Keys of a server's table: a certificate for these addresses, written into the folder."""
    issued = authority.issue("n.example.com", addresses=[IPv4Address(str(a)) for a in addresses])
    certificate, key = issued.write(folder, "n")
    return {"certificate": str(certificate), "private_key": str(key)}


def users(folder: Path) -> str:
    """`[users]`, and the file with :data:`USERS`; their passwords are cheap to check."""
    path = folder / "users.toml"
    lines = []
    for number, (name, (password, groups)) in enumerate(USERS.items()):
        salt = bytes([number]) * 16
        hashed = PasswordHash.of(password, ScryptCost(FAST_SCRYPT_LN), lambda _, s=salt: s)  # type: ignore[misc]
        members = ", ".join(f'"{group}"' for group in groups)
        lines.append(f'[users."{name}"]\ngroups = [{members}]\npassword = "{hashed}"\n')
    path.touch(mode=0o600)
    path.write_text("\n".join(lines))
    return table("users", file=str(path), scrypt_ln=FAST_SCRYPT_LN)


def home_agent(folder: object, *, offload: bool = True, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """A Mobile IP home agent at `ha` that knows nothing of NAR; its home network is virtual."""
    agent = {
        "address": str(plan.HOME_AGENT),
        "placement": "outside",
        "home_networks": ["road"],
        "lifetime_spread": 0,
        **keys,
    }
    nodes = "".join(
        table(
            f"mobile_nodes.{name}",
            home_address=str(address),
            home_agents=["road"],
            spi=association.spi,
            key=association.key.hex(),
        )
        for name, (address, association) in HOME_NODES.items()
    )
    return (
        head("ha", folder, plan.HOME_AGENT)
        + table("mobility", state_dir=f"{folder}/state", offload=offload)
        + table("home_networks.road", network=str(plan.HOME_NETWORK))
        + table("home_agents.road", **agent)
        + nodes
    )


def vpn_gateway(folder: object, **keys: Any) -> str:  # noqa: ANN401 - keys of a table
    """Our own gateway at `y`, for devices that come from behind N with a shared key."""
    connection: dict[str, object] = {
        "local_auth": "psk",
        "remote_auth": "psk",
        "psk": PSK,
        "remote_id": "*@example.com",
        "pool": "road",
        "local_subnets": ["10.99.0.0/24"],
        **keys,
    }
    return (
        head("y", folder, plan.Y)
        + table("pools.road", network="10.98.0.0/24")
        + table("connections.road", **connection)
        # The server that devices talk to is on this host.
        + table("filtering", to_gateway="all")
    )
