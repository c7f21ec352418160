"""Where the gateway is: an address in the profile, or what its name leads to.

The switch is closed before any name is asked for, and behind it the system's resolver gets no
answer. So the last known address counts, and a name is asked for on a link, as the probe for
captive portals asks, while nothing is known or nobody answers at what is. Whoever answers wrongly
gains nothing: IKE proves the gateway; and the next network is asked anew.
"""

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Final

from gateway.config.to_node import gateway_address
from gateway.domain.event import Event, Severity
from gateway.mobile_host.leases import Leases
from gateway.mobile_host.portal import PortalProbe
from gateway.mobile_host.terms import Terms
from gateway.mobile_node.inputs import LinkState

PAUSE_S: Final = 15.0
"""Between two questions; a link that changed may ask at once while nothing is known."""


class GatewayName:
    """Keeps ``terms.gateway`` right."""

    def __init__(
        self,
        terms: Terms,
        probe: PortalProbe,
        leases: Leases,
        emit: Callable[[Event], None],
    ) -> None:
        self._terms = terms
        self._probe = probe
        self._leases = leases
        self._emit = emit
        self._asking = False
        self._doubted = False
        self._asked_at: float | None = None

    @property
    def address(self) -> IPv4Address | None:
        """The gateway's, as far as it is known."""
        return self._terms.gateway

    @property
    def _named(self) -> str | None:
        gateway = self._terms.profile.gateway
        return gateway.address if gateway and isinstance(gateway.address, str) else None

    @property
    def missing(self) -> bool:
        """Whether there is a name of which no address is known."""
        return self._named is not None and self._terms.gateway is None

    def recall(self) -> None:
        """What the profile says or an earlier run found out. Asks nobody, never raises."""
        try:
            self._terms.gateway = gateway_address(self._terms.profile, lambda _name: ())
        except OSError:
            self._terms.gateway = None

    def doubted(self) -> None:
        """Nobody answered at the address that is known."""
        self._doubted = True

    def confirmed(self) -> None:
        """The gateway is there."""
        self._doubted = False

    def wanted(self, now: float) -> bool:
        """Whether to ask now; if so, not again for a while."""
        if self._asking or self._named is None:
            return False
        if self._terms.gateway is not None:
            if not self._doubted:
                return False
            if self._asked_at is not None and now - self._asked_at < PAUSE_S:
                return False
        self._asked_at = now
        return True

    async def ask_on(self, links: Sequence[tuple[int, LinkState]]) -> bool:
        """Ask on these links (number and state) until one knows; whether that is news."""
        name = self._named
        if self._asking or name is None:
            return False
        self._asking = True
        try:
            for index, link in links:
                servers = self._leases.name_servers(index, link.interface)
                found = await self._probe.resolve(link.interface, name, servers)
                usable = [one for one in found or () if self._may_be(one)]
                if usable:
                    return await self._take(name, usable)
        except ValueError:
            self._emit(Event("gateway_unknown", f"{name} is no host name", Severity.WARNING))
        finally:
            self._asking = False
        return False

    def _may_be(self, address: IPv4Address) -> bool:
        """Whether a gateway can be there: a host, and none of our home agents.

        An answer is anybody's; it must not open the switch to whatever it likes.
        """
        peers = self._terms.node_settings().peers
        agents = peers.external_home_agents + peers.internal_home_agents
        return address not in agents and not (
            address.is_loopback
            or address.is_unspecified
            or address.is_multicast
            or address.is_link_local
            or address.is_reserved
        )

    async def _take(self, name: str, found: Sequence[IPv4Address]) -> bool:
        before, profile = self._terms.gateway, self._terms.profile
        # It remembers what it is given, and keeps to what it knows where that is among it.
        chosen = await asyncio.to_thread(gateway_address, profile, lambda _name: found)
        if chosen == before or self._named != name:
            return False
        self._terms.gateway = chosen
        fields: dict[str, object] = {"name": name, "address": str(chosen)}
        self._emit(Event("gateway_found", f"{name} is at {chosen}", Severity.INFO, fields))
        return True
