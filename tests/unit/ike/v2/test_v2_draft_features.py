"""The drafts' negotiation in IKEv2 (draft 001, appendices B.1-B.3, B.7, C.1, C.2, C.5)."""

from dataclasses import replace
from hashlib import md5
from ipaddress import IPv4Address, ip_network

import pytest
from harness_v2 import (
    Network,
    assert_consistent,
    connect,
    connected,
    device_policy,
    gateway_policy,
    network_selector,
    pair,
    sa_of,
    site_policies,
)

from gateway.domain.child_sa import TrafficSelector
from gateway.ike.auth.identity import Identity
from gateway.ike.draft_features import VID_ENDPOINT_UPDATE, VID_VPN_FA
from gateway.ike.policy import Feature, Lifetimes
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag

ADVERTISEMENT = AgentAdvertisement(
    1, 600, AgentFlag.FOREIGN_AGENT, (IPv4Address("10.1.0.1"),)
).serialize()
OFF, ALLOWED, REQUIRED = Feature.OFF, Feature.ALLOWED, Feature.REQUIRED
NETWORKS = {"local_ts": (network_selector("10.1.0.0/16"),), "fa_advertisement": ADVERTISEMENT}


def features(network: Network) -> list[tuple[bool, bool]]:
    """(endpoint update, VPN/FA) of the child SA, gateway's first."""
    found = []
    for host in (network.gateway, network.device):
        (child,) = host.engine.child_sas(network.now)
        found.append((child.endpoint_update, child.vpn_fa))
    return found


def reasons(network: Network) -> str:
    return "\n".join(
        event.text
        for host in network.hosts.values()
        for event in host.events
        if event.name == "handshake_failed"
    )


def test_vendor_ids_are_the_hashes_of_the_names() -> None:
    name = b"draft-ietf-mobileip-vpn-problem-solution-01 "
    assert md5(name + b"FA in VPN device").digest() == VID_VPN_FA
    assert md5(name + b"IPsec SA endpoint update").digest() == VID_ENDPOINT_UPDATE


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (ALLOWED, ALLOWED, True),
        (REQUIRED, ALLOWED, True),
        (ALLOWED, REQUIRED, True),
        (OFF, ALLOWED, False),
        (ALLOWED, OFF, False),
        (OFF, OFF, False),
    ],
)
def test_endpoint_update_by_policy(ours: Feature, theirs: Feature, agreed: bool) -> None:
    network = connected(gateway_policy(endpoint_update=ours), device_policy(endpoint_update=theirs))
    assert features(network) == [(agreed, False)] * 2
    assert sa_of(network.gateway).peer_knows_endpoint_update is agreed
    assert_consistent(network)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(REQUIRED, OFF), (OFF, REQUIRED)], ids=["gateway", "device"]
)
@pytest.mark.parametrize("key", ["endpoint_update", "vpn_fa"])
def test_required_without_a_peer_that_agrees(ours: Feature, theirs: Feature, key: str) -> None:
    network = connect(
        pair(gateway_policy(**{key: ours}, **NETWORKS), device_policy(**{key: theirs}))
    )
    network.pass_time(60)
    assert not network.gateway.sas
    assert not network.device.sas
    assert "requires" in reasons(network)
    assert f"set {key} of" in reasons(network)


def test_known_in_phase_1_and_refused_beside_the_sa() -> None:
    """Another connection of the gateway knows it; the peer's own has it off: a plain SA."""
    network = pair(gateway_policy(endpoint_update=OFF))
    knows = gateway_policy(name="other", endpoint_update=ALLOWED)
    network.gateway.engine.reconfigure([gateway_policy(endpoint_update=OFF), knows], network.now)
    connect(network)
    assert sa_of(network.device).peer_knows_endpoint_update
    assert features(network) == [(False, False)] * 2


def test_vpn_fa_with_its_advertisement() -> None:
    network = connected(gateway_policy(vpn_fa=ALLOWED, **NETWORKS), device_policy(vpn_fa=ALLOWED))
    assert features(network) == [(True, True)] * 2
    assert sa_of(network.device).fa_advertisement == ADVERTISEMENT
    assert sa_of(network.gateway).fa_advertisement == b""


