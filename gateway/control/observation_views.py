"""What operations about observation answer with.

Times are ISO 8601 in UTC with milliseconds, sizes octets, durations seconds unless the name says
otherwise. Lists are :class:`gateway.control.protocol.Page`; everything is plain JSON.
"""

from typing import TypedDict


class Move(TypedDict):
    """A device went from one address to another."""

    at: str
    kind: str
    """``endpoint`` (the SA follows packets or MOBIKE), ``care-of`` (a home agent's binding)."""
    old: str
    new: str
    proof: str
    """What authenticated the new place."""
    gap_ms: float | None
    """From the last packet or message that came by the old way to the first by the new one; None
    when nothing was seen before. ``docs/observability.md`` says how it is measured."""
    precision_ms: int
    """How far ``gap_ms`` may be too long."""


class Device(TypedDict):
    """A device in a list."""

    name: str
    identity: str
    source: str
    """``store`` (API, dashboard), ``file`` (gateway.toml), or ``seen`` (logged in, not
    configured; its name begins with ``~``)."""
    user: str | None
    connection: str | None
    platform: str | None
    note: str
    where: str
    """``outside``: in a VPN session; ``inside``: registered from inside, or at home; ``behind-fa``:
    a visitor of a foreign agent of ours; ``away``: bound at a home agent of ours from elsewhere,
    without a session here; ``offline``; ``blocked``; ``failed``: its last login was refused, and
    it has no session."""
    mode: str | None
    """Access mode of draft 001 section 3 as far as it is seen from here: ``c``, ``f``, ``v``,
    ``vc``, ``vf``, ``cvc``, ``cvf``, ``fvc``, ``fvf``."""
    place: str | None
    """The node of :class:`Topology` it is drawn at."""
    foreign_agent: str | None
    """Name of ours that it is behind, or the address of the one that relayed its registration."""
    outer: str | None
    """Its outer address and port."""
    nat: bool
    """A NAT lies between it and us."""
    inner_addresses: list[str]
    home_address: str | None
    care_of_addresses: list[str]
    overhead_octets: int | None
    """Of all layers that are seen from here."""
    mtu: int | None
    """Largest inner packet that needs no fragment on a path of 1500 octets."""
    connected: bool
    connected_since: str | None
    last_seen: str | None
    handovers: int
    """Since it connected."""
    last_move: Move | None
    rtt_ms: float | None
    """Of the last exchange of IKE that we began."""
    bytes_in: int
    """Since it connected; ``in`` is from the device. Refreshed every ten seconds."""
    bytes_out: int
    packets_in: int
    packets_out: int
    rate_in: float
    """Octets a second, over the last sample."""
    rate_out: float
    failures: int
    """Logins and registrations of it that failed since the start."""
    last_failed: str | None
    """None also when it has logged in since."""
    blocked: bool
    sessions: list[str]
    """Correlation ids of its IKE sessions in the log."""


class Header(TypedDict):
    """One header or trailer of a layer."""

    name: str
    octets: int


class Layer(TypedDict):
    """One layer of encapsulation, the outermost first."""

    name: str
    """``x-mip``, ``vpn``, ``i-mip``."""
    what: str
    """For people: ``ESP in UDP, aes_gcm_16_256, tunnel``."""
    local: str
    remote: str
    headers: list[Header]
    octets: int
    """All headers together."""
    own_link: bool
    """False: a foreign agent adds it, so the device's own link does not carry it."""


class Mtu(TypedDict):
    """How the MTU comes about."""

    link: int
    """Assumed of the path: 1500."""
    overhead: int
    inner: int
    arithmetic: str
    """``1500 - 20 (IPv4) - 8 (UDP) - ... - 2 (pad length, next header) = 1438``."""
    configured: int | None
    """``dataplane.mtu``: the gateway sends no larger packet into a tunnel; None without one."""


