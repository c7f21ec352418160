"""Who is in: grants, zones and inner addresses of both IP versions, in every turn of a session."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from harness_v2 import (
    DEVICE,
    Network,
    assert_consistent,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    network_selector,
    pair,
    sa_of,
    site_policies,
)

from gateway.domain.child_sa import ANY_IPV4, ANY_IPV6, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.domain.pools import AddressPool
from gateway.domain.remote_access import LAST_ZONE, NOWHERE, Grant, Presence
from gateway.ike.access import Zones, ZonesExhausted, wanted_name
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.outputs import AccessEnded, AccessGranted, InstallChildSa, RemoveChildSa
from gateway.ike.policy import Lifetimes

BOTH_LANS = (network_selector("10.1.0.0/16"), network_selector("2001:db8:1::/48"))
SHORT = Lifetimes(ike_rekey_s=100, ike_over_s=40, jitter=0)
OWN = Endpoint(ip_address("10.0.0.7"), 500)
OUTSIDE = Endpoint(ip_address("198.51.100.99"), 40000)


def pools(*, six: str = "fd00:9::/64") -> dict[str, AddressPool]:
    return {
        "road": AddressPool("road", ip_network("10.9.0.0/24")),
        "six": AddressPool("six", ip_network(six)),
    }


def dual(**changes: object) -> Network:
    gateway = gateway_policy(pool6="six", local_ts=BOTH_LANS, **changes)
    return connected(gateway, device_policy(), pools=pools())


def napt(**changes: object) -> object:
    return gateway_policy(pool=None, presence=Presence.NAPT, subnets=(), **changes)


def keeps(**changes: object) -> object:
    """A device that keeps its own address in the tunnel."""
    return device_policy(request_inner_address=False, **changes)


def behind_nat(gateway: object, device: object) -> Network:
    network = pair(gateway, replace(device, local=OWN))
    network.where[OWN.address] = "device"
    network.nat = {
        OWN: OUTSIDE,
        replace(OWN, port=4500): replace(OUTSIDE, port=40001),
    }
    return connect(network)


def turns(host: object) -> list[object]:
    kinds = (AccessGranted, AccessEnded, InstallChildSa, RemoveChildSa)
    return [type(one) for one in host.log if isinstance(one, kinds)]


# -- grants -----------------------------------------------------------------------------------


def test_who_has_a_key_of_its_own_has_proven_who_it_is() -> None:
    exact = IdentityPattern.parse("ada@example.com")
    network = connected(gateway=gateway_policy(remote_id=exact))
    (grant,) = network.gateway.grants.values()
    assert grant.proven


def test_a_session_is_granted_before_its_first_child_sa_and_ends_after_the_last() -> None:
    network = connected()
    (grant,) = network.gateway.grants.values()
    assert grant == Grant(
        session=established(network.gateway)[0].session,
        peer="ada@example.com",
        connection="road",
        addresses=(ip_address("10.9.0.1"),),
        wanted_name="ada",
        proven=False,  # anybody with the key of *@example.com can say that it is ada
    )
    assert turns(network.gateway) == [AccessGranted, InstallChildSa]
    network.device.engine.close_all(network.now)
    network.run()
    assert turns(network.gateway)[2:] == [RemoveChildSa, AccessEnded]
    assert not network.gateway.grants
    assert not network.device.grants


def test_rekeying_and_moving_change_nothing_of_a_grant() -> None:
    network = connected(gateway_policy(lifetimes=SHORT))
    before = dict(network.gateway.grants)
    network.pass_time(1000)
    assert network.gateway.engine.counters["ike_sas_rekeyed"]
    assert network.gateway.grants == before
    assert turns(network.gateway).count(AccessGranted) == 1
    assert AccessEnded not in turns(network.gateway)


def test_a_new_login_takes_the_address_and_the_former_grant_ends_first() -> None:
    network = connected(gateway_policy(), device_policy(reauthenticate=True, lifetimes=SHORT))
    (before,) = network.gateway.grants.values()
    network.pass_time(110)
    (after,) = network.gateway.grants.values()
    assert after == replace(before, session=after.session)
    assert after.session != before.session
    assert turns(network.gateway)[:4] == [AccessGranted, InstallChildSa, AccessEnded, AccessGranted]


def test_a_peer_with_networks_of_its_own_has_no_address() -> None:
    network = connected(*site_policies())
    (grant,) = network.gateway.grants.values()
    assert (grant.addresses, grant.zone, grant.presence) == ((), 0, Presence.ADDRESS)


def test_a_refused_child_sa_is_no_grant_and_leaks_no_lease() -> None:
    policy = gateway_policy(local_ts=(network_selector("10.1.0.0/16"),))
    network = connect(pair(policy, device_policy(remote_ts=(network_selector("172.16.0.0/12"),))))
    assert not network.gateway.grants
    assert network.gateway.engine._core.pools["road"].in_use == 0


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("laptop.example.com", "laptop"),
        ("Ada@example.com", "ada"),
        ("CN=Printer7.example.com, O=Example", "printer7"),
        ("O=Example", ""),
        ("192.0.2.1", ""),
        ("keyid:0xff00", ""),
        ("fqdn:-x.example.com", ""),
        ("a_b@example.com", ""),
        ("fqdn:" + "x" * 64 + ".example.com", ""),
    ],
)
def test_the_wanted_name_is_a_label_or_nothing(identity: str, name: str) -> None:
    assert wanted_name(Identity.parse(identity)) == name


def test_a_changed_pool_takes_the_address_out_of_the_grant_before_the_session_ends() -> None:
    network = connected()
    engine = network.gateway.engine
    network.impair = lambda datagram: []
    other = {"road": AddressPool("road", ip_network("10.10.0.0/24"))}
    engine.reconfigure([gateway_policy()], network.now, other)
    network.run()
    (grant,) = network.gateway.grants.values()
    assert grant.addresses == ()
    network.pass_time(600)
    assert not network.gateway.grants


def test_an_address_that_became_somebody_else_s_ends_the_session() -> None:
    network = connected()
    engine = network.gateway.engine
    taken = {"bob@example.com": ip_address("10.9.0.1")}
    pool = AddressPool("road", ip_network("10.9.0.0/24"), static=taken)
    assert [peer for _, peer in engine.ended_by([gateway_policy()], {"road": pool})] == [
        "ada@example.com"
    ]
    engine.reconfigure([gateway_policy()], network.now, {"road": pool})
    network.run()
    assert not network.gateway.grants
    connect(network)
    assert sa_of(network.gateway).inner_address == ip_address("10.9.0.2")


def test_the_gateway_of_this_project_tells_the_mtu_of_its_tunnel() -> None:
    network = connected(gateway_policy(tunnel_mtu=1400))
    assert sa_of(network.device).assigned.mtu == 1400
    network = connected(gateway_policy(tunnel_mtu=9000))
    assert 1400 < sa_of(network.device).assigned.mtu < 1500
    assert sa_of(connected().device).assigned.mtu is None


# -- both IP versions -------------------------------------------------------------------------


def test_a_device_that_asks_for_both_gets_both() -> None:
    network = dual()
    both = (ip_address("10.9.0.1"), ip_address("fd00:9::1"))
    assert sa_of(network.gateway).inner_addresses == both
    assert sa_of(network.device).inner_addresses == both
    (grant,) = network.gateway.grants.values()
    assert grant.addresses == both
    (child,) = network.gateway.sas.values()
    assert child.remote_ts == tuple(map(TrafficSelector.of_address, both))
    assert child.local_ts == BOTH_LANS
    assert_consistent(network)


def test_both_live_through_rekeying_a_new_login_and_a_delete() -> None:
    gateway = gateway_policy(pool6="six", local_ts=BOTH_LANS)
    device = device_policy(reauthenticate=True, lifetimes=SHORT)
    network = connected(gateway, device, pools=pools())
    both = sa_of(network.gateway).inner_addresses
    network.pass_time(250)
    network.gateway.engine.rekey(established(network.gateway)[0].spis, network.now)
    network.run()
    network.pass_time(45)
    assert sa_of(network.gateway).inner_addresses == both
    held = network.gateway.engine._core.pools
    assert [held[name].in_use for name in ("road", "six")] == [1, 1]
    network.gateway.engine.close_all(network.now)
    network.run()
    assert [held[name].in_use for name in ("road", "six")] == [0, 0]


def test_when_the_second_pool_is_exhausted_the_first_gets_its_lease_back() -> None:
    gateway = gateway_policy(pool6="six", local_ts=BOTH_LANS)
    full = pools(six="fd00:9::/128")
    full["six"].lease("somebody")
    network = connect(pair(gateway, device_policy(), pools=full))
    assert [full[name].in_use for name in ("road", "six")] == [0, 1]
    assert not network.gateway.sas
    assert network.gateway.named("handshake_failed")[0].fields["reason"].startswith("pool six")


def test_blocked_ipv6_is_caught_by_an_address_that_leads_nowhere() -> None:
    network = connected(gateway_policy(block_ipv6=True, local_ts=(ANY_IPV4,)))
    first, second = sa_of(network.gateway).inner_addresses
    assert first == ip_address("10.9.0.1")
    assert second in NOWHERE
    (child,) = network.gateway.sas.values()
    assert child.local_ts == (ANY_IPV4, ANY_IPV6)
    assert child.remote_ts == tuple(map(TrafficSelector.of_address, (first, second)))
    (grant,) = network.gateway.grants.values()
    assert grant.addresses == (first,)
    assert ip_network("::/0") in sa_of(network.device).assigned.subnets
    network.pass_time(4000)
    assert_consistent(network)


def test_each_blocked_device_has_another_address() -> None:
    found = set()
    for _ in range(20):
        network = connected(gateway_policy(block_ipv6=True))
        found.add(sa_of(network.gateway).inner_addresses[1])
    assert len(found) == 20


# -- NAPT -------------------------------------------------------------------------------------


def test_a_device_keeps_its_address() -> None:
    network = connected(napt(), keeps())
    (grant,) = network.gateway.grants.values()
    assert grant.addresses == (DEVICE.address,)
    assert (grant.presence, grant.zone) == (Presence.NAPT, 1)
    (child,) = network.gateway.sas.values()
    assert child.remote_ts == (TrafficSelector.of_address(DEVICE.address),)
    assert child.zone == 1
    assert_consistent(network)


def test_behind_a_nat_it_is_the_private_address() -> None:
    network = behind_nat(napt(), keeps())
    (grant,) = network.gateway.grants.values()
    assert grant.addresses == (OWN.address,)
    (child,) = network.gateway.sas.values()
    assert child.remote_ts == (TrafficSelector.of_address(OWN.address),)


def test_behind_a_nat_a_range_says_nothing() -> None:
    network = behind_nat(napt(), keeps(local_ts=(ANY_IPV4,)))
    assert not network.gateway.grants
    (refused,) = network.gateway.named("handshake_failed")
    assert "no single address of its own" in refused.text
    assert not network.gateway.engine._core.zones._taken


def test_without_a_nat_a_range_is_narrowed_to_where_the_device_is() -> None:
    network = connected(napt(), keeps(local_ts=(ANY_IPV4,)))
    (grant,) = network.gateway.grants.values()
    assert grant.addresses == (DEVICE.address,)


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "169.254.1.1"]
)
def test_what_cannot_be_a_device_s_address_is_refused(address: str) -> None:
    own = (TrafficSelector.of_address(ip_address(address)),)
    network = connect(pair(napt(), keeps(local_ts=own)))
    assert not network.gateway.sas
    assert not network.gateway.grants


def test_policy_may_name_the_networks_that_devices_are_in() -> None:
    bound = {"remote_ts": (network_selector("203.0.113.0/24"),)}
    assert not connect(pair(napt(**bound), keeps())).gateway.sas
    bound = {"remote_ts": (network_selector("198.51.100.0/24"),)}
    assert connected(napt(**bound), keeps()).gateway.sas


def test_another_address_is_not_to_be_had_beside_the_own_one() -> None:
    network = connected(napt(), keeps())
    sa = sa_of(network.device)
    other = (TrafficSelector.of_address(ip_address("198.51.100.8")),)
    sa.connection = replace(sa.connection, local_ts=other)
    from gateway.ike.v2 import rekey

    rekey.create(network.device.engine._core, sa, network.now)
    network.run()
    assert len(network.gateway.sas) == 1
    assert next(iter(network.gateway.grants.values())).addresses == (DEVICE.address,)


@pytest.mark.parametrize("natted", [False, True])
def test_a_device_that_moved_tells_its_new_address(natted: bool) -> None:
    """Nothing in MOBIKE changes selectors; without this its packets would be dropped."""
    network = behind_nat(napt(), keeps()) if natted else connected(napt(), keeps())
    elsewhere = Endpoint(ip_address("203.0.113.77"), 4500)
    network.where[elsewhere.address] = "device"
    sa = sa_of(network.device)
    network.device.engine.local_address_changed(sa.local_spi, elsewhere, network.now)
    network.run()
    assert sa_of(network.gateway).path.remote == elsewhere
    network.pass_time(10)
    (grant,) = network.gateway.grants.values()
    assert (grant.addresses, grant.zone) == ((elsewhere.address,), 1)
    (child,) = network.gateway.sas.values()
    assert child.remote_ts == (TrafficSelector.of_address(elsewhere.address),)
    assert child.zone == 1
    assert_consistent(network)
    network.pass_time(8000)
    assert_consistent(network)
    assert network.gateway.grants == {grant.session: grant}


def test_when_the_gateway_rekeys_the_device_may_keep_its_address() -> None:
    network = connected(napt(lifetimes=Lifetimes(child_rekey_s=100, jitter=0)), keeps())
    (before,) = network.gateway.sas.values()
    network.pass_time(150)
    (after,) = network.gateway.sas.values()
    assert after.spi_in != before.spi_in
    assert (after.remote_ts, after.reqid) == (before.remote_ts, before.reqid)
    assert turns(network.gateway).count(AccessGranted) == 1


def test_the_zone_lives_through_rekeying_and_is_free_in_the_end() -> None:
    network = connected(napt(lifetimes=SHORT), keeps())
    network.pass_time(1000)
    assert {child.zone for child in network.gateway.sas.values()} == {1}
    assert network.gateway.engine._core.zones._taken == {1}
    network.device.engine.close_all(network.now)
    network.run()
    assert not network.gateway.engine._core.zones._taken


def test_a_new_login_keeps_the_zone() -> None:
    network = connected(napt(), keeps(reauthenticate=True, lifetimes=SHORT))
    network.pass_time(110)
    assert turns(network.gateway).count(AccessEnded) == 1
    (grant,) = network.gateway.grants.values()
    assert grant.zone == 1
    network.device.engine.close_all(network.now)
    network.run()
    assert not network.gateway.engine._core.zones._taken


def test_with_a_pool_whoever_asks_gets_an_address_and_is_behind_napt_too() -> None:
    gateway = gateway_policy(presence=Presence.NAPT)
    for device, address in ((device_policy(), "10.9.0.1"), (keeps(), "198.51.100.7")):
        (grant,) = connected(gateway, device).gateway.grants.values()
        assert grant.addresses == (ip_address(address),)
        assert grant.zone == 1


def test_zones_come_again_late() -> None:
    zones = Zones()
    assert [zones.take(), zones.take()] == [1, 2]
    zones.release(1)
    assert zones.take() == 3
    assert zones.claim(1)
    assert not zones.claim(1)
    for _ in range(LAST_ZONE - 3):
        zones.take()
    with pytest.raises(ZonesExhausted):
        zones.take()
    zones.release(7)
    assert zones.take() == 7


def test_a_pool_that_grows_ends_no_session() -> None:
    network = connected()
    engine = network.gateway.engine
    before = dict(network.gateway.grants)
    larger = {"road": AddressPool("road", ip_network("10.9.0.0/16"))}
    assert not engine.ended_by([gateway_policy()], larger)
    engine.reconfigure([gateway_policy()], network.now, larger)
    network.run()
    assert network.gateway.grants == before
    assert engine.pools["road"].holder(ip_address("10.9.0.1")) == "ada@example.com"
    network.pass_time(60)
    engine.close_all(network.now)
    network.run()
    assert engine.pools["road"].in_use == 0
