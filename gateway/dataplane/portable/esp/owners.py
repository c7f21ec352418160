"""Which of several forwarder processes has which half of a child SA."""

from gateway.domain.child_sa import ChildSa


def inbound_owner(sa: ChildSa, workers: int) -> int:
    """Packets come to it by their SPI, modulo the number of processes."""
    return sa.spi_in % workers


def outbound_owner(sa: ChildSa, workers: int) -> int:
    """One process seals all packets of an SA, for it counts their sequence numbers.

    What is routed into the tunnels is spread by the last four octets of its destination. An SA
    for one address is where its packets come anyway; one for a network is somewhere, and the
    others hand its packets over.
    """
    first = sa.remote_ts[0]
    if first.start == first.end:
        return int.from_bytes(first.start.packed[-4:], "big") % workers
    return sa.reqid % workers
