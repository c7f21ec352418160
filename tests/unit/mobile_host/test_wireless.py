"""Radios that roam: nl80211's messages."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.netlink import attribute, nested
from gateway.mobile_host.link_table import LinkTable
from gateway.mobile_host.rtnetlink import LinkNews
from gateway.mobile_host.wireless import group_of, moved

INDEX = attribute(3, struct.pack("=I", 7))


def message(command: int, *attributes: bytes) -> bytes:
    return struct.pack("=BBH", command, 1, 0) + b"".join(attributes)


@pytest.mark.parametrize("command", [38, 39, 40, 46, 47, 48])
def test_a_radio_that_moved(command: int) -> None:
    assert moved(message(command, attribute(1, b"wiphy"), INDEX)) == 7


@pytest.mark.parametrize(
    "body", [b"", b"\x2e", message(33, INDEX), message(47), message(47, attribute(3, b"\x07"))]
)
def test_what_is_no_move(body: bytes) -> None:
    assert moved(body) == 0


def test_the_group_of_a_family() -> None:
    def group(name: bytes, number: int) -> bytes:
        return attribute(1, name + b"\0") + attribute(2, struct.pack("=I", number))

    groups = nested(7, nested(1, group(b"scan", 9)), nested(2, group(b"mlme", 11)))
    assert group_of(message(1, groups), b"mlme") == 11
    assert group_of(message(1, groups), b"vendor") == 0
    assert group_of(message(1), b"mlme") == 0


def test_another_access_point_is_another_generation() -> None:
    table = LinkTable()
    table.take(LinkNews(7, "wlan0", True, "", False, 0, b"", False, False))
    (before,) = table.states()
    table.moved(7)
    table.moved(8)
    (after,) = table.states()
    assert after.generation > before.generation


@given(st.binary(max_size=100))
def test_any_octets(body: bytes) -> None:
    moved(body)
    group_of(body, b"mlme")
