"""From the validated file to what the mobility agents and their dataplane take."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from weakref import WeakKeyDictionary

from gateway.config.credential_files import FileRefusedError
from gateway.config.document import Config
from gateway.config.mobility import (
    HomeAgentSection,
    HomeNetworkSection,
    KeySection,
    MobileNodeSection,
    PeerAgentSection,
)
from gateway.config.mobility_logins import identity_text
from gateway.config.mobility_nodes import (
    Keyed,
    agents_serving,
    all_nodes,
    key_octets,
    node_keys,
)
from gateway.config.problem import ConfigError, Problem
from gateway.dataplane.mobility import MobilitySettings, RelayedHomeAgent
from gateway.domain.mobility import Encapsulation, HomeNetwork
from gateway.domain.pools import AddressPool
from gateway.mip_agents.policy import (
    Algorithm,
    Allowance,
    ForeignAgentPolicy,
    HomeAgentPolicy,
    MobileNode,
    PeerAgent,
    Placement,
    ReplayProtection,
    SecurityAssociation,
)
from gateway.mip_agents.ticket import TicketBox

WHOLE_NETWORK_ADDRESSES = 65_536
"""Up to this size, a home network's pool spans all of it, less what is not dynamic."""


class NodeTable:
    """Mobile nodes by home address and by NAI, whose realm is a domain name: case does not count.

    The :class:`~gateway.mip_agents.policy.MobileNodes` of a home agent.
    """

    __slots__ = ("_by_address", "_by_nai")

    def __init__(self, nodes: Iterable[MobileNode]) -> None:
        self._by_address: dict[IPv4Address, MobileNode] = {}
        self._by_nai: dict[str, MobileNode] = {}
        for node in nodes:
            if node.home_address is not None:
                self._by_address[node.home_address] = node
            if node.nai:
                self._by_nai[folded_nai(node.nai)] = node

    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        """The one with this configured home address."""
        return self._by_address.get(address)

    def by_nai(self, nai: str) -> MobileNode | None:
        """The one with this network access identifier."""
        return self._by_nai.get(folded_nai(nai))


def folded_nai(nai: str) -> str:
    """An NAI for comparison: its realm in lower case (RFC 4282 section 2.4)."""
    user, at, realm = nai.rpartition("@")
    return f"{user}@{realm.lower()}" if at else nai


def home_agents(
    config: Config, tickets: Mapping[str, TicketBox] | None = None
) -> tuple[HomeAgentPolicy, ...]:
    """The home agents of this box in the order of the file. Reads the keys and the file of nodes.

    ``tickets`` open what logins bring, by home agent. Raises :class:`ConfigError` where a file
    cannot be used (any more).
    """
    if not config.own_home_agents:
        return ()
    sections, boxes = all_nodes(config), tickets or {}
    served: dict[str, list[MobileNode]] = {name: [] for name in config.home_agents}
    for name, section in sections.items():
        node = _made_before(config, name, section)
        for agent in agents_serving(config, section):
            served[agent].append(node)
    fixed = frozenset(s.home_address for s in sections.values() if s.home_address is not None)
    ours = fixed | {agent.address for agent in config.home_agents.values()}
    return tuple(
        _home_agent(config, name, agent, NodeTable(served[name]), ours, tickets=boxes.get(name))
        for name, agent in config.own_home_agents.items()
    )


def _home_agent(
    config: Config,
    name: str,
    section: HomeAgentSection,
    nodes: NodeTable,
    taken: frozenset[IPv4Address],
    *,
    tickets: TicketBox | None,
) -> HomeAgentPolicy:
    networks = {one: config.home_networks[one] for one in section.home_networks}
    return HomeAgentPolicy(
        name=name,
        address=section.address,
        placement=Placement(section.placement),
        networks=tuple(_network(one, network) for one, network in networks.items()),
        nodes=nodes,
        tickets=tickets,
        pools={n: pool(n, network, taken) for n, network in networks.items() if network.dynamic},
        public_addresses=section.public_addresses,
        peer_agents=_peers(config, f"home_agents.{name}.foreign_agents", section.foreign_agents),
        lifetime_s=section.lifetime_s,
        lifetime_spread=section.lifetime_spread,
        encapsulations=frozenset(map(Encapsulation, section.encapsulations)),
        reverse_tunnelling=Allowance(section.reverse_tunnelling),
        udp_tunnelling=Allowance(section.udp_tunnelling),
        keepalive_s=section.keepalive_s,
        simultaneous=section.simultaneous,
        broadcasts=section.broadcasts,
        revocation=section.revocation,
        zero_overhead=Allowance(section.zero_overhead),
        zero_overhead_destinations=section.zero_overhead_destinations,
        max_packet_octets=section.max_packet_octets,
        max_bindings=section.max_bindings,
        trust_unsigned_agents=section.trust_unsigned_agents,
        other_home_agents=frozenset(_known_home_agents(config)) - {section.address},
    )


