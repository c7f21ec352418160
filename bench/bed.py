"""What the benchmarks stand on: the lab with our gateway, strongSwan, or a static tunnel in it."""

import contextlib
import ctypes
import threading
from collections.abc import Iterator

import nftables

from gateway.lab import netns, plan
from gateway.lab.appliance import Appliance
from gateway.lab.processes import LabError, wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

PSK = "one long shared secret of the benchmarks"
INTRANET = "10.1.0.0/24"
POOL = "10.9.0.0/24"
INNER = "10.9.0.1"
"""The first address of the pool: what the one device gets."""
CONNECTED_S = 20.0

GATEWAY = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"

[store]
state_dir = "{folder}/state"

[ike]
listen = ["{outside}"]
max_moves_per_minute = 1000
{ike}

[pools.road]
network = "{pool}"

[connections.road]
local_auth = "psk"
remote_auth = "psk"
psk = "{psk}"
remote_id = "{remote_id}"
pool = "road"
local_subnets = ["{intranet}"]
esp_proposals = ["{esp}"]
{extra}

[api]
enabled = {api}
tls = false
"""

SECRET = """
secrets {{
  ike-1 {{
    id-1 = gateway.example.com
    id-2 = device@example.com
    secret = "{psk}"
  }}
}}
"""

DEVICE = (
    """
connections {{
  gw {{
    version = 2
    local_addrs = %any
    remote_addrs = {outside}
    vips = 0.0.0.0
    proposals = aes256gcm16-prfsha256-x25519
    encap = {encap}
    mobike = {mobike}
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
        remote_ts = {intranet}
        esp_proposals = {esp}
      }}
    }}
  }}
}}
"""
    + SECRET
)

STRONGSWAN_GATEWAY = (
    """
connections {{
  road {{
    version = 2
    local_addrs = {outside}
    pools = road
    proposals = aes256gcm16-prfsha256-x25519
    local {{
      auth = psk
      id = gateway.example.com
    }}
    remote {{
      auth = psk
      id = device@example.com
    }}
    children {{
      net {{
        local_ts = {intranet}
        esp_proposals = {esp}
      }}
    }}
  }}
}}
pools {{
  road {{
    addrs = {pool}
  }}
}}
"""
    + SECRET
)


def start_gateway(
    lab: Lab,
    *,
    esp: str = "aes256gcm16",
    extra: str = "",
    api: bool = False,
    remote_id: str = "device@example.com",
    ike: str = "",
) -> Appliance:
    """Our gateway, ready; `extra` are further keys of the connection."""
    gateway = Appliance(lab, fresh=True)
    gateway.write_text(
        GATEWAY.format(
            folder=gateway.folder, outside=plan.GATEWAY_OUTSIDE, pool=POOL, psk=PSK,
            intranet=INTRANET, esp=esp, extra=extra, api=str(api).lower(),
            remote_id=remote_id, ike=ike,
        )
    )  # fmt: skip
    gateway.start()
    return gateway


def start_strongswan_gateway(
    lab: Lab, *, esp: str = "aes256gcm16", user_space: bool | None = None
) -> StrongSwan:
    """strongSwan as the gateway, with the same policy."""
    charon = StrongSwan(lab, "gw", quiet=user_space is True, user_space=user_space)
    charon.start()
    charon.load(
        STRONGSWAN_GATEWAY.format(
            outside=plan.GATEWAY_OUTSIDE, pool=POOL, psk=PSK, intranet=INTRANET, esp=esp
        )
    )
    return charon


def connect_device(
    lab: Lab,
    *,
    esp: str = "aes256gcm16",
    encap: bool = False,
    mobike: bool = False,
    user_space: bool | None = None,
) -> StrongSwan:
    """strongSwan on the device, connected, with `INNER` as its inner address."""
    device = StrongSwan(lab, "device", quiet=user_space is True, user_space=user_space)
    device.start()
    device.load(
        DEVICE.format(
            outside=plan.GATEWAY_OUTSIDE, psk=PSK, intranet=INTRANET, esp=esp,
            encap="yes" if encap else "no", mobike="yes" if mobike else "no",
        )
    )  # fmt: skip
    device.initiate("net")
    wait_until(lambda: reaches(lab), CONNECTED_S, "the first answer through the tunnel")
    held = [ip for sa in device.established() for ip in sa.virtual_ips]
    if held != [INNER]:
        raise LabError(f"the device has {held}, {INNER} was expected")
    return device


def reaches(lab: Lab) -> bool:
    """Whether the device reaches the intranet's server."""
    argv = ["ping", "-n", "-q", "-c", "1", "-W", "1", "-I", INNER, str(plan.SERVER)]
    return lab.run("device", argv, check=False).returncode == 0


class BenchLab(Lab):
    """A lab whose rules change without a process being started for it.

    In the test kernel, with its one processor, starting nft takes as long as what is measured.
    """

    def nft(self, host: str, script: str) -> None:
        """Load an nft script on a host, from this process."""
        problems: list[str] = []

        def load() -> None:
            # setns(2) moves one thread; this one ends right after.
            libc = ctypes.CDLL(None, use_errno=True)
            with (netns.FOLDER / self.namespace(host)).open("rb") as handle:
                if libc.setns(handle.fileno(), netns.CLONE_NEWNET):
                    problems.append("cannot enter the namespace")
                    return
            code, _, problem = nftables.Nftables().cmd(script)
            if code:
                problems.append(problem)

        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        if problems:
            raise LabError(f"{host}: nft: {problems[0]}")


@contextlib.contextmanager
def fresh_lab(name: str, *, rtt_ms: float = 0.0, access: str = "access1") -> Iterator[Lab]:
    """A lab of the benchmarks' own that goes away with the block."""
    lab = BenchLab(f"b{name}-", rtt_ms=rtt_ms)
    lab.up(fresh=True, access=access)
    try:
        yield lab
    finally:
        lab.down()
