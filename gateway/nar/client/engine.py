"""The NAR client's engine: octets and time in, octets and leases out."""

from ipaddress import IPv4Address

from gateway.domain.nar import NarProtocol
from gateway.domain.wire import WireError
from gateway.nar.client import asks, words
from gateway.nar.client.asks import Ask
from gateway.nar.client.dialogue import Dialogue
from gateway.nar.client.phases import Phase
from gateway.nar.client.settings import NarClientSettings
from gateway.nar.client_outputs import Lease, Output, Refused
from gateway.nar.codec.numbers import Reply

_PIECE_OCTETS = 4096


class NarClient:
    """One client's dealings with one server, over any number of connections in a row.

    Connect (TCP, or TLS), call :meth:`start`, pass on what comes; on the connection's end call
    :meth:`disconnected`, connect again and :meth:`start` again: leases are taken up where they
    were. After every call take :meth:`outputs`, and set a timer for :meth:`next_timer`.

    Leases may be asked for at any time, also before the first connection. Nothing raises because
    of what the server sent; what cannot be asked for raises ValueError.
    """

    def __init__(self, settings: NarClientSettings) -> None:
        self._target = settings.target
        self._dialogue = Dialogue(settings)

    @property
    def phase(self) -> Phase:
        """Where things are."""
        return self._dialogue.link.phase

    def start(self, local: IPv4Address, now: float) -> None:
        """A connection is there; ``local`` (Xa) is its address on our side."""
        self._dialogue.start(local, now)

    def received(self, data: bytes, now: float) -> None:
        """Octets from the server."""
        for at in range(0, len(data), _PIECE_OCTETS):
            try:
                self._dialogue.read(data[at : at + _PIECE_OCTETS], now)
            except WireError as error:
                self._dialogue.link.fail(words.misbehaving(str(error)), again=True)
        self._dialogue.settle(now)

    def disconnected(self, now: float) -> None:
        """The connection ended, or could not be kept."""
        self._dialogue.disconnected(now)

    def adopt(self, lease: Lease) -> int:
        """A lease that an earlier process of this host held with the token of the settings."""
        return self._dialogue.adopt(lease)

    def lease_tcp(self, remote: IPv4Address, remote_port: int) -> int:
        """A port for one TCP connection to ``remote``. Returns a ticket, as all of these."""
        return self._ask(asks.ask_tcp(remote, remote_port))

    def lease_tcp_server(self, port: int = 0, remote: IPv4Address | None = None) -> int:
        """A port that ``remote`` (None: anybody) may connect to; ``port`` is a wish."""
        return self._ask(asks.ask_tcp_server(port, remote))

    def lease_udp(self, port: int = 0, peer: IPv4Address | None = None) -> int:
        """A UDP port; ``peer`` is whom we send to (None: the target of the settings)."""
        return self._ask(asks.ask_udp(port, peer, self._target))

    def lease_udp_to(self, remote: IPv4Address, remote_port: int) -> int:
        """A UDP port for what comes from ``remote_port``, shared with clients of other ports.

        Only from a server that knows leases, see :class:`ModeAgreed`; refused otherwise.
        """
        return self._ask(asks.ask_udp_to(remote, remote_port))

    def lease_icmp(self, identifier: int = 0, target: IPv4Address | None = None) -> int:
        """An ICMP identifier towards ``target`` (None: the one of the settings)."""
        return self._ask(asks.ask_icmp(identifier, target or self._target))

    def lease_spi(
        self, protocol: NarProtocol, spi: int = 0, target: IPv4Address | None = None
    ) -> int:
        """An SPI of ESP or AH for what ``target`` sends."""
        return self._ask(asks.ask_spi(protocol, spi, target or self._target))

    def lease_tunnel(
        self, protocol: NarProtocol, inner: IPv4Address, target: IPv4Address | None = None
    ) -> int:
        """Tunnels (IP_IP or GRE) from ``target`` with inner destination ``inner``."""
        return self._ask(asks.ask_tunnel(protocol, inner, target or self._target))

    def release(self, ticket: int) -> None:
        """Give a lease back (Released follows), or ask no longer (Refused follows).

        A server without leases keeps it until the connection ends.
        """
        book = self._dialogue.book
        if ticket not in book:
            return
        lease = book.remove(ticket)
        if lease is None:
            self._given_up(ticket)
        else:
            self._dialogue.release({ticket: lease}, everything=False)

    def release_all(self) -> None:
        """Give everything back; the connection may be closed after the last Released."""
        book = self._dialogue.book
        held = book.held()
        for ticket in book.tickets():
            if book.remove(ticket) is None:
                self._given_up(ticket)
        if held:
            self._dialogue.release(held, everything=True)

    def leases(self) -> dict[int, Lease]:
        """What is lent now, by ticket."""
        return self._dialogue.book.held()

    def handle_timer(self, now: float) -> None:
        """What is due: renewal, no answer, leases that ended while we were away."""
        self._dialogue.handle_timer(now)

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer` again."""
        link = self._dialogue.link
        return link.clock.next(link.phase)

    def outputs(self) -> list[Output]:
        """What has to be done, in this order; each once."""
        return self._dialogue.link.take_outputs()

    def _ask(self, ask: Ask) -> int:
        return self._dialogue.ask(ask)

    def _given_up(self, ticket: int) -> None:
        self._dialogue.link.say(Refused(ticket, Reply.GENERAL_FAILURE, words.GIVEN_UP))
