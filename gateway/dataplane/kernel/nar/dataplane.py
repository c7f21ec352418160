"""NAR in the kernel: mappings are elements of nftables maps, clients are fwmarks.

How a packet travels (see ``ruleset.nft``, :mod:`.constants` for marks and tables, and
:mod:`.numbers` for aliases):

- From outside: prerouting looks the tuple up and finds the client's mark. End-to-end, an alias
  takes the place of the lent address, the mark leads to a transmitting device, postrouting writes
  the lent address again, the device encapsulates, and output writes the outer addresses by mark.
  Translated, the client's address takes the place of the lent one.
- From a client's tunnel: prerouting looks up whose it is, and writes the address of a receiving
  device; what comes out of it carries the client's mark, and must have a leased source.
- From a translated client: prerouting finds a mark that stands for the lent address, which becomes
  the source in postrouting.
- The connection tracker sees none of that. ICMP errors go to the queue: :mod:`.slow_path`.
"""

import contextlib
import errno
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.nar import elements
from gateway.dataplane.kernel.nar.below import Below, KernelBelow
from gateway.dataplane.kernel.nar.foundation import Foundation
from gateway.dataplane.kernel.nar.l2tp import OVERHEAD, L2tpLink
from gateway.dataplane.kernel.nar.mappings import Mappings, NotPossibleError, Owner, Session
from gateway.dataplane.kernel.nar.numbers import Numbers, NumbersExhaustedError
from gateway.dataplane.kernel.nar.plan import constant_elements, living_elements
from gateway.dataplane.kernel.nar.ports import OwnUse
from gateway.dataplane.kernel.nar.slow_path import SlowPath
from gateway.dataplane.kernel.nar.tables import difference
from gateway.dataplane.kernel.nft_elements import ElementChange
from gateway.dataplane.kernel.owned_batch import OwnedBatch
from gateway.dataplane.kernel.starting import starting
from gateway.dataplane.nar import NarRefusal, NarServerSettings, NarSettings
from gateway.domain.nar import L2tpSession, NarMapping, NarProtocol, NarTuple

_SETTINGS: Final = "settings"
"""Owner of what settings make."""


