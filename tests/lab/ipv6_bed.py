"""The lab with IPv6 beside IPv4 outside and inside, and a gateway that listens on both.

device 2001:db8:a1::10 (access1), 2001:db8:a2::10 (access2) --- 2001:db8::1 gw fd00:1::1
--- fd00:1::10 server
"""

import contextlib
import os
from collections.abc import Iterator
from ipaddress import IPv6Address

from gateway_bed import RunningGateway
from interop_bed import IKE_ONLY, LOG_LEVEL, Bed, device_file

from gateway.lab import netns, plan
from gateway.lab.processes import LabError
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

GATEWAY6 = IPv6Address("2001:db8::1")
INTERNET6 = IPv6Address("2001:db8::2")
SERVER6 = IPv6Address("fd00:1::10")
DEVICE6 = {
    "access1": IPv6Address("2001:db8:a1::10"),
    "access2": IPv6Address("2001:db8:a2::10"),
}
POOL6 = "fd00:9::/112"
BOTH = "10.1.0.0/24, fd00:1::/64"

HEAD = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"
log_level = "{level}"

[api]
enabled = false

[ike]
listen = ["{outside}", "{outside6}"]

[pools.road]
network = "10.9.0.0/24"
dns = ["10.1.0.10"]

[pools.road6]
network = "{pool6}"
dns = ["{server6}"]
"""

ADDRESSES = {
    "internet": {
        "dmz": f"{INTERNET6}/64",
        "access1": "2001:db8:b1::1/64",
        "access2": "2001:db8:b2::1/64",
    },
    "gw": {"outside": f"{GATEWAY6}/64", "inside": "fd00:1::1/64"},
    "server": {"intranet": f"{SERVER6}/64"},
    "access1": {"uplink": "2001:db8:b1::2/64", "device": "2001:db8:a1::1/64"},
    "access2": {"uplink": "2001:db8:b2::2/64", "device": "2001:db8:a2::1/64"},
}
ROUTES = {
    "internet": {"2001:db8:a1::/64": "2001:db8:b1::2", "2001:db8:a2::/64": "2001:db8:b2::2"},
    "gw": {"default": str(INTERNET6)},
    "server": {"default": "fd00:1::1"},
    "access1": {"default": "2001:db8:b1::1"},
    "access2": {"default": "2001:db8:b2::1"},
}
IPV6 = {
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.all.accept_ra": 0,
}


def add_ipv6(lab: Lab) -> None:
    """Addresses and routes of IPv6; the device's own wait for :func:`attach6`."""
    for host in ("device", *ADDRESSES):
        forwards = {"net.ipv6.conf.all.forwarding": int(host in plan.ROUTERS)}
        netns.write_sysctls(lab.namespace(host), {**IPV6, **forwards})
    for host, interfaces in ADDRESSES.items():
        for interface, address in interfaces.items():
            ip6(lab, host, "address", "add", address, "dev", interface, "nodad")
        for network, router in ROUTES.get(host, {}).items():
            ip6(lab, host, "route", "add", network, "via", router)


def ip6(lab: Lab, host: str, *words: str) -> str:
    return lab.run(host, ["ip", "-6", *words]).stdout


def attach6(lab: Lab, access: str) -> None:
    """The device has IPv6 in `access`, whatever else it has."""
    router = f"2001:db8:a{access[-1]}::1"
    lab.run("device", ["ip", "link", "set", access, "up"])
    ip6(lab, "device", "address", "replace", f"{DEVICE6[access]}/64", "dev", access, "nodad")
    ip6(lab, "device", "route", "replace", "default", "via", router, "dev", access)


def detach6(lab: Lab, access: str) -> None:
    """The device has no IPv6 in `access`."""
    words = ["ip", "-6", "address", "del", f"{DEVICE6[access]}/64", "dev", access]
    lab.run("device", words, check=False)
    lab.run("device", ["ip", "-6", "route", "del", "default"], check=False)


def device6(*, remote: object = GATEWAY6, remote_ts: str = BOTH, **options: str) -> str:
    """swanctl.conf of a device that asks for addresses of both IP versions."""
    text = device_file(remote=remote, remote_ts=remote_ts, **options)
    return text.replace("vips = 0.0.0.0", "vips = 0.0.0.0, ::")


@contextlib.contextmanager
def dual_stack(connections: str) -> Iterator[Bed]:
    """A gateway and a charon; the device is in access1, with IPv4 and IPv6."""
    lab = Lab(f"t{os.getpid()}-")
    lab.up(fresh=True)
    try:
        add_ipv6(lab)
        attach6(lab, "access1")
        gateway = RunningGateway(lab)
        recording = lab.capture("gw", "outside", "wire", f"{IKE_ONLY} or ip6")
        head = HEAD.format(
            folder=gateway.folder,
            outside=plan.GATEWAY_OUTSIDE,
            outside6=GATEWAY6,
            pool6=POOL6,
            server6=SERVER6,
            level=LOG_LEVEL,
        )
        gateway.write_text(head + connections)
        bed = Bed(lab, gateway, StrongSwan(lab, "device"), recording, head)
        try:
            gateway.start()
            bed.device.start()
            yield bed
        finally:
            print(f"--- gateway\n{gateway.output()[-8000:]}")
            print(f"--- charon\n{bed.device.log()[-4000:]}")
            with contextlib.suppress(LabError):
                bed.device.stop()
            gateway.stop()
    finally:
        lab.down()
