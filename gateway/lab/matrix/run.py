"""Runs cells and says how each ended."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass

from gateway.lab.matrix import events, world
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
        if cell.row.radius and verdict is Verdict.HELD:
            _accounted(cell, bed)
    except LabError as error:
        verdict, reason = Verdict.FAILED, reason or str(error)
    bed.begun[cell.name] = at, time.time()
    return Outcome(cell, verdict, time.monotonic() - began, reason)


def _hold(cell: Cell, bed: Bed) -> None:
    bed.initiator.initiate()
    bed.agreed(cell.row)
    if cell.row.radius and bed.inner() != str(world.FRAMED):
        raise LabError(f"{bed.inner()} instead of the RADIUS server's {world.FRAMED}")
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


def _accounted(cell: Cell, bed: Bed) -> None:
    """The RADIUS server was told of the session: its begin, its end, and what passed."""
    if bed.radius is None:
        raise LabError("there is no RADIUS server")
    server = bed.radius
    name = world.user_name(cell.row)

    def told() -> bool:
        mine = [one for one in server.accounting() if one.get("User-Name") == name][-2:]
        kinds = [one.get("Acct-Status-Type") for one in mine]
        same = len({one.get("Acct-Session-Id") for one in mine}) == 1
        complete = all(one.get("Framed-IP-Address") == str(world.FRAMED) for one in mine)
        passed = bool(mine) and int(mine[-1].get("Acct-Input-Packets", "0")) > 0
        return kinds == ["Start", "Stop"] and same and complete and passed

    try:
        wait_until(told, 10, "the session's accounting")
    except LabError as error:
        raise LabError(f"{error}: the server has {server.accounting()[-3:]}") from None
