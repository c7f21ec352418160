"""The process of names: ``python -m gateway.appliance.remote_access.names_main FD``.

::

    core --(socket pair)-- keeper -- worker

Neither has privileges, and the worker opens no files but the program's. The keeper waits, and
starts another worker when one dies; the worker says ``hello`` and is told everything anew. It ends
when the core ends its end of the socket pair.
"""

import os
import resource
import signal
import socket
import sys
import sysconfig
import time
from pathlib import Path
from typing import Final

from gateway.domain.landlock import only_read
from gateway.domain.privileges import (
    die_with_parent,
    drop_capabilities,
    no_new_privileges,
    not_dumpable,
    permitted,
)

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
HEALTHY_AFTER_S: Final = 60.0
MAX_FILES: Final = 4096


def keep(channel: int) -> int:
    """Have a worker as long as the core wants one; returns the exit status."""
    # A terminal's Ctrl-C and the manager's signals are for the core; it closes the channel.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if permitted():
        drop_capabilities(frozenset())
    no_new_privileges()
    pause_s = FIRST_PAUSE_S
    while True:
        started = time.monotonic()
        pid = os.fork()
        if not pid:
            os._exit(_worker(channel))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            return 0
        if time.monotonic() - started >= HEALTHY_AFTER_S:
            pause_s = FIRST_PAUSE_S
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _worker(channel: int) -> int:
    import asyncio  # noqa: PLC0415 - the keeper has no use for it
    import traceback  # noqa: PLC0415

    try:
        die_with_parent()
        not_dumpable()
        from gateway.names.worker import work  # noqa: PLC0415 - costs dnspython

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(MAX_FILES, hard), hard))
        only_read(_program_folders())
        asyncio.run(work(socket.socket(fileno=os.dup(channel))))
    except BaseException:  # noqa: BLE001 - whatever it is, the keeper starts another worker
        traceback.print_exc(limit=5)
        return 1
    return 0


def _program_folders() -> set[Path]:
    """Where modules are found that are loaded later, such as those of seldom record types."""
    import dns  # noqa: PLC0415

    paths = sysconfig.get_paths()
    found = {paths["stdlib"], paths["platstdlib"], str(Path(dns.__file__).parents[1])}
    return {Path(one) for one in found} | {Path(__file__).parents[2]}


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1])))
