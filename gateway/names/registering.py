"""The registrar's conversations with the DNS server: one at a time for each name."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.tsig
import dns.tsigkeyring
import dns.update

from gateway.domain.endpoint import IpAddress
from gateway.names.settings import RegistrarSettings
from gateway.names.update import Result, State, Talk, register, withdraw

AT_ONCE: Final = 8
TRIES: Final = 3
TRY_S: Final = 2.0
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 300.0
MAX_PER_NAME: Final = 4
MAX_DOUBLINGS: Final = 10

Exchange = Callable[[dns.message.Message], Awaitable[dns.message.Message]]
Told = Callable[[dict[str, object]], None]


@dataclass(slots=True)
class Order:
    """What is to be done with a name."""

    there: bool
    name: str
    identity: str
    addresses: list[IpAddress]
    tries: int = 0

    @classmethod
    def from_json(cls, given: dict[str, object]) -> "Order":
        """Raises ValueError or KeyError."""
        addresses = given["addresses"]
        texts = addresses if isinstance(addresses, list) else []
        return cls(
            given["op"] == "register",
            str(given["name"]),
            str(given["identity"]),
            [ip_address(str(one)) for one in texts],
        )


class Registrar:
    """Carries orders out; ``told`` hears what became of each, for the core."""

    def __init__(self, settings: RegistrarSettings, told: Told) -> None:
        self._settings = settings
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._orders: dict[str, deque[Order]] = {}
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._busy: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.counters = dict.fromkeys(("registered", "withdrawn", "taken", "refused"), 0)

    def start(self) -> None:
        """Begin."""
        self._workers = [self._loop.create_task(self._work()) for _ in range(AT_ONCE)]

    async def finish(self, within_s: float) -> None:
        """End when everything is done, or it took too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        self.stop()

    def stop(self) -> None:
        """End."""
        for worker in self._workers:
            worker.cancel()

    @property
    def waiting(self) -> int:
        """Names with something to do."""
        return len(self._orders)

    def order(self, order: Order) -> None:
        """Do this after what is to be done with the name already."""
        self._idle.clear()
        queue = self._orders.setdefault(order.name, deque(maxlen=MAX_PER_NAME))
        under_way = order.name in self._busy
        if len(queue) > under_way and queue[-1].identity == order.identity:
            queue.pop()
        queue.append(order)
        if not under_way:
            self._ready.put_nowait(order.name)

    async def _work(self) -> None:
        while True:
            name = await self._ready.get()
            if name in self._orders and name not in self._busy:
                self._busy.add(name)
                await self._work_on(name)

    async def _work_on(self, name: str) -> None:
        order = self._orders[name][0]
        result = await self._carry_out(order)
        self._busy.discard(name)
        queue = self._orders[name]
        self._tell(order, result)
        if result.state is State.REFUSED and len(queue) == 1:
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**order.tries)
            order.tries = min(order.tries + 1, MAX_DOUBLINGS)
            self._loop.call_later(pause_s, self._ready.put_nowait, name)
            return
        if queue[0] is order:
            queue.popleft()
        if queue:
            self._ready.put_nowait(name)
        else:
            del self._orders[name]
            if not self._orders:
                self._idle.set()

    async def _carry_out(self, order: Order) -> Result:
        step = register if order.there else withdraw
        try:
            talk = step(self._settings, order.name, order.identity, order.addresses)
            return await converse(talk, self._exchange)
        except (dns.exception.DNSException, OSError, EOFError, TimeoutError, ValueError) as error:
            return Result(State.REFUSED, _words(error, self._settings))

    def _tell(self, order: Order, result: Result) -> None:
        what = "registered" if order.there else "withdrawn"
        match result.state:
            case State.TAKEN | State.REFUSED as state:
                self.counters[state.value] += 1
            case _:
                self.counters[what] += 1
        self._told(
            {
                "what": what,
                "name": order.name,
                "identity": order.identity,
                "state": result.state.value,
                "detail": result.detail,
            }
        )

    async def _exchange(self, message: dns.message.Message) -> dns.message.Message:
        settings = self._settings
        message.use_tsig(
            dns.tsig.Key(settings.key_name, settings.secret, f"{settings.algorithm}."),
        )
        where, failure = str(settings.server), TimeoutError("no answer")
        for _ in range(TRIES):
            try:
                answer, _by_tcp = await dns.asyncquery.udp_with_fallback(
                    message, where, timeout=TRY_S, port=settings.port, ignore_unexpected=True
                )
            except (dns.exception.Timeout, TimeoutError):
                continue
            return answer
        raise failure


async def converse(talk: Talk, exchange: Exchange) -> Result:
    """Give a talk its answers; returns its result. Raises what ``exchange`` raises."""
    try:
        message = next(talk)
        while True:
            message = talk.send(await exchange(message))
    except StopIteration as end:
        result: Result = end.value
        return result


def _words(error: Exception, settings: RegistrarSettings) -> str:
    """What went wrong, and what to look at."""
    server = f"{settings.server} port {settings.port}"
    match error:
        case dns.tsig.PeerBadKey():
            return f'{server} does not know the key "{settings.key_name}" (BADKEY)'
        case dns.tsig.PeerBadSignature():
            return f"{server} has another secret for its key (BADSIG)"
        case dns.tsig.PeerBadTime() | dns.tsig.BadTime():
            return f"the clocks of {server} and this host differ (BADTIME)"
        case dns.tsig.BadSignature() | dns.message.UnknownTSIGKey():
            return f"the answer of {server} is not signed with our key"
        case dns.tsig.PeerError():
            return f"{server}: {error}"
        case TimeoutError() | dns.exception.Timeout():
            return f"{server} does not answer"
        case OSError() if error.strerror:
            return f"{server}: {error.strerror}"
        case _:
            return f"{server}: {type(error).__name__}"
