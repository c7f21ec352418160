"""Which connections are opened by themselves, and what a reload changes about it."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from appliance_fakes import FakeDataplane, FakeEngine

from gateway.appliance.opening import Openings, with_local_addresses
from gateway.domain.child_sa import TrafficSelector
from gateway.domain.endpoint import Endpoint

REMOTE = Endpoint(ip_address("192.0.2.9"), 500)
NEAR = (TrafficSelector.of_network(ip_network("10.1.0.0/24")),)
FAR = (TrafficSelector.of_network(ip_network("10.2.0.0/24")),)


@dataclass(frozen=True)
class Connection:
    """The part of a policy that counts here."""

    name: str
    remote: Endpoint | None = REMOTE
    local: Endpoint | None = None
    local_ts: tuple[TrafficSelector, ...] = NEAR
    remote_ts: tuple[TrafficSelector, ...] = FAR


def opened() -> tuple[FakeEngine, FakeDataplane, Any]:
    engine, dataplane = FakeEngine(), FakeDataplane()
    openings = Openings(engine, dataplane)

    def apply(starts: dict[str, Any], *connections: Any) -> None:
        made = connections or tuple(map(Connection, starts))
        openings.apply(made, starts, 1.0)

    return engine, dataplane, apply


def test_start_opens_once_and_none_never() -> None:
    engine, dataplane, apply = opened()
    apply({"a": "start", "b": "none"})
    apply({"a": "start", "b": "none"})
    assert engine.calls == [("initiate", "a")]
    assert dataplane.journal == []


def test_a_reload_opens_what_is_new() -> None:
    engine, _, apply = opened()
    apply({"a": "none"})
    apply({"a": "start", "b": "start"})
    assert engine.calls == [("initiate", "a"), ("initiate", "b")]


def test_a_responders_connection_is_never_opened() -> None:
    engine, dataplane, apply = opened()
    apply({"a": "start", "b": "trap"}, Connection("a", remote=None), Connection("b", remote=None))
    assert (engine.calls, dataplane.journal) == ([], [])


def test_traps_follow_the_configuration() -> None:
    engine, dataplane, apply = opened()
    apply({"ab": "trap"})
    apply({"ab": "trap"})
    assert dataplane.journal == [("trap", 0x102)]
    apply({"ab": "trap"}, Connection("ab", remote_ts=NEAR))  # other selectors
    assert dataplane.journal[1:] == [("untrap", 0x102), ("trap", 0x102)]
    apply({})
    assert dataplane.journal[3:] == [("untrap", 0x102)]
    assert engine.calls == []


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        (["127.0.0.1"], "127.0.0.1"),  # where the route leads out
        (["0.0.0.0"], "127.0.0.1"),
        (["203.0.113.1", "127.0.0.1"], "127.0.0.1"),
        (["203.0.113.1"], "203.0.113.1"),  # not on the way, but all we have
        (["::1"], None),
    ],
)
def test_a_connection_that_we_open_knows_its_local_address(listen: Any, local: Any) -> None:
    near = Connection("a", remote=Endpoint(ip_address("127.0.0.1"), 500))
    responder = Connection("b", remote=None)
    fixed = Connection("c", local=Endpoint(ip_address("203.0.113.9"), 500))
    made: Any = [near, responder, fixed]
    found = with_local_addresses(made, [ip_address(address) for address in listen], 500)
    assert found[0].local == (None if local is None else Endpoint(ip_address(local), 500))
    assert found[1:] == [responder, fixed]
