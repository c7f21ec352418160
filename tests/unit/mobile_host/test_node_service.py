"""What the engine asks for is carried out in its order, and refusals come back."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface

from mobile_host_fakes import FakeNodeDataplane, FakeNodeEngine

from gateway.dataplane.node import HELD, LayerStack, NodeRefusal
from gateway.domain.access_mode import AccessMode
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event
from gateway.domain.mobility_credential import MobilityCredential
from gateway.mobile_host.node_service import MAX_ROUNDS, NodeService
from gateway.mobile_node.inputs import LinkState, Portal
from gateway.mobile_node.outputs import (
    Apply,
    CloseVpn,
    ConnectVpn,
    Forbid,
    KeepCredentials,
    MoveVpn,
    Permit,
    ProbePortal,
    Solicit,
    TransmitRegistration,
)

OURS, AGENT = IPv4Address("192.0.2.50"), IPv4Address("10.2.0.1")
REQUEST = TransmitRegistration(b"\x01", "eth0", OURS, AGENT)
CONNECT = ConnectVpn(OURS, None, vpn_fa=False, endpoint_update=True, mobike=True)


class Handle:
    def cancel(self) -> None:
        return


class Bed:
    """All but the engine's node and the dataplane's kernel, in one."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.engine = FakeNodeEngine()
        self.dataplane = FakeNodeDataplane(self.told)
        self.events: list[Event] = []
        self.armed: list[tuple[float, Callable[[], None]]] = []
        self.failure: OSError | None = None
        self.service = NodeService(
            self.engine,
            self.dataplane,
            signals=self,
            vpn=self,
            host=self,
            clock=lambda: 100.0,
            call_at=self.call_at,
            emit=self.events.append,
        )

    def call_at(self, at: float, due: Callable[[], None]) -> Handle:
        self.armed.append((at, due))
        return Handle()

    def send(
        self,
        message: bytes,
        interface: str | None,
        source: IPv4Address,
        destination: IPv4Address,
        link_address: bytes = b"",
    ) -> OSError | None:
        self.told.append(f"send {interface} {source} {destination} {link_address.hex()}".strip())
        return self.failure

    def solicit(self, interface: str, source: IPv4Address | None) -> OSError | None:
        self.told.append(f"solicit {interface} {source}")
        return self.failure

    def connect(self, order: ConnectVpn) -> None:
        self.told.append(f"connect {order.outer}")

    def move(self, order: MoveVpn) -> None:
        self.told.append(f"move {order.outer}")

    def close(self, reason: str) -> None:
        self.told.append(f"close {reason}")

    def probe_portal(self, interface: str) -> None:
        self.told.append(f"probe {interface}")

    def keep_credentials(self, credentials: tuple[MobilityCredential, ...]) -> None:
        self.told.append(f"keep {len(credentials)}")

    def stack_applied(self, stack: LayerStack) -> None:
        self.told.append(f"applied {stack.mode.value}")


def test_everything_in_its_order() -> None:
    bed = Bed()
    bed.engine.outputs = [
        Forbid("eth0"),
        Apply(HELD),
        REQUEST,
        Solicit("eth0"),
        ConnectVpn(OURS, None, vpn_fa=False, endpoint_update=True, mobike=True),
        Apply(LayerStack(mode=AccessMode.VC)),
        Permit("eth0", 50.0),
        MoveVpn(OURS, mobike=True),
        CloseVpn("inside"),
        ProbePortal("eth0"),
        KeepCredentials(()),
        Event("mode", "text"),
    ]
    bed.service.flush()
    assert bed.told == [
        "forbid eth0",
        "apply held",
        "applied held",
        f"send eth0 {OURS} {AGENT}",
        "solicit eth0 None",
        f"connect {OURS}",
        "apply vc",
        "release",
        "applied vc",
        "permit eth0 50",
        f"move {OURS}",
        "close inside",
        "probe eth0",
        "keep 0",
    ]
    assert [one.name for one in bed.events] == ["mode"]


def test_a_solicitation_comes_from_the_links_own_address() -> None:
    bed = Bed()
    bed.service.links_changed([LinkState("eth0", True, IPv4Interface("192.0.2.50/24"))])
    bed.engine.outputs = [Solicit("eth0")]
    bed.service.flush()
    assert bed.told == [f"solicit eth0 {OURS}"]


def test_what_the_kernel_refuses_goes_back_to_the_engine() -> None:
    bed = Bed()
    bed.dataplane.refusals = [NodeRefusal("the tunnel", "no memory")]
    bed.engine.outputs = [Apply(LayerStack(mode=AccessMode.C))]
    bed.service.flush()
    assert ("refused", NodeRefusal("the tunnel", "no memory")) in bed.engine.inputs
    assert bed.events[0].name == "dataplane_refused"


