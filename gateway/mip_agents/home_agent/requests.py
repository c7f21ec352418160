"""The order in which a registration request is judged (RFC 5944 section 3.8.2.1).

Authenticity comes first: until both authenticators and the Identification are found right,
nothing is changed and nothing is told. Each check returns a denial or None to go on, and leaves
what it found out in the :class:`~gateway.mip_agents.home_agent.case.Case`.
"""

from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.domain.mobility import Encapsulation, Tunnel
from gateway.mip_agents import authentication
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.home_agent import (
    denials,
    home_addresses,
    logins,
    nat_traversal,
    zero_overhead,
)
from gateway.mip_agents.home_agent.addresses import Addresses, is_no_host
from gateway.mip_agents.home_agent.bindings import BindingTable, node_key
from gateway.mip_agents.home_agent.case import Case
from gateway.mip_agents.home_agent.denials import Denial
from gateway.mip_agents.home_agent.nat_traversal import Traversal
from gateway.mip_agents.policy import (
    Allowance,
    HomeAgentPolicy,
    MobileNode,
    PeerAgent,
)

_CO_LOCATED = int(RequestFlag.CO_LOCATED)
_MINIMAL = int(RequestFlag.MINIMAL)
_GRE = int(RequestFlag.GRE)
_REVERSE = int(RequestFlag.REVERSE)
_SIMULTANEOUS = int(RequestFlag.SIMULTANEOUS)


