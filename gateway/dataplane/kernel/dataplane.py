"""The kernel as dataplane: XFRM states and policies, one xfrm interface, a constant ruleset.

What protects whom:

- Everything that leaves through the xfrm interface needs an out policy of its child SA.
- Everything that comes out of it has passed an inbound SA. Where a child SA has a single pair of
  selectors they are in the SA itself, and the kernel checks them on every packet; these SAs share
  one reqid that the constant in and forward policies ask for. A child SA with several pairs has
  in and forward policies of its own instead, and its reqid does not satisfy the constant ones.
- Inner source addresses that come from anywhere else are dropped by the ruleset.

Inner MTU: see :data:`gateway.dataplane.kernel.settings.DEFAULT_MTU`.
"""

import errno
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from gateway.dataplane.interface import (
    DataplaneEvent,
    EndpointRejected,
    EndpointSeen,
    Refusal,
    Usage,
)
from gateway.dataplane.kernel import ruleset
from gateway.dataplane.kernel.child import InstalledChild, kernel_reqid
from gateway.dataplane.kernel.events import EventReader
from gateway.dataplane.kernel.foundation import Foundation
from gateway.dataplane.kernel.move import Move, queue_move
from gateway.dataplane.kernel.nfqueue import Queue
from gateway.dataplane.kernel.policies import PolicyTable
from gateway.dataplane.kernel.rules_dataplane import RulesDataplane
from gateway.dataplane.kernel.segment_sizes import SegmentSizes
from gateway.dataplane.kernel.selectors import SelectorRefusedError
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.kernel.slow_path import SlowPath, WatchedSa
from gateway.dataplane.kernel.starting import starting
from gateway.dataplane.kernel.takeover import Takeover, soft_limits
from gateway.dataplane.kernel.ways import Ways
from gateway.dataplane.kernel.xfrm import decode, encode
from gateway.dataplane.kernel.xfrm.constants import (
    IF_ID,
    MODE_TRANSPORT,
    MODE_TUNNEL,
    Direction,
    XfrmMessage,
)
from gateway.dataplane.kernel.xfrm.encode import Selector, Template
from gateway.dataplane.packet.esp import EspCipher
from gateway.dataplane.packet.replay import filled_hole
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint


