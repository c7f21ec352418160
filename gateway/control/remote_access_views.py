"""What operations of remote access answer with.

Times are ISO 8601 in UTC with milliseconds, sizes octets, durations seconds unless the name says
otherwise; None is what is not known or does not apply. ``device`` is a name as ``devices`` lists
it. Lists are :class:`gateway.control.protocol.Page`; everything is plain JSON.
"""

from typing import TypedDict

# -- inner addresses: leases, lease-history, lease-release, reachability


class Lease(TypedDict):
    """An inner address that is held. ``leases`` answers with a page of them."""

    pool: str
    address: str
    state: str
    """``in-use``, ``kept`` (its device is away), ``static`` (nobody else gets it) or ``reserved``
    (devices never get it)."""
    why: str
    """For people: ``in use by session 1f2e...``, ``kept for alice until ...``."""
    identity: str | None
    """Who has it; None where it is reserved."""
    user: str | None
    device: str | None
    session: str | None
    since: str | None
    until: str | None
    """When it is free; None while it is in use, static or reserved."""


class LeaseRecord(TypedDict):
    """Who had an address. ``lease-history`` answers with a page of them."""

    pool: str
    address: str
    identity: str
    user: str | None
    device: str | None
    session: str | None
    first_at: str
    last_at: str | None
    """When its session ended; None while it goes on."""
    reason: str | None
    """``ended``, ``lost`` (its session did not outlast a restart) or ``released`` (it ended, and
    then an administrator gave the address free)."""


class LeaseReleased(TypedDict):
    """``lease-release``: the address is free."""

    pool: str
    address: str
    identity: str
    """Whom it was kept for."""


class Route(TypedDict):
    """What has to be entered in an inside router."""

    network: str
    via: str | None
    """The gateway's address there, where it is known."""
    command: str
    """``ip route add 10.83.112.0/22 via 10.1.0.1``."""


class PoolReachability(TypedDict):
    """How the inside learns where a pool is."""

    pool: str
    network: str
    advertise: str
    """``none``, ``proxy-arp``, ``frr`` or ``route-hint``, as configured."""
    interface: str | None
    state: str
    """``ok``, ``todo`` (``routes`` has to be entered), ``failed`` or ``unknown``."""
    detail: str
    """For people: what was found, and what to do."""
    announced: int
    """Addresses or networks that are answered for or announced now."""
    routes: list[Route]


class PoolUse(TypedDict):
    """How full a pool is."""

    pool: str
    network: str
    size: int
    """Addresses that devices can have."""
    in_use: int
    kept: int
    static: int
    reserved: int


class Reachability(TypedDict):
    """``reachability``: one entry for each pool."""

    items: list[PoolReachability]
    pools: list[PoolUse]


# -- inside presence: napt-sessions, redirects


class NaptSession(TypedDict):
    """A session without inner address. ``napt-sessions`` answers with a page of them."""

    session: str
    device: str | None
    identity: str
    user: str | None
    addresses: list[str]
    """Its own, in the tunnel; other sessions may have the same."""
    zone: int
    napt: str | None
    """``[napt.NAME]``; None for the defaults."""
    seen_as: list[str]
    """Addresses and ranges that it has inside; empty: that of the interface it leaves by."""
    since: str | None


class Redirect(TypedDict):
    """A port forward. ``redirects`` answers with a page of them."""

    name: str
    protocol: str
    address: str | None
    """None: every inside address of the gateway."""
    ports: str
    """``8080`` or ``8000-8099``."""
    device: str
    """As configured."""
    sources: list[str]
    """Empty: everybody inside."""
    state: str
    """``active``, or ``waiting`` while the device is away."""
    leads_to: str | None
    """Address and ports of the device now; None while it is away."""
    session: str | None
    connections: int
    """Since the start."""
    packets: int
    bytes: int


# -- rules: rules-of, rule-counters, rule-test


class RuleOfDevice(TypedDict):
    """A rule that applies to a device."""

    name: str
    action: str
    direction: str
    in_force: bool
    """False outside of its times."""
    words: str
    """For people: ``allow to-inside tcp 443 to 10.1.0.0/16, mon-fri 08:00-18:00``."""
    why: str
    """Why it applies: ``profile staff``, ``group admins``, ``user alice``, ``device phone``."""
    packets: int
    """That it let through or refused, of this device."""
    bytes: int


