"""Who is in: the grant of a session, its inner addresses and its zone, from one IKE SA to the next.

Leases, addresses of the device's own and the zone are an IKE SA's. They go on to its successor,
which has the same session, or to another login of the same device, which has another one.
"""

from typing import TYPE_CHECKING

from gateway.domain.endpoint import IpAddress
from gateway.domain.remote_access import LAST_ZONE, Grant, Presence
from gateway.ike.auth.identity import Identity
from gateway.ike.lease import Lease
from gateway.ike.outputs import AccessEnded, AccessGranted
from gateway.ike.registry import IdType
from gateway.ike.sa import IkeSa

if TYPE_CHECKING:
    from gateway.ike.core import Core

COMMON_NAME = "2.5.4.3"
MAX_NAME = 63
"""Characters of a label in DNS."""
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class ZonesExhausted(Exception):  # noqa: N818 - named for what it is
    """Every zone is taken."""


class Zones:
    """Numbers from 1 to :data:`LAST_ZONE`. A free one is given out again as late as can be.

    What conntrack remembers of a zone's last owner should be gone by then.
    """

    __slots__ = ("_next", "_taken")

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next = 1

    def take(self) -> int:
        """A free zone. Raises :class:`ZonesExhausted`."""
        if len(self._taken) >= LAST_ZONE:
            raise ZonesExhausted
        while self._next in self._taken:
            self._advance()
        zone = self._next
        self._taken.add(zone)
        self._advance()
        return zone

    def _advance(self) -> None:
        self._next = 1 if self._next >= LAST_ZONE else self._next + 1

    def claim(self, zone: int) -> bool:
        """Take exactly this one; False when somebody has it."""
        if zone in self._taken:
            return False
        self._taken.add(zone)
        if zone >= self._next:
            self._next = zone
            self._advance()
        return True

    def release(self, zone: int) -> None:
        """It is free again; 0 is no zone."""
        self._taken.discard(zone)


# -- grants ---------------------------------------------------------------------------------


def grant(core: "Core", sa: IkeSa) -> None:
    """As the gateway: tell what the session may have, if that is news. Before each child SA."""
    connection = sa.connection
    if sa.session_initiator or connection is None:
        return
    made = Grant(
        session=sa.session_id,
        peer=sa.peer_name,
        user=sa.user.user if sa.user is not None else "",
        groups=frozenset(sa.user.groups) if sa.user is not None else frozenset(),
        connection=connection.name,
        profile=sa.profile,
        addresses=_addresses(sa),
        presence=Presence.NAPT if sa.zone else Presence.ADDRESS,
        zone=sa.zone,
        wanted_name=wanted_name(sa.peer_id),
        proven=_has_proven(sa),
    )
    if sa.granted == made:
        return
    if sa.granted is not None and sa.granted.session != made.session:
        end(core, sa)
    sa.granted = made
    core.outputs.append(AccessGranted(made))


def end(core: "Core", sa: IkeSa) -> None:
    """The session may send no longer, if it ever might."""
    if sa.granted is not None:
        core.outputs.append(AccessEnded(sa.granted.session))
        sa.granted = None


def _addresses(sa: IkeSa) -> tuple[IpAddress, ...]:
    found = [one.address for one in sa.leases if not one.leads_nowhere]
    for one in (*sa.own_addresses, sa.home_address):
        if one is not None and all(one.version != other.version for other in found):
            found.append(one)
    return tuple(found)


def wanted_name(identity: Identity | None) -> str:
    """The host name that an identity suggests, in small letters; empty where it suggests none.

    The first label of a host name, what is before the @ of a mail address, a common name.
    """
    if identity is None:
        return ""
    name = _hint(identity).lower()
    fits = 0 < len(name) <= MAX_NAME and name[0] != "-" and name[-1] != "-"
    return name if fits and _LETTERS.issuperset(name) else ""


def _hint(identity: Identity) -> str:
    if identity.type in (IdType.FQDN, IdType.RFC822_ADDR):
        text = identity.data.decode("ascii", "replace")
        return text.rpartition("@")[0] if "@" in text else text.partition(".")[0]
    for attributes in reversed(identity.distinguished_name() or ()):
        for oid, value in attributes:
            if oid == COMMON_NAME:
                return value.partition(".")[0]
    return ""


# -- from one IKE SA to another -------------------------------------------------------------


def release(core: "Core", sa: IkeSa) -> None:
    """Give everything back to where it came from; a grant ends with it."""
    end(core, sa)
    for one in sa.leases:
        pool = core.pools.get(one.pool) if one.pool is not None else None
        if pool is not None:
            pool.release(one.address)
        elif core.framed.get(one.address) == sa.local_spi:
            del core.framed[one.address]
    core.zones.release(sa.zone)
    sa.leases, sa.own_addresses, sa.zone = (), (), 0
    core.touch(sa)


def hand_over(core: "Core", old: IkeSa, new: IkeSa) -> None:
    """A successor takes all of it, and the grant stays as it is.

    What it had itself goes back, unless the old one has nothing to give.
    """
    if old.granted is not None or old.leases or old.zone:
        if new.granted is not None or new.leases or new.zone:
            release(core, new)
        new.granted, old.granted = old.granted, None
        _pass(core, old, new)


def pass_on(core: "Core", old: IkeSa, new: IkeSa) -> None:
    """Another login of the same device takes the addresses and the zone; the old grant ends."""
    end(core, old)
    _pass(core, old, new)


def _pass(core: "Core", old: IkeSa, new: IkeSa) -> None:
    for one in old.leases:
        if core.framed.get(one.address) == old.local_spi:
            core.framed[one.address] = new.local_spi
    new.leases = old.leases or new.leases
    new.own_addresses, new.zone = old.own_addresses, old.zone
    old.leases, old.own_addresses, old.zone = (), (), 0
    core.touch(old)
    core.touch(new)


# -- leases that are not what they were -----------------------------------------------------


def disown(sa: IkeSa) -> None:
    """What it has may be somebody else's now: it does not go back."""
    sa.leases, sa.own_addresses, sa.zone = (), (), 0


def lease_names(sa: IkeSa) -> tuple[str, str]:
    """Whose a lease is: the user, else the device; and the device, where it has proven itself."""
    device = sa.peer_name if _has_proven(sa) else ""
    return sa.user.user if sa.user is not None else sa.peer_name, device


def _has_proven(sa: IkeSa) -> bool:
    """Whether the device's identity is more than its word.

    It is no more where its user's login stands for it, or a key that others have as well.
    """
    if sa.connection is None:
        return False
    auth = sa.connection.peer_auth
    shared = auth.preshared_key is not None and "*" in sa.connection.remote_id.text
    return not shared and (auth.user is None or auth.device_too)


def reclaim(core: "Core", sa: IkeSa) -> str | None:
    """Take what an SA of a former process had. Why that cannot be, or None; it has nothing then."""
    identity, device = lease_names(sa)
    taken: list[Lease] = []
    for one in sa.leases:
        pool = core.pools.get(one.pool) if one.pool is not None else None
        if one.pool is None:
            ours = one.leads_nowhere or (
                core.framed.setdefault(one.address, sa.local_spi) == sa.local_spi
            )
            wrong = f"the inner address {one.address} is another's"
        else:
            ours = pool is not None and pool.reclaim(identity, one.address, device=device)
            wrong = f"pool {one.pool} was changed"
        if not ours:
            sa.leases = tuple(taken)
            release(core, sa)
            return wrong
        taken.append(one)
    if sa.zone and not core.zones.claim(sa.zone):
        sa.zone = 0
        release(core, sa)
        return "its zone is another's"
    return None
