"""The matrix: strongswan as initiator, IKEv2, methods and refusals."""

# planes: portable

from collections.abc import Iterator

import pytest
from matrix_column import Column

from gateway.lab.matrix.bed import Bed
from gateway.lab.matrix.cells import Cell, Role

pytestmark = pytest.mark.kernel

COLUMN = Column("strongswan", Role.INITIATOR, version=2, events=False)


@pytest.fixture(scope="module")
def site() -> Iterator[Bed]:
    yield from COLUMN.bed()


@COLUMN.each
def test_it_holds_or_is_refused(site: Bed, cell: Cell) -> None:
    COLUMN.check(site, cell)


def test_tshark_finds_nothing_wrong(site: Bed) -> None:
    COLUMN.judge(site)
