"""`gateway run` on the lab's gateway host, and a strongSwan device that connects to it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from gateway.lab import plan
from gateway.lab.appliance import Appliance
from gateway.lab.topology import Lab

PSK = "one long shared secret of the lab"

CONFIGURATION = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"

[ike]
listen = ["{outside}"]

[pools.road]
network = "10.9.0.0/24"
dns = ["10.1.0.10"]

[connections.road]
local_auth = "psk"
remote_auth = "psk"
psk = "{psk}"
remote_id = "device@example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
{extra}
"""

DEVICE = """
connections {{
  gw {{
    version = 2
    local_addrs = %any
    remote_addrs = {outside}
    vips = 0.0.0.0
    proposals = aes256gcm16-prfsha256-x25519
    encap = {encap}
    local {{
      auth = psk
      id = device@example.com
    }}
    remote {{
      auth = psk
      id = gateway.example.com
    }}
    children {{
      net {{
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256gcm16
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    id-1 = gateway.example.com
    id-2 = device@example.com
    secret = "{psk}"
  }}
}}
"""


def device_configuration(*, encap: bool = False, psk: str = PSK) -> str:
    """swanctl.conf of the device."""
    return DEVICE.format(outside=plan.GATEWAY_OUTSIDE, encap="yes" if encap else "no", psk=psk)


class RunningGateway(Appliance):
    """A `gateway run` in the lab with the configuration above."""

    def __init__(
        self, lab: Lab, *, extra: str = "", name: str = "gateway", fresh: bool = False
    ) -> None:
        super().__init__(lab, name=name, fresh=fresh)
        self.write(extra=extra)

    def write(self, *, extra: str = "", psk: str = PSK) -> None:
        """Write the configuration."""
        self.write_text(
            CONFIGURATION.format(
                folder=self.folder, outside=plan.GATEWAY_OUTSIDE, psk=psk, extra=extra
            )
        )


@contextlib.contextmanager
def gateway(lab: Lab, **options: Any) -> Iterator[RunningGateway]:
    """A gateway that ends with the block; a failing test shows its log."""
    running = RunningGateway(lab, **options)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        print(f"--- gateway\n{running.output()[-8000:]}")


def kernel_state(lab: Lab) -> dict[str, str]:
    """What a gateway may leave behind on its host."""
    state = {
        "states": lab.states("gw"),
        "policies": lab.policies("gw"),
        "links": lab.run("gw", ["ip", "-br", "link"]).stdout,
        "routes": lab.run("gw", ["ip", "route"]).stdout,
        "tables": lab.run("gw", ["nft", "list", "tables"]).stdout,
    }
    # Which interfaces there are, not the counters or the order of their flags.
    state["links"] = " ".join(sorted(line.split()[0] for line in state["links"].splitlines()))
    return state
