"""What a dead mobile node left is seen and taken away; the trial of `gateway mn check`."""

# planes: kernel portable

from ipaddress import IPv4Address

import pytest

from gateway.cli.mn_check import verdicts
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.kernel.node.release import is_left, release, try_start
from gateway.dataplane.kernel.scratch import in_scratch_namespace
from gateway.dataplane.node import NodeSettings, Peers
from gateway.dataplane.portable.node import release as portable
from gateway.dataplane.portable.node.release import release as end_forwarder
from gateway.lab import planes

pytestmark = pytest.mark.kernel


def test_the_trial_leaves_nothing() -> None:
    before = is_left()
    assert (portable.try_start if planes.portable() else try_start)() is None
    assert is_left() == before


def _left_and_released() -> list[object]:
    before = is_left(), _release()
    node = planes.node(NodeSettings(Peers((IPv4Address("192.0.2.1"),))))
    node.open()
    # Nothing is closed: as after SIGKILL, but for the descriptors, which keep no device.
    there = is_left()
    return [before, there, _release(), is_left(), _release()]


def _release() -> list[str]:
    """As `gateway mn release` does."""
    return end_forwarder(planes.folder_here()) + release()


def test_what_is_left_is_named_and_removed_once() -> None:
    found = in_scratch_namespace(_left_and_released)
    assert isinstance(found, list)
    before, there, removed, still, again = found
    assert before == [False, []]
    assert there is True
    forwarder = [f"interface {constants.XFRM_INTERFACE} and its forwarder"]
    left = [f"interface {constants.HOLD}", "the kill switch"]
    assert removed == (forwarder if planes.portable() else []) + left
    assert still is False
    assert again == []


def test_check_finds_what_a_node_needs_of_the_kernel() -> None:
    found, _ = verdicts(None)
    kernel = {one.name: one for one in found if one.area == "kernel"}
    assert {"xfrm", "ipip", "gre", "policy-rules", "mobile node"} <= set(kernel)
    assert [one for one in kernel.values() if one.state == "missing"] == []
