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
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from gateway.dataplane.kernel.dataplane import DataplaneUnavailableError
from gateway.dataplane.kernel.nar import constants, elements, routes
from gateway.dataplane.kernel.nar.foundation import Foundation
from gateway.dataplane.kernel.nar.l2tp import OVERHEAD, L2tpLink
from gateway.dataplane.kernel.nar.numbers import ClientKey, Numbers, NumbersExhaustedError
from gateway.dataplane.kernel.nar.plan import constant_elements, living_elements
from gateway.dataplane.kernel.nar.ports import OwnUse
from gateway.dataplane.kernel.nar.slow_path import SlowPath
from gateway.dataplane.kernel.nar.tables import Edit, Shared, difference
from gateway.dataplane.kernel.nfqueue import Queue
from gateway.dataplane.kernel.nft_elements import ElementChange
from gateway.dataplane.kernel.owned_batch import OwnedBatch
from gateway.dataplane.nar import NarRefusal, NarServerSettings, NarSettings
from gateway.domain.nar import Delivery, L2tpSession, NarMapping, NarProtocol, NarTuple

_SETTINGS: Final = "settings"
"""Owner of what settings make."""
_Owner = NarTuple | None


class _NotPossibleError(Exception):
    """Why a mapping cannot be."""


@dataclass(frozen=True, slots=True)
class _Client:
    """A client with one delivery, as it is in the sets."""

    mark: int
    server: str
    elements: elements.Elements


