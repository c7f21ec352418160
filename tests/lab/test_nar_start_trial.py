"""``gateway check`` starts what the kernel does for NAR servers, and leaves nothing behind."""

# planes: kernel portable

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from gateway.cli.nat_chains import nat_chains
from gateway.dataplane.kernel.nar import start_trial
from gateway.dataplane.kernel.nar.constants import TABLE
from gateway.dataplane.kernel.nar.start_trial import NarTrial
from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.dataplane.portable.nar import start_trial as portable_trial
from gateway.lab import planes

pytestmark = pytest.mark.kernel

SERVER = NarServerSettings(
    "soho",
    tunnel_address=IPv4Address("192.168.1.1"),
    addresses=(IPv4Address("203.0.113.5"),),
    client_interfaces=("eth1",),
    outside_interfaces=("eth0",),
    ports=(range(20_000, 30_000),),
    icmp_ids=range(1, 100),
)

try_start = portable_trial.try_start if planes.portable() else start_trial.try_start


def output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("offload", [True, False])
def test_this_kernel_can_do_it(offload: bool) -> None:
    links, reserved = output("ip", "-o", "link"), Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
    before = reserved.read_text()
    settings = NarSettings(servers=(SERVER,), offload=offload)
    assert try_start(settings) == NarTrial(None, None)
    assert output("ip", "-o", "link") == links
    assert TABLE not in output("nft", "list", "tables")
    assert reserved.read_text() == before


def test_what_it_cannot_do_is_told() -> None:
    """A queue that the kernel does not have stands for whatever it lacks."""
    wrong = replace(NarSettings(servers=(SERVER,)), queue_number=70_000)
    trial = try_start(wrong)
    assert trial.problem
    assert trial.l2tp is None


def test_chains_of_others_that_translate_are_found() -> None:
    table = "gateway_test_nat"
    chain = f"add table ip {table}; add chain ip {table} post"
    chain += " { type nat hook postrouting priority 100; }"
    subprocess.run(["nft", chain], check=True)
    try:
        assert f"ip {table} post" in (nat_chains() or [])
    finally:
        subprocess.run(["nft", "delete", "table", "ip", table], check=True)
    assert f"ip {table} post" not in (nat_chains() or [])
