"""A node's tunnel devices by differences; what was refused is tried again."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from gateway.dataplane.kernel.node.tunnel_set import TunnelSet
from gateway.dataplane.kernel.node.tunnels import TunnelDevice

OUTER = TunnelDevice(
    "mn-x-ipip", IPv4Address("192.0.2.10"), IPv4Address("198.51.100.2"), 3, 0x47580001, 1400
)
INNER = replace(OUTER, name="mn-i-ipip")
MOVED = replace(OUTER, local=IPv4Address("192.0.2.99"))


@dataclass
class Maker:
    """Makes devices, unless it shall refuse."""

    refuses: bool = False
    indexes: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def _do(self, what: str) -> None:
        if self.refuses:
            raise OSError(12, "no memory")
        self.told.append(what)

    def open(self) -> None:
        self._do("open")

    def check(self, device: TunnelDevice) -> None:
        self._do(f"check {device.name}")

    def make(self, device: TunnelDevice) -> None:
        self._do(f"make {device.name}")
        self.indexes[device.name] = len(self.indexes) + 7

    def change(self, device: TunnelDevice, index: int) -> None:
        self._do(f"change {index} to {device.local}")

    def delete(self, name: str, index: int) -> None:
        self._do(f"delete {name} {index}")
        self.indexes.pop(name, None)

    def close(self) -> None:
        self._do("close")


class Host:
    """Its switches for a new interface."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def no_ipv6(self, interface: str) -> None:
        self.new.append(interface)

    def tunnel(self, interface: str) -> None:
        raise OSError(30, "read-only file system")


def settle(tunnels: TunnelSet, maker: Maker, *wanted: TunnelDevice) -> list[str]:
    """What was refused."""
    host = Host()
    refused = tunnels.make(wanted, maker.indexes, host)  # type: ignore[arg-type]
    refused += tunnels.forget(wanted, maker.indexes)
    return [f"{one.what}: {one.reason}" for one in refused]


def test_devices_are_made_changed_and_deleted_by_differences() -> None:
    maker = Maker()
    tunnels = TunnelSet(maker)
    assert settle(tunnels, maker, OUTER, INNER) == []
    assert settle(tunnels, maker, OUTER, INNER) == []
    assert settle(tunnels, maker, MOVED) == []
    assert settle(tunnels, maker) == []
    assert maker.told == [
        "make mn-x-ipip",
        "make mn-i-ipip",
        "change 7 to 192.0.2.99",
        "delete mn-i-ipip 8",
        "delete mn-x-ipip 7",
    ]


def test_a_device_that_vanished_is_made_again() -> None:
    maker = Maker()
    tunnels = TunnelSet(maker)
    settle(tunnels, maker, OUTER)
    maker.indexes.clear()
    assert settle(tunnels, maker, OUTER) == []
    assert maker.told == ["make mn-x-ipip"] * 2
    maker.indexes.clear()
    settle(tunnels, maker)
    assert maker.told[-1] == "delete mn-x-ipip 0"


def test_what_was_refused_is_tried_again() -> None:
    maker = Maker(refuses=True)
    tunnels = TunnelSet(maker)
    assert settle(tunnels, maker, OUTER) == ["mn-x-ipip: no memory"]
    maker.refuses = False
    assert settle(tunnels, maker, OUTER) == []
    maker.refuses = True
    assert settle(tunnels, maker, MOVED) == ["mn-x-ipip: no memory"]
    maker.refuses = False
    assert settle(tunnels, maker, MOVED) == []
    assert maker.told == ["make mn-x-ipip", "change 7 to 192.0.2.99"]
