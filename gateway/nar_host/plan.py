"""What the kernel has to have for the sessions of a host, as values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.dataplane.portable.wire.links import peer_name
from gateway.domain.nar import Delivery
from gateway.nar_host import constants
from gateway.nar_host.demultiplex import Member, tunnel_mark
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import Place, Record, Tunnel
from gateway.nar_host.rtnetlink import Rule

_HUB_TABLES: Final = 1000
_HUB_PRIORITIES: Final = 100
_OVERHEAD: Final = {Delivery.IP_IP: 20, Delivery.GRE: 24, Delivery.L2TP: 20 + 8 + 20 + 14}
"""Octets around a packet. L2TPv3 in UDP: version, session, cookie, sublayer (RFC 3931)."""


@dataclass(frozen=True, slots=True)
class HubExit:
    """A way out of the hub: to a session, or into a tunnel."""

    interface: str
    mark: int
    mtu: int = 0
    """What fits, where the interface does not say it."""

    @property
    def table(self) -> int:
        """Its route table in the hub."""
        return _HUB_TABLES + self.mark - constants.MARKS

    @property
    def rule(self) -> Rule:
        """What leads there."""
        number = self.mark - constants.MARKS
        return Rule(_HUB_PRIORITIES + number, self.table, mark=self.mark)


def tunnel_name(slot: int) -> str:
    """The interface of a tunnel, in the hub."""
    return f"{constants.TUNNEL}{slot}"


def hub_end(number: int) -> str:
    """A session's interface in the hub."""
    return f"{constants.HUB_END}{number}"


def host_end(number: int) -> str:
    """A session's interface on the host."""
    return f"{constants.PREFIX}{number}"


def tunnel_mtu(delivery: Delivery, path_mtu: int) -> int:
    """Of packets inside, octets."""
    return max(constants.MIN_MTU, path_mtu - _OVERHEAD.get(delivery, 0))


def placed(record: Record, others: Sequence[Record]) -> Record:
    """The record with its numbers chosen: those it has already, else the lowest free ones.

    Raises :class:`NarHostError` when there are none.
    """
    if not record.attached:
        return replace(record, slot=0, table=0)
    there = {one.slot: one.tunnel for one in others if one.attached and one.tunnel is not None}
    tunnel = record.tunnel
    with_us = {one.slot for one in others if one.attached and shares_hub(record, one)}
    same = [slot for slot in with_us if tunnel is not None and there[slot].joins(tunnel)]
    slot = same[0] if same else _lowest(there, range(constants.MAX_RECORDS), "tunnels")
    table = 0
    if record.place is Place.HOST:
        taken = {one.table for one in others if one.table}
        table = record.table or _lowest(
            taken, constants.HOST_TABLES, "sessions with an address on the host"
        )
    return replace(record, tunnel=there.get(slot, tunnel), slot=slot, table=table)


def shares_hub(record: Record, other: Record) -> bool:
    """Whether both have one hub, hence one device where they have one tunnel."""
    return record.number == other.number or not (record.apart or other.apart)


def _lowest(taken: Iterable[int], allowed: range, what: str) -> int:
    used = set(taken)
    for number in allowed:
        if number not in used:
            return number
    raise NarHostError(f"there are {len(allowed)} {what} already, no more fit; release some")


def tunnels(records: Iterable[Record]) -> dict[str, Tunnel]:
    """Devices in the hub, by name."""
    return {
        tunnel_name(one.slot): one.tunnel
        for one in records
        if one.attached and one.tunnel is not None
    }


def hub_ends(records: Iterable[Record]) -> set[str]:
    """Interfaces of sessions in the hub."""
    return {hub_end(one.number) for one in records if one.attached}


def exits(records: Sequence[Record]) -> list[HubExit]:
    """All ways out of the hub."""
    found = {HubExit(member.interface, member.mark) for member in members(records)}
    found |= {
        HubExit(
            tunnel_name(one.slot),
            tunnel_mark(one.slot),
            one.tunnel.mtu if one.apart and one.tunnel is not None else 0,
        )
        for one in records
        if one.attached
    }
    return sorted(found, key=lambda one: one.mark)


def members(records: Iterable[Record]) -> list[Member]:
    """For the hub's ruleset."""
    return [
        Member(one.number, hub_end(one.number), one.address, one.slot, one.tuples)
        for one in records
        if one.tunnel is not None and one.address is not None
    ]


def host_ends(records: Iterable[Record]) -> set[str]:
    """Interfaces on the host."""
    kept = list(records)
    served = {peer_name(tunnel_name(one.slot)) for one in kept if one.attached and one.apart}
    return {host_end(one.number) for one in _on_host(kept)} | served


def host_rules(records: Iterable[Record]) -> set[Rule]:
    """Which packets of the host go to a session's interface: those of its address."""
    return {host_rule(one) for one in _on_host(records)}


def host_rule(record: Record) -> Rule:
    """The rule of one session with an address on the host."""
    priority = constants.HOST_PRIORITIES[record.table - constants.HOST_TABLES[0]]
    return Rule(priority, record.table, source=record.address)


def _on_host(records: Iterable[Record]) -> list[Record]:
    return [one for one in records if one.attached and one.place is Place.HOST]