def test_no_advertisement_for_a_peer_that_does_not_know_it() -> None:
    network = connected(gateway_policy(vpn_fa=ALLOWED, **NETWORKS))
    assert features(network) == [(True, False)] * 2
    assert sa_of(network.device).fa_advertisement == b""


@pytest.mark.parametrize(
    "selector",
    [
        TrafficSelector.of_network(ip_network("10.2.0.0/24")),
        TrafficSelector(IPv4Address("10.2.0.1"), IPv4Address("10.2.0.1"), 17),
        TrafficSelector(IPv4Address("10.2.0.1"), IPv4Address("10.2.0.1"), 6, 80, 80),
    ],
    ids=["network", "protocol", "port"],
)
def test_vpn_fa_wants_one_address_and_any_protocol(selector: TrafficSelector) -> None:
    gateway, device = site_policies(vpn_fa=ALLOWED, fa_advertisement=ADVERTISEMENT)
    network = connected(gateway, replace(device, local_ts=(selector,)))
    assert features(network) == [(True, False)] * 2
    required = connect(
        pair(replace(gateway, vpn_fa=REQUIRED), replace(device, local_ts=(selector,)))
    )
    required.pass_time(60)
    assert not required.gateway.sas


@pytest.mark.parametrize("who", ["device", "gateway"])
def test_rekeying_keeps_what_was_agreed(who: str) -> None:
    sooner = {"lifetimes": Lifetimes(child_rekey_s=60, jitter=0.0)}
    network = connected(
        gateway_policy(vpn_fa=ALLOWED, **NETWORKS, **(sooner if who == "gateway" else {})),
        device_policy(vpn_fa=ALLOWED, **(sooner if who == "device" else {})),
    )
    before = set(network.gateway.sas)
    network.pass_time(80)
    assert set(network.gateway.sas).isdisjoint(before)
    assert features(network) == [(True, True)] * 2


def test_plain_peer_is_followed_by_policy_only() -> None:
    off = {"endpoint_update": OFF}
    for follow in (True, False):
        network = connected(gateway_policy(follow_plain_peers=follow), device_policy(**off))
        (sa,) = network.gateway.sas.values()
        assert sa.follow_endpoint is follow
    agreed = connected(gateway_policy(follow_plain_peers=False))
    (sa,) = agreed.gateway.sas.values()
    assert sa.follow_endpoint


def test_shown_in_snapshots_and_log() -> None:
    network = connected(gateway_policy(vpn_fa=ALLOWED, **NETWORKS), device_policy(vpn_fa=ALLOWED))
    (sa,) = network.gateway.engine.ike_sas(network.now)
    assert (sa.peer_knows_endpoint_update, sa.peer_knows_vpn_fa) == (True, True)
    (event,) = network.gateway.named("ike_sa_established")
    assert event.fields["features"] == "endpoint update, VPN/FA"


def test_nobody_takes_the_home_address_that_another_identity_holds() -> None:
    gateway, device = site_policies(vpn_fa=ALLOWED, fa_advertisement=ADVERTISEMENT)
    home = TrafficSelector.of_address(IPv4Address("10.2.0.1"))
    network = pair(gateway, replace(device, local_ts=(home,)))
    homes = network.gateway.engine._core.home_addresses
    homes.take((home,), Identity.parse("mallory@example.com"))
    connect(network)
    assert not network.gateway.sas
    assert "mallory@example.com holds the home address 10.2.0.1" in reasons(network)
    homes.release((home,))
    network = connected(gateway, replace(device, local_ts=(home,)))
    homes = network.gateway.engine._core.home_addresses
    mallory = Identity.parse("mallory@example.com")
    assert homes.other_holder((home,), mallory) is not None
    network.gateway.engine.close_all(network.now)
    network.run()
    assert homes.other_holder((home,), mallory) is None