class KernelNar:
    """Implements :class:`gateway.dataplane.nar.NarDataplane` in this network namespace.

    Construct, :meth:`start`, then watch :meth:`event_fds`; when one is readable call
    :meth:`read_events`. No packet matches before the first :meth:`alive`.
    """

    kind = "kernel"

    def __init__(
        self,
        settings: NarSettings,
        *,
        below: Below | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``below`` is what the rules stand on, None: the kernel's own."""
        self.settings = settings
        self._below = below or KernelBelow()
        self._clock = clock
        self._numbers = Numbers()
        self._batch: OwnedBatch[Owner] = OwnedBatch()
        self._mappings = Mappings(self._numbers, self._batch)
        self._refused: dict[NarTuple, str] = {}
        self._living: set[elements.Element] = set()
        self._constant: elements.Elements = {}
        self._alive_refused = 0
        self._started = False

    def start(self) -> None:
        """Keep what an earlier process left, make the rest: devices, rules, ruleset, queue.

        Raises :class:`DataplaneUnavailableError`, with nothing changed that was there.
        """
        settings = self.settings
        with starting() as undo:
            undo.callback(self._below.close, keep=True)
            # First of all: a process that lives has the queue, and all the rest is its own.
            queue = self._below.queue(settings)
            undo.callback(queue.close)
            foundation = Foundation(settings, self._below)
            undo.callback(foundation.give_up)
            foundation.build()
            try:
                _adopt_numbers(self._numbers, foundation.found)
                self._numbers.set_addresses(_addresses(settings))
            except NumbersExhaustedError as error:
                raise OSError(errno.ENOSPC, str(error)) from error
            slow_path = SlowPath(queue, settings, self._numbers, clock=self._clock)
        self._foundation, self._queue, self._slow_path = foundation, queue, slow_path
        self._own_use = OwnUse(self._below.sas())
        self._mappings.servers = {server.name: server for server in settings.servers}
        self._living = set(foundation.links)
        self._constant = constant_elements(settings, self._numbers)
        self._mappings.exchange(_SETTINGS, {}, self._constant)
        self._started = True

    # -- verbs ---------------------------------------------------------------------------------

    def set_mapping(self, mapping: NarMapping) -> None:
        """See :meth:`NarDataplane.set_mapping`."""
        try:
            changed = self._mappings.put(mapping)
        except (NotPossibleError, NumbersExhaustedError) as error:
            self._refused[mapping.tuple] = str(error)
            self.remove_mapping(mapping.tuple)
            return
        if changed:
            self._slow_path.set_mapping(mapping)

    def remove_mapping(self, key: NarTuple) -> None:
        """See :meth:`NarDataplane.remove_mapping`."""
        self._slow_path.remove_mapping(key)
        self._mappings.remove(key)

    def set_l2tp(self, server: str, session: L2tpSession) -> None:
        """See :meth:`NarDataplane.set_l2tp`.

        Where it fails, mappings that need it are refused with the reason.
        """
        sessions, servers = self._mappings.sessions, self._mappings.servers
        there = sessions.get(session.client)
        if there is not None and (there.server, there.link.session) == (server, session):
            return
        self.remove_l2tp(session.client)
        if server not in servers:
            self._mappings.l2tp_problem = f"no server {server}"
            return
        try:
            local = servers[server].tunnel_address
            link = self._foundation.l2tp.open(session, local, self._l2tp_mtu())
            index = self._foundation.prepare_link(link.interface)
        except OSError as error:
            self._mappings.l2tp_problem = error.strerror or str(error)
            return
        sessions[session.client] = Session(server, link, index, self._l2tp_mtu())
        self._mappings.exchange(link.interface, {}, _tunnel_elements(servers[server], link))

    def _l2tp_mtu(self) -> int:
        return self.settings.mtu + 20 - OVERHEAD

    def remove_l2tp(self, client: IPv4Address) -> None:
        """See :meth:`NarDataplane.remove_l2tp`. Its mappings go with it."""
        session = self._mappings.sessions.get(client)
        if session is None:
            return
        for key in self._mappings.of_session(client):
            self.remove_mapping(key)
        del self._mappings.sessions[client]
        server, link = self._mappings.servers[session.server], session.link
        self._mappings.exchange(link.interface, _tunnel_elements(server, link), {})
        with contextlib.suppress(OSError):
            self._foundation.l2tp.delete(link.session.tunnel_id)

    def occupied(self, protocol: NarProtocol, address: IPv4Address, value: int) -> bool:
        """See :meth:`NarDataplane.occupied`."""
        return self._own_use.occupied(protocol, address, value)

    def hold_port(self, protocol: NarProtocol, address: IPv4Address, port: int) -> bool:
        """See :meth:`NarDataplane.hold_port`."""
        return self._own_use.hold_port(protocol, address, port)

    def free_port(self, protocol: NarProtocol, address: IPv4Address, port: int) -> None:
        """See :meth:`NarDataplane.free_port`."""
        self._own_use.free_port(protocol, address, port)

    def adopt(self) -> set[NarTuple]:
        """See :meth:`NarDataplane.adopt`."""
        return {
            elements.tuple_of(name, key)
            for name, key in self._foundation.found
            if name in elements.IN_MAPS
        }

    # -- settings ------------------------------------------------------------------------------

    def reconfigure(self, settings: NarSettings) -> None:
        """See :meth:`NarDataplane.reconfigure`.

        Mappings of servers and addresses that are no more are gone. Other packet sizes are for new
        L2TP sessions.
        """
        mappings = self._mappings
        before, after = mappings.servers, {server.name: server for server in settings.servers}
        for mapping in mappings:
            if not _still_there(mapping, before[mapping.server], after.get(mapping.server)):
                self.remove_mapping(mapping.tuple)
        for client, session in list(mappings.sessions.items()):
            server = after.get(session.server)
            if server is None or server.tunnel_address != before[session.server].tunnel_address:
                self.remove_l2tp(client)
        self._foundation.reconfigure(settings)
        self.settings, mappings.servers = settings, after
        try:
            self._numbers.set_addresses(_addresses(settings))
        except NumbersExhaustedError as error:
            raise OSError(errno.ENOSPC, str(error)) from error
        constant = constant_elements(settings, self._numbers)
        mappings.exchange(_SETTINGS, self._constant, constant)
        self._constant = constant
        mappings.move_clients()
        for session in mappings.sessions.values():
            name, link = session.server, session.link
            mappings.exchange(
                link.interface,
                _tunnel_elements(before[name], link),
                _tunnel_elements(after[name], link),
            )
        self._slow_path.reconfigure(settings)
        self._refused |= self._flush()
        self.alive()

    def alive(self) -> None:
        """See :meth:`NarDataplane.alive`."""
        wanted = living_elements(self.settings)
        timeout_ms = int(self.settings.dead_after_s * 1000)
        sets = self._foundation.sets
        sets.apply([ElementChange(*element, add=False) for element in self._living - wanted])
        changes = []
        for element in sorted(wanted):
            # Side by side they are in one transaction, which has room for an even number.
            changes.append(ElementChange(*element, add=False))
            changes.append(ElementChange(*element, timeout_ms=timeout_ms))
        if sets.apply(changes) is None:
            self._living = wanted
        else:
            self._alive_refused += 1

    # -- commit --------------------------------------------------------------------------------

    def commit(self) -> list[NarRefusal]:
        """See :meth:`NarDataplane.commit`. What was refused is gone altogether."""
        refused, self._refused = self._refused, {}
        if not self._mappings.begun:
            self._begin()
        if self._batch:
            refused |= self._flush()
        return [NarRefusal(key, reason) for key, reason in refused.items()]

    def _begin(self) -> None:
        """Queue what makes the sets of an earlier process those of this one."""
        found, self._foundation.found = self._foundation.found, {}
        for changes in difference(found, self._mappings.wanted()):
            name, key = changes[0].name, changes[0].key
            owner = elements.tuple_of(name, key) if name in elements.IN_MAPS else None
            self._batch.elements(owner, changes)
        self._mappings.begun = True
        self._numbers.forget_unclaimed()
        tunnels = {one.link.session.tunnel_id for one in self._mappings.sessions.values()}
        self._foundation.forget_unused(tunnels, set(self._numbers.l2tp_aliases()))

    def _flush(self) -> dict[NarTuple, str]:
        refused = self._batch.flush(self._foundation.sets, self._foundation.route)
        lost = {key: reason for key, reason in refused.items() if key is not None}
        clients = set()
        for key in lost:
            mapping = self._mappings.get(key)
            if mapping is not None:
                clients.add(self._mappings.client_key(mapping))
                self.remove_mapping(key)
        self._mappings.repeat_clients(clients)
        if self._batch:
            # Half of it is being taken back; what is missing there already is no news.
            self._batch.flush(self._foundation.sets, self._foundation.route)
        return lost

    # -- events and counters -------------------------------------------------------------------

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
            **{f"slow_path_{name}": count for name, count in self._slow_path.counters.items()},
            "queue_overruns": self._queue.overruns,
            "alive_refused": self._alive_refused,
        }

    def close(self, *, keep: bool) -> None:
        """See :meth:`NarDataplane.close`."""
        if not self._started:
            return
        self._started = False
        self._slow_path.close()
        self._own_use.close()
        self._foundation.close(keep=keep)


