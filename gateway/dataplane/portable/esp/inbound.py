"""The receiving half of a child SA."""

from ipaddress import ip_address
from typing import Final

from gateway.dataplane.kernel.xfrm.encode import Selector
from gateway.dataplane.packet import marks
from gateway.dataplane.packet.esp_budget import CheckBudget
from gateway.dataplane.packet.esp_keyed import keyed
from gateway.dataplane.portable.esp.limits import Limits
from gateway.dataplane.portable.esp.replay_window import ReplayWindow
from gateway.dataplane.portable.esp.routing import Guard
from gateway.dataplane.portable.esp.state import InboundState
from gateway.domain.child_sa import ChildSa, Mode
from gateway.domain.endpoint import Endpoint

_PADDING: Final = tuple(bytes(range(1, octets + 1)) for octets in range(256))
"""RFC 4303 section 2.4."""


def octets_of(endpoint: Endpoint, *, udp: bool) -> bytes:
    """As a packet shows it: an address, and with UDP a port."""
    return endpoint.address.packed + (endpoint.port.to_bytes(2, "big") if udp else b"")


class Inbound:
    """Opens packets, and knows where they come from."""

    __slots__ = (
        "_seen",
        "_seen_at",
        "budget",
        "cipher",
        "claimed",
        "guard",
        "keys",
        "last_at",
        "limits",
        "local",
        "mark",
        "remote",
        "shortest",
        "source",
        "spi_in",
        "transport",
        "udp",
        "waits",
        "watched",
        "window",
    )

    def __init__(
        self, sa: ChildSa, selectors: list[Selector], before: InboundState, now: float
    ) -> None:
        """Raises :class:`ValueError` for keys that are none of the suite."""
        self.keys = sa.keys_in
        self.cipher = keyed(sa.suite, sa.keys_in)
        self.shortest = self.cipher.overhead + self.cipher.block
        self.window = ReplayWindow(
            sa.replay_window, esn=sa.suite.esn, highest=before.highest, bitmap=before.bitmap
        )
        self.guard = Guard(selectors)
        self.limits = Limits(sa, before.carried)
        self.spi_in = sa.spi_in
        self.transport = sa.mode is Mode.TRANSPORT
        self.mark = marks.FROM_DEVICE | sa.zone if sa.zone else None
        """The fwmark of what comes out; None is that of the outer packet."""
        self.last_at = None if before.last_age_s is None else now - before.last_age_s
        self.budget = CheckBudget()
        self.watched = sa.follow_endpoint
        self._seen, self._seen_at = b"", 0.0
        self.move(sa.local, sa.remote, udp=sa.udp_encapsulation)

    def move(self, local: Endpoint, remote: Endpoint, *, udp: bool) -> None:
        """Expect packets between these."""
        self.udp = udp
        self.remote = remote
        self.local = local.address.packed
        self.source = octets_of(remote, udp=udp)
        self.claimed = b""
        """Another source that has proven to be the peer's."""
        self.waits = False
        """Whether packets from there are held back until it has moved."""
        self._seen = b""
        self.budget.trust(self.source)

    def state(self, now: float) -> InboundState:
        """What another half needs to go on from here."""
        window = self.window
        age = None if self.last_at is None else now - self.last_at
        return InboundState(window.highest, window.bitmap, self.limits.carried, age)

    @property
    def tells(self) -> bool:
        """Whether anybody wants to know that packets come from elsewhere."""
        return self.udp or self.watched

    def endpoint(self, source: bytes) -> Endpoint:
        """``source`` as :func:`octets_of` has it; without UDP there is only the port it had."""
        if not self.udp:
            return Endpoint(ip_address(source), self.remote.port)
        return Endpoint(ip_address(source[:-2]), int.from_bytes(source[-2:], "big"))

    def may_tell(self, source: bytes, now: float, repeat_s: float) -> bool:
        """Whether this source was not told of in the last ``repeat_s``; it is then now."""
        if source == self._seen and now - self._seen_at < repeat_s:
            return False
        self._seen, self._seen_at = source, now
        return True


def content(plain: bytes) -> bytes | None:
    """What was sealed without its padding, pad length and next header; None if padded wrongly."""
    at = -2 - plain[-2]
    # Where it would be longer than what there is, the slice is shorter than itself.
    return plain[:at] if plain[at:-2] == _PADDING[-2 - at] else None
