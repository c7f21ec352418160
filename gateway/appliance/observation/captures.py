"""Records the packets of one device, for a bounded time and size.

A packet socket sees all interfaces: what comes and goes outside, and what is inside the tunnels.
Files are ours alone and go after an hour.
"""

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from gateway.appliance.observation import pcapng
from gateway.appliance.observation.device import Device
from gateway.appliance.observation.packet_filter import DeviceFilter, filter_of, program
from gateway.appliance.observation.views import time_text
from gateway.control import observation_views as shapes
from gateway.control.observation_operations import CHUNK_OCTETS
from gateway.control.protocol import ControlError, ErrorCode, Page, Request
from gateway.dataplane.kernel.packet_socket import attach_filter
from gateway.dataplane.portable.wire.names import FAR_END

if TYPE_CHECKING:
    from gateway.appliance.administration.side import Surroundings

MAX_RUNNING: Final = 4
MAX_KEPT: Final = 8
KEPT_S: Final = 3600.0
PACKETS_PER_WAKE_UP: Final = 32
TICK_S: Final = 0.5
"""Between two looks at where the device is, and two writes."""
BUFFER_OCTETS: Final = 4 * 1024 * 1024
MAX_PACKET: Final = 65_535
MEDIA_TYPE: Final = "application/x-pcapng"
_ETH_P_ALL: Final = 3
_SO_TIMESTAMPNS: Final = 35
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_OUTGOING: Final = 4
_TIME = struct.Struct("=qq")


class Source(Protocol):
    """Where packets come from."""

    def fileno(self) -> int:
        """For the event loop."""

    def look_for(self, wanted: DeviceFilter) -> None:
        """Take packets of these addresses only."""

    def read(self) -> "tuple[bytes, str, int, int] | None":
        """A packet, its interface, its time in ns, and its direction; None when none waits."""

    def dropped(self) -> int:
        """How many the kernel had no room for, since the last call."""

    def close(self) -> None:
        """Take no more."""


class PacketSource:
    """A packet socket on every interface. Raises OSError."""

    def __init__(self, wanted: DeviceFilter) -> None:
        # It hears everything until its filter is there: what came till then is judged as all is.
        self._socket = socket.socket(
            socket.AF_PACKET,
            socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.htons(_ETH_P_ALL),
        )
        try:
            self.look_for(wanted)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def look_for(self, wanted: DeviceFilter) -> None:
        """See :class:`Source`."""
        attach_filter(self._socket, program(wanted.addresses))

    def read(self) -> "tuple[bytes, str, int, int] | None":
        """See :class:`Source`."""
        while True:
            try:
                octets, ancillary, _, sender = self._socket.recvmsg(MAX_PACKET, 64)
            except (BlockingIOError, InterruptedError):
                return None
            # The forwarder's ends of link pairs carry what ours do.
            if not sender[0].endswith(FAR_END):
                break
        time_ns = 0
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) >= _TIME.size:
                seconds, nanoseconds = _TIME.unpack_from(data)
                time_ns = seconds * 1_000_000_000 + nanoseconds
        outgoing = sender[2] == _OUTGOING
        return octets, sender[0], time_ns, pcapng.OUTBOUND if outgoing else pcapng.INBOUND

    def dropped(self) -> int:
        """See :class:`Source`."""
        _, drops = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(drops)

    def close(self) -> None:
        """See :class:`Source`."""
        self._socket.close()


