"""Every packet of a mapping passes through the gateway's process: the cases of nar_modes.py."""

# planes: kernel portable

import pytest
from nar_modes import *  # noqa: F403 - its tests are this file's

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def way() -> str:
    return "queue"