class KernelNar:
    """Implements :class:`gateway.dataplane.nar.NarDataplane` in this network namespace.

    Construct, :meth:`start`, then watch :meth:`event_fds`; when one is readable call
    :meth:`read_events`.
    """

    def __init__(
        self, settings: NarSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._servers: dict[str, NarServerSettings] = {}
        self._numbers = Numbers()
        self._shared = Shared()
        self._mappings: dict[NarTuple, NarMapping] = {}
        self._clients: dict[ClientKey, _Client] = {}
        self._sessions: dict[IPv4Address, tuple[str, L2tpLink]] = {}
        self._batch: OwnedBatch[_Owner] = OwnedBatch()
        self._refused: dict[NarTuple, str] = {}
        self._l2tp_problem = ""
        self._first = True
        self._living: set[elements.Element] = set()
        self._constant: elements.Elements = {}
        self._started = False

    def start(self) -> None:
        """Keep what an earlier process left, make the rest: devices, rules, ruleset, queue.

        Raises :class:`DataplaneUnavailableError`, leaving nothing behind that was not there.
        """
        settings = self.settings
        with contextlib.ExitStack() as undo:
            try:
                foundation = Foundation(settings)
                undo.callback(foundation.close, keep=False)
                foundation.build()
                self._adopt_numbers(foundation.found)
                self._numbers.set_addresses(_addresses(settings))
                queue = Queue(settings.queue_number, settings.queue_length)
                undo.callback(queue.close)
                slow_path = SlowPath(queue, settings, self._numbers)
            except NumbersExhaustedError as error:
                raise DataplaneUnavailableError(errno.ENOSPC, str(error)) from error
            except OSError as error:
                text = error.strerror or str(error)
                if error.errno == errno.EPERM:
                    text += " (needs root or CAP_NET_ADMIN)"
                raise DataplaneUnavailableError(error.errno or errno.EIO, text) from error
            undo.pop_all()
        self._foundation, self._queue, self._slow_path = foundation, queue, slow_path
        self._own_use = OwnUse()
        self._servers = {server.name: server for server in settings.servers}
        self._living = set(foundation.links)
        self._constant = constant_elements(settings, self._numbers)
        self._edit_constant({}, self._constant)
        self._started = True

    def _adopt_numbers(self, found: elements.Elements) -> None:
        """Marks and aliases of an earlier process stay with those who had them."""
        for (name, key), data in found.items():
            if data is None:
                continue
            if name == "client_address":
                server = found.get(("client_server", key))
                if server is not None:
                    self._numbers.adopt_client(_number(key), IPv4Address(server), IPv4Address(data))
            elif name == "out_source":
                self._numbers.adopt_address(_number(key[:4]), IPv4Address(data))
            elif name == "alias":
                self._numbers.adopt_alias(0, IPv4Address(key), IPv4Address(data))
            elif name == "l2tp_alias":
                self._numbers.adopt_alias(
                    _number(key[:4]), IPv4Address(key[4:8]), IPv4Address(data)
                )

    # -- mappings ------------------------------------------------------------------------------

    def set_mapping(self, mapping: NarMapping) -> None:
        """See :meth:`NarDataplane.set_mapping`."""
        before = self._mappings.get(mapping.tuple)
        if before == mapping:
            return
        edit = Edit(self._shared)
        try:
            self._check(mapping)
            after = self._replace(before, mapping, edit)
        except (_NotPossibleError, NumbersExhaustedError) as error:
            self._refused[mapping.tuple] = str(error)
            self.remove_mapping(mapping.tuple)
            return
        edit.put_own(after)
        self._mappings[mapping.tuple] = mapping
        self._slow_path.set_mapping(mapping)
        self._queue_changes(mapping.tuple, edit.changes())

    def _replace(
        self, before: NarMapping | None, mapping: NarMapping, edit: Edit
    ) -> elements.Elements:
        """Put it in the place of what was there; raises before anything has changed."""
        if before is None:
            return self._put(mapping, edit)
        # Whoever has it next, the client's mark stays until both are through.
        key = self._client_key(before)
        self._numbers.claim(key)
        try:
            # What it needs is claimed in advance: what follows cannot fail.
            self._numbers.claim(self._client_key(mapping))
        except NumbersExhaustedError:
            self._release(key, edit)
            raise
        self._take(before, edit)
        try:
            return self._put(mapping, edit)
        finally:
            self._release(self._client_key(mapping), edit)
            self._release(key, edit)

    def _check(self, mapping: NarMapping) -> None:
        """Raises _NotPossibleError."""
        server = self._servers.get(mapping.server)
        key = mapping.tuple
        if server is None:
            raise _NotPossibleError(f"no server {mapping.server}")
        if key.address not in server.addresses:
            raise _NotPossibleError(f"server {mapping.server} does not lend {key.address}")
        if mapping.delivery is Delivery.L2TP and mapping.client not in self._sessions:
            problem = self._l2tp_problem or f"no L2TP session with {mapping.client}"
            raise _NotPossibleError(problem)
        if key.protocol is NarProtocol.AH and mapping.delivery is Delivery.TRANSLATED:
            raise _NotPossibleError("AH cannot be translated (section 2.6.2)")
        bound = key.protocol.is_tunnel or key.protocol is NarProtocol.ICMP
        if bound and key.remote is None:
            raise _NotPossibleError(f"{key.protocol.name} needs a remote address")
        if mapping.client_port and (mapping.delivery.end_to_end or not key.protocol.has_ports):
            raise _NotPossibleError("only translated TCP and UDP have another port at the client")

    def _client_key(self, mapping: NarMapping) -> ClientKey:
        server = self._servers[mapping.server]
        return ClientKey(server.tunnel_address, mapping.client, mapping.delivery)

    def _put(self, mapping: NarMapping, edit: Edit) -> elements.Elements:
        """Claim numbers and put what is shared; returns what is the mapping's own."""
        key = self._client_key(mapping)
        mark = self._numbers.claim(key)
        try:
            if mapping.delivery is Delivery.L2TP:
                self._put_alias(mapping, mark, edit)
        except NumbersExhaustedError:
            self._release(key, edit)
            raise
        if key not in self._clients:
            client = _Client(mark, mapping.server, self._client_elements(key, mapping.server, mark))
            self._clients[key] = client
            edit.put(key, client.elements)
        edit.put(mapping.tuple, self._sender(mapping, key, mark))
        return elements.of_tuple(mapping, mark)

    def _take(self, mapping: NarMapping, edit: Edit) -> None:
        """Reverse of :meth:`_put`."""
        key = self._client_key(mapping)
        client = self._clients[key]
        edit.take_own(elements.of_tuple(mapping, client.mark))
        edit.take(mapping.tuple, self._sender(mapping, key, client.mark))
        if mapping.delivery is Delivery.L2TP:
            self._take_alias(mapping, client.mark, edit)
        self._release(key, edit)

    def _release(self, key: ClientKey, edit: Edit) -> None:
        """Undo one claim of a client's mark; with the last one the client is gone."""
        if self._numbers.release(key):
            client = self._clients.pop(key, None)
            if client is not None:
                edit.take(key, client.elements)

    def _sender(self, mapping: NarMapping, key: ClientKey, mark: int) -> elements.Elements:
        out_mark = self._numbers.out_mark(mapping.tuple.address)
        return elements.of_sender(mapping, mark, out_mark, key.server_address)

    def _client_elements(self, key: ClientKey, server: str, mark: int) -> elements.Elements:
        links = self._servers[server].client_interfaces
        found = elements.of_client(mark, key.delivery, key.client, key.server_address, links)
        if key.delivery is Delivery.L2TP:
            link = self._sessions[key.client][1]
            found["l2tp_links", elements.interface(link.interface)] = elements.mark(mark)
        return found

    def remove_mapping(self, key: NarTuple) -> None:
        """See :meth:`NarDataplane.remove_mapping`."""
        mapping = self._mappings.pop(key, None)
        if mapping is None:
            return
        self._slow_path.remove_mapping(key)
        edit = Edit(self._shared)
        self._take(mapping, edit)
        self._queue_changes(key, edit.changes())

    def _queue_changes(self, owner: _Owner, changes: list[ElementChange]) -> None:
        if not self._first:
            self._batch.elements(owner, changes)

    # -- L2TP ----------------------------------------------------------------------------------

    def set_l2tp(self, server: str, session: L2tpSession) -> None:
        """See :meth:`NarDataplane.set_l2tp`. What fails is told by the mappings it was for."""
        there = self._sessions.get(session.client)
        if there is not None and there[1].session == session and there[0] == server:
            return
        if server not in self._servers:
            return
        self.remove_l2tp(session.client)
        try:
            link = self._foundation.l2tp.open(session, self._l2tp_mtu())
        except OSError as error:
            self._l2tp_problem = error.strerror or str(error)
            return
        self._foundation.prepare_link(link.interface)
        self._sessions[session.client] = server, link
        edit = Edit(self._shared)
        edit.put(link.interface, self._tunnel_elements(server, link))
        self._queue_changes(None, edit.changes())

    def _l2tp_mtu(self) -> int:
        return self.settings.mtu + 20 - OVERHEAD

    def _tunnel_elements(self, server: str, link: L2tpLink) -> elements.Elements:
        settings = self._servers[server]
        local = settings.tunnel_address.packed
        port = link.port.to_bytes(2, "big")
        found: elements.Elements = {("l2tp_server", port): local}
        for name in settings.client_interfaces:
            key = link.session.client.packed + local + elements.interface(name)
            found["tunnels_l2tp", key] = port
        return found

    def remove_l2tp(self, client: IPv4Address) -> None:
        """See :meth:`NarDataplane.remove_l2tp`. Its mappings go with it."""
        there = self._sessions.get(client)
        if there is None:
            return
        server, link = there
        lost = [
            mapping.tuple
            for mapping in self._mappings.values()
            if mapping.client == client and mapping.delivery is Delivery.L2TP
        ]
        for key in lost:
            self.remove_mapping(key)
        del self._sessions[client]
        edit = Edit(self._shared)
        edit.take(link.interface, self._tunnel_elements(server, link))
        self._queue_changes(None, edit.changes())
        with contextlib.suppress(OSError):
            self._foundation.l2tp.delete(link.session.tunnel_id)

    def _put_alias(self, mapping: NarMapping, mark: int, edit: Edit) -> None:
        address = mapping.tuple.address
        alias, first = self._numbers.claim_alias(mark, address)
        if first:
            edit.put(alias, elements.of_alias(address, alias, mark))
            index = self._foundation.index(self._sessions[mapping.client][1].interface)
            message = routes.set_route(
                constants.L2TP_TABLE, IPv4Network(alias), index, self._l2tp_mtu()
            )
            self._batch.request(mapping.tuple, "the route to the client", message)

    def _take_alias(self, mapping: NarMapping, mark: int, edit: Edit) -> None:
        address = mapping.tuple.address
        alias = self._numbers.release_alias(mark, address)
        if alias is not None:
            edit.take(alias, elements.of_alias(address, alias, mark))
            message = routes.delete_route(constants.L2TP_TABLE, IPv4Network(alias))
            self._batch.request(None, "a deletion", message, errno.ESRCH)

    # -- the box itself ------------------------------------------------------------------------

    def occupied(self, protocol: NarProtocol, address: IPv4Address, value: int) -> bool:
        """See :meth:`NarDataplane.occupied`."""
        return self._own_use.occupied(protocol, address, value)

    def hold_port(self, protocol: NarProtocol, address: IPv4Address, port: int) -> bool:
        """See :meth:`NarDataplane.hold_port`."""
        return self._own_use.hold_port(protocol, address, port)

    def free_port(self, protocol: NarProtocol, address: IPv4Address, port: int) -> None:
        """See :meth:`NarDataplane.free_port`."""
        self._own_use.free_port(protocol, address, port)

    # -- adoption, settings --------------------------------------------------------------------

    def adopt(self) -> set[NarTuple]:
        """See :meth:`NarDataplane.adopt`."""
        return {
            elements.tuple_of(name, key)
            for name, key in self._foundation.found
            if name in elements.IN_MAPS
        }

    def reconfigure(self, settings: NarSettings) -> None:
        """See :meth:`NarDataplane.reconfigure`.

        Mappings of servers and addresses that are no more are gone.
        """
        servers = {server.name: server for server in settings.servers}
        for mapping in list(self._mappings.values()):
            if not _still_there(mapping, self._servers, servers):
                self.remove_mapping(mapping.tuple)
        for address, (name, _) in list(self._sessions.items()):
            if name not in servers or servers[name] != self._servers[name]:
                self.remove_l2tp(address)
        self._foundation.reconfigure(settings)
        before, self._servers, self.settings = self._constant, servers, settings
        try:
            self._numbers.set_addresses(_addresses(settings))
        except NumbersExhaustedError as error:
            raise OSError(errno.ENOSPC, str(error)) from error
        self._constant = constant_elements(settings, self._numbers)
        self._edit_constant(before, self._constant)
        for key, client in list(self._clients.items()):
            self._move_client(key, client)
        self._slow_path.reconfigure(settings)
        refused = self._batch.flush(self._foundation.sets, self._foundation.route)
        self.alive()
        if refused:
            raise OSError(errno.EINVAL, "; ".join(sorted(set(refused.values()))))

    def _edit_constant(self, before: elements.Elements, after: elements.Elements) -> None:
        edit = Edit(self._shared)
        edit.take(_SETTINGS, before)
        edit.put(_SETTINGS, after)
        changes = edit.changes()
        for change in changes:
            self._queue_changes(None, [change])

    def _move_client(self, key: ClientKey, client: _Client) -> None:
        """Its interfaces may be others."""
        wanted = self._client_elements(key, client.server, client.mark)
        if wanted != client.elements:
            edit = Edit(self._shared)
            edit.take(key, client.elements)
            edit.put(key, wanted)
            self._clients[key] = _Client(client.mark, client.server, wanted)
            self._queue_changes(None, edit.changes())

    def alive(self) -> None:
        """See :meth:`NarDataplane.alive`."""
        wanted = living_elements(self.settings)
        timeout_ms = int(self.settings.dead_after_s * 1000)
        changes = [ElementChange(*element, add=False) for element in sorted(self._living - wanted)]
        if len(changes) % 2:
            # Pairs are not torn apart: a transaction has room for an even number of changes.
            changes.append(changes[-1])
        for element in sorted(wanted):
            changes.append(ElementChange(*element, add=False))
            changes.append(ElementChange(*element, timeout_ms=timeout_ms))
        refusal = self._foundation.sets.apply(changes)
        if refusal is None:
            self._living = wanted

    # -- commit --------------------------------------------------------------------------------

    def commit(self) -> list[NarRefusal]:
        """See :meth:`NarDataplane.commit`. What was refused is gone altogether."""
        refused, self._refused = self._refused, {}
        if self._first:
            self._first = False
            self._queue_first()
        if self._batch:
            refused |= self._flush()
        return [NarRefusal(key, reason) for key, reason in refused.items()]

    def _queue_first(self) -> None:
        """Queue what makes the sets of an earlier process those of this one."""
        wanted = self._shared.all()
        for mapping in self._mappings.values():
            mark = self._clients[self._client_key(mapping)].mark
            wanted |= elements.of_tuple(mapping, mark)
        found, self._foundation.found = self._foundation.found, {}
        for changes in difference(found, wanted):
            name, key = changes[0].name, changes[0].key
            owner = elements.tuple_of(name, key) if name in elements.IN_MAPS else None
            self._batch.elements(owner, changes)
        self._numbers.forget_unclaimed()
        self._foundation.forget_unused(
            {link.session.tunnel_id for _, link in self._sessions.values()},
            set(self._numbers.l2tp_aliases()),
        )

    def _flush(self) -> dict[NarTuple, str]:
        refused = self._batch.flush(self._foundation.sets, self._foundation.route)
        lost = {key: reason for key, reason in refused.items() if key is not None}
        clients = set()
        for key in lost:
            mapping = self._mappings.get(key)
            if mapping is not None:
                clients.add(self._client_key(mapping))
                self.remove_mapping(key)
        # What a client has was queued with its first mapping, which may be the one that is gone.
        for client in clients & self._clients.keys():
            self._batch.elements(None, _additions(self._clients[client].elements))
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
        }

    def close(self, *, keep: bool) -> None:
        """See :meth:`NarDataplane.close`."""
        if not self._started:
            return
        self._started = False
        self._slow_path.close()
        self._own_use.close()
        self._foundation.close(keep=keep)


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "little" if elements.mark(1)[0] else "big")


def _addresses(settings: NarSettings) -> Iterable[IPv4Address]:
    return (address for server in settings.servers for address in server.addresses)


def _additions(wanted: elements.Elements) -> list[ElementChange]:
    return [ElementChange(name, key, data=data) for (name, key), data in wanted.items()]


def _still_there(
    mapping: NarMapping,
    before: dict[str, NarServerSettings],
    after: dict[str, NarServerSettings],
) -> bool:
    """Whether a mapping is possible with other settings, by the same numbers."""
    server = after.get(mapping.server)
    return (
        server is not None
        and mapping.tuple.address in server.addresses
        and server.tunnel_address == before[mapping.server].tunnel_address
    )
