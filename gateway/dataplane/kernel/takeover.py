"""Child SAs of an earlier process: which states and policies in the kernel are theirs.

The kernel is where the keys, sequence numbers and replay windows are. What is found here is kept
as it is; only what differs is changed, and what belongs to nobody is removed.
"""

import errno
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway.dataplane.interface import SaExpired
from gateway.dataplane.kernel.adopt import is_ours
from gateway.dataplane.kernel.child import InstalledChild
from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.dataplane.kernel.policies import PolicyTable
from gateway.dataplane.kernel.selectors import SelectorRefusedError
from gateway.dataplane.kernel.xfrm import decode, encode
from gateway.dataplane.kernel.xfrm.constants import (
    IF_ID,
    IPPROTO_ESP,
    POLICY_PRIORITY_CONSTANT,
    REQID_SHARED,
    REQID_WAITING,
    XfrmMessage,
)
from gateway.dataplane.kernel.xfrm.listing import (
    KeyedPolicy,
    KeyedState,
    PolicyKey,
    hidden,
    keyed_policy,
    keyed_state,
)
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint, IpAddress

_GONE: Final = (errno.ESRCH, errno.ENOENT)


@dataclass(slots=True)
class Adopted:
    """A child SA whose inbound half is in the kernel."""

    child: InstalledChild
    inbound: KeyedState
    outbound: KeyedState | None


class Takeover:
    """What an earlier process left, read once. Raises OSError."""

    def __init__(self, xfrm: NetlinkSocket, output_mark: int) -> None:
        self._xfrm = xfrm
        self._output_mark = output_mark
        self._states: defaultdict[int, list[KeyedState]] = defaultdict(list)
        for _, body in xfrm.dump(XfrmMessage.GETSA, b""):
            found = keyed_state(body)
            if found is None or found.state.protocol != IPPROTO_ESP:
                continue
            if is_ours(found.state.reqid):
                self._states[found.state.spi].append(found)
        self._policies: dict[PolicyKey, KeyedPolicy] = {}
        for _, body in xfrm.dump(XfrmMessage.GETPOLICY, b""):
            policy = keyed_policy(body)
            if policy is not None and _is_child_policy(policy):
                self._policies[policy.key] = policy
        self._kept: set[tuple[IpAddress, int]] = set()

    def find(self, sa: ChildSa) -> Adopted | None:
        """The child SA as the kernel has it; None when it is not, or no more, the same.

        Its outer addresses are the kernel's, which may be older or newer than those of ``sa``.
        """
        try:
            child = InstalledChild.of(sa, self._output_mark)
        except SelectorRefusedError:
            return None
        reqid = REQID_SHARED if child.own_selector else child.reqid
        inbound = self._state(sa, sa.spi_in, reqid, sa.local.address)
        keys_in = None if inbound is None else inbound.keys(sa.suite)
        if inbound is None or keys_in is None:
            return None
        outbound = self._state(sa, sa.spi_out, child.reqid, sa.remote.address)
        waiting = outbound is None
        if outbound is None:
            outbound = self._state(sa, sa.spi_out, REQID_WAITING, sa.remote.address)
        keys_out = None if outbound is None else outbound.keys(sa.suite)
        if outbound is not None and keys_out is None:
            return None
        child.sa = replace(sa, keys_in=keys_in, keys_out=keys_out or sa.keys_out)
        child.keys_known = not hidden(keys_in) and (keys_out is None or not hidden(keys_out))
        child.outbound = outbound is not None and not waiting
        if outbound is not None and waiting:
            child.waiting_at = outbound.state.destination
        _place(child, inbound, outbound if child.outbound else None)
        child.replay = inbound.state.replay
        child.last_packets_in = inbound.state.consumed.packets
        return Adopted(child, inbound, outbound)

    def _state(
        self, sa: ChildSa, spi: int, reqid: int, destination: IpAddress
    ) -> KeyedState | None:
        found = [
            one for one in self._states.get(spi, ()) if one.state.reqid == reqid and one.serves(sa)
        ]
        for one in found:
            if one.state.destination == destination:
                return one
        return found[0] if len(found) == 1 else None

    def keep(self, adopted: Adopted) -> None:
        """Its states stay."""
        for one in (adopted.inbound, adopted.outbound):
            if one is not None:
                self._kept.add((one.state.destination, one.state.spi))

    def owner_of(self, key: PolicyKey) -> int:
        """The kernel's reqid of a policy, 0 if there is none."""
        found = self._policies.get(key)
        return 0 if found is None or not found.policy.reqids else found.policy.reqids[0]

    def settle(self, wanted: PolicyTable) -> tuple[int, int]:
        """Make the kernel's policies those of ``wanted`` and remove states that nobody has.

        First what is missing, then what is too much. Returns how many states and policies were
        removed. Raises OSError.
        """
        missing, left = [], dict(self._policies)
        for (direction, selector, if_id, mark), template in wanted.newest():
            key = int(direction), selector.octets, IF_ID if if_id else 0, mark
            there = left.pop(key, None)
            if there is None or there.template != template.packed():
                missing.append(encode.policy(direction, selector, template, if_id=if_id, mark=mark))
        if missing:
            self._xfrm.check("policies", missing)
        foreign = list(self._nobodys())
        requests = [
            encode.delete_policy_index(p.direction, p.index, p.if_id, p.mark)
            for p in (one.policy for one in left.values())
        ]
        requests += [encode.delete_state(one.destination, one.spi) for one in foreign]
        if requests:
            self._xfrm.check("clearing what nobody has", requests, *_GONE)
        return len(foreign), len(left)

    def _nobodys(self) -> Iterator[decode.State]:
        for states in self._states.values():
            for one in states:
                if (one.state.destination, one.state.spi) not in self._kept:
                    yield one.state


def _is_child_policy(found: KeyedPolicy) -> bool:
    policy = found.policy
    if policy.priority == POLICY_PRIORITY_CONSTANT:
        return False
    return policy.if_id == IF_ID or any(map(is_ours, policy.reqids))


def _place(child: InstalledChild, inbound: KeyedState, outbound: KeyedState | None) -> None:
    """Where the kernel has it. A plain inbound state may show a source of long ago."""
    sa = child.sa
    ports = inbound.ports
    remote = outbound.state.destination if outbound is not None else None
    if remote is None:
        remote = sa.remote.address if ports is None else inbound.state.source
    child.udp_encapsulation = ports is not None
    theirs, ours = (sa.remote.port, sa.local.port) if ports is None else ports
    child.local = Endpoint(inbound.state.destination, ours)
    child.remote = Endpoint(remote, theirs)
    child.state_remote = Endpoint(inbound.state.source, theirs)


def soft_limits(adopted: Adopted) -> list[SaExpired]:
    """The soft limit of a child SA, if it was reached while nobody listened."""
    sa = adopted.child.sa
    for one in (adopted.inbound, adopted.outbound):
        if one is None:
            continue
        used = one.state.consumed
        octets = sa.soft_bytes is not None and used.octets >= sa.soft_bytes
        packets = sa.soft_packets is not None and used.packets >= sa.soft_packets
        if octets or packets:
            return [SaExpired(sa.spi_in, hard=False)]
    return []
