"""The search for the largest packet that arrives."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.path_search import MAX_ROUNDS, SILENT_ROUNDS, SIZES_PER_ROUND, PathSearch


def _run(search: PathSearch, carries: int, lost: frozenset[int] = frozenset()) -> list[list[int]]:
    rounds = []
    while sizes := search.next_round():
        rounds.append(sizes)
        for number, size in enumerate(sizes):
            if size <= carries and len(rounds) * 100 + number not in lost:
                search.arrived(size, 0.01)
    return rounds


@given(st.integers(128, 1400))
def test_the_largest_is_found_in_few_rounds(carries: int) -> None:
    search = PathSearch(128, 1400, likely=(1400, 1379))
    rounds = _run(search, carries)
    assert search.passes == carries
    assert len(rounds) <= MAX_ROUNDS
    assert all(len(sizes) <= SIZES_PER_ROUND + 2 for sizes in rounds)


def test_a_path_that_carries_everything_takes_one_round() -> None:
    search = PathSearch(128, 1400, likely=(1400,))
    assert len(_run(search, 9000)) == 1
    assert search.passes == 1400
    assert search.fails == 1401


def test_a_silent_device_ends_the_search() -> None:
    search = PathSearch(128, 1400)
    assert len(_run(search, 0)) == SILENT_ROUNDS
    assert search.passes is None


@given(st.integers(128, 1400), st.frozensets(st.integers(100, 700), max_size=8))
def test_what_is_lost_never_makes_the_answer_too_large(carries: int, lost: frozenset[int]) -> None:
    search = PathSearch(128, 1400)
    _run(search, carries, lost)
    assert search.passes is None or search.passes <= carries


def test_who_says_so_is_remembered() -> None:
    search = PathSearch(128, 1400)
    for size in search.next_round():
        search.refused(size, "192.0.2.1", 1280)
    assert search.known(1400)
    assert search.outcomes[1400].said_mtu == 1280
    search.refused(99_999, "192.0.2.1", 1)
    assert 99_999 not in search.outcomes


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_odd_bounds_end(smallest: int, largest: int) -> None:
    assert len(_run(PathSearch(smallest, largest), 700)) <= MAX_ROUNDS
