"""What to do about a registration that was denied: by code, for administrators."""

from typing import Final

from gateway.mip_agents.codec.codes import ReplyCode

_KEYS = "give both sides the same SPI, key and algorithm"
_REVERSE_ON = "switch reverse tunnelling on in the device"
_VENDOR = "switch that extension off where it comes from"
_AAA = "ask who runs the AAA server; this gateway uses none for registrations"
_ICMP = "check routes and firewalls between the foreign agent and the home agent"
_CHALLENGE = "nothing if it happens now and then: the device tries again with a newer challenge"

_ADVICE: Final = {
    ReplyCode.ACCEPTED: "nothing",
    ReplyCode.ACCEPTED_NO_SIMULTANEOUS: "nothing, or set simultaneous = true at the home agent",
    ReplyCode.CONCURRENT_PRE_ACCEPT: "nothing",
    ReplyCode.FA_UNSPECIFIED: "look at the foreign agent's log",
    ReplyCode.FA_PROHIBITED: "look at the foreign agent's log: its policy names the reason",
    ReplyCode.FA_INSUFFICIENT_RESOURCES: "raise max_visitors or max_pending of the foreign agent",
    ReplyCode.FA_MOBILE_NODE_AUTHENTICATION: f"{_KEYS}: visitor_keys of the foreign agent",
    ReplyCode.FA_HOME_AGENT_AUTHENTICATION: f"{_KEYS}: known_home_agents of the foreign agent",
    ReplyCode.FA_LIFETIME_TOO_LONG: "nothing: the device asks again for what the reply offers; "
    "otherwise raise lifetime_s of the foreign agent",
    ReplyCode.FA_POOR_REQUEST: "update the device: its request breaks the format",
    ReplyCode.FA_POOR_REPLY: "update the home agent: its reply breaks the format",
    ReplyCode.FA_ENCAPSULATION_UNAVAILABLE: "add it to encapsulations of the foreign agent, or "
    "have the device ask for IP-in-IP",
    ReplyCode.FA_REVERSE_TUNNEL_UNAVAILABLE: "set reverse_tunnelling of the foreign agent to "
    "allowed",
    ReplyCode.FA_REVERSE_TUNNEL_MANDATORY: _REVERSE_ON,
    ReplyCode.FA_TTL_TOO_LOW: "connect the device to the foreign agent's link itself: a router "
    "lies between",
    ReplyCode.FA_INVALID_CARE_OF_ADDRESS: "have the device use the care-of address of a new "
    "advertisement",
    ReplyCode.FA_REGISTRATION_TIMEOUT: "see whether the home agent runs, and whether UDP port 434 "
    "passes both ways",
    ReplyCode.FA_DELIVERY_STYLE_UNSUPPORTED: "have the device use the direct delivery style",
    ReplyCode.FA_HOME_NETWORK_UNREACHABLE: _ICMP,
    ReplyCode.FA_HOME_AGENT_HOST_UNREACHABLE: _ICMP,
    ReplyCode.FA_HOME_AGENT_PORT_UNREACHABLE: "start the home agent: nothing listens on its port",
    ReplyCode.FA_HOME_AGENT_UNREACHABLE: _ICMP,
    ReplyCode.FA_NONZERO_HOME_AGENT_REQUIRED: "enter the home agent's address in the device",
    ReplyCode.FA_NONZERO_HOME_ADDRESS_REQUIRED: "enter the home address in the device",
    ReplyCode.FA_MISSING_NAI: "enter the NAI in the device",
    ReplyCode.FA_MISSING_HOME_AGENT: "enter the home agent's address in the device",
    ReplyCode.FA_MISSING_HOME_ADDRESS: "enter the home address in the device, or give the home "
    "network dynamic addresses",
    ReplyCode.FA_VENDOR_EXTENSION_OF_MOBILE_NODE: _VENDOR,
    ReplyCode.FA_VENDOR_EXTENSION_OF_HOME_AGENT: _VENDOR,
    ReplyCode.FA_UNKNOWN_CHALLENGE: _CHALLENGE,
    ReplyCode.FA_MISSING_CHALLENGE: "switch challenges (RFC 4721) on in the device, or set "
    "challenge = false at the foreign agent",
    ReplyCode.FA_STALE_CHALLENGE: _CHALLENGE,
    ReplyCode.FA_AAA_AUTHENTICATION: _AAA,
    ReplyCode.FA_WRONG_CHALLENGE_IN_REPLY: "update the home agent: it must copy the challenge",
    ReplyCode.HA_UNSPECIFIED: "look at the home agent's log for binding_refused: the kernel "
    "refused its tunnel a moment ago",
    ReplyCode.HA_PROHIBITED: "look at the home agent's log: it names which rule forbids it",
    ReplyCode.HA_INSUFFICIENT_RESOURCES: "raise max_bindings, or look for bindings left behind "
    "with: gateway bindings; a device that moves more than ten times a second has to slow down",
    ReplyCode.HA_MOBILE_NODE_AUTHENTICATION: f"{_KEYS}: mobile_nodes of the home agent",
    ReplyCode.HA_FOREIGN_AGENT_AUTHENTICATION: f"{_KEYS}: foreign_agents of the home agent",
    ReplyCode.HA_IDENTIFICATION_MISMATCH: "nothing if it happens once: the device corrects its "
    'clock by the reply. Otherwise set its clock (NTP), or use replay = "nonces"; many of them '
    "are somebody who repeats messages",
    ReplyCode.HA_POOR_REQUEST: "update the device: its request breaks the format",
    ReplyCode.HA_TOO_MANY_BINDINGS: "raise max_care_of_addresses of the device",
    ReplyCode.HA_UNKNOWN_HOME_AGENT: "enter the home agent's address in the device; behind a port "
    "forwarding, list the public one in public_addresses",
    ReplyCode.HA_REVERSE_TUNNEL_UNAVAILABLE: "set reverse_tunnelling of the home agent to allowed",
    ReplyCode.HA_REVERSE_TUNNEL_MANDATORY: _REVERSE_ON,
    ReplyCode.HA_ENCAPSULATION_UNAVAILABLE: "add it to encapsulations of the home agent, or have "
    "the device ask for IP-in-IP",
    ReplyCode.HA_VENDOR_EXTENSION_OF_MOBILE_NODE: _VENDOR,
    ReplyCode.HA_VENDOR_EXTENSION_OF_FOREIGN_AGENT: _VENDOR,
    ReplyCode.HA_UDP_ENCAPSULATION_UNAVAILABLE: "have the device ask for IP-in-IP inside UDP, or "
    "add what it asks for to encapsulations of the home agent",
    ReplyCode.HA_REDIRECTED: "nothing: the device asks the home agent that the reply names",
    ReplyCode.HA_AAA_AUTHENTICATION: _AAA,
    ReplyCode.FA_INVALID_HOME_AGENT_ADDRESS: "add it to home_agents of the foreign agent",
}


def advice(code: int) -> str:
    """What to do about a code; nothing is known about those that nobody has defined."""
    try:
        return _ADVICE[ReplyCode(code)]
    except ValueError:
        return "ask who runs the agent that sent it: the code is not one of the RFCs'"
