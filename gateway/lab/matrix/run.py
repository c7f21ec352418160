"""Runs cells and says how each ended."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass

from gateway.lab.matrix import events
from gateway.lab.matrix.bed import Bed
from gateway.lab.matrix.cells import Cell
from gateway.lab.processes import LabError, wait_until


class Verdict(enum.Enum):
    """How a cell ended."""

    HELD = "held"
    REFUSED = "refused"
    """As it had to be."""
    NOT_OFFERED = "not offered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One cell's end."""

    cell: Cell
    verdict: Verdict
    seconds: float = 0.0
    reason: str = ""
    """Why it failed, or why the peer does not offer it."""


def run(cell: Cell, bed: Bed) -> Outcome:
    """Try one cell; never raises LabError: what went wrong is the outcome's reason."""
    if cell.not_offered is not None:
        return Outcome(cell, Verdict.NOT_OFFERED, reason=cell.not_offered)
    began, at = time.monotonic(), time.time()
    verdict, reason = Verdict.HELD, ""
    try:
        bed.load(cell.row)
        if cell.row.fault is None:
            _hold(cell, bed)
        else:
            verdict = Verdict.REFUSED
            _refuse(bed)
    except LabError as error:
        verdict, reason = Verdict.FAILED, str(error)
    try:
        bed.clear()
    except LabError as error:
        verdict, reason = Verdict.FAILED, reason or str(error)
    bed.begun[cell.name] = at, time.time()
    return Outcome(cell, verdict, time.monotonic() - began, reason)


def _hold(cell: Cell, bed: Bed) -> None:
    bed.initiator.initiate()
    if cell.row.childless and bed.peer is bed.responder:
        bed.peer.create_child()
    bed.agreed(cell.row)
    bed.ping()
    events.happen(cell.row, bed)


def _refuse(bed: Bed) -> None:
    """The attempt fails, and leaves nothing at either side."""
    try:
        bed.initiator.initiate()
    except LabError:
        pass
    else:
        raise LabError("it was let in")
    if bed.spis("gw") or bed.spis("device"):
        raise LabError("it was refused, but an SA is there")
    wait_until(lambda: not bed.responder.ike_names(), 5, "the responder to have no IKE SA")
