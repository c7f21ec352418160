"""``python -m gateway.dataplane.portable.worker FOLDER WORKERS STATUS [INTERFACE]``.

Started by :mod:`gateway.dataplane.portable.launch`. Tells by the descriptor STATUS that it is
ready, or why not, and goes on in the background, in a session of its own. One process becomes
WORKERS of them, which share the memory of what they imported.
"""

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path
from typing import NoReturn

from gateway.dataplane.portable.messages import Welcome
from gateway.dataplane.portable.wire.batches import ReceiveBatch
from gateway.dataplane.portable.wire.inside import opened
from gateway.dataplane.portable.wire.sockets import marks_are_told
from gateway.dataplane.portable.wire.tun import TunLink
from gateway.dataplane.portable.worker.control import Control, listening
from gateway.dataplane.portable.worker.enclosure import enclose
from gateway.dataplane.portable.worker.handover import Handover
from gateway.dataplane.portable.worker.poller import Poller
from gateway.dataplane.portable.worker.process import Worker
from gateway.dataplane.portable.worker.traffic import Place, Traffic


def main() -> NoReturn:
    """Detach and run."""
    folder, workers, status = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    interface = sys.argv[4] if len(sys.argv) > 4 else ""
    if os.fork():
        os._exit(0)
    os.setsid()
    # Keys are in its memory, and belong in no file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        code = _run(folder, workers, status, interface)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(status, f"{error}".encode())
        code = 1
    os._exit(code)


def _run(folder: Path, workers: int, status: int, interface: str) -> int:
    receive = ReceiveBatch()
    handover = Handover(workers)
    inside = opened(interface, receive, workers) if interface else []
    listeners = [listening(folder, worker) for worker in range(workers)]
    # Closed by its death, however it comes, the first process' end of the pipe ends the others.
    alive, life = os.pipe()
    worker, children = _part(workers)
    if worker:
        os.close(life)
    poller = Poller()
    mine = inside[worker] if inside else None
    for other in range(workers):
        if other != worker:
            listeners[other].close()
            if inside:
                inside[other].close()
    place = Place(worker, workers, interface)
    traffic = Traffic(place, poller, mine, handover)
    process = Worker(traffic)
    tun = isinstance(mine, TunLink)
    marks = marks_are_told() and not tun
    welcome = Welcome(worker, workers, interface, os.getpid(), marks, tun)
    control = Control(listeners[worker], poller, welcome, process.answers, process.leave)

    def end(*_: object) -> None:
        process.ending = True

    enclose()
    signal.signal(signal.SIGTERM, end)
    for fd in children if worker == 0 else [alive]:
        poller.add(fd, end)
    os.write(status, b"+")
    os.close(status)
    process.run(poller, control)
    control.close()
    traffic.close()
    return 0


def _part(workers: int) -> tuple[int, list[int]]:
    """Become as many processes: which one this is, and what tells the first of others' ends."""
    children: list[int] = []
    for worker in range(1, workers):
        child = os.fork()
        if not child:
            return worker, []
        children.append(os.pidfd_open(child))
    return 0, children


if __name__ == "__main__":
    main()
