"""Whether this kernel can do what NAR servers need, found out by starting it all."""

from dataclasses import dataclass

from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.nar.dataplane import KernelNar
from gateway.dataplane.kernel.nar.l2tp import L2tpDevices
from gateway.dataplane.kernel.scratch import TrialFailedError, in_scratch_namespace
from gateway.dataplane.nar import NarSettings


@dataclass(frozen=True, slots=True)
class NarTrial:
    """What became of it; both None: all is well."""

    problem: str | None
    """Why nothing can be delivered at all."""
    l2tp: str | None
    """Why nothing can be delivered by L2TP."""


def try_start(settings: NarSettings) -> NarTrial:
    """Start and stop the dataplane in a namespace of its own."""
    try:
        found = in_scratch_namespace(lambda: _start(settings))
    except TrialFailedError as error:
        return NarTrial(str(error), None)
    problem, l2tp = found if isinstance(found, list) else (None, None)
    return NarTrial(problem, l2tp)


def _start(settings: NarSettings) -> list[str | None]:
    dataplane = KernelNar(settings)
    try:
        dataplane.start()
    except DataplaneUnavailableError as error:
        return [str(error), None]
    dataplane.close(keep=False)
    devices = L2tpDevices()
    devices.close()
    return [None, devices.problem or None]
