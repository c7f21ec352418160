"""Tells the foreign agent inside the VPN gateway whose SAs are up (draft 001, appendix B.5)."""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol

from gateway.domain.child_sa import ChildSa


class SaListener(Protocol):
    """What is needed of :class:`gateway.mip_agents.foreign_agent.engine.ForeignAgent`."""

    def session_up(self, home_address: IPv4Address, now: float, peer: str) -> None:
        """The mobile node with this home address has an SA; ``peer`` is its identity in IKE."""

    def session_down(self, home_address: IPv4Address, now: float) -> None:
        """Its last SA is gone."""


class VpnFaSessions:
    """Child SAs with VPN/FA by their home address; a rekeying never looks like an absence."""

    def __init__(
        self, clock: Callable[[], float], call_soon: Callable[[Callable[[], object]], object]
    ) -> None:
        self._clock = clock
        self._call_soon = call_soon
        self._changed: Callable[[], object] = _nothing
        self._listener: SaListener | None = None
        self._home_address: dict[int, IPv4Address] = {}
        self._spis: dict[IPv4Address, set[int]] = {}
        self._peers: dict[IPv4Address, str] = {}

    def listen(
        self, listener: SaListener | None, changed: Callable[[], object] | None = None
    ) -> None:
        """Tell this one from now on, first of all what is up already.

        ``changed`` is called soon after the listener was told, when the SA itself is in place.
        """
        self._listener, self._changed = listener, changed or _nothing
        if listener is not None:
            for home_address in self._spis:
                listener.session_up(home_address, self._clock(), self._peers[home_address])

    def child_installed(self, sa: ChildSa, peer: str) -> None:
        """A child SA of any kind."""
        if not sa.vpn_fa or len(sa.remote_ts) != 1:
            return
        home_address = sa.remote_ts[0].start
        if not isinstance(home_address, IPv4Address):
            return
        self._home_address[sa.spi_in] = home_address
        spis = self._spis.setdefault(home_address, set())
        spis.add(sa.spi_in)
        self._peers[home_address] = peer
        if len(spis) == 1 and self._listener is not None:
            self._listener.session_up(home_address, self._clock(), peer)
            self._call_soon(self._changed)

    def child_removed(self, spi_in: int) -> None:
        """A child SA of any kind."""
        home_address = self._home_address.pop(spi_in, None)
        if home_address is None:
            return
        spis = self._spis[home_address]
        spis.discard(spi_in)
        if not spis:
            del self._spis[home_address], self._peers[home_address]
            if self._listener is not None:
                self._listener.session_down(home_address, self._clock())
                self._call_soon(self._changed)


def _nothing() -> None:
    return None
