"""An engine, a dataplane and a network that only remember."""

from types import SimpleNamespace
from typing import Any

from gateway.dataplane.interface import Usage
from gateway.ike.outputs import Transmit


class FakeEngine:
    """Outputs are queued by the test, or by a reaction to a call."""

    def __init__(self) -> None:
        self.calls = []
        self.outputs = []
        self.timer = None
        self.trace = False
        self.mobility = None
        self.reactions = {}
        self.counters = {"messages_in": 3}
        self.ike = []
        self.children = []
        self.pools = {}
        self.restored = SimpleNamespace(ike_sas=0, children=())

    def _called(self, name: Any, *args: Any) -> None:
        self.calls.append((name, *args))
        self.outputs += self.reactions.get(name, [])

    def receive(self, message: Any, path: Any, now: Any) -> None:
        self._called("receive", message, now)
        self.outputs.append(Transmit(b"re:" + message, path))

    def sort(self, datagrams: Any, share: Any, now: Any) -> Any:
        return list(datagrams), []

    def handle_timer(self, now: Any) -> None:
        self.timer = None
        self.trace = False
        self._called("handle_timer", now)

    def next_timer(self) -> Any:
        return self.timer

    def take_outputs(self) -> Any:
        outputs, self.outputs = self.outputs, []
        return outputs

    def traffic_waiting(self, reqid: Any, now: Any) -> None:
        self._called("traffic_waiting", reqid)

    def child_expired(self, spi_in: Any, hard: Any, now: Any) -> None:
        self._called("child_expired", spi_in, hard)

    def child_refused(self, spi_in: Any, reason: Any, now: Any) -> None:
        self._called("child_refused", spi_in, reason)

    def endpoint_seen(self, spi_in: Any, remote: Any, proof: Any, now: Any) -> None:
        self._called("endpoint_seen", spi_in, remote, proof)

    def established_remotes(self) -> Any:
        return set()

    def ike_sa_names(self) -> Any:
        return [(sa.spis, sa.connection) for sa in self.ike]

    def child_sa_names(self) -> Any:
        return [(sa.spi_in, sa.ike_spis, sa.connection) for sa in self.children]

    def ike_sas(self, now: Any, names: Any) -> Any:
        return [sa for name in names for sa in self.ike if sa.spis == name]

    def child_sas(self, now: Any, spis_in: Any) -> Any:
        return [sa for spi_in in spis_in for sa in self.children if sa.spi_in == spi_in]

    def close_ike_sa(self, spis: Any, reason: Any, now: Any) -> Any:
        self._called("close_ike_sa", spis)
        return any(sa.spis == spis for sa in self.ike)

    def rekey(self, spis: Any, now: Any, *, children: Any = False) -> Any:
        self._called("rekey", (spis, children))
        return any(sa.spis == spis for sa in self.ike)

    def initiate(self, connection: Any, now: Any) -> None:
        if connection == "nowhere":
            raise KeyError(connection)
        self._called("initiate", connection)

    def reserve_reqid(self, connection: Any) -> int:
        return 0x100 + len(connection)

    def close_all(self, now: Any) -> None:
        self._called("close_all")
        self.ike = []

    def hand_over(self, now: Any) -> None:
        self._called("hand_over")

    def restore(self, records: Any, now: Any) -> Any:
        self._called("restore", tuple(sorted(records)))
        return self.restored

    def reconcile(self, kernel_spis: Any, now: Any) -> Any:
        self._called("reconcile", tuple(sorted(kernel_spis)))
        return kernel_spis

    def reconfigure(self, connections: Any, now: Any, pools: Any) -> None:
        self.pools = pools
        self._called("reconfigure", tuple(c.name for c in connections))


class FakeDataplane:
    """Verbs and commits land in one journal, shared with the network."""

    def reconfigure(self, settings: Any) -> None:
        self.settings = settings

    def __init__(self, journal: Any = None) -> None:
        self.journal = [] if journal is None else journal
        self.refusals = []
        self.usages = {}
        self.events = []
        self.closed = self.kept = False
        self.fds = ()
        self.lost = ()

    def install_child_sa(self, sa: Any, *, outbound: Any = True) -> None:
        self.journal.append(("install", sa, outbound))

    def activate_outbound(self, spi_in: Any) -> None:
        self.journal.append(("activate", spi_in))

    def remove_child_sa(self, spi_in: Any) -> None:
        self.journal.append(("remove", spi_in))

    def move_child_sa(
        self, spi_in: Any, local: Any, remote: Any, *, udp_encapsulation: Any
    ) -> None:
        self.journal.append(("move", spi_in, remote, udp_encapsulation))

    def trap(self, sa: Any) -> None:
        self.journal.append(("trap", sa.reqid))

    def untrap(self, reqid: Any) -> None:
        self.journal.append(("untrap", reqid))

    def commit(self) -> Any:
        self.journal.append(("commit",))
        refusals, self.refusals = self.refusals, []
        return refusals

    def usage(self, spi_in: Any) -> Usage | None:
        return self.usages.get(spi_in)

    def before_move(self, spi_in: Any) -> None:
        return None

    def counters(self) -> dict[str, int]:
        return {"slow_path_accepted": 1}

    def event_fds(self) -> Any:
        return self.fds

    def read_events(self) -> Any:
        events, self.events = self.events, []
        return events

    def adopt(self, children: Any) -> Any:
        self.journal.append(("adopt", tuple(sa.spi_in for sa, _ in children)))
        return list(self.lost)

    def close(self, *, keep: bool = False) -> None:
        self.closed = True
        self.kept = keep


class FakeClock:
    """Time that stands still until it is moved, and the timers that hang on it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers = []

    def __call__(self) -> Any:
        return self.now

    def call_at(self, when: Any, callback: Any) -> Any:
        timer = FakeTimer(when, callback)
        self.timers.append(timer)
        return timer

    @property
    def armed(self) -> Any:
        return [timer.when for timer in self.timers if timer.live]

    def advance(self, seconds: Any) -> None:
        self.now += seconds
        for timer in list(self.timers):
            if timer.live and timer.when <= self.now:
                timer.live = False
                timer.callback()


class FakeTimer:
    def __init__(self, when: Any, callback: Any) -> None:
        self.when, self.callback, self.live = when, callback, True

    def cancel(self) -> None:
        self.live = False
