"""Moving a child SA to new outer addresses without losing keys, counters or replay state.

Not with XFRM_MSG_MIGRATE, which many kernels lack and which before Linux 6.x cannot change UDP
encapsulation. What is done instead, by what changes:

- Inbound, plain ESP, same local address: nothing. The kernel finds the SA by destination and SPI
  and does not compare the source.
- Only UDP ports: XFRM_MSG_UPDSA changes them in place, both ways.
- Outbound to another remote address: the new state is added beside the old one, the policies
  turn to it, then the old one is deleted. No packet finds the SA missing. Its sequence numbers
  start a little above the last that was read, so that none is used twice.
- Where destination and SPI stay the same but the state must change (inbound UDP-encapsulated
  from a new address): deleted and added again, back to back in one send.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass

from gateway.dataplane.interface import Refusal
from gateway.dataplane.kernel.batch import Batch
from gateway.dataplane.kernel.child import InstalledChild
from gateway.dataplane.kernel.xfrm import decode
from gateway.domain.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Move:
    """A queued move."""

    spi_in: int
    local: Endpoint
    remote: Endpoint
    udp_encapsulation: bool


def queue_move(
    child: InstalledChild,
    move: Move,
    *,
    inbound: decode.State | None,
    outbound: decode.State | None,
    batch: Batch,
    claim_policies: Callable[[InstalledChild], None],
) -> Refusal | None:
    """Give ``child`` its new addresses and queue what the kernel needs for that.

    ``inbound`` and ``outbound`` are the states as just read. Without them there is nothing to
    carry over, and a state that began again at sequence number 0 must not be added.
    """
    if inbound is None or (child.outbound and outbound is None):
        return Refusal(child.sa.spi_in, "the kernel no longer has the SA, so it cannot move")
    if not child.keys_known:
        why = "the kernel shows nobody the keys of the last process's SAs, so it cannot move"
        return Refusal(child.sa.spi_in, why)
    delete_inbound, delete_outbound = child.delete_inbound(), child.delete_outbound()
    old = Move(child.sa.spi_in, child.local, child.remote, child.udp_encapsulation)
    child.local, child.remote = move.local, move.remote
    child.udp_encapsulation = move.udp_encapsulation
    _queue_inbound(child, old, inbound, delete_inbound, batch)
    if child.outbound and outbound is not None:
        _queue_outbound(
            child,
            old,
            before=outbound,
            delete=delete_outbound,
            batch=batch,
            claim_policies=claim_policies,
        )
    return None


def _queue_inbound(
    child: InstalledChild, old: Move, before: decode.State, delete: bytes, batch: Batch
) -> None:
    spi_in = child.sa.spi_in
    same_key = old.local.address == child.local.address
    if same_key and not old.udp_encapsulation and not child.udp_encapsulation:
        return
    ports_only = (
        same_key
        and old.udp_encapsulation
        and child.udp_encapsulation
        and before.source == child.remote.address
    )
    if ports_only:
        batch.add(spi_in, "new ports inbound", child.inbound_state(update=True))
        return
    add = child.inbound_state(before)
    if same_key:
        batch.add(spi_in, "a deletion", delete, errno.ESRCH)
        batch.add(spi_in, "the moved inbound SA", add)
    else:
        batch.add(spi_in, "the moved inbound SA", add)
        batch.add(spi_in, "a deletion", delete, errno.ESRCH)


def _queue_outbound(
    child: InstalledChild,
    old: Move,
    *,
    before: decode.State,
    delete: bytes,
    batch: Batch,
    claim_policies: Callable[[InstalledChild], None],
) -> None:
    spi_in = child.sa.spi_in
    same_encapsulation = old.udp_encapsulation == child.udp_encapsulation
    same_remote = old.remote.address == child.remote.address
    if same_encapsulation and same_remote and old.local.address == child.local.address:
        if child.udp_encapsulation:
            batch.add(spi_in, "new ports outbound", child.outbound_state(update=True))
        return
    add = child.outbound_state(before)
    if same_remote:
        batch.add(spi_in, "a deletion", delete, errno.ESRCH)
        batch.add(spi_in, "the moved outbound SA", add)
        claim_policies(child)
    else:
        batch.add(spi_in, "the moved outbound SA", add)
        claim_policies(child)
        batch.add(spi_in, "a deletion", delete, errno.ESRCH)
