"""Mode configuration of IKEv1: both IP versions, Unity, devices that keep their own addresses."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from harness_v1 import device_v1, gateway_v1, only_sa, said, states
from harness_v2 import Host, Network, assert_consistent, connect, network_selector, pair
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.child_sa import ANY_IPV4, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.domain.pools import AddressPool
from gateway.domain.remote_access import NOWHERE, Presence
from gateway.domain.wire import Reader, WireError
from gateway.ike.policy import ConfigMode, ConnectionPolicy, Lifetimes
from gateway.ike.v1 import mode_config, quick_initiator
from gateway.ike.v1.codec import Attribute, Configuration
from gateway.ike.v1.codec.registry import CfgAttribute, CfgType
from gateway.ike.v1.quick import Wanted
from gateway.ike.v1.sa import State

LANS = (network_selector("10.1.0.0/16"), network_selector("2001:db8:1::/48"))
NETWORKS = (ip_network("10.1.0.0/16"), ip_network("2001:db8:1::/48"))
SHORT = Lifetimes(ike_rekey_s=100, ike_over_s=40, child_rekey_s=70, child_over_s=30, jitter=0)
OWN = Endpoint(ip_address("10.0.0.7"), 500)
OUTSIDE = Endpoint(ip_address("198.51.100.99"), 40000)


def pools(six: str = "fd00:9::/64") -> dict[str, AddressPool]:
    return {
        "road": AddressPool("road", ip_network("10.9.0.0/24")),
        "six": AddressPool("six", ip_network(six)),
    }


def dual(mode: ConfigMode = ConfigMode.PULL, **changes: object) -> Network:
    gateway = gateway_v1(
        pool6="six",
        local_ts=LANS,
        subnets=NETWORKS,
        dns=(ip_address("10.1.0.53"), ip_address("2001:db8:1::53")),
        v1_config_mode=mode,
        **changes,
    )
    network = connect(pair(gateway, device_v1(v1_config_mode=mode), pools=pools()))
    assert states(network.gateway) == [State.ESTABLISHED], said(network)
    return network


def selectors(host: Host) -> set[tuple[str, str]]:
    return {(str(sa.local_ts[0]), str(sa.remote_ts[0])) for sa in host.sas.values()}


# -- both IP versions -----------------------------------------------------------------------


def test_a_device_gets_an_address_of_each_ip_version() -> None:
    network = dual()
    assert selectors(network.gateway) == {
        ("10.1.0.0/16", "10.9.0.1/32"),
        ("2001:db8:1::/48", "fd00:9::1/128"),
    }
    assert_consistent(network)
    (grant,) = network.gateway.grants.values()
    assert grant.addresses == (ip_address("10.9.0.1"), ip_address("fd00:9::1"))
    assigned = only_sa(network.device).assigned
    assert assigned.dns == (ip_address("10.1.0.53"), ip_address("2001:db8:1::53"))
    assert assigned.subnets == NETWORKS
    assert assigned.domains == ("example.com",)


def test_a_device_whose_configuration_is_pushed_gets_both_too() -> None:
    network = dual(ConfigMode.PUSH)
    addresses = only_sa(network.device).inner_addresses
    assert addresses == (ip_address("10.9.0.1"), ip_address("fd00:9::1"))


def test_both_addresses_stay_when_phase_1_is_renewed() -> None:
    network = dual(lifetimes=SHORT)
    before = selectors(network.gateway)
    network.pass_time(1000)
    assert selectors(network.gateway) == before
    assert len(network.gateway.grants) == 1
    held = network.gateway.engine._core.pools
    assert [held[name].in_use for name in ("road", "six")] == [1, 1]


def test_a_pool_of_one_ip_version_serves_a_device_that_asks_for_both() -> None:
    network = connect(pair(gateway_v1(), device_v1()))
    assert only_sa(network.device).inner_addresses == (ip_address("10.9.0.1"),)
    assert len(network.gateway.sas) == 1


def test_ipv6_that_is_blocked_leads_nowhere() -> None:
    gateway = gateway_v1(block_ipv6=True, local_ts=(ANY_IPV4,), subnets=())
    network = connect(pair(gateway, device_v1()))
    four, six = only_sa(network.device).inner_addresses
    assert four == ip_address("10.9.0.1")
    assert six in NOWHERE
    assert ("::/0", f"{six}/128") in selectors(network.gateway), said(network)
    (grant,) = network.gateway.grants.values()
    assert grant.addresses == (four,)


# -- what is read ---------------------------------------------------------------------------


def reply(*attributes: tuple[int, bytes]) -> Configuration:
    return Configuration(CfgType.REPLY, tuple(Attribute(*one) for one in attributes))


@pytest.mark.parametrize(
    "value",
    [ip_address("fd00::1").packed, ip_address("fd00::1").packed + b"\x40"],
)
def test_ipv6_addresses_come_with_and_without_the_length_of_a_prefix(value: bytes) -> None:
    assert mode_config.read(reply((8, value))).address6 == ip_address("fd00::1")


def test_networks_of_unity_and_of_plain_mode_configuration_are_one_list() -> None:
    ten = bytes.fromhex("0a010000ffff0000")
    found = mode_config.read(
        reply(
            (13, ten),
            (CfgAttribute.UNITY_SPLIT_INCLUDE, ten + bytes(6) + bytes.fromhex("0a02") + bytes(12)),
            (15, ip_address("2001:db8::").packed + b"\x20"),
            (15, bytes(16) + b"\x81"),
        )
    )
    assert found.subnets == (
        ip_network("10.1.0.0/16"),
        ip_network("0.0.0.0/0"),
        ip_network("2001:db8::/32"),
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, 3, 8, 10, 13, 15, 28674, 28675, 28676, 40000]),
            st.binary(max_size=64),
        ),
        max_size=40,
    )
)
def test_h20_no_configuration_makes_us_stumble(attributes: list[tuple[int, bytes]]) -> None:
    body = reply(*attributes).body()
    try:
        told = Configuration.parse(Reader(body))
    except WireError:
        return
    found = mode_config.read(told)
    assert len(found.dns) <= mode_config.MAX_ITEMS
    assert len(found.subnets) <= mode_config.MAX_ITEMS
    assert len(found.domains) <= mode_config.MAX_ITEMS


# -- Unity ----------------------------------------------------------------------------------


def given_to(network: Network, *types: int) -> dict[int, list[bytes]]:
    """What the gateway answers to a device that asks for these, by type."""
    sa = only_sa(network.gateway)
    found: dict[int, list[bytes]] = {}
    for one in mode_config._of_policy(sa, sa.connection, set(types)):
        found.setdefault(one.type, []).append(one.octets)
    return found


UNITY = (28674, 28675, 28676)


def test_clients_that_know_unity_hear_of_split_networks_and_names() -> None:
    domains = ("example.com", "corp.example.org")
    network = connect(pair(gateway_v1(dns_domains=domains, subnets=(NETWORKS[0],)), device_v1()))
    assert only_sa(network.gateway).peer.unity
    assert given_to(network, *UNITY) == {
        CfgAttribute.UNITY_DEF_DOMAIN: [b"example.com"],
        CfgAttribute.UNITY_SPLITDNS_NAME: [b"example.com,corp.example.org"],
        CfgAttribute.UNITY_SPLIT_INCLUDE: [bytes.fromhex("0a010000ffff0000") + bytes(6)],
    }
    only_sa(network.gateway).peer.unity = False
    assert not given_to(network, *UNITY)


def test_with_everything_in_the_tunnel_every_name_is_asked_inside() -> None:
    network = connect(pair(gateway_v1(subnets=(), local_ts=(ANY_IPV4,)), device_v1()))
    assert given_to(network, *UNITY) == {CfgAttribute.UNITY_DEF_DOMAIN: [b"example.com"]}


TWO = (network_selector("10.1.0.0/16"), network_selector("10.3.0.0/24"))


def everything(**changes: object) -> Network:
    """A client as Cisco's: it names 0.0.0.0/0, whatever it will send."""
    gateway = gateway_v1(
        local_ts=TWO, subnets=(ip_network("10.1.0.0/16"), ip_network("10.3.0.0/24")), **changes
    )
    return connect(pair(gateway, device_v1(remote_ts=(ANY_IPV4,))))


