"""The NAR client's engine: octets and time in, octets and leases out."""

from ipaddress import IPv4Address

from gateway.domain.nar import NarProtocol
from gateway.nar.client.settings import NarClientSettings
from gateway.nar.client_outputs import Lease, Output


class NarClient:
    """One client's dealings with one server, over any number of connections in a row.

    Connect (TCP, or TLS), call :meth:`start`, pass on what comes; on the connection's end call
    :meth:`disconnected`, connect again and :meth:`start` again: leases are taken up where they
    were. After every call take :meth:`outputs`, and set a timer for :meth:`next_timer`.

    Leases may be asked for at any time, also before the first connection. Nothing raises because
    of what the server sent.
    """

    def __init__(self, settings: NarClientSettings) -> None: ...

    def start(self, local: IPv4Address, now: float) -> None:
        """A connection is there; ``local`` (Xa) is its address on our side."""

    def received(self, data: bytes, now: float) -> None:
        """Octets from the server."""

    def disconnected(self, now: float) -> None:
        """The connection ended, or could not be kept."""

    def lease_tcp(self, remote: IPv4Address, remote_port: int) -> int:
        """A port for one TCP connection to ``remote``. Returns a ticket, as all of these."""

    def lease_tcp_server(self, port: int = 0, remote: IPv4Address | None = None) -> int:
        """A port that ``remote`` (None: anybody) may connect to; ``port`` is a wish."""

    def lease_udp(self, port: int = 0, peer: IPv4Address | None = None) -> int:
        """A UDP port; ``peer`` is whom we send to (None: the target of NAR-MODE)."""

    def lease_udp_to(self, remote: IPv4Address, remote_port: int) -> int:
        """A UDP port for what comes from ``remote_port``, shared with clients of other ports."""

    def lease_icmp(self, identifier: int = 0, target: IPv4Address | None = None) -> int:
        """An ICMP identifier towards ``target`` (None: the one of the settings)."""

    def lease_spi(
        self, protocol: NarProtocol, spi: int = 0, target: IPv4Address | None = None
    ) -> int:
        """An SPI of ESP or AH for what ``target`` sends."""

    def lease_tunnel(
        self, protocol: NarProtocol, inner: IPv4Address, target: IPv4Address | None = None
    ) -> int:
        """Tunnels (IP_IP or GRE) from ``target`` with inner destination ``inner``."""

    def release(self, ticket: int) -> None:
        """Give a lease back, or ask no longer."""

    def release_all(self) -> None:
        """Give everything back; the connection may be closed after the last Released."""

    def leases(self) -> dict[int, Lease]:
        """What is lent now, by ticket."""

    def handle_timer(self, now: float) -> None:
        """What is due: renewal, no answer, leases that ended while we were away."""

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer` again."""

    def outputs(self) -> list[Output]:
        """What has to be done, in this order; each once."""
