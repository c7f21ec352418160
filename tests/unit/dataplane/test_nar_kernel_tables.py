"""Shared elements and what an edit changes."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.nar.elements import Elements
from gateway.dataplane.kernel.nar.tables import Edit, Shared, difference
from gateway.dataplane.kernel.nft_elements import ElementChange

A, B = ("set", b"a"), ("map", b"b")


def applied(state: Elements, changes: list[ElementChange]) -> Elements:
    """What the kernel makes of changes; it takes no second element and removes no missing one."""
    state = dict(state)
    for change in changes:
        key = change.name, change.key
        if change.add:
            assert key not in state
            state[key] = change.data
        else:
            del state[key]
    return state


def test_an_element_stays_while_somebody_wants_it() -> None:
    shared = Shared()
    edit = Edit(shared)
    edit.put("one", {A: None})
    edit.put("two", {A: None})
    assert edit.changes() == [ElementChange("set", b"a")]
    edit = Edit(shared)
    edit.take("one", {A: None})
    assert edit.changes() == []
    edit = Edit(shared)
    edit.take("two", {A: None})
    assert edit.changes() == [ElementChange("set", b"a", add=False)]
    assert shared.all() == {}


def test_the_next_one_is_heard_when_the_first_one_goes() -> None:
    shared = Shared()
    edit = Edit(shared)
    edit.put("one", {B: b"1"})
    edit.put("two", {B: b"2"})
    assert edit.changes() == [ElementChange("map", b"b", data=b"1")]
    edit = Edit(shared)
    edit.take("one", {B: b"1"})
    assert edit.changes() == [
        ElementChange("map", b"b", add=False),
        ElementChange("map", b"b", data=b"2"),
    ]


def test_what_is_taken_and_put_again_does_not_change() -> None:
    shared = Shared()
    Edit(shared).put("one", {B: b"1"})
    edit = Edit(shared)
    edit.take("one", {B: b"1"})
    edit.take_own({A: None})
    edit.put("two", {B: b"1"})
    edit.put_own({A: None})
    assert edit.changes() == []


steps = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from([A, B]),
        st.sampled_from([b"1", b"2"]),
    ),
    max_size=30,
)


@given(st.lists(steps, max_size=5))
def test_edits_keep_up_with_the_wishes(
    rounds: list[list[tuple[str, tuple[str, bytes], bytes]]],
) -> None:
    shared = Shared()
    wishes: set[tuple[str, tuple[str, bytes]]] = set()
    kernel: Elements = {}
    for one in rounds:
        edit = Edit(shared)
        for owner, element, data in one:
            if (owner, element) in wishes:
                wishes.discard((owner, element))
                edit.take(owner, {element: data})
            else:
                wishes.add((owner, element))
                edit.put(owner, {element: data})
        kernel = applied(kernel, edit.changes())
        assert kernel == shared.all()
        assert kernel.keys() == {element for _, element in wishes}


states = st.dictionaries(
    st.tuples(st.sampled_from(["m", "n"]), st.binary(min_size=1, max_size=1)),
    st.sampled_from([b"1", b"2"]),
)


@given(states, states)
def test_a_difference_turns_one_into_the_other(before: Elements, after: Elements) -> None:
    parts = difference(before, after)
    assert applied(before, [change for part in parts for change in part]) == after
    assert all(len({(one.name, one.key) for one in part}) == 1 for part in parts)
    assert difference(after, after) == []
