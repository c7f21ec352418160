"""Dropping privileges, in processes of their own."""

import json
import os
import subprocess
import sys

import pytest

from gateway.domain.privileges import CAP_NET_ADMIN, CAP_NET_RAW, CORE_CAPABILITIES, permitted

PROGRAM = """
import json, subprocess, sys
from gateway.domain.privileges import *
left = drop_capabilities(CORE_CAPABILITIES)
no_new_privileges()
not_dumpable()
def status(text):
    return {k: v.strip() for k, v in (line.split(":", 1) for line in text.splitlines())}
mine = status(open("/proc/self/status").read())
child = status(subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout)
names = ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd", "NoNewPrivs")
print(json.dumps([sorted(left), {n: mine[n] for n in names}, {n: child[n] for n in names}]))
"""


def test_only_what_we_have_is_kept() -> None:
    assert permitted() <= frozenset(range(64))


@pytest.mark.skipif(not {CAP_NET_ADMIN, CAP_NET_RAW} <= permitted(), reason="needs root")
def test_the_core_keeps_three_capabilities_and_its_children_none() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    left, mine, child = json.loads(done.stdout)
    wanted = sum(1 << number for number in CORE_CAPABILITIES)
    assert left == sorted(CORE_CAPABILITIES)
    assert int(mine["CapEff"], 16) == int(mine["CapPrm"], 16) == wanted
    assert int(mine["CapInh"], 16) == int(mine["CapAmb"], 16) == 0
    assert mine["NoNewPrivs"] == "1"
    assert int(mine["CapBnd"], 16) & ~wanted == 0
    assert int(child["CapEff"], 16) == 0
