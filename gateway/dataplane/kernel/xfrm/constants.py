"""Numbers of NETLINK_XFRM (``linux/xfrm.h``) and the mark of what this gateway owns."""

import enum
from typing import Final

IF_ID: Final = 0x47570001
"""The xfrm interface identifier of every tunnel of this gateway."""
REQID_FIRST: Final = 0x47000000
REQID_LAST: Final = 0x47FFFFFF
REQID_SHARED: Final = REQID_FIRST
"""The reqid of inbound SAs whose own selector says all; the constant policies ask for it."""
REQID_WAITING: Final = REQID_LAST
"""The reqid of outbound SAs that are not used yet: no policy asks for it."""
POLICY_PRIORITY: Final = 0x47000
POLICY_PRIORITY_CONSTANT: Final = 0x47FFF
"""Larger numbers match later: the constant policies come after those of child SAs."""

INFINITE: Final = 0xFFFFFFFFFFFFFFFF
IPPROTO_ESP: Final = 50
UDP_ENCAP_ESPINUDP: Final = 2

STATE_ESN: Final = 128
STATE_AF_UNSPEC: Final = 32

MODE_TRANSPORT: Final = 0
MODE_TUNNEL: Final = 1


class XfrmMessage(enum.IntEnum):
    """Message types."""

    NEWSA = 0x10
    DELSA = 0x11
    GETSA = 0x12
    NEWPOLICY = 0x13
    DELPOLICY = 0x14
    GETPOLICY = 0x15
    ALLOCSPI = 0x16
    ACQUIRE = 0x17
    EXPIRE = 0x18
    UPDPOLICY = 0x19
    UPDSA = 0x1A
    POLEXPIRE = 0x1B
    FLUSHSA = 0x1C
    FLUSHPOLICY = 0x1D
    NEWAE = 0x1E
    GETAE = 0x1F
    REPORT = 0x20
    MIGRATE = 0x21
    NEWSADINFO = 0x22
    GETSADINFO = 0x23
    NEWSPDINFO = 0x24
    GETSPDINFO = 0x25
    MAPPING = 0x26


class XfrmGroup(enum.IntEnum):
    """Multicast groups."""

    ACQUIRE = 1
    EXPIRE = 2
    SA = 3
    POLICY = 4
    AEVENTS = 5
    REPORT = 6
    MIGRATE = 7
    MAPPING = 8


class XfrmAttribute(enum.IntEnum):
    """Attributes of states, policies and events."""

    ALG_AUTH = 1
    ALG_CRYPT = 2
    ALG_COMP = 3
    ENCAP = 4
    TMPL = 5
    SA = 6
    POLICY = 7
    SEC_CTX = 8
    LTIME_VAL = 9
    REPLAY_VAL = 10
    REPLAY_THRESH = 11
    ETIMER_THRESH = 12
    SRCADDR = 13
    COADDR = 14
    LASTUSED = 15
    POLICY_TYPE = 16
    MIGRATE = 17
    ALG_AEAD = 18
    KMADDRESS = 19
    ALG_AUTH_TRUNC = 20
    MARK = 21
    TFCPAD = 22
    REPLAY_ESN_VAL = 23
    SA_EXTRA_FLAGS = 24
    PROTO = 25
    ADDRESS_FILTER = 26
    PAD = 27
    OFFLOAD_DEV = 28
    SET_MARK = 29
    SET_MARK_MASK = 30
    IF_ID = 31
    MTIMER_THRESH = 32


class SpdAttribute(enum.IntEnum):
    """Attributes of NEWSPDINFO and GETSPDINFO."""

    INFO = 1
    HINFO = 2
    IPV4_HTHRESH = 3
    IPV6_HTHRESH = 4


class Direction(enum.IntEnum):
    """Where a policy looks."""

    IN = 0
    OUT = 1
    FWD = 2
