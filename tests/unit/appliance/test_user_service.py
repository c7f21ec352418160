"""The asyncio side of users: threads, sockets on loopback, limits; waits only for what happens."""

import asyncio
import hashlib
import hmac
import socket
import threading
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.appliance.users import MAX_CHECKS, UserService
from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import (
    Accepted,
    Asker,
    EapQuestion,
    PasswordQuestion,
    Rejected,
    Unavailable,
)
from gateway.ike.outputs import AskAboutUser
from gateway.radius.settings import RadiusServer, RadiusSettings
from gateway.users.document import UserEntry
from gateway.users.guessing import GuessLimit, Pace
from gateway.users.passwords import PasswordHash
from gateway.users.settings import ScryptCost
from gateway.users.store import UserBase

CHEAP = ScryptCost(10, 1, 1)
LOOPBACK = ip_address("127.0.0.1")
ASKER = Asker("road", Endpoint(LOOPBACK, 500), Endpoint(ip_address("203.0.113.7"), 500), "s1")
BASE = UserBase(
    {"anna": UserEntry("anna", ("staff",), True, PasswordHash.of("right", CHEAP, bytes))}
)
SECRET = b"s3cret"


def question(
    ticket: Any, password: Any = b"right", backend: Any = "local", user: Any = "anna"
) -> Any:
    return AskAboutUser(ticket, PasswordQuestion(backend, user, password, ASKER))


class Bench:
    def __init__(self, base: Any = BASE, backends: Any = None, limit: Any = None) -> None:
        self.answers = {}
        self.events = []
        self.came = asyncio.Event()
        self.service = UserService(
            base, backends or {}, answer=self._answered, emit=self.events.append, limit=limit
        )

    def _answered(self, ticket: Any, answer: Any) -> None:
        assert ticket not in self.answers
        self.answers[ticket] = answer
        self.came.set()

    async def answer_of(self, ticket: Any) -> Any:
        async with asyncio.timeout(20):
            while ticket not in self.answers:
                self.came.clear()
                await self.came.wait()
        return self.answers[ticket]


class Server(asyncio.DatagramProtocol):
    """Accepts everything, or says nothing."""

    def __init__(self, *, silent: Any = False) -> None:
        self.silent = silent
        self.requests = []
        self.came = asyncio.Event()
        self.sources = []

    async def start(self) -> Any:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.endpoint = Endpoint(LOOPBACK, self.transport.get_extra_info("sockname")[1])
        return self

    def datagram_received(self, data: Any, addr: Any) -> None:
        self.requests.append(data)
        self.sources.append(addr)
        self.came.set()
        if not self.silent:
            self.transport.sendto(self.accept(data), addr)

    @staticmethod
    def accept(data: Any, code: Any = 2) -> Any:
        body = bytes((80, 18)) + bytes(16) + bytes((11, 7)) + b"staff"
        head = bytes((code, data[1])) + (20 + len(body)).to_bytes(2)
        proof = hmac.new(SECRET, head + data[4:20] + body, "md5").digest()
        body = body[:2] + proof + body[18:]
        return head + hashlib.md5(head + data[4:20] + body + SECRET).digest() + body


def run(test: Any) -> None:
    asyncio.run(test)


def test_local_passwords() -> None:
    async def main() -> None:
        bench = Bench()
        bench.service.ask(question(1))
        bench.service.ask(question(2, b"wrong"))
        bench.service.ask(question(3, user="zoe"))
        assert bench.answers == {}
        assert await bench.answer_of(1) == Accepted("anna", ("staff",))
        assert await bench.answer_of(2) == Rejected("wrong password")
        assert isinstance(await bench.answer_of(3), Rejected)
        assert bench.service.find("anna").groups == ("staff",)
        bench.service.stop()

    run(main())


def test_questions_that_nobody_can_answer() -> None:
    async def main() -> None:
        bench = Bench(base=None)
        bench.service.ask(question(1))
        bench.service.ask(question(2, backend="gone"))
        bench.service.ask(AskAboutUser(3, EapQuestion("local", "anna", b"\2\1\0\4", b"", ASKER)))
        bench.service.ask(AskAboutUser(4, EapQuestion("gone", "anna", b"\2\1\0\4", b"", ASKER)))
        assert bench.answers == {}
        for ticket in range(1, 5):
            assert isinstance(await bench.answer_of(ticket), Unavailable)
        assert bench.service.find("anna") is None
        bench.service.stop()

    run(main())


