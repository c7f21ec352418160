"""What is routed to the tunnels goes nowhere else, whoever has died."""

# planes: portable

import os
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from dataplane_bed import GATEWAY, INTRANET_NET, POOL, Bed, child_sa, entered, inside

from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.plane import Plane
from gateway.domain.child_sa import EspKeys, TrafficSelector

pytestmark = pytest.mark.kernel

SETTINGS = KernelSettings(inner_networks=(POOL,), protected_networks=(INTRANET_NET,))


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed() as made:
        yield made


def kill(plane: Plane) -> None:
    """Every process of its forwarder, and wait for that."""
    processes = plane.shared.facts()["processes"]
    assert isinstance(processes, list)
    handles = [os.pidfd_open(process) for process in processes]
    for handle in handles:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    for handle in handles:
        assert select.select([handle], [], [], 10)[0]
        os.close(handle)


def index() -> int:
    return socket.if_nametoindex("gw0")


def route(network: object = POOL) -> str:
    return inside(GATEWAY, "ip", "route", "show", network)


def test_routes_outlive_gateway_and_forwarder(bed: Bed, tmp_path: Path) -> None:
    """Deleted and made again the interface would have no routes for a while."""
    with entered(GATEWAY):
        first = Plane.of("portable", frozenset(), tmp_path)
        dataplane = first.dataplane(SETTINGS)
        dataplane.start(adopt=True)
        before = index()
        kill(first)
        dataplane.close(keep=True)
        assert "gw0" in route()
        second = Plane.of("portable", frozenset(), tmp_path).dataplane(SETTINGS)
        second.start(adopt=True)
        assert second.adopt([]) == []
        assert index() == before
        assert "gw0" in route()
        second.close()


def test_routes_of_lost_sas_stay_until_they_are_removed(bed: Bed, tmp_path: Path) -> None:
    """Other keys are negotiated for them; what is routed to the peer's side waits for those."""
    sa = child_sa(remote_ts=(TrafficSelector.of_network(ip_network("10.77.0.0/24")),))
    remembered = replace(sa, keys_in=EspKeys(b""), keys_out=EspKeys(b""))
    with entered(GATEWAY):
        first = Plane.of("portable", frozenset(), tmp_path)
        dataplane = first.dataplane(SETTINGS)
        dataplane.start(adopt=True)
        dataplane.install_child_sa(sa)
        assert dataplane.commit() == []
        assert "gw0" in route("10.77.0.0/24")
        kill(first)
        dataplane.close(keep=True)
        second = Plane.of("portable", frozenset(), tmp_path).dataplane(SETTINGS)
        second.start(adopt=True)
        assert second.adopt([(remembered, True)]) == [sa.spi_in]
        assert "gw0" in route("10.77.0.0/24")
        second.remove_child_sa(sa.spi_in)
        assert second.commit() == []
        assert not route("10.77.0.0/24")
        second.close()


def test_who_has_another_folder_gets_an_interface_of_its_own(bed: Bed, tmp_path: Path) -> None:
    """Two forwarders that read the same interface would each miss half of its packets."""
    with entered(GATEWAY):
        first = Plane.of("portable", frozenset(), tmp_path / "one")
        dataplane = first.dataplane(SETTINGS)
        dataplane.start(adopt=True)
        before = index()
        dataplane.close(keep=True)
        second = Plane.of("portable", frozenset(), tmp_path / "two").dataplane(SETTINGS)
        second.start(adopt=True)
        assert index() != before
        second.close()


def test_the_interface_may_be_named_otherwise_at_the_next_start(bed: Bed, tmp_path: Path) -> None:
    with entered(GATEWAY):
        dataplane = Plane.of("portable", frozenset(), tmp_path).dataplane(SETTINGS)
        dataplane.start(adopt=True)
        dataplane.close(keep=True)
        named = replace(SETTINGS, xfrm_interface="vpn7")
        second = Plane.of("portable", frozenset(), tmp_path, "vpn7").dataplane(named)
        second.start(adopt=True)
        assert second.adopt([]) == []
        assert "vpn7" in route()
        with pytest.raises(OSError, match=r"No such device|no interface"):
            index()
        second.close()


def test_nobody_of_this_host_speaks_out_of_the_tunnels(bed: Bed) -> None:
    """The far end takes what is sent to everybody, from whoever has no privileges at all."""
    dataplane = bed.start()
    hook = "type filter hook input priority 0"
    heard = f'add table inet heard {{ chain c {{ {hook}; iifname "gw0" counter; }}; }}'
    inside(GATEWAY, "nft", heard)
    send = (
        "import os, socket\n"
        "os.setgid(65534)\n"
        "os.setuid(65534)\n"
        "one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'gw0-io')\n"
        "one.sendto(b'not from a device', ('224.0.0.1', 9))\n"
    )
    inside(GATEWAY, "/usr/bin/python3", "-c", send)
    with entered(GATEWAY):
        assert dataplane.counters()["not_forwarded"] == 1
    assert "packets 0" in inside(GATEWAY, "nft", "list table inet heard")
