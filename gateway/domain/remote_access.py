"""Who is in by a tunnel, and with which addresses: what IKE tells the rest of the gateway.

An IKE session is *granted* access once, before its first child SA is installed, and the grant ends
with the session. Rekeying, moving and renewing the IKE SA change nothing of it; a new grant under
the same ``session`` takes the place of the former. An address or a zone is in one grant at a time:
when a device logs in anew and keeps what it has, the former session's grant ends just before the
new session's begins, though its child SAs may stay for some seconds.
"""

import enum
from dataclasses import dataclass
from ipaddress import IPv6Network

from gateway.domain.endpoint import IpAddress

LAST_ZONE = 65_535
"""Largest zone: conntrack's zones have 16 bits."""

NOWHERE = IPv6Network("fd2b:41c7:9e05:dead::/64")
"""Inner addresses of devices whose IPv6 is blocked (``ipv6 = "block"``): each gets one of its own,
so that it sends its IPv6 traffic into the tunnel, where everything from here is dropped. They are
not in a :class:`Grant`."""


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
    """Its identity; :attr:`proven` says whether it is more than a claim."""
    user: str = ""
    """Who logged in besides, by EAP or XAUTH."""
    groups: frozenset[str] = frozenset()
    connection: str = ""
    profile: str = ""
    addresses: tuple[IpAddress, ...] = ()
    """Of the device, inside the tunnel: one of each IP version at most; none where the peer has
    networks of its own."""
    presence: Presence = Presence.ADDRESS
    zone: int = 0
    """With NAPT: 1 to :data:`LAST_ZONE`, no other session's; tells same addresses apart."""
    wanted_name: str = ""
    """The host name that the device gave of itself; empty when it gave none."""
    proven: bool = True
    """Whether the device has proven ``peer``. Where its user's login by EAP stands for both, or a
    pre-shared key is many devices', it may say any identity: what belongs to a device is not for
    such a session, only what belongs to its user."""
