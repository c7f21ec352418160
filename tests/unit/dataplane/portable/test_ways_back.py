"""Which octets a way back begins with; the sockets are tested in the lab."""

import socket
from typing import Self

import pytest

from gateway.dataplane.portable import ways_back
from gateway.dataplane.portable.ways_back import WaysBack


@pytest.mark.parametrize("octets", [bytes(6), b"\xff" * 6])
def test_what_rules_know_judged_packets_by_is_no_assigned_address(
    octets: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", _NoSocket)
    made = WaysBack("nar-back", 0x4759_0021, random=lambda _: octets)
    assert made.judged[0] & 3 == 2
    assert made.judged[1:] == octets[1:]
    assert made.judged_in_rules.count(":") == 5


def test_a_priority_is_written_as_rules_have_it() -> None:
    assert ways_back.in_rules(0x4759_0021) == "4759:21"


class _NoSocket:
    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setsockopt(self, *_: object) -> None:
        pass
