"""The record of established IKE SAs: what another process needs to go on with them.

One record has the IKE SAs that came of one login by rekeying: one, or for a moment two or three.
A version octet, then JSON, at most 64 kB. It holds keys, so whoever keeps it seals it first. What
the peer can notice must be in it before a message leaves (message ids, initialization vectors,
answers that may be asked for again); when something last came from the peer, and how often we
repeated ourselves, need not be. Times are those of the host's clock, so a record is of use until
the host boots anew. SAs that are not established are not recorded: their peers begin again.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from gateway.domain.child_sa import Mode
from gateway.domain.remote_access import LAST_ZONE
from gateway.ike import record_login, record_policy
from gateway.ike import record_values as values
from gateway.ike.core import Core, TimerKey, TimerKind
from gateway.ike.record_values import MAX_RECORD_OCTETS, UNREADABLE, Json, Record
from gateway.ike.sa import Child, ChildState, IkeSa

FORMAT = 1
"""The version octet. A record of another version is of no use."""
DIGEST_OCTETS = 12
MAX_CHILDREN = 64
MAX_SAS = 16
"""IKE SAs of one record."""
_IKE_TIMERS = {
    TimerKind.REKEY_IKE: "rekey",
    TimerKind.EXPIRE_IKE: "expire",
    TimerKind.CHILDLESS: "childless",
    TimerKind.SESSION: "session",
    TimerKind.REAUTHENTICATE: "login",
    TimerKind.GIVE_UP: "give up",
}
_CHILD_TIMERS = {
    TimerKind.REKEY_CHILD: "rekey",
    TimerKind.EXPIRE_CHILD: "expire",
    TimerKind.ACTIVATE: "activate",
    TimerKind.REMOVE: "remove",
    TimerKind.RETIRE: "retire",
}
_IKE_KINDS = {name: kind for kind, name in _IKE_TIMERS.items()}
_CHILD_KINDS = {name: kind for kind, name in _CHILD_TIMERS.items()}
_FLAGS = (
    "session_initiator",
    "fragmentation",
    "mobike",
    "local_natted",
    "remote_natted",
    "encapsulate",
    "peer_knows_endpoint_update",
    "peer_knows_vpn_fa",
)
"""Bits of "flags", the lowest first."""


class UnusableRecord(ValueError):  # noqa: N818 - named for what it is
    """A record that nothing can be made of. Its text says why, never what is in it."""


@dataclass(slots=True)
class Found:
    """An IKE SA as a record has it, outside of every table and without its connection."""

    sa: IkeSa
    connection: str
    policy: bytes
    """Fingerprint of the connection as it was, see :mod:`gateway.ike.record_policy`."""
    timers: list[tuple[TimerKey, float]]
    trapped: tuple[int, ...]
    """Reqids of its child SAs that are those of a trap policy."""


@dataclass(frozen=True, slots=True)
class Family:
    """What one record holds."""

    key: str
    sas: tuple[Found, ...]
    mark: bytes
    """The digest of the record."""


def key_of(family: bytes) -> str:
    """The name of a record."""
    return family.hex()


def digest(octets: bytes) -> bytes:
    """A short digest, to know an unchanged record again."""
    return blake2b(octets, digest_size=DIGEST_OCTETS).digest()


# -- writing --------------------------------------------------------------------------------


def encode(core: Core, family: bytes, sas: Sequence[IkeSa]) -> bytes:
    """The record of a family. Raises ValueError where it would be too large."""
    record = {"family": values.octets(family), "sas": [_encode(core, sa) for sa in sas[-MAX_SAS:]]}
    octets = bytes((FORMAT,)) + _ENCODER.encode(record).encode("ascii")
    if len(octets) > MAX_RECORD_OCTETS:
        raise ValueError(f"a record of {len(octets)} octets, at most {MAX_RECORD_OCTETS} allowed")
    return octets


def _encode(core: Core, sa: IkeSa) -> Record:
    record = _shared(core, sa)
    record["own"] = core.version_of(sa).write_record(core, sa)
    return record


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)


def _shared(core: Core, sa: IkeSa) -> Record:
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    flags = 0
    for bit, name in enumerate(_FLAGS):
        if getattr(sa, name):
            flags |= 1 << bit
    record: Record = {
        "ike": sa.version,
        "initiator": sa.initiator,
        "spis": [values.octets(sa.initiator_spi), values.octets(sa.responder_spi)],
        "flags": flags,
        "path": values.path(sa.path),
        "connection": connection.name,
        "policy": values.octets(record_policy.of_sa(sa)),
        "peer": values.identity(sa.peer_id),
        "us": values.identity(sa.local_id),
        "auth": sa.auth,
        "origin": sa.origin,
        "times": [sa.created_at, sa.established_at],
        "timers": _timers(core, _IKE_TIMERS.items(), sa.local_spi),
        "children": [_child(core, child, connection.name) for child in sa.children.values()],
    }
    if sa.profile:
        record["profile"] = sa.profile
    record_login.write(sa, record)
    return record


def _timers(
    core: Core, kinds: Iterable[tuple[TimerKind, str]], name: bytes | int
) -> dict[str, float]:
    deadline = core.timers.deadline
    found = {}
    for kind, word in kinds:
        at = deadline((kind, name))
        if at is not None:
            found[word] = at
    return found


def _child(core: Core, child: Child, connection: str) -> Record:
    record: Record = {
        "spis": [child.spi_in, child.spi_out],
        "reqid": child.reqid,
        "suite": values.esp_suite(child.suite),
        "group": None if child.group is None else int(child.group),
        "ts": [
            [values.selector(one) for one in child.local_ts],
            [values.selector(one) for one in child.remote_ts],
        ],
        "state": child.state.value,
        "is": [
            child.udp_encapsulation,
            child.outbound_active,
            child.endpoint_update,
            child.vpn_fa,
        ],
        "installed": child.installed_at,
        "timers": _timers(core, _CHILD_TIMERS.items(), child.spi_in),
    }
    if child.mode is not Mode.TUNNEL:
        record["mode"] = child.mode.value
    if child.zone:
        record["zone"] = child.zone
    if child.replaced_by is not None:
        record["successor"] = child.replaced_by
    if core.trap_reqids.get(connection) == child.reqid:
        record["trap"] = True
    return record


# -- reading --------------------------------------------------------------------------------


def decode(core: Core, key: str, octets: bytes, now: float) -> Family:
    """The IKE SAs of a record. Nothing of the engine changes. Raises :class:`UnusableRecord`."""
    if not 1 < len(octets) <= MAX_RECORD_OCTETS:
        raise UnusableRecord(f"it has {len(octets)} octets")
    if octets[0] != FORMAT:
        raise UnusableRecord(f"it is of version {octets[0]}, {FORMAT} is known")
    try:
        record = values.fields(json.loads(octets[1:]))
        family = values.spi(record["family"])
        sas = tuple(
            _read(core, family, values.fields(one), now)
            for one in values.items(record["sas"], MAX_SAS)
        )
    except UNREADABLE as wrong:
        raise UnusableRecord(f"it cannot be read ({type(wrong).__name__})") from None
    if key_of(family) != key:
        raise UnusableRecord("it stands under the key of another one")
    if not sas or len({one.sa.local_spi for one in sas}) != len(sas):
        raise UnusableRecord("it has no IKE SA, or one twice")
    return Family(key, sas, digest(octets))


def _read(core: Core, family: bytes, record: Record, now: float) -> Found:
    version = core.versions[values.number(record["ike"], 1, 2)]
    spi_i, spi_r = values.items(record["spis"], 2)
    initiator = values.flag(record["initiator"])
    path = values.read_path(record["path"])
    sa = version.read_record(
        values.fields(record["own"]), values.spi(spi_i), values.spi(spi_r), initiator, path, now
    )
    sa.family = family
    flags = values.number(record["flags"], 0, (1 << len(_FLAGS)) - 1)
    for bit, name in enumerate(_FLAGS):
        setattr(sa, name, bool(flags >> bit & 1))
    sa.peer_id = values.read_identity(record["peer"])
    sa.local_id = values.read_identity(record["us"])
    sa.auth = values.text(record["auth"])
    sa.origin = values.text(record["origin"])
    sa.created_at, sa.established_at = map(values.time, values.items(record["times"], 2))
    sa.profile = values.text(record.get("profile", ""))
    record_login.read(sa, record)
    timers: list[tuple[TimerKey, float]] = []
    _read_timers(timers, record["timers"], _IKE_KINDS, sa.local_spi)
    trapped = []
    for one in values.items(record["children"], MAX_CHILDREN):
        child = _read_child(one)
        if child.spi_in in sa.children:
            raise ValueError("a child SA twice")
        sa.children[child.spi_in] = child
        _read_timers(timers, one["timers"], _CHILD_KINDS, child.spi_in)
        if "trap" in one:
            trapped.append(child.reqid)
    policy = values.read_octets(record["policy"], 1, 64)
    return Found(sa, values.text(record["connection"]), policy, timers, tuple(trapped))


def _read_timers(
    timers: list[tuple[TimerKey, float]],
    record: Json,
    kinds: dict[str, TimerKind],
    name: bytes | int,
) -> None:
    for word, at in values.fields(record).items():
        timers.append(((kinds[word], name), values.time(at)))


def _read_child(record: Json) -> Child:
    spi_in, spi_out = values.items(record["spis"], 2)
    local_ts, remote_ts = values.items(record["ts"], 2)
    encapsulated, outbound, endpoint_update, vpn_fa = values.items(record["is"], 4)
    child = Child(
        values.child_spi(spi_in),
        values.child_spi(spi_out),
        values.number(record["reqid"], 1, 0xFFFFFFFF),
        values.read_esp_suite(record["suite"]),
        values.read_group(record["group"]),
        values.read_selectors(local_ts),
        values.read_selectors(remote_ts),
        values.flag(encapsulated),
        values.time(record["installed"]),
    )
    if not child.local_ts or not child.remote_ts:
        raise ValueError("a child SA without selectors")
    child.state = ChildState(record["state"])
    child.outbound_active = values.flag(outbound)
    child.endpoint_update = values.flag(endpoint_update)
    child.vpn_fa = values.flag(vpn_fa)
    child.mode = Mode(record.get("mode", Mode.TUNNEL.value))
    child.zone = values.number(record.get("zone", 0), 0, LAST_ZONE)
    child.replaced_by = values.maybe_child_spi(record.get("successor"))
    return child
