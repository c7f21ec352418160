"""Codes of registration replies and what they mean to people.

RFC 5944 section 3.4, RFC 2794, 3024, 3115, 3519, 4433, 4721.
"""

import enum

FIRST_DENIAL = 64
FIRST_HOME_AGENT_DENIAL = 128
FIRST_LATER_DENIAL = 193
"""193 to 200 come from foreign agents again: there were no lower numbers left."""
LAST_LATER_DENIAL = 200


class ReplyCode(enum.IntEnum):
    """0 to 8 accept, 64 to 127 and 193 to 200 are a foreign agent's, the rest a home agent's."""

    ACCEPTED = 0
    ACCEPTED_NO_SIMULTANEOUS = 1
    CONCURRENT_PRE_ACCEPT = 2

    FA_UNSPECIFIED = 64
    FA_PROHIBITED = 65
    FA_INSUFFICIENT_RESOURCES = 66
    FA_MOBILE_NODE_AUTHENTICATION = 67
    FA_HOME_AGENT_AUTHENTICATION = 68
    FA_LIFETIME_TOO_LONG = 69
    FA_POOR_REQUEST = 70
    FA_POOR_REPLY = 71
    FA_ENCAPSULATION_UNAVAILABLE = 72
    FA_REVERSE_TUNNEL_UNAVAILABLE = 74
    FA_REVERSE_TUNNEL_MANDATORY = 75
    FA_TTL_TOO_LOW = 76
    FA_INVALID_CARE_OF_ADDRESS = 77
    FA_REGISTRATION_TIMEOUT = 78
    FA_DELIVERY_STYLE_UNSUPPORTED = 79
    FA_HOME_NETWORK_UNREACHABLE = 80
    FA_HOME_AGENT_HOST_UNREACHABLE = 81
    FA_HOME_AGENT_PORT_UNREACHABLE = 82
    FA_HOME_AGENT_UNREACHABLE = 88
    FA_NONZERO_HOME_AGENT_REQUIRED = 90
    FA_NONZERO_HOME_ADDRESS_REQUIRED = 96
    FA_MISSING_NAI = 97
    FA_MISSING_HOME_AGENT = 98
    FA_MISSING_HOME_ADDRESS = 99
    FA_VENDOR_EXTENSION_OF_MOBILE_NODE = 100
    FA_VENDOR_EXTENSION_OF_HOME_AGENT = 101
    FA_UNKNOWN_CHALLENGE = 104
    FA_MISSING_CHALLENGE = 105
    FA_STALE_CHALLENGE = 106
    FA_AAA_AUTHENTICATION = 108
    FA_WRONG_CHALLENGE_IN_REPLY = 109

    HA_UNSPECIFIED = 128
    HA_PROHIBITED = 129
    HA_INSUFFICIENT_RESOURCES = 130
    HA_MOBILE_NODE_AUTHENTICATION = 131
    HA_FOREIGN_AGENT_AUTHENTICATION = 132
    HA_IDENTIFICATION_MISMATCH = 133
    HA_POOR_REQUEST = 134
    HA_TOO_MANY_BINDINGS = 135
    HA_UNKNOWN_HOME_AGENT = 136
    HA_REVERSE_TUNNEL_UNAVAILABLE = 137
    HA_REVERSE_TUNNEL_MANDATORY = 138
    HA_ENCAPSULATION_UNAVAILABLE = 139
    HA_VENDOR_EXTENSION_OF_MOBILE_NODE = 140
    HA_VENDOR_EXTENSION_OF_FOREIGN_AGENT = 141
    HA_UDP_ENCAPSULATION_UNAVAILABLE = 142
    HA_REDIRECTED = 143
    HA_AAA_AUTHENTICATION = 144

    FA_INVALID_HOME_AGENT_ADDRESS = 194

    @property
    def text(self) -> str:
        """What happened, for people."""
        return _TEXTS[self]