class Court:
    """Judges requests by the policy; changes nothing."""

    __slots__ = ("addresses", "policy", "table")

    def __init__(self, policy: HomeAgentPolicy, addresses: Addresses, table: BindingTable) -> None:
        self.policy = policy
        self.addresses = addresses
        self.table = table

    def judge_authenticity(self, case: Case) -> Denial | None:
        """Who it is from, and whether the two authenticators are right: codes 131 and 132."""
        return (
            self._find_node(case)
            or self._check_mobile_node(case)
            or self._check_foreign_agent(case)
        )

    def judge_wishes(self, case: Case) -> Denial | None:
        """Everything else, of an authentic and fresh request; fills in what will be granted."""
        for check in _ALWAYS:
            denial = check(self, case)
            if denial is not None:
                return denial
        if case.deregisters:
            return None
        for check in _FOR_BINDINGS:
            denial = check(self, case)
            if denial is not None:
                return denial
        return None

    def _find_node(self, case: Case) -> Denial | None:
        if case.authenticators != 1:
            return denials.MISSING_AUTHENTICATOR
        nodes, table = self.policy.nodes, self.table
        node = nodes.by_nai(case.nai.nai) if case.nai is not None else None
        if node is None:
            registrant = table.by_home.get(int(case.request.home_address))
            if registrant is not None:
                case.registrant = registrant
                case.node, case.key = registrant.node, registrant.key
                return None
            node = nodes.by_home_address(case.request.home_address)
        if node is None:
            return denials.UNKNOWN_NODE
        case.node, case.key = node, node_key(node)
        case.registrant = table.by_key.get(case.key)
        return None

    def _check_mobile_node(self, case: Case) -> Denial | None:
        extension, node = case.mobile_home, case.node
        if extension is None or node is None:
            return denials.MISSING_AUTHENTICATOR
        for association in node.associations:
            if association.spi == extension.spi:
                if authentication.verify(case.request.octets, extension, association):
                    case.association = association
                    return None
                return denials.WRONG_AUTHENTICATOR
        if node.login:
            return logins.check(case, node, self.policy, self.addresses.own)
        return Denial(
            ReplyCode.HA_MOBILE_NODE_AUTHENTICATION,
            f"no key is configured for its SPI {extension.spi}",
            "use one of the SPIs that are configured for this mobile node",
        )

    def _check_foreign_agent(self, case: Case) -> Denial | None:
        policy = self.policy
        if case.foreign_home is None:
            if case.deregisters:
                # Those never carry one (RFC 5944 section 3.5.4).
                return None
            # Without an agent in between there is nobody to prove anything.
            by_agent = not case.direct and case.udp is None
            if not by_agent and case.flags & _CO_LOCATED:
                return None
            peer = self._peer(case)
            if peer.required if peer else not policy.trust_unsigned_agents:
                return denials.NO_AGENT_AUTHENTICATOR
            return None
        peer = self._peer(case)
        if peer is None or case.foreign_homes != 1:
            return denials.WRONG_AGENT_AUTHENTICATOR
        for association in peer.associations:
            if association.spi == case.foreign_home.spi and authentication.verify(
                case.request.octets, case.foreign_home, association
            ):
                case.agent_association = association
                return None
        return denials.WRONG_AGENT_AUTHENTICATOR

    def _peer(self, case: Case) -> PeerAgent | None:
        agents = self.policy.peer_agents
        if not agents:
            return None
        return agents.get(case.source) or agents.get(case.request.care_of_address)

    def _check_vendor_extensions(self, case: Case) -> Denial | None:
        if case.vendor:
            return denials.VENDOR_OF_NODE
        return denials.VENDOR_OF_AGENT if case.agent_vendor else None

    def _check_home_agent(self, case: Case) -> Denial | None:
        if int(case.request.home_agent) in self.addresses.own:
            return None
        return denials.NOT_OURS

    def _check_form(self, case: Case) -> Denial | None:
        # The reserved bits r and x are ignored when received (RFC 5944 section 3.3).
        if case.flags & _MINIMAL and case.flags & _GRE:
            return denials.TWO_ENCAPSULATIONS
        return None

    def _check_home_address(self, case: Case) -> Denial | None:
        if case.node is None:
            return denials.UNKNOWN_NODE
        found = home_addresses.judge(
            case.request.home_address, case.node, case.registrant, self.addresses
        )
        if isinstance(found, Denial):
            return found
        case.home_address = found
        return None

    def _check_care_of_address(self, case: Case) -> Denial | None:
        if case.home_address is not None and case.care_of == int(case.home_address):
            return denials.LIFETIME_AT_HOME
        if is_no_host(case.care_of):
            return denials.NO_HOST
        if self.addresses.is_home_agent(case.care_of):
            return denials.LOOP
        return None

    def _check_tunnel_end(self, case: Case) -> Denial | None:
        """Where packets will be sent: behind a NAT, that is not the care-of address."""
        remote = case.traversal.remote if case.traversal else case.request.care_of_address
        number = int(remote)
        if is_no_host(number):
            return denials.NO_HOST
        if self.addresses.is_home_agent(number) or self.addresses.is_home_agent(int(case.source)):
            return denials.LOOP
        network = self.addresses.home_network(number)
        if network is None:
            return None
        # Somebody may live there, an agent for one; but no mobile node tunnels to another.
        if (
            network.interface is None
            or number in self.table.by_home
            or (case.home_address is not None and remote == case.home_address)
            or self.policy.nodes.by_home_address(remote) is not None
        ):
            return denials.CARE_OF_IN_HOME_NETWORK
        return None

    def _check_traversal(self, case: Case) -> Denial | None:
        co_located = case.flags & _CO_LOCATED != 0
        # The foreign agent asks for its own care-of address, the mobile node for its own.
        wanted = case.udp if co_located else case.agent_udp
        if wanted is None and case.direct:
            return None
        found = nat_traversal.decide(
            wanted,
            case.request.care_of_address,
            case.source,
            case.path.remote.port,
            self.policy,
            co_located=co_located,
            by_flags=asked_encapsulation(case.flags),
        )
        if isinstance(found, Denial):
            return found
        case.traversal = found
        return None

    def _check_encapsulation(self, case: Case) -> Denial | None:
        traversal = case.traversal
        if traversal is not None and traversal.encapsulation is not None:
            return None
        if asked_encapsulation(case.flags) not in self.policy.encapsulations:
            return denials.ENCAPSULATION_UNAVAILABLE
        return None

    def _check_reverse_tunnel(self, case: Case) -> Denial | None:
        allowance, asked = self.policy.reverse_tunnelling, case.flags & _REVERSE
        if asked and allowance is Allowance.OFF:
            return denials.REVERSE_UNAVAILABLE
        if not asked and allowance is Allowance.REQUIRED:
            return denials.REVERSE_MANDATORY
        return None

    def _check_room(self, case: Case) -> Denial | None:
        registrant, node = case.registrant, case.node
        bound = registrant.care_ofs if registrant is not None else ()
        if not bound:
            return denials.NO_ROOM if len(self.table) >= self.policy.max_bindings else None
        if node is None or not (case.flags & _SIMULTANEOUS and self.simultaneous(node)):
            return None
        others = sum(int(one.address) != case.care_of for one in bound)
        if others >= node.max_care_of_addresses:
            return Denial(
                ReplyCode.HA_TOO_MANY_BINDINGS,
                f"it has {others} care-of addresses already, as many as it may have",
                "raise max_care_of_addresses of this mobile node, or deregister one",
            )
        return None

    def _check_dataplane(self, case: Case) -> Denial | None:
        registrant = case.registrant
        if registrant is not None and registrant.refused_until > case.now:
            return denials.DATAPLANE_REFUSED
        return None

    def simultaneous(self, node: MobileNode) -> bool:
        """Whether the node may have several care-of addresses at a time."""
        return self.policy.simultaneous and node.max_care_of_addresses > 1

    def tunnel(self, case: Case) -> Tunnel:
        """The tunnel that a request without fault gets."""
        traversal = case.traversal or Traversal(case.request.care_of_address)
        return Tunnel(
            self.policy.address,
            traversal.remote,
            traversal.encapsulation or asked_encapsulation(case.flags),
            traversal.udp_port,
        )

    def zero_overhead(self, case: Case, home: IPv4Address, *, alone: bool) -> IPv4Address | None:
        """The default destination of address switching, None without."""
        if case.zero_overhead is None:
            return None
        if not self.table.may_switch(case.registrant, case.care_of):
            return None
        plain = case.direct and not (case.traversal and case.traversal.udp_port)
        return zero_overhead.grant(
            case.zero_overhead.destination,
            case.request,
            home,
            self.policy,
            self.addresses,
            direct=plain,
            alone=alone,
        )


def asked_encapsulation(flags: int) -> Encapsulation:
    """What the M and G bits say."""
    if flags & _MINIMAL:
        return Encapsulation.MINIMAL
    return Encapsulation.GRE if flags & _GRE else Encapsulation.IP_IP


_Check = Callable[[Court, Case], Denial | None]
_ALWAYS: tuple[_Check, ...] = (
    Court._check_vendor_extensions,  # noqa: SLF001 - the order of its own checks
    Court._check_home_agent,  # noqa: SLF001
    Court._check_form,  # noqa: SLF001
    Court._check_home_address,  # noqa: SLF001
)
_FOR_BINDINGS: tuple[_Check, ...] = (
    Court._check_care_of_address,  # noqa: SLF001
    Court._check_traversal,  # noqa: SLF001
    Court._check_tunnel_end,  # noqa: SLF001
    Court._check_encapsulation,  # noqa: SLF001
    Court._check_reverse_tunnel,  # noqa: SLF001
    Court._check_room,  # noqa: SLF001
    Court._check_dataplane,  # noqa: SLF001
)
