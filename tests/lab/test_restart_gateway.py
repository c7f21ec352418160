"""The gateway ends and starts again under traffic, in every way; its sessions notice nothing."""

import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator

import pytest
from gateway_bed import RunningGateway, device_configuration, gateway

from gateway.lab import plan
from gateway.lab.measured import Measured, start_receiver, start_sender
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

StartStrongSwan = Callable[..., StrongSwan]
RATE = 100.0
INNER = "10.9.0.1"


@pytest.fixture(params=[False, True], ids=["esp", "esp_in_udp"])
def tunnel(
    request: pytest.FixtureRequest, lab: Lab, strongswan: StartStrongSwan
) -> Iterator[tuple[RunningGateway, StrongSwan]]:
    with gateway(lab, extra='endpoint_update = "allowed"') as running:
        device = strongswan("device")
        device.load(device_configuration(encap=request.param))
        device.initiate("net")
        yield running, device
        running.stop()


class Streams:
    """Numbered datagrams both ways, until :meth:`lost`."""

    def __init__(self, lab: Lab, name: str, seconds: float) -> None:
        self.receivers = (
            start_receiver(lab, "server", f"{plan.SERVER}:9000", name=f"{name}-up", idle_s=3),
            start_receiver(lab, "device", f"{INNER}:9001", name=f"{name}-down", idle_s=3),
        )
        self.senders: tuple[Measured, ...] = (
            start_sender(
                lab, "device", f"{plan.SERVER}:9000", rate=RATE, seconds=seconds, name=f"{name}-sup"
            ),
            start_sender(
                lab, "server", f"{INNER}:9001", rate=RATE, seconds=seconds, name=f"{name}-sdown"
            ),
        )
        for receiver in self.receivers:
            receiver.wait_for("received", 10)

    def lost(self) -> int:
        """Datagrams that did not arrive, of both."""
        missing = 0
        for sender, receiver in zip(self.senders, self.receivers, strict=True):
            sent, seen = sender.stop()["sent"], receiver.result()
            # Ended between sending and counting, a sender has sent one more than it says.
            missing += seen["lost"] + max(0, sent - seen["highest"] - 1)
        return missing


def restart(running: RunningGateway, how: str) -> None:
    if how == "kill":
        running.kill()
    else:
        running.hand_over()
    running.start()


def test_no_packet_is_lost_and_all_sessions_are_taken_over(
    lab: Lab, tunnel: tuple[RunningGateway, StrongSwan]
) -> None:
    running, device = tunnel
    (before,) = running.call("ike-sas")["items"]
    streams = Streams(lab, "constant", 120)
    for how in itertools.islice(itertools.cycle(("stop", "kill")), 4):
        restart(running, how)
        (after,) = running.call("ike-sas")["items"]
        assert after["id"] == before["id"]
        assert len(running.call("child-sas")["items"]) == 1
    assert streams.lost() == 0
    # What follows needs the keys, the message ids and the window of the last process.
    device.rekey(child="net")
    wait_until(lambda: len(running.call("child-sas")["items"]) == 1, 10, "one child SA")
    restart(running, "kill")
    device.rekey(ike="gw")
    (rekeyed,) = running.call("ike-sas")["items"]
    assert rekeyed["id"] != before["id"]
    restart(running, "stop")
    assert running.call("ike-sas")["items"][0]["id"] == rekeyed["id"]
    device.terminate("gw")
    wait_until(lambda: not running.call("ike-sas")["items"], 10, "the device's Delete")
    assert "proto esp" not in lab.run("gw", ["ip", "xfrm", "state"]).stdout