def _known_home_agents(config: Config) -> Iterator[IPv4Address]:
    """Every address that is a home agent's, as far as the configuration says."""
    for agent in config.home_agents.values():
        yield from (agent.address, *agent.public_addresses)
    yield from config.others_inside
    yield from (relay.home_agent for relay in config.mobility.relays)


def _network(name: str, section: HomeNetworkSection) -> HomeNetwork:
    return HomeNetwork(name, section.network, section.interface)


def pool(name: str, section: HomeNetworkSection, taken: frozenset[IPv4Address]) -> AddressPool:
    """The dynamic addresses of a home network, without those that somebody has for good."""
    span = pool_span(section)
    dynamic = sorted(section.dynamic, key=lambda one: one.first)
    kept = {address for address in taken if address in span}
    kept.update(address for network in section.reserved for address in network)
    following = int(span[0])
    for one in dynamic:
        kept.update(map(IPv4Address, range(following, int(one.first))))
        following = max(following, int(one.last) + 1)
    kept.update(map(IPv4Address, range(following, int(span[-1]) + 1)))
    if section.network.prefixlen < 31:
        kept |= {section.network.network_address, section.network.broadcast_address}
    return AddressPool(name, span, kept)


def pool_span(section: HomeNetworkSection) -> IPv4Network:
    """The network that the pool of a home network is made of; it holds all dynamic addresses."""
    if section.network.num_addresses <= WHOLE_NETWORK_ADDRESSES:
        return section.network
    first = min(one.first for one in section.dynamic)
    last = max(one.last for one in section.dynamic)
    span = IPv4Network(first)
    while last not in span:
        span = span.supernet()
    return span


_MADE: WeakKeyDictionary[MobileNodeSection, MobileNode] = WeakKeyDictionary()
"""Most of ten thousand nodes are the same after a change."""


def _made_before(config: Config, name: str, section: MobileNodeSection) -> MobileNode:
    """As :func:`_node`, which reads files anew."""
    made = _MADE.get(section)
    if made is not None and made.name == name:
        return made
    made = _node(config, name, section)
    if all(one.key_file is None for _, one in node_keys(section)):
        _MADE[section] = made
    return made


def _node(config: Config, name: str, section: MobileNodeSection) -> MobileNode:
    key = f"mobile_nodes.{name}"
    return MobileNode(
        name=name,
        home_address=section.home_address,
        nai=section.nai or "",
        home_network=section.home_network or "",
        associations=tuple(
            SecurityAssociation(
                spi=one.spi,
                key=_key(config, f"{key}.{where}" if where else key, one),
                algorithm=Algorithm(one.algorithm),
                replay=ReplayProtection(one.replay),
                replay_window_s=one.replay_window_s,
            )
            for where, one in node_keys(section)
        ),
        max_care_of_addresses=section.max_care_of_addresses,
        max_packet_octets=section.max_packet_octets,
        login=section.logs_in,
        identity=identity_text(section.identity) if section.identity else "",
    )


def _key(config: Config, key: str, section: Keyed) -> bytes:
    try:
        return key_octets(section)
    except FileRefusedError as error:
        field = "key" if section.key is not None else "key_file"
        given = None if section.key_file is None else f'"{section.key_file}"'
        problem = Problem(config.path, f"{key}.{field}", str(error), given)
        raise ConfigError([problem]) from None


def _association(
    config: Config, key: str, section: KeySection | PeerAgentSection
) -> SecurityAssociation:
    octets = _key(config, key, section)
    return SecurityAssociation(section.spi, octets, Algorithm(section.algorithm))


