"""tshark's verdict on a column's recording, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.lab.capture import dissect, judge
from gateway.lab.matrix.bed import Bed
from gateway.lab.matrix.cells import Cell

FRAGMENT = {1: "132", 2: "53"}
"""Payload types of a fragment: the common private one of IKEv1, SKF of RFC 7383."""


def objections(bed: Bed, tried: dict[str, Cell]) -> Iterator[tuple[str, str]]:
    """Pairs of a cell's name and what is wrong with its packets; ends the recording."""
    recorded = bed.recording.stop()
    for finding in judge(recorded):
        name = _cell_at(bed, finding.at)
        yield name, f"packet {finding.frame} ({finding.protocols}): {finding.complaint}"
    large = {name: cell for name, cell in tried.items() if cell.row.large}
    if large:
        yield from _unfragmented(bed, recorded, large)


def _unfragmented(bed: Bed, recorded: Path, large: dict[str, Cell]) -> Iterator[tuple[str, str]]:
    """Large certificates have to leave both sides in fragments of IKE, and in none of IP."""
    fields = ["frame.time_epoch", "ip.src", "isakmp.typepayload", "ip.flags.mf"]
    rows = dissect(recorded, "isakmp || ip.flags.mf == 1", fields)
    for name, cell in large.items():
        begun, ended = bed.begun[name]
        mine = [row for row in rows if begun <= float(row[0]) <= ended]
        kind = FRAGMENT[cell.row.version]
        senders = {row[1] for row in mine if kind in row[2].split(",")}
        if len(senders) != 2:
            yield name, f"fragments of IKE came from {sorted(senders) or 'nobody'} only"
        if any(row[3] in {"1", "True"} for row in mine):
            yield name, "an IKE message was left to the fragmentation of IP"


def _cell_at(bed: Bed, at: float) -> str:
    for name, (begun, ended) in bed.begun.items():
        if begun <= at <= ended:
            return name
    return "between the cells"
