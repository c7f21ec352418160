"""Child SAs in the real kernel: packets pass, and only those that may."""

import dataclasses

import dataplane_bed as bed_module
import pytest
from dataplane_bed import Bed, child_sa, inside

from gateway.domain.child_sa import TrafficSelector

pytestmark = pytest.mark.kernel


@pytest.fixture
def bed():
    with Bed() as made:
        yield made


@pytest.mark.parametrize("suite", ["GCM", "GCM_ESN", "CHACHA", "CBC", "CBC_384", "CBC_512"])
def test_traffic_passes_with_every_suite(bed, suite):
    sa = child_sa(getattr(bed_module, suite))
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    assert bed.ping()
    usage = dataplane.usage(sa.spi_in)
    assert usage.packets_in == usage.packets_out == 3
    assert usage.bytes_in > 0
    assert usage.last_in_age_s is not None
