"""How the node attaches to a link, and how a registration travels from there."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.dataplane.node import Attachment
from gateway.domain.wire import WireError
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag
from gateway.mobile_node.agents import Agent
from gateway.mobile_node.inputs import LinkState, VpnSession
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import Via


@dataclass(frozen=True, slots=True)
class Foothold:
    """What a link offers: an address of our own, a foreign agent, or both."""

    link: LinkState
    agent: Agent | None = None

    @property
    def by_agent(self) -> bool:
        """Whether the foreign agent is used: there is no other way, or it insists (R bit)."""
        if self.agent is None:
            return False
        return self.link.address is None or self.agent.registration_required

    @property
    def own_address(self) -> IPv4Address | None:
        """The co-located care-of address."""
        return self.link.address.ip if self.link.address is not None else None

    @property
    def usable(self) -> bool:
        """Whether anything can be sent from here."""
        return self.link.carrier and (self.link.address is not None or self.agent is not None)

    def at_home(self, policy: HomeAgentPolicy) -> bool:
        """Whether the link looks like the home link; only the home agent's answer proves it."""
        address = self.link.address
        if address is None:
            return False
        return address.ip == policy.home_address or address.network == policy.home_network

    def via(self, policy: HomeAgentPolicy, *, home: bool = False) -> Via | None:
        """How a request to a home agent travels from here; None when there is no way.

        ``home``: to deregister from the home link (RFC 5944 section 3.6.1.2).
        """
        interface = self.link.interface
        if home:
            address = policy.home_address
            return Via(interface, address, policy.home_agent, address, co_located=True)
        agent = self.agent
        if self.by_agent and agent is not None:
            return Via(
                interface,
                policy.home_address,
                agent.address,
                agent.care_of_addresses[0],
                co_located=False,
                link_address=agent.link_address,
                challenge=agent.challenge,
                encapsulations=agent.encapsulations,
                longest_lifetime_s=agent.longest_lifetime_s,
            )
        own = self.own_address
        if own is None:
            return None
        return Via(interface, own, policy.home_agent, own, co_located=True)

    def attachment(
        self, policy: HomeAgentPolicy | None, *, home: bool = False, direct: bool = False
    ) -> Attachment | None:
        """The lowest layer of the stack, for a layer of Mobile IP above it, or none.

        ``direct``: without Mobile IP at the bottom, so without a foreign agent.
        """
        link, own = self.link, self.own_address
        if home and policy is not None:
            return Attachment(link.interface, policy.home_address, link.router)
        if self.by_agent and not direct and policy is not None and self.agent is not None:
            agent = self.agent
            return Attachment(
                link.interface, policy.home_address, agent.address, agent.link_address
            )
        if own is None:
            return None
        return Attachment(link.interface, own, link.router)


def vpn_care_of_address(session: VpnSession) -> IPv4Address | None:
    """The VPN-CoA of the advertisement that IKE carried; None if there is no good one."""
    if not session.vpn_fa:
        return None
    try:
        advertisement = AgentAdvertisement.parse(session.advertisement)
    except WireError:
        return None
    if not advertisement.flags & AgentFlag.FOREIGN_AGENT or not advertisement.care_of_addresses:
        return None
    return advertisement.care_of_addresses[0]


def vpn_via(policy: HomeAgentPolicy, session: VpnSession) -> Via:
    """How the i-MIP registration travels through the VPN (draft 001, sections 3.3 to 3.8, B.4)."""
    care_of = vpn_care_of_address(session)
    if care_of is None:
        inner = session.inner
        return Via(None, inner, policy.home_agent, inner, co_located=True)
    longest = AgentAdvertisement.parse(session.advertisement).registration_lifetime_s
    return Via(
        None,
        policy.home_address,
        care_of,
        care_of,
        co_located=False,
        longest_lifetime_s=longest,
    )


def same_connection(before: LinkState, after: LinkState) -> bool:
    """Whether nothing has changed that a proof rests on."""
    routers = {before.router_link_address, after.router_link_address} - {b""}
    if len(routers) > 1:
        return False
    return (before.generation, before.carrier, before.address, before.router) == (
        after.generation,
        after.carrier,
        after.address,
        after.router,
    )
