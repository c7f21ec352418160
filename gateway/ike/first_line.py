"""The first look at what comes in: octets and source, before anything is made of them.

Under a flood of first messages each costs a keyed digest and an answer of 69 octets (a cookie
demand, RFC 7296 section 2.6), no parsing beyond the nonce and no memory. Datagrams of SAs that
exist go first, then requests that show a valid cookie, then the rest.
"""

import struct
from collections.abc import Sequence
from typing import Any

from gateway.ike.core import Core
from gateway.ike.half_open import COOKIE_OCTETS, Source
from gateway.ike.outputs import Severity
from gateway.ike.registry import ExchangeType, Flag, NotifyType, PayloadType

HEADER_OCTETS = 28
MAJOR_VERSION = 2
MAX_FIRST_OCTETS = 4096
MAX_STEPS = 16
"""Payloads up to the nonce. Clients send SA, KE, nonce."""
NONCE_OCTETS = range(16, 257)
LEAST = 4
"""Datagrams of each kind that are looked after in any case, however short the time is."""
V1_SHARE = 0.75
"""Of all half-open SAs. IKEv1 has no stateless cookies, so a flood of it must not fill them all."""

Datagram = tuple[bytes, Source, Any]
"""A message without its non-ESP marker, where it came from, and what the adapter keeps with it."""
Sorted = tuple[list[Datagram], list[tuple[bytes, Datagram]]]
"""What goes on, the most urgent first, and answers with what they answer."""

_NO_SPI = bytes(8)
_V1_FIRST = frozenset({2, 4})
"""Main mode and aggressive mode."""
_GENERIC = struct.Struct("!BBH")
_NOTIFY = struct.Struct("!BBHBBH")
"""Generic header, protocol id, SPI size and type of a Notify payload."""
_LENGTH = struct.Struct("!I")
# Plain integers: an operation on an enum's member takes as long as all the rest.
_INITIATOR = int(Flag.INITIATOR)
_DIRECTION = int(Flag.INITIATOR | Flag.RESPONSE)
_IKE_SA_INIT = int(ExchangeType.IKE_SA_INIT)
_NOTIFY_PAYLOAD, _NONCE_PAYLOAD = int(PayloadType.NOTIFY), int(PayloadType.NONCE)
_COOKIE_NOTIFY = int(NotifyType.COOKIE)
_NOTHING = (b"", b"")
_COOKIE_PAYLOAD_OCTETS = _NOTIFY.size + COOKIE_OCTETS
_DEMAND = (
    _NO_SPI
    + bytes((PayloadType.NOTIFY, 0x20, ExchangeType.IKE_SA_INIT, Flag.RESPONSE))
    + struct.pack("!II", 0, HEADER_OCTETS + _COOKIE_PAYLOAD_OCTETS)
    + _NOTIFY.pack(0, 0, _COOKIE_PAYLOAD_OCTETS, 0, 0, NotifyType.COOKIE)
)
"""A cookie demand between the initiator's SPI and the cookie."""


def sort(core: Core, datagrams: Sequence[Datagram], share: float, now: float) -> Sorted:
    """Put what came at once in order, answer what needs no more than that, drop what is too much.

    ``share`` from 0 to 1 is how much there is time for of what nobody vouches for.
    """
    known: list[Datagram] = []
    first: list[Datagram] = []
    others: list[Datagram] = []
    sas = core.sas
    for datagram in datagrams:
        octets = datagram[0]
        spi_r = octets[8:16]
        if spi_r == _NO_SPI and len(octets) >= HEADER_OCTETS:
            if octets[18] == _IKE_SA_INIT and octets[19] & _DIRECTION == _INITIATOR:
                (first if octets[17] >> 4 == MAJOR_VERSION else others).append(datagram)
            else:
                (known if octets[:8] in sas else others).append(datagram)
        elif spi_r in sas or octets[:8] in sas:
            known.append(datagram)
        else:
            others.append(datagram)
    room = max(int(share * len(datagrams)), LEAST)
    answers: list[tuple[bytes, Datagram]] = []
    if first:
        proven, fresh = _first_messages(core, first, room, answers, now)
        known += proven
        known += fresh
    if others:
        known += _others(core, others, room)
    return known, answers


