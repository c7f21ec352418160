"""Names inside: a stock client learns its resolver, asks it by the tunnel, and has a name."""

# planes: portable

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from interop_bed import Bed, device_file, gateway_alone, inner_address, psk_connection, table

from gateway.lab import bind, plan
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import PLUGINS, StrongSwan

pytestmark = pytest.mark.kernel

CORP, ELSEWHERE = str(plan.SERVER), "10.1.0.11"
FORWARDER = str(plan.GATEWAY_INSIDE)
ZONE = "devices.corp.test"
NAME = f"device.{ZONE}"
REVERSE = "0.9.10.in-addr.arpa"
LONG = " ".join(f'"{"x" * 200}"' for _ in range(10))
CORP_ZONES = (
    bind.Zone("corp.test", f"printer IN A 10.1.0.99\nlong IN TXT {LONG}\n"),
    bind.Zone(ZONE, "printer IN A 10.1.0.99\n"),
    bind.Zone(REVERSE),
)
ELSEWHERE_ZONES = (bind.Zone("elsewhere.test", "www IN A 198.51.100.80\n"),)
RESOLVE = "plugins {\n resolve {\n file = /run/resolv.conf\n }\n }\n"


def names(folder: Path) -> str:
    """The table [names]."""
    return (
        table("names", listen=[FORWARDER], servers=[ELSEWHERE])
        + f'[[names.forward]]\ndomains = ["corp.test"]\nservers = ["{CORP}"]\n'
        + table(
            "names.registration",
            server=CORP,
            zone=ZONE,
            key_name=bind.KEY_NAME,
            secret_file=str(folder / "tsig"),
        )
    )


@dataclass
class Site:
    """The bed, and what asks on the device."""

    bed: Bed

    def dig(self, name: str, *options: str, server: str = FORWARDER) -> list[str]:
        """What the device is told."""
        argv = ["dig", f"@{server}", "+short", "+time=2", "+tries=2", *options, name]
        return self.bed.lab.run("device", argv, check=False).stdout.splitlines()

    def inside(self, name: str, rdtype: str) -> list[str]:
        """What an inside host is told by its own server."""
        argv = ["dig", f"@{CORP}", "+short", "+time=2", "+tries=2", name, rdtype]
        return self.bed.lab.run("server", argv, check=False).stdout.splitlines()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("names")
    (folder / "tsig").write_text(bind.SECRET + "\n")
    (folder / "tsig").chmod(0o600)
    connection = psk_connection(dns=[FORWARDER], domains=["corp.test"])
    with gateway_alone(names(folder) + connection) as bed:
        bed.lab.run("server", ["ip", "address", "add", f"{ELSEWHERE}/24", "dev", "intranet"])
        for address, zones in ((CORP, CORP_ZONES), (ELSEWHERE, ELSEWHERE_ZONES)):
            argv = bind.write(folder / address, address, 53, zones)
            bed.lab.spawn("server", argv, f"named-{address}")
        bed.device = StrongSwan(bed.lab, "device", plugins=f"{PLUGINS} resolve", extra=RESOLVE)
        bed.device.start()
        try:
            site = Site(bed)
            wait_until(lambda: site.inside("corp.test", "SOA"), 20, "the inner name server")
            yield site
        finally:
            print(f"--- charon\n{bed.device.log()[-4000:]}")
            bed.device.stop()


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.bed.disconnect()


def test_split_names_by_the_tunnel(site: Site) -> None:
    bed = site.bed
    bed.connect(configuration=device_file())
    run = bed.lab.folder / "charon-device" / "run" / "resolv.conf"
    assert f"nameserver {FORWARDER}" in run.read_text()
    assert site.dig("printer.corp.test") == ["10.1.0.99"]
    assert site.dig("www.elsewhere.test") == ["198.51.100.80"]
    assert site.dig("www.elsewhere.test", "+tcp") == ["198.51.100.80"]
    assert len(site.dig("long.corp.test", "TXT")[0]) > 2000, "dig comes again by TCP"
    assert site.dig("corp.test", "AXFR", "+tcp") == ["; Transfer failed."]
    outside = site.dig("printer.corp.test", "+tries=1", server=str(plan.GATEWAY_OUTSIDE))
    assert "10.1.0.99" not in outside
    forwarder = bed.gateway.call("names")["forwarder"]
    assert forwarder["state"] == "running"
    assert forwarder["questions"] >= 5
    assert [rule["answering"] for rule in forwarder["forward"][:2]] == [True, True]


def test_a_device_has_a_name_as_long_as_it_is_in(site: Site) -> None:
    bed = site.bed
    address = inner_address(bed.connect(configuration=device_file()))
    pointer = f"{address.rpartition('.')[2]}.{REVERSE}"
    wait_until(lambda: site.inside(NAME, "A") == [address], 20, "the device's name")
    wait_until(lambda: site.inside(pointer, "PTR") == [f"{NAME}."], 20, "its reverse name")
    assert site.dig(NAME) == [address], "the forwarder asks the server of the devices' zone"
    wait_until(
        lambda: [one["state"] for one in bed.gateway.call("names")["items"]] == ["registered"],
        10,
        "the gateway's view",
    )
    (item,) = bed.gateway.call("names")["items"]
    assert (item["name"], item["addresses"]) == (NAME, [address])
    bed.disconnect()
    wait_until(lambda: not site.inside(NAME, "A"), 20, "no name")
    assert not site.inside(pointer, "PTR")
    assert site.inside(f"printer.{ZONE}", "A") == ["10.1.0.99"]


def test_restarts_and_faults_of_the_process_cost_no_name(site: Site) -> None:
    bed = site.bed
    address = inner_address(bed.connect(configuration=device_file()))
    wait_until(lambda: site.inside(NAME, "A") == [address], 20, "the device's name")
    worker = bed.gateway.call("status")["remote_access"]["names"]["worker"]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: site.dig("printer.corp.test") == ["10.1.0.99"], 20, "another worker")
    bed.gateway.signal(signal.SIGTERM)
    assert bed.gateway.process is not None
    bed.gateway.process.wait(20)
    bed.gateway.start()
    assert site.inside(NAME, "A") == [address]
    wait_until(lambda: site.dig(NAME) == [address], 20, "the next forwarder")
    bed.gateway.signal(signal.SIGINT)
    bed.gateway.process.wait(20)
    assert not site.inside(NAME, "A")
    bed.gateway.start()
