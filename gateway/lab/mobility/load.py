"""Thousands of mobile nodes that register over one socket (`python -m gateway.lab.mobility.load`).

Every node has a home address, a key and a care-of address of its own; requests come from the
care-of address, so no NAT is seen. The host needs a route that makes the care-of addresses its
own (`care_of_route`), and the home agent the nodes: `Fleet` says which they are.

The program writes lines of JSON: `ready` once every request is prepared, then a `result`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address

from gateway.domain.mobility import MIP_PORT
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag
from gateway.mip_agents.policy import SecurityAssociation
from gateway.mip_agents.replay import ntp

REPLY = struct.Struct("!BBHIIQ")
IN_PKTINFO = struct.Struct("=I4s4s")
IP_PKTINFO = 8
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SOCKET_BUFFER_OCTETS = 8 << 20
FIRST_RETRY_S = 1.0
"""RFC 5944 section 3.6.3: no sooner; every further wait is twice as long."""
LONGEST_RETRY_S = 8.0
LEAD_S = 5.0
"""Of timestamps; home agents allow 7 s (RFC 5944 section 5.7.1)."""
FIRST_SPI = 0x1000
FIRST_HOME = IPv4Address("10.100.0.1")
FIRST_CARE_OF = IPv4Address("172.20.0.1")
LATENESS = (0.5, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Fleet:
    """`count` mobile nodes of one home agent, numbered from 0."""

    home_agent: IPv4Address
    count: int
    first_home_address: IPv4Address = FIRST_HOME
    first_care_of: IPv4Address = FIRST_CARE_OF
    lifetime_s: int = 1800
    port: int = MIP_PORT
    flags: RequestFlag = RequestFlag.CO_LOCATED | RequestFlag.REVERSE

    def home_address(self, node: int) -> IPv4Address:
        """The node's home address."""
        return self.first_home_address + node

    def care_of(self, node: int, place: int = 0) -> IPv4Address:
        """Where the node is; another `place` is another address."""
        return self.first_care_of + place * self.count + node

    def association(self, node: int) -> SecurityAssociation:
        """What the node shares with its home agent."""
        key = hashlib.sha256(f"lab load {node}".encode()).digest()[:16]
        return SecurityAssociation(FIRST_SPI + node, key)

    def request(self, node: int, now_s: float, *, place: int = 0, round_: int = 0) -> bytes:
        """A signed request; `round_` keeps requests of the same moment apart."""
        stamp = ntp(now_s) & ~0xFF | round_ & 0xFF
        request = RegistrationRequest(
            self.flags,
            self.lifetime_s,
            self.home_address(node),
            self.home_agent,
            self.care_of(node, place),
            stamp & 0xFFFF_FFFF_FFFF_FFFF,
        )
        return sign(request.serialize(), AuthenticationKind.MOBILE_HOME, self.association(node))


def care_of_route(fleet: Fleet, places: int = 1) -> list[str]:
    """Lines for `ip -batch` that make the care-of addresses the host's own."""
    last = int(fleet.first_care_of) + places * fleet.count - 1
    bits = (int(fleet.first_care_of) ^ last).bit_length()
    network = int(fleet.first_care_of) >> bits << bits
    return [f"route replace local {IPv4Address(network)}/{32 - bits} dev lo"]


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    nodes: int
    accepted: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    """Of the replies, by name."""
    sent: int = 0
    """Requests, with those that were sent again."""
    lost: int = 0
    """Nodes without an answer to the end."""
    seconds: float = 0.0
    """From the first request to the last reply."""
    per_second: float = 0.0
    """Accepted registrations."""
    latencies_ms: dict[str, float] = field(default_factory=dict)
    """From a node's first request to its reply: median, 99 of 100, longest."""


