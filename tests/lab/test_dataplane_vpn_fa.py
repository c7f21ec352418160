"""Child SAs of mobile nodes with VPN/FA in the real kernel (draft 001, appendix B.5)."""

import socket
from collections.abc import Iterator

import pytest
from dataplane_bed import DEVICE, GATEWAY, INTRANET, Bed, child_sa, entered, inside

pytestmark = pytest.mark.kernel


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed() as made:
        yield made


def heard(at: str, address: str, port: int) -> bool:
    """Whether a datagram of the device arrives there; its own echo tells that it has passed."""
    with entered(at):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with entered(DEVICE):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind((address, port))
        receiver.settimeout(0.5)
        sender.bind(("10.9.0.1", 0))
        sender.sendto(b"x", (address, port))
        try:
            return receiver.recv(10) == b"x"
        except TimeoutError:
            return False


def test_without_a_binding_it_may_register_and_nothing_else(bed: Bed) -> None:
    dataplane = bed.start(inner_networks=())
    sa = child_sa(vpn_fa=True)
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    assert heard(GATEWAY, "10.1.0.1", 434)
    assert not heard(GATEWAY, "10.1.0.1", 53)
    assert not heard(INTRANET, "10.1.0.2", 434)
    assert not bed.ping(1)
    assert bed.counters()["vpn_fa_unregistered"] >= 3


def test_no_route_leads_to_its_home_address(bed: Bed) -> None:
    dataplane = bed.start(inner_networks=())
    dataplane.install_child_sa(child_sa(vpn_fa=True))
    assert dataplane.commit() == []
    assert "10.9.0.1" not in inside(GATEWAY, "ip", "route", "show", "table", "all")


def test_the_mark_of_the_foreign_agent_opens_the_way(bed: Bed) -> None:
    dataplane = bed.start(inner_networks=())
    sa = child_sa(vpn_fa=True)
    dataplane.install_child_sa(sa)
    dataplane.commit()
    bed.device_states(sa)
    rule = (
        "table ip marker { chain pre { type filter hook prerouting priority -310;"
        " iifname gw0 ip saddr 10.9.0.1 meta mark set 0x47570012; }; }"
    )
    inside(GATEWAY, "nft", rule)
    assert heard(INTRANET, "10.1.0.2", 53)


def test_a_rekeying_or_a_second_login_leaves_no_gap(bed: Bed) -> None:
    dataplane = bed.start(inner_networks=())
    first = child_sa(vpn_fa=True)
    second = child_sa(vpn_fa=True, spi_in=0x1002, spi_out=0x2002, reqid=2)
    dataplane.install_child_sa(first)
    dataplane.install_child_sa(second)
    dataplane.remove_child_sa(first.spi_in)
    assert dataplane.commit() == []
    guarded = inside(GATEWAY, "nft", "list", "set", "inet", "gateway", "vpn_fa")
    assert "10.9.0.1" in guarded
    dataplane.remove_child_sa(second.spi_in)
    assert dataplane.commit() == []
    guarded = inside(GATEWAY, "nft", "list", "set", "inet", "gateway", "vpn_fa")
    assert "10.9.0.1" not in guarded