class Capture:
    """One of them."""

    def __init__(  # noqa: PLR0917 - one fact each
        self,
        id_: str,
        device: Device,
        source: Source,
        file: Path,
        seconds: int,
        max_octets: int,
        wall_s: float,
    ) -> None:
        self.id = id_
        self.device = device
        self.name = device.name
        self.source: Source | None = source
        self.file = file
        self.seconds = seconds
        self.max_octets = max_octets
        self.started_s = wall_s
        self.ends_s = wall_s + seconds
        self.ended_by: str | None = None
        self.octets = 0
        """Recorded, those that wait to be written included."""
        self.written = 0
        self.packets = 0
        self.dropped = 0
        self.filter = filter_of(device)
        self.task: asyncio.Task[None] | None = None
        self._interfaces: dict[str, int] = {}
        self._waiting = bytearray()
        self._writing = asyncio.Lock()
        self._put(pcapng.section_header(f"gateway: device {device.name} ({device.identity})"))

    def _put(self, block: bytes) -> bool:
        """Append a block if there is room for it."""
        if self.octets + len(block) > self.max_octets:
            return False
        self._waiting += block
        self.octets += len(block)
        return True

    def take(self) -> bool:
        """Read what waits, a little of it; False when the file is full."""
        source = self.source
        for _ in range(PACKETS_PER_WAKE_UP if source is not None else 0):
            found = source.read() if source is not None else None
            if found is None:
                return True
            octets, interface, time_ns, direction = found
            if self.filter.matches(octets) and not self._packet(
                octets, interface, time_ns, direction
            ):
                return False
        return True

    def _packet(self, octets: bytes, interface: str, time_ns: int, direction: int) -> bool:
        number = self._interfaces.get(interface)
        if number is None:
            number = len(self._interfaces)
            if not self._put(pcapng.interface_block(interface)):
                return False
            self._interfaces[interface] = number
        block = pcapng.packet_block(number, time_ns, octets, len(octets), direction)
        if not self._put(block):
            return False
        self.packets += 1
        return True

    def follow(self) -> None:
        """The device may be somewhere else by now."""
        wanted = filter_of(self.device)
        if wanted != self.filter and self.source is not None and wanted.addresses:
            # Sessions that have just ended still have packets on their way.
            self.filter = wanted
            self.source.look_for(wanted)

    async def write(self) -> None:
        """Write what waits, in a thread. Raises OSError."""
        async with self._writing:
            octets = bytes(self._waiting)
            self._waiting.clear()
            if octets:
                await asyncio.to_thread(_append, self.file, octets)
                self.written += len(octets)

    def view(self) -> shapes.Capture:
        """For clients."""
        return {
            "id": self.id,
            "device": self.name,
            "state": "running" if self.source is not None else "done",
            "ended_by": self.ended_by,
            "started_at": str(time_text(self.started_s)),
            "ends_at": str(time_text(self.ends_s)),
            "seconds": self.seconds,
            "max_octets": self.max_octets,
            "octets": self.octets,
            "packets": self.packets,
            "dropped": self.dropped,
            "filter": self.filter.words(),
            "file_name": f"{self.name.lstrip('~')}-{self.id}.pcapng",
        }


