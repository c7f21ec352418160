"""Devices connect with exactly what a fresh gateway's bundles hold, and no more once revoked."""

import os
import sys
from collections.abc import Iterator

import pytest
from provisioning_bed import PASSWORD, USER, Provisioning, android, apple, unpack

from gateway.lab import plan
from gateway.lab.measured import CHECKOUT
from gateway.lab.mobility.node import MobileHost
from gateway.lab.processes import LabError, wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def running() -> Iterator[Provisioning]:
    """A gateway that was never started before."""
    lab = Lab(f"p{os.getpid()}-")
    lab.up(fresh=True)
    gateway = Provisioning(lab)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()
        print(f"--- gateway\n{gateway.output()[-8000:]}")
        lab.down()


@pytest.fixture(scope="module")
def charon(running: Provisioning) -> Iterator[StrongSwan]:
    """The strongSwan of all devices."""
    peer = StrongSwan(running.lab, "device")
    try:
        peer.start()
        yield peer
    finally:
        print(f"--- charon\n{peer.log()[-6000:]}")
        peer.stop()


def ping(lab: Lab) -> bool:
    argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", str(plan.SERVER)]
    return " 0% packet loss" in lab.run("device", argv, check=False).stdout


def peers(running: Provisioning) -> list[str]:
    return [str(one["remote_id"]) for one in running.call("ike-sas")["items"]]


def test_swanctl_connects_outlives_our_renewal_and_ends_when_it_is_revoked(
    running: Provisioning, charon: StrongSwan
) -> None:
    unpack(running.bundle("laptop", "strongswan"), charon.folder / "swanctl")
    charon.load("include conf.d/*.conf\n")
    assert not ping(running.lab)
    charon.initiate("laptop")
    assert ping(running.lab)
    assert peers(running) == ["laptop@example.com"]

    before = running.call("ca")["gateway"]["serial"]
    (session,) = running.call("ike-sas")["items"]
    more = {
        "local_id": "more.lab.example.com",
        "remote_id": "*@more.example.com",
        "pool": "road",
        "local_subnets": ["10.1.0.0/24"],
    }
    running.call("object-create", kind="connections", name="more", document=more)
    wait_until(lambda: running.events("gateway_certificate"), 60, "another certificate of ours")
    found = running.call("ca")["gateway"]
    assert found["serial"] != before
    assert "more.lab.example.com" in found["names"]
    assert [one["id"] for one in running.call("ike-sas")["items"]] == [session["id"]]
    assert ping(running.lab)

    revoked = running.call("device-revoke", name="laptop")
    assert revoked["sessions_ended"] == 1
    wait_until(lambda: not peers(running), 10, "the end of the session")
    wait_until(lambda: not charon.established(), 10, "the end at the device")
    with pytest.raises(LabError):
        charon.initiate("laptop")
    (failure,) = running.call("ike-failures", who="laptop")["items"][:1]
    assert "revoked" in str(failure["reason"])


@pytest.mark.parametrize(("platform", "read"), [("android", android), ("apple", apple)])
def test_certificates_in_files_for_phones_connect(
    running: Provisioning, charon: StrongSwan, platform: str, read: object
) -> None:
    name = f"{platform}cert"
    assert callable(read)
    charon.load(read(charon, name, running.bundle(name, platform)))
    charon.initiate(name)
    assert ping(running.lab)
    assert peers(running) == [f"{name}@example.com"]
    charon.terminate(name)
    wait_until(lambda: not peers(running), 10, "the end of the session")


@pytest.mark.parametrize(("platform", "read"), [("android", android), ("apple", apple)])
def test_users_log_in_with_files_for_phones(
    running: Provisioning, charon: StrongSwan, platform: str, read: object
) -> None:
    if not running.call("objects", kind="users")["items"]:
        document = {"password": PASSWORD, "mschapv2": True}
        running.call("object-create", kind="users", name=USER, document=document)
    name = f"{platform}eap"
    assert callable(read)
    content = running.bundle(
        name,
        platform,
        connection="phones",
        user=USER,
        identity=f"{name}@phones.example.com" if platform == "apple" else None,
    )
    charon.load(read(charon, name, content))
    charon.initiate(name)
    assert ping(running.lab)
    charon.terminate(name)
    wait_until(lambda: not peers(running), 10, "the end of the session")


def test_one_file_sets_a_mobile_node_up(running: Provisioning, charon: StrongSwan) -> None:
    charon.stop()  # it has the device's port 500
    lab = running.lab
    node = MobileHost(lab)
    bundle = node.folder / "node.gateway-mn"
    bundle.write_bytes(running.bundle("node", "gateway-mn"))
    main = "from gateway.cli.app import main; main()"
    argv = [sys.executable, "-c", main, "mn", "import", str(bundle), "-p", str(node.profile)]
    lab.run("device", ["env", f"PYTHONPATH={CHECKOUT}", *argv])
    # Its folders only: the lab's hosts share one /run and /var.
    places = f'state_dir = "{node.folder}/state"\nruntime_dir = "{node.folder}"\n'
    text = node.profile.read_text()
    head = '["profile"]\n'
    assert text.startswith(head)
    node.profile.write_text(head + places + text.removeprefix(head))
    try:
        node.start()
        node.wait_for_mode("v")
        assert ping(lab)
        assert peers(running) == ["node@example.com"]
        running.call("device-revoke", name="node")
        wait_until(lambda: not peers(running), 10, "the end of the session")
        assert not ping(lab)
    finally:
        node.stop()
        print(f"--- node\n{node.output()[-6000:]}")
