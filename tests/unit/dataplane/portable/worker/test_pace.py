"""When a forwarder's loop rests a little between its turns."""

from gateway.dataplane.portable.worker.pace import (
    BUSY_TURNS,
    CALM_TURNS,
    PAUSE_S,
    WINDOW_S,
    Pace,
)


def turns(pace: Pace, start: float, count: int, windows: int) -> list[float]:
    """So many in each window, at equal distances; what each was told."""
    step = WINDOW_S / count
    return [pace.pause_s(start + number * step) for number in range(count * windows)]


def test_few_turns_wait_for_nothing() -> None:
    """A thousand packets per second in either direction are two turns each millisecond."""
    assert set(turns(Pace(10.0), 10.0, 10, 50)) == {0.0}


def test_many_turns_are_put_off_until_there_are_few() -> None:
    pace = Pace(10.0)
    told = turns(pace, 10.0, 4 * BUSY_TURNS, 5)
    assert told[0] == 0.0
    assert told[-1] == PAUSE_S
    # Fewer because of that: they go on being put off.
    assert turns(pace, 10.1, 2 * CALM_TURNS, 1)[0] == 0.0, "it was quiet in between"
    turns(pace, 10.2, 4 * BUSY_TURNS, 3)
    at = 10.2 + 3 * WINDOW_S
    assert set(turns(pace, at, 2 * CALM_TURNS, 5)) == {PAUSE_S}
    assert turns(pace, at + 5 * WINDOW_S, CALM_TURNS - 2, 5)[-1] == 0.0
