"""``gateway stop``: the gateway says goodbye to its peers and leaves nothing behind.

As ExecStop of a service it runs whenever the unit is stopped, also when it is started again at
once. ``systemctl list-jobs`` tells the two apart: a job "restart", or one that starts our unit
while it stops, means that the next process takes the sessions over, and nothing is done.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway.cli import exits
from gateway.cli.output import console
from gateway.control.client import ControlClient, ControlUnavailableError
from gateway.control.protocol import ControlError

CGROUP: Final = Path("/proc/self/cgroup")
UNIT: Final = "gateway.service"
ENDS_S: Final = 12.0
"""How long the gateway may take to end."""
POLL_S: Final = 0.05
ASK_S: Final = 5.0
_GOES_ON: Final = frozenset(("restart", "start", "try-restart", "reload-or-restart"))

Run = Callable[[Sequence[str]], str]


def unit_of(cgroup: str) -> str:
    """The unit that a process of this ``/proc/PID/cgroup`` belongs to; ours by default."""
    for line in cgroup.splitlines():
        for part in reversed(line.rpartition(":")[2].split("/")):
            if part.endswith(".service"):
                return part
    return UNIT


def restarting(jobs: str, unit: str) -> bool:
    """Whether ``systemctl list-jobs --plain --no-legend`` has our unit started again.

    Columns are the job, its unit, its type and its state.
    """
    fields = (line.split() for line in jobs.splitlines())
    return any(len(one) >= 3 and one[1] == unit and one[2] in _GOES_ON for one in fields)


def _systemctl(arguments: Sequence[str]) -> str:
    done = subprocess.run(
        ["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=ASK_S
    )
    return done.stdout


def is_restarting(run: Run = _systemctl, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the service manager will start our unit again at once.

    Where it cannot be asked, it is not: a stop that is none costs every device a new login, but a
    stop that leaves tunnels behind would be worse.
    """
    if "INVOCATION_ID" not in environment:
        return False
    try:
        unit = unit_of(CGROUP.read_text("utf-8"))
        return restarting(run(["list-jobs", "--plain", "--no-legend"]), unit)
    except (OSError, subprocess.SubprocessError):
        return False


def stop(socket: Path, *, unless_restarting: bool = False) -> int:
    """Have the gateway end, and wait for that."""
    if unless_restarting and is_restarting():
        console().print("the service is being restarted: sessions go on")
        return exits.OK
    with ControlClient(socket) as client:
        client.call("stop")
    end = time.monotonic() + ENDS_S
    while _answers(socket):
        if time.monotonic() >= end:
            console().print(f"the gateway has not ended within {ENDS_S:g} s")
            return exits.FAILED
        time.sleep(POLL_S)
    console().print("the gateway has ended")
    return exits.OK


def _answers(socket: Path) -> bool:
    try:
        with ControlClient(socket) as client:
            client.call("health")
    except ControlError:
        return True  # it answers
    except ControlUnavailableError:
        return False
    return True
