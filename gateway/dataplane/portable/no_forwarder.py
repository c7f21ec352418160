"""A forwarder that carries nothing, for trials: what the kernel refuses shows without one."""

from collections.abc import Sequence

from gateway.dataplane.interface import DataplaneEvent, Refusal, Usage
from gateway.dataplane.portable.forwarder import HeldSa, RefusedTunnel
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint


class NoForwarder:
    """Implements :class:`gateway.dataplane.portable.forwarder.Forwarder`."""

    def install(self, sa: ChildSa, *, outbound: bool, output_mark: int = 0) -> None:
        """Does nothing, as everything here that returns nothing."""

    def activate(self, spi_in: int) -> None:
        """See :class:`NoForwarder`."""

    def remove(self, spi_in: int) -> None:
        """See :class:`NoForwarder`."""

    def move(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> None:
        """See :class:`NoForwarder`."""

    def trap(self, sa: ChildSa) -> None:
        """See :class:`NoForwarder`."""

    def untrap(self, reqid: int) -> None:
        """See :class:`NoForwarder`."""

    def set_tunnel(self, link: TunnelLink) -> None:
        """See :class:`NoForwarder`."""

    def remove_tunnel(self, name: str) -> None:
        """See :class:`NoForwarder`."""

    def commit(self) -> tuple[list[Refusal], list[RefusedTunnel]]:
        """Nothing is refused."""
        return [], []

    def held(self) -> Sequence[HeldSa]:
        """None."""
        return ()

    def tunnels(self) -> Sequence[TunnelLink]:
        """None."""
        return ()

    def usage(self, spi_in: int) -> Usage | None:  # noqa: ARG002 - none is known
        """None."""
        return None

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:  # noqa: ARG002 - as above
        """None."""
        return None

    def counters(self) -> dict[str, int]:
        """None."""
        return {}

    def event_fds(self) -> list[int]:
        """None."""
        return []

    def read_events(self) -> list[DataplaneEvent]:
        """None."""
        return []

    def close(self, *, keep: bool) -> None:
        """See :class:`NoForwarder`."""
