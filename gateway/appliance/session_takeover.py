"""What a process takes over of the one before it: records of sessions, and what the kernel has.

The records say which sessions there are, the kernel has their keys. What only one of them knows is
ended: records without an SA by the engine, with the peer; SAs without a record by the dataplane.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from gateway.appliance.ike_service import IkeService
from gateway.dataplane.interface import Dataplane, DataplaneEvent
from gateway.domain.event import Event, Severity
from gateway.domain.session_records import SessionRecords
from gateway.ike.outputs import InstallChildSa

if TYPE_CHECKING:
    from gateway.ike.outputs import Output
    from gateway.store.database import Store
    from gateway.store.sessions import SessionStore

IKE: Final = "ike"
"""Kind of the records of IKE SAs."""


class NoRecords:
    """A :class:`SessionRecords` that remembers nothing."""

    def keep(self, kind: str, key: str, record: bytes) -> None:
        """Nothing."""

    def forget(self, kind: str, key: str) -> None:
        """Nothing."""


class RestoredSas(Protocol):
    """What :meth:`gateway.ike.engine.IkeEngine.restore` returns."""

    @property
    def ike_sas(self) -> int:
        """How many were restored."""

    @property
    def children(self) -> tuple[InstallChildSa, ...]:
        """The child SAs that the dataplane should have, without keys."""


class TakeoverEngine(Protocol):
    """What is needed of :class:`gateway.ike.engine.IkeEngine`."""

    def restore(self, records: Mapping[str, bytes], now: float) -> RestoredSas:
        """Go on with the IKE SAs of these records."""

    def reconcile(self, kernel_spis: Collection[int], now: float) -> set[int]:
        """Compare with what the kernel has; the inbound SPIs that the engine knows."""

    def take_outputs(self) -> "list[Output]":
        """What to do."""


class KernelSide(Dataplane, Protocol):
    """A dataplane with events."""

    def read_events(self) -> "list[DataplaneEvent]":
        """What happened meanwhile."""


class TakenOver:
    """The sessions of the last process, and where this one's are remembered."""

    def __init__(self, store: "SessionStore | None", emit: Callable[[Event], None]) -> None:
        """Read what there is. Without a ``store`` nothing is taken over, and nothing kept."""
        self._store = store
        self._found = None if store is None else store.open()
        self._emit = emit
        self.records: SessionRecords = store or NoRecords()
        self.facts: dict[str, object] = {"ike_sas": 0, "child_sas": 0, "lost_child_sas": 0}
        """What a status page shows."""

    @property
    def anything(self) -> bool:
        """Whether the last process left records."""
        return self._found is not None and any(self._found.records.values())

    @property
    def database(self) -> "Store | None":
        """Where the records are, for what else belongs there; None: there is none."""
        return None if self._store is None else self._store.database

    @property
    def possible(self) -> bool:
        """Whether the next process will find anything."""
        return self._store is not None

    def of(self, kind: str, *, this_boot: bool = False) -> dict[str, bytes]:
        """Records of a kind by key; those that are good for nothing any more are forgotten.

        With ``this_boot`` that is what was kept before the machine started.
        """
        if self._found is None:
            return {}
        records = self._found.of(kind, this_boot=this_boot)
        for key in self._found.of(kind):
            if key not in records:
                self.records.forget(kind, key)
        return records

    def kinds(self, prefix: str) -> list[str]:
        """Kinds of the last process's records that begin so."""
        found = {} if self._found is None else self._found.records
        return [kind for kind in found if kind.startswith(prefix)]

    def take_in(self, records: Mapping[tuple[str, str], bytes]) -> None:
        """Records of an earlier version, by kind and key, as if the last process had left them.

        They are on disk when this returns; those that are there already stay. Waits for the
        disk. Raises :class:`gateway.store.errors.StoreError`.
        """
        if self._store is not None and self._found is not None:
            self._found = self._store.take_in(self._found, records)

    def ike_sas(
        self, engine: TakeoverEngine, dataplane: KernelSide, service: IkeService, now: float
    ) -> None:
        """Go on with the IKE SAs and child SAs of the last process. Raises OSError."""
        records = self.of(IKE, this_boot=True)
        if not records:
            dataplane.adopt(())
            return
        restored = engine.restore(records, now)
        children = {one.sa.spi_in: one for one in restored.children}
        lost = dataplane.adopt([(one.sa, one.outbound) for one in children.values()])
        there = children.keys() - set(lost)
        for spi_in, child in children.items():
            if spi_in in there:
                service.child_adopted(child)
        for spi_in in children.keys() - engine.reconcile(set(there), now):
            dataplane.remove_child_sa(spi_in)
        self.facts = {
            "ike_sas": restored.ike_sas,
            "child_sas": len(there),
            "lost_child_sas": len(lost),
        }
        service.flush(now, commit=True)
        service.dataplane_events(dataplane.read_events())
        self._tell(restored.ike_sas, len(there), len(lost))

    def _tell(self, ike_sas: int, there: int, lost: int) -> None:
        text = f"took over {ike_sas} IKE SAs with {there} child SAs of the last process"
        if lost:
            text += f"; {lost} child SAs were gone from the dataplane and are negotiated anew"
        severity = Severity.WARNING if lost else Severity.INFO
        self._emit(Event("sessions_taken_over", text, severity, dict(self.facts)))

    def release(self) -> None:
        """Everybody has what was left for him: it takes no memory any more."""
        self._found = None

    def start(self) -> None:
        """Write to the database from now on."""
        if self._store is not None:
            self._store.start()

    async def stop(self) -> None:
        """Write down what waits."""
        if self._store is not None:
            await self._store.stop()