def test_password_checks_are_bounded_and_run_two_at_a_time() -> None:
    gate, running, most = threading.Event(), [], []

    class Slow:
        def __contains__(self, name: Any) -> bool:
            return True

        def verify(self, name: Any, password: Any) -> Any:
            running.append(name)
            most.append(len(running))
            gate.wait(20)
            running.remove(name)
            return Accepted(name)

    async def main() -> None:
        bench = Bench(base=Slow())
        for ticket in range(MAX_CHECKS + 1):
            bench.service.ask(question(ticket))
        last = await bench.answer_of(MAX_CHECKS)
        assert last == Unavailable(f"{MAX_CHECKS} password checks wait already")
        gate.set()
        for ticket in range(MAX_CHECKS):
            assert await bench.answer_of(ticket) == Accepted("anna")
        assert max(most) <= 2
        bench.service.stop()

    run(main())


def test_a_fault_in_a_check_is_unavailable_and_said() -> None:
    class Broken:
        def __contains__(self, name: Any) -> bool:
            return True

        def verify(self, name: Any, password: Any) -> None:
            raise RuntimeError("oops")

    async def main() -> None:
        bench = Bench(base=Broken())
        bench.service.ask(question(1))
        assert isinstance(await bench.answer_of(1), Unavailable)
        assert [event.name for event in bench.events] == ["internal_fault"]
        bench.service.stop()

    run(main())


def test_guessing_is_slowed_down_and_said_in_the_log() -> None:
    async def main() -> None:
        bench = Bench(limit=GuessLimit(Pace(1, 0.01, 20.0), Pace(9, 1.0, 1.0)))
        for ticket in range(3):
            bench.service.ask(question(ticket, b"wrong"))
            await bench.answer_of(ticket)
        bench.service.ask(question(3))
        assert await bench.answer_of(3) == Accepted("anna", ("staff",))
        assert "login_slowed" in {event.name for event in bench.events}
        assert bench.service.counters["held_up"] > 0
        for ticket in range(10, 60):
            bench.service.ask(question(ticket, b"wrong"))
            bench.service._limit.failed("anna", ip_address("192.0.2.9"), 0.0)
        bench.service.stop()

    run(main())


def test_attempts_beyond_the_longest_wait_are_refused_unread() -> None:
    async def main() -> None:
        limit = GuessLimit(Pace(0, 100.0, 100.0))
        limit.failed("anna", ip_address("192.0.2.9"), asyncio.get_running_loop().time())
        bench = Bench(limit=limit)
        bench.service.ask(question(1))
        answer = await bench.answer_of(1)
        assert answer == Rejected("too many wrong passwords lately; wait a minute")
        assert bench.service.counters["refused_guesses"] == 1
        bench.service.stop()

    run(main())


def test_radius_over_real_sockets_with_failover() -> None:
    async def main() -> None:
        dead, good = await Server(silent=True).start(), await Server().start()
        servers = (RadiusServer(dead.endpoint, SECRET), RadiusServer(good.endpoint, SECRET))
        settings = RadiusSettings("office", servers, retransmit_first_s=0.4, tries=2)
        bench = Bench(backends={"office": settings})
        bench.service.ask(question(999, backend="office"))
        assert await bench.answer_of(999) == Accepted("anna", ("staff",))
        for ticket in range(300):
            bench.service.ask(question(ticket, backend="office", user=f"u{ticket}"))
        for ticket in range(300):
            assert await bench.answer_of(ticket) == Accepted(f"u{ticket}", ("staff",))
        assert len(set(good.sources)) == 2
        assert bench.service.facts()["radius"]["office"]["dead"] == [str(dead.endpoint)]
        # On a busy machine questions are repeated, and the second answer is for nobody.
        names = [event.name for event in bench.events if event.name != "radius_datagram_ignored"]
        assert names == ["radius_server_down"]
        bench.service.stop()
        dead.transport.close()
        good.transport.close()

    run(main())