def _first_messages(
    core: Core,
    first: list[Datagram],
    room: int,
    answers: list[tuple[bytes, Datagram]],
    now: float,
) -> tuple[list[Datagram], list[Datagram]]:
    """IKE_SA_INIT requests: those with a valid cookie, and those that need none."""
    settings, half_open = core.settings, core.half_open
    free = settings.cookie_threshold - len(half_open)
    if free > 0 and half_open.busy(len(first), now):
        free = 0
    half_a_source = max(settings.half_open_per_source // 2, 1)
    proven: list[Datagram] = []
    fresh: list[Datagram] = []
    make, verify = core.cookies.make, core.cookies.verify
    demanded = 0
    for datagram in first:
        octets, source, _ = datagram
        if free > len(fresh) and half_open.of_source(source) < half_a_source:
            fresh.append(datagram)
            continue
        nonce, cookie = nonce_and_cookie(octets)
        if not nonce:
            core.count("malformed_messages")
        elif cookie and verify(cookie, nonce, octets[:8], source, now):
            proven.append(datagram)
        elif demanded < room:
            demanded += 1
            spi = octets[:8]
            answers.append((spi + _DEMAND + make(nonce, spi, source, now), datagram))
        else:
            core.count("first_messages_shed")
    if demanded:
        core.counters["messages_in"] += demanded
        core.counters["cookies_demanded"] += demanded
    if free <= 0 < settings.cookie_threshold:
        core.emit_limited(
            "cookies",
            now,
            "cookies_demanded",
            f"many first messages, {len(half_open)} half-open IKE SAs: new peers must show a"
            " cookie first",
            Severity.INFO,
            half_open=len(half_open),
        )
    return proven, fresh


def nonce_and_cookie(octets: bytes) -> tuple[bytes, bytes]:
    """The nonce of an IKE_SA_INIT request and the cookie that its first payload shows, or empty.

    Both are empty where there is no nonce that may be one: such a message deserves no answer.
    """
    size = len(octets)
    if size > MAX_FIRST_OCTETS or _LENGTH.unpack_from(octets, 24)[0] != size:
        return b"", b""
    cookie = b""
    kind, at = octets[16], HEADER_OCTETS
    if kind == _NOTIFY_PAYLOAD and size >= at + _NOTIFY.size:
        following, _, length, _, spi_octets, notify = _NOTIFY.unpack_from(octets, at)
        if notify == _COOKIE_NOTIFY and not spi_octets:
            cookie = octets[at + _NOTIFY.size : at + length]
            kind, at = following, at + max(length, _NOTIFY.size)
    for _ in range(MAX_STEPS):
        if at + 4 > size or not kind:
            break
        following, _, length = _GENERIC.unpack_from(octets, at)
        if length < 4 or at + length > size:
            break
        if kind == _NONCE_PAYLOAD:
            fits = length - 4 in NONCE_OCTETS
            return (octets[at + 4 : at + length], cookie) if fits else _NOTHING
        kind, at = following, at + length
    return _NOTHING


def _others(core: Core, others: list[Datagram], room: int) -> list[Datagram]:
    """First messages of IKEv1, and what belongs to no SA: as much as there is time for."""
    kept: list[Datagram] = []
    v1_room = int(core.settings.half_open_limit * V1_SHARE) - len(core.half_open)
    for datagram in others:
        octets = datagram[0]
        if len(octets) >= HEADER_OCTETS and octets[18] in _V1_FIRST and octets[17] >> 4 == 1:
            v1_room -= 1
            if v1_room < 0:
                core.count("half_open_limit_reached")
                continue
        if len(kept) < room:
            kept.append(datagram)
        else:
            core.count("messages_shed")
    return kept
