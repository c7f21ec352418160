"""`gateway mn run` on a real host: home, inside, outside and back, signals, and a kill."""

# planes: kernel portable

import itertools
import os
import signal
from collections.abc import Iterator

import pytest

from gateway.config.profile_sealing import Sealed
from gateway.control.protocol import ControlError
from gateway.lab import plan as lab_plan
from gateway.lab.mobility import boxes, plan, profiles
from gateway.lab.mobility.node import MobileHost
from gateway.lab.mobility.roles import PSK
from gateway.lab.mobility.topology import MobilityLab
from gateway.lab.processes import wait_until
from gateway.users.settings import ScryptCost

pytestmark = pytest.mark.kernel

I_HOA = str(plan.INSIDE_HOME_ADDRESS)
SERVER = str(lab_plan.SERVER)
PASSWORD = "a good password of the user"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def lab() -> Iterator[MobilityLab]:
    """The topology with i-HA, x-HA and the gateway."""
    made = MobilityLab(f"h{os.getpid()}-")
    with made:
        agents, started = boxes.agents(), boxes.Boxes(made)
        started.start({"iha": agents["iha"], "xha": agents["xha"], **boxes.vpn()})
        yield made
        started.end()


@pytest.fixture
def node(lab: MobilityLab) -> Iterator[MobileHost]:
    """A mobile node at home, not started; its log is shown when a test fails."""
    lab.move("home")
    node = MobileHost(lab, name=f"mobile-node-{next(NUMBERS)}")
    node.write(profiles.profile)
    yield node
    print(node.output()[-8000:])
    node.stop()


def table_exists(lab: MobilityLab) -> bool:
    """Whether the switch is there."""
    done = lab.run("device", ["nft", "list", "table", "inet", "gateway_node"], check=False)
    return done.returncode == 0


def reaches(lab: MobilityLab) -> bool:
    """Whether the user's packets get to the server and back, from the i-HoA."""
    ping = ["ping", "-n", "-c", "1", "-W", "2", "-I", I_HOA, SERVER]
    return lab.run("device", ping, check=False).returncode == 0


def test_home_plain_outside_home(lab: MobilityLab, node: MobileHost) -> None:
    """One node, one address, three places and back."""
    node.start()
    node.wait_for_mode("home")
    wait_until(lambda: reaches(lab), 5, "the server from home")
    lab.move("plain")
    node.wait_for_mode("c")
    wait_until(lambda: reaches(lab), 5, "the server in mode c")
    lab.move("access1")
    node.wait_for_mode("vc", "vf", "mc", "cvc", "cvf")
    wait_until(lambda: reaches(lab), 5, "the server through the VPN")
    lab.move("home")
    node.wait_for_mode("home")
    wait_until(lambda: reaches(lab), 5, "the server from home again")
    assert not node.events("internal_fault")


def test_killed_it_leaves_the_switch_closed_and_the_next_start_takes_over(
    lab: MobilityLab, node: MobileHost
) -> None:
    """Without the process nothing of the user's leaves once the permit is over."""
    node.start()
    node.wait_for_mode("home")
    wait_until(lambda: reaches(lab), 5, "the server from home")
    node.kill()
    wait_until(lambda: not reaches(lab), profiles.BOUND_S + 3, "the switch to close")
    assert table_exists(lab)
    lab.move("plain")
    assert not reaches(lab)
    node.start()
    node.wait_for_mode("c")
    wait_until(lambda: reaches(lab), 5, "the server in mode c")


def test_sigterm_deregisters_and_opens_the_switch(lab: MobilityLab, node: MobileHost) -> None:
    """An orderly stop leaves the host as it was, unless the profile wants the switch to stay."""
    lab.move("plain")
    node.start()
    node.wait_for_mode("c")
    node.stop()
    assert node.process is not None
    assert node.process.wait(1) == 0
    assert node.events("stopped")
    assert not table_exists(lab)
    assert "mn0" not in lab.run("device", ["ip", "-o", "link"]).stdout
    node.write(profiles.profile, kill_switch="always")
    node.start()
    node.wait_for_mode("c")
    node.stop()
    assert table_exists(lab)
    assert not reaches(lab)


def test_sighup_takes_another_profile_and_refuses_a_wrong_one(
    lab: MobilityLab, node: MobileHost
) -> None:
    """The process stays, and says what it made of the file."""
    lab.move("access1")
    node.start()
    node.wait_for_mode("vf")
    good = node.profile.read_text()
    node.profile.write_text(good + "\nnonsense = 1\n")
    node.signal(signal.SIGHUP)
    wait_until(lambda: node.events("reload_refused"), 10, "the refusal")
    login, gateway = {"identity": profiles.identity("vc")}, {"vpn_fa": False}
    node.write(profiles.profile, login=login, gateway=gateway)
    node.signal(signal.SIGHUP)
    wait_until(lambda: node.events("reloaded"), 10, "the reload")
    node.wait_for_mode("vc")
    assert not node.events("internal_fault")


def test_a_password_unlocks_and_three_capabilities_are_kept(
    lab: MobilityLab, node: MobileHost
) -> None:
    """Locked, nothing leaves and nobody logs in; the process has what its sockets need."""
    lab.move("access1")
    sealed = node.folder / "profile.sealed"
    sealed.touch(mode=0o600)
    sealed.write_text(str(Sealed.of({"login.psk": PSK}, PASSWORD, os.urandom, ScryptCost(10))))
    text = node.profile.read_text().replace(f'psk = "{PSK}"', f'sealed = "{sealed}"')
    node.profile.write_text(text)
    node.start()
    (line,) = node.events("started")
    assert line["capabilities"] == [10, 12, 13]
    assert node.status()["locked"]
    with pytest.raises(ControlError, match="wrong"):
        node.call("node-unlock", password="guess")
    assert node.mode() == "held"
    node.call("node-unlock", password=PASSWORD)
    node.wait_for_mode("vf")
    wait_until(lambda: reaches(lab), 5, "the server through the VPN")
    node.call("node-lock")
    assert node.mode() == "held"
    assert not reaches(lab)
