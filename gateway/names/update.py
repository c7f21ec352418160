"""Names of devices by dynamic update (RFC 2136), without taking anybody else's (RFC 4703). Sans-IO.

A generator yields messages and is sent the answers; its value is what became of it. A DHCID record
beside the addresses says whose a name is.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import Enum

import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.update

from gateway.domain.endpoint import IpAddress
from gateway.names.labels import dhcid
from gateway.names.settings import RegistrarSettings

_ADDRESS_TYPES = {4: dns.rdatatype.A, 6: dns.rdatatype.AAAA}


class State(Enum):
    """What became of an order."""

    DONE = "done"
    TAKEN = "taken"
    """The name is somebody else's."""
    REFUSED = "refused"
    """The server does not let us; it is tried again later."""
    WITHOUT_REVERSE = "without-reverse"
    """The name is registered, its addresses are not in a reverse zone that the server lets us."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an order, and the server's words."""

    state: State
    detail: str = ""


Talk = Generator[dns.message.Message, dns.message.Message, Result]
"""Messages out, answers in."""


def register(
    settings: RegistrarSettings, name: str, identity: str, addresses: list[IpAddress]
) -> Talk:
    """Give a name these addresses and no others (RFC 4703 section 5.3)."""
    owner = _dhcid(identity, name)
    fresh = _update(settings)
    fresh.absent(_relative(name, settings.zone))
    _add(fresh, settings, name, addresses, owner)
    answer = yield fresh
    if answer.rcode() == dns.rcode.YXDOMAIN:
        again = _update(settings)
        again.present(_relative(name, settings.zone), owner)
        for rdtype in _ADDRESS_TYPES.values():
            again.delete(_relative(name, settings.zone), rdtype)
        _add(again, settings, name, addresses, None)
        answer = yield again
        if answer.rcode() in (dns.rcode.NXRRSET, dns.rcode.NXDOMAIN):
            return Result(State.TAKEN, f"{name} is somebody else's")
    if answer.rcode() != dns.rcode.NOERROR:
        return Result(State.REFUSED, _said(answer))
    if not settings.reverse:
        return Result(State.DONE)
    return (yield from _reverse(settings, name, addresses, there=True))


def withdraw(
    settings: RegistrarSettings, name: str, identity: str, addresses: list[IpAddress]
) -> Talk:
    """Take a name away if it is still that identity's (RFC 4703 section 5.5)."""
    owner = _dhcid(identity, name)
    update = _update(settings)
    update.present(_relative(name, settings.zone), owner)
    for record in _records(addresses):
        # Another gateway has given the device another address meanwhile: that one stays.
        update.present(_relative(name, settings.zone), record)
    for rdtype in _ADDRESS_TYPES.values():
        update.delete(_relative(name, settings.zone), rdtype)
    update.delete(_relative(name, settings.zone), dns.rdatatype.DHCID)
    answer = yield update
    # Not ours any more, or not there: just what was wanted.
    gone = (dns.rcode.NOERROR, dns.rcode.NXRRSET, dns.rcode.NXDOMAIN)
    if answer.rcode() not in gone:
        return Result(State.REFUSED, _said(answer))
    if settings.reverse:
        yield from _reverse(settings, name, addresses, there=False)
    return Result(State.DONE)


def _reverse(
    settings: RegistrarSettings, name: str, addresses: list[IpAddress], *, there: bool
) -> Talk:
    """Point each address at the name, or no longer, in whatever zone the server has for it."""
    target = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.PTR, f"{name}.")
    result = Result(State.DONE)
    for address in addresses:
        pointer = dns.reversename.from_address(str(address))
        zone = _zone_in((yield dns.message.make_query(pointer, dns.rdatatype.SOA)), pointer)
        if zone is None:
            detail = f"{settings.server} has no reverse zone for {address}"
            result = Result(State.WITHOUT_REVERSE, detail)
            continue
        update = _update(settings, zone)
        if there:
            update.replace(pointer, settings.ttl_s, target)
        else:
            update.delete(pointer, target)  # only if it still says this name
        answer = yield update
        if answer.rcode() != dns.rcode.NOERROR:
            detail = f"{zone.to_text(omit_final_dot=True)}: {_said(answer)}"
            result = Result(State.WITHOUT_REVERSE, detail)
    return result


def _zone_in(answer: dns.message.Message, pointer: dns.name.Name) -> dns.name.Name | None:
    """The zone whose SOA an answer has, if it is one that the name is in."""
    for rrset in (*answer.answer, *answer.authority):
        # Not the reverse root: a server that forwards told us of somebody else's zone.
        deep_enough = len(rrset.name.labels) > len(("in-addr", "arpa", ""))
        if rrset.rdtype == dns.rdatatype.SOA and pointer.is_subdomain(rrset.name) and deep_enough:
            return rrset.name
    return None


def _update(
    settings: RegistrarSettings, zone: dns.name.Name | None = None
) -> dns.update.UpdateMessage:
    return dns.update.UpdateMessage(zone or dns.name.from_text(settings.zone))


def _relative(name: str, zone: str) -> dns.name.Name:
    return dns.name.from_text(name).relativize(dns.name.from_text(zone))


def _dhcid(identity: str, name: str) -> dns.rdata.Rdata:
    wire = dhcid(identity, name)
    return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DHCID, wire, 0, len(wire))


def _records(addresses: list[IpAddress]) -> Iterator[dns.rdata.Rdata]:
    for address in addresses:
        rdtype = _ADDRESS_TYPES[address.version]
        yield dns.rdata.from_text(dns.rdataclass.IN, rdtype, str(address))


def _add(
    update: dns.update.UpdateMessage,
    settings: RegistrarSettings,
    name: str,
    addresses: list[IpAddress],
    owner: dns.rdata.Rdata | None,
) -> None:
    relative = _relative(name, settings.zone)
    for record in (*_records(addresses), *((owner,) if owner is not None else ())):
        update.add(relative, settings.ttl_s, record)


def _said(answer: dns.message.Message) -> str:
    return dns.rcode.to_text(answer.rcode())
