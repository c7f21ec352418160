"""Stand-ins for the parts of a mobile node's host."""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from types import SimpleNamespace

from gateway.dataplane.interface import DataplaneEvent, Refusal, Usage
from gateway.dataplane.node import LayerStack, NodeRefusal, NodeSettings
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event
from gateway.ike.first_line import Datagram, Sorted
from gateway.ike.outputs import Output
from gateway.ike.policy import ConnectionPolicy
from gateway.mobile_node.inputs import LinkState, Portal, VpnSession
from gateway.mobile_node.outputs import NodeOutput
from gateway.mobile_node.policy import NodePolicy
from gateway.mobile_node.status import NodeStatus


class FakeNodeDataplane:
    """Remembers what it was told."""

    def __init__(self, told: list[str] | None = None) -> None:
        self.told = [] if told is None else told
        self.stacks: list[LayerStack] = []
        self.refusals: list[NodeRefusal] = []
        self.error: OSError | None = None
        self.held = 0
        self.restored = 0
        self.settings: NodeSettings | None = None

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if self.error is not None:
            raise self.error

    def open(self) -> None:
        self._tell("open")

    def apply(self, stack: LayerStack) -> list[NodeRefusal]:
        self._tell(f"apply {stack.mode.value}")
        self.stacks.append(stack)
        return self.refusals

    def permit(self, interface: str, lifetime_s: float) -> None:
        self._tell(f"permit {interface} {lifetime_s:g}")

    def forbid(self, interface: str | None = None) -> None:
        self._tell(f"forbid {interface}")

    def hold_fd(self) -> int:
        raise NotImplementedError

    def read_held(self) -> int:
        count, self.held = self.held, 0
        return count

    def release_held(self) -> int:
        self.told.append("release")
        return 1

    def user_packets(self) -> int:
        return 0

    def counters(self) -> dict[str, int]:
        return {}

    def reconfigure(self, settings: NodeSettings) -> None:
        self._tell("reconfigure")
        self.settings = settings

    def close(self, *, keep_switch: bool) -> None:
        self._tell(f"close {'keeping the switch' if keep_switch else 'for good'}")


class FakeNodeEngine:
    """Gives prepared outputs and remembers its inputs."""

    def __init__(self) -> None:
        self.inputs: list[tuple[object, ...]] = []
        self.outputs: list[NodeOutput] = []
        self.timer: float | None = None

    def links_changed(self, links: Sequence[LinkState], now: float) -> None:
        self.inputs.append(("links", tuple(one.interface for one in links)))

    def advertisement(
        self, octets: bytes, source: IPv4Address, interface: str, link_address: bytes, now: float
    ) -> None:
        self.inputs.append(("advertisement", octets, source, interface, link_address))

    def receive(self, message: bytes, interface: str | None, source: Endpoint, now: float) -> None:
        self.inputs.append(("message", message, interface, source))

    def vpn_up(self, session: VpnSession, now: float) -> None:
        self.inputs.append(("up", session))

    def vpn_failed(self, reason: str, hint: str, refused: bool, now: float) -> None:
        self.inputs.append(("failed", reason, hint, refused))

    def vpn_down(self, reason: str, now: float) -> None:
        self.inputs.append(("down", reason))

    def portal(self, interface: str, verdict: Portal, now: float) -> None:
        self.inputs.append(("portal", interface, verdict))

    def traffic_waiting(self, now: float) -> None:
        self.inputs.append(("waiting",))

    def refused(self, refusal: NodeRefusal, now: float) -> None:
        self.inputs.append(("refused", refusal))

    def lock(self, now: float) -> None:
        self.inputs.append(("lock",))

    def unlock(self, now: float) -> None:
        self.inputs.append(("unlock",))

    def reconnect(self, now: float) -> None:
        self.inputs.append(("reconnect",))

    def doubt(self, now: float) -> None:
        self.inputs.append(("doubt",))

    def reconfigure(self, policy: NodePolicy, now: float) -> None:
        self.inputs.append(("reconfigure", policy))

    def close(self, now: float) -> None:
        self.inputs.append(("close",))

    def status(self, now: float) -> NodeStatus:
        return NodeStatus("node", "held", "unknown", "a test", 4.0, "", 0, False, (), ())

    def next_timer(self) -> float | None:
        return self.timer

    def handle_timer(self, now: float) -> None:
        self.inputs.append(("timer", now))
        self.timer = None

    def take_outputs(self) -> list[NodeOutput]:
        outputs, self.outputs = self.outputs, []
        return outputs


class FakeIkeEngine:
    """An IKE engine that remembers its commands and gives prepared outputs."""

    def __init__(self) -> None:
        self.commands: list[tuple[object, ...]] = []
        self.outputs: list[Output] = []
        self.connections: tuple[ConnectionPolicy, ...] = ()
        self.follows = True

    def receive(self, message: bytes, path: Path, now: float) -> None: ...

    def sort(self, datagrams: Sequence[Datagram], share: float, now: float) -> Sorted:
        raise NotImplementedError

    def handle_timer(self, now: float) -> None: ...

    def next_timer(self) -> float | None:
        return None

    def take_outputs(self) -> list[Output]:
        outputs, self.outputs = self.outputs, []
        return outputs

    def traffic_waiting(self, reqid: int, now: float) -> None: ...

    def child_expired(self, spi_in: int, hard: bool, now: float) -> None: ...

    def child_refused(self, spi_in: int, reason: str, now: float) -> None: ...

    def endpoint_seen(self, spi_in: int, remote: Endpoint, proof: str, now: float) -> None: ...

    def initiate(self, connection: str, now: float) -> None:
        self.commands.append(("initiate", connection))

    def abandon(self, connection: str, reason: str, now: float) -> None:
        self.commands.append(("abandon", connection))

    def reconfigure(self, connections: Sequence[ConnectionPolicy], now: float) -> None:
        self.connections = tuple(connections)

    def local_address_changed(self, ike_spi: bytes, local: Endpoint, now: float) -> None:
        self.commands.append(("mobike", ike_spi, local))

    def move_local(self, ike_spi: bytes, local: Endpoint, now: float) -> bool:
        self.commands.append(("move", ike_spi, local))
        return self.follows

    def ike_sa_names(self) -> list[tuple[str, str]]:
        return []

    def ike_sas(self, now: float) -> Sequence[object]:
        local = "192.0.2.50:500"
        return [SimpleNamespace(connection="gateway", child_sas=("00000001",), local=local)]

    def close_all(self, now: float, reason: str) -> None:
        self.commands.append(("close all",))


class FakeIpsec:
    """An IPsec dataplane that does nothing."""

    def install_child_sa(self, sa: ChildSa, *, outbound: bool = True) -> None: ...

    def activate_outbound(self, spi_in: int) -> None: ...

    def remove_child_sa(self, spi_in: int) -> None: ...

    def move_child_sa(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> None: ...

    def trap(self, sa: ChildSa) -> None: ...

    def untrap(self, reqid: int) -> None: ...

    def commit(self) -> list[Refusal]:
        return []

    def usage(self, spi_in: int) -> Usage | None:
        return None

    def close(self) -> None: ...

    def event_fds(self) -> Iterable[int]:
        return ()

    def read_events(self) -> Iterable[DataplaneEvent]:
        return ()

    def counters(self) -> dict[str, int]:
        return {}

    def reconfigure(self, settings: object) -> None: ...


Emit = Callable[[Event], None]
