"""SPIs that this host's kernel uses: a leased one has to be free here too (draft 004, 2.6.2)."""

from ipaddress import IPv4Address

from gateway.dataplane.kernel.netlink import NETLINK_XFRM, NetlinkSocket
from gateway.dataplane.kernel.xfrm import decode
from gateway.dataplane.kernel.xfrm.constants import XfrmMessage


def used_here(address: IPv4Address) -> set[int]:
    """SPIs of IPsec states towards this address; none without IPsec or the right to look."""
    try:
        xfrm = NetlinkSocket(NETLINK_XFRM)
    except OSError:
        return set()
    try:
        states = [decode.state(body) for _, body in xfrm.dump(XfrmMessage.GETSA, b"")]
    except OSError:
        return set()
    finally:
        xfrm.close()
    return {one.spi for one in states if one is not None and one.destination == address}
