"""A path test: echo requests of many sizes through one device's tunnel, in bounded time."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final

from gateway.control.remote_access_views import PathTest, Probe
from gateway.dataplane.kernel.echo import Answered, EchoSocket, TooLarge
from gateway.domain.endpoint import IpAddress
from gateway.domain.overhead import LEAST_MTU
from gateway.domain.path_search import Outcome, PathSearch

ROUND_S: Final = 0.9
"""How long answers of a round are waited for; six rounds fit into the API's patience."""
AGAIN_S: Final = 0.4
"""When what is not answered is sent a second time."""
LEAST_PROBE: Final = {4: 128, 6: LEAST_MTU[6]}
_SECRET_OCTETS: Final = 8


@dataclass(frozen=True, slots=True)
class Target:
    """What is tested."""

    device: str
    source: IpAddress
    address: IpAddress
    interface: str
    mark: int
    largest: int
    """MTU of the interface."""
    expected: int
    """What ``mtu`` promises."""


@dataclass(slots=True)
class _Running:
    search: PathSearch
    echo: EchoSocket
    clock: Callable[[], float]
    sent: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Size and time by sequence number."""
    sequence: int = 0
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: set[int] = field(default_factory=set)

    def send(self, sizes: Iterable[int]) -> None:
        for octets in sizes:
            self.sequence = self.sequence % 0xFFFF + 1
            self.sent[self.sequence] = octets, self.clock()
            refused = self.echo.send(octets, self.sequence)
            if refused is not None:
                self.take(refused)

    def readable(self) -> None:
        for news in self.echo.read():
            self.take(news)

    def take(self, news: Answered | TooLarge) -> None:
        octets, at = self.sent.get(news.sequence, (0, 0.0))
        if not octets:
            return
        if isinstance(news, Answered):
            self.search.arrived(octets, self.clock() - at)
        else:
            self.search.refused(octets, news.said_by or "this gateway", news.mtu)
        self.waiting.discard(octets)
        if not self.waiting:
            self.settled.set()

    async def round(self, sizes: Sequence[int]) -> None:
        self.settled.clear()
        self.waiting = set(sizes)
        for wait_s in (AGAIN_S, ROUND_S - AGAIN_S):
            self.send(sorted(self.waiting))
            if not self.waiting:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self.settled.wait()
            except TimeoutError:
                continue
            return


async def path_test(target: Target) -> PathTest:
    """Run it. Raises OSError when nothing can be sent."""
    loop = asyncio.get_running_loop()
    version = target.address.version
    echo = EchoSocket(
        target.source,
        target.address,
        target.interface,
        identifier=secrets.randbelow(0x10000),
        secret=secrets.token_bytes(_SECRET_OCTETS),
        mark=target.mark,
    )
    search = PathSearch(LEAST_PROBE[version], target.largest, likely=(target.expected,))
    running = _Running(search, echo, loop.time)
    loop.add_reader(echo.sock, running.readable)
    try:
        while sizes := search.next_round():
            await running.round(sizes)
    finally:
        loop.remove_reader(echo.sock)
        echo.close()
    return _answer(target, search)


def _answer(target: Target, search: PathSearch) -> PathTest:
    passes = search.passes
    return {
        "device": target.device,
        "address": str(target.address),
        "ok": passes is not None and passes >= target.expected,
        "largest": passes,
        "expected": target.expected,
        "summary": _summary(target, search),
        "probes": [_probe(search.outcomes[size]) for size in sorted(search.outcomes)],
    }


def _summary(target: Target, search: PathSearch) -> str:
    passes = search.passes
    if passes is None:
        told = next((one for one in search.outcomes.values() if one.said_by), None)
        if told is not None:
            return f"nothing arrives: {told.said_by} says that all sizes are too large"
        text = f"no answer from {target.address}: the device does not answer ping (look at its"
        return f"{text} firewall), or the tunnel carries nothing"
    if passes >= target.expected:
        return f"packets of up to {passes} octets arrive, as promised"
    text = f"packets of up to {passes} octets arrive, {target.expected} were promised"
    told = search.outcomes.get(search.fails)
    if told is not None and told.said_by:
        return f"{text}; {told.said_by} says so by ICMP, so senders adapt"
    return f"{text}, and nobody says so by ICMP: set mtu = {passes} in [dataplane]"


def _probe(outcome: Outcome) -> Probe:
    if outcome.arrived:
        detail = "arrived"
    elif outcome.said_by:
        mtu = f": at most {outcome.said_mtu}" if outcome.said_mtu else ""
        detail = f"too large, says {outcome.said_by}{mtu}"
    else:
        detail = "lost"
    return {
        "octets": outcome.octets,
        "arrived": outcome.arrived,
        "rtt_ms": None if outcome.rtt_s is None else round(outcome.rtt_s * 1000, 3),
        "detail": detail,
    }


def choose_source(
    own: Iterable[IpAddress], selectors: Sequence[str], address: IpAddress, outside: str
) -> IpAddress | None:
    """One of our addresses that the tunnel's selectors have on our side; outside ones last."""
    fitting = [
        one
        for one in own
        if one.version == address.version
        and not one.is_loopback
        and any(_holds(selector, one) for selector in selectors)
    ]
    fitting.sort(key=lambda one: (str(one) == outside, not one.is_private, int(one)))
    return fitting[0] if fitting else None


def _holds(selector: str, address: IpAddress) -> bool:
    """Whether a selector as in ``child-sas`` holds an address, whatever the protocol."""
    span = selector.partition("[")[0]
    try:
        if "/" in span:
            return address in ip_network(span)
        first, _, last = span.partition("-")
        begin, end = ip_address(first), ip_address(last or first)
    except ValueError:
        return False
    same = begin.version == end.version == address.version
    return same and int(begin) <= int(address) <= int(end)
