"""MOBIKE (RFC 4555): the peer says that it moved, or we do.

As the responder we move on an authenticated UPDATE_SA_ADDRESSES to the source address of its own
datagram, so the device's traffic follows at once, and then ask at the new address with COOKIE2
(section 3.7 allows either order). When nobody answers there, the peer moves back.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

from gateway.domain.child_sa import Mode
from gateway.domain.endpoint import Endpoint, Path
from gateway.ike import moving
from gateway.ike import record_values as values
from gateway.ike.codec import Notify, Payload
from gateway.ike.core import Core, TimerKind
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.record_values import Record
from gateway.ike.registry import ExchangeType, NotifyType
from gateway.ike.v2 import deleting, exchange, nat
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.view import Payloads

MAX_ADDITIONAL_ADDRESSES = 16
"""Of those that a peer announces; more are not remembered."""
MIN_COOKIE2_OCTETS = 8
MAX_COOKIE2_OCTETS = 64
RETURN_ROUTABILITY_TRIES = 3
"""Transmissions to the new address before the peer moves back."""


@dataclass(slots=True)
class MobikeState:
    """What an IKE SA with MOBIKE remembers."""

    additional: tuple[bytes, ...] = ()
    """Other addresses of the peer, packed."""
    mapping: bytes = b""
    """Initiator: the hash of our address as the peer last saw it."""


_ADDITIONAL = {
    4: NotifyType.ADDITIONAL_IP4_ADDRESS,
    6: NotifyType.ADDITIONAL_IP6_ADDRESS,
}
MAX_OWN_ADDRESSES = 8
"""Of ours, beside the one in use, that a peer is told of."""


def is_wanted(connection: ConnectionPolicy) -> bool:
    """Whether policy has it; it is for tunnel mode only (RFC 4555 section 1.2)."""
    return connection.mobike and connection.mode is Mode.TUNNEL


def note_support(core: Core, sa: IkeSa, view: Payloads) -> None:
    """Use MOBIKE when both sides want it."""
    connection = sa.connection
    sa.mobike = (
        connection is not None
        and is_wanted(connection)
        and view.notify(NotifyType.MOBIKE_SUPPORTED) is not None
    )
    if sa.mobike:
        _note_addresses(sa, view)
    else:
        core.count("ike_sas_without_mobike")


def announce(core: Core, sa: IkeSa) -> list[Payload]:
    """What an IKE_AUTH response says about MOBIKE."""
    if not sa.mobike:
        return []
    return [Notify(NotifyType.MOBIKE_SUPPORTED), *_other_addresses(core, sa)]


def _other_addresses(core: Core, sa: IkeSa) -> list[Payload]:
    """Where else we are: a device that gets to a network of the other IP version needs it."""
    local = sa.path.local.address
    found = [
        one
        for one in core.settings.listen
        if one != local
        and not (one.is_unspecified or one.is_loopback or one.is_link_local)
        # Behind a NAT our own address is of no use to anybody.
        and not (sa.local_natted and one.version == local.version)
    ]
    return [Notify(_ADDITIONAL[one.version], one.packed) for one in found[:MAX_OWN_ADDRESSES]]


def _note_addresses(sa: IkeSa, view: Payloads) -> None:
    found = [
        data
        for kind, size in (
            (NotifyType.ADDITIONAL_IP4_ADDRESS, 4),
            (NotifyType.ADDITIONAL_IP6_ADDRESS, 16),
        )
        for data in view.notify_data(kind)
        if len(data) == size
    ]
    none = view.notify(NotifyType.NO_ADDITIONAL_ADDRESSES) is not None
    if found or none:
        sa.mobike_state = sa.mobike_state or MobikeState()
        sa.mobike_state.additional = tuple(found[:MAX_ADDITIONAL_ADDRESSES])


def answer(core: Core, sa: IkeSa, view: Payloads, path: Path, now: float) -> list[Payload]:
    """Handle the MOBIKE parts of an INFORMATIONAL request; returns what the response holds."""
    reply: list[Payload] = []
    cookie = view.notify(NotifyType.COOKIE2)
    if cookie is not None and MIN_COOKIE2_OCTETS <= len(cookie.data) <= MAX_COOKIE2_OCTETS:
        reply.append(Notify(NotifyType.COOKIE2, cookie.data))
    if not sa.mobike:
        return reply
    unexpected = view.notify(NotifyType.NO_NATS_ALLOWED)
    if unexpected is not None and unexpected.data != _outer_header(path):
        core.count("mobike_unexpected_nat")
        reply.append(Notify(NotifyType.UNEXPECTED_NAT_DETECTED))
        return reply
    sources = view.notify_data(NotifyType.NAT_DETECTION_SOURCE_IP)
    destinations = view.notify_data(NotifyType.NAT_DETECTION_DESTINATION_IP)
    if view.notify(NotifyType.UPDATE_SA_ADDRESSES) is not None and not sa.session_initiator:
        refused = _update(core, sa, path, sources, destinations, now)
        if refused is not None:
            reply.append(Notify(NotifyType.UNACCEPTABLE_ADDRESSES))
            return reply
    _note_addresses(sa, view)
    if sources and destinations:
        reply += _detection(sa, path)
    return reply


def _detection(sa: IkeSa, path: Path) -> list[Payload]:
    force = sa.connection is not None and sa.connection.force_encapsulation
    return list(
        nat.detection_notifies(sa.initiator_spi, sa.responder_spi, path, force_encapsulation=force)
    )


def _outer_header(path: Path) -> bytes:
    """What NO_NATS_ALLOWED holds when no NAT changed the datagram (section 4.2.6)."""
    ports = path.remote.port.to_bytes(2, "big") + path.local.port.to_bytes(2, "big")
    return path.remote.address.packed + path.local.address.packed + ports


def _note_nats(
    core: Core, sa: IkeSa, path: Path, sources: Sequence[bytes], destinations: Sequence[bytes]
) -> None:
    if not (sources and destinations):
        return
    sa.local_natted, sa.remote_natted = nat.detect(
        sa.initiator_spi, sa.responder_spi, path, sources, destinations
    )
    forced = sa.connection is not None and sa.connection.force_encapsulation
    natted = sa.local_natted or sa.remote_natted or forced
    sa.encapsulate = natted and path.local.port == core.settings.nat_port


def _update(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    path: Path,
    sources: Sequence[bytes],
    destinations: Sequence[bytes],
    now: float,
) -> str | None:
    """Move the peer to where its request came from. Why not, or None."""
    old = sa.path
    before = (sa.local_natted, sa.remote_natted, sa.encapsulate)
    _note_nats(core, sa, path, sources, destinations)
    if path == old and sa.encapsulate != before[2]:
        moving.perform(core, sa, path, "MOBIKE update", now)
        return None
    wrong = moving.move_on_request(core, sa, path, "MOBIKE update", now)
    if wrong is not None:
        sa.local_natted, sa.remote_natted, sa.encapsulate = before
        moving.refused(core, sa, path.remote, wrong, "MOBIKE update", now)
        return wrong
    core.count("mobike_updates")
    connection = sa.connection
    moved_away = path.remote.address != old.remote.address
    if moved_away and connection is not None and connection.return_routability:
        exchange.begin(core, sa, ReturnRoutability(old, before), now)
    return None


class ReturnRoutability(exchange.Exchange):
    """Ask the peer at its new address to show the cookie (section 3.7)."""

    __slots__ = ("_before", "_cookie", "_moved_back", "_old", "_target")
    name = "return routability check"
    exchange_type = ExchangeType.INFORMATIONAL
    in_record = "return routability"

    def __init__(self, old: Path, before: tuple[bool, bool, bool]) -> None:
        self._old = old
        self._before = before
        self._moved_back = False
        self._target = old.remote
        self._cookie = b""

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:  # noqa: ARG002 - as in Exchange
        """COOKIE2 with something the peer cannot know otherwise."""
        if sa.path == self._old:
            return None
        self._target = sa.path.remote
        self._cookie = core.random(16)
        return [Notify(NotifyType.COOKIE2, self._cookie)]

    def no_answer(self, core: Core, sa: IkeSa, tries: int, now: float) -> None:
        """Nobody at the new address: back to the old one, where the request goes on."""
        if tries < RETURN_ROUTABILITY_TRIES or self._moved_back or sa.path.remote != self._target:
            return
        self._moved_back = True
        sa.local_natted, sa.remote_natted, sa.encapsulate = self._before
        core.count("return_routability_failures")
        proof = f"nobody answered at {self._target}"
        moving.perform(core, sa, self._old, proof, now)

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """The cookie must come back; another one ends the SA (section 4.2.5)."""
        shown = view.notify(NotifyType.COOKIE2)
        if shown is None or not hmac.compare_digest(shown.data, self._cookie):
            core.count("return_routability_failures")
            deleting.delete_ike_sa(core, sa, "wrong COOKIE2 in a return routability check", now)
            return
        if not self._moved_back and sa.path.remote.address != self._target.address:
            # The peer went on meanwhile: that address is not proven yet.
            exchange.begin(core, sa, ReturnRoutability(self._old, self._before), now)

    def record(self) -> Record:
        """Where the peer was and is said to be, and the cookie that it has to show."""
        return {
            "old": values.path(self._old),
            "before": list(self._before),
            "back": self._moved_back,
            "target": values.endpoint(self._target),
            "cookie": values.octets(self._cookie),
        }

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        local_natted, remote_natted, encapsulate = map(
            values.flag, values.items(record["before"], 3)
        )
        check = cls(values.read_path(record["old"]), (local_natted, remote_natted, encapsulate))
        check._moved_back = values.flag(record["back"])
        check._target = values.read_endpoint(record["target"])
        check._cookie = values.read_octets(record["cookie"], 0, MAX_COOKIE2_OCTETS)
        return check


def probe(core: Core, sa: IkeSa) -> list[Payload]:
    """What a liveness check asks for besides: our address as the peer sees it (section 3.8)."""
    del core
    return _detection(sa, sa.path) if sa.mobike and sa.session_initiator else []


def probed(core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
    """Our NAT gave us another mapping: tell the peer."""
    if not (sa.mobike and sa.session_initiator):
        return
    seen = view.notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
    if seen is None or len(seen.data) != nat.HASH_OCTETS:
        return
    sa.mobike_state = sa.mobike_state or MobikeState()
    last, sa.mobike_state.mapping = sa.mobike_state.mapping, seen.data
    if last and last != seen.data:
        exchange.begin(core, sa, UpdateAddresses(), now)


class UpdateAddresses(exchange.Exchange):
    """We moved: the request itself comes from the new address (section 3.5)."""

    __slots__ = ("_path",)
    name = "MOBIKE update"
    exchange_type = ExchangeType.INFORMATIONAL
    in_record = "MOBIKE update"

    def __init__(self) -> None:
        self._path: Path | None = None

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:  # noqa: ARG002 - as in Exchange
        """UPDATE_SA_ADDRESSES and NAT detection."""
        if sa.state is not State.ESTABLISHED:
            return None
        self._path = sa.path
        return [Notify(NotifyType.UPDATE_SA_ADDRESSES), *_detection(sa, sa.path)]

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """The peer knows; whether there is a NAT now, we know too."""
        if sa.path != self._path:
            # We moved again before the answer came; the answer is about the former address.
            exchange.begin(core, sa, UpdateAddresses(), now)
            return
        error = view.error()
        if error is not None:
            deleting.delete_ike_sa(
                core, sa, f"the peer refused our new address {sa.path.local}", now
            )
            return
        encapsulated = sa.encapsulate
        _note_nats(
            core,
            sa,
            sa.path,
            view.notify_data(NotifyType.NAT_DETECTION_SOURCE_IP),
            view.notify_data(NotifyType.NAT_DETECTION_DESTINATION_IP),
        )
        if sa.encapsulate != encapsulated:
            moving.perform(core, sa, sa.path, "our own MOBIKE update", now)
        if sa.local_natted:
            again = now + core.settings.nat_keepalive_s
            core.timers.set((TimerKind.KEEPALIVE, sa.local_spi), again)

    def record(self) -> Record:
        """The path that the request is about; none before it was sent."""
        return {} if self._path is None else {"path": values.path(self._path)}

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        update = cls()
        update._path = values.read_path(record["path"]) if "path" in record else None
        return update


def _remote_of_version(sa: IkeSa, version: int) -> Endpoint | None:
    """Where the peer is to be reached by this IP version, as far as we know."""
    remote = sa.path.remote
    if remote.address.version == version:
        return remote
    configured = sa.connection.remote if sa.connection is not None else None
    if configured is not None and configured.address.version == version:
        return Endpoint(configured.address, remote.port)
    for octets in sa.mobike_state.additional if sa.mobike_state is not None else ():
        address = ip_address(octets)
        if address.version == version:
            return Endpoint(address, remote.port)
    return None


def local_address_changed(core: Core, sa: IkeSa, local: Endpoint, now: float) -> None:
    """Our own address is another one now; tell the peer, if it is ours to tell.

    Our SAs move before it knows (RFC 4555 section 3.5): the former address is of no use anyway.
    """
    if sa.state is not State.ESTABLISHED or not sa.session_initiator or not sa.mobike:
        core.count("address_changes_ignored")
        return
    remote = _remote_of_version(sa, local.address.version)
    if remote is None:
        core.count("address_changes_ignored")
        return
    if (local, remote) != (sa.path.local, sa.path.remote):
        moving.perform(core, sa, Path(local, remote), "our own address", now)
    outstanding = sa.window.outstanding
    if outstanding is not None:
        # Nothing else may be sent before it is answered, so send it from where we are now.
        exchange.hurry(core, sa, now)
        waiting = [outstanding.exchange, *(sa.exchanges or ())]
        if any(isinstance(one, UpdateAddresses) for one in waiting):
            return
    exchange.begin(core, sa, UpdateAddresses(), now)