_TEXTS = {
    ReplyCode.ACCEPTED: "accepted",
    ReplyCode.ACCEPTED_NO_SIMULTANEOUS: "accepted, but only one care-of address at a time",
    ReplyCode.CONCURRENT_PRE_ACCEPT: "accepted ahead of a concurrent registration",
    ReplyCode.FA_UNSPECIFIED: "the foreign agent gives no reason",
    ReplyCode.FA_PROHIBITED: "the foreign agent's policy forbids it",
    ReplyCode.FA_INSUFFICIENT_RESOURCES: "the foreign agent is full",
    ReplyCode.FA_MOBILE_NODE_AUTHENTICATION: "the mobile node could not prove itself to the"
    " foreign agent",
    ReplyCode.FA_HOME_AGENT_AUTHENTICATION: "the home agent could not prove itself to the"
    " foreign agent",
    ReplyCode.FA_LIFETIME_TOO_LONG: "the lifetime is longer than the foreign agent allows",
    ReplyCode.FA_POOR_REQUEST: "the foreign agent finds the request malformed",
    ReplyCode.FA_POOR_REPLY: "the foreign agent finds the home agent's reply malformed",
    ReplyCode.FA_ENCAPSULATION_UNAVAILABLE: "the foreign agent lacks that encapsulation",
    ReplyCode.FA_REVERSE_TUNNEL_UNAVAILABLE: "the foreign agent has no reverse tunnels",
    ReplyCode.FA_REVERSE_TUNNEL_MANDATORY: "the foreign agent wants a reverse tunnel (T bit)",
    ReplyCode.FA_TTL_TOO_LOW: "the mobile node is not on the foreign agent's link",
    ReplyCode.FA_INVALID_CARE_OF_ADDRESS: "the care-of address is not the foreign agent's",
    ReplyCode.FA_REGISTRATION_TIMEOUT: "the home agent did not answer the foreign agent in time",
    ReplyCode.FA_DELIVERY_STYLE_UNSUPPORTED: "the foreign agent lacks that delivery style",
    ReplyCode.FA_HOME_NETWORK_UNREACHABLE: "the home network is unreachable (ICMP)",
    ReplyCode.FA_HOME_AGENT_HOST_UNREACHABLE: "the home agent's host is unreachable (ICMP)",
    ReplyCode.FA_HOME_AGENT_PORT_UNREACHABLE: "nothing listens on the home agent's port (ICMP)",
    ReplyCode.FA_HOME_AGENT_UNREACHABLE: "the home agent is unreachable",
    ReplyCode.FA_NONZERO_HOME_AGENT_REQUIRED: "the foreign agent wants a home agent's address",
    ReplyCode.FA_NONZERO_HOME_ADDRESS_REQUIRED: "the foreign agent wants a home address",
    ReplyCode.FA_MISSING_NAI: "the foreign agent wants an NAI",
    ReplyCode.FA_MISSING_HOME_AGENT: "the foreign agent cannot tell the home agent",
    ReplyCode.FA_MISSING_HOME_ADDRESS: "the home agent's reply has no home address",
    ReplyCode.FA_VENDOR_EXTENSION_OF_MOBILE_NODE: "the foreign agent does not know a vendor's"
    " extension of the mobile node",
    ReplyCode.FA_VENDOR_EXTENSION_OF_HOME_AGENT: "the foreign agent does not know a vendor's"
    " extension of the home agent",
    ReplyCode.FA_UNKNOWN_CHALLENGE: "the challenge is not one of the foreign agent's",
    ReplyCode.FA_MISSING_CHALLENGE: "the foreign agent wants its challenge answered",
    ReplyCode.FA_STALE_CHALLENGE: "the challenge was used before",
    ReplyCode.FA_AAA_AUTHENTICATION: "the AAA server does not accept the mobile node",
    ReplyCode.FA_WRONG_CHALLENGE_IN_REPLY: "the home agent's reply has another challenge",
    ReplyCode.HA_UNSPECIFIED: "the home agent gives no reason",
    ReplyCode.HA_PROHIBITED: "the home agent's policy forbids it",
    ReplyCode.HA_INSUFFICIENT_RESOURCES: "the home agent is full",
    ReplyCode.HA_MOBILE_NODE_AUTHENTICATION: "the mobile node could not prove itself: unknown,"
    " or another key, SPI or algorithm",
    ReplyCode.HA_FOREIGN_AGENT_AUTHENTICATION: "the foreign agent could not prove itself to the"
    " home agent",
    ReplyCode.HA_IDENTIFICATION_MISMATCH: "the identification is old, repeated or not in time:"
    " clocks differ, or it is a replay",
    ReplyCode.HA_POOR_REQUEST: "the home agent finds the request malformed",
    ReplyCode.HA_TOO_MANY_BINDINGS: "too many care-of addresses at a time",
    ReplyCode.HA_UNKNOWN_HOME_AGENT: "the home agent's address in the request is not its own",
    ReplyCode.HA_REVERSE_TUNNEL_UNAVAILABLE: "the home agent has no reverse tunnels",
    ReplyCode.HA_REVERSE_TUNNEL_MANDATORY: "the home agent wants a reverse tunnel (T bit)",
    ReplyCode.HA_ENCAPSULATION_UNAVAILABLE: "the home agent lacks that encapsulation",
    ReplyCode.HA_VENDOR_EXTENSION_OF_MOBILE_NODE: "the home agent does not know a vendor's"
    " extension of the mobile node",
    ReplyCode.HA_VENDOR_EXTENSION_OF_FOREIGN_AGENT: "the home agent does not know a vendor's"
    " extension of the foreign agent",
    ReplyCode.HA_UDP_ENCAPSULATION_UNAVAILABLE: "the home agent does not tunnel in UDP",
    ReplyCode.HA_REDIRECTED: "another home agent should be asked",
    ReplyCode.HA_AAA_AUTHENTICATION: "the AAA server does not accept the mobile node",
    ReplyCode.FA_INVALID_HOME_AGENT_ADDRESS: "the foreign agent does not relay to that home agent",
}
_KNOWN = {int(code): code for code in ReplyCode}


def describe(code: int) -> str:
    """What a code means, for people; any octet will do."""
    known = _KNOWN.get(code)
    if known is not None:
        return known.text
    later = FIRST_LATER_DENIAL <= code <= LAST_LATER_DENIAL
    if code >= FIRST_HOME_AGENT_DENIAL and not later:
        return f"denied by the home agent with the unknown code {code}"
    if code >= FIRST_DENIAL:
        return f"denied by the foreign agent with the unknown code {code}"
    return f"unknown code {code}"
