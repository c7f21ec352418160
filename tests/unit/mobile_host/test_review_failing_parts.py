"""A part that fails does not take with it what else was to be done."""

from mobile_host_fakes import FakeNodeDataplane, FakeNodeEngine

from gateway.dataplane.node import HELD
from gateway.domain.event import Event
from gateway.mobile_host.node_service import NodeService
from gateway.mobile_node.outputs import Apply, Forbid, Permit


class Choosy(FakeNodeDataplane):
    """Does not know what to do with a name."""

    def permit(self, interface: str, lifetime_s: float) -> None:
        raise ValueError(f"interface: {interface!r} given, allowed are letters")


class Faulty(FakeNodeEngine):
    def handle_timer(self, now: float) -> None:
        raise RuntimeError("a fault")


class Handle:
    def cancel(self) -> None:
        return


class Bed:
    def __init__(self, engine: FakeNodeEngine, dataplane: FakeNodeDataplane) -> None:
        self.engine, self.dataplane = engine, dataplane
        self.events: list[Event] = []
        self.armed: list[tuple[float, object]] = []
        self.service = NodeService(
            engine,
            dataplane,
            signals=self,  # type: ignore[arg-type]
            vpn=self,  # type: ignore[arg-type]
            host=self,  # type: ignore[arg-type]
            clock=lambda: 100.0,
            call_at=self.call_at,
            emit=self.events.append,
        )

    def call_at(self, at: float, due: object) -> Handle:
        self.armed.append((at, due))
        return Handle()

    def stack_applied(self, _stack: object) -> None:
        return


def test_a_permit_for_an_odd_name_is_refused_and_the_rest_is_carried_out() -> None:
    bed = Bed(FakeNodeEngine(), Choosy())
    bed.engine.outputs = [Permit("lan#1", 30.0), Forbid("eth1"), Apply(HELD)]
    bed.engine.timer = 130.0
    bed.service.flush(100.0)
    assert bed.dataplane.told[:2] == ["forbid eth1", "apply held"]
    assert [one[0] for one in bed.engine.inputs] == ["refused"]
    assert [at for at, _ in bed.armed] == [130.0]


def test_an_engine_that_raises_is_called_again() -> None:
    bed = Bed(Faulty(), FakeNodeDataplane())
    bed.engine.timer = 101.0
    bed.service.flush(100.0)
    (_, due) = bed.armed.pop()
    due()  # type: ignore[operator]
    assert [one.name for one in bed.events] == ["internal_fault"]
    assert bed.armed, "nobody would wake the node again"
