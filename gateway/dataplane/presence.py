"""What the inside presence of devices asks of a dataplane (draft 000, section 3 and appendices).

A *member* is a device without an inner address of its own: it appears behind addresses of the
gateway (appendix A). *Translations* show inside networks to devices under other addresses, and
*redirects* lead from an address and port of the gateway to a device (appendix C).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress


@dataclass(frozen=True, slots=True)
class Napt:
    """As what members appear."""

    addresses: tuple[tuple[IpAddress, IpAddress], ...] = ()
    """Ranges; without one of an IP version, the address of the interface that packets leave by."""
    ports: tuple[int, int] | None = None
    """First and last; None: a member's own port, or where that is taken another one of its kind
    (a reserved port stays a reserved one)."""
    any_source: tuple[IpNetwork, ...] = ()
    """From where in these networks a UDP answer comes does not matter."""


@dataclass(frozen=True, slots=True)
class Translation:
    """An inside network and how devices address it; both of one size."""

    network: IpNetwork
    shown_as: IpNetwork


@dataclass(frozen=True, slots=True)
class Redirect:
    """An inside address and ports that lead to a device."""

    protocol: int
    """6 or 17."""
    address: IpAddress | None
    """None: every address of the gateway."""
    ports: tuple[int, int]
    to_port: int
    """The first one on the device."""
    sources: tuple[IpNetwork, ...] = ()
    """Who may use it; none: everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceSettings:
    """What the configuration says."""

    tunnel: str
    """The xfrm interface."""
    outside_interfaces: tuple[str, ...] = ()
    """Redirects are not for what comes in by them."""
    napts: tuple[Napt, ...] = ()
    translations: tuple[tuple[Translation, ...], ...] = ()
    """Those that belong to a session, for each different set of them."""
    redirects: tuple[Redirect, ...] = ()
    forwards_ipv6: bool = False
    """Turn on IPv6 routing between interfaces where it is off: members have such addresses."""
    helpers: tuple[str, ...] = ()
    """Protocols whose payload NAPT has to change."""


@dataclass(frozen=True, slots=True)
class Member:
    """A session that the dataplane has to do something for."""

    addresses: tuple[IpAddress, ...]
    """Of the device in the tunnel."""
    zone: int = 0
    """Not 0: it has no inner address (:attr:`gateway.domain.child_sa.ChildSa.zone`)."""
    napt: int = 0
    """Place in :attr:`PresenceSettings.napts`, for members with a zone."""
    translations: int = -1
    """Place in :attr:`PresenceSettings.translations`, -1 for none."""


@dataclass(frozen=True, slots=True)
class RedirectUse:
    """What a redirect has carried."""

    connections: int = 0
    packets: int = 0
    octets: int = 0


class PresenceDataplane(Protocol):
    """Verbs queue work; :meth:`commit` does it."""

    def open(self, *, adopt: bool) -> None:
        """Load the rules; with ``adopt`` keep what an earlier process left. Raises OSError."""

    def settle(self) -> list[str]:
        """Every member of before is there again: remove what nobody has, see :meth:`commit`."""

    def put(self, session: str, member: Member | None) -> None:
        """A session's member, another one than before, or none any more."""

    def lead(self, redirect: int, target: Member | None) -> None:
        """Where a redirect leads; None: nowhere."""

    def forget(self, zone: int) -> None:
        """Connections of a zone are no longer known to the kernel after the next commit."""

    def commit(self) -> list[str]:
        """Do what was queued; what was refused, for people."""

    def reconfigure(
        self,
        settings: PresenceSettings,
        members: Mapping[str, Member],
        leads: Sequence[Member | None],
    ) -> None:
        """Exchange rules, members and redirects at once; connections go on. Raises OSError."""

    def uses(self) -> list[RedirectUse]:
        """Of each redirect."""

    def own_addresses(self) -> set[IpAddress]:
        """Addresses of the gateway itself. Raises OSError."""

    def close(self, *, keep: bool) -> None:
        """End; unless it is kept, everything made here goes."""
