"""Cells of the interoperation matrix as tests: one column, split by version and kind."""

from collections.abc import Callable, Iterator

import pytest

from gateway.lab.matrix.bed import Bed, bed
from gateway.lab.matrix.cells import Cell, Role
from gateway.lab.matrix.judging import objections
from gateway.lab.matrix.ours import OurGateway
from gateway.lab.matrix.rows import cells
from gateway.lab.matrix.run import Verdict, run

TAIL = 6000


class Column:
    """The offered cells of one peer in one role: of one version, with or without events."""

    def __init__(self, peer: str, role: Role, *, version: int, events: bool) -> None:
        self._peer = peer
        self._role = role
        self.cells = [
            cell
            for cell in cells()
            if (cell.peer, cell.role, cell.row.version) == (peer, role, version)
            and bool(cell.row.events) is events
            and cell.not_offered is None
        ]
        self._tried: dict[str, Cell] = {}

    @property
    def each(self) -> pytest.MarkDecorator:
        """Parametrizes a test by `cell`."""
        names = [cell.row.name for cell in self.cells]
        return pytest.mark.parametrize("cell", self.cells, ids=names)

    def bed(self) -> Iterator[Bed]:
        """What the cells share."""
        radius = any(cell.row.radius for cell in self.cells)
        with bed(self._peer, self._role, OurGateway, radius=radius) as site:
            yield site

    def check(self, site: Bed, cell: Cell) -> None:
        """Try a cell; both sides' words about it are shown when it fails."""
        logs: list[Callable[[], str]] = [site.initiator.log, site.responder.log]
        before = [len(log()) for log in logs]
        self._tried[cell.name] = cell
        outcome = run(cell, site)
        if outcome.verdict is Verdict.FAILED:
            for name, log, mark in zip(("initiator", "responder"), logs, before, strict=True):
                print(f"--- {name}\n{log()[mark:][-TAIL:]}")
        assert outcome.verdict is (Verdict.REFUSED if cell.row.fault else Verdict.HELD), (
            outcome.reason
        )

    def judge(self, site: Bed) -> None:
        """tshark objects to nothing that was sent, and our gateway had no fault of its own."""
        assert isinstance(site.ours, OurGateway)
        assert not site.ours.appliance.events("internal_error")
        assert list(objections(site, self._tried)) == []