class Usage(TypedDict):
    """Traffic of a device that passed the rules, since it connected."""

    packets_in: int
    """``in`` is from the device."""
    bytes_in: int
    packets_out: int
    bytes_out: int
    refused: int
    """Packets of either direction."""


class RulesOfDevice(TypedDict):
    """``rules-of``."""

    device: str
    connected: bool
    """False: what would apply, as far as it is known without a session."""
    addresses: list[str]
    rules: list[RuleOfDevice]
    otherwise: dict[str, str]
    """What no rule says, in words, by direction."""
    bandwidth_up_kbit_s: int | None
    bandwidth_down_kbit_s: int | None
    usage: Usage | None


class RuleCounter(TypedDict):
    """``rule-counters`` answers with a page of them."""

    name: str
    action: str
    direction: str
    in_force: bool
    words: str
    sessions: int
    """That it applies to now."""
    packets: int
    """Let through or refused, of all devices, since the start."""
    bytes: int


class RuleTest(TypedDict):
    """``rule-test``."""

    allowed: bool
    rule: str | None
    """Which says so; None: what holds without rules."""
    why: str
    """For people: ``refused: rules.office allows other things in this direction``."""
    sessions: int
    """The device's sessions that were considered; 0: as if it connected now."""


# -- names: names, names-verify


class ForwardRule(TypedDict):
    """Where names below some domains are asked for."""

    domains: list[str]
    """Empty: all others."""
    servers: list[str]
    answering: bool | None
    """Of the last question; None before the first."""


class Forwarder(TypedDict):
    """The forwarder on the gateway."""

    state: str
    """``off``, ``running`` or ``failed``."""
    detail: str
    listen: list[str]
    port: int
    forward: list[ForwardRule]
    cached: int
    questions: int
    from_cache: int
    failures: int


class RegisteredName(TypedDict):
    """A device's name inside."""

    name: str
    """``phone.devices.example.org``."""
    addresses: list[str]
    device: str | None
    identity: str
    state: str
    """``registered``, ``pending``, ``failed``, or ``refused`` (another device has that name)."""
    detail: str
    since: str | None


class Registration(TypedDict):
    """Dynamic update of names inside."""

    state: str
    """``off``, ``ok`` or ``failed``."""
    detail: str
    server: str | None
    zone: str | None
    pending: int


class NamesView(TypedDict):
    """``names``."""

    forwarder: Forwarder
    registration: Registration
    items: list[RegisteredName]
    """At most 1000."""
    total: int


class PublicRecord(TypedDict):
    """A record of public DNS, as it should be and as it is."""

    record: str
    """As in a zone file: ``_isakmp._udp.example.org. IN SRV 0 0 500 gw.example.org.``."""
    state: str
    """``ok``, ``missing``, ``different`` or ``unknown`` (no answer)."""
    found: list[str]
    detail: str


class NamesVerify(TypedDict):
    """``names-verify``."""

    domain: str | None
    ok: bool
    items: list[PublicRecord]
    advice: list[str]
    """What to do before the records are of use, in words."""


# -- MTU and paths: mtu, path-test


class MtuStep(TypedDict):
    """One step of the arithmetic, from the path's MTU downward."""

    what: str
    """``UDP encapsulation``."""
    octets: int
    """What it takes; negative for what it adds."""
    left: int


class DeviceMtu(TypedDict):
    """``mtu``: largest packets of a device."""

    device: str
    connected: bool
    path: int
    """MTU of the path outside."""
    path_source: str
    """``assumed``, ``configured``, ``interface`` or ``measured``."""
    steps: list[MtuStep]
    arithmetic: str
    """``1500 - 20 (IPv4) - 8 (UDP) - ... = 1438``."""
    inner: int
    """Largest inner packet."""
    configured: int | None
    """``dataplane.mtu``."""
    effective: int
    """The smaller of the two."""
    mss_ipv4: int
    mss_ipv6: int
    published: list[str]
    """How devices and senders learn of it, in words."""
    warnings: list[str]


class Probe(TypedDict):
    """A probe of a path test."""

    octets: int
    """Of the inner packet."""
    arrived: bool
    rtt_ms: float | None
    detail: str


class PathTest(TypedDict):
    """``path-test``."""

    device: str
    address: str
    """Inner address that was probed."""
    ok: bool
    """The largest packet that ``mtu`` promises arrived."""
    largest: int | None
    """Largest inner packet that arrived; None when nothing was answered."""
    expected: int
    summary: str
    """For people, with what to do."""
    probes: list[Probe]
