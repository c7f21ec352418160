"""The node's tunnel devices as rtnetlink requests: made once, and changed in place after.

Layouts: ``linux/if_tunnel.h``. A device that is given another local address keeps its addresses
and routes. GRE with and without UDP is one device: the kernel takes no two to the same address.
"""

import errno
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    nested,
    request,
)
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.node import NodeTunnel
from gateway.domain.mobility import MIP_PORT, Encapsulation

_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_GROUP = 3, 4, 18, 27
_INFO_KIND, _INFO_DATA = 1, 2
_IPTUN_LINK, _IPTUN_LOCAL, _IPTUN_REMOTE, _IPTUN_TTL, _IPTUN_TOS = 1, 2, 3, 4, 5
_IPTUN_PMTUDISC, _IPTUN_FWMARK = 10, 20
_GRE_LINK, _GRE_LOCAL, _GRE_REMOTE, _GRE_TTL, _GRE_TOS, _GRE_PMTUDISC = 1, 6, 7, 8, 9, 10
_GRE_ENCAP_TYPE, _GRE_ENCAP_FLAGS, _GRE_ENCAP_SPORT, _GRE_ENCAP_DPORT = 14, 15, 16, 17
_GRE_IGNORE_DF, _GRE_FWMARK = 19, 20
_ENCAP_NONE, _ENCAP_FOU = 0, 1
_TTL: Final = b"\x40"
_TOS_INHERIT: Final = b"\x01"
_IFF_UP: Final = 1
_INFO = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")
_U16 = struct.Struct("=H")
_PORT = struct.Struct("!H")
GONE: Final = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)
"""What taking something away may answer when it is not there."""


@dataclass(frozen=True, slots=True)
class TunnelDevice:
    """The end of a layer's tunnel on this host."""

    name: str
    local: IPv4Address
    remote: IPv4Address
    link: int
    """Index of the interface below."""
    mark: int
    mtu: int
    udp_port: int = 0
    """Of the home agent; not 0: RFC 3519."""
    encapsulation: Encapsulation = Encapsulation.IP_IP
    """On the wire; in UDP, within that."""

    @property
    def gre(self) -> bool:
        """Whether it is a GRE device; otherwise IP-in-IP."""
        return self.name in (constants.OUTER_GRE, constants.INNER_GRE)

    def _ip_ip(self) -> tuple[bytes, ...]:
        return (
            attribute(_IPTUN_LINK, _U32.pack(self.link)),
            attribute(_IPTUN_LOCAL, self.local.packed),
            attribute(_IPTUN_REMOTE, self.remote.packed),
            attribute(_IPTUN_TTL, _TTL),
            attribute(_IPTUN_TOS, _TOS_INHERIT),
            attribute(_IPTUN_PMTUDISC, b"\0"),
            attribute(_IPTUN_FWMARK, _U32.pack(self.mark)),
        )

    def _gre(self) -> tuple[bytes, ...]:
        encapsulation = _ENCAP_FOU if self.udp_port else _ENCAP_NONE
        return (
            attribute(_GRE_LINK, _U32.pack(self.link)),
            attribute(_GRE_LOCAL, self.local.packed),
            attribute(_GRE_REMOTE, self.remote.packed),
            attribute(_GRE_TTL, _TTL),
            attribute(_GRE_TOS, _TOS_INHERIT),
            attribute(_GRE_PMTUDISC, b"\0"),
            attribute(_GRE_IGNORE_DF, b"\1"),
            attribute(_GRE_FWMARK, _U32.pack(self.mark)),
            attribute(_GRE_ENCAP_TYPE, _U16.pack(encapsulation)),
            attribute(_GRE_ENCAP_FLAGS, _U16.pack(0)),
            attribute(_GRE_ENCAP_SPORT, _PORT.pack(MIP_PORT)),
            attribute(_GRE_ENCAP_DPORT, _PORT.pack(self.udp_port)),
        )

    def _body(self, index: int) -> bytes:
        kind, data = (b"gre", self._gre()) if self.gre else (b"ipip", self._ip_ip())
        return (
            _INFO.pack(0, 0, index, _IFF_UP, _IFF_UP)
            # Not even its own name is taken by a device that is up.
            + (b"" if index else attribute(_IFLA_IFNAME, self.name.encode() + b"\0"))
            + attribute(_IFLA_MTU, _U32.pack(self.mtu))
            + attribute(_IFLA_GROUP, _U32.pack(constants.DEVICE_GROUP))
            + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, kind), nested(_INFO_DATA, *data))
        )

    def make(self) -> bytes:
        """EEXIST when there is another tunnel between these addresses."""
        return request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, self._body(0))

    def change(self, index: int) -> bytes:
        """Make the device of this index like this one, which has to have its name."""
        return request(_RTM_NEWLINK, 0, self._body(index))


def set_up(index: int, mtu: int) -> bytes:
    """Set any device up with this MTU."""
    body = _INFO.pack(0, 0, index, _IFF_UP, _IFF_UP)
    return request(_RTM_NEWLINK, 0, body + attribute(_IFLA_MTU, _U32.pack(mtu)))


def delete(index: int) -> bytes:
    """Delete a device; ENODEV when it is gone. Routes through it and its addresses go with it."""
    return request(_RTM_DELLINK, 0, _INFO.pack(0, 0, index, 0, 0))


def device(layer: NodeTunnel, *, inner: bool, link: int) -> TunnelDevice:
    """The device of a co-located layer."""
    gre = layer.udp_port != 0 or layer.encapsulation is Encapsulation.GRE
    if inner:
        name = constants.INNER_GRE if gre else constants.INNER_IP_IP
    else:
        name = constants.OUTER_GRE if gre else constants.OUTER_IP_IP
    return TunnelDevice(
        name,
        layer.care_of_address,
        layer.home_agent,
        link,
        constants.NODE_INNER if inner else constants.NODE_LINK,
        layer.max_packet_octets,
        layer.udp_port,
        layer.encapsulation,
    )