def quick_mode(network: Network, host: Host, old: int | None = None) -> None:
    (child,) = only_sa(network.device).children.values()
    wanted = Wanted(child.local_ts[0], child.remote_ts[0], old=old)
    quick_initiator.begin(host.engine._core, only_sa(host), wanted, network.now)
    network.pass_time(10)


def test_a_client_with_unity_that_names_everything_gets_what_policy_allows() -> None:
    network = everything()
    (sa,) = network.gateway.sas.values()
    assert sa.local_ts == TWO, said(network)
    assert sa.remote_ts == (TrafficSelector.of_address(ip_address("10.9.0.1")),)
    (theirs,) = network.device.sas.values()
    assert theirs.remote_ts == (ANY_IPV4,)


def test_it_is_rekeyed_by_either_side() -> None:
    network = everything(lifetimes=Lifetimes(child_rekey_s=100, child_over_s=40, jitter=0))
    (first,) = network.gateway.sas.values()
    network.pass_time(130)
    (second,) = network.gateway.sas.values()
    assert (second.local_ts, second.reqid) == (TWO, first.reqid)
    assert second.spi_in != first.spi_in
    (spi_in,) = network.device.sas
    quick_mode(network, network.device, spi_in)
    network.pass_time(40)
    (third,) = network.gateway.sas.values()
    assert (third.local_ts, third.reqid) == (TWO, first.reqid)
    assert third.spi_in != second.spi_in


