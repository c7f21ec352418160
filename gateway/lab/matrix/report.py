"""The matrix as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.lab.matrix.cells import PEERS, Cell, Configuration, Role, Row
from gateway.lab.matrix.rows import ROWS
from gateway.lab.matrix.run import Outcome, Verdict

HEAD = """# Interoperation matrix

Written by `gateway lab matrix --write`, which tries every cell with the peers that Debian 12
carries: strongSwan 5.9.8 and libreswan 4.10, each in both roles, and freeradius 3.2.1 behind
our gateway. Every cell runs in the lab tests too (`tests/lab/test_matrix_*.py`).

In a cell that **held**, both sides agreed on one pair of ESP SAs, pings passed in both directions,
what the row names happened with nothing lost, and afterwards neither side kept anything; rekeyings
run three times each, under a stream of datagrams in both directions. **Refused** is what had to
happen. (libreswan answers our rekeyings in IKEv2 and sends on the new SA before its answer can have
arrived, which RFC 7296 section 2.8 allows: of its own datagrams, two for each of them may be lost.
In IKEv1 it loses as few when one of its SAs gives way to another; the cause was not found.)
tshark found nothing malformed in any message. The peer is in the part that the column
names; we are in the other one. A dash: the row is about our other part.

"""


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The document of `docs/interoperability.md`."""
    found = {outcome.cell.name: outcome for outcome in outcomes}
    notes: list[str] = []
    text = HEAD
    for group in dict.fromkeys(row.group for row in ROWS):
        rows = [row for row in ROWS if row.group == group]
        text += f"## {group}\n\n" + _table(rows, found, notes) + "\n"
    if notes:
        text += "## Notes\n\n"
        text += "".join(f"{number}. {note}\n" for number, note in enumerate(notes, 1))
    return text


def _table(rows: Iterable[Row], found: dict[str, Outcome], notes: list[str]) -> str:
    columns = [(peer, role) for peer in PEERS for role in Role]
    names = [f"{peer} as {role.value}" for peer, role in columns]
    text = f"| | {' | '.join(names)} |\n|---|{'---|' * len(columns)}\n"
    for row in rows:
        cells = [
            _cell(found.get(Cell(row, *column).name), row, column, notes) for column in columns
        ]
        text += f"| {describe(row)} | {' | '.join(cells)} |\n"
    return text


def _cell(outcome: Outcome | None, row: Row, column: tuple[str, Role], notes: list[str]) -> str:
    if column[1] not in row.roles:
        return "-"
    if outcome is None:
        return "not tried"
    if outcome.verdict in {Verdict.HELD, Verdict.REFUSED}:
        return f"{outcome.verdict.value}, {outcome.seconds:.1f} s"
    note = f"{column[0]} as {column[1].value}, {row.name}: {outcome.reason.splitlines()[0]}"
    if outcome.verdict is Verdict.NOT_OFFERED:
        note = f"{column[0]}: {outcome.reason}"
    if note not in notes:
        notes.append(note)
    return f"{outcome.verdict.value} [{notes.index(note) + 1}]"


def describe(row: Row) -> str:
    """A row in words."""
    words = [row.exchange.value, row.auth.value]
    if row.radius:
        words.append("by RADIUS")
    if row.version == 1 and row.configuration is not Configuration.SUBNETS:
        words.append(row.configuration.value)
    if row.version == 2 and row.configuration is Configuration.PULL:
        words.append("inner address")
    for flag, word in (
        (row.nat, "NAT"),
        (row.large, "large certificates in fragments"),
        (row.ppk, "PPK"),
        (row.childless, "childless"),
        (row.pfs, "PFS"),
        (not row.return_routability, "no return routability check"),
        (row.additional_exchange, "ML-KEM (RFC 9370)"),
    ):
        if flag:
            words.append(word)
    text = ", ".join(words)
    if row.events:
        text += ": " + "; ".join(event.value for event in row.events)
    if row.fault:
        text += f": {row.fault.value}"
    return f"`{row.name}` {text}"
