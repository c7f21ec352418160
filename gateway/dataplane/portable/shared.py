"""One forwarder for all roles of a process: each has a view of it with a queue of its own."""

import contextlib
import os
import select
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from gateway.dataplane.interface import DataplaneEvent, Refusal, Usage
from gateway.dataplane.portable.alarm import Alarm
from gateway.dataplane.portable.forwarder import (
    Forwarder,
    ForwarderUnavailableError,
    HeldSa,
    RefusedTunnel,
)
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint

T = TypeVar("T")

REVIVE_S: Final = 2.0
"""Not more often than this a forwarder is started in the place of one that ended."""
LONGEST_S: Final = 30.0
"""Where it cannot be started, each pause is twice the one before, up to this."""


class SharedForwarder:
    """Opens the forwarder when the first view is wanted, and ends it with the last one.

    What a forwarder is told once and for long, tunnel links and traps, is told again to one that
    had to be started anew; SAs are not: their sequence numbers are lost with it, and no key may
    be used with the same number twice.
    """

    def __init__(
        self, start: Callable[[bool], Forwarder], ended: Callable[[], None] = lambda: None
    ) -> None:
        """``start`` opens a forwarder; its argument says whether one that runs is taken over.

        ``ended`` is called when the last view has ended it.
        """
        self._start = start
        self._ended = ended
        self._failures = 0
        """To start another one, since one was."""
        self._forwarder: Forwarder | None = None
        self._views: set[View] = set()
        self._links: dict[str, TunnelLink] = {}
        self._traps: dict[int, ChildSa] = {}
        self._watched: list[int] = []
        self._epoll: select.epoll | None = None
        self._wake = -1
        self._later: Alarm
        self.restarts = 0
        """How often it ended by itself."""
        self.lost = False
        """It is gone, and there is no other one yet."""

    def view(self) -> "View":
        """A view of its own. Raises :class:`ForwarderUnavailableError`."""
        if self._epoll is None:
            self._forwarder = self._start(True)
            self._epoll = select.epoll()
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._epoll.register(self._wake, select.EPOLLIN)
            self._later = Alarm()
            self._epoll.register(self._later, select.EPOLLIN)
            self._watch()
        made = View(self)
        self._views.add(made)
        return made

    @property
    def open(self) -> bool:
        """Whether there are views."""
        return self._epoll is not None

    @property
    def forwarder(self) -> Forwarder:
        """The one that runs. Raises :class:`ForwarderUnavailableError` when it is gone."""
        if self._forwarder is None or self.lost:
            raise ForwarderUnavailableError("the forwarder has ended")
        return self._forwarder

    @property
    def marks(self) -> bool:
        """Whether packets from inside come with their marks."""
        return bool(getattr(self._forwarder, "marks", True))

    @property
    def marks_need(self) -> str:
        """What this host would need for that."""
        if getattr(self._forwarder, "tun", False):
            return "veth (CONFIG_VETH): a TUN device tells no marks"
        return "Linux 5.19 or later: this kernel does not tell packets' marks"

    def facts(self) -> dict[str, object]:
        """For status pages."""
        processes = getattr(self._forwarder, "processes", ())
        return {"processes": list(processes), "restarts": self.restarts, "lost": self.lost}

    @property
    def pause_s(self) -> float:
        """How long to wait after a try before another one."""
        return min(REVIVE_S * (1 << max(0, self._failures - 1)), LONGEST_S)

    def fileno(self) -> int:
        """Readable when one of the forwarder's descriptors is, whichever forwarder it is."""
        if self._epoll is None:
            raise ValueError("no view is open")
        return self._epoll.fileno()

    def _watch(self) -> None:
        if self._epoll is None or self._forwarder is None:
            return
        self._watched = self._forwarder.event_fds()
        for one in self._watched:
            self._epoll.register(one, select.EPOLLIN)

    def wake(self) -> None:
        """Whoever watches the descriptor shall read events."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def wake_later(self, after_s: float) -> None:
        """The same after a while. What is asked for last counts."""
        if self._epoll is not None:
            self._later.set(after_s)

    def read_events(self) -> list[DataplaneEvent]:
        """Raises :class:`ForwarderUnavailableError` when it is gone."""
        if self._epoll is not None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            self._later.clear()
        return self._asked(lambda forwarder: forwarder.read_events())

    def _asked(self, ask: Callable[[Forwarder], T]) -> T:
        try:
            return ask(self.forwarder)
        except ForwarderUnavailableError:
            self._gone()
            raise

    def _gone(self) -> None:
        """Whoever watches the descriptor shall look after it."""
        if self.lost or self._epoll is None:
            return
        self.lost = True
        for one in self._watched:
            with contextlib.suppress(OSError):
                self._epoll.unregister(one)
        self._watched = []
        self.wake()

    def revive(self) -> None:
        """Start another one in the place of one that is gone, with the same links and traps.

        Raises :class:`ForwarderUnavailableError`, and wakes whoever watches for another try.
        """
        if self._forwarder is not None:
            with contextlib.suppress(OSError):
                self._forwarder.close(keep=False)
        self._forwarder = None
        try:
            self._forwarder = self._start(False)
        except ForwarderUnavailableError:
            self._failures = min(self._failures + 1, 10)
            self.wake_later(self.pause_s)
            raise
        self._failures = 0
        self.restarts += 1
        self.lost = False
        self._watch()
        for link in self._links.values():
            self._forwarder.set_tunnel(link)
        for trap in self._traps.values():
            self._forwarder.trap(trap)
        self._forwarder.commit()

    def closed(self, view: "View", *, keep: bool) -> None:
        """The view is of no use any more."""
        if view not in self._views:
            return
        self._views.discard(view)
        if self._views or self._epoll is None:
            return
        if self._forwarder is not None:
            with contextlib.suppress(OSError):
                self._forwarder.close(keep=keep)
        self._forwarder = None
        self._epoll.close()
        os.close(self._wake)
        self._later.close()
        self._epoll, self._wake, self._watched = None, -1, []
        self._links.clear()
        self._traps.clear()
        self.lost = False
        if not keep:
            with contextlib.suppress(OSError):
                self._ended()

    def remember(self, link: TunnelLink) -> None:
        """A link that another forwarder is told as well."""
        self._links[link.name] = link

    def forget(self, name: str) -> None:
        """Reverse of :meth:`remember`."""
        self._links.pop(name, None)

    def remember_trap(self, sa: ChildSa) -> None:
        """A trap that another forwarder is told as well."""
        self._traps[sa.reqid] = sa

    def forget_trap(self, reqid: int) -> None:
        """Reverse of :meth:`remember_trap`."""
        self._traps.pop(reqid, None)

    def carry_out(
        self, work: Sequence[Callable[[Forwarder], None]]
    ) -> tuple[list[Refusal], list[RefusedTunnel]]:
        """Give verbs to the forwarder and have them done."""

        def commit(forwarder: Forwarder) -> tuple[list[Refusal], list[RefusedTunnel]]:
            for verb in work:
                verb(forwarder)
            return forwarder.commit()

        return self._asked(commit)

    def ask(self, question: Callable[[Forwarder], T]) -> T:
        """Raises :class:`ForwarderUnavailableError`."""
        return self._asked(question)


class View:
    """A :class:`Forwarder` of one role: what others queue is not in its commits."""

    def __init__(self, shared: SharedForwarder) -> None:
        self._shared = shared
        self._work: list[Callable[[Forwarder], None]] = []

    def install(self, sa: ChildSa, *, outbound: bool, output_mark: int = 0) -> None:
        """See :meth:`Forwarder.install`."""
        self._work.append(lambda one: one.install(sa, outbound=outbound, output_mark=output_mark))

    def activate(self, spi_in: int) -> None:
        """See :meth:`Forwarder.activate`."""
        self._work.append(lambda one: one.activate(spi_in))

    def remove(self, spi_in: int) -> None:
        """See :meth:`Forwarder.remove`."""
        self._work.append(lambda one: one.remove(spi_in))

    def move(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> None:
        """See :meth:`Forwarder.move`."""
        self._work.append(
            lambda one: one.move(spi_in, local, remote, udp_encapsulation=udp_encapsulation)
        )

    def trap(self, sa: ChildSa) -> None:
        """See :meth:`Forwarder.trap`."""
        self._shared.remember_trap(sa)
        self._work.append(lambda one: one.trap(sa))

    def untrap(self, reqid: int) -> None:
        """See :meth:`Forwarder.untrap`."""
        self._shared.forget_trap(reqid)
        self._work.append(lambda one: one.untrap(reqid))

    def set_tunnel(self, link: TunnelLink) -> None:
        """See :meth:`Forwarder.set_tunnel`."""
        self._shared.remember(link)
        self._work.append(lambda one: one.set_tunnel(link))

    def remove_tunnel(self, name: str) -> None:
        """See :meth:`Forwarder.remove_tunnel`."""
        self._shared.forget(name)
        self._work.append(lambda one: one.remove_tunnel(name))

    def commit(self) -> tuple[list[Refusal], list[RefusedTunnel]]:
        """See :meth:`Forwarder.commit`. Without work there is no exchange."""
        work, self._work = self._work, []
        return self._shared.carry_out(work) if work else ([], [])

    def held(self) -> Sequence[HeldSa]:
        """See :meth:`Forwarder.held`."""
        return self._shared.ask(lambda one: one.held())

    def tunnels(self) -> Sequence[TunnelLink]:
        """See :meth:`Forwarder.tunnels`."""
        return self._shared.ask(lambda one: one.tunnels())

    def usage(self, spi_in: int) -> Usage | None:
        """See :meth:`Forwarder.usage`."""
        return self._shared.ask(lambda one: one.usage(spi_in))

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:
        """See :meth:`Forwarder.before_move`."""
        return self._shared.ask(lambda one: one.before_move(spi_in))

    def counters(self) -> dict[str, int]:
        """See :meth:`Forwarder.counters`."""
        return self._shared.ask(lambda one: one.counters())

    def event_fds(self) -> list[int]:
        """One that stays the same when the forwarder does not."""
        return [self._shared.fileno()]

    def read_events(self) -> list[DataplaneEvent]:
        """See :meth:`Forwarder.read_events`."""
        return self._shared.read_events()

    def close(self, *, keep: bool) -> None:
        """Give the view up; with the last one the forwarder ends, unless it is kept."""
        self._work.clear()
        self._shared.closed(self, keep=keep)
