"""TCP through our tunnel against a static `ip xfrm` tunnel over the same wires.

Two labs stand side by side in one kernel. In one, `gateway run` and strongSwan as the device made
the tunnel; in the other, two states and three policies on either side were typed in, and nothing
else runs. Suite, inner addresses and TCP segment size are the same.

An iperf3 transfer runs in each lab all the time, but only one at once, see `bench.turns`.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from bench.bed import INNER, INTRANET, connect_device, fresh_lab, reaches, start_gateway
from bench.measure import Bar, Result
from bench.turns import Contest, Transfer, compare, random_key
from gateway.lab import plan
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

SEGMENT = 1360
"""What our gateway clamps to; the other tunnel gets the same, so packets have the same size."""
SUITE = "aes256gcm16"
KEY_OCTETS = 32 + 4  # and its salt
SPI_IN, SPI_OUT = 0x1001, 0x1002
WINDOW = 32


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Both directions with AES-256-GCM."""
    with fresh_lab("tput0") as ours, fresh_lab("tput1") as static:
        start_gateway(ours, esp=SUITE)
        connect_device(ours, esp=SUITE)
        type_in(static)
        servers = [start_server(lab) for lab in (ours, static)]
        results = []
        for download in (False, True):
            transfers = [
                start(lab, server, download=download)
                for lab, server in zip((ours, static), servers, strict=True)
            ]
            contest = Contest(
                f"throughput.{'download' if download else 'upload'}",
                "of static",
                Bar(0.97, at_least=True),
                "static_ip_xfrm_mbit_s",
            )
            results.append(compare(contest, transfers[0], transfers[1], say))
            for transfer in transfers:
                transfer.end()
        return results


def start(lab: Lab, server: Process, *, download: bool) -> Transfer:
    """Start a transfer; its sender is stopped when this returns."""
    argv = ["iperf3", "-c", str(plan.SERVER), "-B", INNER, "-M", str(SEGMENT), "-t", "0"]
    name = "download" if download else "upload"
    client = lab.spawn("device", [*argv, "--forceflush", *(["-R"] if download else [])], name)
    if download:
        transfer = Transfer(client, server, (client, "access1"))
    else:
        host = lab.spawn("gw", ["sleep", "infinity"], "counted")
        transfer = Transfer(client, client, (host, "outside"))
    transfer.settle()
    return transfer


def type_in(lab: Lab) -> None:
    """The static tunnel between device and gw, as an administrator would set it up."""
    device, gateway = plan.ACCESSES["access1"].device.ip, plan.GATEWAY_OUTSIDE
    keys = [random_key(KEY_OCTETS) for _ in range(2)]
    states = "\n".join(
        f"xfrm state add src {source} dst {destination} proto esp spi {spi:#x} reqid 1"
        f" mode tunnel replay-window {WINDOW} aead rfc4106(gcm(aes)) {key} 128"
        for source, destination, spi, key in (
            (device, gateway, SPI_IN, keys[0]),
            (gateway, device, SPI_OUT, keys[1]),
        )
    )
    up = _policies(f"{INNER}/32", INTRANET, device, gateway)
    down = _policies(INTRANET, f"{INNER}/32", gateway, device)
    batch = f"{states}\n{up['out']}\n{down['in']}\n{down['fwd']}\n"
    batch += f"address add {INNER}/32 dev access1\n"
    batch += f"route add {INTRANET} via {plan.ACCESSES['access1'].router} src {INNER}\n"
    lab.run("device", ["ip", "-batch", "-"], stdin=batch)
    batch = f"{states}\n{down['out']}\n{up['in']}\n{up['fwd']}\n"
    lab.run("gw", ["ip", "-batch", "-"], stdin=batch)
    if not reaches(lab):
        raise LabError("the static tunnel does not carry a packet")


def _policies(
    source: str, destination: str, outer_source: IPv4Address, outer_destination: IPv4Address
) -> dict[str, str]:
    return {
        direction: f"xfrm policy add src {source} dst {destination} dir {direction} tmpl"
        f" src {outer_source} dst {outer_destination} proto esp reqid 1 mode tunnel"
        for direction in ("in", "fwd", "out")
    }


def start_server(lab: Lab) -> Process:
    """iperf3's server on the intranet's server."""
    server = lab.spawn("server", ["iperf3", "-s", "-B", str(plan.SERVER), "--forceflush"], "iperf3")
    wait_until(lambda: "listening" in server.output(), 20, "iperf3's server")
    return server
