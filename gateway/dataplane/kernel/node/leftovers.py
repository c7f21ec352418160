"""Takes away routes, rules, addresses and tunnels of a node, by their marks."""

import errno
from collections.abc import Sequence
from typing import Final

from gateway.dataplane.kernel.mobility import constants as mobility
from gateway.dataplane.kernel.mobility.devices import Devices
from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.dataplane.kernel.node import constants, tunnels
from gateway.dataplane.kernel.routing import (
    Route,
    addresses,
    delete_route,
    delete_rules,
    own_routes,
)

_GONE: Final = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)


def clear(
    route: NetlinkSocket,
    devices: Devices,
    *,
    keep: Sequence[Route],
) -> None:
    """Remove all but the routes in ``keep``, and with those the constant rules.

    The holding device and its address stay. Raises OSError when an interface of our name is
    somebody else's, or the kernel refuses.
    """
    every = devices.every()
    for name in constants.TUNNELS:
        if name in every and every[name].group != constants.DEVICE_GROUP:
            text = f"interface {name} exists and is not ours; rename or remove it"
            raise OSError(errno.EEXIST, text)
    priorities = constants.PRIORITIES
    if keep:
        priorities = range(constants.DIRECT_PRIORITY, constants.DIRECT_PRIORITY + 1)
    hold = every[constants.HOLD].index if constants.HOLD in every else 0
    kept = {one.key for one in keep}
    old = [
        *delete_rules(route, priorities),
        *(delete_route(key) for key in own_routes(route, constants.TABLES) if key not in kept),
        *(one.delete() for one in addresses(route, ours=True) if one.device != hold),
        *(tunnels.delete(every[name].index) for name in constants.TUNNELS if name in every),
    ]
    if old:
        route.check("clearing leftovers", old, *_GONE)
    if not any(name in every for name in mobility.SENDING):
        # Shared with the mobility agents, who need it while they run here.
        devices.delete_port()