def _peers(
    config: Config, key: str, sections: Mapping[str, PeerAgentSection]
) -> dict[IPv4Address, PeerAgent]:
    """By address; tables with the same address are keys of one agent."""
    found: dict[IPv4Address, PeerAgent] = {}
    for name, section in sections.items():
        new = _association(config, f"{key}.{name}", section)
        before = found.get(section.address)
        known = before.associations if before else ()
        required = section.required or (before is not None and before.required)
        found[section.address] = PeerAgent(section.address, (*known, new), required)
    return found


def foreign_agents(config: Config) -> tuple[ForeignAgentPolicy, ...]:
    """The foreign agents in the order of the file. Reads the keys.

    Raises :class:`ConfigError` where a file cannot be used (any more).
    """
    return tuple(foreign_agent(config, name) for name in config.foreign_agents)


def foreign_agent(config: Config, name: str) -> ForeignAgentPolicy:
    """One of them. Raises :class:`ConfigError` as :func:`foreign_agents`."""
    section = config.foreign_agents[name]
    key = f"foreign_agents.{name}"
    vpn = section.through_vpn
    return ForeignAgentPolicy(
        name=name,
        care_of_address=section.care_of_address,
        interface=section.interface or config.dataplane.xfrm_interface,
        through_vpn=vpn,
        nar_server=section.nar_server or "",
        peer_agents=_peers(config, f"{key}.known_home_agents", section.known_home_agents),
        home_agents=section.home_agents,
        visitor_associations={
            one.spi: _association(config, f"{key}.visitor_keys[{number}]", one)
            for number, one in enumerate(section.visitor_keys)
        },
        require_visitor_authentication=section.require_visitor_authentication,
        registration_required=section.registration_required,
        lifetime_s=section.lifetime_s,
        reverse_tunnelling=Allowance.REQUIRED if vpn else Allowance(section.reverse_tunnelling),
        udp_tunnelling=Allowance(section.udp_tunnelling),
        encapsulations=frozenset(map(Encapsulation, section.encapsulations)),
        challenge=section.challenge,
        nai=section.nai or "",
        advertisement_interval_s=0 if vpn else section.advertisement_interval_s,
        advertisement_lifetime_s=section.advertisement_lifetime_s,
        revocation=section.revocation,
        max_visitors=section.max_visitors,
        max_pending=section.max_pending,
        pending_timeout_s=section.pending_timeout_s,
        max_packet_octets=section.max_packet_octets,
        trust_unsigned_agents=section.trust_unsigned_agents,
    )


def mobility_settings(config: Config) -> MobilitySettings | None:
    """What the dataplane does for the agents; None when there is nothing to do.

    There is something without an agent of ours too: home agents behind us to protect or to relay.
    """
    mobility = config.mobility
    if not config.needs_mobility:
        return None
    inside = tuple(_inside(config))
    links = (a.interface for a in config.foreign_agents.values() if not a.through_vpn)
    return MobilitySettings(
        home_agents=tuple(agent.address for agent in config.own_home_agents.values()),
        inside_home_agents=inside,
        care_of_addresses=tuple(a.care_of_address for a in config.foreign_agents.values()),
        home_networks=tuple(
            _network(name, config.home_networks[name])
            for agent in config.own_home_agents.values()
            for name in agent.home_networks
        ),
        visited_interfaces=tuple(dict.fromkeys(link for link in links if link is not None)),
        outside_interfaces=config.dataplane.outside_interfaces,
        protected_networks=tuple(
            network for network in config.offered_networks if isinstance(network, IPv4Network)
        ),
        vpn_interface=config.dataplane.xfrm_interface,
        offload=mobility.offload,
        queue_number=mobility.queue,
        queue_length=mobility.queue_length,
        mtu=max([config.dataplane.mtu, *_packet_sizes(config)]),
        relayed_home_agents=tuple(
            RelayedHomeAgent(relay.public_address, relay.public_port, relay.home_agent)
            for relay in mobility.relays
        ),
        forwarding=config.dataplane.forwarding,
    )


def _inside(config: Config) -> Iterator[IPv4Address]:
    found = [a.address for a in config.own_home_agents.values() if a.placement == "inside"]
    yield from dict.fromkeys([*found, *config.others_inside])


def _packet_sizes(config: Config) -> Iterator[int]:
    yield from (agent.max_packet_octets for agent in config.own_home_agents.values())
    yield from (agent.max_packet_octets for agent in config.foreign_agents.values())
