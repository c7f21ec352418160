"""Watches links, addresses, default routes and routers, and tells of every change at once."""

import struct
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkSocket, messages
from gateway.domain.event import Event, Severity
from gateway.mobile_host.link_table import LinkTable
from gateway.mobile_host.rtnetlink import DUMPS, GROUPS, LINKS, ROUTES, news
from gateway.mobile_node.inputs import LinkState

DATAGRAMS_PER_WAKE_UP: Final = 256
RECEIVE_BUFFER_OCTETS: Final = 4 * 1024 * 1024


class LinkMonitor:
    """A subscription to rtnetlink. Raises OSError from :meth:`start` only."""

    def __init__(
        self,
        own: Collection[str],
        emit: Callable[[Event], None],
        domain_of: Callable[[int, str], str] | None = None,
    ) -> None:
        self._emit = emit
        self._table = LinkTable(own, domain_of)
        self.counters = dict.fromkeys(("messages", "overruns"), 0)
        self._states: list[LinkState] = []

    def start(self) -> list[LinkState]:
        """Subscribe, then look: nothing that changes meanwhile is missed."""
        self._events = NetlinkSocket(NETLINK_ROUTE, GROUPS, receive_buffer=RECEIVE_BUFFER_OCTETS)
        try:
            self._dumps = NetlinkSocket(NETLINK_ROUTE)
        except OSError:
            self._events.close()
            raise
        self._dump()
        return self._states

    def radios_moved(self, indices: Iterable[int], *, lost: bool = False) -> list[LinkState] | None:
        """Radios went to other access points; the links if anything changed by that."""
        if lost:
            self._lost()
        for index in indices:
            self._table.moved(index)
        return self.read()

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._events.fileno()

    @property
    def states(self) -> list[LinkState]:
        """The links as of the last reading."""
        return self._states

    def index(self, interface: str) -> int:
        """The number of a link, 0 when there is none of that name."""
        return self._table.indices().get(interface, 0)

    def read(self) -> list[LinkState] | None:
        """The links, if anything about them changed since the last time."""
        datagrams, overrun = self._events.read_datagrams(DATAGRAMS_PER_WAKE_UP)
        if overrun:
            self._lost()
        for datagram in datagrams:
            self._take(datagram)
        if self._table.carriers_doubtful:
            self._read_dump(*LINKS)
            self._table.carriers_doubtful = False
        if self._table.routes_doubtful:
            self._table.forget_routes()
            self._read_dump(*ROUTES)
        found = self._table.states()
        if found == self._states:
            return None
        self._states = found
        return found

    def _take(self, datagram: bytes) -> None:
        for kind, _, _, _, body in messages(datagram):
            self.counters["messages"] += 1
            try:
                for one in news(kind, body):
                    self._table.take(one)
            except (ValueError, struct.error):
                # The kernel's own words, so this is a fault of ours: what is there says more.
                self._lost()

    def refresh(self) -> list[LinkState]:
        """Look at everything anew, with a new generation for all: after a suspend, for one."""
        self._dump()
        return self._states

    def _lost(self) -> None:
        self.counters["overruns"] += 1
        self._emit(
            Event(
                "link_events_lost",
                "the kernel had more to tell of links than could be read: looking at all anew",
                Severity.WARNING,
            )
        )
        self._dump()

    def _dump(self) -> None:
        self._table.forget()
        for kind, body in DUMPS:
            self._read_dump(kind, body)
        self._states = self._table.states()

    def _read_dump(self, kind: int, body: bytes) -> None:
        for got, content in self._dumps.dump(kind, body):
            for one in news(got, content):
                self._table.take(one)

    def close(self) -> None:
        """Unsubscribe."""
        self._events.close()
        self._dumps.close()
