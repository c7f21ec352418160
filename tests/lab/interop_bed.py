"""One topology, one gateway and one charon for all cells of a file of interoperation tests.

Setting them up costs far more than a handshake, so the cells of a file share them; each cell
leaves no IKE SA behind. Every IKE message of a file is recorded and judged by tshark.
"""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from gateway_bed import PSK, RunningGateway

from gateway.lab import plan
from gateway.lab.capture import Capture, dissect, judge
from gateway.lab.measured import start_receiver, start_sender
from gateway.lab.processes import LabError, wait_until
from gateway.lab.strongswan import IkeSa, StrongSwan
from gateway.lab.topology import Lab

IKE_ONLY = "udp port 500 or (udp port 4500 and udp[8:4] = 0)"
LOG_LEVEL = os.environ.get("GATEWAY_LAB_LOG_LEVEL", "info")
GATEWAY_ID = "gateway.example.com"
DEVICE_ID = "device@example.com"
IKE_SUITE = "aes256gcm16-prfsha256-x25519"
ESP_SUITE = "aes256gcm16"

HEAD = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"
log_level = "{level}"

[api]
enabled = false

[ike]
listen = ["{outside}"]
{ike}

[pools.road]
network = "10.9.0.0/24"
dns = ["10.1.0.10"]
"""

DEVICE = """
connections {{
  gw {{
    version = 2
    local_addrs = %any
    remote_addrs = {remote}
    {vips}
    proposals = {ike}
    {connection}
    local {{
      auth = {auth}
      id = "{device_id}"
      {certificate}
    }}
    remote {{
      auth = {remote_auth}
      id = "{gateway_id}"
    }}
    children {{
      net {{
        {local_ts}
        remote_ts = {remote_ts}
        esp_proposals = {esp}
        {child}
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


def table(name: str, **keys: object) -> str:
    """A table of gateway.toml; values that are mappings become tables below it."""
    lines = [f"\n[{name}]"]
    below = ""
    for key, value in keys.items():
        if isinstance(value, Mapping):
            below += table(f"{name}.{key}", **value)
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n" + below


def psk_connection(name: str = "road", **keys: object) -> str:
    """A connection for devices with the lab's key and an address from the pool `road`."""
    fixed: dict[str, object] = {
        "local_auth": "psk",
        "remote_auth": "psk",
        "psk": PSK,
        "remote_id": DEVICE_ID,
        "pool": "road",
        "local_subnets": ["10.1.0.0/24"],
    }
    return table(f"connections.{name}", **{**fixed, **keys})


def device_file(
    *,
    device_id: str = DEVICE_ID,
    gateway_id: str = GATEWAY_ID,
    remote: object = plan.GATEWAY_OUTSIDE,
    certificate: str = "",
    auth: str = "",
    remote_auth: str = "",
    ike: str = IKE_SUITE,
    esp: str = ESP_SUITE,
    vips: bool = True,
    local_ts: str = "",
    remote_ts: str = "10.1.0.0/24",
    connection: str = "",
    child: str = "",
    psk: str = PSK,
) -> str:
    """swanctl.conf of a device; with `certificate` it and the gateway show certificates."""
    auth = auth or ("pubkey" if certificate else "psk")
    return DEVICE.format(
        device_id=device_id,
        gateway_id=gateway_id,
        remote=remote,
        auth=auth,
        remote_auth=remote_auth or auth,
        certificate=f"certs = {certificate}" if certificate else "",
        ike=ike,
        esp=esp,
        vips="vips = 0.0.0.0" if vips else "",
        local_ts=f"local_ts = {local_ts}" if local_ts else "",
        remote_ts=remote_ts,
        connection=connection,
        child=child,
        psk=psk,
    )


@dataclass(slots=True, repr=False)
class Bed:
    """What the cells of a file share."""

    lab: Lab
    gateway: RunningGateway
    device: StrongSwan
    recording: Capture
    head: str

    def ike_sas(self) -> list[dict[str, Any]]:
        """The gateway's IKE SAs."""
        items: list[dict[str, Any]] = self.gateway.call("ike-sas")["items"]
        return items

    def child_sas(self) -> list[dict[str, Any]]:
        """The gateway's child SAs."""
        items: list[dict[str, Any]] = self.gateway.call("child-sas")["items"]
        return items

    def counter(self, name: str) -> int:
        """One of the engine's counters."""
        return int(self.gateway.call("status")["counters"]["ike"].get(name, 0))

    def ping(self, count: int = 2, *, host: str = "device", to: object = plan.SERVER) -> bool:
        """Whether every one of some echo requests is answered."""
        argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "3", str(to)]
        return " 0% packet loss" in self.lab.run(host, argv, check=False).stdout

    def connect(self, **load: Any) -> IkeSa:
        """Let the device bring `net` up and return its view of the IKE SA."""
        known = len(self.gateway.events("ike_sa_established"))
        if load:
            self.device.load(**load)
        self.device.initiate("net")
        (ike,) = self.device.established()
        # Its line is written after its last message is sent.
        wait_until(
            lambda: len(self.gateway.events("ike_sa_established")) > known, 10, "the gateway's line"
        )
        return ike

    def disconnect(self) -> None:
        """Close whatever is left, and wait until both sides agree that nothing is."""
        if not self.device.running():
            self.device.start()
        for ike in self.device.list_sas():
            with contextlib.suppress(LabError):
                self.device.terminate(ike.name, timeout_s=5)
        for ike in self.ike_sas():
            with contextlib.suppress(Exception):
                self.gateway.call("close-ike-sa", id=ike["id"])
        wait_until(lambda: not self.ike_sas(), 20, "no IKE SA at the gateway")
        wait_until(lambda: not self.states(), 10, "no SA in the gateway's kernel")

    def restart_device(self, charon: str = "") -> None:
        """End charon and start another one, with `charon` in its strongswan.conf."""
        self.device.stop()
        self.device = StrongSwan(self.lab, "device", extra=charon)
        self.device.start()

    def states(self, host: str = "gw") -> str:
        """The SAs of a host."""
        return self.lab.states(host)

    def reload(self, connections: str) -> None:
        """Give the gateway other connections."""
        done = len(self.gateway.events("reloaded"))
        self.gateway.write_text(self.head + connections)
        self.gateway.signal(signal.SIGHUP)
        wait_until(lambda: len(self.gateway.events("reloaded")) > done, 10, "the reload")

    def said_since(self, mark: int) -> list[dict[str, Any]]:
        """The gateway's log lines after the first `mark` ones."""
        return self.gateway.log()[mark:]

    def findings(self) -> list[object]:
        """tshark's objections to everything recorded so far, once it has seen anything."""
        recorded = self.recording.stop()
        assert dissect(recorded, "isakmp", ["isakmp.exchangetype"])
        return list(judge(recorded))


@contextlib.contextmanager
def gateway_alone(
    connections: str,
    *,
    ike: str = "",
    charon: str = "",
    access: str = "access1",
    user_space: bool | None = None,
) -> Iterator[Bed]:
    """The bed without its charon, for a test that starts another peer, or charon, itself."""
    lab = Lab(f"t{os.getpid()}-")
    lab.up(fresh=True, access=access)
    try:
        gateway = RunningGateway(lab)
        recording = lab.capture("gw", "outside", "wire", IKE_ONLY)
        head = HEAD.format(
            folder=gateway.folder, outside=plan.GATEWAY_OUTSIDE, ike=ike, level=LOG_LEVEL
        )
        gateway.write_text(head + connections)
        try:
            gateway.start()
            device = StrongSwan(lab, "device", extra=charon, user_space=user_space)
            yield Bed(lab, gateway, device, recording, head)
        finally:
            print(f"--- gateway\n{gateway.output()[-8000:]}")
            gateway.stop()
    finally:
        lab.down()


@contextlib.contextmanager
def interop(connections: str, **options: Any) -> Iterator[Bed]:
    """The bed, with `ike` as further lines of [ike] and `charon` of strongswan.conf.

    `user_space` is charon's own IPsec, by default where the kernel has none.
    """
    with gateway_alone(connections, **options) as bed:
        try:
            bed.device.start()
            yield bed
        finally:
            print(f"--- charon\n{bed.device.log()[-4000:]}")
            with contextlib.suppress(LabError):
                bed.device.stop()


class Streams:
    """Numbered datagrams from the device to the server and back, counted at both ends."""

    def __init__(self, bed: Bed, inner: str, *, rate: float = 200.0, name: str = "s") -> None:
        self._receivers = [
            start_receiver(bed.lab, "server", f"{plan.SERVER}:9000", name=f"{name}-up", idle_s=4),
            start_receiver(bed.lab, "device", f"{inner}:9001", name=f"{name}-down", idle_s=4),
        ]
        self._senders = [
            start_sender(
                bed.lab, "device", f"{plan.SERVER}:9000", rate=rate, seconds=600, name=f"{name}-1"
            ),
            start_sender(
                bed.lab, "server", f"{inner}:9001", rate=rate, seconds=600, name=f"{name}-2"
            ),
        ]
        for receiver in self._receivers:
            receiver.wait_for("received", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._senders, *self._receivers):
            each.process.stop()

    def received(self) -> tuple[int, int]:
        """Datagrams that arrived so far at the server and at the device."""
        up, down = (receiver.latest("received") or 0 for receiver in self._receivers)
        return int(up), int(down)

    def wait_for_more(self, count: int) -> None:
        """Wait until that many more came in either direction."""
        for receiver in self._receivers:
            receiver.wait_for("received", (receiver.latest("received") or 0) + count)

    def lost(self) -> tuple[int, int]:
        """End the streams; datagrams sent and not received, from and to the device."""
        sent = [int(sender.stop()["sent"]) for sender in self._senders]
        results = [receiver.result() for receiver in self._receivers]
        got = [int(result["received"]) for result in results]
        missing = [result["missing"] for result in results]
        print(f"streams: sent {sent}, received {got}, missing {missing}")
        # A sender may be ended between sending and counting.
        return max(0, sent[0] - got[0]), max(0, sent[1] - got[1])


def inner_address(ike: IkeSa) -> str:
    """The inner address of a device."""
    (address,) = ike.virtual_ips
    return re.sub(r"/\d+$", "", address)
