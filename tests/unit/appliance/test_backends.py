"""What the engine asks goes out, and the answers come back into it."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from appliance_fakes import FakeClock, FakeDataplane, FakeEngine

from gateway.appliance.backends import Backends, BackendSettings
from gateway.appliance.ike_service import IkeService
from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import Accepted, Asker, PasswordQuestion, Rejected, Session
from gateway.ike.outputs import AskAboutUser, AskOcsp, SessionClosed, SessionOpened
from gateway.users.document import UserEntry
from gateway.users.passwords import PasswordHash
from gateway.users.settings import ScryptCost
from gateway.users.store import UserBase

HERE = Endpoint(ip_address("203.0.113.1"), 4500)
THERE = Endpoint(ip_address("192.0.2.7"), 4500)
ANNA = UserEntry("anna", ("staff",), True, PasswordHash.of("right", ScryptCost(10, 1, 1), bytes))
QUESTION = PasswordQuestion("local", "anna", b"right", Asker("road", HERE, THERE, "s1"))


class Asking:
    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.flushed = 0
        self.came = asyncio.Event()

    def user_answered(self, ticket: int, answer: object, now: float) -> None:
        self.answers.append((ticket, answer))
        assert now > 0

    def ocsp_answered(self, ticket: int, response: bytes | None, now: float) -> None:
        self.answers.append((ticket, response))
        assert now > 0

    def flush(self) -> None:
        self.flushed += 1
        self.came.set()


def test_answers_reach_the_engine_and_are_acted_on() -> None:
    async def scenario() -> None:
        backends = Backends(
            BackendSettings(UserBase({"anna": ANNA})), usage=lambda _: None, emit=lambda _: None
        )
        engine = Asking()
        backends.join(engine, engine.flush)
        assert backends.find_user("anna") is not None
        assert backends.find_user("nobody") is None
        backends.ask_about_user(AskAboutUser(7, QUESTION))
        assert not engine.answers  # never within the call
        async with asyncio.timeout(20):
            await engine.came.wait()
        ((ticket, answer),) = engine.answers
        assert ticket == 7
        assert isinstance(answer, Accepted)
        assert (answer.user, answer.groups) == ("anna", ("staff",))
        engine.came.clear()
        backends.ask_ocsp(AskOcsp(8, "http://127.0.0.1:1/", b"request"))
        async with asyncio.timeout(20):
            await engine.came.wait()
        assert engine.answers[1] == (8, None)  # nobody listens there
        assert engine.flushed == 2
        backends.reload(BackendSettings())
        assert backends.find_user("anna") is None
        await backends.stop()

    asyncio.run(scenario())


def test_two_askers_with_the_same_tickets_get_their_own_answers() -> None:
    async def scenario() -> None:
        backends = Backends(
            BackendSettings(UserBase({"anna": ANNA})), usage=lambda _: None, emit=lambda _: None
        )
        engine = Asking()
        backends.join(engine, engine.flush)
        answers: list[object] = []
        came = asyncio.Event()

        def answered(answer: object) -> None:
            answers.append(answer)
            came.set()

        wrong = replace(QUESTION, password=b"wrong")
        backends.ask_about_user(AskAboutUser(1, QUESTION))
        backends.ask_password(wrong, answered)
        assert not answers  # never within the call
        async with asyncio.timeout(20):
            await came.wait()
            await engine.came.wait()
        assert answers == [Rejected("wrong password")]
        ((ticket, answer),) = engine.answers
        assert ticket == 1
        assert isinstance(answer, Accepted)
        assert not backends._waiting
        # One limit on guessing for both: wrong passwords there hold logins here up.
        for _ in range(30):
            backends.ask_password(wrong, answered)
        backends.ask_about_user(AskAboutUser(2, QUESTION))
        users = backends.facts()["users"]
        assert users["counters"]["questions"] == 33
        await backends.stop()

    asyncio.run(scenario())


class Outside:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def __getattr__(self, name: str) -> Any:
        return lambda output: self.told.append((name, output))


def test_every_output_finds_its_way_out() -> None:
    journal: list[object] = []
    engine, outside, clock = FakeEngine(), Outside(), FakeClock()
    service = IkeService(
        engine,
        FakeDataplane(journal),
        send=lambda *_, **__: None,
        clock=clock,
        call_at=clock.call_at,
        emit=lambda _: None,
        outside=outside,
    )
    session = Session("s1", "local", "anna", "road", HERE, THERE, None)
    outputs = [
        AskAboutUser(7, QUESTION),
        AskOcsp(8, "http://ocsp.example.com/", b"request"),
        SessionOpened(session),
        SessionClosed("s1", "the peer deleted it"),
    ]
    engine.outputs = list(outputs)
    service.flush()
    names = ("ask_about_user", "ask_ocsp", "session_opened", "session_closed")
    assert outside.told == list(zip(names, outputs, strict=True))
    assert service.counters["commits"] == 0  # nothing for the dataplane
