"""The matrix as data: nothing is asked twice, nothing is left out without a reason."""

from gateway.lab.matrix import ipsecconf, swanctl, toml
from gateway.lab.matrix.cells import PEERS, Auth, Event, Exchange, Fault, Role
from gateway.lab.matrix.report import markdown
from gateway.lab.matrix.rows import ROWS, cells
from gateway.lab.matrix.run import Outcome, Verdict

FILES = {"ca": "ca.crt", "certificate": "own.crt", "key": "own.key", "ppk": "ppk"}


def test_names_are_unique() -> None:
    names = [cell.name for cell in cells()]
    assert len(names) == len(set(names))


def test_every_method_event_and_fault_is_tried_with_somebody() -> None:
    offered = [cell.row for cell in cells() if cell.not_offered is None]
    assert {row.exchange for row in offered} == set(Exchange)
    assert {row.auth for row in offered} == set(Auth)
    assert {event for row in offered for event in row.events} == set(Event)
    assert {row.fault for row in offered} == {*Fault, None}


def test_every_peer_is_tried_in_both_roles() -> None:
    offered = {(cell.peer, cell.role) for cell in cells() if cell.not_offered is None}
    assert offered == {(peer, role) for peer in PEERS for role in Role}


def test_reasons_name_columns_that_exist() -> None:
    columns = {f"{peer}-{role.value}" for peer in PEERS for role in Role}
    for row in ROWS:
        for pattern in row.not_offered:
            assert pattern in columns or pattern.removesuffix("*").removesuffix("-") in PEERS


def test_selection_by_part_and_pattern() -> None:
    assert {cell.row.name for cell in cells("v2-ppk")} == {"v2-ppk", "v2-ppk-missing"}
    assert {cell.column for cell in cells("libreswan-initiator/*")} == {"libreswan-initiator"}
    assert cells("no such cell") == []


def test_every_offered_row_has_a_configuration_on_both_sides() -> None:
    for cell in cells():
        if cell.not_offered is not None:
            continue
        ours = Role.RESPONDER if cell.role is Role.INITIATOR else Role.INITIATOR
        assert "[connections.matrix]" in toml.connection(cell.row, ours, FILES)
        if cell.peer == "strongswan":
            assert "children" in swanctl.configuration(cell.row, cell.role)
        else:
            assert ipsecconf.configuration(cell.row, cell.role, "%defaultroute").startswith("conn ")


def test_the_report_has_every_row_and_every_reason() -> None:
    outcomes = [
        Outcome(cell, Verdict.NOT_OFFERED, reason=cell.not_offered)
        if cell.not_offered
        else Outcome(cell, Verdict.HELD, 1.25)
        for cell in cells()
    ]
    failed = outcomes[0].cell
    outcomes[0] = Outcome(failed, Verdict.FAILED, 3.0, "no answer\nand more")
    text = markdown(outcomes)
    for row in ROWS:
        assert f"| `{row.name}` " in text
    for cell in cells():
        assert (cell.not_offered or "") in text
    assert "failed [1]" in text
    assert f"{failed.row.name}: no answer\n" in text
