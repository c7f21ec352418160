"""`gateway support` and `gateway capture`: files that the gateway makes, fetched piece by piece."""

import base64
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.cli import exits
from gateway.cli.output import octets, printable
from gateway.control.client import ControlClient
from gateway.control.protocol import ControlError, ErrorCode

TIMEOUT_S = 120.0
"""A bundle is made within this; the kernel of a busy host answers slowly."""
POLL_S = 0.5


def _pieces(client: ControlClient, op: str, **args: object) -> Iterator[tuple[str, bytes]]:
    """File name and octets, piece by piece."""
    while True:
        piece = client.call(op, **args)
        yield str(piece.get("file_name")), base64.b64decode(str(piece.get("content")))
        following = piece.get("next")
        if not isinstance(following, int):
            return
        args |= {"id": piece.get("id"), "offset": following}


def _save(pieces: Iterator[tuple[str, bytes]], output: Path | None) -> tuple[str, int]:
    """Write the file for its owner only; its path and size. Raises OSError."""
    size = 0
    if output is not None and str(output) == "-":
        for _, piece in pieces:
            sys.stdout.buffer.write(piece)
            size += len(piece)
        sys.stdout.buffer.flush()
        return "-", size
    descriptor: int | None = None
    path = ""
    try:
        for name, piece in pieces:
            if descriptor is None:
                # The name is the gateway's: nothing but its last part counts.
                target = output or Path(Path(name).name)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                descriptor, path = os.open(target, flags, 0o600), str(target)
            size += os.write(descriptor, piece)
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return path, size


def support(socket: Path, output: Path | None) -> int:
    """Fetch a support bundle."""
    with ControlClient(socket, timeout_s=TIMEOUT_S) as client:
        path, size = _save(_pieces(client, "support"), output)
    if path != "-":
        print(f"{path}: {octets(size)}. Secrets are removed; names and addresses are in it.")
    return exits.OK


def capture(socket: Path, device: str, output: Path | None, *, seconds: int, megabytes: int) -> int:
    """Record a device's packets, fetch the file, and have it removed."""
    with ControlClient(socket, timeout_s=TIMEOUT_S) as client:
        size = megabytes * 1024 * 1024
        started = client.call("capture-start", device=device, seconds=seconds, octets=size)
        id_ = started.get("id")
        print(
            f"recording {printable(device)} for {seconds} s, Ctrl-C ends it: "
            + ", ".join(map(printable, _list(started.get("filter")))),
            file=sys.stderr,
        )
        try:
            while _state(client, id_) == "running":
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            client.call("capture-stop", id=id_)
        try:
            path, size = _save(_pieces(client, "capture-read", id=id_), output)
        finally:
            done = client.call("capture-stop", id=id_, remove=True)
    packets, ended = printable(done.get("packets")), printable(done.get("ended_by"))
    print(f"{path}: {packets} packets, {octets(size)}, ended by {ended}", file=sys.stderr)
    return exits.OK


def _state(client: ControlClient, id_: object) -> object:
    for one in _list(client.call("captures").get("items")):
        if isinstance(one, dict) and one.get("id") == id_:
            return one.get("state")
    raise ControlError(ErrorCode.NOT_FOUND, "the capture was removed")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