def _adopt_numbers(numbers: Numbers, found: elements.Elements) -> None:
    """Marks and aliases of an earlier process stay with those who had them."""
    for (name, key), data in found.items():
        if data is None:
            continue
        if name == "client_address":
            server = found.get(("client_server", key))
            if server is not None:
                mark = elements.mark_of(key)
                numbers.adopt_client(mark, IPv4Address(server), IPv4Address(data))
        elif name == "out_source":
            numbers.adopt_address(elements.mark_of(key), IPv4Address(data))
        elif name == "alias":
            numbers.adopt_alias(0, IPv4Address(key), IPv4Address(data))
        elif name == "l2tp_alias":
            mark = elements.mark_of(key)
            numbers.adopt_alias(mark, IPv4Address(key[4:8]), IPv4Address(data))


def _addresses(settings: NarSettings) -> Iterable[IPv4Address]:
    return (address for server in settings.servers for address in server.addresses)


def _tunnel_elements(server: NarServerSettings, link: L2tpLink) -> elements.Elements:
    """What brings a session's tunnel to the kernel's port, and what it sends to the client."""
    local = server.tunnel_address.packed
    port = link.port.to_bytes(2, "big")
    found: elements.Elements = {("l2tp_server", port): local}
    for name in server.client_interfaces:
        key = link.session.client.packed + local + elements.interface(name)
        found["tunnels_l2tp", key] = port
    return found


def _still_there(
    mapping: NarMapping, before: NarServerSettings, after: NarServerSettings | None
) -> bool:
    """Whether a mapping is possible with other settings, by the same numbers."""
    return (
        after is not None
        and mapping.tuple.address in after.addresses
        and after.tunnel_address == before.tunnel_address
    )
