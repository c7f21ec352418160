"""What a login at this gateway brings: home addresses, and tickets for their home agents.

Joins the IKE engine, which asks, to the mobility agents' tickets, which it knows nothing of.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from gateway.config import mobility_logins
from gateway.config.document import Config
from gateway.config.mobility_nodes import read_ticket_keys
from gateway.domain.mobility_credential import MobilityGrant
from gateway.ike.auth.identity import Identity
from gateway.ike.registry import IdType
from gateway.mip_agents.ticket import Ticket, TicketBox

KEY_FILE_NAME: Final = "ticket.key"
"""In ``mobility.state_dir``, where gateway and home agents are one box and none is configured."""
_Key = tuple[int, bytes]


class MobilityLogin:
    """The :class:`gateway.ike.mobility_authority.MobilityAuthority` of a configuration."""

    def __init__(
        self,
        grants: Iterable[tuple[Identity, MobilityGrant]],
        tickets: Mapping[IPv4Address, TicketBox],
        *,
        lifetime_s: int,
        wall_clock: Callable[[], float],
    ) -> None:
        """``tickets`` are those of each home agent, by the address that its grants name."""
        self._tickets, self._lifetime_s, self._wall_clock = tickets, lifetime_s, wall_clock
        self._last_us = 0
        self._grants: dict[_Key, list[MobilityGrant]] = {}
        self._holders: dict[IPv4Address, Identity] = {}
        for identity, grant in grants:
            self._grants.setdefault(_folded(identity), []).append(grant)
            self._holders[grant.home_address] = identity

    def grants(self, identity: Identity) -> Sequence[MobilityGrant]:
        """The home addresses of whoever proved to be ``identity``."""
        return tuple(self._grants.get(_folded(identity), ()))

    def holder(self, home_address: IPv4Address) -> Identity | None:
        """Whose a home address is."""
        return self._holders.get(home_address)

    def seal(
        self, identity: Identity, grant: MobilityGrant, spi: int, key: bytes
    ) -> tuple[bytes, int]:
        """A ticket for a grant and its lifetime in seconds. Raises ValueError."""
        now_s = self._wall_clock()
        # Of two logins in one moment the second one is the newer one all the same.
        self._last_us = max(int(now_s * 1e6), self._last_us + 1)
        holder = self._holders.get(grant.home_address, identity)
        ticket = Ticket(
            identity=str(holder),
            home_agent=grant.home_agent,
            home_address=grant.home_address,
            spi=spi,
            key=key,
            issued_at_us=self._last_us,
            expires_at_s=int(now_s) + self._lifetime_s,
        )
        return self._tickets[grant.home_agent].seal(ticket), self._lifetime_s


def _folded(identity: Identity) -> _Key:
    """An identity for lookup: letter case does not count in names."""
    if identity.type in (IdType.FQDN, IdType.RFC822_ADDR):
        return identity.type, identity.data.lower()
    return identity.type, identity.data


def ticket_boxes(config: Config) -> dict[str, TicketBox]:
    """What seals and opens tickets, by home agent; none where no login brings home addresses.

    Makes a key in ``mobility.state_dir`` where none is configured: then this box is gateway and
    home agent. Raises :class:`gateway.config.ConfigError` and OSError.
    """
    if not mobility_logins.has_logins(config):
        return {}
    boxes = {}
    for name in config.home_agents:
        keys = mobility_logins.ticket_keys(config, name) or _own_keys(config.mobility.state_dir)
        boxes[name] = TicketBox(keys, os.urandom)
    return boxes


def _own_keys(folder: Path) -> tuple[bytes, ...]:
    file = folder / KEY_FILE_NAME
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_ticket_keys(file)
    with os.fdopen(descriptor, "w") as made:
        made.write(os.urandom(32).hex() + "\n")
    return read_ticket_keys(file)


def mobility_login(config: Config) -> MobilityLogin | None:
    """What the IKE engine is told; None where no login brings home addresses.

    Raises :class:`gateway.config.ConfigError` and OSError.
    """
    grants = mobility_logins.grants(config)
    if not grants:
        return None
    agents = config.home_agents
    boxes = ticket_boxes(config)
    tickets = {mobility_logins.reached_at(agents[name]): box for name, box in boxes.items()}
    return MobilityLogin(
        grants,
        tickets,
        lifetime_s=config.mobility.ticket_lifetime_s,
        wall_clock=time.time,
    )
