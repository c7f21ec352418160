"""The L2TPv3 session with a server (RFC 3931), in the kernel: an Ethernet device in UDP."""

from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import Record, Tunnel


def make(name: str, tunnel: Tunnel, host: NetlinkSocket) -> int:
    """Raises OSError."""
    raise NarHostError("L2TP")


def clear(dead: list[Record], living: list[Record]) -> None:
    """Close sessions of the dead."""
