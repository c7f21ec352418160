"""A unit test that never ends, or eats all memory, fails instead of taking the machine with it."""

import resource
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

LONGEST_S = 300
"""Far beyond any honest test on a busy machine."""
MEMORY_OCTETS = 8 << 30


@pytest.fixture(scope="session", autouse=True)
def _bounded_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = MEMORY_OCTETS if hard == resource.RLIM_INFINITY else min(MEMORY_OCTETS, hard)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


@pytest.fixture(autouse=True)
def _bounded_time(request: pytest.FixtureRequest) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"{request.node.nodeid} runs for more than {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
