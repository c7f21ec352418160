"""Which home addresses a login brings, as the engine asks about it (draft 002, section 4.2.1).

The engine knows nothing of home agents: whoever composes the gateway says which identity has which
home addresses, and seals what a home agent is to learn of a login.
"""

import contextlib
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Protocol

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.mobility_credential import MobilityGrant
from gateway.ike.auth.identity import Identity
from gateway.ike.policy import ConnectionPolicy, Feature
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa

if TYPE_CHECKING:
    from gateway.ike.core import Core


class MobilityAuthority(Protocol):
    """What the engine is told. Each call costs O(1)."""

    def grants(self, identity: Identity) -> Sequence[MobilityGrant]:
        """The home addresses of whoever proved to be ``identity``."""

    def holder(self, home_address: IPv4Address) -> Identity | None:
        """Whose a home address is; None if it is nobody's by login."""

    def seal(
        self, identity: Identity, grant: MobilityGrant, spi: int, key: bytes
    ) -> tuple[bytes, int]:
        """The ticket for a grant and the key that came of the login, and its lifetime in seconds.

        Raises ValueError where there cannot be one.
        """


def proven(sa: IkeSa) -> tuple[Identity, ...]:
    """Who the peer has proven to be: the device, its user, or both."""
    connection = sa.connection
    auth = connection.peer_auth if connection is not None else None
    if auth is None:
        return ()
    found = []
    if sa.peer_id is not None and (auth.user is None or auth.device_too):
        found.append(sa.peer_id)
    if sa.user is not None:
        with contextlib.suppress(ValueError):
            found.append(Identity.parse(sa.user.user))
    return tuple(found)


def settle_home_address(
    core: "Core",
    sa: IkeSa,
    connection: ConnectionPolicy,
    device: Sequence[object],
) -> None:
    """As the gateway: a single address that the peer names as its side may be a home address.

    Its own one counts beside, or in the place of, an inner address from a pool; another's never.

    Raises:
        Refused: TS_UNACCEPTABLE.
    """
    if core.mobility is None or len(device) != 1:
        return
    (one,) = device
    if not isinstance(one, TrafficSelector) or one.start != one.end:
        return
    address = one.start
    if not isinstance(address, IPv4Address):
        return
    holder = core.mobility.holder(address)
    if holder is None:
        return
    if not any(holder.same_as(identity) for identity in proven(sa)):
        core.count("home_addresses_refused")
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            f"{address} is the home address of {holder}",
            "give each device a home address of its own, and let it log in as its identity",
        )
    if sa.peer_knows_vpn_fa and connection.vpn_fa is not Feature.OFF:
        sa.home_address = address
