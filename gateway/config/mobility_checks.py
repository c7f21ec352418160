"""Checks of home networks, home agents, foreign agents and of what they share."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Any

from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.mobility import (
    ForeignAgentSection,
    HomeAgentSection,
    HomeNetworkSection,
    PeerAgentSection,
)
from gateway.config.mobility_node_checks import NodeChecks, check_key
from gateway.config.to_mobility import WHOLE_NETWORK_ADDRESSES, pool_span
from gateway.config.vpn_agent import agent_of
from gateway.domain.mobility import MIP_PORT

NO_PROOF = (
    "is empty, so this gateway lets registrations from outside reach the inside home agent, and a "
    "device that reaches it takes itself to be inside and sends without IPsec; list the interfaces "
    "towards the internet, or let a firewall in front drop them"
)


def check_mobility(config: Config, findings: Findings) -> None:
    """Everything about the mobility agents that the text alone can get wrong."""
    _networks(config, findings)
    _home_agents(config, findings)
    _foreign_agents(config, findings)
    _shared(config, findings)
    _relays(config, findings)
    checks = NodeChecks(config, findings)
    for name, node in config.mobile_nodes.items():
        checks.check(name, node)


def unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
    """What to say of a name that no table has."""
    names = ", ".join(known)
    return f"no such table; choose one of: {names}" if names else f"add a table [{kind}.{name}]"


def _no_host(address: IPv4Address) -> bool:
    return address.is_multicast or address.is_unspecified or address.is_reserved


def _networks(config: Config, findings: Findings) -> None:
    networks = config.home_networks
    for name, section in networks.items():
        key = f"home_networks.{name}"
        _network(config, key, section, findings)
        if not any(name in agent.home_networks for agent in config.home_agents.values()):
            why = "no home agent has it; add it to the home_networks of one"
            findings.warn(key, None, why)
    for (one, a), (two, b) in combinations(networks.items(), 2):
        if a.network.overlaps(b.network):
            why = f"overlaps home_networks.{one}.network {a.network}; an address has one home"
            findings.refuse(f"home_networks.{two}.network", b.network, why)
        if a.interface is not None and a.interface == b.interface:
            why = f"is the link of home_networks.{one} as well; a link has one home network"
            findings.refuse(f"home_networks.{two}.interface", b.interface, why)


def _network(config: Config, key: str, section: HomeNetworkSection, findings: Findings) -> None:
    network = section.network
    if network.is_multicast or network.is_loopback or network.is_unspecified:
        findings.refuse(f"{key}.network", network, "not addresses that a device can have")
        return
    if network.prefixlen < 8:
        findings.refuse(f"{key}.network", network, "too large; give a network of /8 or smaller")
        return
    for name, pool in config.pools.items():
        if isinstance(pool.network, IPv4Network) and network.overlaps(pool.network):
            why = (
                f"overlaps pools.{name}.network {pool.network}, whose addresses VPN devices get; "
                "give home networks addresses of their own"
            )
            findings.refuse(f"{key}.network", network, why)
    if section.interface == config.dataplane.xfrm_interface:
        why = "is the interface of the tunnels; leave it out for a virtual home network"
        findings.refuse(f"{key}.interface", section.interface, why)
    _dynamic(key, section, findings)


def _dynamic(key: str, section: HomeNetworkSection, findings: Findings) -> None:
    network, before = section.network, len(findings.problems)
    for one in section.dynamic:
        if one.first not in network or one.last not in network:
            findings.refuse(f"{key}.dynamic", one, f"not part of the home network {network}")
    for a, b in combinations(section.dynamic, 2):
        if a.overlaps(b):
            findings.refuse(f"{key}.dynamic", b, f"overlaps {a}; list each address once")
    for reserved in section.reserved:
        if not any(
            one.first <= reserved[-1] and reserved[0] <= one.last for one in section.dynamic
        ):
            why = "is not in dynamic, so nobody would get it anyway; remove it"
            findings.refuse(f"{key}.reserved", reserved, why)
    if not section.dynamic or len(findings.problems) > before:
        return
    given = sum(int(one.last) - int(one.first) + 1 for one in section.dynamic)
    unused = pool_span(section).num_addresses - given
    if unused > WHOLE_NETWORK_ADDRESSES:
        why = "lie too far apart; choose ranges within one network, such as 10.20.128.0/17"
        findings.refuse(f"{key}.dynamic", [str(one) for one in section.dynamic], why)
    if sum(one.num_addresses for one in section.reserved) > WHOLE_NETWORK_ADDRESSES:
        why = f"more than {WHOLE_NETWORK_ADDRESSES} addresses; make dynamic smaller instead"
        findings.refuse(f"{key}.reserved", [str(one) for one in section.reserved], why)


def _home_agents(config: Config, findings: Findings) -> None:
    for name, section in config.home_agents.items():
        _home_agent(config, f"home_agents.{name}", section, findings)
    for (one, a), (two, b) in combinations(config.home_agents.items(), 2):
        _two_home_agents((one, a), (two, b), findings)


def _two_home_agents(
    first: tuple[str, HomeAgentSection], second: tuple[str, HomeAgentSection], findings: Findings
) -> None:
    (one, a), (two, b) = first, second
    if a.address == b.address:
        why = f"is home_agents.{one}.address as well; two home agents need two addresses"
        if a.placement != b.placement:
            why = (
                f"is home_agents.{one}.address as well; the inside and the outside home agent must "
                "have different addresses, or a device cannot tell which of them answered "
                "(draft 001, section 4.4)"
            )
        findings.refuse(f"home_agents.{two}.address", b.address, why)
    for (name, section), (other, its) in ((first, second), (second, first)):
        if section.address in its.public_addresses:
            why = f"is the address of home_agents.{name}; a device could not tell them apart"
            findings.refuse(f"home_agents.{other}.public_addresses", section.address, why)
    for network in a.home_networks:
        if network in b.home_networks:
            why = (
                f"belongs to home_agents.{one} already, and there is one way to a home address; "
                "give each home agent networks of its own"
            )
            findings.refuse(f"home_agents.{two}.home_networks", network, why)


def _remote(key: str, section: HomeAgentSection, findings: Findings) -> None:
    """One in another box: what it is told to do stands there."""
    told = {"address", "placement", "home_networks", "remote", "public_addresses"}
    told |= {"ticket_key_file"}
    for field in sorted(section.model_fields_set - told):
        why = "is for home agents of this box, and this one is remote; set it there, remove it here"
        findings.refuse(f"{key}.{field}", None, why)


def _home_agent(config: Config, key: str, section: HomeAgentSection, findings: Findings) -> None:
    if section.remote:
        _remote(key, section, findings)
    _address(f"{key}.address", section.address, findings)
    for address in section.public_addresses:
        _address(f"{key}.public_addresses", address, findings)
    _listed_once(key, section, ("home_networks", "public_addresses"), findings)
    for name in section.home_networks:
        if name not in config.home_networks:
            why = unknown("home_networks", name, config.home_networks)
            findings.refuse(f"{key}.home_networks", name, why)
    _encapsulations(key, section.encapsulations, findings)
    if section.placement == "inside":
        _inside(config, key, section, findings)
    given = section.model_fields_set
    if section.zero_overhead == "off" and section.zero_overhead_destinations:
        why = 'is never used with zero_overhead = "off"; remove one of them'
        findings.refuse(f"{key}.zero_overhead_destinations", None, why)
    wanted = {"zero_overhead", "zero_overhead_destinations"} & given
    if section.zero_overhead != "off" and wanted:
        for field, value, need in (
            ("udp_tunnelling", "required", "it works without UDP only"),
            ("reverse_tunnelling", "off", "it needs reverse tunnels"),
        ):
            if getattr(section, field) == value:
                why = f'is never granted with {field} = "{value}": {need}'
                findings.warn(f"{key}.zero_overhead", section.zero_overhead, why)
    _peers(f"{key}.foreign_agents", section.foreign_agents, findings)
    if not section.trust_unsigned_agents and not section.foreign_agents:
        why = "lets no foreign agent in without a table foreign_agents; only devices that have an"
        why += " address of their own can register"
        findings.warn(f"{key}.trust_unsigned_agents", False, why)


def _inside(config: Config, key: str, section: HomeAgentSection, findings: Findings) -> None:
    outside = config.dataplane.outside_interfaces
    if section.public_addresses:
        why = (
            "makes an inside home agent known outside; devices that reach it there take themselves "
            'to be inside. Remove it, or set placement = "outside"'
        )
        findings.warn(f"{key}.public_addresses", [str(a) for a in section.public_addresses], why)
    for name in section.home_networks:
        network = config.home_networks.get(name)
        if network is not None and network.interface is not None and network.interface in outside:
            why = f"is one of dataplane.outside_interfaces, but {key} is inside"
            findings.refuse(f"home_networks.{name}.interface", network.interface, why)


def _address(key: str, address: IPv4Address, findings: Findings) -> None:
    if _no_host(address):
        findings.refuse(key, address, "not an address of a host")
    elif address.is_loopback:
        findings.warn(key, address, "nobody but this host reaches it; give an address of a network")


def _listed_once(key: str, section: object, names: Sequence[str], findings: Findings) -> None:
    for name in names:
        values: Sequence[Any] = getattr(section, name)
        for value in dict.fromkeys(v for v in values if values.count(v) > 1):
            findings.refuse(f"{key}.{name}", value, "is listed twice")


def _encapsulations(key: str, words: Sequence[str], findings: Findings) -> None:
    for word in dict.fromkeys(w for w in words if words.count(w) > 1):
        findings.refuse(f"{key}.encapsulations", word, "is listed twice")
    if "ip-ip" not in words:
        why = 'lacks "ip-ip", which every agent must know (RFC 5944 section 4.1); add it'
        findings.refuse(f"{key}.encapsulations", list(words), why)


def _peers(key: str, sections: Mapping[str, PeerAgentSection], findings: Findings) -> None:
    seen: dict[tuple[IPv4Address, int], str] = {}
    for name, section in sections.items():
        _address(f"{key}.{name}.address", section.address, findings)
        check_key(f"{key}.{name}", section, findings)
        pair = (section.address, section.spi)
        if pair in seen:
            why = f"{key}.{seen[pair]} has this address and SPI already; give another spi"
            findings.refuse(f"{key}.{name}.spi", section.spi, why)
        seen.setdefault(pair, name)


def _foreign_agents(config: Config, findings: Findings) -> None:
    for name, section in config.foreign_agents.items():
        _foreign_agent(config, name, section, findings)
    for (one, a), (two, b) in combinations(config.foreign_agents.items(), 2):
        if a.care_of_address == b.care_of_address:
            why = f"is that of foreign_agents.{one} as well; each needs its own"
            findings.refuse(f"foreign_agents.{two}.care_of_address", b.care_of_address, why)
        if a.interface is not None and a.interface == b.interface:
            why = f"foreign_agents.{one} serves there already; a link has one foreign agent of ours"
            findings.refuse(f"foreign_agents.{two}.interface", b.interface, why)


def _foreign_agent(
    config: Config, name: str, section: ForeignAgentSection, findings: Findings
) -> None:
    key, address = f"foreign_agents.{name}", section.care_of_address
    where = f"{key}.care_of_address"
    _address(where, address, findings)
    for other, agent in config.home_agents.items():
        if address in (agent.address, *agent.public_addresses):
            why = (
                f"is an address of home_agents.{other}; packets to it could be for either, so give "
                "the foreign agent one of its own"
            )
            findings.refuse(where, address, why)
    for other, network in config.home_networks.items():
        if address in network.network and network.interface is None:
            why = f"lies in the virtual home_networks.{other}, whose addresses are all away"
            findings.refuse(where, address, why)
    _encapsulations(key, section.encapsulations, findings)
    _visitor_keys(key, section, findings)
    _peers(f"{key}.known_home_agents", section.known_home_agents, findings)
    for other, peer in section.known_home_agents.items():
        if section.home_agents and not any(peer.address in one for one in section.home_agents):
            why = f"is not in {key}.home_agents, so nothing is relayed to it"
            findings.refuse(f"{key}.known_home_agents.{other}.address", peer.address, why)
    if section.through_vpn:
        _through_vpn(config, name, section, findings)
    else:
        _on_link(config, key, section, findings)


def _on_link(config: Config, key: str, section: ForeignAgentSection, findings: Findings) -> None:
    if section.interface is None:
        why = "is required: the link of the visitors; or set through_vpn = true"
        findings.refuse(f"{key}.interface", None, why)
    elif section.interface == config.dataplane.xfrm_interface:
        why = "is the interface of the tunnels; set through_vpn = true and remove it"
        findings.refuse(f"{key}.interface", section.interface, why)
    interval_s, lifetime_s = section.advertisement_interval_s, section.advertisement_lifetime_s
    if interval_s > lifetime_s:
        why = (
            f"shorter than advertisement_interval_s = {interval_s:g}, so devices would lose the "
            "agent between two; give three times as much"
        )
        findings.refuse(f"{key}.advertisement_lifetime_s", lifetime_s, why)


def _through_vpn(
    config: Config, name: str, section: ForeignAgentSection, findings: Findings
) -> None:
    key = f"foreign_agents.{name}"
    refused: dict[str, tuple[object, str]] = {}
    if section.interface not in (None, config.dataplane.xfrm_interface):
        refused["interface"] = section.interface, "excludes through_vpn; remove one of them"
    if section.reverse_tunnelling == "off":
        why = "through the VPN every packet is tunnelled to the home agent (draft 001, B.5)"
        refused["reverse_tunnelling"] = "off", f"{why}; remove it"
    if not section.registration_required:
        why = "devices of the VPN can only register by way of it (draft 001, appendix B); remove it"
        refused["registration_required"] = False, why
    if section.challenge:
        why = "IKE carries the advertisement once, so its challenge would be stale; remove it"
        refused["challenge"] = True, why
    for field in ("advertisement_interval_s", "advertisement_lifetime_s"):
        if field in section.model_fields_set:
            why = "is for links: through the VPN, IKE carries the advertisement; remove it"
            refused[field] = getattr(section, field), why
    for field, (value, why) in refused.items():
        findings.refuse(f"{key}.{field}", value, why)
    if not any(agent_of(config, one) == name for one in config.connections.values()):
        why = 'no connection tells its devices about it; set vpn_fa = "allowed" in one'
        findings.warn(key, None, why)


def _visitor_keys(key: str, section: ForeignAgentSection, findings: Findings) -> None:
    seen: set[int] = set()
    for number, one in enumerate(section.visitor_keys):
        where = f"{key}.visitor_keys[{number}]"
        check_key(where, one, findings)
        if one.spi in seen:
            findings.refuse(f"{where}.spi", one.spi, "is used twice; give each key its own")
        seen.add(one.spi)
    if section.require_visitor_authentication and not section.visitor_keys:
        why = f"lets nobody in without keys; add a table [[{key}.visitor_keys]]"
        findings.refuse(f"{key}.require_visitor_authentication", True, why)


def _shared(config: Config, findings: Findings) -> None:
    mobility = config.mobility
    if mobility.queue == config.dataplane.queue:
        why = "is dataplane.queue as well; each needs a queue of its own"
        findings.refuse("mobility.queue", mobility.queue, why)
    nodes = config.mobile_nodes or mobility.mobile_nodes_file is not None
    if nodes and not config.home_agents:
        where = "mobile_nodes" if config.mobile_nodes else "mobility.mobile_nodes_file"
        findings.refuse(
            where, None, "is never used: add a table [home_agents.NAME] that knows them"
        )
    if config.home_agents and not nodes:
        why = "there is none, so nobody can register; add [mobile_nodes.NAME]"
        findings.warn("mobile_nodes", None, why)
    for address in mobility.inside_home_agents:
        _address("mobility.inside_home_agents", address, findings)
        for name, agent in config.home_agents.items():
            if address == agent.address:
                why = f"is home_agents.{name} of this gateway; its placement says it already"
                findings.refuse("mobility.inside_home_agents", address, why)
    _listed_once("mobility", mobility, ("inside_home_agents",), findings)
    inside = any(agent.placement == "inside" for agent in config.home_agents.values())
    if (inside or mobility.inside_home_agents) and not config.dataplane.outside_interfaces:
        findings.warn("dataplane.outside_interfaces", None, NO_PROOF)


def _relays(config: Config, findings: Findings) -> None:
    inside = set(config.mobility.inside_home_agents)
    inside |= {a.address for a in config.home_agents.values() if a.placement == "inside"}
    ours = {agent.address: name for name, agent in config.home_agents.items()}
    seen: dict[tuple[IPv4Address, int], int] = {}
    for number, relay in enumerate(config.mobility.relays):
        key, pair = f"mobility.relays[{number}]", (relay.public_address, relay.public_port)
        _address(f"{key}.public_address", relay.public_address, findings)
        _address(f"{key}.home_agent", relay.home_agent, findings)
        if pair in seen:
            why = f"is that of mobility.relays[{seen[pair]}] as well; give each its own port"
            findings.refuse(f"{key}.public_port", relay.public_port, why)
        seen.setdefault(pair, number)
        if relay.public_port == MIP_PORT and relay.public_address in ours:
            why = f"is where home_agents.{ours[relay.public_address]} listens; choose another"
            findings.refuse(f"{key}.public_port", relay.public_port, why)
        if relay.public_port in (config.ike.port, config.ike.nat_port):
            findings.refuse(f"{key}.public_port", relay.public_port, "is IKE's; choose another")
        if relay.home_agent in inside:
            why = "is an inside home agent; relaying to it from outside would undo what it proves"
            findings.refuse(f"{key}.home_agent", relay.home_agent, why)
