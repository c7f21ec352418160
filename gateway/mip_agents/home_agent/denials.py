"""Why a request is denied: the code for the mobile node, the words for the administrator."""

from dataclasses import dataclass

from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.replay import Freshness


@dataclass(frozen=True, slots=True)
class Denial:
    """A registration is not granted."""

    code: ReplyCode
    reason: str
    """What is wrong."""
    hint: str = ""
    """What to do about it."""


MISSING_AUTHENTICATOR = Denial(
    ReplyCode.HA_MOBILE_NODE_AUTHENTICATION,
    "it has no mobile-home authentication extension, or more than one",
    "give the mobile node the SPI and key that are configured here",
)
UNKNOWN_NODE = Denial(
    ReplyCode.HA_MOBILE_NODE_AUTHENTICATION,
    "no mobile node is configured by that name or home address",
    "add it under the mobile nodes of this home agent",
)
WRONG_AUTHENTICATOR = Denial(
    ReplyCode.HA_MOBILE_NODE_AUTHENTICATION,
    "its authenticator is wrong",
    "compare key and algorithm of this SPI on both sides",
)
NO_AGENT_AUTHENTICATOR = Denial(
    ReplyCode.HA_FOREIGN_AGENT_AUTHENTICATION,
    "the foreign agent did not authenticate itself",
    "configure the same FA-HA key on both agents, or do not demand it of this agent",
)
WRONG_AGENT_AUTHENTICATOR = Denial(
    ReplyCode.HA_FOREIGN_AGENT_AUTHENTICATION,
    "the foreign agent's authenticator is wrong",
    "compare SPI, key and algorithm of the two agents",
)
NOT_OURS = Denial(
    ReplyCode.HA_UNKNOWN_HOME_AGENT,
    "it asks for another home agent",
    "the reply carries this home agent's address",
)
TWO_ENCAPSULATIONS = Denial(
    ReplyCode.HA_POOR_REQUEST, "it asks for minimal encapsulation and GRE at the same time"
)
LIFETIME_AT_HOME = Denial(
    ReplyCode.HA_POOR_REQUEST,
    "its care-of address is its home address, with a lifetime",
    "a node at home deregisters with lifetime 0",
)
NO_HOST = Denial(
    ReplyCode.HA_POOR_REQUEST,
    "its care-of address, or its source, is no host's: 0/8, loopback, multicast or broadcast",
)
LOOP = Denial(
    ReplyCode.HA_PROHIBITED, "its care-of address is a home agent's: packets would go in circles"
)
CARE_OF_IN_HOME_NETWORK = Denial(
    ReplyCode.HA_PROHIBITED,
    "it would be tunnelled to a mobile node's home address, or into a virtual home network",
    "a node on its home link deregisters instead",
)
VENDOR_OF_NODE = Denial(
    ReplyCode.HA_VENDOR_EXTENSION_OF_MOBILE_NODE,
    "the mobile node sent a critical vendor extension that is not known here",
)
VENDOR_OF_AGENT = Denial(
    ReplyCode.HA_VENDOR_EXTENSION_OF_FOREIGN_AGENT,
    "the foreign agent sent a critical vendor extension that is not known here",
)
REVERSE_UNAVAILABLE = Denial(
    ReplyCode.HA_REVERSE_TUNNEL_UNAVAILABLE,
    "it asks for reverse tunnelling, which is off here",
    "set reverse_tunnelling to allowed",
)
REVERSE_MANDATORY = Denial(
    ReplyCode.HA_REVERSE_TUNNEL_MANDATORY,
    "it does not ask for reverse tunnelling, which is demanded here",
    "switch reverse tunnelling on in the mobile node",
)
ENCAPSULATION_UNAVAILABLE = Denial(
    ReplyCode.HA_ENCAPSULATION_UNAVAILABLE,
    "it asks for an encapsulation that is off here",
    "add it to the encapsulations of this home agent",
)
UDP_ENCAPSULATION_UNAVAILABLE = Denial(
    ReplyCode.HA_UDP_ENCAPSULATION_UNAVAILABLE,
    "it asks for an encapsulation in UDP that is off here",
    "add it to the encapsulations of this home agent",
)
BEHIND_NAT = Denial(
    ReplyCode.HA_PROHIBITED,
    "it is behind a NAT and does not offer UDP tunnelling: no packet would reach it",
    "switch NAT traversal (RFC 3519) on in the mobile node or foreign agent",
)
UDP_OFF = Denial(
    ReplyCode.HA_PROHIBITED,
    "it is behind a NAT, or forces UDP, and UDP tunnelling is off here",
    "set udp_tunnelling to allowed",
)
FORCED_BY_WAY_OF_AGENT = Denial(
    ReplyCode.HA_PROHIBITED,
    "it forces UDP tunnelling by way of a foreign agent that would not pass it on",
    "register without the F flag, or without the agent",
)
NO_ROOM = Denial(
    ReplyCode.HA_INSUFFICIENT_RESOURCES,
    "this home agent has as many bindings as it may have",
    "raise max_bindings, or see whether bindings are left behind",
)
RESTLESS = Denial(
    ReplyCode.HA_INSUFFICIENT_RESOURCES,
    "it changes its care-of addresses faster than any mobile node moves",
    "look at what it does; it is served again in a moment",
)
NO_POOL = Denial(
    ReplyCode.HA_PROHIBITED,
    "it wants a home address assigned, and its home network has no pool",
    "give it a home address, or the network a pool",
)
ANOTHERS_HOME_ADDRESS = Denial(
    ReplyCode.HA_PROHIBITED,
    "the home address it names is not its own, or taken",
    "ask with home address 0.0.0.0 for one that is assigned",
)
OUTSIDE_HOME_NETWORKS = Denial(
    ReplyCode.HA_PROHIBITED,
    "its home address is no host's in the home networks of this home agent",
    "correct the home address or the home networks in the configuration",
)
DATAPLANE_REFUSED = Denial(
    ReplyCode.HA_UNSPECIFIED,
    "the kernel refused its tunnel a moment ago",
    "see the event binding_refused for why",
)
_NOT_FRESH = {
    one: Denial(
        ReplyCode.HA_IDENTIFICATION_MISMATCH,
        f"its Identification is {one.value}",
        "the reply lets it resynchronise; if that does not last, look at its clock and ours",
    )
    for one in Freshness
}


def not_fresh(freshness: Freshness) -> Denial:
    """An authentic request that is not new, or not of our time."""
    return _NOT_FRESH[freshness]
