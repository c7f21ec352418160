"""How long the path takes is known from exchanges that needed no second try."""

import pytest
from harness_v2 import Network, connected, sa_of


def exchange(network: Network, seconds: float, *, losses: int = 0) -> float | None:
    """The gateway renews a child SA; its answer takes so long. What it knows of the path then."""
    gateway = network.gateway.engine
    gateway.rekey(sa_of(network.gateway).spis, network.now, children=True)  # type: ignore[attr-defined]
    network.collect()
    for _ in range(losses):
        network.queue.clear()
        network.now += 1.5
        gateway.handle_timer(network.now)
        network.collect()
    network.now += seconds
    for _ in ("request", "answer"):
        waiting, network.queue = network.queue, []
        for datagram in waiting:
            network.deliver(datagram)
            network.collect()
    (snapshot,) = gateway.ike_sas(network.now)
    network.run()  # the old child SA is deleted, in no time
    return snapshot.rtt_s


def test_the_time_of_an_answer_is_that_of_the_path() -> None:
    network = connected()
    (before,) = network.gateway.engine.ike_sas(network.now)
    assert before.rtt_s is None  # it has only answered so far
    assert exchange(network, 0.12) == pytest.approx(0.12)
    network.pass_time(60)
    assert exchange(network, 0.3) == pytest.approx(0.3)


def test_an_answer_to_a_request_that_was_repeated_says_nothing() -> None:
    network = connected()
    assert exchange(network, 0.05, losses=2) is None
    assert network.gateway.engine.counters["retransmissions"] >= 1


def test_the_session_of_a_snapshot_is_that_of_its_events() -> None:
    network = connected()
    (snapshot,) = network.gateway.engine.ike_sas(network.now)
    (event,) = network.gateway.named("ike_sa_established")
    assert snapshot.session == event.fields["session"]
    network.gateway.engine.rekey(snapshot.spis, network.now)
    network.run()
    (later,) = [one for one in network.gateway.engine.ike_sas(network.now) if one.child_sas]
    assert later.spis != snapshot.spis
    assert later.session == snapshot.session
