"""Who is in by a tunnel, and with which addresses: what IKE tells the rest of the gateway.

An IKE session is *granted* access once, before its first child SA is installed, and the grant ends
with the session. Rekeying, moving and renewing the IKE SA change nothing of it; a new grant under
the same ``session`` takes the place of the former.
"""

import enum
from dataclasses import dataclass

from gateway.domain.endpoint import IpAddress

LAST_ZONE = 65_535
"""Largest zone: conntrack's zones have 16 bits."""


class Presence(enum.Enum):
    """How a device appears on the inside (draft 000, section 3)."""

    ADDRESS = "address"
    """With an inner address of its own (appendix B)."""
    NAPT = "napt"
    """Behind an address of the gateway; its packets have its own address until then (appendix A).
    Several devices may have the same."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A session that may send."""

    session: str
    """Its name: the SPIs of its first IKE SA, as in log, REST and ``gateway status``."""
    peer: str
    """The identity that was proven."""
    user: str = ""
    """Who logged in besides, by EAP or XAUTH."""
    groups: frozenset[str] = frozenset()
    connection: str = ""
    profile: str = ""
    addresses: tuple[IpAddress, ...] = ()
    """Of the device, inside the tunnel: one of each IP version at most."""
    presence: Presence = Presence.ADDRESS
    zone: int = 0
    """With NAPT: 1 to :data:`LAST_ZONE`, no other session's; tells same addresses apart."""
    wanted_name: str = ""
    """The host name that the device gave of itself; empty when it gave none."""
