"""What a commit sends: XFRM requests that know whose they are, and set elements."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.dataplane.interface import Refusal
from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.dataplane.kernel.nft_elements import ElementChange, SetElements


@dataclass(slots=True)
class Batch:
    """Queued work. ``spi_in`` names the child SA that a refusal is reported for."""

    requests: list[bytes] = field(default_factory=list)
    owners: list[tuple[int, str, frozenset[int]]] = field(default_factory=list)
    elements: list[tuple[int, ElementChange]] = field(default_factory=list)

    def add(self, spi_in: int, what: str, request: bytes, *ignore: int) -> None:
        """Queue a request; refusals with an errno in ``ignore`` are fine."""
        self.requests.append(request)
        self.owners.append((spi_in, what, frozenset(ignore)))

    def extend(self, spi_in: int, what: str, requests: Sequence[bytes], *ignore: int) -> None:
        """Queue several."""
        for request in requests:
            self.add(spi_in, what, request, *ignore)

    def element(self, spi_in: int, name: str, key: bytes, *, add: bool = True) -> None:
        """Queue a change of an nftables set."""
        self.elements.append((spi_in, ElementChange(name, key, add)))

    def flush(self, xfrm: NetlinkSocket, sets: SetElements) -> list[Refusal]:
        """Send everything: elements in one transaction first, then the requests."""
        refusals = self.flush_elements(sets)
        if self.requests:
            refused, _ = xfrm.transact(self.requests)
            for refusal in refused:
                spi_in, what, ignore = self.owners[refusal.index]
                if refusal.errno not in ignore:
                    refusals.append(Refusal(spi_in, f"kernel refused {what}: {refusal}"))
            self.requests.clear()
            self.owners.clear()
        return refusals

    def flush_elements(self, sets: SetElements) -> list[Refusal]:
        """Send the elements in one transaction."""
        if not self.elements:
            return []
        refused = sets.apply([change for _, change in self.elements])
        owners = dict.fromkeys(spi_in for spi_in, _ in self.elements)
        self.elements.clear()
        if refused is None:
            return []
        return [Refusal(spi_in, f"nftables refused a set element: {refused}") for spi_in in owners]
