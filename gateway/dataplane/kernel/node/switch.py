"""The switch in front of a mobile node's links: the table ``inet gateway_node``.

What was learnt (Linux 6.1, nft 1.0.6):

- Only the postrouting hook knows the interface for certain: a route hook may choose another one.
- An element that is added again keeps its old timeout: it is deleted and added in one transaction.
- An element's timeout does not run while the machine sleeps: after waking, forbid at once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from string import Template
from typing import Final

from gateway.dataplane.kernel.mobility.constants import FOU_PORT
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.kernel.ruleset import run_nft
from gateway.dataplane.node import NodeSettings

LEARNT: Final = {
    "home": "set",
    "direct": "set",
    "udp_tunnels": "set",
    "udp_agents": "set",
    "late": "map",
    "switched_out": "set",
    "switch_agent": "map",
    "switch_care_of": "map",
    "switched_in": "set",
    "switch_peer": "map",
    "switch_home": "map",
    "switch_lengths": "set",
}
"""What follows the stack of layers."""

Elements = Mapping[str, tuple[str, ...]]
"""Of each of :data:`LEARNT`, in nft's words."""

_INTERFACE = re.compile(r"[A-Za-z0-9_.@+-]{1,15}")


def _elements(values: Iterable[object]) -> str:
    listed = ", ".join(dict.fromkeys(map(str, values)))
    return f"elements = {{ {listed} }}" if listed else ""


def _octets(addresses: Iterable[IPv4Address]) -> list[str]:
    return [f"{int(address):#010x}" for address in addresses]


def _open(settings: NodeSettings) -> list[str]:
    """Without overlaps, which interval sets refuse."""
    networks: dict[tuple[str, int], list[IPv4Network]] = {}
    for protocol, port, network in settings.accept_inside:
        if protocol not in ("tcp", "udp"):
            raise ValueError(f'accept_inside: protocol {protocol!r} given, allowed: "tcp", "udp"')
        networks.setdefault((protocol, port), []).append(network)
    return [
        f"{protocol} . {port} . {network}"
        for (protocol, port), listed in networks.items()
        for network in collapse_addresses(listed)
    ]


def _contents(settings: NodeSettings) -> dict[str, Sequence[object]]:
    """What the sets hold that settings fill, by name. Raises ValueError naming a field."""
    peers = settings.peers
    agents = peers.external_home_agents + peers.internal_home_agents
    return {
        "gateways": [*peers.gateways],
        "external_agents": [*peers.external_home_agents],
        "internal_agents": [*peers.internal_home_agents],
        "gateway_octets": _octets(peers.gateways),
        "external_octets": _octets(peers.external_home_agents),
        "peer_octets": _octets(peers.gateways + agents),
        "tcp_ports": [*settings.tcp_ports],
        "open": _open(settings),
    }


def render(settings: NodeSettings, xfrm_interface: str = constants.XFRM_INTERFACE) -> str:
    """The ruleset for these settings. Raises ValueError naming a field."""
    if not _INTERFACE.fullmatch(xfrm_interface):
        raise ValueError(f"xfrm_interface: {xfrm_interface!r} is not an interface name of the node")
    text = resources.files(__package__).joinpath("ruleset.nft").read_text("ascii")
    sets = {name.upper(): _elements(found) for name, found in _contents(settings).items()}
    return Template(text).substitute(
        sets,
        MARKS=f"{constants.MARKS:#x}",
        NODE_LINK=f"{constants.NODE_LINK:#x}",
        NODE_VPN=f"{constants.NODE_VPN:#x}",
        NODE_INNER=f"{constants.NODE_INNER:#x}",
        NODE_PROBE=f"{constants.NODE_PROBE:#x}",
        RECEIVED=f"{constants.RECEIVED:#x}",
        FOU_PORT=FOU_PORT,
        HOLD=constants.HOLD,
        VPN=xfrm_interface,
        OUTER_IP_IP=constants.OUTER_IP_IP,
        OUTER_GRE=constants.OUTER_GRE,
        INNER_IP_IP=constants.INNER_IP_IP,
        INNER_GRE=constants.INNER_GRE,
    )


def load(settings: NodeSettings, xfrm_interface: str = constants.XFRM_INTERFACE) -> None:
    """Replace the switch, atomically: at no moment is there none, and nothing is permitted.

    Raises :class:`RulesetRefusedError`, or ValueError naming a field.
    """
    run_nft(render(settings, xfrm_interface))


def update(settings: NodeSettings) -> None:
    """Use other peers, ports and openings, atomically; permits and what was learnt stay.

    Raises :class:`RulesetRefusedError`, or ValueError naming a field.
    """
    lines = []
    for name, values in _contents(settings).items():
        lines.append(f"flush set inet {constants.TABLE} {name}")
        if values:
            listed = ", ".join(dict.fromkeys(map(str, values)))
            lines.append(f"add element inet {constants.TABLE} {name} {{ {listed} }}")
    run_nft("\n".join(lines))


def change(before: Elements, after: Elements) -> str:
    """The command that makes ``before`` into ``after``; "" when they say the same."""
    lines = []
    for name, kind in LEARNT.items():
        wanted = after.get(name, ())
        if before.get(name, ()) == wanted:
            continue
        lines.append(f"flush {kind} inet {constants.TABLE} {name}")
        if wanted:
            listed = ", ".join(dict.fromkeys(wanted))
            lines.append(f"add element inet {constants.TABLE} {name} {{ {listed} }}")
    return "\n".join(lines)


def learn(before: Elements, after: Elements) -> None:
    """Exchange the elements that follow the stack, atomically.

    Raises :class:`RulesetRefusedError`.
    """
    command = change(before, after)
    if command:
        run_nft(command)


def permit(interface: str, lifetime_s: float) -> None:
    """Let plaintext pass on ``interface`` for so long, counted from now.

    Raises ValueError for a name or time that cannot be, :class:`RulesetRefusedError`.
    """
    if not _INTERFACE.fullmatch(interface):
        raise ValueError(f"interface: {interface!r} given, allowed are letters, digits and _.@+-")
    milliseconds = int(lifetime_s * 1000)
    if milliseconds <= 0:
        forbid(interface)
        return
    place = f"element inet {constants.TABLE} permitted"
    timeout = f"{milliseconds // 1000}s{milliseconds % 1000}ms"
    run_nft(
        f'add {place} {{ "{interface}" timeout 1s }}\n'
        f'delete {place} {{ "{interface}" }}\n'
        f'add {place} {{ "{interface}" timeout {timeout} }}'
    )


def forbid(interface: str | None = None) -> None:
    """End the permit of an interface, or all. There may be none.

    Raises :class:`RulesetRefusedError`.
    """
    if interface is None:
        run_nft(f"flush set inet {constants.TABLE} permitted")
        return
    if not _INTERFACE.fullmatch(interface):
        return  # it never had one
    place = f"element inet {constants.TABLE} permitted"
    run_nft(
        f'add {place} {{ "{interface}" timeout 1s }}\ndelete {place} {{ "{interface}" }}',
    )


def remove() -> None:
    """Delete the switch; it may be gone already. Raises :class:`RulesetRefusedError`."""
    run_nft(f"add table inet {constants.TABLE}\ndelete table inet {constants.TABLE}")
