"""Events and state dumps of NETLINK_XFRM, the fields that the gateway acts on."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from gateway.dataplane.kernel.netlink import attributes
from gateway.dataplane.kernel.xfrm.constants import SpdAttribute, XfrmAttribute, XfrmMessage
from gateway.dataplane.kernel.xfrm.encode import AF_INET, Consumed, ReplayState
from gateway.domain.endpoint import Endpoint, IpAddress

# xfrm_usersa_info: selector, id, source, limits, current lifetime, statistics, seq, reqid ...
_STATE = struct.Struct("=56x16s4sB3x16s64x4QIIIIIHBBB7x")
_POLICY = struct.Struct("=56x64x32xIIB7x")
_TEMPLATE_REQID = struct.Struct("=44xI16x")
_MAPPING = struct.Struct("=16s4sHBxI16s16s2s2s")
_REPLAY_ESN = struct.Struct("=6I")
_REPLAY = struct.Struct("=3I")
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
STATE_SIZE = 224
POLICY_SIZE = 168
_ACQUIRE_SIZE = 280


def _address(family: int, octets: bytes) -> IpAddress:
    return IPv4Address(octets[:4]) if family == AF_INET else IPv6Address(octets)


@dataclass(frozen=True, slots=True)
class State:
    """A state as the kernel reports it."""

    destination: IpAddress
    spi: int
    protocol: int
    source: IpAddress
    reqid: int
    if_id: int
    consumed: Consumed
    replay: ReplayState
    last_used: int | None
    """Seconds since the epoch; kernels before 6.x keep it for outbound states only."""
    failed_integrity: int
    failed_replay: int


@dataclass(frozen=True, slots=True)
class Policy:
    """What adoption needs of a policy."""

    index: int
    direction: int
    priority: int
    if_id: int
    reqids: tuple[int, ...]
    mark: int = 0
    """Fwmark of the packets it is for; 0 asks for none."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """An authenticated UDP-encapsulated packet came from a new address or port."""

    spi: int
    local: IpAddress
    reqid: int
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class Expire:
    """A limit of a state was reached."""

    destination: IpAddress
    spi: int
    reqid: int
    hard: bool


@dataclass(frozen=True, slots=True)
class Acquire:
    """A packet wants a state that is not there."""

    reqid: int


XfrmEvent = Mapping | Expire | Acquire


def _replay(found: dict[int, bytes]) -> ReplayState:
    esn = found.get(XfrmAttribute.REPLAY_ESN_VAL)
    if esn is not None and len(esn) >= _REPLAY_ESN.size:
        words, sent, received, sent_high, received_high, _ = _REPLAY_ESN.unpack_from(esn)
        return ReplayState(
            sent_high << 32 | sent, received_high << 32 | received, esn[24 : 24 + 4 * words]
        )
    plain = found.get(XfrmAttribute.REPLAY_VAL)
    if plain is not None and len(plain) >= _REPLAY.size:
        sent, received, _ = _REPLAY.unpack_from(plain)
        return ReplayState(sent, received)
    return ReplayState()


def _u32(found: dict[int, bytes], kind: int) -> int:
    value = found.get(kind, b"")
    number: int = _U32.unpack(value)[0] if len(value) == 4 else 0
    return number


def state(body: bytes) -> State | None:
    """A NEWSA body; None when it is too short."""
    if len(body) < STATE_SIZE:
        return None
    (
        destination,
        spi,
        protocol,
        source,
        octets,
        packets,
        added_at,
        used_at,
        _window,
        replays,
        integrity,
        _seq,
        reqid,
        outer_family,
        _mode,
        _replay_window,
        _flags,
    ) = _STATE.unpack_from(body)
    found = attributes(body, STATE_SIZE)
    used = found.get(XfrmAttribute.LASTUSED, b"")
    return State(
        destination=_address(outer_family, destination),
        spi=int.from_bytes(spi, "big"),
        protocol=protocol,
        source=_address(outer_family, source),
        reqid=reqid,
        if_id=_u32(found, XfrmAttribute.IF_ID),
        consumed=Consumed(octets, packets, added_at, used_at),
        replay=_replay(found),
        last_used=_U64.unpack(used)[0] if len(used) == 8 else None,
        failed_integrity=integrity,
        failed_replay=replays,
    )


def policy(body: bytes) -> Policy | None:
    """A NEWPOLICY body; None when it is too short."""
    if len(body) < POLICY_SIZE:
        return None
    priority, index, direction = _POLICY.unpack_from(body)
    found = attributes(body, POLICY_SIZE)
    return Policy(
        index=index,
        direction=direction,
        priority=priority,
        if_id=_u32(found, XfrmAttribute.IF_ID),
        reqids=_template_reqids(found.get(XfrmAttribute.TMPL, b"")),
        mark=_u32({XfrmAttribute.MARK: found.get(XfrmAttribute.MARK, b"")[:4]}, XfrmAttribute.MARK),
    )


def _template_reqids(templates: bytes) -> tuple[int, ...]:
    return tuple(
        _TEMPLATE_REQID.unpack_from(templates, offset)[0]
        for offset in range(0, len(templates) - 63, 64)
    )


def event(kind: int, body: bytes) -> XfrmEvent | None:
    """An event body; None for what the gateway does not act on."""
    if kind == XfrmMessage.MAPPING and len(body) >= _MAPPING.size:
        destination, spi, family, _, reqid, _, source, _, port = _MAPPING.unpack_from(body)
        return Mapping(
            spi=int.from_bytes(spi, "big"),
            local=_address(family, destination),
            reqid=reqid,
            remote=Endpoint(_address(family, source), int.from_bytes(port, "big")),
        )
    if kind == XfrmMessage.EXPIRE and len(body) > STATE_SIZE:
        expired = state(body)
        if expired is None:
            return None
        return Expire(expired.destination, expired.spi, expired.reqid, body[STATE_SIZE] != 0)
    if kind == XfrmMessage.ACQUIRE and len(body) >= _ACQUIRE_SIZE:
        reqids = _template_reqids(attributes(body, _ACQUIRE_SIZE).get(XfrmAttribute.TMPL, b""))
        return Acquire(reqids[0]) if reqids else None
    return None


def thresholds(body: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Local and remote bits of a NEWSPDINFO body, for IPv4 and for IPv6; empty where it lacks."""
    found = attributes(body, 4)
    version4, version6 = SpdAttribute.IPV4_HTHRESH, SpdAttribute.IPV6_HTHRESH
    return tuple(found.get(version4, b"")), tuple(found.get(version6, b""))
