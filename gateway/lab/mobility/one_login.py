"""Configurations for one login (draft 002, 4.2.1): the device has a login, and nothing else.

The gateway grants home addresses of both home agents and gives the device their keys; it tells the
agents by tickets, sealed with a key that only these boxes share.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from gateway.lab.mobility import plan, roles
from gateway.lab.mobility.boxes import Write
from gateway.lab.mobility.roles import table
from gateway.lab.topology import Lab

USER = "ann@example.com"
NODES = {"office": plan.INSIDE_HOME_ADDRESS, "road": plan.OUTSIDE_HOME_ADDRESS}
TICKET_KEY = hashlib.sha256(b"lab tickets").hexdigest()


def ticket_key(lab: Lab) -> Path:
    """The file that gateway and home agents share."""
    file = lab.folder / "ticket.key"
    file.touch(mode=0o600)
    file.write_text(f"{TICKET_KEY}\n")
    return file


def _nodes(*agents: str) -> str:
    return "".join(
        table(
            f"mobile_nodes.ann-{agent}",
            home_address=str(NODES[agent]),
            home_agents=[agent],
            keys="login",
            identity=USER,
        )
        for agent in agents
    )


def _elsewhere(agent: str, address: object, placement: str, network: object) -> str:
    """A home agent of another box, as the gateway has to know it."""
    return table(f"home_networks.{agent}", network=str(network)) + table(
        f"home_agents.{agent}",
        address=str(address),
        placement=placement,
        home_networks=[agent],
        remote=True,
    )


def _shared(text: str, key: Path) -> str:
    return text.replace("\n[mobility]\n", f'\n[mobility]\nticket_key_file = "{key}"\n', 1)


def _without_keys(text: str, key: Path, agent: str) -> str:
    """A home agent that knows no key of any device by itself."""
    head, _, _ = text.partition(f"\n[mobile_nodes.{agent}-")
    return _shared(head + "\n" + _nodes(agent), key)


def boxes(lab: Lab, *, outside_in_gateway: bool = False) -> dict[str, Write]:
    """i-HA, x-HA and gateway; with `outside_in_gateway` the x-HA is in the gateway's own box."""
    key = ticket_key(lab)
    road = _elsewhere(
        "road", plan.OUTSIDE_HOME_AGENT, "outside", plan.OUTSIDE_HOME_NETWORK
    )  # fmt: skip

    def gateway(folder: object) -> str:
        text = roles.vpn_gateway(folder, outside_agent=outside_in_gateway)
        if outside_in_gateway:
            text = text.partition("\n[mobile_nodes.road-")[0] + "\n"
        else:
            text += road
        text += _elsewhere("office", plan.INSIDE_HOME_AGENT, "inside", plan.HOME_NETWORK)
        text += table(
            "connections.staff",
            local_auth="psk",
            remote_auth="psk",
            psk=roles.PSK,
            remote_id=USER,
            pool="road",
            local_subnets=[roles.INNER_NETWORK],
            vpn_fa="allowed",
            endpoint_update="allowed",
        )
        # What the table of the home agent says need not be said twice.
        text = text.replace(f'inside_home_agents = ["{plan.INSIDE_HOME_AGENT}"]\n', "")
        return _shared(text + _nodes("office", "road"), key)

    made: dict[str, Write] = {
        "iha": lambda folder: _without_keys(roles.inside_home_agent(folder), key, "office"),
        "gw": gateway,
    }
    if not outside_in_gateway:
        made["xha"] = lambda folder: _without_keys(roles.outside_home_agent(folder), key, "road")
    return made
