"""The forwarder of a running mobile node dies: nothing leaks, and the node comes back by itself."""

# planes: portable

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_bed import SERVER, NodeBed, Watch, node_bed

from gateway.lab import planes
from gateway.lab.mobility import profiles
from gateway.lab.processes import wait_until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not planes.portable(), reason="of the portable dataplane"),
]
BACK_S = 30
WITHOUT = {"endpoint_update": False, "mobike": False, "vpn_fa": False}
VC = {"identity": profiles.identity("vc")}
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bed() -> Iterator[NodeBed]:
    with node_bed() as made:
        yield made


def forwarders(bed: NodeBed, host: str) -> list[int]:
    """Processes of the forwarder in a host's network namespace."""
    inode = Path(f"/run/netns/{bed.lab.namespace(host)}").stat().st_ino
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            words, there = (one / "cmdline").read_bytes(), (one / "ns/net").stat().st_ino
        except OSError:
            continue
        if there == inode and b"portable.worker" in words:
            found.append(int(one.name))
    return found


@pytest.mark.parametrize(("allowed", "mode"), [("vf", "vf"), ("cvc", "cvc")])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_leaks_and_the_session_goes_on(
    bed: NodeBed, allowed: str, mode: str, number: signal.Signals
) -> None:
    keys: dict[str, Any] = {} if mode == "vf" else {"gateway": WITHOUT, "login": VC}
    bed.go("home")
    bed.run_node(allowed, at="home", **keys)
    bed.move("access1", mode)
    assert bed.ping("device", SERVER)
    before = forwarders(bed, "device")
    assert before
    with Watch(bed) as watch:
        for process in before:
            os.kill(process, number)
        watch.tries()
        wait_until(lambda: bed.ping("device", SERVER), BACK_S, "the node to come back")
        watch.tries()
        assert watch.leaks() == []
    assert bed.node.mode() == mode
    assert not set(forwarders(bed, "device")) & set(before)
    assert bed.node.events("dataplane_trouble")


def test_a_node_that_was_killed_with_its_forwarder_leaves_a_closed_switch_and_takes_over(
    bed: NodeBed,
) -> None:
    bed.go("home")
    bed.run_node("vf", at="home")
    bed.move("access1", "vf")
    with Watch(bed) as watch:
        bed.node.kill()
        for process in forwarders(bed, "device"):
            os.kill(process, signal.SIGKILL)
        watch.tries()
        assert watch.leaks() == []
    bed.node.start()
    bed.node.wait_for_mode("vf")
    wait_until(lambda: bed.ping("device", SERVER), BACK_S, "the user's packets")


def test_release_gives_the_plain_network_back(bed: NodeBed) -> None:
    bed.node.kill()
    assert forwarders(bed, "device"), "it outlives the node"
    main = "from gateway.cli.app import main; main()"
    argv = [sys.executable, "-c", main, "mn", "release", "--profile", str(bed.node.profile)]
    done = bed.lab.run("device", ["env", f"PYTHONPATH={CHECKOUT}", *argv])
    assert "removed interface mn-vpn and its forwarder" in done.stdout
    assert "removed the kill switch" in done.stdout
    assert not forwarders(bed, "device")
    links = bed.lab.run("device", ["ip", "-br", "link"]).stdout
    assert "mn-" not in links
    assert "mn0" not in links
    assert bed.lab.run("device", ["nft", "list", "ruleset"]).stdout.strip() == ""
