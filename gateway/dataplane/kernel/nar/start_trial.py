"""Whether this kernel can do what NAR servers need, found out by starting it all."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.nar.below import Below, KernelBelow
from gateway.dataplane.kernel.nar.dataplane import KernelNar
from gateway.dataplane.kernel.scratch import TrialFailedError, in_scratch_namespace
from gateway.dataplane.nar import NarSettings


@dataclass(frozen=True, slots=True)
class NarTrial:
    """What became of it; both None: all is well."""

    problem: str | None
    """Why nothing can be delivered at all."""
    l2tp: str | None
    """Why nothing can be delivered by L2TP."""


def try_start(settings: NarSettings, below: Callable[[], Below] = KernelBelow) -> NarTrial:
    """Start and stop the dataplane in a namespace of its own, on what ``below`` makes."""
    try:
        found = in_scratch_namespace(lambda: _start(settings, below))
    except TrialFailedError as error:
        return NarTrial(str(error), None)
    problem, l2tp = found if isinstance(found, list) else (None, None)
    return NarTrial(problem, l2tp)


def _start(settings: NarSettings, below: Callable[[], Below]) -> list[str | None]:
    dataplane = KernelNar(settings, below=below())
    try:
        dataplane.start()
    except DataplaneUnavailableError as error:
        return [str(error), None]
    dataplane.close(keep=False)
    sessions = below().l2tp()
    sessions.close()
    return [None, sessions.problem or None]
