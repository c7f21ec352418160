"""`gateway lab tour`: one session through places and modes, and what it prints as JSON."""

import json
import signal
import subprocess
import sys

import pytest

from gateway.lab import netns
from gateway.lab.tour import LEGS, PREFIX

pytestmark = pytest.mark.kernel

OWN, BY_AGENT = LEGS[0].own, LEGS[0].by_agent
WITHOUT_NAT = {"home": 0, "f": 0, "c": 20, OWN: 57, BY_AGENT: 57}


ARGV = [sys.executable, "-c", "from gateway.cli.app import main; main()", "lab", "tour"]


def tour(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ARGV, *arguments], capture_output=True, text=True, check=False, timeout=240
    )


def test_a_round_of_the_tour_as_json() -> None:
    done = tour("--leg", OWN, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["lived"]
    assert told["broken"] == []
    steps = told["steps"]
    assert [step["mode"] for step in steps] == [mode for _, mode in LEGS[0].steps()]
    for step in steps:
        assert 0 <= step["lost"] <= step["sent"]
        assert step["gap_ms"] > 0
        assert step["download_octets"] > 0
        if step["place"] != "outside, NAT":
            assert step["overhead_octets"] in {WITHOUT_NAT[step["mode"]],
                                               WITHOUT_NAT[step["mode"]] + 8}  # fmt: skip
    nat = next(step for step in steps if step["place"] == "outside, NAT")
    assert nat["overhead_octets"] == 57 + 8
    # Progress went to the other stream, a line for every step.
    assert done.stderr.count("octets, gap") == len(steps)
    # Two interfaces: registrations at most, and the session hardly notices.
    second = next(step for step in steps if step["place"] == "outside, second interface")
    assert second["messages"]["IKE"] <= 4
    assert netns.existing(PREFIX) == []


def test_ctrl_c_leaves_nothing_behind() -> None:
    process = subprocess.Popen(
        [*ARGV, "--leg", OWN, "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process, process.stderr:
        shown = process.stderr.readline()
        assert "octets, gap" in shown, shown
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert netns.existing(PREFIX) == []


def test_an_unknown_round_is_refused() -> None:
    done = tour("--leg", "xyz")
    assert done.returncode == 2
    assert "allowed are vf, vc, cvf, cvc, mc" in done.stderr
