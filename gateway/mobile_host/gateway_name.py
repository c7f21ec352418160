"""Where the gateway is: an address in the profile, or what its name leads to.

Once the switch is closed, the system's resolver gets no answer. A name that nothing is known of is
then asked for on a link, as the probe for captive portals asks: whoever answers wrongly gains
nothing, for IKE proves the gateway.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Final

from gateway.config.to_node import gateway_address
from gateway.domain.event import Event, Severity
from gateway.mobile_host.leases import Leases
from gateway.mobile_host.portal import PortalProbe
from gateway.mobile_host.terms import Terms
from gateway.mobile_node.inputs import LinkState

LOOK_UP_S: Final = 5.0


def by_system(name: str) -> list[IPv4Address]:
    """As the system resolves names. Raises OSError."""
    found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_DGRAM)
    return [IPv4Address(one[4][0]) for one in found]


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

    @property
    def address(self) -> IPv4Address | None:
        """The gateway's, as far as it is known."""
        return self._terms.gateway

    @property
    def missing(self) -> bool:
        """Whether there is a gateway of whose address nothing is known."""
        return self._terms.profile.gateway is not None and self._terms.gateway is None

    async def look_up(self) -> None:
        """Ask the system, or remember. Never raises; bounded in time."""
        profile = self._terms.profile
        try:
            async with asyncio.timeout(LOOK_UP_S):
                found = await asyncio.to_thread(gateway_address, profile, by_system)
        except TimeoutError:
            found = self._remembered()
        except OSError as error:
            self._emit(Event("gateway_unknown", str(error), Severity.WARNING))
            found = None
        self._terms.gateway = found

    def _remembered(self) -> IPv4Address | None:
        def nobody(_name: str) -> Sequence[IPv4Address]:
            return ()

        try:
            return gateway_address(self._terms.profile, nobody)
        except OSError as error:
            self._emit(Event("gateway_unknown", str(error), Severity.WARNING))
            return None

    async def ask_on(self, links: Sequence[tuple[int, LinkState]]) -> bool:
        """Ask on these links (number and state), one after the other; whether one knew."""
        if self._asking or not self.missing:
            return False
        self._asking = True
        try:
            for index, link in links:
                found = await self._ask(index, link.interface)
                if found is not None:
                    self._terms.gateway = found
                    return True
        finally:
            self._asking = False
        return False

    async def _ask(self, index: int, interface: str) -> IPv4Address | None:
        profile = self._terms.profile
        if profile.gateway is None:
            return None
        servers = self._leases.name_servers(index, interface)
        found = await self._probe.resolve(interface, str(profile.gateway.address), servers)
        if found is None:
            return None
        # It remembers what it is given.
        return await asyncio.to_thread(gateway_address, profile, lambda _name: [found])
