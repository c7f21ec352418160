"""Whether this kernel can do what mobility agents need, found out by starting it all."""

from dataclasses import replace

from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.mobility.dataplane import KernelMobility
from gateway.dataplane.kernel.scratch import TrialFailedError, in_scratch_namespace
from gateway.dataplane.mobility import MobilitySettings


def try_start(settings: MobilitySettings) -> str | None:
    """Start and stop the dataplane in a namespace of its own; why it cannot, or None.

    The links of the configuration are not there, so they are left out.
    """
    alone = replace(
        settings,
        visited_interfaces=(),
        home_networks=tuple(replace(one, interface=None) for one in settings.home_networks),
    )
    try:
        problem = in_scratch_namespace(lambda: _start(alone))
    except TrialFailedError as error:
        return str(error)
    return None if problem is None else str(problem)


def _start(settings: MobilitySettings) -> str | None:
    dataplane = KernelMobility(settings)
    try:
        dataplane.start()
    except DataplaneUnavailableError as error:
        return str(error)
    dataplane.close()
    return None
