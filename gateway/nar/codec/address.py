"""ATYP, ADDR and PORT, and which names are names (RFC 1928 section 5)."""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.domain.wire import Reader, WireError
from gateway.nar.codec.numbers import AddressType, Reply

Address = IPv4Address | IPv6Address | str
"""An address, or a name that somebody else resolves."""

NO_ADDRESS: Final = IPv4Address(0)
"""0.0.0.0: none, or any."""
MAX_NAME_OCTETS: Final = 253
_LABEL: Final = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_FIXED: Final = {AddressType.IPV4: 4, AddressType.IPV6: 16}


class RequestError(WireError):
    """A request that gets an error reply.

    ``in_step``: its end is known, so the connection may go on; otherwise close it.
    """

    def __init__(self, text: str, reply: Reply, *, in_step: bool) -> None:
        super().__init__(text)
        self.reply = reply
        self.in_step = in_step


def name_from(octets: bytes) -> str:
    """A domain name: letters, digits, hyphens and underscores in labels of 1 to 63.

    Names beyond ASCII come in their IDNA form (RFC 5890). Raises WireError, which does not repeat
    what was given.
    """
    if not 1 <= len(octets) <= MAX_NAME_OCTETS:
        raise WireError(f"name of {len(octets)} octets; 1 to {MAX_NAME_OCTETS} are allowed")
    labels = octets.removesuffix(b".").split(b".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise WireError("name with an empty or overlong label, or characters of no host name")
    return octets.decode("ascii")


def address_octets(octets: bytes | bytearray, at: int) -> int:
    """Octets of ATYP and ADDR at ``at``, as far as can be told: more once more is there.

    Raises RequestError when ATYP is unknown, or a name is empty.
    """
    if len(octets) <= at:
        return 1
    kind = octets[at]
    if kind == AddressType.DOMAIN:
        if len(octets) == at + 1:
            return 2
        if octets[at + 1] == 0:
            raise RequestError("empty name", Reply.GENERAL_FAILURE, in_step=False)
        return 2 + octets[at + 1]
    try:
        return 1 + _FIXED[AddressType(kind)]
    except ValueError:
        raise RequestError(
            f"address type {kind}; known are 1, 3 and 4",
            Reply.ADDRESS_TYPE_NOT_SUPPORTED,
            in_step=False,
        ) from None


def read_address(reader: Reader) -> Address:
    """ATYP and ADDR. Raises WireError; RequestError for a bad name or an unknown type."""
    kind = reader.u8()
    if kind == AddressType.IPV4:
        return reader.ipv4()
    if kind == AddressType.IPV6:
        return reader.ipv6()
    if kind != AddressType.DOMAIN:
        raise RequestError(
            f"address type {kind}; known are 1, 3 and 4",
            Reply.ADDRESS_TYPE_NOT_SUPPORTED,
            in_step=False,
        )
    octets = reader.take(reader.u8())
    try:
        return name_from(octets)
    except WireError as error:
        raise RequestError(str(error), Reply.GENERAL_FAILURE, in_step=True) from None


def address_to_octets(address: Address) -> bytes:
    """ATYP and ADDR. Raises WireError for a name that is none."""
    if isinstance(address, IPv4Address):
        return bytes((AddressType.IPV4,)) + address.packed
    if isinstance(address, IPv6Address):
        return bytes((AddressType.IPV6,)) + address.packed
    octets = address.encode("ascii", "replace")
    name_from(octets)
    return bytes((AddressType.DOMAIN, len(octets))) + octets
