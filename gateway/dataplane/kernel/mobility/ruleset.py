"""The constant ruleset of the mobility dataplane (``ruleset.nft``), and its sets by name.

What was learnt (Linux 6.1, nft 1.0.6):

- Concatenations with raw payload expressions need ``typeof``; a map declared with one raw
  expression is as good for another one of the same width.
- Statements of one rule see what earlier ones wrote: after ``ip saddr set`` a key with
  ``ip saddr`` is looked up with the new address.
- A map miss ends the rule, so a rule that writes two addresses needs both elements; they are
  added in one transaction.
- ``udp dport set`` updates a checksum of 0 (none) too, and makes it wrong; it is written back.
- The protocol that nft calls ``ipip`` is 94; IP-in-IP is 4.
- ``notrack`` after the connection tracker touches only packets that it found invalid; and unlike
  ``ct state`` it does not turn the tracker on.
- Outer fragments need no rule: the first one gets the mark, and the whole packet has the mark of
  its first fragment; overlapping fragments are dropped by the kernel. Later fragments have to be
  kept from ``@th``: a load of four octets reads their payload.
- Raw payload statements leave checksums alone; the UDP header of a tunnel is rewritten so that
  its checksum stays right (:data:`constants.FOU_PORT`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from ipaddress import IPv4Network
from string import Template
from typing import Final

from gateway.dataplane.kernel.mobility import constants, texts
from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.dataplane.kernel.nft_elements import NFPROTO_IPV4
from gateway.dataplane.kernel.ruleset import run_nft
from gateway.dataplane.kernel.ruleset_version import has_chain, version_chain
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.packet import marks

_TCP_IP: Final = 40
_SWITCH_OUT: Final = "jump switch_out"


@dataclass(frozen=True, slots=True)
class Wording:
    """What the rules say where kernels differ; as it is, for those with IPsec and a queue."""

    judged: str = ""
    """A rule for what user space has decided about and given back, in prerouting."""
    judged_here: str = ""
    """The same in output and postrouting."""
    copy: str = "queue num $QUEUE bypass"
    """Statements for what user space sees, but never changes."""
    sends: str = "rt ipsec missing"
    """Of a packet on its way into a transmitting device: that is where it goes."""
    slow_tunnel: str = 'counter queue num $QUEUE comment "slow_tunnel"'
    """Rules for what the transmitting devices cannot encapsulate."""
    output: str = ""
    """Rules for what this host sends."""
    chains: str = ""
    """More chains."""
    outside: tuple[str, ...] = ()
    """More outside interfaces."""
    final: Callable[[str], str] = str
    """What is done to the rules in the end."""


QUEUED: Final = Wording()


def _elements(values: Iterable[object]) -> str:
    listed = ", ".join(dict.fromkeys(map(str, values)))
    return f"elements = {{ {listed} }}" if listed else ""


def _virtual(settings: MobilitySettings) -> list[IPv4Network]:
    return [home.network for home in settings.home_networks if home.interface is None]


def _disjoint(networks: Iterable[IPv4Network]) -> list[object]:
    """Without those that another one holds: interval sets refuse that."""
    kept: list[object] = []
    end = -1
    for network in sorted(networks, key=lambda n: (int(n.network_address), n.prefixlen)):
        if int(network[0]) > end:
            kept.append(network)
            end = int(network[-1])
    return kept


def _contents(settings: MobilitySettings, wording: Wording) -> dict[str, list[object]]:
    """What the sets with a constant content hold, by name."""
    relays = settings.relayed_home_agents
    return {
        "own": [*settings.home_agents, *settings.care_of_addresses],
        "inside_agents": [*settings.inside_home_agents],
        "outside": [f'"{name}"' for name in (*settings.outside_interfaces, *wording.outside)],
        "visited": [f'"{name}"' for name in settings.visited_interfaces],
        "virtual_homes": _disjoint(_virtual(settings)),
        "protected": _disjoint(settings.protected_networks),
        "home_broadcasts": [
            f"{int(home.network.broadcast_address):#x}"
            for home in settings.home_networks
            if home.interface is not None
        ],
        "relayed_agents": [relay.home_agent for relay in relays],
        "relay_agent": [
            f"{relay.public_address} . {relay.public_port} : {relay.home_agent}" for relay in relays
        ],
        "relay_address": [f"{relay.home_agent} : {relay.public_address}" for relay in relays],
        "relay_port": [f"{relay.home_agent} : {relay.public_port}" for relay in relays],
    }


Elements = Iterable[tuple[str, bytes, bytes | None]]
"""Set, key, and what a map says for it."""


def render(settings: MobilitySettings, elements: Elements = (), wording: Wording = QUEUED) -> str:
    """The ruleset for these settings, a chain that names its version, and ``elements``."""
    text = resources.files(__package__).joinpath("ruleset.nft").read_text("ascii")
    contents = _contents(settings, wording)
    sets = {name.upper(): _elements(found) for name, found in contents.items()}
    rules = _rules(text, settings, wording)
    chain = f"add chain ip {constants.TABLE} {version_chain(rules)}\n"
    return Template(rules).substitute(sets) + texts.commands(constants.TABLE, elements) + chain


def is_loaded(
    netfilter: NetlinkSocket, settings: MobilitySettings, wording: Wording = QUEUED
) -> bool:
    """Whether the kernel has exactly these rules already, whatever their sets hold."""
    chain = render(settings, (), wording).split()[-1]
    return has_chain(netfilter, constants.TABLE, chain, NFPROTO_IPV4)


def _rules(text: str, settings: MobilitySettings, wording: Wording) -> str:
    fast = settings.offload
    worded = Template(text).safe_substitute(
        JUDGED=wording.judged,
        JUDGED_HERE=wording.judged_here,
        COPY=wording.copy,
        SENDS=wording.sends,
        SLOW_TUNNEL=wording.slow_tunnel,
        OUTPUT=wording.output,
        CHAINS=wording.chains,
    )
    rules = Template(worded).safe_substitute(
        RECEIVE_IP_IP=constants.RECEIVE_IP_IP,
        RECEIVE_GRE=constants.RECEIVE_GRE,
        SEND_IP_IP=constants.SEND_IP_IP,
        SEND_GRE=constants.SEND_GRE,
        SEND_UDP=constants.SEND_UDP,
        VPN=settings.vpn_interface,
        QUEUE=settings.queue_number,
        DUMMY=constants.DUMMY,
        FOU_PORT=constants.FOU_PORT,
        HOME=f"{constants.HOME:#x}",
        HOME_OUTSIDE=f"{constants.HOME_OUTSIDE:#x}",
        DELIVER=f"{constants.DELIVER:#x}",
        REVERSE=f"{constants.REVERSE:#x}",
        SWITCHED=f"{constants.SWITCHED:#x}",
        RELAYED=f"{constants.RELAYED:#x}",
        MARKS=f"{marks.RANGE:#x}",
        FRAGMENTS="" if fast else "jump queued_fragment",
        REVERSE_FIRST=f"{constants.REVERSE_MARKS[0]:#x}",
        REVERSE_LAST=f"{constants.REVERSE_MARKS[-1]:#x}",
        MSS=settings.mtu - _TCP_IP,
        OUTER_MTU=settings.mtu + 20,
        IP_IP="open_ip_ip" if fast else "queued_tunnel",
        GRE="open_gre" if fast else "queued_tunnel",
        MINIMAL="open_minimal" if fast else "queued_tunnel",
        UDP_TUNNEL="open_udp" if fast else "queued_tunnel",
        SENDING="sending" if fast else "sending_queued",
        SWITCH_IN="switch_in" if fast else "queued_switch",
        SWITCH_OUT=_SWITCH_OUT if fast else "",
        SWITCH_OUT_LOCAL="jump switch_out_local" if fast else "",
    )
    return wording.final(rules)


def load(settings: MobilitySettings, elements: Elements = (), wording: Wording = QUEUED) -> None:
    """Replace our table by the ruleset, atomically. Raises :class:`RulesetRefusedError`."""
    run_nft(render(settings, elements, wording))


def update(settings: MobilitySettings, wording: Wording = QUEUED) -> None:
    """Exchange what settings put into sets, atomically; bindings and counters stay.

    Raises :class:`RulesetRefusedError`.
    """
    lines = []
    for name, values in _contents(settings, wording).items():
        kind = "map" if name in ("relay_agent", "relay_address", "relay_port") else "set"
        lines.append(f"flush {kind} ip {constants.TABLE} {name}")
        if values:
            listed = ", ".join(dict.fromkeys(map(str, values)))
            lines.append(f"add element ip {constants.TABLE} {name} {{ {listed} }}")
    run_nft("\n".join(lines))


def remove() -> None:
    """Delete our table; it may be gone already. Raises :class:`RulesetRefusedError`."""
    run_nft(f"add table ip {constants.TABLE}\ndelete table ip {constants.TABLE}")