class Run:
    """One registration of every node of a fleet.

    At most `window` nodes wait for a reply at a time; None lets all of them begin at once, as
    after an outage. A node whose reply does not come asks again with a new Identification.
    """

    def __init__(
        self, fleet: Fleet, *, window: int | None, place: int = 0, patience_s: float = 30.0
    ) -> None:
        self._fleet, self._place, self._patience_s = fleet, place, patience_s
        self._window = fleet.count if window is None else window
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            with contextlib.suppress(PermissionError):  # smaller ones will do for few nodes
                self._socket.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_OCTETS)
        self._socket.bind(("0.0.0.0", 0))
        self._socket.setblocking(False)
        self._to = (str(fleet.home_agent), fleet.port)
        self._sources = [
            IN_PKTINFO.pack(0, fleet.care_of(node, place).packed, bytes(4))
            for node in range(fleet.count)
        ]
        self._first_home = int(fleet.first_home_address)
        self._requests: list[bytes] = []
        self._begun: dict[int, float] = {}
        self._retries: deque[tuple[float, int, int]] = deque()
        """When it is due, how often the node has asked, the node."""
        self._latencies: list[float] = []
        self._outcome = Outcome(fleet.count)
        self._codes: Counter[str] = Counter()

    def prepare(self) -> None:
        """Sign every request, so that none costs time later.

        Timestamps age: run it soon. They are ahead of the clock by half of what home agents
        allow, so that the last one is as good as the first.
        """
        now_s = time.time() + LEAD_S
        self._requests = [
            self._fleet.request(node, now_s, place=self._place) for node in range(self._fleet.count)
        ]

    def run(self) -> Outcome:
        """Register everybody and count."""
        if not self._requests:
            self.prepare()
        began = last_reply = time.monotonic()
        waiting = iter(range(self._fleet.count))
        unanswered = self._fleet.count
        while unanswered and time.monotonic() - began < self._patience_s:
            self._begin(waiting)
            self._retry(time.monotonic())
            readable, _, _ = select.select([self._socket], [], [], self._next_wait_s())
            if readable and (answered := self._read()):
                unanswered -= answered
                last_reply = time.monotonic()
        self._socket.close()
        return self._result(last_reply - began, unanswered)

    def _request(self, node: int, asked: int) -> bytes:
        if not asked:
            return self._requests[node]
        now_s = time.time() + LEAD_S
        return self._fleet.request(node, now_s, place=self._place, round_=asked)

    def _begin(self, waiting: Iterator[int]) -> None:
        while len(self._begun) < self._window:
            node = next(waiting, None)
            if node is None:
                return
            now = time.monotonic()
            if not self._send(node, self._request(node, 0)):
                self._retries.appendleft((now, 0, node))
            else:
                self._retries.append((now + FIRST_RETRY_S, 1, node))
            self._begun[node] = now

    def _retry(self, now: float) -> None:
        # They are in order of their times but for those that wait longer, which go to the end.
        for _ in range(len(self._retries)):
            due, asked, node = self._retries[0]
            if due > now:
                return
            self._retries.popleft()
            if node not in self._begun:
                continue
            self._send(node, self._request(node, asked))
            wait_s = min(FIRST_RETRY_S * 2**asked, LONGEST_RETRY_S)
            self._retries.append((now + wait_s, asked + 1, node))

    def _next_wait_s(self) -> float:
        if not self._retries:
            return 0.1
        return min(max(self._retries[0][0] - time.monotonic(), 0.0), 0.1)

    def _send(self, node: int, request: bytes) -> bool:
        control = [(socket.IPPROTO_IP, IP_PKTINFO, self._sources[node])]
        try:
            self._socket.sendmsg([request], control, 0, self._to)
        except BlockingIOError:
            return False
        self._outcome.sent += 1
        return True

    def _read(self) -> int:
        """Take what has come; how many nodes got their answer."""
        answered = 0
        for reply in self._datagrams():
            if len(reply) < REPLY.size:
                continue
            kind, code, _, home, _, _ = REPLY.unpack_from(reply)
            begun = self._begun.pop(home - self._first_home, None) if kind == 3 else None
            if begun is None:  # an answer to a request that was sent again
                continue
            answered += 1
            self._latencies.append(time.monotonic() - begun)
            self._codes[ReplyCode(code).name] += 1
        return answered

    def _datagrams(self) -> Iterator[bytes]:
        for _ in range(256):
            try:
                yield self._socket.recv(2048)
            except BlockingIOError:
                return

    def _result(self, seconds: float, unanswered: int) -> Outcome:
        outcome = self._outcome
        outcome.codes = dict(self._codes)
        good = (ReplyCode.ACCEPTED, ReplyCode.ACCEPTED_NO_SIMULTANEOUS)
        outcome.accepted = sum(self._codes[code.name] for code in good)
        outcome.lost = unanswered
        outcome.seconds = seconds
        outcome.per_second = outcome.accepted / seconds if seconds else 0.0
        ordered = sorted(self._latencies)
        if ordered:
            outcome.latencies_ms = {
                f"{share:g}": 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]
                for share in LATENESS
            }
        return outcome


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="thousands of mobile nodes that register")
    parser.add_argument("home_agent", type=IPv4Address)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--window", type=int, default=None, help="all at once without it")
    parser.add_argument("--rounds", type=int, default=1, help="registrations of every node")
    parser.add_argument("--moves", action="store_true", help="another care-of address each round")
    parser.add_argument("--first-home-address", type=IPv4Address, default=FIRST_HOME)
    parser.add_argument("--first-care-of", type=IPv4Address, default=FIRST_CARE_OF)
    parser.add_argument("--port", type=int, default=MIP_PORT)
    parser.add_argument("--lifetime", type=int, default=1800)
    parser.add_argument("--patience", type=float, default=30.0, metavar="SECONDS")
    given = parser.parse_args()
    fleet = Fleet(
        given.home_agent,
        given.count,
        given.first_home_address,
        given.first_care_of,
        given.lifetime,
        given.port,
    )
    for number in range(given.rounds):
        run = Run(
            fleet,
            window=given.window,
            place=number if given.moves else 0,
            patience_s=given.patience,
        )
        run.prepare()
        _write(ready=True, round=number)
        _write(result="load", round=number, **asdict(run.run()))


def _write(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
