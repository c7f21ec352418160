"""XFRM events: new UDP mappings, limits reached, packets that wait for an SA."""

from collections.abc import Callable, Mapping
from typing import Final

from gateway.dataplane.interface import DataplaneEvent, EndpointSeen, SaExpired, TrafficWaiting
from gateway.dataplane.kernel.child import InstalledChild
from gateway.dataplane.kernel.netlink import NETLINK_XFRM, NetlinkSocket, messages
from gateway.dataplane.kernel.xfrm import decode
from gateway.dataplane.kernel.xfrm.constants import XfrmGroup
from gateway.domain.endpoint import Endpoint, IpAddress

DATAGRAMS_PER_TURN: Final = 256
MAPPING_REPEAT_S: Final = 1.0
"""The kernel reports a mapping with every packet until the SA has moved; the same one is passed
on again only after this time."""
MAPPING_PROOF: Final = "esp-in-udp mapping"


class EventReader:
    """Reads the events socket. ``children`` is the dataplane's own table."""

    def __init__(self, children: Mapping[int, InstalledChild], clock: Callable[[], float]) -> None:
        self._children = children
        self._clock = clock
        self._socket = NetlinkSocket(
            NETLINK_XFRM, (XfrmGroup.ACQUIRE, XfrmGroup.EXPIRE, XfrmGroup.MAPPING)
        )
        self._outbound: dict[tuple[IpAddress, int], int] = {}
        self._mappings: dict[int, tuple[Endpoint, float]] = {}
        self.traps: dict[int, int] = {}
        """The reqid of each trap by the kernel's reqid."""
        self.overruns = 0
        """Times the kernel had to drop events. Mappings and acquires repeat themselves, and
        the lifetimes that the engine keeps end an SA whose expiry was dropped."""

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave the groups."""
        self._socket.close()

    def expect_outbound(self, child: InstalledChild) -> None:
        """Expiries of this outbound SA are its child SA's."""
        self._outbound[child.remote.address, child.sa.spi_out] = child.sa.spi_in

    def forget_outbound(self, child: InstalledChild) -> None:
        """Reverse of :meth:`expect_outbound`, and the end of its mappings."""
        self._outbound.pop((child.remote.address, child.sa.spi_out), None)
        self._mappings.pop(child.sa.spi_in, None)

    def forget_mapping(self, spi_in: int) -> None:
        """Pass the next mapping on, even if it is the same again."""
        self._mappings.pop(spi_in, None)

    def read(self) -> list[DataplaneEvent]:
        """What happened since the last call, of at most :data:`DATAGRAMS_PER_TURN` events."""
        datagrams, overrun = self._socket.read_datagrams(DATAGRAMS_PER_TURN)
        self.overruns += overrun
        events: list[DataplaneEvent] = []
        for datagram in datagrams:
            for kind, _, _, _, body in messages(datagram):
                happened = decode.event(kind, body)
                event = None if happened is None else self._event(happened)
                if event is not None:
                    events.append(event)
        return events

    def _event(self, happened: decode.XfrmEvent) -> DataplaneEvent | None:
        if isinstance(happened, decode.Mapping):
            return self._mapping(happened)
        if isinstance(happened, decode.Expire):
            child = self._children.get(happened.spi)
            if child is not None and child.local.address == happened.destination:
                return SaExpired(happened.spi, happened.hard)
            spi_in = self._outbound.get((happened.destination, happened.spi))
            return None if spi_in is None else SaExpired(spi_in, happened.hard)
        reqid = self.traps.get(happened.reqid)
        return None if reqid is None else TrafficWaiting(reqid)

    def _mapping(self, mapping: decode.Mapping) -> EndpointSeen | None:
        child = self._children.get(mapping.spi)
        if (
            child is None
            or child.local.address != mapping.local
            or not child.udp_encapsulation
            or child.remote == mapping.remote
        ):
            return None
        now = self._clock()
        before = self._mappings.get(mapping.spi)
        if (
            before is not None
            and before[0] == mapping.remote
            and now - before[1] < MAPPING_REPEAT_S
        ):
            return None
        self._mappings[mapping.spi] = (mapping.remote, now)
        return EndpointSeen(mapping.spi, mapping.remote, MAPPING_PROOF)
