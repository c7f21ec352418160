"""Which link a tunnel packet comes out of: the most specific one between its addresses."""

from typing import Final

from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink

_ANY: Final = bytes(4)
_ANYWHERE: Final = bytes(8)


class Ends:
    """The receiving links of one kind. Looking one up costs the same however many there are."""

    __slots__ = ("_links", "has_anywhere")

    def __init__(self) -> None:
        self._links: dict[bytes, str] = {}
        self.has_anywhere = False
        """Whether one of them has no address."""

    def __bool__(self) -> bool:
        return bool(self._links)

    def find(self, ends: bytes) -> str | None:
        """The link of a packet with this source and destination address.

        As Linux looks it up: both addresses before the remote one before the local one before
        neither.
        """
        links = self._links
        return (
            links.get(ends)
            or links.get(ends[:4] + _ANY)
            or links.get(_ANY + ends[4:])
            or links.get(_ANYWHERE)
        )

    def owner(self, link: TunnelLink) -> str | None:
        """Who has exactly the addresses of ``link``."""
        return self._links.get(_key(link))

    def add(self, link: TunnelLink) -> None:
        """Its packets come out of it from now on."""
        key = _key(link)
        self._links[key] = link.name
        self.has_anywhere |= key == _ANYWHERE

    def discard(self, link: TunnelLink) -> None:
        """Reverse of :meth:`add`; nothing if it was not there."""
        key = _key(link)
        if self._links.get(key) == link.name:
            del self._links[key]
            self.has_anywhere = _ANYWHERE in self._links


def _key(link: TunnelLink) -> bytes:
    remote = _ANY if link.remote is None else link.remote.packed
    return remote + (_ANY if link.local is None else link.local.packed)


FAMILY: Final = {
    TunnelKind.IP_IP: TunnelKind.IP_IP,
    TunnelKind.GRE: TunnelKind.GRE,
    TunnelKind.GRE_UDP: TunnelKind.GRE,
    TunnelKind.MINIMAL: TunnelKind.MINIMAL,
    TunnelKind.MIP_UDP: TunnelKind.MIP_UDP,
}
"""Kinds that are told apart by addresses alone: GRE in UDP is looked up as GRE, as in Linux."""
