"""Profiles of the mobile node on the lab's `device`: one file each, as `gateway mn` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from gateway.lab import plan as lab_plan
from gateway.lab.mobility import plan
from gateway.lab.mobility.roles import GATEWAY_ID, PSK, table
from gateway.mip_agents.policy import SecurityAssociation

INSIDE_MODES = ("home", "c", "f")
SHORT = {
    "retransmit_first_s": 0.2,
    "retransmit_max_s": 0.5,
    "detection_period_s": 0.5,
    "inside_hint_s": 0.2,
    "monitor_interval_s": 1.0,
    "monitor_tries_s": 2.0,
    "retry_inside_s": 10.0,
    "idle_after_s": 0.0,
}
"""Detection numbers that let a test see in seconds what takes a minute by default."""
BOUND_S = SHORT["monitor_interval_s"] + SHORT["monitor_tries_s"]
"""How long plaintext may go on after the inside was left, with :data:`SHORT`."""


def identity(access: str, name: str = "device") -> str:
    """Who the device says it is: `vf` or `vc` picks the connection of `roles.vpn_gateway`."""
    return f"{name}@vc.example.com" if access == "vc" else f"vf-{name}@example.com"


def home_agent(
    agent: IPv4Address,
    address: IPv4Address,
    network: IPv4Network,
    association: SecurityAssociation,
    keys: Mapping[str, object],
) -> dict[str, object]:
    """A home agent by hand, where the login does not teach it."""
    return {
        "home_agent": str(agent),
        "home_address": str(address),
        "home_network": str(network),
        "spi": association.spi,
        "key": association.key.hex(),
        **keys,
    }


def profile(
    folder: object,
    *,
    login: Mapping[str, object] | None = None,
    gateway: Mapping[str, object] | None = None,
    inside: Mapping[str, object] | None = None,
    outside: Mapping[str, object] | None = None,
    detection: Mapping[str, object] | None = None,
    network: Mapping[str, object] | None = None,
    hints: Mapping[str, object] | None = None,
    modes: tuple[str, ...] = (),
    by_hand: bool = True,
    inside_agent: bool = True,
    outside_agent: IPv4Address | None = plan.OUTSIDE_HOME_AGENT,
    **process: object,
) -> str:
    """A profile; the mappings are further keys of its tables.

    Without `by_hand` everything but the login is learnt; `inside_agent` False has no i-HA,
    `outside_agent` None no x-HA.
    """
    text = table(
        "profile",
        name="device",
        state_dir=f"{folder}/state",
        runtime_dir=str(folder),
        log_format="json",
        **process,
    )
    text += table(
        "gateway",
        **{
            "address": str(lab_plan.GATEWAY_OUTSIDE),
            "identity": GATEWAY_ID,
            "liveness_s": 5,
            **(gateway or {}),
        },
    )
    text += table(
        "login", **{"method": "psk", "identity": identity("vf"), "psk": PSK, **(login or {})}
    )
    if by_hand and inside_agent:
        text += table(
            "inside",
            **home_agent(
                plan.INSIDE_HOME_AGENT,
                plan.INSIDE_HOME_ADDRESS,
                plan.HOME_NETWORK,
                plan.INSIDE_ASSOCIATION,
                inside or {},
            ),
        )
    if by_hand and outside_agent is not None:
        text += table(
            "outside",
            **home_agent(
                outside_agent,
                plan.OUTSIDE_HOME_ADDRESS,
                plan.OUTSIDE_HOME_NETWORK,
                plan.OUTSIDE_ASSOCIATION,
                outside or {},
            ),
        )
    text += table("detection", **{**SHORT, **(detection or {})})
    if hints:
        text += table("hints", **hints)
    links: dict[str, object] = {"dns": "off"}
    if modes:
        links["modes"] = list(modes)
    return text + table("network", **{**links, **(network or {})})
