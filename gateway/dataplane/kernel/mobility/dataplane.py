"""Mobile IPv4 in the kernel: bindings and visitors are set elements and routes.

How a packet travels (see ``ruleset.nft``, and :mod:`.constants` for marks and tables):

- From a mobile node: prerouting looks up (outer source, outer destination, inner source), sets a
  mark that stays with the packet, and one of two receiving devices decapsulates it. What comes
  out of them without a mark is dropped.
- To a mobile node: its /32 route in the home table, which has its packet size as locked MTU, leads
  to one of three transmitting devices. They all encapsulate towards one dummy address; the output
  chain writes the true addresses from maps by the inner destination, and the kernel routes again.
- A foreign agent's packets take the same devices: to visitors by the deliver table, from them by
  one of the reverse tables, both chosen by mark, so that no packet is ever short-cut.
- UDP tunnels are GRE in FOU whose header the ruleset exchanges for the one of RFC 3519.
- Zero-overhead packets are rewritten by maps, in prerouting or, when made here, in output.
- What the kernel cannot do goes to the queue: :mod:`.slow_path`.
"""

import contextlib
import errno
import time
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.mobility import constants, elements, routes
from gateway.dataplane.kernel.mobility.batch import Batch, Owner
from gateway.dataplane.kernel.mobility.foundation import Foundation
from gateway.dataplane.kernel.mobility.means import KernelMeans, Means
from gateway.dataplane.kernel.mobility.reverse import (
    NOBODY,
    NoReverseTableError,
    ReverseTables,
)
from gateway.dataplane.kernel.mobility.slow_path import SlowPath
from gateway.dataplane.kernel.nft_elements import ElementChange
from gateway.dataplane.kernel.starting import starting
from gateway.dataplane.mobility import MobilityRefusal, MobilitySettings
from gateway.domain.mobility import Encapsulation, MobilityBinding, Visitor

SMALLEST_PACKET: Final = 68
"""Octets that every link carries (RFC 791); a smaller limit is taken for this."""


