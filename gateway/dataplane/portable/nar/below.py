"""What the NAR dataplane stands on where the kernel lacks tunnels and a packet queue."""

from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.nar import constants
from gateway.dataplane.kernel.nar.below import Words
from gateway.dataplane.kernel.nar.own_sas import KernelSas
from gateway.dataplane.nar import NarSettings
from gateway.dataplane.portable import logged_queue
from gateway.dataplane.portable.forwarder import Forwarder, ForwarderUnavailableError
from gateway.dataplane.portable.logged_queue import LoggedQueue
from gateway.dataplane.portable.nar.l2tp import L2tpLinks
from gateway.dataplane.portable.nar.links import BACK, NarLinks
from gateway.dataplane.portable.ways_back import WaysBack, in_rules
from gateway.domain.nar import NarProtocol

NFLOG: Final = "NFLOG (CONFIG_NFT_LOG, CONFIG_NETFILTER_NETLINK_LOG)"
PRIORITY: Final = 0x4759_0021
"""Of what this host sends once more, decided about."""


class PortableBelow:
    """Implements :class:`gateway.dataplane.kernel.nar.below.Below`.

    Rules log what they would queue to the group of the queue's number, and drop it. What is
    accepted begins its way again:

    - before routing: out of the pair that brought it, or out of :data:`BACK`. No rule of ours asks
      for another interface after that; those of others may, so as little as can be goes this way:
      without offload too, only what the maps know. What remains are ICMP errors that prove to be
      of no mapping. They come out of :data:`BACK` unchanged.
    - of this host's own: by a raw socket, and through output again.

    What comes for a tunnel and is not in the right form, the kernel would answer as it answers for
    protocols that it does not have. It speaks for an address that nobody has: no word gets out.
    """

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._ways = WaysBack(BACK, PRIORITY)

    def words(self, queue_number: int) -> Words:
        """See :meth:`Below.words`."""
        take = f"log group {queue_number} drop"
        return Words(
            take=take,
            take_or_pass=take,
            tell=logged_queue.copied(queue_number),
            known_only=True,
            decided=(f"ether saddr {self._ways.judged_in_rules} accept",),
            output=(
                f"meta priority {in_rules(PRIORITY)} accept\n"
                f"\t\tip saddr {constants.LOCAL} ip protocol icmp drop"
            ),
            needs={NFLOG: take},
        )

    def queue(self, settings: NarSettings) -> LoggedQueue:
        """See :meth:`Below.queue`."""
        return LoggedQueue(settings.queue_number, settings.queue_length, self._ways)

    def look_again(self) -> None:
        """Interfaces may have other sizes."""
        self._ways.forget()

    def devices(self) -> NarLinks:
        """See :meth:`Below.devices`."""
        return NarLinks(self._forwarder)

    def l2tp(self) -> L2tpLinks:
        """See :meth:`Below.l2tp`."""
        return L2tpLinks(self._forwarder)

    def sas(self) -> "ForwarderSas":
        """See :meth:`Below.sas`."""
        return ForwarderSas(self._forwarder)

    def close(self, *, keep: bool) -> None:
        """See :meth:`Below.close`."""
        self._ways.close()
        self._forwarder.close(keep=keep)


class ForwarderSas:
    """The security associations of the forwarder; and of the kernel, which may have others'."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._kernel = KernelSas()

    def has(self, protocol: NarProtocol, address: IPv4Address, spi: int) -> bool:
        """Whether there is one with this SPI, in the forwarder whatever its address is."""
        if self._kernel.has(protocol, address, spi):
            return True
        if protocol is not NarProtocol.ESP:
            return False
        try:
            return self._forwarder.usage(spi) is not None
        except ForwarderUnavailableError:
            return False

    def close(self) -> None:
        """Ask no more."""
        self._kernel.close()
