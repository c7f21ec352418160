"""What is remembered of one device, and what follows from it: where it is, and its access mode."""

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.access_mode import AccessMode

MAX_MOVES: Final = 32
"""Handovers that are remembered of a device."""
_NO_HEARD: Final = -1.0


@dataclass(frozen=True, slots=True)
class Configured:
    """A device as administrators describe it."""

    name: str
    identity: str
    source: str = "file"
    connection: str = ""
    user: str = ""
    platform: str = ""
    note: str = ""
    blocked: bool = False
    mobile_node: str = ""


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """A handover."""

    at_s: float
    """Of the wall clock."""
    kind: str
    old: str
    new: str
    proof: str
    gap_s: float | None
    precision_s: float


@dataclass(slots=True)
class SessionFacts:
    """An IKE SA and those that replace it."""

    spis: str
    """Its name now."""
    id: str
    """The correlation id in the log; stays through rekeying."""
    connection: str
    user: str
    local: str
    outer: str
    """Address and port."""
    natted: bool
    inner: tuple[str, ...]
    mobike: bool
    since_s: float
    """Of the wall clock."""
    by_tcp: bool = False
    children: dict[int, "ChildFacts"] = field(default_factory=dict)
    heard_at: float = _NO_HEARD
    """When a packet or message was last seen to have come, by the monotonic clock."""
    heard_precision_s: float = 0.0
    """How much earlier it may have come."""
    accounted_at: float = 0.0
    """Up to when its time is counted, by the monotonic clock."""

    @property
    def outer_host(self) -> str:
        """The address without its port."""
        return host_of(self.outer)


