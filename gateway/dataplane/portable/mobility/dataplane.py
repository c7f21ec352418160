"""The mobility dataplane with user space in the place of tunnel devices and packet queue."""

import contextlib
import time
from collections.abc import Callable
from typing import Final

from gateway.dataplane.kernel.mobility import constants
from gateway.dataplane.kernel.mobility.dataplane import KernelMobility
from gateway.dataplane.kernel.mobility.routes import add_rule_to
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.portable.forwarder import Forwarder
from gateway.dataplane.portable.logged_queue import LoggedQueue
from gateway.dataplane.portable.mobility.links import LinkPairs
from gateway.dataplane.portable.mobility.queue import BySide, MobilityQueue, SlowLinks
from gateway.dataplane.portable.mobility.wording import PRIORITY, let_pass, wording
from gateway.dataplane.portable.ways_back import WaysBack

DUMMY_PRIORITY: Final = constants.DELIVER_PRIORITY - 1
"""Of the rule for the dummy address: whatever the mark says, the loopback interface is the way to
the output hook."""


class PortableMeans:
    """Implements :class:`gateway.dataplane.kernel.mobility.means.Means`."""

    def __init__(self, settings: MobilitySettings, forwarder: Forwarder) -> None:
        self.wording = wording(settings.queue_number)
        self._forwarder = forwarder
        self._back: BySide | None = None

    def devices(self) -> LinkPairs:
        """See :meth:`Means.devices`."""
        return LinkPairs(self._forwarder)

    def constant(self) -> list[bytes]:
        """The forwarder's packets are routed before the ruleset writes their true addresses."""
        return [add_rule_to(constants.DUMMY, DUMMY_PRIORITY, constants.HOME_TABLE)]

    def queue(self, settings: MobilitySettings) -> MobilityQueue:
        """See :meth:`Means.queue`."""
        with contextlib.ExitStack() as undo:
            inside = WaysBack(constants.BACK, PRIORITY)
            undo.callback(inside.close)
            outside = WaysBack(constants.BACK_OUTSIDE, PRIORITY)
            undo.callback(outside.close)
            let_pass(inside.judged_in_rules, outside.judged_in_rules)
            back = BySide(inside, outside, settings.outside_interfaces)
            logged = LoggedQueue(settings.queue_number, settings.queue_length, back)
            undo.callback(logged.close)
            slow = SlowLinks(constants.SENDING)
            undo.callback(slow.close)
            made = MobilityQueue(logged, slow, back)
            undo.pop_all()
        self._back = back
        return made

    def reconfigure(self, settings: MobilitySettings) -> None:
        """Other interfaces may be outside now."""
        if self._back is not None:
            self._back.use(settings.outside_interfaces)

    def counters(self) -> dict[str, int]:
        """The forwarder tells its own, for all of its links together."""
        return {}


class PortableMobility(KernelMobility):
    """Implements :class:`gateway.dataplane.mobility.MobilityDataplane` in this network namespace.

    ``forwarder`` serves its links, and is closed with it.
    """

    def __init__(
        self,
        settings: MobilitySettings,
        forwarder: Forwarder,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, clock=clock, means=PortableMeans(settings, forwarder))
