"""One live gateway for the tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_gateway import Live, running


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Plain HTTP on loopback."""
    with running(Path(tmp_path_factory.mktemp("gateway"))) as found:
        yield found


@pytest.fixture(scope="module")
def live_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """With the certificate that it makes itself."""
    with running(Path(tmp_path_factory.mktemp("gateway-tls")), tls=True) as found:
        yield found
