"""The layers of a device as they are seen from here, what they cost, and the MTU that is left."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from gateway.appliance.observation.device import BindingFacts, Device, SessionFacts
from gateway.control.observation_views import Layer, Mtu
from gateway.domain.mobility import Encapsulation
from gateway.domain.overhead import (
    LayerCost,
    esp_layer,
    inner_mtu,
    overhead_octets,
    parse_suite,
    shape_of,
    tunnel_layer,
)


def costs(device: Device) -> list[LayerCost]:
    """The layers, the outermost first."""
    return [cost for cost, _, _ in _found(device)]


def overhead_of(device: Device) -> int | None:
    """Octets beyond the device's own packets on its link; None when nothing is up."""
    return _cost(device)[0] if device.active else None


def mtu_of(device: Device) -> int | None:
    """Largest inner packet that needs no fragment on a path of 1500 octets."""
    return _cost(device)[1] if device.active else None


def _cost(device: Device) -> tuple[int, int]:
    if device.cost is None:
        found = costs(device)
        device.cost = (overhead_octets(found), inner_mtu(found).inner)
    return device.cost


def mtu_view(device: Device, configured: int) -> Mtu | None:
    """The same with its arithmetic; ``configured`` is ``dataplane.mtu``."""
    if not device.active:
        return None
    found = inner_mtu(costs(device))
    return {
        "link": found.link,
        "overhead": found.overhead,
        "inner": found.inner,
        "arithmetic": found.arithmetic,
        "configured": configured if device.sessions else None,
    }


def layers_view(device: Device) -> list[Layer]:
    """The layers for people."""
    return [
        {
            "name": cost.name,
            "what": what,
            "local": ends[0],
            "remote": ends[1],
            "headers": [{"name": one.name, "octets": one.octets} for one in cost.headers],
            "octets": cost.octets,
            "own_link": cost.own_link,
        }
        for cost, what, ends in _found(device)
    ]


def _found(device: Device) -> list[tuple[LayerCost, str, tuple[str, str]]]:
    """Each layer with its cost, words for it, and its two ends: ours and the device's."""
    found: list[tuple[LayerCost, str, tuple[str, str]]] = []
    session, x_mip, i_mip = device.session, device.x_mip, device.i_mip
    if x_mip is not None:
        found.append(_tunnel("x-mip", x_mip))
    if session is not None:
        vpn = _vpn(session)
        if vpn is not None:
            found.append(vpn)
    by_vpn = session is not None and any(one.vpn_fa for one in session.children.values())
    # With VPN/FA the tunnel of i-MIP ends in the gateway: the device does not carry it.
    if i_mip is not None and not by_vpn:
        found.append(_tunnel("i-mip", i_mip))
    return found


def _vpn(session: SessionFacts) -> tuple[LayerCost, str, tuple[str, str]] | None:
    child = next(reversed(session.children.values()), None)
    suite = parse_suite(child.suite) if child is not None else None
    if child is None or suite is None:
        return None
    tcp = session.by_tcp
    cost = esp_layer(shape_of(suite), _address(session.outer_host), udp=child.encapsulated, tcp=tcp)
    how = "ESP in TCP" if tcp else ("ESP in UDP" if child.encapsulated else "ESP")
    return cost, f"{how}, {child.suite}, tunnel mode", (session.local, session.outer)


def _tunnel(name: str, binding: BindingFacts) -> tuple[LayerCost, str, tuple[str, str]]:
    words = binding.tunnels[-1] if binding.tunnels else Encapsulation.IP_IP.value
    kind = words.split(" ", 1)[0]
    known = {one.value for one in Encapsulation}
    cost = tunnel_layer(
        name,
        Encapsulation(kind) if kind in known else Encapsulation.IP_IP,
        udp=" in UDP" in words,
        zero_overhead=binding.zero_overhead,
        own_link=binding.co_located,
    )
    what = f"Mobile IP, {words}"
    if binding.zero_overhead:
        what += ", zero overhead to its default destination"
    if not binding.co_located:
        what += f", ends in foreign agent {binding.via_agent or '(unknown)'}"
    care_of = binding.care_of[-1] if binding.care_of else ""
    return cost, what, (binding.agent, care_of)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
