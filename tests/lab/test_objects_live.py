"""Everything but the host's own settings comes by the control socket; strongSwan is the device."""

# planes: portable

import sys
from collections.abc import Callable, Iterator

import pytest
from gateway_bed import PSK, device_configuration

from gateway.control.protocol import ControlError
from gateway.lab import plan
from gateway.lab.appliance import Appliance
from gateway.lab.processes import LabError, wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

HOST_ALONE = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"

[ike]
listen = ["{outside}"]

[api]
enabled = false
"""
POOL: dict[str, object] = {"network": "10.9.0.0/24", "dns": ["10.1.0.10"]}
CONNECTION: dict[str, object] = {
    "local_auth": "psk",
    "remote_auth": "psk",
    "psk": PSK,
    "remote_id": "*@example.com",
    "pool": "road",
    "local_subnets": ["10.1.0.0/24"],
}


@pytest.fixture
def running(lab: Lab) -> Iterator[Appliance]:
    box = Appliance(lab)
    box.write_text(HOST_ALONE.format(folder=box.folder, outside=plan.GATEWAY_OUTSIDE))
    try:
        box.start()
        yield box
    finally:
        box.stop()
        print(f"--- gateway\n{box.output()[-8000:]}")


def ping(lab: Lab) -> bool:
    argv = ["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "2", str(plan.SERVER)]
    return " 0% packet loss" in lab.run("device", argv, check=False).stdout


def put(box: Appliance, kind: str, name: str, document: dict[str, object]) -> None:
    box.call("object-create", kind=kind, name=name, document=document)


def test_a_gateway_that_is_set_up_by_its_control_socket(
    lab: Lab, running: Appliance, strongswan: Callable[..., StrongSwan]
) -> None:
    put(running, "pools", "road", POOL)
    put(running, "connections", "road", CONNECTION)
    device = strongswan("device")
    device.load(device_configuration())
    device.initiate("net")
    assert ping(lab)
    (session,) = running.call("ike-sas")["items"]

    # What would cut the session is told before, by its name; what would not is done.
    tried = running.call(
        "object-merge",
        kind="pools",
        name="road",
        document={"network": "10.91.0.0/24"},
        dry_run=True,
    )
    cut = [(one["session"], one["peer"]) for one in tried["sessions_cut"]]
    assert cut == [(session["id"], "device@example.com")]
    done = running.call(
        "object-merge", kind="connections", name="road", document={"liveness_s": 60}
    )
    assert done["sessions_cut"] == []
    assert ping(lab)

    # Blocked: the session ends, and the device is kept out, until it is let in again.
    put(running, "devices", "laptop", {"identity": "device@example.com", "connection": "road"})
    blocked = running.call("device-block", name="laptop")
    assert [one["session"] for one in blocked["sessions_cut"]] == [session["id"]]
    wait_until(lambda: not running.call("ike-sas")["items"], 10, "the end of the session")
    with pytest.raises(LabError):
        device.initiate("net")
    # The answer is out before its line is in the log.
    wait_until(lambda: running.events("handshake_failed"), 10, "the line of the failure")
    assert "device laptop is blocked" in running.events("handshake_failed")[-1]["text"]

    # And by a process that begins anew: the block, and all that was set up, is in the store.
    running.stop()
    running.start()
    assert running.call("object", kind="devices", name="laptop")["document"]["blocked"] is True
    with pytest.raises(LabError):
        device.initiate("net")
    running.call("device-unblock", name="laptop")
    device.initiate("net")
    assert ping(lab)

    ended = running.call("device-disconnect", name="laptop")
    assert len(ended["sessions_cut"]) == 1
    wait_until(lambda: not running.call("ike-sas")["items"], 10, "the end of the session")

    with pytest.raises(ControlError, match="devices/laptop"):
        running.call("object-delete", kind="connections", name="road")
    running.call("object-delete", kind="devices", name="laptop")
    running.call("object-delete", kind="connections", name="road")
    with pytest.raises(LabError):
        device.initiate("net")


def setup(lab: Lab, box: Appliance) -> str:
    command = "from gateway.cli.app import main; main()"
    options = ["setup", "--config", str(box.config), "--yes", "--no-start"]
    given = ["--name", "gateway.example.com", "--outside", "outside", "--pool", "10.83.112.0/22"]
    argv = [sys.executable, "-c", command, *options, *given, "--dns", "-"]
    done = lab.run("gw", argv, check=False)
    return done.stdout + done.stderr


def test_the_first_setup(lab: Lab) -> None:
    """As an administrator does it, but for the service manager: the same command twice."""
    box = Appliance(lab, name="new")
    said = setup(lab, box)
    assert f"wrote {box.config}" in said, said
    assert "gateway setup" in said  # what to do next
    written = box.config.read_text()
    folder = f'runtime_dir = "{box.folder}"\nlog_format = "json"\n'
    box.write_text(written.replace("[gateway]\n", f"[gateway]\n{folder}"))
    box.start()
    try:
        assert box.call("setup-state")["needed"] is True
        said = setup(lab, box)
        assert "is there already and stays as it is" in said
        assert "devices get addresses of 10.83.112.0/22" in said, said
        assert "Open this address in a browser" in said
        assert box.call("setup-state")["needed"] is False
        (pool,) = box.call("objects", kind="pools")["items"]
        assert (pool["name"], pool["source"]) == ("devices", "store")
        box.call("provision", name="laptop", platform="strongswan")
        assert box.call("object", kind="devices", name="laptop")["document"]["identity"]
        again = setup(lab, box)
        assert "nothing to set up" in again
        assert "Open this address in a browser" in again
    finally:
        box.stop()
        print(f"--- gateway\n{box.output()[-6000:]}")
