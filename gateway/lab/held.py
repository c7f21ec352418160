"""The SAs of a host as `ip xfrm` writes them, whoever has them: the kernel, or a forwarder.

Tests ask what a gateway left behind, and must not have to know who carried its packets.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import TypeVar

from gateway.dataplane.kernel.netlink import NETLINK_XFRM, NetlinkSocket
from gateway.dataplane.kernel.xfrm import decode
from gateway.dataplane.kernel.xfrm.constants import IPPROTO_ESP, XfrmMessage
from gateway.dataplane.portable.codec import FRAME, decoded, framed
from gateway.dataplane.portable.forwarder import HeldSa
from gateway.dataplane.portable.messages import (
    HELLO,
    Answer,
    AskHeld,
    Done,
    End,
    Held,
    Request,
)
from gateway.domain.child_sa import ChildSa, Mode, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.lab.kernel import has_esp
from gateway.lab.processes import LabError

Answered = TypeVar("Answered")
SOCKETS = "forwarder-*.sock"
PATIENCE_S = 5.0


def held_by(folder: Path) -> list[HeldSa]:
    """What the forwarders somewhere below a folder have; those that have ended have nothing."""
    found: dict[int, HeldSa] = {}
    for path in sorted(folder.rglob(SOCKETS)):
        for one in _asked(path):
            before = found.get(one.sa.spi_in)
            if before is None or one.outbound > before.outbound:
                found[one.sa.spi_in] = one
    return list(found.values())


def end_forwarders(folder: Path) -> None:
    """End those below a folder, whose SAs are gone then, as a kernel's by a power cut."""
    for path in sorted(folder.rglob(SOCKETS)):
        with contextlib.suppress(ConnectionError, FileNotFoundError):
            _ask(path, End(), Done)


def kernel_spis() -> set[int]:
    """The SPIs of ESP in the network namespace of the calling thread.

    Asked by netlink: it is asked hundreds of times, and a process costs more than the answer.
    """
    if not has_esp():
        return set()
    with contextlib.closing(NetlinkSocket(NETLINK_XFRM)) as xfrm:
        found = [decode.state(body) for _, body in xfrm.dump(XfrmMessage.GETSA, b"")]
    return {one.spi for one in found if one and one.protocol == IPPROTO_ESP and one.spi}


def spis(held: Iterable[HeldSa]) -> set[int]:
    """Of both directions."""
    return {
        spi
        for one in held
        for spi in ((one.sa.spi_in, one.sa.spi_out) if one.outbound else (one.sa.spi_in,))
    }


def states(held: Iterable[HeldSa]) -> str:
    """Like `ip xfrm state`: two paragraphs each, inbound first, without keys."""
    return "".join(_state(one.sa, way) for one in held for way in _ways(one))


def policies(held: Iterable[HeldSa]) -> str:
    """Like `ip xfrm policy`: out, in and forward of each pair of selectors."""
    return "".join(line for one in held for line in _policies(one))


def _asked(path: Path) -> tuple[HeldSa, ...]:
    try:
        return _ask(path, AskHeld(), Held).held
    except (ConnectionError, FileNotFoundError):
        return ()


def _ask(path: Path, request: Request, kind: type[Answered]) -> Answered:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(PATIENCE_S)
            asked.connect(str(path))
            asked.sendall(HELLO + framed(Request, request))
            if _read(asked, len(HELLO)) != HELLO:
                raise LabError(f"{path}: the forwarder is of another version")
            while not isinstance(answer := _answer(asked), kind):
                pass  # its welcome
            return answer
    except TimeoutError:
        raise LabError(f"{path}: the forwarder does not answer") from None


def _answer(asked: socket.socket) -> object:
    (octets,) = FRAME.unpack(_read(asked, FRAME.size))
    return decoded(Answer, _read(asked, octets))


def _read(asked: socket.socket, octets: int) -> bytes:
    got = b""
    while len(got) < octets:
        more = asked.recv(octets - len(got))
        if not more:
            raise ConnectionResetError("the forwarder ended")
        got += more
    return got


def _ways(one: HeldSa) -> tuple[str, ...]:
    return ("in", "out") if one.outbound else ("in",)


def _state(sa: ChildSa, way: str) -> str:
    source, destination, spi = (
        (sa.remote, sa.local, sa.spi_in) if way == "in" else (sa.local, sa.remote, sa.spi_out)
    )
    mode = "transport" if sa.mode is Mode.TRANSPORT else "tunnel"
    lines = [
        f"src {source.address} dst {destination.address}",
        f"\tproto esp spi 0x{spi:08x} reqid {sa.reqid} mode {mode}",
        f"\treplay-window 0 flag af-unspec{' esn' if sa.suite.esn else ''}",
    ]
    if sa.udp_encapsulation:
        lines.append(f"\tencap type espinudp {_ports(source, destination)} addr 0.0.0.0")
    return "\n".join(lines) + "\n"


def _ports(source: Endpoint, destination: Endpoint) -> str:
    return f"sport {source.port} dport {destination.port}"


def _policies(one: HeldSa) -> Iterator[str]:
    sa = one.sa
    for ours, theirs in product(sa.local_ts, sa.remote_ts):
        for way in ("out", "fwd", "in") if one.outbound else ("fwd", "in"):
            pair = (ours, theirs) if way == "out" else (theirs, ours)
            outer = (sa.local, sa.remote) if way == "out" else (sa.remote, sa.local)
            yield f"src {_network(pair[0])} dst {_network(pair[1])}\n\tdir {way} priority 0\n"
            yield f"\ttmpl src {outer[0].address} dst {outer[1].address}\n"
            yield f"\t\tproto esp reqid {sa.reqid} mode tunnel\n"


def _network(selector: TrafficSelector) -> str:
    return str(selector.networks()[0])
