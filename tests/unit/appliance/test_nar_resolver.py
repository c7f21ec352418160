"""Names of targets: threads that may hang, deadlines, bounds."""

import asyncio
import socket
import threading
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.appliance.nar import resolver as resolver_module
from gateway.appliance.nar.resolver import NameResolver, look_up

HERE = ip_address("192.0.2.1")


class Bench:
    def __init__(self, answer: Any, **more: Any) -> None:
        self.answers = []
        self.asked = []

        def look(name: str, ipv6: bool) -> Any:
            self.asked.append((name, ipv6))
            return answer(name)

        self.resolver = NameResolver(look_up=look, **more)

    def ask(self, name: str, ipv6: bool = False) -> None:
        self.resolver.ask(name, ipv6, lambda found: self.answers.append((name, list(found))))

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.answers) < count:  # noqa: ASYNC110 - threads answer
                await asyncio.sleep(0.001)


def run(test: Any) -> None:
    asyncio.run(test)


def test_answers_come_later_and_once() -> None:
    async def main() -> None:
        bench = Bench(lambda _name: [HERE])
        bench.ask("a.example")
        bench.ask("A.Example.")
        bench.ask("a.example", ipv6=True)
        assert bench.answers == []
        await bench.wait(3)
        assert sorted(bench.answers) == [
            ("A.Example.", [HERE]),
            ("a.example", [HERE]),
            ("a.example", [HERE]),
        ]
        assert sorted(bench.asked) == [("a.example", False), ("a.example", True)]
        bench.resolver.stop()

    run(main())


@pytest.mark.parametrize("name", ["", "-rf", "a b", "a\0b", "a\n", "x" * 254, "ü.example"])
def test_h71_names_that_are_none_are_not_looked_up(name: str) -> None:
    async def main() -> None:
        bench = Bench(lambda _name: [HERE])
        bench.ask(name)
        await bench.wait(1)
        assert bench.answers == [(name, [])]
        assert bench.asked == []
        bench.resolver.stop()

    run(main())


def test_failures_are_no_address() -> None:
    def fail(name: str) -> Any:
        raise {"o": OSError("x"), "u": UnicodeError("x")}[name[0]]

    async def main() -> None:
        bench = Bench(fail)
        bench.ask("o.example")
        bench.ask("u.example")
        await bench.wait(2)
        assert all(found == [] for _, found in bench.answers)
        bench.resolver.stop()

    run(main())


def test_silent_name_servers_cost_a_deadline_and_no_more_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver_module, "MAX_WAITING", 5)
    gate = threading.Event()

    def hang(_name: str) -> Any:
        gate.wait(30)
        return [HERE]

    async def main() -> None:
        bench = Bench(hang, threads=2, deadline_s=0.02)
        for number in range(8):
            bench.ask(f"n{number}.example")
        await bench.wait(8)
        assert all(found == [] for _, found in bench.answers)
        assert bench.resolver.counters["refused"] == 3
        assert bench.resolver.counters["timeouts"] == 5
        assert len(bench.resolver._threads) == 2
        bench.resolver._deadline_s = 20.0
        bench.ask("n0.example")  # the thread still looks: its answer is for us now
        gate.set()
        await bench.wait(9)
        assert bench.answers[-1] == ("n0.example", [HERE])
        bench.resolver.stop()

    run(main())


def test_the_c_library_answers() -> None:
    assert look_up("127.0.0.1", False) == [ip_address("127.0.0.1")]
    with pytest.raises(socket.gaierror):
        look_up("::1", False)
