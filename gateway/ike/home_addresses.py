"""Who holds which home address through VPN/FA (draft 001, appendix B.5).

The device chooses its home address as its side's selector. Another identity must not be able to
take it over, and with it what the home agent sends there.
"""

from collections.abc import Collection

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.endpoint import IpAddress
from gateway.ike.auth.identity import Identity


class HomeAddresses:
    """Holders by address. An identity may hold an address several times: it has rekeyed."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[IpAddress, tuple[Identity | None, int]] = {}

    def other_holder(
        self, device: Collection[TrafficSelector], identity: Identity | None
    ) -> Identity | None:
        """Who else holds the device's address."""
        for selector in device:
            holder, _ = self._held.get(selector.start, (identity, 0))
            if holder != identity:
                return holder
        return None

    def take(self, device: Collection[TrafficSelector], identity: Identity | None) -> None:
        """A child SA with VPN/FA was made."""
        for selector in device:
            _, count = self._held.get(selector.start, (identity, 0))
            self._held[selector.start] = (identity, count + 1)

    def release(self, device: Collection[TrafficSelector]) -> None:
        """It is gone."""
        for selector in device:
            identity, count = self._held.get(selector.start, (None, 0))
            if count > 1:
                self._held[selector.start] = (identity, count - 1)
            else:
                self._held.pop(selector.start, None)
