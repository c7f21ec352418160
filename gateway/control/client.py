"""A plain client of the control socket, for commands, and what both clients share."""

import itertools
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.control.protocol import (
    MAX_REPLY_OCTETS,
    ControlError,
    ErrorCode,
    Page,
    dump,
    parse_line,
    result_of,
)

TIMEOUT_S = 5.0


class ControlUnavailableError(ConnectionError):
    """The core does not answer. Its text says where it was looked for and what to do."""


@dataclass(frozen=True, slots=True)
class Service:
    """Who answers on a control socket, in the words of errors."""

    name: str
    start: str
    """How to start it."""


GATEWAY = Service("gateway", "`systemctl start gateway`, or `gateway run --config gateway.toml`")
MOBILE_NODE = Service(
    "mobile node", "`systemctl start gateway-mn`, or `gateway mn run --profile profile.toml`"
)


def unavailable(
    path: Path, error: BaseException, service: Service = GATEWAY
) -> ControlUnavailableError:
    """What to tell when the socket at ``path`` failed with ``error``."""
    name = service.name
    if isinstance(error, PermissionError):
        hint = ", or join the socket's group ([control] in the configuration)"
        return ControlUnavailableError(
            f"{path}: permission denied; be root{hint if service is GATEWAY else ''}"
        )
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return ControlUnavailableError(f"no {name} answers on {path}: start it ({service.start})")
    if isinstance(error, TimeoutError):
        return ControlUnavailableError(f"the {name} does not answer on {path} within its time")
    return ControlUnavailableError(f"the {name}'s control socket {path} failed: {error}")


class ControlClient:
    """One connection, opened on first use; usable as a context manager.

    Raises :class:`ControlUnavailableError` when the core cannot be reached and
    :class:`~gateway.control.protocol.ControlError` for what it refuses.
    """

    def __init__(
        self, path: Path | str, *, timeout_s: float = TIMEOUT_S, service: Service = GATEWAY
    ) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._service = service
        self._sock: socket.socket | None = None
        self._buffer = bytearray()
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._buffer.clear()

    def call(self, op: str, **args: object) -> dict[str, object]:
        """Ask for an operation and wait for its result; arguments that are None are left out."""
        given = {name: value for name, value in args.items() if value is not None}
        try:
            if self._sock is None:
                self._connect()
            self._send(dump({"op": op, "id": next(self._ids), "args": given}))
            line = self._read_line()
        except OSError as error:
            self.close()
            raise unavailable(self._path, error, self._service) from error
        return as_object(result_of(parse_line(line)))

    def pages(self, op: str, **args: object) -> Iterator[dict[str, object]]:
        """Every item of a list, page after page."""
        cursor: str | None = None
        while True:
            page = as_page(self.call(op, cursor=cursor, **args))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def events(self, *, debug: bool = False) -> Iterator[dict[str, object]]:
        """Events from now on, without end; each waits as long as it takes.

        Raises :class:`ControlError` when we read too slowly and were disconnected.
        """
        self.call("events", debug=debug)
        if self._sock is not None:
            self._sock.settimeout(None)
        while True:
            try:
                line = parse_line(self._read_line())
            except OSError as error:
                self.close()
                raise unavailable(self._path, error, self._service) from error
            yield event_of(line)

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._timeout_s)
        try:
            sock.connect(str(self._path))
        except BaseException:
            sock.close()
            raise
        self._sock = sock

    def _send(self, data: bytes) -> None:
        if self._sock is None:
            raise ConnectionError("not connected")
        try:
            self._sock.sendall(data)
        except BrokenPipeError:
            # Refused before it read: what it says comes with the next read.
            return

    def _read_line(self) -> bytes:
        if self._sock is None:
            raise ConnectionError("not connected")
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line
            searched = len(self._buffer)
            if searched > MAX_REPLY_OCTETS:
                raise ConnectionError(f"the answer is longer than {MAX_REPLY_OCTETS} octets")
            chunk = self._sock.recv(65_536)
            if not chunk:
                raise ConnectionError("it closed the connection")
            self._buffer += chunk


def as_object(result: object) -> dict[str, object]:
    """The result as an object; raises :class:`ControlError` when it is none."""
    if not isinstance(result, dict):
        raise ControlError(ErrorCode.INTERNAL, "the gateway's answer makes no sense")
    return result


def as_page(result: dict[str, object]) -> Page:
    """The page in a list's result."""
    items, following, total = result.get("items"), result.get("next"), result.get("total")
    if not isinstance(items, list) or not isinstance(total, int):
        raise ControlError(ErrorCode.INTERNAL, "the gateway's answer makes no sense")
    return {
        "items": items,
        "next": following if isinstance(following, str) else None,
        "total": total,
    }


def event_of(line: object) -> dict[str, object]:
    """The event in a line of a subscription; raises :class:`ControlError` at its end."""
    if isinstance(line, dict) and isinstance(line.get("event"), dict):
        event: dict[str, object] = line["event"]
        return event
    message = line.get("message") if isinstance(line, dict) else None
    raise ControlError(ErrorCode.BUSY, f"the gateway ended the subscription: {message}")
