"""The NETLINK_XFRM family: states, policies and their events."""
