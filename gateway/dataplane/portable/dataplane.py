"""The IPsec dataplane in user space: the forwarder's SAs, and the kernel's rules and routes.

What protects whom:

- What leaves through the tunnels' interface, the forwarder encrypts by an SA whose selectors it
  fits, or drops.
- What comes out of it has passed an inbound SA and that SA's selectors.
- Inner source addresses that come from anywhere else are dropped by the ruleset.

A forwarder that has died takes keys and sequence numbers with it. Another one is started, and the
engine is told that every SA is gone: it negotiates new keys over the IKE SAs.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from gateway.dataplane.interface import (
    DataplaneEvent,
    DataplaneTrouble,
    EndpointSeen,
    Refusal,
    SaExpired,
    TrafficWaiting,
    Usage,
)
from gateway.dataplane.kernel import ruleset
from gateway.dataplane.kernel.adopt import Leftovers
from gateway.dataplane.kernel.rules_dataplane import RulesDataplane
from gateway.dataplane.kernel.segment_sizes import SegmentSizes
from gateway.dataplane.kernel.selectors import SelectorRefusedError
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.kernel.starting import starting
from gateway.dataplane.kernel.ways import Ways
from gateway.dataplane.portable.carried import CarriedChild, serves
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError
from gateway.dataplane.portable.foundation import PortableFoundation
from gateway.dataplane.portable.transport.policies import TransportPolicies
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane

NEED_MARKS: Final = "devices behind NAPT and mobile nodes by VPN/FA need"


class PortableDataplane(RulesDataplane):
    """Implements :class:`gateway.dataplane.interface.Dataplane` in this network namespace.

    Used as :class:`gateway.dataplane.kernel.dataplane.KernelDataplane` is.
    """

    _foundation: PortableFoundation

    def __init__(
        self,
        settings: KernelSettings,
        plane: "Plane",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``plane`` has the forwarder."""
        super().__init__(settings)
        self._plane = plane
        self._clock = clock
        self._children: dict[int, CarriedChild] = {}
        self._siblings: Counter[int] = Counter()
        """How many child SAs a reqid has."""
        self._traps: dict[int, CarriedChild] = {}
        self._transport = TransportPolicies(settings.xfrm_interface)
        self._fresh: dict[int, None] = {}
        """Installed since the last commit."""
        self._pending: list[DataplaneEvent] = []
        self._troubles: list[str] = []
        """What became of the forwarder since somebody was told."""
        self._revive_at = float("-inf")
        self._started = False

    def start(self, *, adopt: bool = False) -> None:
        """See :meth:`KernelDataplane.start`. Raises :class:`DataplaneUnavailableError`."""
        with starting() as undo:
            self._foundation = PortableFoundation(self.settings)
            undo.callback(self._foundation.close, keep=True)
            self._foundation.make_way()
            self._plane.use_interface(self.settings.xfrm_interface)
            self._forwarder = self._plane.forwarder()
            undo.callback(self._forwarder.close, keep=adopt)
            self._clear(adopt=adopt)
            undo.callback(self._foundation.close, keep=adopt)
            self._foundation.build(adopt_it=adopt)
            self._ways = Ways(self.settings.output_mark)
        self._sets = self._foundation.sets
        self._segments = SegmentSizes(self._sets, self._ways, self.settings.mtu)
        if not adopt:
            self._transport.flush()
        self._started = True

    def _clear(self, *, adopt: bool) -> None:
        """Unless it is adopted, nothing of an earlier process stays in the forwarder."""
        held = () if adopt else self._forwarder.held()
        for one in held:
            self._forwarder.remove(one.sa.spi_in)
        if held:
            self._forwarder.commit()
            self._foundation.leftovers = Leftovers(2 * len(held), 0, interface=True)

    # -- taking over -------------------------------------------------------------------------

    def adopt(self, children: Sequence[tuple[ChildSa, bool]]) -> list[int]:
        """See :meth:`Dataplane.adopt`. Raises OSError. Limits reached meanwhile are events."""
        self._segments.adopt()
        held = {one.sa.spi_in: one for one in self._forwarder.held()}
        kept = {
            sa.spi_in: held[sa.spi_in]
            for sa, _ in children
            if sa.spi_in in held and serves(held[sa.spi_in], sa)
        }
        sending = {one.sa.reqid for one in kept.values() if one.outbound}
        missing = []
        for sa, outbound in children:
            one = kept.get(sa.spi_in)
            if one is None or sa.spi_in in self._children or (outbound and sa.reqid not in sending):
                missing.append((sa, outbound))
                continue
            self._keep(one.sa, sa, outbound=one.outbound)
            if one.soft_limit_reached:
                self._pending.append(SaExpired(sa.spi_in, hard=False))
        for spi_in in held:
            if spi_in not in self._children:
                self._forwarder.remove(spi_in)
        for sa, outbound in missing:
            self._keep_closed(sa, outbound=outbound)
        self._settle_elements()
        self._foundation.forget_unclaimed()
        lost = [sa.spi_in for sa, _ in missing]
        lost += [refusal.spi_in for refusal in self.commit()]
        return list(dict.fromkeys(lost))

    def _keep_closed(self, sa: ChildSa, *, outbound: bool) -> None:
        """The forwarder does not have it: what it is for waits for another, and for nothing else.

        Without its routes it would leave in the clear until that is negotiated. The engine removes
        it then.
        """
        if sa.spi_in in self._children:
            return
        with contextlib.suppress(SelectorRefusedError):
            child = CarriedChild.of(sa)
            child.outbound = outbound
            self._enter(child)
            if outbound:
                self._add_routes(child)

    def _keep(self, there: ChildSa, wanted: ChildSa, *, outbound: bool) -> None:
        """Enter a child SA that the forwarder has; it moves to where it is wanted."""
        child = CarriedChild.of(wanted)
        child.outbound = outbound
        child.place(there.local, there.remote, udp_encapsulation=there.udp_encapsulation)
        self._enter(child)
        if outbound:
            self._add_routes(child)
        self.move_child_sa(
            wanted.spi_in,
            wanted.local,
            wanted.remote,
            udp_encapsulation=wanted.udp_encapsulation,
        )

    # -- verbs -------------------------------------------------------------------------------

    def install_child_sa(self, sa: ChildSa, *, outbound: bool = True) -> None:
        """See :meth:`Dataplane.install_child_sa`."""
        try:
            child = CarriedChild.of(sa)
        except SelectorRefusedError as error:
            self._refused.append(Refusal(sa.spi_in, str(error)))
            return
        if sa.spi_in in self._children:
            self._refused.append(Refusal(sa.spi_in, f"SPI {sa.spi_in:#010x} is in use"))
            return
        if (sa.zone or sa.vpn_fa) and not self._plane.shared.marks:
            reason = f"{NEED_MARKS} {self._plane.shared.marks_need}"
            self._refused.append(Refusal(sa.spi_in, reason))
            return
        self._enter(child)
        self._fresh[sa.spi_in] = None
        self._forwarder.install(sa, outbound=False, output_mark=self.settings.output_mark)
        if outbound:
            self.activate_outbound(sa.spi_in)

    def _enter(self, child: CarriedChild) -> None:
        sa = child.sa
        self._children[sa.spi_in] = child
        self._siblings[sa.reqid] += 1
        self._segments.look_at(child)
        if sa.vpn_fa:
            self._guard(child)
        self._refuse(sa, self._transport.claim(sa))

    def _refuse(self, sa: ChildSa, reason: str | None) -> None:
        if reason is not None:
            self._refused.append(Refusal(sa.spi_in, reason))

    def activate_outbound(self, spi_in: int) -> None:
        """See :meth:`Dataplane.activate_outbound`."""
        child = self._children.get(spi_in)
        if child is None or child.outbound:
            return
        child.outbound = True
        self._forwarder.activate(spi_in)
        self._add_routes(child)

    def remove_child_sa(self, spi_in: int) -> None:
        """See :meth:`Dataplane.remove_child_sa`."""
        child = self._children.pop(spi_in, None)
        if child is None:
            return
        self._fresh.pop(spi_in, None)
        self._segments.forget(spi_in)
        if child.sa.vpn_fa:
            self._unguard(child)
        self._transport.release(spi_in)
        self._siblings[child.sa.reqid] -= 1
        if not self._siblings[child.sa.reqid]:
            del self._siblings[child.sa.reqid]
        self._forwarder.remove(spi_in)
        self._drop_routes(child)

    def move_child_sa(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> None:
        """See :meth:`Dataplane.move_child_sa`."""
        child = self._children.get(spi_in)
        if child is None or child.is_at(local, remote, udp_encapsulation=udp_encapsulation):
            return
        child.place(local, remote, udp_encapsulation=udp_encapsulation)
        self._segments.look_at(child)
        self._forwarder.move(spi_in, local, remote, udp_encapsulation=udp_encapsulation)

    def trap(self, sa: ChildSa) -> None:
        """See :meth:`Dataplane.trap`."""
        if sa.reqid in self._traps:
            self.untrap(sa.reqid)
        try:
            child = CarriedChild.of(sa)
        except SelectorRefusedError as error:
            self._refused.append(Refusal(sa.spi_in, str(error)))
            return
        self._traps[sa.reqid] = child
        # Only what is routed to the interface can meet the trap.
        self._add_routes(child)
        self._refuse(sa, self._transport.trap(sa))
        self._forwarder.trap(sa)

    def untrap(self, reqid: int) -> None:
        """See :meth:`Dataplane.untrap`."""
        trap = self._traps.pop(reqid, None)
        if trap is not None:
            self._drop_routes(trap)
            self._transport.untrap(reqid)
            self._forwarder.untrap(reqid)

    # -- commit ------------------------------------------------------------------------------

    def commit(self) -> list[Refusal]:
        """See :meth:`Dataplane.commit`. A child SA that was refused is gone altogether."""
        refusals, self._refused = self._refused, []
        refusals += self._batch.flush_elements(self._sets)
        refusals += self._transport.flush()
        refusals += self._flush()
        self._fresh.clear()
        refused = dict.fromkeys(refusal.spi_in for refusal in refusals)
        for spi_in in refused:
            self.remove_child_sa(spi_in)
        if refused:
            self._batch.flush_elements(self._sets)
            self._transport.flush()
            self._flush()
        self._segments.commit()
        return refusals

    def _flush(self) -> list[Refusal]:
        if self._plane.shared.lost:
            self._revive("")
        try:
            return self._forwarder.commit()[0]
        except ForwarderUnavailableError as error:
            self._revive(str(error))
            return [Refusal(spi_in, str(error)) for spi_in in self._fresh]

    def _revive(self, why: str) -> None:
        """The forwarder is gone, and every SA with it: start another one, but not too often."""
        now = self._clock()
        if now < self._revive_at:
            self._plane.shared.wake_later(self._revive_at - now)
            return
        try:
            self._plane.shared.revive()
            self._foundation.rebuild()
            self._transport.rebuild()
            became = "another one was started"
        except OSError as error:
            became = f"another one cannot be started: {error.strerror or error}"
        self._revive_at = now + self._plane.shared.pause_s
        lost = f"the forwarder has ended{f' ({why})' if why else ''}"
        self._troubles.append(f"{lost} with {len(self._children)} child SAs; {became}")
        self._plane.shared.wake()

    def _trouble(self) -> DataplaneTrouble:
        """What to tell: SAs that the forwarder does not have are negotiated anew."""
        troubles, self._troubles = self._troubles, []
        there: tuple[int, ...] = ()
        with contextlib.suppress(ForwarderUnavailableError):
            there = tuple(one.sa.spi_in for one in self._forwarder.held())
        return DataplaneTrouble("; ".join(troubles), there)

    # -- events and counters -----------------------------------------------------------------

    def event_fds(self) -> list[int]:
        """File descriptors; when one is readable, call :meth:`read_events`."""
        return self._forwarder.event_fds()

    def read_events(self) -> list[DataplaneEvent]:
        """What happened, a bounded amount of it: descriptors stay readable while there is more.

        Never raises for what a peer has sent.
        """
        events: list[DataplaneEvent] = []
        try:
            events = [one for one in self._forwarder.read_events() if self._concerns_us(one)]
        except ForwarderUnavailableError as error:
            self._revive(str(error))
        pending, self._pending = self._pending, []
        if self._troubles:
            pending.append(self._trouble())
        return pending + events

    def _concerns_us(self, event: DataplaneEvent) -> bool:
        if isinstance(event, TrafficWaiting) and event.reqid not in self._traps:
            self._forwarder.untrap(event.reqid)  # an earlier process wanted to know
            return False
        return not isinstance(event, EndpointSeen | SaExpired) or event.spi_in in self._children

    def usage(self, spi_in: int) -> Usage | None:
        """See :meth:`Dataplane.usage`."""
        if spi_in not in self._children:
            return None
        try:
            return self._forwarder.usage(spi_in)
        except ForwarderUnavailableError:
            return None

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:
        """See :meth:`KernelDataplane.before_move`."""
        try:
            return self._forwarder.before_move(spi_in)
        except ForwarderUnavailableError:
            return None

    def counters(self) -> dict[str, int]:
        """Counters of the ruleset and the forwarder, in packets."""
        try:
            forwarder = self._forwarder.counters()
        except ForwarderUnavailableError:
            forwarder = {}
        return {
            **ruleset.counters(),
            **{_counter(name): count for name, count in forwarder.items()},
            "restarts_of_forwarder": self._plane.shared.restarts,
        }

    def sas(self) -> list[dict[str, object]]:
        """What the forwarder has, as a kernel's list of states would show it; without keys."""
        try:
            held = self._forwarder.held()
        except ForwarderUnavailableError:
            return []
        return [
            {
                "spi_in": f"{one.sa.spi_in:08x}",
                "spi_out": f"{one.sa.spi_out:08x}",
                "reqid": one.sa.reqid,
                "suite": str(one.sa.suite),
                "mode": one.sa.mode.value,
                "local": str(one.sa.local),
                "remote": str(one.sa.remote),
                "udp_encapsulation": one.sa.udp_encapsulation,
                "sends": one.outbound,
                "selectors": one.sa.summary,
            }
            for one in held
        ]

    def close(self, *, keep: bool = False) -> None:
        """See :meth:`Dataplane.close`."""
        if not self._started:
            return
        self._started = False
        self._children.clear()
        self._ways.close()
        self._transport.close(keep=keep)
        self._foundation.close(keep=keep)
        self._forwarder.close(keep=keep)


def _counter(name: str) -> str:
    """What both dataplanes count has one name."""
    return name if name in _SHARED_COUNTERS else f"forwarder_{name}"


_SHARED_COUNTERS: Final = frozenset(
    (
        "late_mappings",
        "slow_path_forged",
        "slow_path_late",
        "slow_path_proven",
        "slow_path_unchecked",
    )
)