class DeviceFailure(TypedDict):
    """A failed login or denied registration."""

    id: str
    kind: str
    """``login`` or ``registration``."""
    first_at: str
    last_at: str
    count: int
    remote: str
    step: str
    reason: str
    theirs: str | None
    ours: str | None
    code: int | None
    """Of a registration's reply."""
    remedy: str


class DeviceDetail(Device):
    """One device, with everything that is known of it now."""

    mobile_node: str | None
    ike_sas: list[dict[str, object]]
    """As ``ike-sas`` lists them, each with ``session``, its correlation id in the log."""
    child_sas: list[dict[str, object]]
    """As ``child-sas`` lists them, counters read now."""
    bindings: list[dict[str, object]]
    """As ``bindings`` lists them."""
    visitors: list[dict[str, object]]
    """As ``visitors`` lists them."""
    nar_leases: int
    layers: list[Layer]
    path_mtu: Mtu | None
    moves: list[Move]
    """The last 32, the newest first."""
    recent_failures: list[DeviceFailure]
    """The newest first, at most 20."""


class TrafficSample(TypedDict):
    """Traffic of one interval."""

    at: str
    """When the interval began."""
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int


class DeviceTraffic(TypedDict):
    """Answer of ``device-traffic``."""

    name: str
    span: str
    interval_s: int
    """10 for ``1h``, 300 for ``24h``, 86400 for ``30d``."""
    samples: list[TrafficSample]
    """The oldest first, intervals without traffic included once the device was seen."""


class HistoryEntry(TypedDict):
    """An item of ``device-history`` and ``history``; their ``total`` is that of the page."""

    id: str
    at: str
    device: str
    """Its name, or the identity of one that is forgotten."""
    what: str
    """``connected``, ``moved``, ``failed``, ``disconnected``."""
    session: str
    text: str
    fields: dict[str, object]


class Place(TypedDict):
    """A node of the topology."""

    id: str
    """``internet``, ``intranet``, ``gateway``, ``home-agent:NAME``, ``foreign-agent:NAME``,
    ``foreign-agent-at:ADDRESS``, ``home-network:NAME``, ``offline``."""
    kind: str
    """``internet``, ``intranet``, ``gateway``, ``home-agent``, ``foreign-agent``,
    ``home-network``, ``offline``."""
    name: str
    zone: str
    """``outside``, ``dmz`` or ``inside``: the column it is drawn in."""
    address: str | None
    ours: bool
    devices: int
    """How many are drawn here."""
    first: list[dict[str, object]]
    """Up to 24 of them: ``{name, identity, where, mode}``; the rest by ``devices``."""


class Edge(TypedDict):
    """A way between two nodes of the topology."""

    a: str
    b: str


class Topology(TypedDict):
    """Answer of ``topology``."""

    places: list[Place]
    edges: list[Edge]
    where: dict[str, int]
    """Devices by ``where``."""
    modes: dict[str, int]
    """Devices by access mode."""
    total: int


class Metrics(TypedDict):
    """Answer of ``metrics``."""

    content_type: str
    text: str


class Capture(TypedDict):
    """A packet capture; items of ``captures``, and what ``capture-start`` and ``-stop`` answer."""

    id: str
    device: str
    state: str
    """``running`` or ``done``."""
    ended_by: str | None
    """``time``, ``size``, ``stopped``, ``fault: ...``."""
    started_at: str
    ends_at: str
    """While it runs: the latest end. Then: when it is removed."""
    seconds: int
    max_octets: int
    octets: int
    packets: int
    dropped: int
    """Packets that came faster than they could be recorded."""
    filter: list[str]
    """What it looks for: addresses and SPIs."""
    file_name: str


class Captures(TypedDict):
    """Answer of ``captures``."""

    items: list[Capture]
    next: str | None
    total: int


class Piece(TypedDict):
    """A piece of a file: of ``capture-read`` and ``support``."""

    id: str
    file_name: str
    media_type: str
    offset: int
    octets: int
    """Of the file as far as it is written."""
    content: str
    """Base64, at most 512 KiB before it."""
    next: int | None
    """The offset of the next piece; None: this is the end as of now."""
