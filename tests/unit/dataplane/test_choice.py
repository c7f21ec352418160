"""Which dataplane is taken: everything of what is wanted, what is needed and what is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane import choice
from gateway.dataplane.choice import IPSEC, MOBILITY, Kind, choose
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.portable.probe import required


def nothing(_: frozenset[str]) -> dict[str, str]:
    return {}


def asked_in_vain(_: frozenset[str]) -> dict[str, str]:
    raise AssertionError("nobody wants to know")


def no_queue(_: frozenset[str]) -> dict[str, str]:
    return {"nft-queue": "ENOENT"}


def test_auto_takes_a_kernel_that_has_it_all_and_asks_no_further() -> None:
    made = choose("auto", IPSEC, nothing, asked_in_vain)
    assert (made.kind, made.why) == (Kind.KERNEL, "the kernel has all that is needed")


def test_auto_takes_user_space_and_says_what_the_kernel_lacks() -> None:
    made = choose("auto", IPSEC, no_queue, nothing)
    assert (made.kind, made.why) == (Kind.PORTABLE, "the kernel lacks nft-queue")


def test_what_is_forced_is_not_weighed() -> None:
    assert choose("portable", IPSEC, asked_in_vain, nothing).why == "as configured"
    assert choose("kernel", IPSEC, nothing, asked_in_vain).kind is Kind.KERNEL


def test_a_forced_kernel_without_ipsec_names_what_is_missing_and_the_remedy() -> None:
    with pytest.raises(DataplaneUnavailableError, match=r'lacks nft-queue; set .*kind = "auto"'):
        choose("kernel", IPSEC, no_queue, asked_in_vain)


def test_a_forced_kernel_without_an_option_is_left_to_the_roles() -> None:
    made = choose("kernel", IPSEC | MOBILITY, lambda _: {"fou": "ENOENT"}, asked_in_vain)
    assert made.kind is Kind.KERNEL


@pytest.mark.parametrize("wanted", ["auto", "portable"])
def test_a_host_that_can_neither_is_told_both_reasons(wanted: str) -> None:
    with pytest.raises(DataplaneUnavailableError) as caught:
        choose(wanted, IPSEC, no_queue, lambda _: {"portable-links": "EPERM"})
    assert "portable-links: EPERM" in str(caught.value)
    assert ("nft-queue" in str(caught.value)) is (wanted == "auto")


def test_marks_and_logs_are_needed_for_tunnels_only() -> None:
    assert "portable-marks" not in required(IPSEC)
    assert {"portable-marks", "portable-log"} <= required(IPSEC | choice.TUNNELS)


NAMES = sorted(IPSEC | MOBILITY)


@given(
    st.sampled_from(["auto", "kernel", "portable"]),
    st.frozensets(st.sampled_from(NAMES)),
    st.frozensets(st.sampled_from(NAMES)),
    st.booleans(),
)
def test_the_kernel_is_never_taken_by_auto_with_a_need_unmet(
    wanted: str, needs: frozenset[str], lacking: frozenset[str], portable: bool
) -> None:
    def kernel(asked: frozenset[str]) -> dict[str, str]:
        return dict.fromkeys(asked & lacking, "no")

    try:
        made = choose(wanted, needs, kernel, nothing if portable else (lambda _: {"x": "no"}))
    except DataplaneUnavailableError:
        assert not portable or (wanted == "kernel" and needs & lacking & IPSEC)
        return
    if wanted == "auto":
        assert (made.kind is Kind.KERNEL) is (not needs & lacking)
    else:
        assert made.kind == wanted
