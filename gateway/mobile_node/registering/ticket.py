"""The gateway's ticket on its way through the node (see domain.mobility_credential)."""

from gateway.mip_agents.codec.extensions import VendorExtension

_VENDOR = 0
_TICKET = 1


def ticket_extension(ticket: bytes) -> bytes:
    """The octets that carry it in a request; none for no ticket."""
    return VendorExtension(True, _VENDOR, _TICKET, ticket).serialize() if ticket else b""