class KernelDataplane(RulesDataplane):
    """Implements :class:`gateway.dataplane.interface.Dataplane` in this network namespace.

    Construct, :meth:`start`, then watch :meth:`event_fds`; when one is readable call
    :meth:`read_events`, give the events to the engine, do what it asks, and :meth:`commit` -
    also when it asked for nothing: packets that proved a move wait for that.
    """

    _foundation: Foundation

    def __init__(
        self, settings: KernelSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(settings)
        self._clock = clock
        self._children: dict[int, InstalledChild] = {}
        self._siblings: defaultdict[int, dict[int, InstalledChild]] = defaultdict(dict)
        """Child SAs of a reqid: one, and during a rekeying its successor."""
        self._traps: dict[int, InstalledChild] = {}
        self._policies = PolicyTable()
        self._moves: list[Move] = []
        self._superseded: list[tuple[InstalledChild, InstalledChild]] = []
        self._late_mappings = 0
        self._expired: list[DataplaneEvent] = []
        self._started = False

    def start(self, *, adopt: bool = False) -> None:
        """Clear leftovers, then make interface, routes, policies, ruleset and queue.

        With ``adopt`` what an earlier process left stays and goes on forwarding; :meth:`adopt`
        has to follow. Raises :class:`DataplaneUnavailableError`, leaving nothing behind.
        """
        settings = self.settings
        with starting() as undo:
            self._foundation = Foundation(settings)
            undo.callback(self._foundation.give_up)
            self._foundation.build(adopt_it=adopt)
            queue = Queue(settings.queue_number, settings.queue_length)
            undo.callback(queue.close)
            self._events = EventReader(self._children, self._clock)
            undo.callback(self._events.close)
            self._ways = Ways(settings.output_mark)
        self._slow_path = SlowPath(queue, self._highest, self._clock)
        self._xfrm, self._sets = self._foundation.xfrm, self._foundation.sets
        self._segments = SegmentSizes(self._sets, self._ways, settings.mtu)
        self._started = True

    # -- taking over -------------------------------------------------------------------------

    def adopt(self, children: Sequence[tuple[ChildSa, bool]]) -> list[int]:
        """See :meth:`Dataplane.adopt`. Raises OSError. Limits reached meanwhile are events."""
        takeover = Takeover(self._xfrm, self.settings.output_mark)
        self._segments.adopt()
        found = [(sa, outbound, takeover.find(sa)) for sa, outbound in children]
        sending = {one.child.sa.reqid for _, _, one in found if one and one.outbound}
        lost = []
        for sa, outbound, one in found:
            # The outbound half goes when a successor has taken over.
            if one is None or sa.spi_in in self._children or (outbound and sa.reqid not in sending):
                lost.append(sa.spi_in)
                continue
            takeover.keep(one)
            self._take(one.child)
            self._expired += soft_limits(one)
            self.move_child_sa(
                sa.spi_in, sa.local, sa.remote, udp_encapsulation=sa.udp_encapsulation
            )
        for key in self._policies.contested():
            direction, selector, if_id, mark = key
            there = int(direction), selector.octets, IF_ID if if_id else 0, mark
            self._policies.prefer(key, takeover.owner_of(there))
        self._batch.requests.clear()
        self._batch.owners.clear()
        self._settle_elements()
        takeover.settle(self._policies)
        self._foundation.forget_unclaimed()
        lost += [refusal.spi_in for refusal in self.commit()]
        return list(dict.fromkeys(lost))

    def _take(self, child: InstalledChild) -> None:
        """Enter a child SA that the kernel has. What is queued is compared, not sent."""
        sa = child.sa
        self._children[sa.spi_in] = child
        self._siblings[sa.reqid][sa.spi_in] = child
        self._segments.look_at(child)
        if child.watched:
            self._watch(child)
        if sa.vpn_fa:
            self._guard(child)
        if not child.own_selector:
            self._claim_inbound(child)
        if child.outbound:
            self._claim_outbound(child)
            self._events.expect_outbound(child)
            self._add_routes(child)

    # -- verbs -------------------------------------------------------------------------------

    def install_child_sa(self, sa: ChildSa, *, outbound: bool = True) -> None:
        """See :meth:`Dataplane.install_child_sa`."""
        try:
            child = InstalledChild.of(sa, self.settings.output_mark)
        except SelectorRefusedError as error:
            self._refused.append(Refusal(sa.spi_in, str(error)))
            return
        if sa.spi_in in self._children:
            self._refused.append(Refusal(sa.spi_in, f"SPI {sa.spi_in:#010x} is in use"))
            return
        self._children[sa.spi_in] = child
        self._siblings[sa.reqid][sa.spi_in] = child
        self._segments.look_at(child)
        if child.watched:
            self._watch(child)
        if sa.vpn_fa:
            self._guard(child)
        self._batch.add(sa.spi_in, "the inbound SA", child.inbound_state())
        if not child.own_selector:
            self._claim_inbound(child)
        if outbound:
            self.activate_outbound(sa.spi_in)
        else:
            child.waiting_at = child.remote.address
            what = "the waiting outbound SA"
            self._batch.add(sa.spi_in, what, child.waiting_state(), errno.EEXIST)

    def _end_waiting(self, child: InstalledChild) -> None:
        if child.waiting_at is not None:
            gone = encode.delete_state(child.waiting_at, child.sa.spi_out)
            child.waiting_at = None
            self._batch.add(child.sa.spi_in, "a deletion", gone, errno.ESRCH)

    def _watch(self, child: InstalledChild) -> None:
        sa = child.sa
        self._batch.element(sa.spi_in, *child.nft_known)
        self._batch.element(sa.spi_in, *child.nft_ours)
        cipher = EspCipher(sa.suite, sa.keys_in)
        self._slow_path.watch(WatchedSa(sa.spi_in, cipher, sa.suite.esn, child.remote))

    def _unwatch(self, child: InstalledChild) -> None:
        spi_in = child.sa.spi_in
        self._batch.element(spi_in, *child.nft_known, add=False)
        self._batch.element(spi_in, *child.nft_ours, add=False)
        self._slow_path.unwatch(spi_in)

    def _claim_inbound(self, child: InstalledChild) -> None:
        directions = (Direction.IN, Direction.FWD) if child.tunnel else (Direction.IN,)
        for selector in child.selectors:
            template = Template(
                None,
                None,
                child.reqid,
                MODE_TUNNEL if child.tunnel else MODE_TRANSPORT,
                selector.source.version,
            )
            for direction in directions:
                self._claim(child, direction, selector.reversed(), template)

    def _claim(
        self, child: InstalledChild, direction: Direction, selector: Selector, template: Template
    ) -> None:
        sa = child.sa
        requests = self._policies.claim(
            sa.reqid,
            direction,
            selector,
            template,
            if_id=child.tunnel,
            mark=child.mark_out if direction is Direction.OUT else child.mark_in,
        )
        self._batch.extend(sa.spi_in, f"the {direction.name.lower()} policy", requests)

    def _claim_outbound(self, child: InstalledChild) -> None:
        template = Template(
            child.local.address,
            child.remote.address,
            child.reqid,
            MODE_TUNNEL if child.tunnel else MODE_TRANSPORT,
        )
        for selector in child.selectors:
            self._claim(child, Direction.OUT, selector, template)

    def activate_outbound(self, spi_in: int) -> None:
        """See :meth:`Dataplane.activate_outbound`."""
        child = self._children.get(spi_in)
        if child is None or child.outbound:
            return
        self._end_waiting(child)
        child.outbound = True
        self._batch.add(spi_in, "the outbound SA", child.outbound_state())
        self._claim_outbound(child)
        self._events.expect_outbound(child)
        self._add_routes(child)
        self._superseded += [
            (other, child)
            for other in self._siblings[child.sa.reqid].values()
            if other is not child and other.outbound
        ]

    def _retire_outbound(self) -> None:
        """Delete the outbound halves of child SAs whose successors are there.

        Their inbound halves still wait for late packets. The kernel prefers an SA below its soft
        limit to a younger one beyond it: it would send on one that the peer has long deleted.
        """
        superseded, self._superseded = self._superseded, []
        for old, successor in superseded:
            installed = all(
                self._children.get(one.sa.spi_in) is one and one.outbound
                for one in (old, successor)
            )
            if installed:
                old.outbound = False
                self._batch.add(old.sa.spi_in, "a deletion", old.delete_outbound(), errno.ESRCH)
                self._events.forget_outbound(old)

    def remove_child_sa(self, spi_in: int) -> None:
        """See :meth:`Dataplane.remove_child_sa`."""
        child = self._children.pop(spi_in, None)
        if child is None:
            return
        sa = child.sa
        self._segments.forget(spi_in)
        self._moves = [move for move in self._moves if move.spi_in != spi_in]
        if child.watched:
            self._unwatch(child)
        if sa.vpn_fa:
            self._unguard(child)
        siblings = self._siblings[sa.reqid]
        del siblings[spi_in]
        if not siblings:
            del self._siblings[sa.reqid]
            self._release_policies(sa)
        self._batch.add(spi_in, "a deletion", child.delete_inbound(), errno.ESRCH)
        self._end_waiting(child)
        if child.outbound:
            self._batch.add(spi_in, "a deletion", child.delete_outbound(), errno.ESRCH)
            self._events.forget_outbound(child)
        self._drop_routes(child)

    def _release_policies(self, sa: ChildSa) -> None:
        trap = self._traps.get(sa.reqid)
        requests = self._policies.release(sa.reqid)
        self._batch.extend(sa.spi_in, "a policy deletion", requests, errno.ENOENT, errno.ESRCH)
        if trap is not None:
            self._claim_outbound(trap)

    def move_child_sa(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> None:
        """See :meth:`Dataplane.move_child_sa`."""
        if spi_in in self._children:
            self._moves.append(Move(spi_in, local, remote, udp_encapsulation))

    def trap(self, sa: ChildSa) -> None:
        """See :meth:`Dataplane.trap`."""
        if sa.reqid in self._traps:
            self.untrap(sa.reqid)
        try:
            child = InstalledChild.of(sa, self.settings.output_mark)
        except SelectorRefusedError as error:
            self._refused.append(Refusal(sa.spi_in, str(error)))
            return
        self._traps[sa.reqid] = child
        self._events.traps[kernel_reqid(sa.reqid)] = sa.reqid
        # Only what is routed to the interface can meet the trap.
        self._add_routes(child)
        if sa.reqid not in self._siblings:
            self._claim_outbound(child)

    def untrap(self, reqid: int) -> None:
        """See :meth:`Dataplane.untrap`."""
        trap = self._traps.pop(reqid, None)
        self._events.traps.pop(kernel_reqid(reqid), None)
        if trap is None:
            return
        self._drop_routes(trap)
        if reqid not in self._siblings:
            self._release_policies(trap.sa)

    # -- commit ------------------------------------------------------------------------------

    def commit(self) -> list[Refusal]:
        """See :meth:`Dataplane.commit`. A child SA that was refused is gone altogether."""
        refusals, self._refused = self._refused, []
        refusals += self._batch.flush(self._xfrm, self._sets)
        if self._moves:
            moves, self._moves = self._moves, []
            refusals += self._move(moves)
        for spi_in in dict.fromkeys(refusal.spi_in for refusal in refusals):
            self.remove_child_sa(spi_in)
        self._retire_outbound()
        if self._batch.requests or self._batch.elements:
            # Half an SA is being taken back; what is already missing there is no news.
            self._batch.flush(self._xfrm, self._sets)
        self._slow_path.release()
        self._segments.commit()
        return refusals

    def _move(self, moves: list[Move]) -> list[Refusal]:
        latest = {move.spi_in: move for move in moves if self._changes(move)}
        children = [self._children[spi_in] for spi_in in latest]
        refusals = []
        for child, states in zip(children, self._read_states(children), strict=True):
            was_watched = child.watched
            old_known, old_ours = child.nft_known, child.nft_ours
            if states[0] is not None:
                child.before_move = (states[0].consumed.packets, states[0].last_used)
            self._events.forget_outbound(child)
            refusal = queue_move(
                child,
                latest[child.sa.spi_in],
                inbound=states[0],
                outbound=states[1],
                batch=self._batch,
                claim_policies=self._claim_outbound,
            )
            if child.outbound:
                self._events.expect_outbound(child)
            if refusal is not None:
                refusals.append(refusal)
                continue
            self._segments.look_at(child)
            self._follow(child, old_known, old_ours, was_watched=was_watched)
        return refusals + self._batch.flush(self._xfrm, self._sets)

    def _changes(self, move: Move) -> bool:
        child = self._children.get(move.spi_in)
        return child is not None and (child.local, child.remote, child.udp_encapsulation) != (
            move.local,
            move.remote,
            move.udp_encapsulation,
        )

    def _read_states(
        self, children: list[InstalledChild]
    ) -> list[tuple[decode.State | None, decode.State | None]]:
        """Inbound and outbound state of each."""
        requests = []
        for child in children:
            requests += [child.get_inbound(), child.get_outbound()]
        found: dict[int, decode.State | None] = {}
        for index, kind, body in self._xfrm.transact(requests)[1]:
            if kind == XfrmMessage.NEWSA:
                found[index] = decode.state(body)
        for place, child in enumerate(children):
            if (inbound := found.get(2 * place)) is not None:
                child.replay = inbound.replay
        return [(found.get(2 * place), found.get(2 * place + 1)) for place in range(len(children))]

    def _follow(
        self,
        child: InstalledChild,
        old_known: tuple[str, bytes],
        old_ours: tuple[str, bytes],
        *,
        was_watched: bool,
    ) -> None:
        spi_in = child.sa.spi_in
        if child.watched and not was_watched:
            self._watch(child)
            return
        if was_watched and not child.watched:
            self._batch.element(spi_in, *old_known, add=False)
            self._batch.element(spi_in, *old_ours, add=False)
            self._slow_path.unwatch(spi_in)
            return
        if child.watched:
            for old, new in ((old_known, child.nft_known), (old_ours, child.nft_ours)):
                if old != new:
                    self._batch.element(spi_in, *new)
                    self._batch.element(spi_in, *old, add=False)
            self._slow_path.moved(spi_in, child.remote)

    # -- events and counters -----------------------------------------------------------------

    def event_fds(self) -> list[int]:
        """File descriptors; when one is readable, call :meth:`read_events`."""
        return [self._events.fileno(), self._slow_path.fileno()]

    def read_events(self) -> list[DataplaneEvent]:
        """What happened, a bounded amount of it: descriptors stay readable while there is more.

        Never raises for what a peer has sent.
        """
        self._slow_path.release()
        mapped = [self._without_late_mapping(event) for event in self._events.read()]
        expired, self._expired = self._expired, []
        return expired + mapped + self._slow_path.poll()

    def _without_late_mapping(self, event: DataplaneEvent) -> DataplaneEvent:
        """Turn a mapping that only a late packet showed into a rejection."""
        if not isinstance(event, EndpointSeen):
            return event
        child = self._children.get(event.spi_in)
        if child is None:
            return event
        before = child.replay.received, child.replay.bitmap
        self._read_states([child])
        now = child.replay.received, child.replay.bitmap
        if not filled_hole(before, now, child.replay_window):
            return event
        self._late_mappings += 1
        self._events.forget_mapping(event.spi_in)
        return EndpointRejected(event.spi_in, event.remote, "the packet was late")

    def usage(self, spi_in: int) -> Usage | None:
        """See :meth:`Dataplane.usage`.

        The kernel keeps no time of the last packet in: the age counts from the call that first
        saw the packet counter grow, so it is as fine as the calls are frequent.
        """
        child = self._children.get(spi_in)
        if child is None:
            return None
        inbound, outbound = self._read_states([child])[0]
        if inbound is None:
            return None
        now = self._clock()
        received = inbound.consumed
        sent = outbound.consumed if outbound is not None else None
        if received.packets != child.last_packets_in:
            child.last_packets_in, child.last_in_at = received.packets, now
        return Usage(
            bytes_in=received.octets,
            packets_in=received.packets,
            bytes_out=sent.octets if sent else 0,
            packets_out=sent.packets if sent else 0,
            last_in_age_s=None if child.last_in_at is None else now - child.last_in_at,
        )

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:
        """Packets that had come in when this SA moved last, and when the last of them came.

        The time is the wall clock's, in whole seconds, None where the kernel does not keep it.
        None for an SA that never moved.
        """
        child = self._children.get(spi_in)
        return None if child is None else child.before_move

    def _highest(self, spi_in: int) -> int | None:
        """The highest sequence number the kernel has received on an SA."""
        child = self._children.get(spi_in)
        if child is None:
            return None
        inbound = self._read_states([child])[0][0]
        return None if inbound is None else inbound.replay.received

    def counters(self) -> dict[str, int]:
        """Counters of the ruleset and the slow path, in packets; overruns of the sockets."""
        return {
            **ruleset.counters(),
            **{f"slow_path_{name}": count for name, count in self._slow_path.counters.items()},
            "queue_overruns": self._slow_path.overruns,
            "event_overruns": self._events.overruns,
            "late_mappings": self._late_mappings,
        }

    def close(self, *, keep: bool = False) -> None:
        """See :meth:`Dataplane.close`."""
        if not self._started:
            return
        self._started = False
        self._children.clear()
        self._slow_path.close()
        self._events.close()
        self._ways.close()
        self._foundation.close(keep=keep)
