"""`down` removes every namespace that begins with the prefix."""

import pytest

from gateway.lab.processes import LabError
from gateway.lab.topology import Lab


@pytest.mark.parametrize("prefix", ["", "-", "gw", "../x-", "a b-", "GW-", "x" * 40 + "-"])
def test_a_prefix_that_might_be_somebody_elses_is_refused(prefix: str) -> None:
    with pytest.raises(LabError, match="prefix"):
        Lab(prefix)


@pytest.mark.parametrize("prefix", ["gwlab-", "t123-", "b-", "gw-demo-"])
def test_own_prefixes(prefix: str) -> None:
    assert Lab(prefix).prefix == prefix
