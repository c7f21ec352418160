"""strongSwan's control protocol VICI, client side (described in its libvici README)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.lab.processes import LabError

CMD_REQUEST, CMD_RESPONSE, CMD_UNKNOWN = 0, 1, 2
EVENT_REGISTER, EVENT_UNREGISTER, EVENT_CONFIRM, EVENT_UNKNOWN, EVENT = 3, 4, 5, 6, 7
SECTION_START, SECTION_END, KEY_VALUE, LIST_START, LIST_ITEM, LIST_END = 1, 2, 3, 4, 5, 6
MAX_PACKET = 512 * 1024

Section = dict[str, Any]
"""Keys to text, lists of text or nested sections."""


def encode(section: Mapping[str, Any]) -> bytes:
    """A message's octets."""
    out = bytearray()
    for key, value in section.items():
        name = key.encode()
        named = bytes([len(name)]) + name
        if isinstance(value, Mapping):
            out += bytes([SECTION_START]) + named + encode(value) + bytes([SECTION_END])
        elif isinstance(value, list | tuple):
            out += bytes([LIST_START]) + named
            for item in value:
                out += bytes([LIST_ITEM]) + _text(item)
            out.append(LIST_END)
        else:
            out += bytes([KEY_VALUE]) + named + _text(value)
    return bytes(out)


def _text(value: object) -> bytes:
    octets = str(value).encode()
    return struct.pack(">H", len(octets)) + octets


def decode(data: bytes) -> Section:
    """The section that a message's octets describe; raises LabError when they do not."""
    root: Section = {}
    stack = [root]
    items: list[str] = []
    at = 0

    def named() -> str:
        nonlocal at
        size = data[at]
        at += 1 + size
        return data[at - size : at].decode(errors="replace")

    def text() -> str:
        nonlocal at
        (size,) = struct.unpack_from(">H", data, at)
        at += 2 + size
        return data[at - size : at].decode(errors="replace")

    try:
        while at < len(data):
            kind = data[at]
            at += 1
            if kind == SECTION_START:
                stack.append(stack[-1].setdefault(named(), {}))
            elif kind == SECTION_END:
                stack.pop()
            elif kind == KEY_VALUE:
                key = named()
                stack[-1][key] = text()
            elif kind == LIST_START:
                items = stack[-1].setdefault(named(), [])
            elif kind == LIST_ITEM:
                items.append(text())
            elif kind != LIST_END:
                raise LabError(f"VICI: element of unknown kind {kind}")
    except (IndexError, struct.error) as error:
        raise LabError(f"VICI: message cut short ({error})") from None
    return root


class Vici:
    """A connection to charon's VICI socket; each method is one request."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise LabError(f"VICI: cannot reach {path}: {error.strerror}") from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def request(self, name: str, arguments: Mapping[str, Any] | None = None) -> Section:
        """Send a command and return its answer; raises LabError when charon says no."""
        self._send(CMD_REQUEST, name, encode(arguments or {}))
        kind, body = self._receive()
        while kind == EVENT:
            kind, body = self._receive()
        if kind != CMD_RESPONSE:
            raise LabError(f"VICI: charon does not know {name!r}")
        answer = decode(body)
        if answer.get("success", "yes") != "yes":
            raise LabError(f"charon, {name}: {answer.get('errmsg', 'refused')}")
        return answer

    def stream(
        self, name: str, event: str, arguments: Mapping[str, Any] | None = None
    ) -> list[Section]:
        """Send a command whose answer comes as `event` messages, and return those."""
        self._send(EVENT_REGISTER, event)
        if self._receive()[0] != EVENT_CONFIRM:
            raise LabError(f"VICI: charon does not know the event {event!r}")
        self._send(CMD_REQUEST, name, encode(arguments or {}))
        found: list[Section] = []
        while True:
            kind, body = self._receive()
            if kind != EVENT:
                break
            found.append(decode(body[1 + body[0] :]))
        self._send(EVENT_UNREGISTER, event)
        while self._receive()[0] == EVENT:
            pass
        return found

    def _send(self, kind: int, name: str, body: bytes = b"") -> None:
        packet = bytes([kind, len(name)]) + name.encode() + body
        self._socket.sendall(struct.pack(">I", len(packet)) + packet)

    def _receive(self) -> tuple[int, bytes]:
        (size,) = struct.unpack(">I", self._exactly(4))
        if not 0 < size <= MAX_PACKET:
            raise LabError(f"VICI: packet of {size} octets")
        packet = self._exactly(size)
        return packet[0], packet[1:]

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self._socket.recv(size - len(parts))
            except TimeoutError:
                raise LabError("VICI: charon does not answer") from None
            if not part:
                raise LabError("VICI: charon closed the connection")
            parts += part
        return bytes(parts)