class KernelMobility:
    """Implements :class:`gateway.dataplane.mobility.MobilityDataplane` in this network namespace.

    Construct, :meth:`start`, then watch :meth:`event_fds`; when one is readable call
    :meth:`read_events`. One home address is bound at one home agent, and visits by one, at a time.
    """

    def __init__(
        self,
        settings: MobilitySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        means: Means | None = None,
    ) -> None:
        self.settings = settings
        self._means: Means = means or KernelMeans()
        self._clock = clock
        self._bindings: dict[IPv4Address, MobilityBinding] = {}
        self._visitors: dict[IPv4Address, Visitor] = {}
        self._switched: dict[bytes, IPv4Address] = {}
        self._peers: Counter[elements.Peer] = Counter()
        self._listeners: Counter[tuple[str, str]] = Counter()
        self._reverse = ReverseTables()
        self._announce: list[tuple[IPv4Address, str]] = []
        self._batch = Batch()
        self._refused: dict[Owner, str] = {}
        self._started = self._adopting = False

    def start(self, *, adopt: bool = False) -> None:
        """Clear an earlier run's leftovers, then build devices, rules, ruleset and queue.

        With ``adopt`` what is there stays and goes on forwarding: set the bindings and visitors
        that there should be, then call :meth:`adopt`.

        Raises :class:`DataplaneUnavailableError`, leaving nothing behind of its own.
        """
        settings = self.settings
        with starting() as undo:
            foundation = Foundation(settings, self._means)
            undo.callback(foundation.give_up)
            foundation.build(adopt=adopt)
            if adopt:
                devices = foundation.devices.values()
                self._reverse.adopt(foundation.reverse_tables(), devices)
            queue = self._means.queue(settings)
            undo.callback(queue.close)
            slow_path = SlowPath(queue, settings)
        self._foundation, self._queue, self._slow_path = foundation, queue, slow_path
        self._started, self._adopting = True, adopt

    def adopt(self) -> list[MobilityRefusal]:
        """See :meth:`MobilityDataplane.adopt`."""
        return self.commit()

    def _settle(self) -> None:
        """Make what an earlier process left what was set since the start."""
        self._adopting = False
        found, self._foundation.found = self._foundation.found, {}
        self._announce = [
            (address, link)
            for address, link in self._announce
            if ("at_home", address.packed + elements.interface_key(link)) not in found
        ]
        self._batch.settle(found, NOBODY)

    def _entries(self) -> set[routes.Entry]:
        """Routes, neighbours and proxy entries of bindings and visitors."""
        index = self._foundation.index
        wanted: set[routes.Entry] = set()
        for binding in self._bindings.values():
            wanted.add(("route", constants.HOME_TABLE, binding.home_address))
            link = binding.home_network.interface
            if link is not None:
                wanted.add(("proxy", index(link) or 0, binding.home_address))
        for visitor in self._visitors.values():
            wanted.add(("route", constants.DELIVER_TABLE, visitor.home_address))
            if not visitor.through_vpn:
                wanted.add(("neighbour", index(visitor.interface) or 0, visitor.home_address))
        return wanted

    # -- verbs -------------------------------------------------------------------------------

    def set_binding(self, binding: MobilityBinding) -> None:
        """See :meth:`MobilityDataplane.set_binding`."""
        owner = binding.home_agent, binding.home_address
        before = self._bindings.get(binding.home_address)
        problem = self._binding_problem(binding, before)
        if problem:
            self._refused[owner] = problem
            return
        # The slow path may age what it knows: it hears of refreshes too.
        self._slow_path.set_binding(binding)
        if binding == before:
            return
        self._change(
            owner,
            {} if before is None else elements.of_binding(before, offload=self.settings.offload),
            elements.of_binding(binding, offload=self.settings.offload),
            () if before is None else _binding_peers(before),
            _binding_peers(binding),
        )
        if before is not None:
            self._unclaim(before, owner, successor=binding)
        self._bindings[binding.home_address] = binding
        for key in elements.switched_keys(binding):
            self._switched[key] = binding.home_address
        self._route_home(owner, binding)
        link = binding.home_network.interface
        if link is not None:
            self._defend(owner, binding, link, fresh=before is None)

    def _binding_problem(self, binding: MobilityBinding, before: MobilityBinding | None) -> str:
        if before is not None and before.home_agent != binding.home_agent:
            return f"{binding.home_address} is bound at {before.home_agent} already"
        if not binding.tunnels:
            return "no care-of address"
        link = binding.home_network.interface
        if link is not None and self._foundation.index(link) is None:
            return f"home network {binding.home_network.name}: no interface {link}"
        if binding.zero_overhead is None:
            return ""
        tunnel = binding.tunnels[0]
        if len(binding.tunnels) > 1 or tunnel.udp_port or not binding.co_located:
            return "zero-overhead tunnelling needs one co-located care-of address and no UDP"
        if tunnel.encapsulation is not Encapsulation.IP_IP:
            return "zero-overhead tunnelling falls back to IP-in-IP only"
        for key in elements.switched_keys(binding):
            other = self._switched.get(key, binding.home_address)
            if other != binding.home_address:
                return f"zero-overhead tunnelling: {tunnel.remote} serves {other} with it"
        return ""

    def _route_home(self, owner: Owner, binding: MobilityBinding) -> None:
        device = self._foundation.devices[elements.device_of(binding.tunnels)]
        mtu = self._packet_size(binding.max_packet_octets)
        message = routes.set_host(constants.HOME_TABLE, binding.home_address, device, mtu)
        self._batch.request(owner, "the route to the mobile node", message)

    def _packet_size(self, wanted: int) -> int:
        return max(SMALLEST_PACKET, min(wanted, self.settings.mtu))

    def _defend(self, owner: Owner, binding: MobilityBinding, link: str, *, fresh: bool) -> None:
        """Answer ARP for the mobile node on its home link, and hear broadcasts there."""
        index = self._foundation.index(link) or 0
        message = routes.set_proxy(binding.home_address, index)
        self._batch.request(owner, "the proxy ARP entry", message)
        if fresh:
            self._announce.append((binding.home_address, link))
        for name in _link_sets(binding):
            self._listeners[name, link] += 1
            if self._listeners[name, link] == 1:
                change = ElementChange(name, elements.interface_key(link))
                self._batch.elements(NOBODY, [change])

    def _unclaim(
        self, before: MobilityBinding, owner: Owner, successor: MobilityBinding | None = None
    ) -> None:
        """Give up what ``before`` had beyond its elements, except what its successor has too."""
        for key in elements.switched_keys(before):
            self._switched.pop(key, None)
        link = before.home_network.interface
        if link is None:
            return
        for name in _link_sets(before):
            self._listeners[name, link] -= 1
            if not self._listeners[name, link]:
                change = ElementChange(name, elements.interface_key(link), add=False)
                self._batch.elements(NOBODY, [change])
        if successor is None or successor.home_network.interface != link:
            index = self._foundation.index(link)
            if index is not None:
                message = routes.delete_proxy(before.home_address, index)
                self._batch.request(owner, "a deletion", message, errno.ENOENT, errno.ENODEV)

    def remove_binding(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """See :meth:`MobilityDataplane.remove_binding`.

        Nothing is announced: the mobile node itself does, once it is at home.
        """
        binding = self._bindings.get(home_address)
        if binding is None or binding.home_agent != home_agent:
            return
        del self._bindings[home_address]
        owner = home_agent, home_address
        self._slow_path.remove_binding(home_agent, home_address)
        before = elements.of_binding(binding, offload=self.settings.offload)
        self._change(owner, before, {}, _binding_peers(binding), ())
        message = routes.delete_host(constants.HOME_TABLE, home_address)
        self._batch.request(owner, "a deletion", message, errno.ESRCH)
        self._unclaim(binding, owner)

    def set_visitor(self, visitor: Visitor) -> None:
        """See :meth:`MobilityDataplane.set_visitor`."""
        owner = visitor.home_agent, visitor.home_address
        before = self._visitors.get(visitor.home_address)
        problem = self._visitor_problem(visitor, before)
        if problem:
            self._refused[owner] = problem
            return
        self._slow_path.set_visitor(visitor)
        if visitor == before:
            return
        try:
            mark = self._claim_reverse(visitor)
        except NoReverseTableError as error:
            self._refused[owner] = str(error)
            return
        old: elements.Elements = {}
        if before is not None:
            old = elements.of_visitor(
                before, self._release_reverse(before), offload=self.settings.offload
            )
        self._change(
            owner,
            old,
            elements.of_visitor(visitor, mark, offload=self.settings.offload),
            () if before is None else elements.peers((before.tunnel,)),
            elements.peers((visitor.tunnel,)),
        )
        if before is not None and before.interface != visitor.interface:
            self._forget_neighbour(before)
        self._visitors[visitor.home_address] = visitor
        index = self._foundation.index(visitor.interface) or 0
        message = routes.set_host(constants.DELIVER_TABLE, visitor.home_address, index)
        self._batch.request(owner, "the route to the visitor", message)
        if not visitor.through_vpn:
            message = routes.set_neighbour(visitor.home_address, index, visitor.link_address)
            self._batch.request(owner, "the visitor's neighbour entry", message)

    def _visitor_problem(self, visitor: Visitor, before: Visitor | None) -> str:
        if before is not None and before.home_agent != visitor.home_agent:
            return f"{visitor.home_address} visits by {before.home_agent} already"
        if self._foundation.index(visitor.interface) is None:
            return f"no interface {visitor.interface}"
        if not visitor.through_vpn and len(visitor.link_address) != 6:
            return f"no link-layer address of six octets on {visitor.interface}"
        return ""

    def _reverse_key(self, visitor: Visitor) -> tuple[int, int]:
        device = self._foundation.devices[elements.device_of((visitor.tunnel,))]
        return device, self._packet_size(visitor.max_packet_octets)

    def _claim_reverse(self, visitor: Visitor) -> int:
        return self._reverse.claim(*self._reverse_key(visitor), self._batch)

    def _release_reverse(self, visitor: Visitor) -> int:
        return self._reverse.release(*self._reverse_key(visitor))

    def _forget_neighbour(self, visitor: Visitor) -> None:
        index = self._foundation.index(visitor.interface)
        if index is None or visitor.through_vpn:
            return
        owner = visitor.home_agent, visitor.home_address
        message = routes.delete_neighbour(visitor.home_address, index)
        self._batch.request(owner, "a deletion", message, errno.ENOENT, errno.ENODEV)

    def remove_visitor(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """See :meth:`MobilityDataplane.remove_visitor`."""
        visitor = self._visitors.get(home_address)
        if visitor is None or visitor.home_agent != home_agent:
            return
        del self._visitors[home_address]
        owner = home_agent, home_address
        self._slow_path.remove_visitor(home_agent, home_address)
        mark = self._release_reverse(visitor)
        before = elements.of_visitor(visitor, mark, offload=self.settings.offload)
        self._change(owner, before, {}, elements.peers((visitor.tunnel,)), ())
        message = routes.delete_host(constants.DELIVER_TABLE, home_address)
        self._batch.request(owner, "a deletion", message, errno.ESRCH)
        self._forget_neighbour(visitor)

    def _change(
        self,
        owner: Owner,
        before: elements.Elements,
        after: elements.Elements,
        peers_before: Sequence[elements.Peer],
        peers_after: Sequence[elements.Peer],
    ) -> None:
        """Queue what turns the elements ``before`` into those ``after``."""
        changes = [
            ElementChange(name, key, add=False)
            for (name, key), data in before.items()
            if (name, key) not in after or after[name, key] != data
        ]
        changes += [
            ElementChange(name, key, data=data)
            for (name, key), data in after.items()
            if (name, key) not in before or before[name, key] != data
        ]
        if self.settings.offload:
            changes += self._change_peers(peers_before, peers_after)
        self._batch.elements(owner, changes)

    def _change_peers(
        self, before: Sequence[elements.Peer], after: Sequence[elements.Peer]
    ) -> list[ElementChange]:
        changes = []
        for peer in after:
            self._peers[peer] += 1
            if self._peers[peer] == 1:
                changes.append(ElementChange(*peer))
        for peer in before:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
                changes.append(ElementChange(*peer, add=False))
        return changes

    def reconfigure(self, settings: MobilitySettings) -> None:
        """See :meth:`MobilityDataplane.reconfigure`. Bindings and visitors stay."""
        self._foundation.reconfigure(settings)
        self._slow_path.reconfigure(settings)
        before, self.settings = self.settings, settings
        if before.mtu != settings.mtu:
            for binding in self._bindings.values():
                owner = binding.home_agent, binding.home_address
                self._route_home(owner, binding)

    # -- commit ------------------------------------------------------------------------------

    def commit(self) -> list[MobilityRefusal]:
        """See :meth:`MobilityDataplane.commit`. Who was refused is gone altogether."""
        refused, self._refused = self._refused, {}
        first = self._adopting
        if first:
            self._settle()
        if self._batch:
            refused |= self._flush()
        if first:
            with contextlib.suppress(OSError):  # in nobody's way: nothing leads there
                self._foundation.forget_unwanted(self._entries())
        if self._announce:
            announce, self._announce = self._announce, []
            for address, link in announce:
                if address in self._bindings:
                    self._foundation.announce(address, link)
        refused.pop(NOBODY, None)
        return [MobilityRefusal(*owner, reason) for owner, reason in refused.items()]

    def _flush(self) -> dict[Owner, str]:
        refused = self._batch.flush(self._foundation.sets, self._foundation.route)
        if refused:
            # An interface may have been made anew since we looked.
            self._foundation.refresh()
            for owner in refused:
                self.remove_binding(*owner)
                self.remove_visitor(*owner)
            # Half of it is being taken back; what is missing there already is no news.
            self._batch.flush(self._foundation.sets, self._foundation.route)
        return refused

    # -- events and counters -----------------------------------------------------------------

    def event_fds(self) -> list[int]:
        """File descriptors; when one is readable, call :meth:`read_events`."""
        return [self._slow_path.fileno()]

    def read_events(self) -> None:
        """Decide about waiting packets, a bounded number of them. Never raises for them."""
        self._slow_path.poll()

    def counters(self) -> dict[str, int]:
        """Counters of the ruleset and the slow path, in packets; overruns of the queue."""
        return {
            **self._foundation.counters(),
            **self._means.counters(),
            **{f"slow_path_{name}": count for name, count in self._slow_path.counters.items()},
            "queue_overruns": self._queue.overruns,
            "announcements_failed": self._foundation.announcer.failures,
        }

    def close(self, *, keep: bool = False) -> None:
        """See :meth:`MobilityDataplane.close`."""
        if not self._started:
            return
        self._started = False
        self._bindings.clear()
        self._visitors.clear()
        self._slow_path.close()
        self._foundation.close(keep=keep)


def _link_sets(binding: MobilityBinding) -> tuple[str, ...]:
    """The sets that its home link is in: a mobile node may join groups there without a B bit."""
    return ("multicast_links", "broadcast_links") if binding.broadcasts else ("multicast_links",)


def _binding_peers(binding: MobilityBinding) -> list[elements.Peer]:
    return elements.peers(binding.tunnels) if binding.reverse else []
