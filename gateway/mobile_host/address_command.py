"""Runs the profile's ``dhcp_command`` where a link has carrier and no address.

DHCP itself is the system's business; where nobody does it, as on a small device, the user names a
program, such as ``udhcpc -i {interface} -n -q``.
"""

import asyncio
import ctypes
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gateway.domain.event import Event, Severity
from gateway.domain.privileges import keep_across_exec
from gateway.mobile_node.inputs import LinkState

LONGEST_S: Final = 30.0
PAUSE_S: Final = 10.0
"""Between two runs on a link whose address still is not there."""
GRACE_S: Final = 2.0
MAX_RUNNING: Final = 16
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class AddressCommand:
    """At most one run for each link at a time."""

    def __init__(
        self,
        argv: Sequence[str],
        emit: Callable[[Event], None],
        *,
        longest_s: float = LONGEST_S,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._argv = tuple(argv)
        self._emit = emit
        self._longest_s, self._pause_s = longest_s, pause_s
        self._needy: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.counters = dict.fromkeys(("runs", "failures"), 0)

    def use(self, argv: Sequence[str]) -> None:
        """Another command from the next run on."""
        self._argv = tuple(argv)

    def links(self, links: Iterable[LinkState]) -> None:
        """These are the links now; runs for those that need nothing (any more) end."""
        if not self._argv and not self._tasks:
            return
        self._needy = {
            one.interface for one in links if one.carrier and one.address is None and self._argv
        }
        for name in [name for name in self._tasks if name not in self._needy]:
            self._end(self._tasks.pop(name))
        for name in sorted(self._needy - self._tasks.keys())[:MAX_RUNNING]:
            self._tasks[name] = asyncio.get_running_loop().create_task(self._serve(name))

    def _end(self, task: asyncio.Task[None]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def _serve(self, interface: str) -> None:
        while interface in self._needy:
            await self._once(interface)
            await asyncio.sleep(self._pause_s)

    async def _once(self, interface: str) -> None:
        argv = [word.replace("{interface}", interface) for word in self._argv]
        self.counters["runs"] += 1
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                preexec_fn=_as_child,
            )
        except (OSError, ValueError) as error:
            self._failed(interface, f"{argv[0]}: {error}")
            return
        try:
            async with asyncio.timeout(self._longest_s):
                status = await process.wait()
        except TimeoutError:
            await _end(process)
            self._failed(interface, f"{argv[0]} still ran after {self._longest_s:g} s")
            return
        except asyncio.CancelledError:
            await asyncio.shield(_end(process))
            raise
        if status:
            self._failed(interface, f"{argv[0]} ended with status {status}")

    def _failed(self, interface: str, why: str) -> None:
        self.counters["failures"] += 1
        text = f"{interface} has no address: {why}"
        fields: dict[str, object] = {"interface": interface, "reason": why}
        self._emit(Event("dhcp_command_failed", text, Severity.WARNING, fields))

    async def stop(self) -> None:
        """End every run."""
        self._needy.clear()
        for name in list(self._tasks):
            self._end(self._tasks.pop(name))
        await asyncio.gather(*self._ending, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    try:
        process.terminate()
        async with asyncio.timeout(GRACE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except ProcessLookupError:
        pass


def _as_child() -> None:
    """In the child: it keeps what a DHCP client needs, and does not outlive us."""
    keep_across_exec()
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
