"""Whether this kernel can do what NAR servers need, found out by starting all but a forwarder."""

from gateway.dataplane.kernel.nar import start_trial
from gateway.dataplane.kernel.nar.start_trial import NarTrial
from gateway.dataplane.nar import NarSettings
from gateway.dataplane.portable.nar.below import PortableBelow
from gateway.dataplane.portable.no_forwarder import NoForwarder


def try_start(settings: NarSettings) -> NarTrial:
    """Start and stop the dataplane in a namespace of its own."""
    return start_trial.try_start(settings, lambda: PortableBelow(NoForwarder()))
