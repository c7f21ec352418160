"""What a portable mobile node that is no more left besides what every node leaves; a trial."""

import tempfile
from pathlib import Path

from gateway.dataplane.choice import Choice, Kind
from gateway.dataplane.kernel import ruleset
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.kernel.node.release import try_start_with
from gateway.dataplane.kernel.settings import DEFAULT_MTU
from gateway.dataplane.node import NodeDataplane, NodeSettings
from gateway.dataplane.plane import Plane
from gateway.dataplane.portable.forwarder import Forwarder
from gateway.dataplane.portable.launch import open_forwarder
from gateway.dataplane.portable.node.node import PortableNode
from gateway.dataplane.portable.wire import inside, links


def release(folder: Path) -> list[str]:
    """End the forwarder of a node whose sockets were in ``folder``; what was there, in words.

    Before the rest is released: without it, routes into its devices lead nowhere. Only while no
    node runs. Raises OSError.
    """
    if not inside.exists(constants.XFRM_INTERFACE):
        return []
    chosen = Choice(Kind.PORTABLE, "to be removed")
    Plane(chosen, folder, constants.XFRM_INTERFACE).end_forwarder()
    # Its forwarder may have died, or have been another folder's.
    inside.delete(constants.XFRM_INTERFACE)
    ruleset.remove()
    return [f"interface {constants.XFRM_INTERFACE} and its forwarder"]


def try_start() -> str | None:
    """As :func:`gateway.dataplane.kernel.node.release.try_start`, with a forwarder."""
    with tempfile.TemporaryDirectory(prefix="gateway-trial-") as folder:

        def forwarder() -> Forwarder:
            links.make_pair(constants.XFRM_INTERFACE, DEFAULT_MTU)
            return open_forwarder(
                Path(folder),
                interface=constants.XFRM_INTERFACE,
                adopt=False,
                workers=1,
                lasting=False,
            )

        def make(settings: NodeSettings) -> NodeDataplane:
            return PortableNode(settings, forwarder)

        return try_start_with(make)
