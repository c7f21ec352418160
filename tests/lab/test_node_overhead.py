"""The table of draft 001 section 6.2, cell by cell, as `gateway lab overhead` measures it."""

import pytest

from gateway.lab.overhead_table import DRAFT, DRAFT_SUITE, OUR_SUITE, faults, measure, tables

pytestmark = pytest.mark.kernel


def test_every_cell_with_the_draft_s_algorithms_and_with_aes_gcm() -> None:
    found = measure(prefix="gwoctt-")
    three_nats = {"cvc nat": DRAFT["cvc nat"]}  # measured with AES-GCM only
    assert found[DRAFT_SUITE] | three_nats == DRAFT
    assert found[OUR_SUITE]["cvc nat"] == 97 + 32
    assert set(found[OUR_SUITE]) == set(DRAFT)
    assert faults(found) == []
    assert len(tables(found)) == 2


def test_faults_are_named() -> None:
    wrong = {DRAFT_SUITE: {**DRAFT, "cvc": 96}, OUR_SUITE: {**DRAFT, "vf": 58}}
    assert [fault.split(" ")[0] for fault in faults(wrong)] == ["cvc", "vf"]
