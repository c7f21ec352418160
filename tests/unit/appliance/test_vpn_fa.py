"""Which home addresses have an SA, as the foreign agent inside the VPN gateway hears of it."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from gateway.appliance.vpn_fa import VpnFaSessions
from gateway.domain.child_sa import (
    ANY_IPV4,
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

HOME = IPv4Address("10.60.0.5")
SA = ChildSa(
    spi_in=1,
    spi_out=2,
    reqid=1,
    suite=EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False),
    keys_in=EspKeys(b""),
    keys_out=EspKeys(b""),
    local=Endpoint(IPv4Address("192.0.2.1"), 500),
    remote=Endpoint(IPv4Address("198.51.100.1"), 500),
    udp_encapsulation=False,
    local_ts=(ANY_IPV4,),
    remote_ts=(TrafficSelector.of_address(HOME),),
    vpn_fa=True,
)


class Agent:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, IPv4Address]] = []

    def session_up(self, home_address: IPv4Address, now: float, peer: str) -> None:
        assert peer == "ada"
        self.heard.append(("up", home_address))

    def session_down(self, home_address: IPv4Address, now: float) -> None:
        self.heard.append(("down", home_address))


class Bed:
    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.sessions = VpnFaSessions(lambda: 0.0, self.soon.append)
        self.agent = Agent()
        self.sessions.listen(self.agent, self.flush)
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1

    def run_soon(self) -> None:
        waiting, self.soon[:] = list(self.soon), []
        for one in waiting:
            one()


def test_a_rekeyed_sa_is_no_absence() -> None:
    bed = Bed()
    bed.sessions.child_installed(SA, "ada")
    bed.sessions.child_installed(replace(SA, spi_in=3), "ada")
    bed.sessions.child_removed(1)
    assert bed.agent.heard == [("up", HOME)]
    bed.sessions.child_removed(3)
    assert bed.agent.heard == [("up", HOME), ("down", HOME)]


def test_what_changed_is_carried_out_after_the_sa_itself() -> None:
    bed = Bed()
    bed.sessions.child_installed(SA, "ada")
    assert not bed.flushed
    bed.run_soon()
    assert bed.flushed == 1


def test_an_agent_that_comes_later_hears_what_is_up() -> None:
    bed = Bed()
    bed.sessions.child_installed(SA, "ada")
    later = Agent()
    bed.sessions.listen(later)
    assert later.heard == [("up", HOME)]
    bed.sessions.child_removed(1)
    assert later.heard[-1] == ("down", HOME)
    bed.run_soon()


def test_plain_sas_networks_and_ipv6_do_not_count() -> None:
    bed = Bed()
    inner = TrafficSelector.of_address(IPv6Address("2001:db8::1"))
    for number, sa in enumerate(
        (
            replace(SA, vpn_fa=False),
            replace(SA, remote_ts=(SA.remote_ts[0], SA.remote_ts[0])),
            replace(SA, remote_ts=(inner,)),
        )
    ):
        bed.sessions.child_installed(replace(sa, spi_in=10 + number), "ada")
        bed.sessions.child_removed(10 + number)
    bed.sessions.child_removed(999)
    assert bed.agent.heard == []
