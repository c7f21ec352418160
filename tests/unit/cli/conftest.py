"""Fixtures of the command's tests; what it prints must not depend on who runs them."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_answers import Answers


@pytest.fixture(autouse=True)
def no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-xdist sets COLUMNS for its workers."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    path = tmp_path / "s"
    answers = Answers(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=answers.serve, args=(listener,), daemon=True)
        thread.start()
        yield answers
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not thread.is_alive()
