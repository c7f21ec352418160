"""The tunnel devices of a stack of layers, by differences."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from gateway.dataplane.kernel.node.host import Host
from gateway.dataplane.kernel.node.tunnel_devices import TunnelDevices
from gateway.dataplane.kernel.node.tunnels import TunnelDevice
from gateway.dataplane.node import NodeRefusal


class TunnelSet:
    """What there is, and who makes it. What is refused is as it was, and tried again next time."""

    def __init__(self, maker: TunnelDevices) -> None:
        self._maker = maker
        self._there: dict[str, TunnelDevice] = {}

    def open(self) -> None:
        """See :meth:`TunnelDevices.open`."""
        self._maker.open()

    def close(self) -> None:
        """See :meth:`TunnelDevices.close`."""
        self._maker.close()

    def check(self, wanted: Iterable[TunnelDevice]) -> None:
        """Raises :class:`~.tunnel_devices.NoSuchTunnelError`."""
        for device in wanted:
            self._maker.check(device)

    def make(
        self, wanted: Sequence[TunnelDevice], indexes: Mapping[str, int], host: Host
    ) -> list[NodeRefusal]:
        """Make and change devices; those of no more use stay until :meth:`forget`."""
        refused = []
        for device in wanted:
            before, index = self._there.get(device.name), indexes.get(device.name)
            if before == device and index is not None:
                continue
            try:
                if before is not None and index is not None:
                    self._maker.change(device, index)
                else:
                    self._maker.make(device)
                    host.no_ipv6(device.name)
                    with contextlib.suppress(OSError):
                        host.tunnel(device.name)
            except OSError as error:
                refused.append(_refusal(device.name, error))
            else:
                self._there[device.name] = device
        return refused

    def forget(
        self, wanted: Iterable[TunnelDevice], indexes: Mapping[str, int]
    ) -> list[NodeRefusal]:
        """Delete all devices but these."""
        refused = []
        for name in self._there.keys() - {device.name for device in wanted}:
            del self._there[name]
            try:
                self._maker.delete(name, indexes.get(name, 0))
            except OSError as error:
                refused.append(_refusal(name, error))
        return refused


def _refusal(name: str, error: OSError) -> NodeRefusal:
    return NodeRefusal(name, error.strerror or str(error))