class Captures:
    """All of them."""

    def __init__(
        self,
        find: Callable[[str, str], Device],
        around: "Surroundings",
        *,
        open_source: Callable[[DeviceFilter], Source] = PacketSource,
    ) -> None:
        """``find`` gives the device of a name, or raises ControlError naming a field."""
        self._find = find
        self._around = around
        self._open_source = open_source
        self._found: dict[str, Capture] = {}
        self._folder = around.config().store.state_dir / "captures"
        self._ready = False
        self._starting = asyncio.Lock()
        self._handlers: dict[str, Callable[[Request], Awaitable[object]]] = {
            "captures": self._list,
            "capture-start": self._start,
            "capture-stop": self._stop,
            "capture-read": self._read,
        }

    @property
    def running(self) -> int:
        """How many run."""
        return sum(one.source is not None for one in self._found.values())

    async def handle(self, request: Request) -> object:
        """Carry an operation out; raises ControlError."""
        return await self._handlers[request.operation.name](request)

    async def _list(self, _request: Request) -> object:
        items = [dict(one.view()) for one in reversed(self._found.values())]
        page: Page = {"items": items, "next": None, "total": len(items)}
        return page

    async def _start(self, request: Request) -> object:
        async with self._starting:  # of several at once each counts the others
            return await self._begin(request)

    async def _begin(self, request: Request) -> object:
        device = self._find(str(request.text("device")), "device")
        if self.running >= MAX_RUNNING:
            why = f"{MAX_RUNNING} captures run already; stop one: capture-stop"
            raise ControlError(ErrorCode.BUSY, why)
        wanted = filter_of(device)
        if not wanted.addresses:
            why = f"{device.name} is not connected: nothing says which packets are its own"
            raise ControlError(ErrorCode.REFUSED, why, "device")
        id_ = self._around.random(8).hex()
        self._make_room()
        try:
            await asyncio.to_thread(self._prepare)
            file = self._folder / f"{id_}.pcapng"
            source = self._open_source(wanted)
        except OSError as error:
            why = f"packets cannot be recorded: {error.strerror or error}"
            raise ControlError(ErrorCode.REFUSED, why) from error
        capture = Capture(
            id_,
            device,
            source,
            file,
            request.number("seconds"),
            request.number("octets"),
            self._around.wall_clock(),
        )
        self._found[id_] = capture
        loop = asyncio.get_running_loop()
        loop.add_reader(source.fileno(), self._readable, capture)
        capture.task = loop.create_task(self._run(capture))
        return capture.view()

    def _make_room(self) -> None:
        """The oldest go where there are too many."""
        kept = [one for one in self._found.values() if one.source is None]
        for old in kept[: max(0, len(self._found) + 1 - MAX_KEPT)]:
            if old.task is not None:
                old.task.cancel()
            self._remove(old)

    def _prepare(self) -> None:
        """A folder that nobody else looks into, with nothing of an earlier process."""
        if not self._ready:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._folder)
            self._folder.mkdir(mode=0o700, parents=True)
            self._ready = True

    def _readable(self, capture: Capture) -> None:
        try:
            room = capture.take()
        except OSError as error:
            self._end(capture, f"fault: {error.strerror or error}")
            return
        if not room:
            self._end(capture, "size")

    async def _run(self, capture: Capture) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + capture.seconds
        try:
            while capture.source is not None and loop.time() < end:
                await asyncio.sleep(min(TICK_S, max(0.0, end - loop.time())))
                if capture.source is not None:
                    capture.dropped += capture.source.dropped()
                    capture.follow()
                await capture.write()
            self._end(capture, "time")
            await capture.write()
        except OSError as error:
            self._end(capture, f"fault: {error.strerror or error}")
        capture.ends_s = self._around.wall_clock() + KEPT_S
        await asyncio.sleep(KEPT_S)
        self._remove(capture)

    def _end(self, capture: Capture, why: str) -> None:
        source, capture.source = capture.source, None
        if source is not None:
            asyncio.get_running_loop().remove_reader(source.fileno())
            source.close()
            capture.ended_by = why

    def _remove(self, capture: Capture) -> None:
        self._found.pop(capture.id, None)
        with contextlib.suppress(OSError):
            capture.file.unlink()

    def _known(self, request: Request) -> Capture:
        found = self._found.get(str(request.text("id")))
        if found is None:
            why = "there is no such capture: it was removed, or the gateway started anew"
            raise ControlError(ErrorCode.NOT_FOUND, why, "id")
        return found

    async def _stop(self, request: Request) -> object:
        capture = self._known(request)
        self._end(capture, "stopped")
        with contextlib.suppress(OSError):
            await capture.write()
        if request.flag("remove"):
            if capture.task is not None:
                capture.task.cancel()
            await asyncio.to_thread(self._remove, capture)
        return capture.view()

    async def _read(self, request: Request) -> object:
        capture, offset = self._known(request), request.number("offset")
        try:
            octets = await asyncio.to_thread(_piece, capture.file, offset)
        except OSError as error:
            why = f"the capture cannot be read: {error.strerror or error}"
            raise ControlError(ErrorCode.REFUSED, why) from error
        end = offset + len(octets)
        more = end < capture.written
        piece: shapes.Piece = {
            "id": capture.id,
            "file_name": capture.view()["file_name"],
            "media_type": MEDIA_TYPE,
            "offset": offset,
            "octets": capture.written,
            "content": base64.b64encode(octets).decode(),
            "next": end if more else None,
        }
        return piece

    async def stop(self) -> None:
        """End all, and remove what they recorded."""
        for capture in list(self._found.values()):
            self._end(capture, "the gateway stops")
            if capture.task is not None:
                capture.task.cancel()
            self._remove(capture)
        if self._ready:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


def _append(file: Path, octets: bytes) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(file, flags, 0o600)
    try:
        view = memoryview(octets)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def _piece(file: Path, offset: int) -> bytes:
    if not file.exists():
        return b""
    with file.open("rb") as opened:
        opened.seek(offset)
        return opened.read(CHUNK_OCTETS)
