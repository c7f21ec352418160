"""Numbers and names by which a mobile node knows what is its own on a host.

No other program on the machine may use 0x47580000 to 0x4758ffff as a fwmark, these route tables
and priorities, or these interface names.
"""

from typing import Final

TABLE: Final = "gateway_node"
"""The nftables table, family inet."""

MARKS: Final = 0x4758_0000
"""The upper half of all fwmarks of a node."""
NODE_LINK: Final = 0x4758_0001
"""Signalling and tunnels of the lowest layer: straight onto a link."""
NODE_VPN: Final = 0x4758_0002
"""IKE and ESP: through the x-MIP layer where there is one, else onto the link in use."""
NODE_INNER: Final = 0x4758_0003
"""i-MIP signalling and tunnels: through the VPN's interface, or inside onto the link."""
NODE_PROBE: Final = 0x4758_0004
"""The probe for a captive portal, and its DNS; its sockets are bound to an interface."""
RECEIVED: Final = 0x4758_0010
"""In the kernel only: a UDP tunnel's packet whose header the switch has exchanged."""

HOLD: Final = "mn0"
"""TUN: has the i-HoA, and is where the user's packets wait."""
XFRM_INTERFACE: Final = "mn-vpn"
"""The VPN layer's, unless the dataplane is told another one."""
OUTER_IP_IP: Final = "mn-x-ipip"
OUTER_GRE: Final = "mn-x-gre"
INNER_IP_IP: Final = "mn-i-ipip"
INNER_GRE: Final = "mn-i-gre"
"""Tunnel devices of the x-MIP and the i-MIP layer. UDP tunnels are GRE whose header the switch
exchanges."""
TUNNELS: Final = (OUTER_IP_IP, OUTER_GRE, INNER_IP_IP, INNER_GRE)
DEVICE_GROUP: Final = 0x4758
"""Marks tunnel devices as ours."""

LINK_TABLE: Final = 0x4760
"""Default route of the link in use."""
VPN_TABLE: Final = 0x4761
"""Where IKE and ESP go, when not onto the link."""
INNER_TABLE: Final = 0x4762
"""Where i-MIP goes, when not onto the link."""
USER_TABLE: Final = 0x4763
"""The user's packets."""
TABLES: Final = (LINK_TABLE, VPN_TABLE, INNER_TABLE, USER_TABLE)

VPN_PRIORITY: Final = 0x4760
INNER_PRIORITY: Final = 0x4761
CONNECTED_PRIORITY: Final = 0x4762
"""Of anything of ours: the main table, but for its default routes."""
LINK_PRIORITY: Final = 0x4763
MAIN_PRIORITY: Final = 0x4764
"""Of anything of ours: the main table, for sockets bound to a link that is not in use."""
DHCP_PRIORITY: Final = 0x4765
"""A client's requests to its server, which are unicast when it renews."""
DIRECT_PRIORITY: Final = 0x4766
"""Exceptions of a split tunnel: the main table."""
USER_PRIORITY: Final = 0x4767
"""Of the rules: before the main table (32766), after the local one (0)."""

PRIORITIES: Final = range(VPN_PRIORITY, USER_PRIORITY + 1)
MAIN_TABLE: Final = 254
