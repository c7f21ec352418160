"""What both IPsec dataplanes do by rules and routes, whoever encrypts."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from gateway.dataplane.interface import Refusal
from gateway.dataplane.kernel.adopt import Leftovers
from gateway.dataplane.kernel.batch import Batch
from gateway.dataplane.kernel.ground import Ground
from gateway.dataplane.kernel.ruleset import VPN_FA
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.domain.child_sa import ChildSa, IpNetwork


class RoutedChild(Protocol):
    """A child SA, as far as rules and routes need to know it."""

    sa: ChildSa
    routed: tuple[IpNetwork, ...]
    """Networks that have a route because of this SA."""

    @property
    def tunnel(self) -> bool:
        """Whether its inner packets are others' than the outer ones."""

    @property
    def home_addresses(self) -> list[bytes]:
        """Elements of the set ``vpn_fa``."""

    def networks_beyond(self, pools: Sequence[IpNetwork]) -> list[IpNetwork]:
        """Networks behind the peer that no pool holds."""


class RulesDataplane:
    """Inner packets pass the kernel's hooks by the tunnels' interface.

    So what filters and presence write into nftables holds for them.
    """

    _foundation: Ground

    def __init__(self, settings: KernelSettings) -> None:
        self.settings = settings
        self._batch = Batch()
        self._refused: list[Refusal] = []
        """Since the last commit, by what is not the batch's business."""
        self._vpn_fa: Counter[bytes] = Counter()
        """Home addresses by how many child SAs have them."""

    def reconfigure(self, settings: KernelSettings) -> None:
        """Use other inner and protected networks; the other settings need a new start.

        SAs stay as they are. Raises :class:`OSError`.
        """
        wanted = replace(
            self.settings,
            inner_networks=settings.inner_networks,
            protected_networks=settings.protected_networks,
        )
        if wanted != self.settings:
            self._foundation.reconfigure(wanted)
            self.settings = wanted

    @property
    def leftovers(self) -> Leftovers:
        """What the start found of an earlier run and cleared."""
        return self._foundation.leftovers

    def _settle_elements(self) -> None:
        """Make the queued elements those of the sets: first what is missing."""
        wanted = {(change.name, change.key) for _, change in self._batch.elements}
        self._batch.elements.clear()
        there = {(name, key) for name, keys in self._foundation.peers().items() for key in keys}
        for name, key in sorted(wanted - there):
            self._batch.element(0, name, key)
        for name, key in sorted(there - wanted):
            self._batch.element(0, name, key, add=False)

    def _guard(self, child: RoutedChild) -> None:
        """Nothing but registrations from this home address without the foreign agent's mark."""
        for key in child.home_addresses:
            self._vpn_fa[key] += 1
            self._batch.element(child.sa.spi_in, VPN_FA, key)

    def _unguard(self, child: RoutedChild) -> None:
        for key in child.home_addresses:
            self._vpn_fa[key] -= 1
            if not self._vpn_fa[key]:
                del self._vpn_fa[key]
                self._batch.element(child.sa.spi_in, VPN_FA, key, add=False)

    def _add_routes(self, child: RoutedChild) -> None:
        if not self.settings.routes or not child.tunnel or child.routed or child.sa.zone:
            return
        if child.sa.vpn_fa:
            return  # a route to a home address would be the short cut that appendix B rules out
        with self._refusing(child):
            for network in child.networks_beyond(self.settings.inner_networks):
                self._foundation.add_peer_route(network)
                child.routed += (network,)

    def _drop_routes(self, child: RoutedChild) -> None:
        routed, child.routed = child.routed, ()
        for network in routed:
            with self._refusing(child):
                self._foundation.drop_peer_route(network)

    @contextlib.contextmanager
    def _refusing(self, child: RoutedChild) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._refused.append(Refusal(child.sa.spi_in, error.strerror or str(error)))
