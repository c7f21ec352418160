"""Keeps the way through a NAT open for tunnels in UDP (RFC 3519 section 4.9).

A NAT between us and a home agent forgets the port that tunnelled packets come back to unless
something leaves through it now and then. All visitors of one home agent share that port, so one
echo request a home agent is enough; the answer is not waited for.
"""

import struct

from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.mobility import MIP_PORT
from gateway.mip_agents.codec.tunnel_data import TunnelData
from gateway.mip_agents.foreign_agent.core import Core, TimerKind
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry
from gateway.mip_agents.outputs import Transmit

DEFAULT_KEEPALIVE_S = 110
"""When the home agent names no interval (RFC 3519 section 3.2)."""
SHORTEST_KEEPALIVE_S = 5
"""A home agent cannot make us send more often."""
_IP_HEADER = struct.Struct("!BBHHHBBHII")
_ECHO = struct.Struct("!BBHHH")
_ECHO_REQUEST = 8
_ICMP = 1
_IP_IN_IP = 4


def start(core: Core, entry: VisitorEntry, now: float) -> None:
    """Count a visitor among those that need the way open."""
    if not entry.keepalive_s:
        return
    far = Endpoint(entry.home_agent, entry.tunnel.udp_port)
    core.keepalives.setdefault(far, {})[entry.key] = _interval_s(entry)
    timer = (TimerKind.KEEPALIVE, far)
    if timer not in core.timers:
        core.timers.set(timer, now + _interval_s(entry))


def stop(core: Core, entry: VisitorEntry) -> None:
    """One visitor needs it no more."""
    far = Endpoint(entry.home_agent, entry.tunnel.udp_port)
    users = core.keepalives.get(far)
    if users is None or users.pop(entry.key, None) is None or users:
        return
    del core.keepalives[far]
    core.timers.cancel((TimerKind.KEEPALIVE, far))


def send(core: Core, far: Endpoint, now: float) -> None:
    """Send one, and think of the next."""
    users = core.keepalives.get(far)
    if users is None:
        return
    near = core.policy.care_of_address
    echo = _ECHO.pack(_ECHO_REQUEST, 0, 0, MIP_PORT, 0)
    echo = _ECHO.pack(_ECHO_REQUEST, 0, internet_checksum(echo), MIP_PORT, 0)
    size = _IP_HEADER.size + len(echo)

    def header(checksum: int) -> bytes:
        return _IP_HEADER.pack(
            0x45, 0, size, 0, 0, 64, _ICMP, checksum, int(near), int(far.address)
        )

    packet = header(internet_checksum(header(0))) + echo
    core.counters["keepalives"] += 1
    core.outputs.append(
        Transmit(TunnelData(_IP_IN_IP, packet).serialize(), Path(Endpoint(near, MIP_PORT), far))
    )
    core.timers.set((TimerKind.KEEPALIVE, far), now + min(users.values()))


def _interval_s(entry: VisitorEntry) -> int:
    return max(entry.keepalive_s, SHORTEST_KEEPALIVE_S)
