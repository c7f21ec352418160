"""Runs the matrix for `gateway lab matrix`: columns one after the other, progress while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.lab.matrix.bed import bed
from gateway.lab.matrix.cells import Cell
from gateway.lab.matrix.judging import objections
from gateway.lab.matrix.ours import OurGateway
from gateway.lab.matrix.report import markdown
from gateway.lab.matrix.rows import cells
from gateway.lab.matrix.run import Outcome, Verdict, run

Say = Callable[[str], None]


def run_matrix(pattern: str, write: Path | None, say: Say) -> bool:
    """Try every cell whose name fits, and write the document; whether none failed.

    Raises LabError when the lab itself does not work.
    """
    chosen = cells(pattern)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for column in dict.fromkeys(cell.column for cell in chosen):
        mine = [cell for cell in chosen if cell.column == column]
        outcomes += run_column(mine, say, len(outcomes), len(chosen))
    counted = ", ".join(
        f"{sum(one.verdict is verdict for one in outcomes)} {verdict.value}" for verdict in Verdict
    )
    say(f"{len(outcomes)} cells in {time.monotonic() - began:.0f} s: {counted}")
    if write is not None:
        write.write_text(markdown(outcomes))
        say(f"written to {write}")
    return all(one.verdict is not Verdict.FAILED for one in outcomes)


def run_column(chosen: Sequence[Cell], say: Say, done: int, total: int) -> list[Outcome]:
    """The outcomes of cells of one column."""
    first = chosen[0]
    outcomes: dict[str, Outcome] = {}
    if all(cell.not_offered is not None for cell in chosen):
        return [Outcome(cell, Verdict.NOT_OFFERED, reason=str(cell.not_offered)) for cell in chosen]
    radius = any(cell.row.radius and cell.not_offered is None for cell in chosen)
    with bed(first.peer, first.role, OurGateway, radius=radius) as site:
        for cell in chosen:
            outcome = run(cell, site)
            outcomes[cell.name] = outcome
            done += 1
            say(_line(outcome, done, total))
        tried = {name: one.cell for name, one in outcomes.items() if one.seconds}
        for name, objection in objections(site, tried):
            say(f"tshark, {name}: {objection}")
            old = outcomes.get(name) or outcomes[first.name]
            outcomes[old.cell.name] = Outcome(old.cell, Verdict.FAILED, old.seconds, objection)
    return list(outcomes.values())


def _line(outcome: Outcome, done: int, total: int) -> str:
    reason = f": {outcome.reason.splitlines()[0]}" if outcome.reason else ""
    spent = f" {outcome.seconds:.1f} s" if outcome.seconds else ""
    return f"[{done}/{total}] {outcome.cell.name}: {outcome.verdict.value}{spent}{reason}"
