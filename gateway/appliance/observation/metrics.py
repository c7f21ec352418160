"""Collects the metrics when somebody asks for them."""

import asyncio
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from gateway import __version__
from gateway.appliance.observation.exposition import CONTENT_TYPE, Sample, rendered
from gateway.appliance.observation.metric_names import METRICS
from gateway.control import observation_views as shapes

if TYPE_CHECKING:
    from gateway.appliance.administration.side import Surroundings
    from gateway.appliance.observation.chronicle import Chronicle
    from gateway.appliance.observation.following import Follower
    from gateway.appliance.observation.register import Register
    from gateway.appliance.observation.sampling import Sampler
    from gateway.appliance.observation.tally import Histogram, Tally
    from gateway.config.document import Config

CERTIFICATES_S: Final = 600.0
"""How long what is known of our certificates is taken for true."""
DROPPED: Final = (
    "malformed_messages",
    "integrity_failures",
    "unknown_spis",
    "spi_mismatches",
    "requests_outside_window",
    "requests_out_of_state",
    "responses_unexpected",
    "responses_from_elsewhere",
    "messages_reflected",
    "messages_shed",
    "first_messages_shed",
    "fragments_refused",
    "half_open_limit_reached",
    "half_open_source_limit_reached",
    "key_exchanges_put_off",
    "logins_refused_by_rate",
    "unauthenticated_errors",
    "unsupported_critical_payloads",
    "other_versions",
)
"""Counters of the IKE engine that are messages thrown away; the label is the counter's name."""

_Found = Iterator[tuple[str, Iterable[Sample]]]


class Observed(Protocol):
    """What is read of :class:`gateway.appliance.observation.side.Observation`."""

    register: "Register"
    chronicle: "Chronicle"
    sampler: "Sampler"
    follower: "Follower"
    tally: "Tally"
    lag_s: float

    @property
    def captures_running(self) -> int:
        """Packet captures."""