def test_datagrams_from_another_port_never_arrive() -> None:
    async def main() -> None:
        server = await Server(silent=True).start()
        settings = RadiusSettings(
            "office", (RadiusServer(server.endpoint, SECRET),), retransmit_first_s=0.05, tries=2
        )
        bench = Bench(backends={"office": settings})
        bench.service.ask(question(1, backend="office"))
        await server.came.wait()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(Server.accept(server.requests[0]), server.sources[0])
        assert isinstance(await bench.answer_of(1), Unavailable)
        assert bench.service.facts()["radius"]["office"]["counters"]["ignored"] == 0
        bench.service.stop()
        server.transport.close()

    run(main())


def test_a_dead_server_is_asked_from_a_new_socket() -> None:
    async def main() -> None:
        server = await Server(silent=True).start()
        settings = RadiusSettings(
            "office", (RadiusServer(server.endpoint, SECRET),), retransmit_first_s=0.01, tries=2
        )
        bench = Bench(backends={"office": settings})
        for ticket in range(3):
            bench.service.ask(question(ticket, backend="office"))
            assert isinstance(await bench.answer_of(ticket), Unavailable)
        assert len(server.sources) == 6
        assert len(set(server.sources)) > 1
        assert [event.name for event in bench.events] == ["radius_server_down"]
        bench.service.stop()
        server.transport.close()

    run(main())


def test_a_server_whose_port_is_closed_is_unavailable() -> None:
    async def main() -> None:
        server = await Server().start()
        server.transport.close()
        await asyncio.sleep(0)
        settings = RadiusSettings(
            "office", (RadiusServer(server.endpoint, SECRET),), retransmit_first_s=0.01, tries=3
        )
        bench = Bench(backends={"office": settings})
        bench.service.ask(question(1, backend="office"))
        assert isinstance(await bench.answer_of(1), Unavailable)
        bench.service.stop()

    run(main())


def test_a_reload_ends_questions_to_a_changed_backend_and_keeps_others() -> None:
    async def main() -> None:
        silent, good = await Server(silent=True).start(), await Server(silent=True).start()
        old = RadiusSettings("a", (RadiusServer(silent.endpoint, SECRET),))
        same = RadiusSettings("b", (RadiusServer(good.endpoint, SECRET),))
        bench = Bench(backends={"a": old, "b": same})
        bench.service.ask(question(1, backend="a"))
        bench.service.ask(question(2, backend="b"))
        await good.came.wait()
        new = RadiusSettings("a", (RadiusServer(good.endpoint, SECRET),))
        bench.service.reload(BASE, {"a": new, "b": same})
        assert await bench.answer_of(1) == Unavailable("the RADIUS backend was changed")
        assert 2 not in bench.answers
        good.transport.sendto(Server.accept(good.requests[0]), good.sources[0])
        assert isinstance(await bench.answer_of(2), Accepted)
        bench.service.stop()
        silent.transport.close()
        good.transport.close()

    run(main())


def test_a_question_asked_while_its_backend_is_changed_goes_to_the_new_one() -> None:
    async def main() -> None:
        silent, good = await Server(silent=True).start(), await Server().start()
        old = RadiusSettings("a", (RadiusServer(silent.endpoint, SECRET),))
        bench = Bench(backends={"a": old})
        answered = bench.service._answer

        def ask_again(ticket: Any, answer: Any) -> None:
            answered(ticket, answer)
            if ticket == 1:
                bench.service.ask(question(2, backend="a"))

        bench.service._answer = ask_again
        bench.service.ask(question(1, backend="a"))
        await silent.came.wait()
        new = RadiusSettings("a", (RadiusServer(good.endpoint, SECRET),))
        bench.service.reload(BASE, {"a": new})
        assert isinstance(await bench.answer_of(2), Accepted)
        bench.service.stop()
        silent.transport.close()
        good.transport.close()

    run(main())


@pytest.mark.parametrize("backend", ["local", "office"])
def test_nothing_is_answered_after_stop(backend: Any) -> None:
    async def main() -> None:
        server = await Server().start()
        settings = RadiusSettings("office", (RadiusServer(server.endpoint, SECRET),))
        bench = Bench(backends={"office": settings})
        bench.service.ask(question(1, backend=backend))
        bench.service.stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bench.answers == {}
        server.transport.close()

    run(main())
