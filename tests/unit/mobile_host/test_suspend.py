"""The machine slept: both clocks tell by how much they differ."""

from collections.abc import Iterator

import pytest

from gateway.mobile_host import suspend
from gateway.mobile_host.suspend import SuspendWatch


@pytest.fixture
def watch() -> Iterator[SuspendWatch]:
    watch = SuspendWatch()
    yield watch
    watch.close()


def test_awake(watch: SuspendWatch) -> None:
    assert watch.read() == 0.0
    assert watch.read() == 0.0


def test_a_sleep_is_told_once(watch: SuspendWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    before = suspend._asleep_s()
    monkeypatch.setattr(suspend, "_asleep_s", lambda: before + 3600.0)
    assert watch.read() == pytest.approx(3600.0, abs=1.0)
    assert watch.read() == 0.0
