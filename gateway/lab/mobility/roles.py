"""Configurations of the boxes of draft 001 section 2: each runs `gateway run` in one role."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gateway.lab import plan as lab_plan
from gateway.lab.mobility import plan
from gateway.mip_agents.policy import SecurityAssociation

PSK = "one long shared secret of the mobility lab"
GATEWAY_ID = "gateway.example.com"
INNER_NETWORK = "10.0.0.0/13"
"""What devices reach through the VPN: everything inside but the VPN's own pool."""
POOL = "10.9.0.0/24"

NODES = {
    "device": (plan.INSIDE_HOME_ADDRESS, plan.INSIDE_ASSOCIATION),
    "device2": (plan.INSIDE_HOME_ADDRESS_2, plan.INSIDE_ASSOCIATION_2),
}
OUTSIDE_NODES = {
    "device": (plan.OUTSIDE_HOME_ADDRESS, plan.OUTSIDE_ASSOCIATION),
    "device2": (plan.OUTSIDE_HOME_ADDRESS_2, plan.OUTSIDE_ASSOCIATION_2),
}


def table(name: str, /, **keys: object) -> str:
    """A table of gateway.toml; values that are mappings become tables below it."""
    lines = [f"\n[{name}]"]
    below = ""
    for key, value in keys.items():
        if isinstance(value, Mapping):
            below += table(f"{name}.{key}", **value)
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n" + below


def head(host: str, folder: object, listen: object, **dataplane: object) -> str:
    """What every box has; `listen` is its address for IKE."""
    return (
        table(
            "gateway",
            name=GATEWAY_ID if host == "gw" else f"{host}.example.com",
            runtime_dir=str(folder),
            log_format="json",
        )
        + table("api", enabled=False)
        + table("ike", listen=[str(listen)])
        + (table("dataplane", **dataplane) if dataplane else "")
    )


def mobility(folder: object, *, offload: bool = True, **keys: object) -> str:
    """What all agents of a box share."""
    return table("mobility", state_dir=f"{folder}/state", offload=offload, **keys)


def mobile_nodes(nodes: Mapping[str, tuple[object, SecurityAssociation]], agent: str) -> str:
    """Tables of mobile nodes."""
    return "".join(
        table(
            f"mobile_nodes.{agent}-{name}",
            home_address=str(address),
            home_agents=[agent],
            spi=association.spi,
            key=association.key.hex(),
        )
        for name, (address, association) in nodes.items()
    )


def inside_home_agent(folder: object, *, offload: bool = True, **keys: object) -> str:
    """The i-HA `office` on `iha`; `keys` are further ones of its table."""
    agent = {
        "address": str(plan.INSIDE_HOME_AGENT),
        "placement": "inside",
        "home_networks": ["office"],
        "lifetime_spread": 0,
        **keys,
    }
    return (
        head("iha", folder, "10.0.0.6")
        + mobility(folder, offload=offload)
        + table("home_networks.office", network=str(plan.HOME_NETWORK), interface=plan.HOME_BRIDGE)
        + table("home_agents.office", **agent)
        + mobile_nodes(NODES, "office")
    )


def outside_home_agent(folder: object, *, offload: bool = True, **keys: object) -> str:
    """The x-HA `road` on `xha`, whose home network is virtual."""
    return (
        head("xha", folder, plan.OUTSIDE_HOME_AGENT)
        + mobility(folder, offload=offload)
        + _outside_agent(plan.OUTSIDE_HOME_AGENT, keys)
    )


def _outside_agent(address: object, keys: Mapping[str, object]) -> str:
    agent = {
        "address": str(address),
        "placement": "outside",
        "home_networks": ["road"],
        "lifetime_spread": 0,
        **keys,
    }
    return (
        table("home_networks.road", network=str(plan.OUTSIDE_HOME_NETWORK))
        + table("home_agents.road", **agent)
        + mobile_nodes(OUTSIDE_NODES, "road")
    )


