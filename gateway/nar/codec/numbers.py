"""The numbers of SOCKS5, of NAR, and of our extension to it.

The draft leaves NAR's commands open ("TBD"); these are in use here, as documented in the protocol
notes. Requests of SOCKS5 and NAR-MODE begin with version 5, those of NAR with version 1.
"""

import enum
from typing import Final

SOCKS_VERSION: Final = 5
NAR_VERSION: Final = 1
PASSWORD_VERSION: Final = 1
"""Of the username/password sub-negotiation (RFC 1929)."""
MAX_METHODS: Final = 255


class Method(enum.IntEnum):
    """Authentication methods (RFC 1928 section 3)."""

    NONE = 0x00
    GSSAPI = 0x01
    PASSWORD = 0x02
    UNACCEPTABLE = 0xFF


class SocksCommand(enum.IntEnum):
    """Commands with version 5; NAR-MODE is the draft's (section 3.1)."""

    CONNECT = 0x01
    BIND = 0x02
    UDP_ASSOCIATE = 0x03
    NAR_MODE = 0x80


class NarCommand(enum.IntEnum):
    """Commands with version 1, in NAR mode only (sections 3.2 to 3.4)."""

    ICMP_ASSOCIATE = 0x81
    IPSEC_ASSOCIATE = 0x82
    TUNNEL_ASSOCIATE = 0x83
    SESSION = 0x90
    """Extension: a lease time, and a token by which a lost session is taken up again."""
    RENEW = 0x91
    """Extension: all leases of the session go on."""
    RELEASE = 0x92
    """Extension: end one lease, or all."""
    L2TP_ASSOCIATE = 0x93
    """Extension: identifiers and cookies of the L2TPv3 session that delivers."""
    NOTICE = 0x94
    """Extension, from the server unasked: what became of leases."""


class NarFlag(enum.IntFlag):
    """In the RSV octet of NAR-MODE's request and reply (section 3.1)."""

    TRANSLATED = 0x01
    GRE = 0x02
    L2TP = 0x04
    LEASES = 0x80
    """Extension: the client knows commands 0x90 to 0x94. A server that does not leaves it out of
    its reply, and none of them may be used."""


class AddressType(enum.IntEnum):
    """ATYP (RFC 1928 section 5)."""

    IPV4 = 0x01
    DOMAIN = 0x03
    IPV6 = 0x04


class Reply(enum.IntEnum):
    """REP of SOCKS5 (RFC 1928 section 6); NAR's replies carry it in the place of CMD."""

    SUCCEEDED = 0x00
    GENERAL_FAILURE = 0x01
    NOT_ALLOWED = 0x02
    NETWORK_UNREACHABLE = 0x03
    HOST_UNREACHABLE = 0x04
    CONNECTION_REFUSED = 0x05
    TTL_EXPIRED = 0x06
    COMMAND_NOT_SUPPORTED = 0x07
    ADDRESS_TYPE_NOT_SUPPORTED = 0x08


class Notice(enum.IntEnum):
    """Why the server sends a NOTICE."""

    ADDRESS_CHANGED = 1
    """Nb is another one now; the leases go on with the same values at the new address."""
    LEASE_ENDED = 2
    """This tuple is no longer the client's."""
    STOPPING = 3
    """The server stops; leases go on for the grace period, take the session up again."""
