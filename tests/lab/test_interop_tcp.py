"""libreswan as the device, by TCP: its ESP goes through the kernel's espintcp, ours does not."""

import json
from collections.abc import Callable

import pytest
from gateway_bed import PSK, RunningGateway

from gateway.lab import plan
from gateway.lab.libreswan import Libreswan
from gateway.lab.processes import wait_until
from gateway.lab.topology import Lab

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernel_peer("libreswan has the kernel's ESP only"),
]

DEVICE_ADDRESS = plan.ACCESSES["access1"].device.ip
CONNECTION = f"""
conn tcp
    ikev2=insist
    left={DEVICE_ADDRESS}
    leftid=device@example.com
    leftmodecfgclient=yes
    leftsubnet=0.0.0.0/0
    right={plan.GATEWAY_OUTSIDE}
    rightid=@gateway.example.com
    rightsubnet=10.1.0.0/24
    authby=secret
    ike=aes_gcm256-sha2_256;dh31
    esp=aes_gcm256
    enable-tcp=yes
    tcp-remoteport=443

"""
SECRETS = f'device@example.com @gateway.example.com : PSK "{PSK}"\n'


def test_libreswan_by_tcp(lab: Lab, libreswan: Callable[[str], Libreswan]) -> None:
    running = RunningGateway(lab)
    outside = plan.GATEWAY_OUTSIDE
    listen = f'listen = ["{outside}"]\ntcp_listen = ["{outside}:443"]'
    text = running.config.read_text()
    running.write_text(text.replace(f'listen = ["{outside}"]', listen))
    try:
        running.start()
        device = libreswan("device")
        device.load(CONNECTION, secrets=SECRETS)
        device.initiate("tcp")
        argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", str(plan.SERVER)]
        assert " 0% packet loss" in lab.run("device", argv, check=False).stdout
        (ike,) = running.call("ike-sas")["items"]
        assert ike["remote"].startswith(f"{DEVICE_ADDRESS}:")
        assert "encap type espintcp" in lab.run("device", ["ip", "xfrm", "state"]).stdout
        assert "encap type espinudp" in lab.states("gw")
        assert running.call("status")["counters"]["tcp"]["messages_in"] >= 5
        device.terminate("tcp")
        wait_until(lambda: not running.call("ike-sas")["items"], 10, "the goodbye")
        assert "127." not in json.dumps(running.log())
    finally:
        running.stop()
        print(f"--- gateway\n{running.output()[-6000:]}")
