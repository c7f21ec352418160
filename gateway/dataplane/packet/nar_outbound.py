"""What a client may send with Nb as its source: what answers would be delivered to it.

Nothing else gets out of a client's tunnel (draft 004, section 2.3: the virtual presence of a
client is its mappings).
"""

from gateway.dataplane.packet import icmp
from gateway.dataplane.packet.nar_demultiplex import arriving, sent
from gateway.dataplane.packet.nar_tables import ClientEnd, Entry, NarTables, way
from gateway.domain.nar import Delivery
from gateway.domain.wire import WireError


def end_to_end(tables: NarTables, end: ClientEnd, inner: bytes, delivery: Delivery) -> Entry | None:
    """The mapping that allows the packet that came out of the client's tunnel; None for none."""
    if icmp.is_error(inner):
        return _error(tables, end, inner, delivery)
    found = sent(tables.outside, inner, way(end.address, delivery))
    if found is None or not _is_its(found, end, delivery):
        return None
    return found if may_send_to(found, inner[16:20]) else None


def translated(tables: NarTables, packet: bytes) -> Entry | None:
    """The mapping by which the packet of a client leaves with Nb as its source; None for none."""
    found = sent(tables.inside, packet, way(packet[12:16], Delivery.TRANSLATED))
    if found is None:
        return None
    if found.mapping.tuple.protocol.is_tunnel:
        return found
    return found if may_send_to(found, packet[16:20]) else None


def other_client(tables: NarTables, packet: bytes) -> Entry | None:
    """The mapping of the client whom an end-to-end client sends to; None when it is none.

    All of them are at lent addresses, so they meet here. Errors are about what the other sent.
    """
    found = arriving(tables.outside, packet)
    if found is not None or not icmp.is_error(packet):
        return found
    found = sent(tables.outside, icmp.parse_error(packet).quote, quoted=True)
    return found if found is not None and found.address == packet[16:20] else None


def may_send_to(entry: Entry, destination: bytes) -> bool:
    """Whether the mapping is not bound to another peer."""
    return not entry.peer or entry.peer == destination


def _error(tables: NarTables, end: ClientEnd, inner: bytes, delivery: Delivery) -> Entry | None:
    """An ICMP error: about what was delivered to this client, to whom it came from."""
    try:
        quote = icmp.parse_error(inner).quote
    except WireError:
        return None
    found = arriving(tables.outside, quote, quoted=True)
    if found is None or not _is_its(found, end, delivery):
        return None
    if inner[12:16] != found.address or inner[16:20] != quote[12:16]:
        return None
    return found


def _is_its(entry: Entry, end: ClientEnd, delivery: Delivery) -> bool:
    return entry.end is end and entry.mapping.delivery is delivery
