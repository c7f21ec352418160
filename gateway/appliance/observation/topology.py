"""The places devices can be at, and how they hang together (seed 001, its canonical topology)."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.appliance.mobility_queries import Agents
from gateway.appliance.observation.register import Register
from gateway.control.observation_views import Edge, Place, Topology

FIRST: Final = 24
"""Devices of a place that are named; the rest by the operation ``devices``."""
GATEWAY, INTERNET, INTRANET, OFFLINE = "gateway", "internet", "intranet", "offline"


class Named(Protocol):
    """What is read of the configuration."""

    @property
    def name(self) -> str:
        """Of the gateway."""


def topology(register: Register, name: str, address: str | None, agents: Agents | None) -> Topology:
    """All places, even those nobody is at, so that the picture stays the same."""
    places = [
        _place(register, INTERNET, "internet", "Internet", "outside"),
        _place(register, GATEWAY, "gateway", name, "dmz", address, ours=True),
        _place(register, INTRANET, "intranet", "Intranet", "inside"),
        _place(register, OFFLINE, "offline", "Offline", "outside"),
    ]
    edges: list[Edge] = [{"a": INTERNET, "b": GATEWAY}, {"a": GATEWAY, "b": INTRANET}]
    for place, edge in _agents(register, agents):
        places.append(place)
        edges.append(edge)
    known = {place["id"] for place in places}
    for found in register.places():
        if found not in known:
            # A foreign agent of somebody else's: known by its address.
            where = found.partition(":")[2]
            inside = _is_private(where)
            zone = "inside" if inside else "outside"
            places.append(_place(register, found, "foreign-agent", where, zone, where))
            edges.append({"a": INTRANET if inside else INTERNET, "b": found})
    by_where, by_mode = register.counts()
    return {
        "places": places,
        "edges": edges,
        "where": by_where,
        "modes": by_mode,
        "total": len(register),
    }


def _agents(register: Register, agents: Agents | None) -> Iterator[tuple[Place, Edge]]:
    if agents is None:
        return
    for name, home in agents.home_agents.items():
        outside = home.policy.placement.value == "outside"
        id_, zone = f"home-agent:{name}", "dmz" if outside else "inside"
        place = _place(register, id_, "home-agent", name, zone, str(home.policy.address), ours=True)
        yield place, {"a": INTERNET if outside else INTRANET, "b": id_}
        for network in home.policy.networks:
            at = f"home-network:{network.name}"
            shown = str(network.network)
            yield (
                _place(register, at, "home-network", network.name, zone, shown, ours=True),
                {"a": id_, "b": at},
            )
    for name, foreign in agents.foreign_agents.items():
        policy = foreign.policy
        id_ = f"foreign-agent:{name}"
        inside = policy.through_vpn or _is_private(str(policy.care_of_address))
        zone = "dmz" if policy.through_vpn else ("inside" if inside else "outside")
        address = str(policy.care_of_address)
        place = _place(register, id_, "foreign-agent", name, zone, address, ours=True)
        near = GATEWAY if policy.through_vpn else (INTRANET if inside else INTERNET)
        yield place, {"a": near, "b": id_}


def _place(  # noqa: PLR0917 - one fact each
    register: Register,
    id_: str,
    kind: str,
    name: str,
    zone: str,
    address: str | None = None,
    *,
    ours: bool = False,
) -> Place:
    numbers = register.at(id_)
    first: list[dict[str, object]] = []
    for number in numbers:
        device = register.numbered(number)
        if device is not None:
            first.append(
                {
                    "name": device.name,
                    "identity": device.identity,
                    "where": device.where,
                    "mode": device.mode or None,
                }
            )
        if len(first) == FIRST:
            break
    return {
        "id": id_,
        "kind": kind,
        "name": name,
        "zone": zone,
        "address": address,
        "ours": ours,
        "devices": len(numbers),
        "first": first,
    }


def _is_private(address: str) -> bool:
    try:
        return IPv4Address(address).is_private
    except ValueError:
        return False
