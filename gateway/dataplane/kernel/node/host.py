"""Switches of the host itself: it routes for nobody, believes no redirect, tells no neighbour."""

import contextlib
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.mobility.sysctls import Sysctls, filtered

_IPV4: Final = Path("/proc/sys/net/ipv4/conf")
_IPV6: Final = Path("/proc/sys/net/ipv6/conf")
ARP_RETRY_MS: Final = 200
ARP_TRIES: Final = 15
"""Three seconds in all, as Linux has it by default."""


class Host:
    """What of ``/proc/sys/net`` was changed, and is set back at the end."""

    def __init__(self) -> None:
        self._sysctls = Sysctls()
        self._forwarding6 = ""

    def guard(self) -> None:
        """Forwarding and redirects off; neighbours hear of a link's own addresses only.

        Addresses of host scope are not told to them, nor used in questions to them, on any link.
        Raises OSError.
        """
        # First: it resets the others.
        self._sysctls.write("ip_forward", "0")
        # Of a host each interface's own switch counts beside that of all.
        for folder in sorted(_IPV4.iterdir()):
            self._no_redirects(folder.name)
            self._ask_quickly(folder.name)
        self._sysctls.write("conf/all/arp_ignore", "3")
        self._sysctls.write("conf/all/arp_announce", "2")
        path = _IPV6 / "all/forwarding"
        with contextlib.suppress(OSError):
            before = path.read_text("ascii").strip()
            if before == "1":
                path.write_text("0", "ascii")
                self._forwarding6 = before

    def _no_redirects(self, name: str) -> None:
        for switch in ("accept_redirects", "send_redirects"):
            self._sysctls.write(f"conf/{name}/{switch}", "0")

    def _ask_quickly(self, name: str) -> None:
        """Ask for a router's link-layer address several times a second.

        The first questions on a link that has just come up are often lost: the other end is not
        ready yet. Linux repeats them after a second, and a move would wait so long.
        """
        for switch, value in (("retrans_time_ms", ARP_RETRY_MS), ("mcast_solicit", ARP_TRIES)):
            with contextlib.suppress(OSError):  # there is none for all, nor for every kind
                self._sysctls.write(f"neigh/{name}/{switch}", str(value))

    def link(self, interface: str) -> None:
        """A link that the node uses. Raises OSError."""
        self._no_redirects(interface)
        self.tunnel(interface)

    def tunnel(self, interface: str) -> None:
        """Packets come here from home agents and gateways whose routes lead elsewhere.

        Raises OSError.
        """
        self._sysctls.write(f"conf/{interface}/rp_filter", "2" if filtered() else "0")

    @staticmethod
    def no_ipv6(interface: str) -> None:
        """Nothing of IPv6 is made up on a device of ours. Never raises."""
        with contextlib.suppress(OSError):
            (_IPV6 / interface / "disable_ipv6").write_text("1", "ascii")

    def restore(self) -> None:
        """Write back what was there. Never raises."""
        self._sysctls.restore()
        if self._forwarding6:
            with contextlib.suppress(OSError):
                (_IPV6 / "all/forwarding").write_text(self._forwarding6, "ascii")
