"""All devices, by whatever an event names them with; no event costs more where there are many."""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gateway.appliance.observation.device import (
    BindingFacts,
    Configured,
    Device,
    SessionFacts,
    VisitorFacts,
    seen_name,
)

MAX_SEEN: Final = 10_000
"""Devices that nobody configured and that are gone; the longest gone is forgotten first."""

_BindingKey = tuple[str, str]


class Register:
    """The devices and their indexes."""

    def __init__(self) -> None:
        self._by_number: dict[int, Device] = {}
        self._by_name: dict[str, Device] = {}
        self._by_identity: dict[str, Device] = {}
        self._by_node: dict[str, Device] = {}
        """By the mobile node that the configuration says it is."""
        self._by_session: dict[str, Device] = {}
        self._by_spi: dict[int, tuple[Device, SessionFacts]] = {}
        self._by_inner: dict[str, Device] = {}
        self._by_outer: dict[str, Device] = {}
        self._bindings: dict[_BindingKey, Device] = {}
        self._by_home: dict[str, set[_BindingKey]] = {}
        self._by_care_of: dict[str, set[_BindingKey]] = {}
        self._visitors: dict[tuple[str, str, str], Device] = {}
        self._where: dict[str, set[int]] = {}
        self._mode: dict[str, int] = {}
        self._place: dict[str, set[int]] = {}
        self._connection: dict[str, set[int]] = {}
        self._filed: dict[int, tuple[str, str, str, str]] = {}
        """By number: where, mode, place, connection as the indexes have them."""
        self._order: list[tuple[str, int]] = []
        """Names in order."""
        self._gone: OrderedDict[int, None] = OrderedDict()
        """Seen only, and gone; the longest first."""
        self._next = 1

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Device]:
        return iter(self._by_number.values())

    # -- finding ---------------------------------------------------------------------------------

    def named(self, name: str) -> Device | None:
        """By its name."""
        return self._by_name.get(name)

    def identified(self, identity: str) -> Device | None:
        """By its identity."""
        return self._by_identity.get(identity)

    def of_session(self, spis: str) -> Device | None:
        """Whose IKE SA it is."""
        return self._by_session.get(spis)

    def of_spi(self, spi_in: int) -> tuple[Device, SessionFacts] | None:
        """Whose child SA it is."""
        return self._by_spi.get(spi_in)

    def of_inner(self, address: str) -> Device | None:
        """Who has this inner address."""
        return self._by_inner.get(address)

    def of_binding(self, agent: str, home_address: str) -> Device | None:
        """Whose binding it is."""
        return self._bindings.get((agent, home_address))

    def of_visitor(self, key: tuple[str, str, str]) -> Device | None:
        """Whose visit it is."""
        return self._visitors.get(key)

    def of_node(self, node: str, nai: str) -> Device | None:
        """Which device a mobile node is, by what the configuration or its NAI says."""
        return self._by_node.get(node) or self._by_identity.get(nai or node)

    def spis(self) -> list[int]:
        """The child SAs of all devices."""
        return list(self._by_spi)

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Devices by where, and by access mode."""
        return (
            {where: len(found) for where, found in self._where.items() if found},
            {mode: count for mode, count in self._mode.items() if mode and count},
        )

    def at(self, place: str) -> set[int]:
        """Numbers of the devices at a node of the topology."""
        return self._place.get(place, set())

    def places(self) -> list[str]:
        """Nodes of the topology with a device."""
        return [place for place, found in self._place.items() if found]

    def numbered(self, number: int) -> Device | None:
        """By its number."""
        return self._by_number.get(number)

    # -- devices come and go ---------------------------------------------------------------------

    def see(self, identity: str) -> Device:
        """The device of this identity; a new one when it was never seen."""
        device = self._by_identity.get(identity)
        if device is None:
            device = self._add(seen_name(identity), identity, None)
        return device

    def configure(self, wanted: Mapping[str, Configured]) -> None:
        """What administrators describe now. Costs more than a comparison only for what changed."""
        for device in [one for one in self if one.configured is not None]:
            if device.name not in wanted:
                self._unconfigure(device)
        for configured in wanted.values():
            self.configure_one(configured)

    def unconfigure_one(self, name: str) -> None:
        """Administrators do not describe it any more."""
        device = self._by_name.get(name)
        if device is not None and device.configured is not None:
            self._unconfigure(device)

    def configure_one(self, configured: Configured) -> None:
        """Administrators describe a device, or differently than before."""
        found = self._by_name.get(configured.name)
        if found is not None and found.configured == configured:
            return
        if found is not None and found.identity != configured.identity:
            self._unconfigure(found)
            found = None
        device = self._by_identity.get(configured.identity)
        if device is None:
            device = self._add(configured.name, configured.identity, configured)
        else:
            if device.configured is not None and device.configured.mobile_node:
                self._by_node.pop(device.configured.mobile_node, None)
            self._rename(device, configured.name)
            device.configured = configured
        if configured.mobile_node:
            self._by_node[configured.mobile_node] = device
        self.settle(device)

    def _unconfigure(self, device: Device) -> None:
        if device.configured is not None and device.configured.mobile_node:
            self._by_node.pop(device.configured.mobile_node, None)
        device.configured = None
        if device.active or device.last_seen_s is not None:
            self._rename(device, seen_name(device.identity))
            self.settle(device)
        else:
            self._remove(device)

    def _add(self, name: str, identity: str, configured: Configured | None) -> Device:
        device = Device(self._next, name, identity, configured)
        self._next += 1
        self._by_number[device.number] = device
        self._by_identity[identity] = device
        self._by_name[name] = device
        insort(self._order, (name, device.number))
        self.settle(device)
        return device

    def _rename(self, device: Device, name: str) -> None:
        if device.name == name:
            return
        del self._order[bisect_left(self._order, (device.name, device.number))]
        self._by_name.pop(device.name, None)
        device.name = name
        self._by_name[name] = device
        insort(self._order, (name, device.number))

    def _remove(self, device: Device) -> None:
        self._gone.pop(device.number, None)
        self._unfile(device.number)
        del self._by_number[device.number]
        if self._by_identity.get(device.identity) is device:
            del self._by_identity[device.identity]
        if self._by_name.get(device.name) is device:
            del self._by_name[device.name]
        del self._order[bisect_left(self._order, (device.name, device.number))]

    def settle(self, device: Device) -> None:
        """File it anew after something of it has changed."""
        device.settle()
        number = device.number
        filed = (device.where, device.mode, device.place, device.connection)
        if self._filed.get(number) != filed:
            self._unfile(number)
            self._filed[number] = filed
            self._where.setdefault(device.where, set()).add(number)
            self._mode[device.mode] = self._mode.get(device.mode, 0) + 1
            self._place.setdefault(device.place, set()).add(number)
            self._connection.setdefault(device.connection, set()).add(number)
        if device.active or device.configured is not None:
            self._gone.pop(number, None)
        elif device.last_seen_s is not None and number not in self._gone:
            self._gone[number] = None
            if len(self._gone) > MAX_SEEN:
                self._remove(self._by_number[next(iter(self._gone))])

    def _unfile(self, number: int) -> None:
        filed = self._filed.pop(number, None)
        if filed is None:
            return
        where, mode, place, connection = filed
        self._where[where].discard(number)
        self._mode[mode] -= 1
        for index, key in ((self._place, place), (self._connection, connection)):
            index[key].discard(number)
            if not index[key]:
                del index[key]

    # -- sessions --------------------------------------------------------------------------------

    def set_session(self, device: Device, session: SessionFacts) -> None:
        """A session is up, or is somewhere else now."""
        known = device.sessions.get(session.spis)
        if known is not None and known is not session:
            self._drop_session_indexes(device, known)
        device.sessions[session.spis] = session
        self._by_session[session.spis] = device
        self._by_outer[session.outer_host] = device
        for address in session.inner:
            self._by_inner[address] = device
        for spi_in in session.children:
            self._by_spi[spi_in] = (device, session)
        self._claim_bindings(device, session)
        self.settle(device)

    def rename_session(self, old: str, new: str) -> SessionFacts | None:
        """A rekeying or a new login in its place; the session, if there is one."""
        device = self._by_session.pop(old, None)
        if device is None:
            return None
        session = device.sessions.pop(old)
        session.spis = new
        device.sessions[new] = session
        self._by_session[new] = device
        return session

    def move_session(self, device: Device, session: SessionFacts, outer: str) -> None:
        """It is at another outer address now."""
        if self._by_outer.get(session.outer_host) is device:
            del self._by_outer[session.outer_host]
        session.outer = outer
        self.set_session(device, session)

    def drop_session(self, spis: str) -> Device | None:
        """It is over; whose it was."""
        device = self._by_session.pop(spis, None)
        if device is None:
            return None
        self._drop_session_indexes(device, device.sessions.pop(spis))
        self.settle(device)
        return device

    def _drop_session_indexes(self, device: Device, session: SessionFacts) -> None:
        others = [one for one in device.sessions.values() if one is not session]
        if self._by_outer.get(session.outer_host) is device and not any(
            one.outer_host == session.outer_host for one in others
        ):
            del self._by_outer[session.outer_host]
        for address in session.inner:
            if self._by_inner.get(address) is device and not any(
                address in one.inner for one in others
            ):
                del self._by_inner[address]
        for spi_in in session.children:
            if (found := self._by_spi.get(spi_in)) is not None and found[1] is session:
                del self._by_spi[spi_in]

    def drop_child(self, spi_in: int) -> Device | None:
        """A child SA is gone; whose it was."""
        found = self._by_spi.pop(spi_in, None)
        if found is None:
            return None
        device, session = found
        session.children.pop(spi_in, None)
        return device

    # -- bindings and visitors -------------------------------------------------------------------

    def set_binding(self, binding: BindingFacts) -> Device:
        """A home agent knows where a mobile node is; the device that it is."""
        key = (binding.agent, binding.home_address)
        device = self._owner_of(binding)
        before = self._bindings.get(key)
        if before is not None:
            self._unindex(key, before)
            if before is not device:
                self._left_over(before)
        device.bindings[key] = binding
        self._bindings[key] = device
        self._by_home.setdefault(binding.home_address, set()).add(key)
        for address in binding.care_of:
            self._by_care_of.setdefault(address, set()).add(key)
        self.settle(device)
        return device

    def drop_binding(self, agent: str, home_address: str) -> Device | None:
        """It is over; whose it was."""
        key = (agent, home_address)
        device = self._bindings.get(key)
        if device is not None:
            self._unindex(key, device)
            self.settle(device)
        return device

    def _unindex(self, key: _BindingKey, device: Device) -> None:
        binding = device.bindings.pop(key)
        del self._bindings[key]
        for index, words in ((self._by_home, (key[1],)), (self._by_care_of, binding.care_of)):
            for word in words:
                keys = index.get(word)
                if keys is not None:
                    keys.discard(key)
                    if not keys:
                        del index[word]

    def _owner_of(self, binding: BindingFacts) -> Device:
        device = self._by_node.get(binding.node)
        if device is None and binding.nai:
            device = self._by_identity.get(binding.nai)
        if device is None:
            inner = (self._by_inner.get(one) for one in binding.care_of)
            device = next((one for one in inner if one is not None), None)
        device = device or self._by_inner.get(binding.home_address)
        device = device or self._by_outer.get(binding.home_address)
        return device or self.see(binding.nai or binding.node or binding.home_address)

    def _claim_bindings(self, device: Device, session: SessionFacts) -> None:
        """Bindings that came before the session they belong to."""
        keys = set(self._by_home.get(session.outer_host, ()))
        for address in session.inner:
            keys |= self._by_home.get(address, set()) | self._by_care_of.get(address, set())
        for key in keys:
            before = self._bindings[key]
            if before is not device and before.configured is None and not before.sessions:
                binding = before.bindings[key]
                self._unindex(key, before)
                self._left_over(before)
                device.bindings[key] = binding
                self._bindings[key] = device
                self._by_home.setdefault(binding.home_address, set()).add(key)
                for address in binding.care_of:
                    self._by_care_of.setdefault(address, set()).add(key)

    def _left_over(self, device: Device) -> None:
        """Nothing of a device's is left: it was only the other half of one with a name."""
        if device.configured is None and not device.active and device.number in self._by_number:
            self._remove(device)
        else:
            self.settle(device)

    def set_visitor(self, visitor: VisitorFacts) -> Device:
        """A foreign agent of ours serves it."""
        key = (visitor.agent, visitor.home_agent, visitor.home_address)
        device = self._by_identity.get(visitor.nai) if visitor.nai else None
        if device is None:
            keys = self._by_home.get(visitor.home_address, set())
            device = next((self._bindings[one] for one in keys), None)
        device = device or self._by_inner.get(visitor.home_address)
        device = device or self.see(visitor.nai or visitor.home_address)
        before = self._visitors.get(key)
        if before is not None and before is not device:
            del before.visitors[key]
            self._left_over(before)
        device.visitors[key] = visitor
        self._visitors[key] = device
        self.settle(device)
        return device

    def drop_visitor(self, key: tuple[str, str, str]) -> Device | None:
        """It left; whose visit it was."""
        device = self._visitors.pop(key, None)
        if device is not None:
            device.visitors.pop(key, None)
            self.settle(device)
        return device

    # -- lists -----------------------------------------------------------------------------------

    def matching(
        self, text: str | None = None, where: str | None = None, connection: str | None = None
    ) -> list[Device]:
        """Those that fit, by name."""
        chosen: set[int] | None = None
        for index, key in ((self._where, where), (self._connection, connection)):
            if key is not None:
                numbers = index.get(key, set())
                chosen = numbers if chosen is None else chosen & numbers
        devices = self._by_number
        found: Iterable[Device]
        if chosen is None:
            found = [devices[number] for _, number in self._order]
        else:
            found = sorted((devices[number] for number in chosen), key=_by_name)
        if text is not None:
            wanted = text.casefold()
            found = [one for one in found if wanted in one.search]
        return list(found)


def _by_name(device: Device) -> str:
    return device.name
