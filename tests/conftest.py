"""What all tests share: hypothesis without a clock, and where tests of the kernel run."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "project",
    deadline=None,  # shared machines stall; a slow example is not a wrong one
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("ci", parent=settings.get_profile("project"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `kernel` where the kernel will not do, and say why."""
    kernel = [item for item in items if item.get_closest_marker("kernel")]
    if not kernel or os.environ.get("GATEWAY_LAB_REQUIRED"):
        return  # required: on a kernel that lacks something they fail
    from gateway.lab.kernel import missing_features

    if missing := missing_features():
        reason = f"this kernel or user lacks: {', '.join(missing)}; run `make lab-tests`"
        for item in kernel:
            item.add_marker(pytest.mark.skip(reason=reason))
