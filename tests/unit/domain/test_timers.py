"""Timers behave like a map from key to deadline that can be popped in order."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.timers import Timers

Operation = tuple[str, int, int]
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["set", "cancel", "due"]), st.integers(0, 5), st.integers(0, 20)),
    max_size=60,
)


def test_a_later_set_replaces_the_earlier_deadline() -> None:
    timers: Timers[str] = Timers()
    timers.set("rekey", 5.0)
    timers.set("rekey", 9.0)
    assert timers.next_at() == 9.0
    assert list(timers.due(8.0)) == []
    assert list(timers.due(9.0)) == ["rekey"]
    assert timers.next_at() is None


def test_a_timer_set_to_now_while_firing_waits_for_the_next_call() -> None:
    timers: Timers[str] = Timers()
    timers.set("again", 1.0)
    fired = 0
    for key in timers.due(1.0):
        fired += 1
        timers.set(key, 1.0)
    assert fired == 1
    assert timers.next_at() == 1.0


def test_memory_follows_live_timers_not_the_number_of_sets() -> None:
    timers: Timers[int] = Timers()
    for round_ in range(10_000):
        timers.set(round_ % 10, float(round_))
    assert len(timers) == 10
    assert len(timers._heap) <= 100


@given(OPERATIONS)
def test_agrees_with_a_plain_dictionary(operations: list[Operation]) -> None:
    timers: Timers[int] = Timers()
    model: dict[int, float] = {}
    for name, key, at in operations:
        if name == "set":
            timers.set(key, float(at))
            model[key] = float(at)
        elif name == "cancel":
            timers.cancel(key)
            model.pop(key, None)
        else:
            due = list(timers.due(float(at)))
            expected = {k for k, when in model.items() if when <= at}
            assert set(due) == expected
            assert [model[k] for k in due] == sorted(model[k] for k in due)
            for k in due:
                del model[k]
        assert timers.next_at() == (min(model.values()) if model else None)
        assert len(timers) == len(model)
