"""The mobile node where the kernel has no tunnels and no IPsec: all else is the kernel's.

Routes, rules and the switch are those of :mod:`gateway.dataplane.kernel.node`. What the forwarder
sends meets the switch as the kernel's own tunnels do: ESP and encapsulated packets leave by raw
sockets, with the marks by which the switch knows them. Without the forwarder what is routed to a
layer is lost in its device, and nothing of the user's gets around it.
"""

from collections.abc import Callable

from gateway.dataplane.kernel.node import constants
from gateway.dataplane.kernel.node.node import KernelNode
from gateway.dataplane.node import NodeSettings
from gateway.dataplane.portable.forwarder import Forwarder
from gateway.dataplane.portable.node.tunnels import PortableTunnels


class PortableNode(KernelNode):
    """Implements :class:`gateway.dataplane.node.NodeDataplane`.

    The forwarder is asked for when the switch is closed; that raises OSError where there is none.
    """

    def __init__(
        self,
        settings: NodeSettings,
        forwarder: Callable[[], Forwarder],
        *,
        xfrm_interface: str = constants.XFRM_INTERFACE,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(
            settings,
            xfrm_interface=xfrm_interface,
            tunnel_devices=PortableTunnels(forwarder),
            **({} if clock is None else {"clock": clock}),
        )
