"""Types of messages and extensions, as IANA lists them, and the limits we set on both."""

import enum


class MessageType(enum.IntEnum):
    """The first octet of everything on UDP port 434."""

    REGISTRATION_REQUEST = 1
    REGISTRATION_REPLY = 3
    TUNNEL_DATA = 4
    """RFC 3519."""
    REVOCATION = 7
    """RFC 3543."""
    REVOCATION_ACKNOWLEDGMENT = 15
    """RFC 3543."""


class ExtensionType(enum.IntEnum):
    """The first octet of an extension of these messages.

    Whoever does not know one below 128 has to discard the whole message (RFC 5944 section 1.8).
    """

    MOBILE_HOME_AUTHENTICATION = 32
    MOBILE_FOREIGN_AUTHENTICATION = 33
    FOREIGN_HOME_AUTHENTICATION = 34
    GENERALIZED_AUTHENTICATION = 36
    """RFC 4721; in the long format."""
    CRITICAL_VENDOR = 38
    """RFC 3115; in the long format, with a reserved octet for the subtype."""
    UDP_TUNNEL_REPLY = 44
    """RFC 3519."""
    EXPERIMENT = 127
    """RFC 4064; here the zero-overhead confirmation of draft 001, appendix D."""
    ENCAPSULATING_DELIVERY = 130
    """RFC 3024."""
    MOBILE_NODE_NAI = 131
    """RFC 2794."""
    CHALLENGE = 132
    """RFC 4721."""
    VENDOR = 134
    """RFC 3115."""
    REVOCATION_SUPPORT = 137
    """RFC 3543."""
    UDP_TUNNEL_REQUEST = 144
    """RFC 3519."""
    SKIPPABLE_EXPERIMENT = 255
    """RFC 4064; here the zero-overhead request of draft 001, appendix D."""


ONE_OCTET_PADDING = 0
"""Has neither length nor data (RFC 5944 section 6.3)."""
FIRST_SKIPPABLE = 128
ZERO_OVERHEAD_SUBTYPE = 1
"""Of both experimental extensions."""
MN_AAA_SUBTYPE = 1
"""Generalized authentication by the AAA server's key (RFC 4721 section 6)."""
FIRST_SPI = 256
"""SPIs below are reserved; none of them ever names an association (RFC 5944 section 3.5.1)."""

MAX_MESSAGE_OCTETS = 2048
"""More than any link that mobile nodes use carries in one piece."""
MAX_EXTENSIONS = 32
