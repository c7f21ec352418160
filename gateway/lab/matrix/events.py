"""What happens to a tunnel that stands, each event with what has to hold afterwards."""

from __future__ import annotations

from collections.abc import Callable

from gateway.lab import plan
from gateway.lab.matrix.bed import Bed
from gateway.lab.matrix.cells import Event, Row
from gateway.lab.matrix.speakers import Speaker
from gateway.lab.matrix.streams import RATE, Streams
from gateway.lab.processes import LabError, wait_until

TIMES = 3
REKEY_S = 20.0
DEAD_S = 45.0
PAUSE_S = 0.1
"""How long the test kernel's only processor may be somebody else's between two packets."""


def happen(row: Row, bed: Bed) -> None:
    """Let the row's events happen, in order; raises LabError with what did not hold.

    The rekeyings happen under one stream in both directions, of which nothing may be lost.
    """
    rekeyings = [event for event in row.events if event in _REKEYINGS]
    if rekeyings:
        with Streams(bed.lab, bed.inner()) as streams:
            for event in rekeyings:
                _REKEYINGS[event](bed, row, streams)
            lost = _lost_by_peer(row, bed)
            from_device = bed.peer is bed.initiator
            streams.must_lose_nothing(**{"up" if from_device else "down": lost})
        bed.agreed(row)
        bed.ping()
    for event in row.events:
        if event in _EVENTS:
            _EVENTS[event](bed, row)


def _lost_by_peer(row: Row, bed: Bed) -> int:
    """How many of its datagrams a peer may lose that does not defer sending.

    RFC 7296 section 2.8: who answers a rekeying in IKEv2 may send on the new SA at once, before
    its answer can have arrived; what overtakes the answer is dropped, which is as much as it sends
    while a busy machine stands still. In IKEv1 the same peer loses as few when one of its SAs gives
    way to another, whoever began it.
    """
    if bed.peer.defers_sending:
        return 0
    rekeyings = {Event.WE_REKEY_CHILD: TIMES, Event.WE_REKEY_IKE: 1}
    if row.version == 1:
        rekeyings = dict.fromkeys(_REKEYINGS, TIMES)
    return round(RATE * PAUSE_S) * sum(rekeyings.get(event, 0) for event in row.events)


def _rekey_child(bed: Bed, _row: Row, side: Speaker, streams: Streams) -> None:
    """Several times; each time both kernels get another pair of SAs."""
    for _ in range(TIMES):
        _another_pair(bed, side)
        streams.wait_for_more(20)


def _another_pair(bed: Bed, side: Speaker) -> None:
    gw, device = bed.spis("gw"), bed.spis("device")
    side.rekey_child()
    try:
        wait_until(
            lambda: len(bed.spis("gw") - gw) >= 2 and len(bed.spis("device") - device) >= 2,
            REKEY_S,
            "another pair of child SAs",
        )
    except LabError as error:
        found = f"gw had {sorted(gw)}, has {sorted(bed.spis('gw'))};"
        found += f" device had {sorted(device)}, has {sorted(bed.spis('device'))}"
        raise LabError(f"{error}: {found}") from None


def _rekey_ike(bed: Bed, row: Row, side: Speaker, streams: Streams) -> None:
    """Several times; under the last one's keys the child SA can be rekeyed."""
    for _ in range(TIMES):
        old = bed.ours.ike_names(), bed.peer.ike_names()
        side.rekey_ike()
        _another_ike(bed, row, old)
        streams.wait_for_more(20)
    _another_pair(bed, side)
    streams.wait_for_more(20)


def _reauthenticate(bed: Bed, row: Row, side: Speaker) -> None:
    old = bed.ours.ike_names(), bed.peer.ike_names()
    side.reauthenticate()
    _another_ike(bed, row, old)
    bed.agreed(row)
    bed.ping()


