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
BUILT = (*range(13, 45), *range(53, 78))
"""IKE, the mobility agents and NAR."""


@cache
def coverage() -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in _NAME.findall(path.read_text()):
            for number in re.findall(r"(?<=_)h(\d\d)(?=_)", name):
                found[int(number)].append(f"{path.relative_to(TESTS)}::{name}")
    return found


@pytest.mark.parametrize("number", BUILT)
def test_every_numbered_input_has_a_test(number: int) -> None:
    assert coverage()[number], f"no test is named after hostile input {number}"
