"""The network namespace of a command: one interface, one address, and only the leased ports."""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from gateway.nar_host import netns, rtnetlink

_SYS: Final = Path("/proc/sys/net")


class Enclosure:
    """An empty network namespace, as long as it is not closed or a process lives in it.

    Raises OSError from the constructor.
    """

    def __init__(self) -> None:
        self.descriptor = netns.new()
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self.descriptor)
            self.route = netns.made_in(self.descriptor, lambda: NetlinkSocket(NETLINK_ROUTE))
            undo.callback(self.route.close)
            up = rtnetlink.set_up(rtnetlink.LOOPBACK)
            self.route.check("loopback", [up], errno.EEXIST)
            undo.pop_all()

    def use_ports(self, ports: Sequence[int]) -> None:
        """Let the kernel choose source ports from these only; they have no gaps. Raises OSError.

        So few ports are used again and again, hence not kept waiting after a connection's end
        when the other side has timestamps (RFC 6191).
        """

        def write() -> None:
            low = min(1024, *ports)
            # Ports as low as leased ones may be are nobody's privilege in here.
            (_SYS / "ipv4/ip_unprivileged_port_start").write_text(str(low), "ascii")
            path = _SYS / "ipv4/ip_local_port_range"
            path.write_text(f"{min(ports)} {max(ports)}", "ascii")
            with contextlib.suppress(OSError):
                (_SYS / "ipv4/tcp_tw_reuse").write_text("1", "ascii")
            with contextlib.suppress(OSError):
                (_SYS / "ipv6/conf/all/disable_ipv6").write_text("1", "ascii")

        netns.made_in(self.descriptor, write)

    def close(self) -> None:
        """Keep it no longer."""
        self.route.close()
        os.close(self.descriptor)
