"""SPIs that this host uses: a leased one has to be free here too (draft 004, 2.6.2)."""

from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.netlink import NETLINK_XFRM, NetlinkSocket
from gateway.dataplane.kernel.xfrm import decode
from gateway.dataplane.kernel.xfrm.constants import XfrmMessage
from gateway.dataplane.portable.client import ForwarderClient
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError

FORWARDERS: Final = (Path("/run/gateway/forwarder"), Path("/run/gateway-mn/forwarder"))
"""Where a gateway and a mobile node have theirs, unless their configurations say otherwise."""


def used_here(address: IPv4Address) -> set[int]:
    """SPIs of SAs towards this address, in the kernel and in user space."""
    return _in_kernel(address) | _in_user_space(address, FORWARDERS)


def _in_kernel(address: IPv4Address) -> set[int]:
    """None without IPsec or the right to look."""
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


def _in_user_space(address: IPv4Address, folders: Iterable[Path]) -> set[int]:
    """None where no forwarder of ours runs, or may be asked."""
    found: set[int] = set()
    for folder in folders:
        if not folder.is_dir():
            continue
        try:
            client = ForwarderClient(folder)
        except (OSError, ForwarderUnavailableError):
            continue
        try:
            held = [one.sa for one in client.held()]
        except (OSError, ForwarderUnavailableError):
            continue
        finally:
            client.close(keep=True)
        found |= {sa.spi_in for sa in held if sa.local.address == address}
    return found
