"""Which elements mappings and clients have, and what changes with each verb."""

import errno
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from gateway.dataplane.kernel.nar import constants, elements, routes
from gateway.dataplane.kernel.nar.l2tp import L2tpLink
from gateway.dataplane.kernel.nar.numbers import ClientKey, Numbers, NumbersExhaustedError
from gateway.dataplane.kernel.nar.tables import Edit, Shared
from gateway.dataplane.kernel.nft_elements import ElementChange
from gateway.dataplane.kernel.owned_batch import OwnedBatch
from gateway.dataplane.nar import NarServerSettings
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

Owner = NarTuple | None
"""Whom a refusal is reported for; None: nobody in particular."""


class NotPossibleError(Exception):
    """Why a mapping cannot be."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client with one delivery, as it is in the sets."""

    mark: int
    server: str
    elements: elements.Elements


@dataclass(frozen=True, slots=True)
class Session:
    """An L2TP session with the interface it has, and that one's index."""

    server: str
    link: L2tpLink
    index: int
    mtu: int


class Mappings:
    """All of them. Changes go to ``batch`` once :attr:`begun` is set; before, nothing is there."""

    def __init__(self, numbers: Numbers, batch: OwnedBatch[Owner]) -> None:
        self._numbers = numbers
        self._batch = batch
        self._shared = Shared()
        self._mappings: dict[NarTuple, NarMapping] = {}
        self._clients: dict[ClientKey, Client] = {}
        self.servers: Mapping[str, NarServerSettings] = {}
        """By name."""
        self.sessions: dict[IPv4Address, Session] = {}
        """By client."""
        self.l2tp_problem = ""
        """Why the last session could not be opened."""
        self.begun = False

    def __iter__(self) -> Iterator[NarMapping]:
        return iter(list(self._mappings.values()))

    def get(self, key: NarTuple) -> NarMapping | None:
        """The mapping of a tuple."""
        return self._mappings.get(key)

    def put(self, mapping: NarMapping) -> bool:
        """Set it; whether that changes anything.

        Raises NotPossibleError or NumbersExhaustedError, and then what was there is still there.
        """
        before = self._mappings.get(mapping.tuple)
        if before == mapping:
            return False
        self._check(mapping)
        edit = Edit(self._shared)
        after = self._replace(before, mapping, edit)
        edit.put_own(after)
        self._mappings[mapping.tuple] = mapping
        self._queue(mapping.tuple, edit.changes())
        return True

    def remove(self, key: NarTuple) -> None:
        """Remove the mapping of a tuple; there may be none."""
        mapping = self._mappings.pop(key, None)
        if mapping is not None:
            edit = Edit(self._shared)
            self._take(mapping, edit)
            self._queue(key, edit.changes())

    def exchange(
        self, owner: Hashable, before: elements.Elements, after: elements.Elements
    ) -> None:
        """Let ``owner`` have other shared elements.

        There may be more than fit a transaction: each change stands for itself, but what is
        removed to be made anew is not torn apart.
        """
        edit = Edit(self._shared)
        edit.take(owner, before)
        edit.put(owner, after)
        parts: dict[elements.Element, list[ElementChange]] = {}
        for change in edit.changes():
            parts.setdefault((change.name, change.key), []).append(change)
        for changes in parts.values():
            self._queue(None, changes)

    def _queue(self, owner: Owner, changes: list[ElementChange]) -> None:
        if self.begun:
            self._batch.elements(owner, changes)

    def wanted(self) -> elements.Elements:
        """Everything that the kernel should have."""
        found = self._shared.all()
        for mapping in self._mappings.values():
            found |= elements.of_tuple(mapping, self._clients[self.client_key(mapping)].mark)
        return found

    # -- clients -------------------------------------------------------------------------------

    def client_key(self, mapping: NarMapping) -> ClientKey:
        """Whose mark the mapping leads to."""
        server = self.servers[mapping.server]
        return ClientKey(server.tunnel_address, mapping.client, mapping.delivery)

    def move_clients(self) -> None:
        """The servers' interfaces may be others."""
        for key, client in list(self._clients.items()):
            wanted = self._client_elements(key, client.server, client.mark)
            if wanted != client.elements:
                self.exchange(key, client.elements, wanted)
                self._clients[key] = Client(client.mark, client.server, wanted)

    def repeat_clients(self, keys: Collection[ClientKey]) -> None:
        """Queue what these have once more: it may have gone with a mapping that was refused."""
        for key in self._clients.keys() & keys:
            wanted = self._clients[key].elements.items()
            self._queue(None, [ElementChange(*element, data=data) for element, data in wanted])

    def _client_elements(self, key: ClientKey, server: str, mark: int) -> elements.Elements:
        links = self.servers[server].client_interfaces
        found = elements.of_client(mark, key.delivery, key.client, key.server_address, links)
        if key.delivery is Delivery.L2TP:
            name = self.sessions[key.client].link.interface
            found["l2tp_links", elements.interface(name)] = elements.mark(mark)
        return found

    # -- one mapping ---------------------------------------------------------------------------

    def _check(self, mapping: NarMapping) -> None:
        server = self.servers.get(mapping.server)
        key = mapping.tuple
        if server is None:
            raise NotPossibleError(f"no server {mapping.server}")
        if key.address not in server.addresses:
            raise NotPossibleError(f"server {mapping.server} does not lend {key.address}")
        if mapping.delivery is Delivery.L2TP:
            session = self.sessions.get(mapping.client)
            if session is None or session.server != mapping.server:
                problem = self.l2tp_problem or f"no L2TP session with {mapping.client}"
                raise NotPossibleError(problem)
        if key.protocol is NarProtocol.AH and mapping.delivery is Delivery.TRANSLATED:
            raise NotPossibleError("AH cannot be translated (section 2.6.2)")
        bound = key.protocol.is_tunnel or key.protocol is NarProtocol.ICMP
        if bound and key.remote is None:
            raise NotPossibleError(f"{key.protocol.name} needs a remote address")
        if mapping.client_port and (mapping.delivery.end_to_end or not key.protocol.has_ports):
            raise NotPossibleError("only translated TCP and UDP have another port at the client")

    def _replace(
        self, before: NarMapping | None, mapping: NarMapping, edit: Edit
    ) -> elements.Elements:
        """Put it in the place of what was there; raises before anything has changed."""
        if before is None:
            return self._put(mapping, edit)
        # Whoever has it next, both clients' marks stay until it is through, and nothing after
        # these claims can fail.
        old, new = self.client_key(before), self.client_key(mapping)
        mark = self._numbers.claim(new)
        self._numbers.claim(old)
        try:
            if mapping.delivery is Delivery.L2TP:
                self._put_alias(mapping, mark, edit)
        except NumbersExhaustedError:
            self._release(old, edit)
            self._release(new, edit)
            raise
        self._take(before, edit)
        after = self._put(mapping, edit)
        if mapping.delivery is Delivery.L2TP:
            self._take_alias(mapping, mark, edit)
        self._release(old, edit)
        self._release(new, edit)
        return after

    def _put(self, mapping: NarMapping, edit: Edit) -> elements.Elements:
        """Claim numbers and put what is shared; returns what is the mapping's own."""
        key = self.client_key(mapping)
        mark = self._numbers.claim(key)
        try:
            if mapping.delivery is Delivery.L2TP:
                self._put_alias(mapping, mark, edit)
        except NumbersExhaustedError:
            self._release(key, edit)
            raise
        if key not in self._clients:
            client = Client(mark, mapping.server, self._client_elements(key, mapping.server, mark))
            self._clients[key] = client
            edit.put(key, client.elements)
        edit.put(mapping.tuple, self._sender(mapping, key, mark))
        return elements.of_tuple(mapping, mark)

    def _take(self, mapping: NarMapping, edit: Edit) -> None:
        """Reverse of :meth:`_put`."""
        key = self.client_key(mapping)
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

    # -- L2TP ----------------------------------------------------------------------------------

    def _put_alias(self, mapping: NarMapping, mark: int, edit: Edit) -> None:
        address = mapping.tuple.address
        alias, first = self._numbers.claim_alias(mark, address)
        if first:
            edit.put(alias, elements.of_alias(address, alias, mark))
            self._route(mapping.tuple, alias, self.sessions[mapping.client])

    def _take_alias(self, mapping: NarMapping, mark: int, edit: Edit) -> None:
        address = mapping.tuple.address
        alias = self._numbers.release_alias(mark, address)
        if alias is not None:
            edit.take(alias, elements.of_alias(address, alias, mark))
            message = routes.delete_route(constants.L2TP_TABLE, IPv4Network(alias))
            self._batch.request(None, "a deletion", message, errno.ESRCH)

    def _route(self, owner: Owner, alias: IPv4Address, session: Session) -> None:
        message = routes.set_route(
            constants.L2TP_TABLE, IPv4Network(alias), session.index, session.mtu
        )
        self._batch.request(owner, "the route to the client", message)

    def of_session(self, client: IPv4Address) -> list[NarTuple]:
        """What is delivered by a client's L2TP session."""
        return [
            mapping.tuple
            for mapping in self._mappings.values()
            if mapping.client == client and mapping.delivery is Delivery.L2TP
        ]