def foreign_agent(host: str, folder: object, *, offload: bool = True, **keys: object) -> str:
    """The foreign agent `hall` on `ifa` or `xfa`."""
    inside = host == "ifa"
    address = plan.INSIDE_FOREIGN_AGENT if inside else plan.OUTSIDE_FOREIGN_AGENT
    agent = {"care_of_address": str(address), "interface": "visited", **keys}
    listen = "10.0.0.10" if inside else plan.OUTSIDE_FOREIGN_AGENT_UPLINK
    return (
        head(host, folder, listen)
        + mobility(folder, offload=offload)
        + table("foreign_agents.hall", **agent)
    )


def vpn_gateway(
    folder: object,
    *,
    offload: bool = True,
    outside_agent: bool = False,
    agent: Mapping[str, object] | None = None,
    **keys: object,
) -> str:
    """The VPN gateway on `gw` with the foreign agent `vpn` in it (draft 001, appendix B).

    `device` and `device2` may come as `NAME@vc.example.com`, with an address of the pool, or as
    `vf-NAME@example.com` with their i-HoA. With `outside_agent` the x-HA is in the same box.
    """
    listen = lab_plan.GATEWAY_OUTSIDE
    text = head("gw", folder, listen, outside_interfaces=["outside"])
    text += mobility(folder, offload=offload, inside_home_agents=[str(plan.INSIDE_HOME_AGENT)])
    fixed: dict[str, object] = {
        "local_auth": "psk",
        "remote_auth": "psk",
        "psk": PSK,
        "local_subnets": [INNER_NETWORK],
        **keys,
    }
    text += table("pools.road", network=POOL, dns=["10.1.0.10"])
    text += table("connections.vc", **{**fixed, "remote_id": "*@vc.example.com", "pool": "road"})
    for name, (address, _) in NODES.items():
        text += table(
            f"connections.vf-{name}",
            **{
                **fixed,
                "remote_id": f"vf-{name}@example.com",
                "remote_subnets": [f"{address}/32"],
                "vpn_fa": "required",
            },
        )
    vpn = {"care_of_address": str(plan.VPN_CARE_OF_ADDRESS), "through_vpn": True, **(agent or {})}
    text += table("foreign_agents.vpn", **vpn)
    if outside_agent:
        text += _outside_agent(plan.GATEWAY_HOME_AGENT, {})
    return text


def device(folder: object, local: object, *, name: str = "device", **keys: object) -> str:
    """Our own gateway as the initiator on a device: the connection `vf` from the address."""
    home = NODES[name][0]
    fixed: dict[str, object] = {
        "local_auth": "psk",
        "remote_auth": "psk",
        "psk": PSK,
        "local_id": f"vf-{name}@example.com",
        "remote_id": GATEWAY_ID,
        "remote": str(lab_plan.GATEWAY_OUTSIDE),
        "local": str(local),
        "local_subnets": [f"{home}/32"],
        "remote_subnets": [INNER_NETWORK],
        "vpn_fa": "required",
        **keys,
    }
    return head(name, folder, "0.0.0.0") + table("connections.vf", **fixed)


SWANCTL = """
connections {{
  vc {{
    version = 2
    local_addrs = {local}
    remote_addrs = {gateway}
    vips = 0.0.0.0
    proposals = aes256gcm16-prfsha256-x25519
    mobike = {mobike}
    local {{
      auth = psk
      id = {name}@vc.example.com
    }}
    remote {{
      auth = psk
      id = {gateway_id}
    }}
    children {{
      net {{
        remote_ts = {inner}
        esp_proposals = aes256gcm16
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    secret = "{psk}"
  }}
}}
"""


def strongswan(local: object = "%any", *, name: str = "device", mobike: bool = True) -> str:
    """swanctl.conf of an unmodified VPN client, for modes vc, cvc and fvc."""
    return SWANCTL.format(
        local=local,
        gateway=lab_plan.GATEWAY_OUTSIDE,
        gateway_id=GATEWAY_ID,
        name=name,
        inner=INNER_NETWORK,
        psk=PSK,
        mobike="yes" if mobike else "no",
    )
