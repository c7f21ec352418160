"""The face of the NAR server's engine: what its adapter calls."""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Protocol

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.nar import NarProtocol, NarTuple
from gateway.domain.user_auth import Answer
from gateway.nar.codec.numbers import Reply
from gateway.nar.outputs import Output
from gateway.nar.policy import NarServerPolicy

if TYPE_CHECKING:  # the engine imports this module
    from gateway.nar.server.listing import Listing


class Occupied(Protocol):
    """What the box itself uses; asked before something is leased, must be quick."""

    def __call__(self, protocol: NarProtocol, address: IPv4Address, value: int) -> bool:
        """Whether this port or SPI is in use by the box."""


class NarEngine(Protocol):
    """:class:`gateway.nar.server.engine.NarServer` as the appliance sees it.

    Times are seconds of the adapter's clock. Nothing here waits or raises because of what a client
    sent. After every call take :meth:`outputs` and set a timer for :meth:`next_timer`.
    """

    def respect(self, visiting: Callable[[NarTuple], bool]) -> None:
        """From now on, lease no tuple that a mobile node of our foreign agent has."""

    def connected(self, client: Endpoint, local: Endpoint, now: float, *, tls: bool) -> int | None:
        """A connection came; its number, or None when it has to be closed at once (limits)."""

    def received(self, connection: int, data: bytes, now: float) -> None:
        """Octets of a connection that is not in relay."""

    def disconnected(self, connection: int, now: float) -> None:
        """It ended or its client half-closed it; leases go on for the grace period."""

    def user_answered(self, ticket: int, answer: Answer, now: float) -> None:
        """The answer to :class:`AskPassword`."""

    def resolved(self, ticket: int, addresses: Sequence[IpAddress], now: float) -> None:
        """The answer to :class:`Resolve`; empty: no such name, or no answer in time."""

    def proxy_opened(self, connection: int, bound: Endpoint, now: float) -> None:
        """What :class:`OpenProxy` asked for is there."""

    def proxy_failed(self, connection: int, reply: Reply, why: str, now: float) -> None:
        """It is not."""

    def may_relay_to(self, rule: str, target: IpAddress, port: int) -> bool:
        """Whether a UDP relay of this rule may send there."""

    def address_changed(self, old: IPv4Address, new: IPv4Address, now: float) -> None:
        """Nb changed (a dynamic address): leases move where they can, clients are told."""

    def restore(self, records: Sequence[bytes], now: float) -> None:
        """Sessions of an earlier process, at start; their clients have the grace period to come."""

    def mapping_refused(self, key: NarTuple, reason: str, now: float) -> None:
        """The dataplane could not do it: the lease ends, the client is told where it can be."""

    def reconfigure(self, policy: NarServerPolicy, now: float) -> None:
        """Another policy; leases that it does not allow any more end."""

    def end_lease(self, key: NarTuple, now: float, reason: str) -> bool:
        """An administrator ends a lease; False when there is none."""

    def end_client(self, client: IPv4Address, now: float, reason: str) -> int:
        """An administrator ends all of a client's; how many leases that were."""

    def stopping(self, now: float) -> None:
        """The process is about to stop; leases stay for the next one, clients are told."""

    @property
    def listing(self) -> "Listing":
        """Clients and leases for a status page, a few at a time."""

    def clients(self) -> list[dict[str, object]]:
        """Sessions for a status page: plain JSON values, see ``server/views.py``."""

    def mappings(self) -> list[dict[str, object]]:
        """Leases for a status page."""

    def handle_timer(self, now: float) -> None:
        """What is due."""

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer` again."""

    def outputs(self) -> list[Output]:
        """What has to be done, in this order; each once."""
