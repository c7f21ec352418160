"""Whether registrations from outside are kept from inside home agents, found out by sending some.

The assumption on which a device takes itself to be inside (draft 001, section 4.1) rests on the
ruleset; so the very ruleset is loaded in a namespace of its own, between interfaces with the names
of the real ones, and a registration is sent into each.
"""

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.mobility import ruleset
from gateway.dataplane.kernel.mobility.ruleset import QUEUED, Wording
from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute,
    nested,
    request,
)
from gateway.dataplane.kernel.ruleset import RulesetRefusedError
from gateway.dataplane.kernel.scratch import TrialFailedError, in_scratch_namespace
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.packet import udp
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import MIP_PORT

_NEWLINK, _NEWADDR, _NEWROUTE, _NEWNEIGH = 16, 20, 24, 28
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO = 1, 3, 18
_IFA_LOCAL, _RTA_DST, _RTA_OIF, _NDA_DST, _NDA_LLADDR = 2, 1, 4, 1, 2
_MAIN, _STATIC, _SCOPE_LINK, _UNICAST, _PERMANENT = 254, 4, 253, 1, 0x80
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_INFO = struct.Struct("=BxHiII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxHiHBB")
_U32 = struct.Struct("=I")
_ETHERTYPE_IPV4 = 0x0800
_UP = 1
_HERE, _THERE = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
"""Link-layer addresses of the two ends of each cable."""
_REGISTRATION = b"\x01" + bytes(23)
"""As far as the ruleset looks at it."""
_SOURCES: Final = ("198.51.100.77", "203.0.113.77", "192.0.2.77", "100.64.0.77")
WAIT_S: Final = 2.0
"""For what must arrive; it takes some microseconds."""


@dataclass(frozen=True, slots=True)
class OutsideTrial:
    """What became of registrations to one inside home agent."""

    home_agent: IPv4Address
    leaks: tuple[str, ...]
    """Outside interfaces from which they arrived."""
    reachable: bool
    """They arrived from another interface, as they must."""


def try_from_outside(
    settings: MobilitySettings, wordings: Sequence[Wording] = (QUEUED,)
) -> list[OutsideTrial]:
    """Send registrations to every inside home agent. Raises :class:`TrialFailedError`.

    Of ``wordings`` the first that this kernel takes is tried.
    """
    found = in_scratch_namespace(lambda: _Bed(settings, wordings).judge_all())
    if not isinstance(found, list):
        raise TrialFailedError("the trial ended without an answer")
    return [
        OutsideTrial(IPv4Address(address), tuple(leaks), bool(reachable))
        for address, leaks, reachable in found
    ]