def _another_ike(bed: Bed, row: Row, old: tuple[set[str], set[str]]) -> None:
    """Wait until either side has another IKE SA; in IKEv1 the old one may live on for a while."""

    def replaced() -> bool:
        new = bed.ours.ike_names(), bed.peer.ike_names()
        return all(
            now - was and (row.version == 1 or not now & was)
            for now, was in zip(new, old, strict=True)
        )

    try:
        wait_until(replaced, REKEY_S, "another IKE SA on both sides")
    except LabError as error:
        names = f"we had {old[0]}, have {bed.ours.ike_names()}"
        names += f"; the peer had {old[1]}, has {bed.peer.ike_names()}"
        raise LabError(f"{error}: {names}") from None


def _delete(bed: Bed, side: Speaker) -> None:
    """Both sides forget what there was; libreswan may open something new at once."""
    names = bed.ours.ike_names(), bed.peer.ike_names()
    spis = bed.spis("gw") | bed.spis("device")
    side.close()

    def forgotten() -> bool:
        left = bed.ours.ike_names() & names[0] or bed.peer.ike_names() & names[1]
        return not left and not (bed.spis("gw") | bed.spis("device")) & spis

    wait_until(forgotten, 10, "both sides to forget everything after the delete")


def _dies(bed: Bed, _row: Row) -> None:
    bed.peer.kill()
    try:
        wait_until(lambda: not bed.ours.ike_names(), DEAD_S, "us to notice that the peer is dead")
        wait_until(lambda: not bed.spis(bed.ours.host), 10, "our kernel to forget the dead peer")
    finally:
        bed.peer.start()


def _probes(bed: Bed, _row: Row) -> None:
    answered = bed.peer.probes_answered()
    names = bed.ours.ike_names()
    wait_until(
        lambda: bed.peer.probes_answered() >= answered + 2, 15, "the peer's probes to be answered"
    )
    if bed.ours.ike_names() != names:
        raise LabError("the IKE SA did not survive the peer's probes")
    bed.ping()


def _moves(bed: Bed, _row: Row) -> None:
    """Break before make, where the peer can into a NAT and out again; both SAs stay the same."""
    names, spis = bed.ours.ike_names(), bed.spis("gw")
    for access in bed.peer.moves:
        bed.lab.move(access)

        def followed(access: str = access) -> bool:
            where = str(plan.ACCESSES[access].device.ip)
            if access == "nat":
                where = str(bed.lab.nat_mapping()[0])
            return f"dst {where}\n" in bed.lab.states("gw")

        wait_until(followed, DEAD_S, f"the responder to follow into {access}")
        bed.ping()
    stayed = bed.peer.replaces_moved or bed.spis("gw") == spis
    if bed.ours.ike_names() != names or not stayed:
        raise LabError("the move replaced an SA that it should have kept")


_REKEYINGS: dict[Event, Callable[[Bed, Row, Streams], None]] = {
    Event.PEER_REKEYS_CHILD: lambda bed, row, streams: _rekey_child(bed, row, bed.peer, streams),
    Event.WE_REKEY_CHILD: lambda bed, row, streams: _rekey_child(bed, row, bed.ours, streams),
    Event.PEER_REKEYS_IKE: lambda bed, row, streams: _rekey_ike(bed, row, bed.peer, streams),
    Event.WE_REKEY_IKE: lambda bed, row, streams: _rekey_ike(bed, row, bed.ours, streams),
}

_EVENTS: dict[Event, Callable[[Bed, Row], None]] = {
    Event.PEER_REAUTHENTICATES: lambda bed, row: _reauthenticate(bed, row, bed.peer),
    Event.WE_REAUTHENTICATE: lambda bed, row: _reauthenticate(bed, row, bed.ours),
    Event.PEER_DELETES: lambda bed, _row: _delete(bed, bed.peer),
    Event.WE_DELETE: lambda bed, _row: _delete(bed, bed.ours),
    Event.PEER_DIES: _dies,
    Event.PEER_PROBES: _probes,
    Event.INITIATOR_MOVES: _moves,
}
