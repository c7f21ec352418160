"""L2TP over IPsec in transport mode (RFC 3193): strongSwan, xl2tpd and pppd are the stock client.

Draft 000 section 1.1 compares with it; it is the bridge for old devices.
"""

# planes: kernel portable-guest

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from gateway_bed import PSK, RunningGateway
from l2tp_bed import CLIENT_OPTIONS, CLIENT_SIDE, SERVER_OPTIONS, SERVER_SIDE, Xl2tpd

from gateway.lab import plan
from gateway.lab.capture import dissect
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernel_peer("strongSwan has transport mode by the kernel only"),
]

GATEWAY = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"

[api]
enabled = false

[ike]
listen = ["{outside}"]

[connections.l2tp]
ike_version = {version}
mode = "transport"
local_auth = "psk"
remote_auth = "psk"
psk = "{psk}"
ike_proposals = ["aes256-sha256-modp2048"]
esp_proposals = ["aes256-sha256"]
"""
ONLY_BY_IPSEC = """
table inet l2tp {
    chain input {
        type filter hook input priority filter;
        udp dport 1701 meta secpath missing iifname != "gw0" counter drop
    }
    chain postrouting {
        type filter hook postrouting priority filter;
        udp sport 1701 rt ipsec missing oifname != "gw0" counter drop
    }
}
"""
DEVICE = """
connections {{
  gw {{
    version = {version}
    local_addrs = %any
    remote_addrs = {outside}
    proposals = aes256-sha256-modp2048
    local {{
      auth = psk
      id = {device_id}
    }}
    remote {{
      auth = psk
      id = gateway.example.com
    }}
    children {{
      l2tp {{
        mode = transport
        local_ts = dynamic[udp/1701]
        remote_ts = dynamic[udp/1701]
        esp_proposals = aes256-sha256
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    secret = "{psk}"
  }}
}}
"""


@dataclass
class Bed:
    lab: Lab
    gateway: RunningGateway
    device: StrongSwan
    server_side: Xl2tpd
    client_side: Xl2tpd

    def speak(self, version: int) -> None:
        """Let the gateway's connection be one of this version of IKE."""
        before = self.gateway.config.read_text()
        configure(self.gateway, version)
        if self.gateway.config.read_text() != before:
            done = len(self.gateway.events("reloaded"))
            self.gateway.signal(signal.SIGHUP)
            wait_until(lambda: len(self.gateway.events("reloaded")) > done, 10, "the reload")

    def connect(self, *, version: int = 1) -> None:
        self.device.load(
            DEVICE.format(
                version=version,
                outside=plan.GATEWAY_OUTSIDE,
                device_id="device@example.com",
                psk=PSK,
            )
        )
        self.device.initiate("l2tp")
        self.client_side.start()
        self.client_side.wait()
        self.lab.run("device", ["ip", "route", "replace", "10.1.0.0/24", "dev", "ppp0"])

    def disconnect(self) -> None:
        """End what there is, whether or not all of it came up."""
        self.client_side.stop()
        for ike in self.device.list_sas():
            self.device.terminate(ike.name)
        wait_until(lambda: not self.gateway.call("ike-sas")["items"], 20, "no IKE SA")
        wait_until(self.server_side.gone, 20, "no PPP link on the gateway")

    def reaches(self) -> bool:
        argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "3", str(plan.SERVER)]
        return " 0% packet loss" in self.lab.run("device", argv, check=False).stdout

    def mode(self) -> list[str]:
        return self.lab.states("gw").split("mode ")[1:]


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    lab = Lab(f"t{os.getpid()}-")
    lab.up(fresh=True)
    try:
        gateway = RunningGateway(lab)
        configure(gateway, 1)
        outside = plan.GATEWAY_OUTSIDE
        device = StrongSwan(lab, "device")
        bed = Bed(
            lab,
            gateway,
            device,
            Xl2tpd(lab, "gw", SERVER_SIDE, SERVER_OPTIONS, outside),
            Xl2tpd(lab, "device", CLIENT_SIDE, CLIENT_OPTIONS, outside),
        )
        try:
            lab.nft("gw", ONLY_BY_IPSEC)
            gateway.start()
            device.start()
            bed.server_side.start()
            yield bed
        finally:
            print(f"--- gateway\n{gateway.output()[-6000:]}")
            print(f"--- charon\n{device.log()[-4000:]}")
            print(f"--- xl2tpd of the gateway\n{bed.server_side.output()[-4000:]}")
            print(f"--- xl2tpd of the device\n{bed.client_side.output()[-4000:]}")
            for one in (bed.client_side, bed.server_side):
                one.stop()
            device.stop()
            gateway.stop()
    finally:
        lab.down()


def configure(gateway: RunningGateway, version: int) -> None:
    gateway.write_text(
        GATEWAY.format(
            folder=gateway.folder, outside=plan.GATEWAY_OUTSIDE, version=version, psk=PSK
        )
    )


@pytest.mark.parametrize(("version", "access"), [(1, "access1"), (1, "nat"), (2, "nat")])
def test_a_stock_client_reaches_the_inside_and_nothing_is_in_the_clear(
    bed: Bed, version: int, access: str
) -> None:
    bed.speak(version)
    if bed.lab.access() != [access]:
        bed.lab.move(access)
    wire = bed.lab.capture(
        "gw", "outside", f"wire-{version}-{access}", "udp port 1701 or esp or udp port 4500"
    )
    try:
        bed.connect(version=version)
        assert bed.client_side.address().startswith("10.8.0.1")
        assert bed.reaches()
        assert all(one.startswith("transport") for one in bed.mode())
        assert all(("espinudp" in one) is (access == "nat") for one in bed.mode())
        recorded = wire.stop()
    finally:
        bed.disconnect()
    assert not dissect(recorded, "udp.port == 1701 and not esp", ["frame.number"])
    assert dissect(recorded, "esp", ["frame.number"])


def test_without_ipsec_xl2tpd_is_not_heard(bed: Bed) -> None:
    bed.client_side.start()
    try:
        wait_until(
            lambda: (
                "counter packets 0"
                not in bed.lab.run("gw", ["nft", "list", "chain", "inet", "l2tp", "input"]).stdout
            ),
            20,
            "a dropped packet",
        )
        assert not bed.client_side.address()
    finally:
        bed.client_side.stop()


def test_the_next_process_keeps_the_session(bed: Bed) -> None:
    bed.speak(1)
    try:
        bed.connect()
        (before,) = bed.gateway.call("child-sas")["items"]
        bed.gateway.hand_over()
        assert bed.reaches()
        bed.gateway.start()
        assert bed.reaches()
        (after,) = bed.gateway.call("child-sas")["items"]
        assert after["spi_in"] == before["spi_in"]
        bed.device.rekey(child="l2tp")
        wait_until(
            lambda: (
                [one["spi_in"] for one in bed.gateway.call("child-sas")["items"]]
                not in ([before["spi_in"]], [])
            ),
            20,
            "another child SA",
        )
        assert bed.reaches()
    finally:
        bed.disconnect()