class _Bed:
    """The interfaces outside, one inside, and one towards home agents that are not ours."""

    def __init__(self, settings: MobilitySettings, wordings: Sequence[Wording]) -> None:
        self._settings = settings
        self._wordings = wordings
        self._netlink = NetlinkSocket(NETLINK_ROUTE)
        outside = dict.fromkeys(settings.outside_interfaces)
        free = (f"trial-{number}" for number in range(len(outside) + 2))
        self._inside, self._behind = [name for name in free if name not in outside][:2]
        self._senders = [*outside, self._inside]
        """The inside one comes last: nothing overtakes on one processor, so that whatever is let
        through has arrived before its registration does."""
        self._peers = {n: f"trial-peer{i}" for i, n in enumerate([*self._senders, self._behind])}
        self._source = _unused_address(settings)

    def judge_all(self) -> list[tuple[str, list[str], bool]]:
        """Address, outside interfaces that let a registration pass, whether the inside does."""
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        root = Path("/proc/sys/net/ipv4")
        (root / "ip_forward").write_text("1", "ascii")
        for name in ("all", "default"):
            (root / f"conf/{name}/rp_filter").write_text("0", "ascii")
        for name, peer in self._peers.items():
            self._add_pair(name, peer)
        self._load()
        return [self._judge(one) for one in self._settings.inside_home_agents]

    def _load(self) -> None:
        *others, last = self._wordings
        for wording in others:
            with contextlib.suppress(RulesetRefusedError):
                ruleset.load(self._settings, (), wording)
                return
        ruleset.load(self._settings, (), last)

    def _judge(self, home_agent: IPv4Address) -> tuple[str, list[str], bool]:
        with self._listener(home_agent) as listener:
            for number, name in enumerate(self._senders):
                self._send(name, home_agent, number)
            arrived = _arrived(listener, until=len(self._senders) - 1)
        names = [self._senders[number] for number in sorted(arrived)]
        leaks = [name for name in names if name != self._inside]
        return str(home_agent), leaks, self._inside in names

    def _add_pair(self, name: str, peer: str) -> None:
        """An interface and the other end of its cable, both up."""
        other = _INFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, peer.encode() + b"\0")
        body = (
            _INFO.pack(0, 0, 0, 0, 0)
            + attribute(_IFLA_IFNAME, name.encode() + b"\0")
            + attribute(_IFLA_ADDRESS, _HERE)
            + nested(
                _IFLA_LINKINFO,
                attribute(_INFO_KIND, b"veth"),
                nested(_INFO_DATA, attribute(_VETH_PEER, other)),
            )
        )
        self._netlink.check(name, [request(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)])
        for end in (name, peer):
            self._set_up(socket.if_nametoindex(end))

    def _set_up(self, index: int) -> None:
        self._netlink.check("link", [request(_NEWLINK, 0, _INFO.pack(0, 0, index, _UP, _UP))])

    def _listener(self, home_agent: IPv4Address) -> socket.socket:
        """Where its registrations come out: its port, or the cable towards it."""
        if home_agent in self._settings.home_agents:
            self._own(home_agent)
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listener.bind((str(home_agent), MIP_PORT))
            return listener
        self._route(home_agent)
        family = socket.htons(_ETHERTYPE_IPV4)
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, family)
        listener.bind((self._peers[self._behind], _ETHERTYPE_IPV4))
        return listener

    def _own(self, address: IPv4Address) -> None:
        body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, 1)
        body += attribute(_IFA_LOCAL, address.packed)
        self._netlink.check(str(address), [request(_NEWADDR, NLM_F_CREATE, body)])

    def _route(self, address: IPv4Address) -> None:
        index = socket.if_nametoindex(self._behind)
        route = _ROUTE.pack(socket.AF_INET, 32, 0, 0, _MAIN, _STATIC, _SCOPE_LINK, _UNICAST, 0)
        route += attribute(_RTA_DST, address.packed) + attribute(_RTA_OIF, _U32.pack(index))
        neighbour = _NEIGHBOUR.pack(socket.AF_INET, 0, index, _PERMANENT, 0, 0)
        neighbour += attribute(_NDA_DST, address.packed) + attribute(_NDA_LLADDR, _THERE)
        self._netlink.check(
            str(address),
            [request(_NEWROUTE, NLM_F_CREATE, route), request(_NEWNEIGH, NLM_F_CREATE, neighbour)],
        )

    def _send(self, interface: str, home_agent: IPv4Address, number: int) -> None:
        """A registration that comes in by ``interface``; its last octet is ``number``."""
        source, destination = Endpoint(self._source, 49152), Endpoint(home_agent, MIP_PORT)
        packet = udp.packet(source, destination, _REGISTRATION + bytes((number,)))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((self._peers[interface], 0))
            sender.send(_HERE + _THERE + struct.pack("!H", _ETHERTYPE_IPV4) + packet)


def _unused_address(settings: MobilitySettings) -> IPv4Address:
    """A sender that has nothing to do with the configuration."""
    networks = [home.network for home in settings.home_networks]
    networks += [IPv4Network(one) for one in settings.inside_home_agents]
    for text in _SOURCES:
        address = IPv4Address(text)
        if not any(address in network for network in networks):
            return address
    raise TrialFailedError("every network for documentation is a home network here")


def _arrived(listener: socket.socket, *, until: int) -> set[int]:
    """Numbers of the registrations that come out, up to the one that must."""
    found: set[int] = set()
    end = time.monotonic() + WAIT_S
    while until not in found:
        left = max(0.0, end - time.monotonic())
        if not select.select([listener], [], [], left)[0]:
            break
        packet = listener.recv(2048)
        if packet[:-1].endswith(_REGISTRATION):
            found.add(packet[-1])
    return found
