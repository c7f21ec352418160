"""A child SA as kernel messages: its two states, and how they move to new outer addresses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.dataplane.kernel import selectors
from gateway.dataplane.kernel.xfrm import decode, encode
from gateway.dataplane.kernel.xfrm.constants import (
    MODE_TRANSPORT,
    MODE_TUNNEL,
    REQID_FIRST,
    REQID_SHARED,
    REQID_WAITING,
)
from gateway.dataplane.kernel.xfrm.encode import Selector
from gateway.dataplane.packet import marks
from gateway.domain.child_sa import ChildSa, IpNetwork, Mode
from gateway.domain.endpoint import Endpoint, IpAddress

NO_ESN_SOFT_PACKETS: Final = 0xF0000000
NO_ESN_HARD_PACKETS: Final = 0xFFFFFFF0
"""Without ESN an SA ends before its 32-bit sequence number would wrap (RFC 4303 section 3.3.3)."""

SENT_MARGIN: Final = 16
"""Sequence numbers skipped when an outbound SA moves: more than it may send within the batch."""


def kernel_reqid(reqid: int) -> int:
    """``reqid`` within the range that marks this gateway's states; none of the special ones."""
    return REQID_FIRST + (reqid - 1) % 0xFFFFFE + 1


@dataclass(slots=True)
class InstalledChild:
    """One child SA in the kernel."""

    sa: ChildSa
    selectors: list[Selector]
    """Outbound direction."""
    output_mark: int = 0
    """Fwmark of what the outbound state sends; 0 leaves that of the inner packet."""
    outbound: bool = False
    waiting_at: IpAddress | None = None
    """Where the outbound state is that is not used yet: by its destination."""
    local: Endpoint = field(init=False)
    remote: Endpoint = field(init=False)
    udp_encapsulation: bool = field(init=False)
    state_remote: Endpoint = field(init=False)
    """The source that the inbound state shows; the kernel does not compare it for plain ESP."""
    routed: tuple[IpNetwork, ...] = ()
    """Networks that have a route because of this SA."""
    replay: encode.ReplayState = field(default_factory=encode.ReplayState)
    """Of the inbound state, when it was last read."""
    keys_known: bool = True
    """False for an SA of an earlier process in a kernel that shows no keys: it cannot move."""
    last_packets_in: int = 0
    last_in_at: float | None = None
    before_move: tuple[int, float | None] | None = None
    """Packets that had come when it moved last, and when the last one came (wall clock)."""

    def __post_init__(self) -> None:
        self.local = self.sa.local
        self.remote = self.state_remote = self.sa.remote
        self.udp_encapsulation = self.sa.udp_encapsulation

    @classmethod
    def of(cls, sa: ChildSa, output_mark: int = 0) -> "InstalledChild":
        """Raises :class:`SelectorRefusedError`."""
        return cls(sa, selectors.outbound(sa.local_ts, sa.remote_ts), output_mark)

    @property
    def tunnel(self) -> bool:
        """Whether packets pass the xfrm interface; transport mode does not."""
        return self.sa.mode is Mode.TUNNEL

    @property
    def reqid(self) -> int:
        """As the kernel sees it."""
        return kernel_reqid(self.sa.reqid)

    @property
    def replay_window(self) -> int:
        """In packets; never 0, or the kernel would not keep count."""
        return max(self.sa.replay_window, 32)

    @property
    def own_selector(self) -> bool:
        """Whether the inbound state's own selector protects, so that it needs no policy."""
        return self.tunnel and len(self.selectors) == 1

    @property
    def watched(self) -> bool:
        """Whether plain ESP from an unknown source goes through the evidence check."""
        return self.sa.follow_endpoint and self.keys_known and not self.udp_encapsulation

    @property
    def nft_known(self) -> tuple[str, bytes]:
        """From where it comes: the set of its IP version, and the element."""
        remote = self.remote.address
        name = "known_esp" if remote.version == 4 else "known_esp6"
        return name, remote.packed + self.sa.spi_in.to_bytes(4, "big")

    @property
    def nft_ours(self) -> tuple[str, bytes]:
        """That it is one that may move: the set of its IP version, and the element."""
        local = self.local.address
        name = "our_spi" if local.version == 4 else "our_spi6"
        return name, local.packed + self.sa.spi_in.to_bytes(4, "big")

    @property
    def home_addresses(self) -> list[bytes]:
        """See :func:`selectors.home_addresses`."""
        return selectors.home_addresses(self.sa)

    def networks_beyond(self, pools: Sequence[IpNetwork]) -> list[IpNetwork]:
        """Networks behind the peer that no pool holds."""
        return selectors.networks_beyond(self.selectors, pools)

    def _limits(self) -> bytes:
        sa = self.sa
        soft, hard = sa.soft_packets, sa.hard_packets
        if not sa.suite.esn:
            soft = min(NO_ESN_SOFT_PACKETS, soft or NO_ESN_SOFT_PACKETS)
            hard = min(NO_ESN_HARD_PACKETS, hard or NO_ESN_HARD_PACKETS)
        return encode.limits(sa.soft_bytes, sa.hard_bytes, soft, hard)

    def _mode(self) -> int:
        return MODE_TUNNEL if self.tunnel else MODE_TRANSPORT

    @property
    def mark_in(self) -> int:
        """Fwmark of what comes out of the inbound state; 0 leaves that of the outer packet."""
        return marks.FROM_DEVICE | self.sa.zone if self.sa.zone else 0

    @property
    def mark_out(self) -> int:
        """Fwmark of what the outbound state is for; 0 is any."""
        return marks.TO_DEVICE | self.sa.zone if self.sa.zone else 0

    def inbound_state(self, before: decode.State | None = None, *, update: bool = False) -> bytes:
        """NEWSA of the inbound half, with what ``before`` had."""
        sa = self.sa
        return encode.state(
            source=self.remote,
            destination=self.local,
            spi=sa.spi_in,
            reqid=REQID_SHARED if self.own_selector else self.reqid,
            suite=sa.suite,
            keys=sa.keys_in,
            udp_encapsulation=self.udp_encapsulation,
            mode=self._mode(),
            selector=self.selectors[0].reversed() if self.own_selector else None,
            replay_window=self.replay_window,
            lifetime=self._limits(),
            if_id=self.tunnel,
            replay=before.replay if before else None,
            consumed=before.consumed if before else None,
            update=update,
            output_mark=self.mark_in or None,
        )

    def waiting_state(self) -> bytes:
        """NEWSA of the outbound half before its time: so the kernel has its keys."""
        return self.outbound_state(reqid=REQID_WAITING)

    def outbound_state(
        self, before: decode.State | None = None, *, update: bool = False, reqid: int = 0
    ) -> bytes:
        """NEWSA of the outbound half, with what ``before`` had and :data:`SENT_MARGIN`."""
        sa = self.sa
        replay = None
        if before is not None:
            replay = encode.ReplayState(sent=before.replay.sent + (0 if update else SENT_MARGIN))
        return encode.state(
            source=self.local,
            destination=self.remote,
            spi=sa.spi_out,
            reqid=reqid or self.reqid,
            suite=sa.suite,
            keys=sa.keys_out,
            udp_encapsulation=self.udp_encapsulation,
            mode=self._mode(),
            lifetime=self._limits(),
            if_id=self.tunnel,
            replay=replay,
            consumed=before.consumed if before else None,
            update=update,
            output_mark=self.output_mark if self.output_mark or self.sa.zone else None,
        )

    def delete_inbound(self) -> bytes:
        """DELSA of the inbound half."""
        return encode.delete_state(self.local.address, self.sa.spi_in)

    def delete_outbound(self) -> bytes:
        """DELSA of the outbound half."""
        return encode.delete_state(self.remote.address, self.sa.spi_out)

    def get_inbound(self) -> bytes:
        """GETSA of the inbound half."""
        return encode.get_state(self.local.address, self.sa.spi_in)

    def get_outbound(self) -> bytes:
        """GETSA of the outbound half."""
        return encode.get_state(self.remote.address, self.sa.spi_out)