def test_h20_a_client_without_unity_that_names_everything_is_refused() -> None:
    network = everything()
    before = dict(network.gateway.sas)
    only_sa(network.gateway).peer.unity = False
    quick_mode(network, network.device)
    assert network.gateway.sas == before
    assert network.gateway.engine.counters["quick_modes_refused"] == 1


# -- devices that keep their own addresses ---------------------------------------------------


def napt(**changes: object) -> ConnectionPolicy:
    return gateway_v1(pool=None, presence=Presence.NAPT, subnets=(), **changes)


def keeps(**changes: object) -> ConnectionPolicy:
    return device_v1(
        request_inner_address=False, remote_ts=(network_selector("10.1.0.0/16"),), **changes
    )


def behind_nat() -> Network:
    network = pair(napt(), keeps(local=OWN))
    network.where[OWN.address] = "device"
    network.nat = {OWN: OUTSIDE, replace(OWN, port=4500): replace(OUTSIDE, port=40001)}
    return connect(network)


def test_a_device_keeps_its_private_address_behind_a_nat() -> None:
    network = behind_nat()
    assert states(network.gateway) == [State.ESTABLISHED], said(network)
    (sa,) = network.gateway.sas.values()
    assert sa.remote_ts == (TrafficSelector.of_address(OWN.address),)
    assert sa.zone
    (grant,) = network.gateway.grants.values()
    assert (grant.presence, grant.addresses, grant.zone) == (
        Presence.NAPT,
        (OWN.address,),
        sa.zone,
    )


def test_it_keeps_address_and_zone_through_rekeying() -> None:
    network = pair(napt(lifetimes=SHORT), keeps())
    connect(network)
    (before,) = network.gateway.grants.values()
    network.pass_time(1000)
    (after,) = network.gateway.grants.values()
    assert (after.addresses, after.zone) == (before.addresses, before.zone)
    assert {sa.zone for sa in network.gateway.sas.values()} == {before.zone}


@pytest.mark.parametrize("mine", ["0.0.0.0/0", "10.0.0.0/24", "127.0.0.1/32", "192.0.2.1/32"])
def test_h20_what_is_no_address_of_its_own_is_refused(mine: str) -> None:
    network = connect(pair(napt(), keeps(local_ts=(network_selector(mine),))))
    assert not network.gateway.sas
    assert not network.gateway.grants
    assert not network.gateway.engine.counters["internal_errors"]
