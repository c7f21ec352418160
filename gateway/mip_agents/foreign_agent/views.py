"""What is shown of a visitor."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.mip_agents.foreign_agent.visitors import VisitorEntry
from gateway.mip_agents.policy import INFINITE_LIFETIME_S


@dataclass(frozen=True, slots=True)
class VisitorView:
    """One registration of a mobile node at our foreign agent."""

    foreign_agent: str
    """Name of ours."""
    home_address: IPv4Address
    home_agent: IPv4Address
    care_of_address: IPv4Address
    nai: str
    interface: str
    link_address: str
    """``aa:bb:..``; empty behind the VPN."""
    tunnel: str
    """For people; empty with a co-located care-of address."""
    flags: tuple[str, ...]
    """Of ``reverse``, ``encapsulating``, ``co-located``, ``nar``, ``vpn``,
    ``revocable``."""
    lifetime_s: int | None
    """Granted; None for ever."""
    granted_at: float
    """Seconds of the wall clock."""
    expires_in_s: float | None
    installed: bool
    """The dataplane carries its packets."""
    registrations: int
    """So often accepted since it came."""
    last_code: int


def view(name: str, entry: VisitorEntry, wall_clock_s: float) -> VisitorView:
    """What is shown of it."""
    lasting = entry.lifetime_s == INFINITE_LIFETIME_S
    flags = {
        "reverse": entry.reverse,
        "encapsulating": entry.encapsulating,
        "co-located": entry.co_located,
        "nar": bool(entry.nar_server),
        "vpn": entry.through_vpn,
        "revocable": entry.revocable,
    }
    return VisitorView(
        name,
        entry.home_address,
        entry.home_agent,
        entry.care_of_address,
        entry.nai,
        entry.link.interface,
        entry.link.address.hex(":"),
        "" if entry.co_located else str(entry.tunnel),
        tuple(flag for flag, is_set in flags.items() if is_set),
        None if lasting else entry.lifetime_s,
        entry.granted_at,
        None if lasting else max(0.0, entry.granted_at + entry.lifetime_s - wall_clock_s),
        entry.installed,
        entry.registrations,
        entry.code,
    )