def test_an_error_of_the_kernel_never_ends_the_round() -> None:
    bed = Bed()
    bed.dataplane.error = OSError(12, "no memory")
    bed.engine.outputs = [Apply(HELD), Permit("eth0", 5.0), Forbid(), REQUEST]
    bed.service.flush()
    assert [one[0] for one in bed.engine.inputs] == ["refused"] * 4
    assert bed.told[-1].startswith("send")


def test_a_permit_that_cannot_be_ended_alone_ends_all() -> None:
    bed = Bed()
    before = bed.dataplane.forbid

    def forbid(interface: str | None = None) -> None:
        before(interface)
        if interface is not None:
            raise ValueError(interface)

    bed.dataplane.forbid = forbid  # type: ignore[method-assign]
    bed.engine.outputs = [Forbid("lan#1"), REQUEST]
    bed.service.flush()
    assert bed.told[:2] == ["forbid lan#1", "forbid None"]
    assert bed.told[-1].startswith("send")


def test_a_fault_of_ours_costs_one_output() -> None:
    bed = Bed()
    bed.engine.timer = 107.0

    def fails(order: ConnectVpn) -> None:
        raise RuntimeError(str(order.outer))

    bed.connect = fails  # type: ignore[method-assign]
    bed.engine.outputs = [CONNECT, Forbid("eth0")]
    bed.service.flush()
    assert bed.told == ["forbid eth0"]
    assert [one.name for one in bed.events] == ["internal_fault"]
    assert [at for at, _ in bed.armed] == [107.0]


def test_after_a_fault_of_the_engine_it_is_woken_again() -> None:
    bed = Bed()

    def fails(now: float) -> None:
        raise RuntimeError

    bed.engine.handle_timer = fails  # type: ignore[method-assign]
    bed.engine.timer = 100.0
    bed.service.flush()
    ((_, due),) = bed.armed
    bed.engine.outputs = [REQUEST]
    due()
    assert [at for at, _ in bed.armed] == [100.0, 101.0]
    assert bed.told[0] == "forbid None"
    assert bed.told[1].startswith("send")
    assert [one.name for one in bed.events] == ["internal_fault"]


def test_a_message_that_cannot_be_sent_is_a_debug_line() -> None:
    bed = Bed()
    bed.failure = OSError(101, "network is unreachable")
    bed.engine.outputs = [REQUEST]
    bed.service.flush()
    assert bed.events[0].name == "registration_unsent"
    assert bed.events[0].severity.value == "debug"
    assert bed.service.counters["messages_unsent"] == 1


def test_held_packets_wake_the_engine_only_while_they_are_held() -> None:
    bed = Bed()
    bed.service.held_readable()
    assert bed.engine.inputs == []
    bed.dataplane.held = 2
    bed.service.held_readable()
    assert bed.engine.inputs == [("waiting",)]
    bed.engine.outputs = [Apply(LayerStack(mode=AccessMode.VC))]
    bed.service.flush()
    bed.dataplane.held = 1
    bed.service.held_readable()
    assert bed.engine.inputs == [("waiting",)]
    assert bed.told.count("release") == 2
    assert bed.service.counters["packets_held"] == 3


def test_the_timer() -> None:
    bed = Bed()
    bed.engine.timer = 107.0
    bed.service.flush()
    ((at, due),) = bed.armed
    assert at == 107.0
    due()
    assert bed.engine.inputs == [("timer", 100.0)]
    bed.service.stop()
    bed.engine.timer = 108.0
    bed.service.flush()
    assert len(bed.armed) == 1


def test_inputs_reach_the_engine() -> None:
    bed = Bed()
    source = Endpoint(AGENT, 434)
    bed.service.registration(b"\x03", None, source)
    bed.service.advertisement("eth0", AGENT, b"\x02", b"\x09")
    bed.service.vpn_failed("no", "do this", refused=True)
    bed.service.vpn_down("gone")
    bed.service.portal("eth0", Portal.CAPTIVE)
    assert bed.engine.inputs == [
        ("message", b"\x03", None, source),
        ("advertisement", b"\x09", AGENT, "eth0", b"\x02"),
        ("failed", "no", "do this", True),
        ("down", "gone"),
        ("portal", "eth0", Portal.CAPTIVE),
    ]


def test_an_engine_that_never_stops_asking_does_not_keep_the_loop() -> None:
    bed = Bed()
    asked = 0

    class Endless(FakeNodeEngine):
        def take_outputs(self) -> list:  # type: ignore[type-arg]
            nonlocal asked
            asked += 1
            return [REQUEST]

    bed.service._engine = Endless()
    bed.service.flush()
    assert asked == MAX_ROUNDS