@dataclass(slots=True)
class ChildFacts:
    """A child SA."""

    spi_in: int
    spi_out: int
    suite: str
    encapsulated: bool
    endpoint_update: bool
    vpn_fa: bool
    remote: str
    """What lies at the device: its selectors."""
    counted: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Octets in and out, packets in and out, at the last sample."""
    sampled_at: float = _NO_HEARD
    rate_in: float = 0.0
    rate_out: float = 0.0
    """Octets a second between the last two samples."""


@dataclass(frozen=True, slots=True)
class BindingFacts:
    """A home agent of ours knows where the device is."""

    agent: str
    outside: bool
    """An x-HA: anybody may register from outside."""
    home_address: str
    care_of: tuple[str, ...]
    tunnels: tuple[str, ...]
    node: str
    nai: str
    co_located: bool
    zero_overhead: bool
    via_agent: str
    """Address of the foreign agent that relayed the registration."""
    since_s: float


@dataclass(frozen=True, slots=True)
class VisitorFacts:
    """It is behind a foreign agent of ours."""

    agent: str
    home_agent: str
    home_address: str
    nai: str
    through_vpn: bool
    link_address: str
    since_s: float


@dataclass(slots=True, eq=False)
class Device:
    """One device. What is not there costs nothing: most of ten thousand are at rest."""

    number: int
    name: str
    identity: str
    configured: Configured | None = None
    sessions: dict[str, SessionFacts] = field(default_factory=dict)
    """By the name of the IKE SA."""
    bindings: dict[tuple[str, str], BindingFacts] = field(default_factory=dict)
    visitors: dict[tuple[str, str, str], VisitorFacts] = field(default_factory=dict)
    moves: deque[MoveRecord] | None = None
    handovers: int = 0
    connected_s: float | None = None
    """Since when, of the wall clock; None: it is not."""
    last_seen_s: float | None = None
    failures: int = 0
    failed_s: float | None = None
    """When its last login was refused; None again when one succeeds."""
    failure_noted_s: float | None = None
    """When a failure was last noted in the history."""
    octets_in: int = 0
    octets_out: int = 0
    packets_in: int = 0
    packets_out: int = 0
    rate_in: float = 0.0
    rate_out: float = 0.0
    rtt_s: float | None = None
    where: str = "offline"
    mode: str = ""
    place: str = "offline"
    cost: tuple[int, int] | None = None
    """Octets of overhead and MTU, once somebody asked; see :mod:`.layers`."""
    search: str = ""
    """What filters look into, folded."""

    @property
    def source(self) -> str:
        """Where it is known from."""
        return "seen" if self.configured is None else self.configured.source

    @property
    def blocked(self) -> bool:
        """Whether its logins are refused."""
        return self.configured is not None and self.configured.blocked

    @property
    def session(self) -> SessionFacts | None:
        """The newest session, which its traffic takes."""
        return next(reversed(self.sessions.values()), None)

    @property
    def user(self) -> str:
        """Who logged in, or is expected to."""
        session = self.session
        if session is not None and session.user:
            return session.user
        return "" if self.configured is None else self.configured.user

    @property
    def connection(self) -> str:
        """Of its session, or as configured."""
        session = self.session
        if session is not None:
            return session.connection
        return "" if self.configured is None else self.configured.connection

    @property
    def outer(self) -> str:
        """Its outer address, with a port where one is known."""
        session = self.session
        if session is not None:
            x_mip = self.x_mip
            return x_mip.care_of[-1] if x_mip is not None and x_mip.care_of else session.outer
        for binding in self.bindings.values():
            if binding.care_of:
                return binding.care_of[-1]
        return ""

    @property
    def x_mip(self) -> BindingFacts | None:
        """The binding below the VPN: the session comes from its home address."""
        hosts = {session.outer_host for session in self.sessions.values()}
        for binding in self.bindings.values():
            if binding.outside and binding.home_address in hosts:
                return binding
        return None

    @property
    def i_mip(self) -> BindingFacts | None:
        """The binding inside the VPN, or that of a device that is inside."""
        x_mip = self.x_mip
        for binding in self.bindings.values():
            if binding is not x_mip and not (binding.outside and self.sessions):
                return binding
        return None

    @property
    def active(self) -> bool:
        """Whether anything of it is up."""
        return bool(self.sessions or self.bindings or self.visitors)

    def moved(self, record: MoveRecord) -> None:
        """Remember a handover."""
        if self.moves is None:
            self.moves = deque(maxlen=MAX_MOVES)
        self.moves.appendleft(record)
        self.handovers += 1

    def settle(self) -> None:
        """Work out where it is and how, from what is up."""
        self.cost = None
        self.mode = _mode(self)
        self.where, self.place = _where(self)
        # By its own clock: a device is at once in two sessions while one replaces the other.
        since = [one.since_s for one in self.sessions.values()]
        if not since:
            since = [one.since_s for one in self.bindings.values()]
            since += [one.since_s for one in self.visitors.values()]
        if not since:
            self.connected_s = None
        elif self.connected_s is None:
            self.connected_s = min(since)
        self.search = _search(self)


def _mode(device: Device) -> str:
    session = device.session
    if session is None:
        return _plain_mode(device)
    children = session.children.values()
    x_mip, i_mip = device.x_mip, device.i_mip
    x = "" if x_mip is None else ("c" if x_mip.co_located else "f")
    if any(one.vpn_fa for one in children):
        return f"{x}vf"
    if i_mip is not None and set(i_mip.care_of) & set(session.inner):
        by_update = any(one.endpoint_update for one in children)
        return AccessMode.MC.value if not (x or by_update) and session.mobike else f"{x}vc"
    return f"{x}v"


def _plain_mode(device: Device) -> str:
    for binding in device.bindings.values():
        return "c" if binding.co_located else "f"
    return "f" if device.visitors else ""


def _where(device: Device) -> tuple[str, str]:
    """The word for lists, and the node of the topology."""
    agent = next((one.agent for one in device.visitors.values() if not one.through_vpn), None)
    if agent is not None:
        return "behind-fa", f"foreign-agent:{agent}"
    if device.sessions:
        x_mip = device.x_mip
        if x_mip is not None and not x_mip.co_located and x_mip.via_agent:
            return "behind-fa", f"foreign-agent-at:{x_mip.via_agent}"
        return "outside", "internet"
    for binding in device.bindings.values():
        if not binding.co_located and binding.via_agent:
            return "behind-fa", f"foreign-agent-at:{binding.via_agent}"
        return ("away", "internet") if binding.outside else ("inside", "intranet")
    if device.visitors:
        return "outside", "internet"
    if device.blocked:
        return "blocked", "offline"
    return ("failed" if device.failed_s is not None else "offline"), "offline"


def _search(device: Device) -> str:
    words = [device.name, device.identity, device.user, device.outer]
    for session in device.sessions.values():
        words += [session.outer, *session.inner]
    words += [one.home_address for one in device.bindings.values()]
    if device.configured is not None:
        words += [device.configured.note, device.configured.platform]
    return "\n".join(words).casefold()


def host_of(endpoint: str) -> str:
    """``192.0.2.1`` of ``192.0.2.1:4500``, ``2001:db8::1`` of ``[2001:db8::1]:4500``."""
    if endpoint.startswith("["):
        return endpoint[1:].partition("]")[0]
    return endpoint.partition(":")[0] if endpoint.count(":") == 1 else endpoint


def seen_name(identity: str) -> str:
    """What a device is called that nobody configured."""
    return f"~{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
