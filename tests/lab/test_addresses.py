"""Inner addresses inside the intranet's own network: who is answered for, and who keeps what."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway_bed import PSK, RunningGateway, gateway

from gateway.control.protocol import ControlError
from gateway.lab import plan
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

StartStrongSwan = Callable[..., StrongSwan]

CONFIGURATION = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"

[ike]
listen = ["{outside}"]

[pools.road]
network = "10.1.0.128/28"
advertise = "proxy-arp"
inside_interface = "inside"
lease_s = 3600
static = {{ "printer@example.com" = "10.1.0.130" }}

[pools.six]
network = "fd01::8000/113"
advertise = "proxy-arp"
inside_interface = "inside"

[connections.road]
local_auth = "psk"
remote_auth = "psk"
psk = "{psk}"
remote_id = "*@example.com"
pool = "road"
pool6 = "six"
local_subnets = ["10.1.0.0/24", "fd01::/64"]
"""

DEVICE = """
connections {{
  gw {{
    version = 2
    local_addrs = %any
    remote_addrs = {outside}
    vips = 0.0.0.0, ::
    proposals = aes256gcm16-prfsha256-x25519
    local {{
      auth = psk
      id = {name}@example.com
    }}
    remote {{
      auth = psk
      id = gateway.example.com
    }}
    children {{
      net {{
        remote_ts = 10.1.0.0/24, fd01::/64
        esp_proposals = aes256gcm16
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    id-1 = gateway.example.com
    id-2 = {name}@example.com
    secret = "{psk}"
  }}
}}
"""


class Gateway(RunningGateway):
    def write(self, *, extra: str = "", psk: str = PSK) -> None:
        text = CONFIGURATION.format(folder=self.folder, outside=plan.GATEWAY_OUTSIDE, psk=psk)
        self.write_text(text + extra)

    def leases(self, **wanted: Any) -> dict[str, str]:
        items = self.call("leases", **wanted)["items"]
        return {one["address"]: one["state"] for one in items}


@pytest.fixture
def running(lab: Lab) -> Iterator[Gateway]:
    for host, interface, address in (("gw", "inside", "1"), ("server", "intranet", "10")):
        lab.run(host, ["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0"])
        argv = ["ip", "address", "add", f"fd01::{address}/64", "dev", interface, "nodad"]
        lab.run(host, argv)
    one = Gateway(lab)
    try:
        one.start()
        yield one
    finally:
        one.stop()
        print(f"--- gateway\n{one.output()[-8000:]}")


def answers(lab: Lab, address: str) -> bool:
    """Whether the server reaches a neighbour of its network."""
    lab.run("server", ["ip", "neigh", "flush", "all"])
    argv = ["ping", "-n", "-q", "-c", "1", "-W", "2", address]
    return " 0% packet loss" in lab.run("server", argv, check=False).stdout


def link_of(lab: Lab, address: str) -> str:
    """What the server knows of a neighbour."""
    return str(lab.run("server", ["ip", "neigh", "show", address]).stdout)


def proxies(lab: Lab) -> set[str]:
    found = set()
    for version in ("-4", "-6"):
        lines = lab.run("gw", ["ip", version, "neigh", "show", "proxy"]).stdout.splitlines()
        found |= {line.split()[0] for line in lines}
    return found


def configured(name: str) -> str:
    return DEVICE.format(outside=plan.GATEWAY_OUTSIDE, psk=PSK, name=name)


def test_devices_are_neighbours_of_the_intranets_hosts(
    lab: Lab, running: Gateway, strongswan: StartStrongSwan
) -> None:
    device = strongswan("device")
    device.load(configured("ada"))
    device.initiate("net")
    assert running.leases(q="ada") == {"10.1.0.129": "in-use", "fd01::8001": "in-use"}
    assert proxies(lab) == {"10.1.0.129", "fd01::8001"}
    assert answers(lab, "10.1.0.129")
    assert answers(lab, "fd01::8001")
    assert not answers(lab, "10.1.0.131")
    assert "lladdr" not in link_of(lab, "10.1.0.131")
    (four, six) = running.call("reachability")["items"]
    assert (four["state"], four["announced"], six["announced"]) == ("ok", 1, 1)

    # Another process: nobody notices, and who left meanwhile is not answered for.
    running.hand_over()
    assert answers(lab, "10.1.0.129")
    lab.run("gw", ["ip", "neigh", "del", "proxy", "fd01::8001", "dev", "inside"])
    stale = ["ip", "neigh", "add", "proxy", "10.1.0.135", "dev", "inside", "protocol", "73"]
    lab.run("gw", stale)
    running.start()
    wait_until(lambda: proxies(lab) == {"10.1.0.129", "fd01::8001"}, 20, "those who are in")
    assert answers(lab, "10.1.0.129")
    assert answers(lab, "fd01::8001")

    # Gone, the address is kept but not answered for, and comes back to its device.
    device.terminate("gw")
    wait_until(lambda: not proxies(lab), 20, "nobody is answered for")
    assert running.leases(pool="road") == {"10.1.0.129": "kept", "10.1.0.130": "static"}
    running.hand_over()
    running.start()
    wait_until(
        lambda: running.leases(pool="road") == {"10.1.0.129": "kept", "10.1.0.130": "static"},
        20,
        "the address is kept over the restart",
    )
    device.load(configured("printer"))
    device.initiate("net")
    assert running.leases(q="printer") == {"10.1.0.130": "in-use", "fd01::8002": "in-use"}
    history = running.call("lease-history", pool="road")["items"]
    assert [(one["address"], one["reason"]) for one in history] == [
        ("10.1.0.130", None),
        ("10.1.0.129", "ended"),
    ]
    assert not running.events("internal_error")
    device.terminate("gw")


def test_a_pool_with_addresses_of_others_is_refused(lab: Lab) -> None:
    with gateway(lab) as running:
        text = running.config.read_text()
        running.config.write_text(text + '\n[pools.bad]\nnetwork = "10.1.0.0/24"\n')
        with pytest.raises(ControlError) as error:
            running.call("reload")
        refused = str(error.value)
        assert "pools.bad.network" in refused
        assert "this host reaches 10.1.0.0/24 of it by inside" in refused
        running.config.write_text(text + '\n[pools.good]\nnetwork = "10.77.8.0/24"\n')
        running.call("reload")
        assert {one["pool"] for one in running.call("reachability")["pools"]} == {"road", "good"}
