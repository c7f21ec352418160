"""Which way packets take and how large they may be there: questions to the kernel's route tables.

``linux/rtnetlink.h``: RTM_GETROUTE answers with the route that a packet would take; its metrics
name the path MTU that ICMP has taught the kernel, while it remembers it.
"""

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NetlinkSocket,
    attribute,
    attributes,
    request,
)
from gateway.domain.endpoint import IpAddress

_NEWLINK, _GETLINK = 16, 18
_GETADDR = 22
_NEWROUTE, _GETROUTE = 24, 26
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_METRICS, _RTA_MARK = 1, 2, 4, 8, 16
_RTAX_MTU: Final = 2
_IFLA_IFNAME, _IFLA_MTU = 3, 4
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_FAMILY: Final = {4: 2, 6: 10}
_ROUTE = struct.Struct("=BBBBBBBBI")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")
_SCOPE_UNIVERSE: Final = 0
LINKS_KNOWN_S: Final = 5.0
"""How long an interface's MTU is believed."""

Question = tuple[IpAddress, IpAddress]
"""Our address and the peer's."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a packet to a peer leaves."""

    interface: str
    link: int
    """MTU of the interface in octets."""
    learned: int
    """MTU of the path, as ICMP or the route say; 0 when they say nothing."""

    @property
    def mtu(self) -> int:
        """The largest packet, as far as it is known."""
        return min(self.link, self.learned) if self.learned else self.link


class Ways:
    """Asks. Raises OSError only from the constructor."""

    def __init__(self, mark: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """``mark`` is the fwmark of what is sent."""
        self._mark = mark
        self._clock = clock
        self._known: dict[int, tuple[str, int]] = {}
        self._known_at = 0.0
        self._socket = NetlinkSocket(NETLINK_ROUTE)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def of(self, questions: Sequence[Question]) -> list[Way | None]:
        """The way of each, asked for at once; None where there is none."""
        routes: dict[int, tuple[int, int]] = {}
        asked = [self._question(*one) for one in questions]
        for index, kind, body in self._transact(asked):
            if kind == _NEWROUTE:
                routes[index] = _route(body)
        links = self._links({interface for interface, _ in routes.values()})
        found: list[Way | None] = []
        for index in range(len(questions)):
            interface, learned = routes.get(index, (0, 0))
            name, mtu = links.get(interface, ("", 0))
            found.append(Way(name, mtu, learned) if mtu else None)
        return found

    def _question(self, local: IpAddress, remote: IpAddress) -> bytes:
        bits = remote.max_prefixlen
        source = b"" if local.is_unspecified else attribute(_RTA_SRC, local.packed)
        family, source_bits = _FAMILY[remote.version], bits if source else 0
        body = _ROUTE.pack(family, bits, source_bits, 0, 0, 0, 0, 0, 0)
        body += attribute(_RTA_DST, remote.packed) + source
        if self._mark:
            body += attribute(_RTA_MARK, _U32.pack(self._mark))
        return request(_GETROUTE, 0, body)

    def _links(self, indices: set[int]) -> dict[int, tuple[str, int]]:
        if self._clock() - self._known_at > LINKS_KNOWN_S:
            self._known.clear()
            self._known_at = self._clock()
        wanted = sorted(indices - self._known.keys())
        asked = [request(_GETLINK, 0, _LINK.pack(0, 0, index, 0, 0)) for index in wanted]
        for place, kind, body in self._transact(asked):
            values = attributes(body, _LINK.size)
            mtu = values.get(_IFLA_MTU, b"")
            if kind == _NEWLINK and len(mtu) == _U32.size:
                name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
                self._known[wanted[place]] = name, int(_U32.unpack(mtu)[0])
        return self._known

    def _transact(self, asked: list[bytes]) -> list[tuple[int, int, bytes]]:
        try:
            return self._socket.transact(asked)[1] if asked else []
        except OSError:
            return []

    def own_addresses(self) -> Iterator[tuple[int, IpAddress]]:
        """Interface index and address, of this namespace's global addresses. Raises OSError."""
        for _, body in self._socket.dump(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
            _, _, _, scope, interface = _ADDRESS.unpack_from(body)
            values = attributes(body, _ADDRESS.size)
            octets = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS, b"")
            if scope == _SCOPE_UNIVERSE and len(octets) in {4, 16}:
                yield interface, ip_address(octets)


def _route(body: bytes) -> tuple[int, int]:
    """Index of the interface, and MTU of the route."""
    values = attributes(body, _ROUTE.size)
    interface, metrics = values.get(_RTA_OIF, b""), values.get(_RTA_METRICS, b"")
    mtu = attributes(metrics, 0).get(_RTAX_MTU, b"")
    return (
        int(_U32.unpack(interface)[0]) if len(interface) == _U32.size else 0,
        int(_U32.unpack(mtu)[0]) if len(mtu) == _U32.size else 0,
    )
