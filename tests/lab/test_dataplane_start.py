"""Starting, stopping, starting over, and what belongs to others."""

import errno
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from dataplane_bed import GATEWAY, POOL, Bed, child_sa, entered, inside

from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.probe import probe
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.domain.child_sa import TrafficSelector
from gateway.lab import planes

pytestmark = pytest.mark.kernel


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed() as made:
        yield made


def foreign_state() -> None:
    """What another IPsec daemon and an administrator have in the same namespace."""
    inside(GATEWAY, "ip", "xfrm", "state", "add", "src", "203.0.113.1", "dst", "203.0.113.2",
           "proto", "esp", "spi", "0x77", "reqid", "12", "mode", "tunnel", "aead",
           "rfc4106(gcm(aes))", "0x" + "07" * 20, "128")  # fmt: skip
    inside(GATEWAY, "ip", "xfrm", "policy", "add", "src", "172.16.0.0/16", "dst", "172.17.0.0/16",
           "dir", "out", "tmpl", "src", "203.0.113.1", "dst", "203.0.113.2", "proto", "esp",
           "reqid", "12", "mode", "tunnel")  # fmt: skip
    inside(GATEWAY, "ip", "xfrm", "policy", "add", "src", "172.18.0.0/16", "dst", "172.19.0.0/16",
           "dir", "in", "if_id", "99", "priority", "5", "tmpl", "proto", "esp", "mode",
           "tunnel")  # fmt: skip
    inside(
        GATEWAY,
        "nft",
        "add table inet firewall { chain c { type filter hook input priority 0; }; }",
    )
    inside(GATEWAY, "ip", "link", "add", "other0", "type", "xfrm", "if_id", "99")
    inside(GATEWAY, "ip", "route", "add", "172.30.0.0/16", "dev", "in1", "proto", "static")


def picture() -> str:
    """Everything in the gateway's namespace that we could have touched, without counters."""
    return "\n".join(
        inside(GATEWAY, *command.split())
        for command in (
            "ip xfrm state", "ip xfrm policy", "nft list ruleset", "ip route", "ip -br link",
        )
    )  # fmt: skip


@pytest.mark.kernel_dataplane("foreign XFRM states and devices, beside ours")
def test_closing_leaves_what_was_there_before(bed: Bed) -> None:
    foreign_state()
    before = picture()
    dataplane = bed.start()
    dataplane.install_child_sa(child_sa(follow_endpoint=True))
    assert dataplane.commit() == []
    assert picture() != before
    with entered(GATEWAY):
        dataplane.close()
    assert picture() == before


@pytest.mark.kernel_dataplane("XFRM states of a crash, beside foreign ones")
def test_a_start_clears_what_a_crash_has_left_and_nothing_else(bed: Bed) -> None:
    foreign_state()
    before = picture()
    crashed = bed.start()
    for number in range(3):
        crashed.install_child_sa(
            child_sa(spi_in=0x1001 + number, spi_out=0x2001 + number, reqid=number + 1)
        )
    assert crashed.commit() == []
    # A crash closes the sockets and nothing else.
    foundation = crashed._foundation
    for part in (
        crashed._slow_path,
        crashed._events,
        crashed._ways,
        foundation.sets,
        foundation.xfrm,
        foundation._links,
    ):
        part.close()
    after = bed.start()
    assert after.leftovers.states == 6
    assert after.leftovers.policies == 5
    assert after.leftovers.interface
    after.install_child_sa(child_sa())
    assert after.commit() == []
    bed.device_states(child_sa())
    assert bed.ping()
    with entered(GATEWAY):
        after.close()
    bed.dataplane = None
    assert picture() == before


def test_an_interface_of_the_same_name_that_is_not_ours_is_left_alone(bed: Bed) -> None:
    inside(GATEWAY, "ip", "link", "add", "gw0", "type", "dummy")
    before = picture()
    with pytest.raises(DataplaneUnavailableError, match="gw0 exists and is not ours"):
        bed.start()
    bed.dataplane = None
    assert picture() == before


@pytest.mark.kernel_dataplane("the packet queue of the kernel")
def test_a_queue_in_use_is_one_clear_message_and_leaves_nothing(bed: Bed) -> None:
    from gateway.dataplane.kernel.nfqueue import Queue

    before = picture()
    with entered(GATEWAY):
        taken = Queue(4757, 16)
    with pytest.raises(DataplaneUnavailableError, match="nft queue 4757"):
        bed.start()
    taken.close()
    bed.dataplane = None
    assert picture() == before


@pytest.mark.kernel_dataplane("what the kernel dataplane needs")
def test_the_probe_finds_everything_here_and_touches_nothing() -> None:
    found = {capability.name: capability for capability in probe()}
    missing = {name: line.detail for name, line in found.items() if not line.ok}
    assert missing == {}
    assert "xfrm-interface" in found


@pytest.mark.kernel_dataplane("the hash of XFRM policies")
def test_policies_are_hashed_by_single_inner_addresses(bed: Bed) -> None:
    bed.start()
    counts = inside(GATEWAY, "ip", "-s", "-s", "xfrm", "policy", "count")
    assert "IPv4 thresholds: local 0 remote 32" in counts
    assert "IPv6 thresholds: local 0 remote 128" in counts


def test_without_privileges_the_message_says_what_to_do(bed: Bed) -> None:
    del bed
    import os

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            planes.dataplane(KernelSettings()).start()
        except DataplaneUnavailableError as error:
            os.write(writer, f"{error.errno} {error.strerror}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    answer = os.read(reader, 4096).decode()
    os.close(reader)
    assert answer.startswith(f"{errno.EPERM} ")
    assert "CAP_NET_ADMIN" in answer


def test_another_route_to_a_pool_is_refused_and_stays(bed: Bed) -> None:
    inside(GATEWAY, "ip", "route", "add", POOL, "dev", "in1", "proto", "static")
    before = picture()
    with pytest.raises(DataplaneUnavailableError) as refused:
        bed.start()
    assert refused.value.errno == errno.EEXIST
    assert f"another route to {POOL} is there" in str(refused.value)
    assert picture() == before


def test_another_route_to_a_peers_network_is_refused_and_stays(bed: Bed) -> None:
    dataplane = bed.start()
    inside(GATEWAY, "ip", "route", "add", "10.20.0.0/24", "dev", "in1", "proto", "static")
    before = picture()
    behind = (TrafficSelector.of_network(ip_network("10.20.0.0/24")),)
    dataplane.install_child_sa(child_sa(remote_ts=behind))
    (refusal,) = dataplane.commit()
    assert "another route to 10.20.0.0/24 is there" in refusal.reason
    assert picture() == before
