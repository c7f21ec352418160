"""Which test covers which of the numbered hostile inputs: none may be without one.

Tests carry the numbers of what they cover in their names, as in ``test_h24_delete_twice``.
"""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
_NAME = re.compile(r"^\s*(?:async )?def (test_(?:h\d\d_)+\w*)\(", re.MULTILINE)
BUILT = (*range(13, 45), *range(53, 69))
"""IKE and the mobility agents."""
NOT_BUILT = {35: "IKE and ESP in TCP (RFC 9329)"}
"""Inputs of what the gateway does not speak."""


@cache
def coverage() -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in _NAME.findall(path.read_text()):
            for number in re.findall(r"(?<=_)h(\d\d)(?=_)", name):
                found[int(number)].append(f"{path.relative_to(TESTS)}::{name}")
    return found


@pytest.mark.parametrize("number", [one for one in BUILT if one not in NOT_BUILT])
def test_every_numbered_input_has_a_test(number: int) -> None:
    assert coverage()[number], f"no test is named after hostile input {number}"


def test_what_is_not_built_has_no_code() -> None:
    """Once TCP encapsulation is there, it needs tests of its own."""
    source = TESTS.parent / "gateway" / "ike"
    assert not [one.name for one in source.rglob("*.py") if "IKETCP" in one.read_text()]
