"""What the core and a process of the forwarder say to each other, over one Unix socket each way.

A connection begins with :data:`MAGIC` and :data:`VERSION` from both sides. On one kind of
connection the core asks and the forwarder answers, in turn; :class:`Watch` makes a connection one
that only brings events.
"""

from dataclasses import dataclass
from typing import Final

from gateway.dataplane.interface import DataplaneEvent, Refusal, Usage
from gateway.dataplane.portable.codec import fingerprint
from gateway.dataplane.portable.esp.state import SaState
from gateway.dataplane.portable.forwarder import HeldSa, RefusedTunnel
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Install:
    """:meth:`Forwarder.install`."""

    sa: ChildSa
    outbound: bool
    output_mark: int


@dataclass(frozen=True, slots=True)
class Activate:
    """:meth:`Forwarder.activate`."""

    spi_in: int


@dataclass(frozen=True, slots=True)
class Remove:
    """:meth:`Forwarder.remove`."""

    spi_in: int


@dataclass(frozen=True, slots=True)
class Move:
    """:meth:`Forwarder.move`."""

    spi_in: int
    local: Endpoint
    remote: Endpoint
    udp_encapsulation: bool


@dataclass(frozen=True, slots=True)
class Release:
    """Every process has moved this SA: packets that waited for it come out."""

    spi_in: int


@dataclass(frozen=True, slots=True)
class Trap:
    """:meth:`Forwarder.trap`."""

    sa: ChildSa


@dataclass(frozen=True, slots=True)
class Untrap:
    """:meth:`Forwarder.untrap`."""

    reqid: int


@dataclass(frozen=True, slots=True)
class SetTunnel:
    """:meth:`Forwarder.set_tunnel`."""

    link: TunnelLink


@dataclass(frozen=True, slots=True)
class RemoveTunnel:
    """:meth:`Forwarder.remove_tunnel`."""

    name: str


@dataclass(frozen=True, slots=True)
class Restore:
    """An SA goes on where an earlier forwarder was."""

    state: SaState


Operation = (
    Restore
    | Install
    | Activate
    | Remove
    | Move
    | Release
    | Trap
    | Untrap
    | SetTunnel
    | RemoveTunnel
)


@dataclass(frozen=True, slots=True)
class Commit:
    """:meth:`Forwarder.commit`; answered by :class:`Committed`."""

    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class AskHeld:
    """Answered by :class:`Held`."""


@dataclass(frozen=True, slots=True)
class AskTunnels:
    """Answered by :class:`Tunnels`."""


@dataclass(frozen=True, slots=True)
class AskUsage:
    """Answered by :class:`UsageNow`."""

    spi_in: int


@dataclass(frozen=True, slots=True)
class AskBeforeMove:
    """Answered by :class:`BeforeMove`."""

    spi_in: int


@dataclass(frozen=True, slots=True)
class AskCounters:
    """Answered by :class:`Counters`."""


@dataclass(frozen=True, slots=True)
class Watch:
    """From now on :class:`Events` come by this connection, and no other one."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The forwarder ends with this connection; answered by :class:`Done`."""


@dataclass(frozen=True, slots=True)
class End:
    """End all processes of the forwarder; answered by :class:`Done`, before they have ended."""


Request = (
    Commit | AskHeld | AskTunnels | AskUsage | AskBeforeMove | AskCounters | Watch | Bound | End
)


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a process says first, after the versions."""

    worker: int
    workers: int
    interface: str
    process: int
    marks: bool
    """Whether it learns the fwmarks of what it reads (a link pair, Linux 5.19 or later)."""
    tun: bool = False
    """Whether its interface is a TUN device."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What was refused of a :class:`Commit`."""

    refusals: tuple[Refusal, ...]
    tunnels: tuple[RefusedTunnel, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """The SAs, or halves of SAs, of this process."""

    held: tuple[HeldSa, ...]
    more: bool
    """Whether another answer follows that has more of them."""


@dataclass(frozen=True, slots=True)
class Tunnels:
    """The tunnel links of this process."""

    links: tuple[TunnelLink, ...]


@dataclass(frozen=True, slots=True)
class UsageNow:
    """What this process counted."""

    usage: Usage | None


@dataclass(frozen=True, slots=True)
class BeforeMove:
    """Packets in and time of the last one when the SA moved last."""

    before: tuple[int, float | None] | None


@dataclass(frozen=True, slots=True)
class Counters:
    """Packets by what became of them."""

    counters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Events:
    """What happened."""

    events: tuple[DataplaneEvent, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to say."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """The request made no sense here; the connection goes on."""

    reason: str


Answer = (
    Welcome | Committed | Held | Tunnels | UsageNow | BeforeMove | Counters | Events | Done | Wrong
)

MAGIC: Final = b"gwfw"
VERSION: Final = fingerprint(Request, Answer)
HELLO: Final = MAGIC + VERSION
"""What both sides begin with; a side that reads another version goes no further."""


def socket_name(worker: int) -> str:
    """Of a process' socket in the forwarder's folder."""
    return f"forwarder-{worker}.sock"
