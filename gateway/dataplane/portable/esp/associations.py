"""The child SAs of a forwarder process, and who sends for which reqid.

Every process is told of every SA. It keeps the halves that are its own (:mod:`.owners`), and of
the others who has them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.dataplane.interface import Usage
from gateway.dataplane.kernel.selectors import SelectorRefusedError, outbound
from gateway.dataplane.kernel.xfrm.encode import Selector
from gateway.dataplane.portable.esp.inbound import Inbound
from gateway.dataplane.portable.esp.outbound import Outbound
from gateway.dataplane.portable.esp.owners import inbound_owner, outbound_owner
from gateway.dataplane.portable.esp.routing import Routing
from gateway.dataplane.portable.esp.state import Carried, InboundState, OutboundState, SaState
from gateway.dataplane.portable.forwarder import HeldSa
from gateway.domain.child_sa import ChildSa, EspKeys
from gateway.domain.endpoint import Endpoint

_NO_KEYS: Final = EspKeys(b"")


@dataclass(slots=True, eq=False)
class Child:
    """A child SA as this process has it."""

    sa: ChildSa
    """With the addresses it has now, without keys."""
    selectors: list[Selector]
    owner: int
    """The process that sends."""
    inbound: Inbound | None = None
    outbound: Outbound | None = None
    """Here until another of its reqid sends."""
    sends: bool = False
    sent: Carried = field(default_factory=Carried)
    """By an outbound half that is no more."""
    before_move: tuple[int, float | None] | None = None

    def retire(self) -> None:
        """Only receive any more."""
        self.sends = False
        if self.outbound is not None:
            self.sent = self.outbound.limits.carried
            self.outbound = None


@dataclass(slots=True, eq=False)
class Reqid:
    """What policies lead to: the SAs of one reqid, one of which sends."""

    reqid: int
    children: dict[int, Child] = field(default_factory=dict)
    sending: Child | None = None
    sender: Outbound | None = None
    """Its outbound half, where it is here and not at its end."""
    trap: tuple[ChildSa, list[Selector]] | None = None
    told_at: float = float("-inf")
    """When somebody was told that its traffic waits."""


class Associations:
    """Every verb takes effect at once. Those that can be refused say why."""

    def __init__(
        self,
        worker: int,
        workers: int,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        self.worker = worker
        self.workers = workers
        self.now = 0.0
        self._random = random
        self._wall_clock = wall_clock
        self._children: dict[int, Child] = {}
        self._reqids: dict[int, Reqid] = {}
        self._inbound: dict[bytes, Inbound] = {}
        self._routing: Routing[Reqid] = Routing()

    def install(self, sa: ChildSa, *, outbound: bool, output_mark: int = 0) -> str | None:
        """See :meth:`gateway.dataplane.portable.forwarder.Forwarder.install`."""
        if sa.spi_in in self._children:
            return f"SPI {sa.spi_in:#010x} is in use"
        fresh = SaState(sa, outbound, InboundState(), OutboundState(output_mark=output_mark))
        return self.restore(fresh)

    def restore(self, state: SaState) -> str | None:
        """Go on where another engine was: take the halves that belong here, or say why not.

        The states of an SA may come one by one from engines that had one half each, and from a
        forwarder with another number of processes.
        """
        sa = state.sa
        if sa.local.address.version != sa.remote.address.version:
            return f"{sa.local.address} and {sa.remote.address} are of two IP versions"
        child = self._children.get(sa.spi_in)
        try:
            if child is None:
                child = self._child(sa)
            halves = self._halves(child, state)
        except ValueError as error:
            return str(error)
        child.inbound, child.outbound = halves
        child.sent = child.sent if state.sent == Carried() else state.sent
        child.before_move = child.before_move or state.before_move
        if sa.spi_in not in self._children:
            self._children[sa.spi_in] = child
            self._reqids.setdefault(sa.reqid, Reqid(sa.reqid)).children[sa.spi_in] = child
        if child.inbound is not None:
            self._inbound[sa.spi_in.to_bytes(4, "big")] = child.inbound
        if state.sends:
            self.activate(sa.spi_in)
        return None

    def _child(self, sa: ChildSa) -> Child:
        """Raises :class:`ValueError` for selectors that cannot be."""
        return Child(
            replace(sa, keys_in=_NO_KEYS, keys_out=_NO_KEYS),
            outbound(sa.local_ts, sa.remote_ts),
            outbound_owner(sa, self.workers),
        )

    def _halves(self, child: Child, state: SaState) -> tuple[Inbound | None, Outbound | None]:
        """Those that are here, new ones among them. Raises :class:`ValueError` for wrong keys."""
        sa, received, sent = state.sa, child.inbound, child.outbound
        ours = inbound_owner(sa, self.workers) == self.worker
        if state.inbound is not None and received is None and ours:
            received = Inbound(sa, child.selectors, state.inbound, self.now)
        if state.outbound is not None and sent is None and child.owner == self.worker:
            sent = Outbound(sa, state.outbound, self._random)
        return received, sent

    def states(self) -> list[SaState]:
        """Every child SA with the halves that are here, in the order of their installation.

        The last thing that an engine is asked, or it would use numbers that another has.
        """
        return [self._state(child) for child in self._children.values()]

    def _state(self, child: Child) -> SaState:
        received, sent = child.inbound, child.outbound
        return SaState(
            replace(
                child.sa,
                keys_in=_NO_KEYS if received is None else received.keys,
                keys_out=_NO_KEYS if sent is None else sent.keys,
            ),
            child.sends,
            None if received is None else received.state(self.now),
            None if sent is None else sent.state(),
            child.sent,
            child.before_move,
        )

    def activate(self, spi_in: int) -> None:
        """See :meth:`gateway.dataplane.portable.forwarder.Forwarder.activate`.

        An SA that has sent before and was superseded does not send again.
        """
        child = self._children.get(spi_in)
        if child is None or child.sends:
            return
        if child.owner == self.worker and child.outbound is None:
            return
        reqid = self._reqids[child.sa.reqid]
        if reqid.sending is not None:
            reqid.sending.retire()
        child.sends = True
        reqid.sending, reqid.sender = child, child.outbound
        self._routing.claim(child.sa.zone, child.selectors, reqid)

    def remove(self, spi_in: int) -> None:
        """See :meth:`gateway.dataplane.portable.forwarder.Forwarder.remove`."""
        child = self._children.pop(spi_in, None)
        if child is None:
            return
        self._inbound.pop(spi_in.to_bytes(4, "big"), None)
        reqid = self._reqids[child.sa.reqid]
        del reqid.children[spi_in]
        if reqid.sending is child:
            reqid.sending = reqid.sender = None
        if not reqid.children:
            self._routing.release(reqid.reqid)
            self._settle(reqid)

    def move(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> str | None:
        """See :meth:`gateway.dataplane.portable.forwarder.Forwarder.move`."""
        child = self._children.get(spi_in)
        if child is None:
            return None
        sa = child.sa
        if (sa.local, sa.remote, sa.udp_encapsulation) == (local, remote, udp_encapsulation):
            return None
        if local.address.version != remote.address.version:
            return f"{local.address} and {remote.address} are of two IP versions"
        child.sa = replace(sa, local=local, remote=remote, udp_encapsulation=udp_encapsulation)
        if child.inbound is not None:
            child.before_move = child.inbound.limits.packets, self._last_in(child.inbound)
            child.inbound.move(local, remote, udp=udp_encapsulation)
        if child.outbound is not None:
            child.outbound.move(local, remote, udp=udp_encapsulation)
        return None

    def _last_in(self, half: Inbound) -> float | None:
        """By the wall clock."""
        if half.last_at is None:
            return None
        return self._wall_clock() - (self.now - half.last_at)

    def trap(self, sa: ChildSa) -> str | None:
        """See :meth:`gateway.dataplane.portable.forwarder.Forwarder.trap`."""
        self.untrap(sa.reqid)
        try:
            selectors = outbound(sa.local_ts, sa.remote_ts)
        except SelectorRefusedError as error:
            return str(error)
        reqid = self._reqids.setdefault(sa.reqid, Reqid(sa.reqid))
        kept = replace(sa, keys_in=_NO_KEYS, keys_out=_NO_KEYS)
        reqid.trap = kept, selectors
        if not reqid.children:
            self._routing.claim(sa.zone, selectors, reqid)
        return None

    def untrap(self, reqid: int) -> None:
        """See :meth:`gateway.dataplane.portable.forwarder.Forwarder.untrap`."""
        known = self._reqids.get(reqid)
        if known is None or known.trap is None:
            return
        known.trap = None
        if not known.children:
            self._routing.release(reqid)
            self._settle(known)

    def _settle(self, reqid: Reqid) -> None:
        """Without SAs there is at most a trap."""
        if reqid.trap is None:
            del self._reqids[reqid.reqid]
            return
        sa, selectors = reqid.trap
        self._routing.claim(sa.zone, selectors, reqid)

    def usage(self, spi_in: int) -> Usage | None:
        """Of the halves that are here; zeros for the others."""
        child = self._children.get(spi_in)
        if child is None:
            return None
        octets, packets, age = 0, 0, None
        if child.inbound is not None:
            limits = child.inbound.limits
            octets, packets = limits.octets, limits.packets
            if child.inbound.last_at is not None:
                age = max(0.0, self.now - child.inbound.last_at)
        sent = child.sent if child.outbound is None else child.outbound.limits.carried
        return Usage(octets, packets, sent.octets, sent.packets, age)

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:
        """See :meth:`gateway.dataplane.portable.forwarder.Forwarder.before_move`.

        None as well where the inbound half is not here.
        """
        child = self._children.get(spi_in)
        return None if child is None else child.before_move

    def spis(self) -> list[int]:
        """Of the inbound halves that are here."""
        return [half.spi_in for half in self._inbound.values()]

    def held(self) -> list[HeldSa]:
        """Every child SA, those with no half here as well. Soft limits are those of halves here."""
        return [
            HeldSa(child.sa, child.sends, self._soft_limit(child))
            for child in self._children.values()
        ]

    def _soft_limit(self, child: Child) -> bool:
        halves = child.inbound, child.outbound
        return child.sent.soft or any(half.limits.soft for half in halves if half is not None)