class Metrics:
    """All of :data:`gateway.appliance.observation.metric_names.METRICS`."""

    def __init__(self, observed: Observed, around: "Surroundings") -> None:
        self._observed = observed
        self._around = around
        self._expiries: list[tuple[str, str, float]] = []
        self._expiries_of: Config | None = None
        self._expiries_at = 0.0
        self._started_s = time.time() - _age_of_process_s()

    async def answer(self, *, devices: bool) -> shapes.Metrics:
        """The text for Prometheus; with ``devices``, also of each device."""
        await self._look_at_certificates()
        found = dict(self._collect(devices=devices))
        families = [(METRICS[name], found.get(name, ())) for name in METRICS]
        return {"content_type": CONTENT_TYPE, "text": rendered(families)}

    def _collect(self, *, devices: bool) -> _Found:
        facts = self._around.facts()
        yield from self._process(facts)
        yield from self._sessions(facts)
        yield from self._places()
        yield from self._events()
        yield from _engine_counters(facts)
        yield from self._store()
        if devices:
            yield (
                "gateway_device_traffic_bytes_total",
                [
                    Sample((device.name, direction), value)
                    for device in self._observed.register
                    if device.active
                    for direction, value in (
                        ("in", device.octets_in),
                        ("out", device.octets_out),
                    )
                ],
            )

    def _process(self, facts: Mapping[str, object]) -> _Found:
        yield _one("gateway_up", 1)
        build = (__version__, platform.python_version())
        yield "gateway_build_info", [Sample(build, 1)]
        yield _one("gateway_start_time_seconds", round(self._started_s, 3))
        yield _one(
            "gateway_takeovers_total", float(any(_mapping(facts.get("taken_over")).values()))
        )
        reloads = _mapping(facts.get("reloads"))
        refused = _number(reloads.get("refused"))
        yield (
            "gateway_reloads_total",
            [
                Sample(("done",), _number(reloads.get("count")) - refused),
                Sample(("refused",), refused),
            ],
        )
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield _one("gateway_resident_memory_bytes", _resident_octets())
        yield _one("gateway_cpu_seconds_total", round(used.ru_utime + used.ru_stime, 3))
        yield _one("gateway_open_descriptors", len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        yield _one("gateway_event_loop_lag_seconds", round(self._observed.lag_s, 4))
        yield _one("gateway_captures_running", self._observed.captures_running)
        api = _mapping(facts.get("api"))
        yield _one("gateway_api_up", float(api.get("state") == "running"))
        now_s = self._around.wall_clock()
        yield (
            "gateway_certificate_expiry_seconds",
            [Sample((file, subject), round(at - now_s)) for file, subject, at in self._expiries],
        )

    def _sessions(self, facts: Mapping[str, object]) -> _Found:
        configured = list(self._around.config().connections)
        sessions: Counter[str] = Counter()
        for device in self._observed.register:
            for session in device.sessions.values():
                sessions[session.connection] += 1
        children = Counter(name for _, _, name in self._around.engine.child_sa_names())
        names = list(dict.fromkeys([*configured, *sessions]))
        half_open = _number(facts.get("ike_sas")) - sum(sessions.values())
        yield (
            "gateway_connection_configured",
            [Sample((name,), float(name in configured)) for name in names],
        )
        yield (
            "gateway_connection_up",
            [Sample((name,), float(sessions[name] > 0)) for name in names],
        )
        yield "gateway_sessions", [Sample((name,), sessions[name]) for name in names]
        yield "gateway_child_sas", [Sample((name,), children[name]) for name in names]
        yield _one("gateway_half_open", max(0, half_open))
        sums = self._observed.sampler.by_connection
        traffic = {name: sums.get(name, (0, 0, 0, 0)) for name in dict.fromkeys([*names, *sums])}
        for metric, first in (
            ("gateway_traffic_bytes_total", 0),
            ("gateway_traffic_packets_total", 2),
        ):
            yield (
                metric,
                [
                    Sample((name, direction), counts[first + place])
                    for name, counts in traffic.items()
                    for place, direction in enumerate(("in", "out"))
                ],
            )
        pools = self._around.engine.pools
        yield "gateway_pool_addresses", [Sample((name,), one.size) for name, one in pools.items()]
        yield (
            "gateway_pool_addresses_used",
            [Sample((name,), one.in_use) for name, one in pools.items()],
        )
        tally, wall_s = self._observed.tally, self._around.wall_clock()
        handshakes = {(name,): 0 for name in configured} | tally.handshakes
        yield "gateway_handshakes_total", _counted(handshakes)
        yield (
            "gateway_last_handshake_age_seconds",
            [
                Sample((name,), round(max(0.0, wall_s - at), 3))
                for name, at in tally.last_handshake_s.items()
            ],
        )

    def _places(self) -> _Found:
        where, modes = self._observed.register.counts()
        yield "gateway_devices", [Sample((name,), count) for name, count in where.items()]
        yield "gateway_devices_by_mode", [Sample((name,), count) for name, count in modes.items()]
        agents = self._around.mobility()
        homes = agents.home_agents if agents is not None else {}
        visited = agents.foreign_agents if agents is not None else {}
        yield (
            "gateway_bindings",
            [Sample((name,), len(one.home_addresses())) for name, one in homes.items()],
        )
        yield (
            "gateway_visitors",
            [Sample((name,), len(one.visitor_keys())) for name, one in visited.items()],
        )
        leases = self._observed.follower.leases
        yield _one("gateway_nar_leases", sum(leases.values()))
        yield _one("gateway_nar_clients", len(leases))

    def _events(self) -> _Found:
        tally = self._observed.tally
        yield "gateway_login_failures_total", _counted(tally.login_failures)
        yield "gateway_registration_failures_total", _counted(tally.registration_failures)
        yield "gateway_rekeys_total", _counted(tally.rekeys)
        yield "gateway_moves_total", _counted(tally.moves)
        yield "gateway_handover_gap_seconds", _histogram(tally.gaps)
        yield _one("gateway_warnings_total", tally.warnings)

    def _store(self) -> _Found:
        chronicle = self._observed.chronicle
        yield _one("gateway_store_writes_total", chronicle.counters["written"])
        yield _one("gateway_store_write_failures_total", chronicle.counters["failures"])
        yield _one("gateway_store_rows_lost_total", chronicle.counters["lost"])
        yield _one("gateway_store_rows_waiting", chronicle.waiting)

    async def _look_at_certificates(self) -> None:
        config, now = self._around.config(), self._around.clock()
        fresh = now - self._expiries_at < CERTIFICATES_S
        if config is self._expiries_of and fresh:
            return
        self._expiries_of, self._expiries_at = config, now
        self._expiries = await asyncio.to_thread(expiries, config)


def expiries(config: "Config") -> list[tuple[str, str, float]]:
    """File, subject and end (seconds since the epoch) of our own certificates; reads them."""
    from gateway.config.credential_files import (  # noqa: PLC0415 - in a thread, seldom
        FileRefusedError,
        credential_keys,
        read_certificates,
        subject,
    )

    found: dict[str, tuple[str, str, float]] = {}
    for name, section in config.connections.items():
        file = credential_keys(config, name, section).certificate
        if not section.needs_certificate or file is None or str(file) in found:
            continue
        try:
            certificate = read_certificates(file)[0]
        except (FileRefusedError, OSError, IndexError):
            continue
        at = certificate.not_valid_after_utc.timestamp()
        found[str(file)] = (file.name, str(subject(certificate)), at)
    return list(found.values())


def _engine_counters(facts: Mapping[str, object]) -> _Found:
    counters = _mapping(facts.get("counters"))
    ike = _mapping(counters.get("ike"))
    yield "gateway_ike_events_total", _named(ike)
    dropped = {name: _number(ike.get(name)) for name in DROPPED}
    yield "gateway_ike_dropped_total", [Sample((name,), count) for name, count in dropped.items()]
    yield _one("gateway_retransmissions_total", _number(ike.get("retransmissions")))
    yield _one("gateway_child_rekeys_total", _number(ike.get("child_sas_rekeyed")))
    yield "gateway_socket_events_total", _named(_mapping(counters.get("sockets")))
    yield "gateway_control_events_total", _named(_mapping(counters.get("control")))
    lines = _mapping(counters.get("log")).get("lines_suppressed")
    yield _one("gateway_log_lines_suppressed_total", _number(lines))
    mobility, nar = _mapping(facts.get("mobility")), _mapping(facts.get("nar"))
    parts = {
        "ike": _mapping(_mapping(facts.get("dataplane")).get("counters")),
        "mobility": _mapping(_mapping(mobility.get("dataplane")).get("counters")),
        "nar": _mapping(_mapping(nar.get("dataplane")).get("counters")),
    }
    yield "gateway_dataplane_events_total", _named_in(parts)
    yield "gateway_mobility_events_total", _named_in(_mapping(mobility.get("counters")))
    yield "gateway_nar_events_total", _named_in(_mapping(nar.get("counters")))


def _named(counters: Mapping[str, object]) -> list[Sample]:
    return [Sample((name,), _number(count)) for name, count in counters.items() if _is(count)]


def _named_in(parts: Mapping[str, object]) -> list[Sample]:
    return [
        Sample((part, name), _number(count))
        for part, counters in parts.items()
        for name, count in _mapping(counters).items()
        if _is(count)
    ]


def _one(name: str, value: float) -> tuple[str, list[Sample]]:
    return name, [Sample((), value)]


def _counted(counts: Mapping[tuple[str, ...], int]) -> list[Sample]:
    return [Sample(labels, count) for labels, count in counts.items()]


def _histogram(found: "Histogram") -> list[Sample]:
    rows = [Sample((), count, "_bucket", bound) for bound, count in found.cumulative()]
    count = rows[-1].value
    return [*rows, Sample((), round(found.total, 6), "_sum"), Sample((), count, "_count")]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _is(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def _resident_octets() -> int:
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _age_of_process_s(read: Callable[[], bytes] = Path("/proc/self/stat").read_bytes) -> float:
    """Since the process began, from the kernel's ticks."""
    began = int(read().rpartition(b")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
