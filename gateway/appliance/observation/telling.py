"""What every follower of events has: whose an event is, and where it is noted."""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.appliance.observation.device import Device, MoveRecord
from gateway.appliance.observation.register import Register
from gateway.appliance.observation.rings import NOTHING, Counts
from gateway.domain.event import Event

MESSAGE_PRECISION_S: Final = 0.001
FAILURES_APART_S: Final = 10.0
"""Between two failures of a device in the history; all of them are counted."""


class Chronicler(Protocol):
    """:class:`gateway.appliance.observation.chronicle.Chronicle`."""

    def used(self, identity: str, counts: Counts, connected_s: float, handovers: int = 0) -> None:
        """Add to today's use."""

    def happened(
        self, identity: str, session: str, what: str, text: str, fields: dict[str, object]
    ) -> None:
        """Note what happened."""


class Telling:
    """The register, the chronicle, and whose an event is."""

    def __init__(
        self,
        register: Register,
        chronicle: Chronicler,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._register = register
        self._chronicle = chronicle
        self._clock = clock
        self._wall_clock = wall_clock
        self.gaps_s: Callable[[float], None] = _nothing
        """Told of the gap of each handover."""
        self._ended = ""
        """The session that an event has ended."""

    # -- whose an event is ---------------------------------------------------------------------

    def _find(self, event: Event) -> Device | None:
        fields, register = event.fields, self._register
        found = register.of_session(str(fields.get("spis", "")))
        if found is None and fields.get("spi_in"):
            pair = register.of_spi(hexadecimal(fields["spi_in"]))
            found = pair[0] if pair is not None else None
        if found is None and fields.get("peer"):
            found = register.identified(str(fields["peer"]))
        if found is None and fields.get("home_address"):
            home_agent, home = str(fields.get("home_agent", "")), str(fields["home_address"])
            found = register.of_binding(home_agent, home) or register.of_inner(home)
        if found is None and (fields.get("nai") or fields.get("node")):
            found = register.of_node(str(fields.get("node", "")), str(fields.get("nai", "")))
        if found is None and fields.get("client"):
            found = register.of_inner(str(fields["client"]))
        if found is None and fields.get("user"):
            found = register.identified(str(fields["user"]))
        return found

    def _session_of(self, event: Event, device: Device) -> str:
        session = device.sessions.get(str(event.fields.get("spis", ""))) or device.session
        if session is not None:
            return session.id
        binding = next(iter(device.bindings.values()), None)
        if binding is not None:
            return f"mip-{int(IPv4Address(binding.home_address)):08x}-{int(binding.since_s):08x}"
        visitor = next(iter(device.visitors.values()), None)
        if visitor is not None:
            return f"mip-{int(IPv4Address(visitor.home_address)):08x}-{int(visitor.since_s):08x}"
        return ""

    def _note_move(  # noqa: PLR0917 - one fact each
        self,
        device: Device,
        session: str,
        event: Event,
        kind: str,
        gap_s: float | None,
        precision_s: float,
    ) -> None:
        fields = event.fields
        old, new, proof = (str(fields.get(name, "")) for name in ("old", "new", "proof"))
        wall_s = self._wall_clock()
        device.last_seen_s = wall_s
        device.moved(MoveRecord(wall_s, kind, old, new, proof, gap_s, precision_s))
        told = only(event, "old", "new", "proof")
        if gap_s is not None:
            told["gap_ms"] = round(gap_s * 1000, 1)
            self.gaps_s(gap_s)
        self._chronicle.used(device.identity, NOTHING, 0.0, 1)
        self._happened(device, session, "moved", event.text, told)

    def _fail(self, device: Device, session: str, event: Event, *names: str) -> None:
        """Note a failure. Nobody has proven anything: a flood must not fill the store."""
        wall_s = self._wall_clock()
        device.failures += 1
        if not device.active:
            device.failed_s = wall_s
        self._register.settle(device)
        noted_s = device.failure_noted_s
        if noted_s is None or not 0.0 <= wall_s - noted_s < FAILURES_APART_S:
            device.failure_noted_s = wall_s
            self._happened(device, session, "failed", event.text, only(event, *names))

    def _happened(
        self, device: Device, session: str, what: str, text: str, fields: dict[str, object]
    ) -> None:
        self._chronicle.happened(device.identity, session, what, text, fields)


def only(event: Event, *names: str) -> dict[str, object]:
    """Those of its fields that say something."""
    return {name: event.fields[name] for name in names if event.fields.get(name) not in {None, ""}}


def hexadecimal(value: object) -> int:
    """A number of an event; 0 for what is none."""
    try:
        return int(str(value), 16)
    except ValueError:
        return 0


def _nothing(_gap_s: float) -> None:
    return None
