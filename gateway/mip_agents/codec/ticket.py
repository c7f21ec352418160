"""The extension that carries a login's ticket in a registration request.

A normal vendor extension (RFC 3115, type 134): whoever does not know it skips it, and foreign
agents relay it untouched. It stands before the mobile-home authenticator, which covers it.
"""

from gateway.mip_agents.codec.extensions import Extension, VendorExtension

VENDOR = 0
"""The enterprise number. Nobody registered one for this: 0 is reserved and nobody's."""
TICKET = 0x5449
"""The type below it: "TI"."""
MAX_TICKET_OCTETS = 247
"""What fits behind the eight octets of the extension's own fields, with a length of one octet."""


def ticket_extension(ticket: bytes) -> bytes:
    """The octets that carry a ticket; none for no ticket.

    Raises:
        ValueError: it is longer than :data:`MAX_TICKET_OCTETS`.
    """
    if not ticket:
        return b""
    if len(ticket) > MAX_TICKET_OCTETS:
        raise ValueError(f"ticket of {len(ticket)} octets; {MAX_TICKET_OCTETS} are allowed")
    return VendorExtension(False, VENDOR, TICKET, ticket).serialize()


def ticket_in(extension: Extension) -> bytes:
    """The ticket that an extension carries; empty if it is any other one."""
    if (
        type(extension) is VendorExtension
        and not extension.critical
        and extension.vendor == VENDOR
        and extension.type == TICKET
    ):
        return extension.data
    return b""
