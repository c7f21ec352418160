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


_left_out: dict[str, list[str]] = {}
"""Reason to the tests that this dataplane, or this kernel, is not for."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the dataplane is not for; skip what is marked `kernel` where none works."""
    if not any(item.get_closest_marker("kernel") for item in items):
        return
    from gateway.lab.kernel import PORTABLE_PROBES, missing_features
    from gateway.lab.planes import portable

    lacking = missing_features()
    kept = []
    for item in items:
        marks = ["kernel_dataplane"] * portable() + ["kernel_peer"] * bool(lacking)
        found = next((one for name in marks if (one := item.get_closest_marker(name))), None)
        if found is None:
            kept.append(item)
        else:
            _left_out.setdefault(found.args[0], []).append(item.nodeid)
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    if os.environ.get("GATEWAY_LAB_REQUIRED"):
        return  # required: on a kernel that lacks something they fail
    if missing := missing_features(PORTABLE_PROBES) if portable() else lacking:
        reason = f"this kernel or user lacks: {', '.join(missing)}; run `make lab-tests`"
        for item in items:
            if item.get_closest_marker("kernel"):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out, and why."""
    for reason, names in _left_out.items():
        terminalreporter.write_line(f"left out, {reason}:")
        for name in names:
            terminalreporter.write_line(f"  {name}")
