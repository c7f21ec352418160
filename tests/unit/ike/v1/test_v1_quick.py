"""Quick mode between two engines: selectors, PFS, lives, features, rekeying, limits."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from harness_v1 import device_v1, gateway_v1, only_sa, said
from harness_v2 import (
    Datagram,
    Host,
    Network,
    assert_consistent,
    connect,
    network_selector,
    pair,
)

from gateway.domain.child_sa import ANY_IPV4, TrafficSelector
from gateway.ike.auth.identity import Identity
from gateway.ike.core import TimerKind
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import ConnectionPolicy, Feature, Lifetimes
from gateway.ike.registry import DhGroup
from gateway.ike.sa import Child
from gateway.ike.v1.codec import ExchangeType

HERE = (network_selector("10.1.0.0/16"),)
THERE = (network_selector("10.2.0.0/16"),)
SHORT = Lifetimes(child_rekey_s=100, child_over_s=20, jitter=0.1)


def site(**changes: object) -> tuple[ConnectionPolicy, ConnectionPolicy]:
    """(gateway's, device's) of a tunnel between networks."""
    return (
        gateway_v1(pool=None, local_ts=HERE, remote_ts=THERE, **changes),
        device_v1(request_inner_address=False, local_ts=THERE, remote_ts=HERE, **changes),
    )


def up(ours: ConnectionPolicy, theirs: ConnectionPolicy) -> Network:
    network = connect(pair(ours, theirs))
    assert network.gateway.sas, said(network)
    assert network.device.sas, said(network)
    assert_well(network)
    return network


def assert_well(network: Network) -> None:
    assert_consistent(network)
    for host in network.hosts.values():
        assert host.engine.counters.get("internal_errors", 0) == 0, said(network)


def child_of(host: Host) -> Child:
    """The host's newest child SA that sends."""
    children = [one for one in only_sa(host).children.values() if one.outbound_active]
    return children[-1]


def failures(host: Host) -> list[str]:
    return [event.text for event in host.named("handshake_failed")]


def quick_messages(network: Network) -> list[Datagram]:
    return [one for one in network.sent if one.message[18] == ExchangeType.QUICK]


# -- what is negotiated ---------------------------------------------------------------------


def test_networks() -> None:
    network = up(*site())
    ours = child_of(network.gateway)
    assert (ours.local_ts, ours.remote_ts) == (HERE, THERE)
    assert ours.group is None
    assert all(network.gateway.sending.values())
    assert len(quick_messages(network)) == 3
    assert [event.name for event in network.gateway.events].count("ike_sa_established") == 1
    assert [event.name for event in network.device.events].count("ike_sa_established") == 1


@pytest.mark.parametrize(
    ("offer", "suite", "group"),
    [
        ("aes256gcm16-ecp256", "aes_gcm_16_256", DhGroup.ECP_256),
        ("aes128gcm16", "aes_gcm_16_128", None),
        ("aes192-sha384-modp2048", "aes_cbc_192/hmac_sha2_384_192", DhGroup.MODP_2048),
        ("aes128-sha512-ecp521", "aes_cbc_128/hmac_sha2_512_256", DhGroup.ECP_521),
        ("aes128-sha256-nopfs-ecp256", "aes_cbc_128/hmac_sha2_256_128", None),
        ("aes256-sha256-x25519-ecp384", "aes_cbc_256/hmac_sha2_256_128", DhGroup.ECP_384),
        ("aes256-sha256-esn", "aes_cbc_256/hmac_sha2_256_128/esn", None),
    ],
)
def test_suites_and_pfs(offer: str, suite: str, group: DhGroup | None) -> None:
    network = up(*site(esp_offer=SuiteOffer.parse("esp", [offer])))
    for host in network.hosts.values():
        assert str(child_of(host).suite) == suite
        assert child_of(host).group == group


def test_default_offers_meet() -> None:
    network = up(*site(esp_offer=SuiteOffer.default_esp()))
    assert str(child_of(network.gateway).suite) == "aes_gcm_16_256"
    assert child_of(network.gateway).group == DhGroup.ECP_256


def test_our_order_of_suites_decides() -> None:
    ours, theirs = site()
    ours = replace(ours, esp_offer=SuiteOffer.parse("esp", ["aes256-sha512", "aes128-sha256"]))
    theirs = replace(theirs, esp_offer=SuiteOffer.parse("esp", ["aes128-sha256", "aes256-sha512"]))
    network = up(ours, theirs)
    assert str(child_of(network.device).suite) == "aes_cbc_256/hmac_sha2_512_256"


def test_pfs_given_up_where_it_is_left_to_the_peer() -> None:
    ours, theirs = site()
    ours = replace(ours, esp_offer=SuiteOffer.parse("esp", ["aes128-sha256-modp3072-nopfs"]))
    theirs = replace(theirs, esp_offer=SuiteOffer.parse("esp", ["aes128-sha256-ecp256-nopfs"]))
    network = up(ours, theirs)
    assert child_of(network.device).group is None


@pytest.mark.parametrize(
    ("gateway_offer", "device_offer", "words"),
    [
        ("aes256-sha256", "aes128-sha256", "aes256-sha256"),
        ("aes256gcm16", "aes256-sha256", "aes256gcm16"),
        ("aes256-sha256-ecp256", "aes256-sha256", "ecp256"),
        ("aes256-sha256-ecp256", "aes256-sha256-ecp384", "ecp384"),
    ],
)
def test_h17_proposals_without_anything_in_common(
    gateway_offer: str, device_offer: str, words: str
) -> None:
    ours, theirs = site()
    network = connect(
        pair(
            replace(ours, esp_offer=SuiteOffer.parse("esp", [gateway_offer])),
            replace(theirs, esp_offer=SuiteOffer.parse("esp", [device_offer])),
        )
    )
    assert not network.gateway.sas
    assert not network.device.sas
    (text,) = failures(network.gateway)
    assert "quick mode" in text
    assert words in text
    (text,) = failures(network.device)
    assert "NO_PROPOSAL_CHOSEN" in text


def test_group_that_ikev1_does_not_have() -> None:
    ours, theirs = site(esp_offer=SuiteOffer.parse("esp", ["aes256-sha256-x25519"]))
    network = connect(pair(ours, theirs))
    assert not network.device.sas
    assert "IKEv1 has none of the groups" in failures(network.device)[0]


# -- selectors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (TrafficSelector.of_address(ip_address("10.2.3.4")), HERE[0]),
        (TrafficSelector(ip_address("10.2.0.1"), ip_address("10.2.0.9")), HERE[0]),
        (network_selector("10.2.7.0/24"), network_selector("10.1.1.0/24")),
        (
            TrafficSelector(ip_address("10.2.0.1"), ip_address("10.2.0.1"), 17, 53, 53),
            TrafficSelector(HERE[0].start, HERE[0].end, 17),
        ),
        (THERE[0], TrafficSelector.of_address(ip_address("10.1.0.9"))),
    ],
)
def test_selectors_inside_of_policy(local: TrafficSelector, remote: TrafficSelector) -> None:
    ours, theirs = site()
    network = up(ours, replace(theirs, local_ts=(local,), remote_ts=(remote,)))
    child = child_of(network.gateway)
    assert (child.remote_ts, child.local_ts) == ((local,), (remote,))


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (network_selector("10.3.0.0/16"), HERE[0]),
        (network_selector("10.2.0.0/15"), HERE[0]),
        (THERE[0], ANY_IPV4),
        (network_selector("0.0.0.0/0"), HERE[0]),
    ],
)
def test_h27_nothing_is_narrowed(local: TrafficSelector, remote: TrafficSelector) -> None:
    ours, theirs = site()
    network = connect(pair(ours, replace(theirs, local_ts=(local,), remote_ts=(remote,))))
    assert not network.gateway.sas
    (text,) = failures(network.gateway)
    assert "IKEv1 does not narrow" in text
    assert "INVALID_ID_INFORMATION" in failures(network.device)[0]


def test_port_ranges_cannot_be_said() -> None:
    ours, theirs = site()
    ranged = TrafficSelector(THERE[0].start, THERE[0].end, 17, 1000, 2000)
    network = connect(pair(ours, replace(theirs, local_ts=(ranged,))))
    assert "port range" in failures(network.device)[0]
    assert not quick_messages(network)


def test_one_quick_mode_for_each_pair_of_selectors() -> None:
    ours, theirs = site()
    two = (network_selector("10.1.0.0/24"), network_selector("10.1.1.0/24"))
    three = tuple(network_selector(f"10.2.{n}.0/24") for n in range(3))
    network = up(ours, replace(theirs, local_ts=three, remote_ts=two))
    pairs = {(child.local_ts[0], child.remote_ts[0]) for child in network.device.sas.values()}
    assert pairs == {(mine, other) for mine in three for other in two}
    assert all(network.gateway.sending.values())
    assert len(network.gateway.named("ike_sa_established")) == 1


# -- lives ----------------------------------------------------------------------------------


def test_peers_shorter_life_is_kept() -> None:
    ours, theirs = site()
    network = up(ours, replace(theirs, lifetimes=SHORT))
    sa = only_sa(network.gateway)
    (child,) = sa.children.values()
    network.pass_time(119)
    assert child.spi_in not in sa.children or child.state.value != "installed"
    assert_well(network)


def test_responders_shorter_life_is_told_and_kept() -> None:
    ours, theirs = site()
    network = up(replace(ours, lifetimes=SHORT), theirs)
    first = child_of(network.device)
    core = network.device.engine._core
    assert core.timers.deadline((TimerKind.EXPIRE_CHILD, first.spi_in)) == network.now + 120
    network.pass_time(400)
    assert_well(network)
    assert network.device.engine.counters["child_sas_rekeyed"] >= 3
    assert not network.device.named("child_sa_expired")


# -- the drafts' features -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "result"),
    [
        (Feature.ALLOWED, Feature.ALLOWED, True),
        (Feature.REQUIRED, Feature.REQUIRED, True),
        (Feature.REQUIRED, Feature.ALLOWED, True),
        (Feature.ALLOWED, Feature.REQUIRED, True),
        (Feature.OFF, Feature.ALLOWED, False),
        (Feature.ALLOWED, Feature.OFF, False),
        (Feature.OFF, Feature.REQUIRED, None),
        (Feature.REQUIRED, Feature.OFF, None),
    ],
)
def test_endpoint_update_by_policy(ours: Feature, theirs: Feature, result: bool | None) -> None:
    gateway, device = site()
    network = connect(
        pair(replace(gateway, endpoint_update=ours), replace(device, endpoint_update=theirs))
    )
    if result is None:
        assert not network.gateway.sas
        assert not network.device.sas
        assert any("SA endpoint update" in text for text in said(network))
        return
    assert_well(network)
    for host in network.hosts.values():
        assert child_of(host).endpoint_update is result


def test_supported_in_phase_1_and_refused_in_phase_2() -> None:
    """Another connection of the gateway knows the feature, so its vendor id goes out."""
    gateway, device = site()
    refusing = replace(gateway, endpoint_update=Feature.OFF)
    other = replace(gateway, name="other", remote_id=type(gateway.remote_id).parse("*@else.org"))
    network = pair(refusing, device)
    network.gateway.engine.reconfigure([refusing, other], network.now)
    connect(network)
    assert only_sa(network.device).peer_knows_endpoint_update
    assert_well(network)
    assert network.device.sas
    for host in network.hosts.values():
        assert child_of(host).endpoint_update is False


def test_vpn_fa_with_a_single_address_of_the_device() -> None:
    network = up(
        gateway_v1(vpn_fa=Feature.ALLOWED, fa_advertisement=bytes(range(64))),
        device_v1(vpn_fa=Feature.ALLOWED, remote_ts=HERE),
    )
    for host in network.hosts.values():
        assert child_of(host).vpn_fa
    assert only_sa(network.device).fa_advertisement == bytes(range(64))


def test_nobody_takes_the_home_address_that_another_identity_holds() -> None:
    network = pair(
        gateway_v1(vpn_fa=Feature.ALLOWED, fa_advertisement=bytes(range(64))),
        device_v1(vpn_fa=Feature.ALLOWED, remote_ts=HERE),
    )
    homes = network.gateway.engine._core.home_addresses
    everybody = [TrafficSelector.of_address(one) for one in ip_network("10.9.0.0/28")]
    homes.take(everybody, Identity.parse("mallory@example.com"))
    connect(network)
    assert not network.gateway.sas
    assert "mallory@example.com holds the home address" in failures(network.gateway)[0]


def test_vpn_fa_not_between_networks() -> None:
    network = up(*site(vpn_fa=Feature.ALLOWED))
    assert not child_of(network.gateway).vpn_fa
    network = connect(pair(*site(vpn_fa=Feature.REQUIRED)))
    assert not network.gateway.sas
    assert "single address" in failures(network.device)[0]


# -- rekeying -------------------------------------------------------------------------------


def test_rekeying_for_a_long_time() -> None:
    network = up(*site(lifetimes=SHORT))
    for _ in range(30):
        network.pass_time(37)
        assert_well(network)
        for host in network.hosts.values():
            assert any(host.sending.values())
            assert len(host.sas) <= 4
    assert network.gateway.engine.counters["child_sas_rekeyed"] >= 8
    assert not network.gateway.named("child_sa_expired")
    assert len(network.gateway.named("ike_sa_established")) == 1


@pytest.mark.parametrize("who", ["gateway", "device"])
def test_rekeying_from_either_side(who: str) -> None:
    network = up(*site())
    host = network.hosts[who]
    old = child_of(host)
    host.engine.child_expired(old.spi_in, False, network.now)
    network.pass_time(2)
    new = child_of(host)
    assert new is not old
    assert new.reqid == old.reqid
    assert old.spi_in in host.sas
    assert_well(network)
    network.pass_time(20)
    for one in network.hosts.values():
        assert len(one.sas) == 1
    assert_well(network)


@pytest.mark.parametrize("who", ["gateway", "device"])
def test_rekeying_again_before_the_new_child_sa_sends(who: str) -> None:
    """Who asks for it while the last one is not over gets another child SA all the same."""
    network = up(*site())
    host = network.hosts[who]
    (ike_sa,) = host.engine.ike_sas(network.now)
    made = {name: dict(only_sa(one).children) for name, one in network.hosts.items()}

    def wait(seconds: float, *, renewed: int) -> None:
        network.pass_time(seconds)
        for name, one in network.hosts.items():
            made[name].update(only_sa(one).children)
            assert len(made[name]) == 1 + renewed, said(network)
        assert not list(only_sa(host).children.values())[-1].outbound_active
        _assert_what_is_sent_is_taken(network)

    assert host.engine.rekey(ike_sa.spis, network.now, children=True)
    wait(0.4, renewed=1)
    assert host.engine.rekey(ike_sa.spis, network.now, children=True)
    wait(0.3, renewed=1)
    assert host.engine.rekey(ike_sa.spis, network.now, children=True)
    wait(0.4, renewed=2)
    network.pass_time(20)
    for one in network.hosts.values():
        assert len(one.sas) == 1
        assert one.engine.counters["child_sas_rekeyed"] == 2
    assert_well(network)


@pytest.mark.parametrize("who", ["gateway", "device"])
def test_traffic_limit_of_a_child_sa_that_does_not_send_yet(who: str) -> None:
    """The dataplane says it once."""
    network = up(*site())
    host = network.hosts[who]
    old = child_of(host)
    host.engine.child_expired(old.spi_in, False, network.now)
    network.pass_time(0.4)
    new = list(only_sa(host).children.values())[-1]
    assert new is not old
    assert not new.outbound_active
    host.engine.child_expired(new.spi_in, False, network.now)
    network.pass_time(2)
    assert child_of(host) not in {old, new}
    network.pass_time(20)
    for one in network.hosts.values():
        assert len(one.sas) == 1
    assert_well(network)


def test_no_packet_is_lost_when_rekeying() -> None:
    """At every moment what one side sends on, the other takes in."""
    network = up(*site())
    old = child_of(network.device)
    network.device.engine.child_expired(old.spi_in, False, network.now)
    for _ in range(20):
        network.collect()
        _assert_what_is_sent_is_taken(network)
        if not network.queue:
            break
        waiting, network.queue = network.queue, []
        for datagram in waiting:
            network.deliver(datagram)
            network.collect()
            _assert_what_is_sent_is_taken(network)
    network.pass_time(20)
    _assert_what_is_sent_is_taken(network)
    assert len(network.gateway.sas) == 1


def _assert_what_is_sent_is_taken(network: Network) -> None:
    for sender, taker in (
        (network.gateway, network.device),
        (network.device, network.gateway),
    ):
        sending = [sa for spi, sa in sender.sas.items() if sender.sending[spi]]
        assert sending
        newest = sending[-1]
        assert newest.spi_out in taker.sas


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_rekeying_with_a_lost_message(lost: int) -> None:
    network = up(*site())
    count = 0

    def impair(datagram: Datagram) -> list[Datagram]:
        nonlocal count
        if datagram.message[18] != ExchangeType.QUICK:
            return [datagram]
        count += 1
        return [] if count == lost + 1 else [datagram]

    network.impair = impair
    old = child_of(network.device)
    network.device.engine.child_expired(old.spi_in, False, network.now)
    network.pass_time(30)
    assert_well(network)
    assert list(network.gateway.sending.values()) == [True]
    assert list(network.device.sending.values()) == [True]


def test_h25_crossing_rekeys_end_with_child_sas_on_both_sides() -> None:
    network = up(*site(lifetimes=SHORT))
    for host in network.hosts.values():
        host.engine.child_expired(child_of(host).spi_in, False, network.now)
    network.run()
    assert_well(network)
    network.pass_time(60)
    assert_well(network)
    assert len(network.gateway.sas) <= 2
    network.pass_time(300)
    assert_well(network)
    assert len(network.gateway.sas) <= 4
    assert not network.gateway.named("child_sa_expired")


def test_delete_before_the_last_message_of_a_rekeying() -> None:
    """Reordered: the old child SA goes, the new one is used at once."""
    network = up(*site())
    held: list[Datagram] = []
    quicks = 0

    def impair(datagram: Datagram) -> list[Datagram]:
        nonlocal quicks
        if datagram.message[18] == ExchangeType.QUICK:
            quicks += 1
            if quicks == 3:
                held.append(datagram)
                return []
        return [datagram]

    network.impair = impair
    old = child_of(network.device)
    network.device.engine.child_expired(old.spi_in, False, network.now)
    network.run()
    network.device.engine._core.versions[1].delete_child(
        network.device.engine._core, only_sa(network.device), old, "test", network.now
    )
    network.run()
    _assert_what_is_sent_is_taken(network)
    network.queue += held
    network.run()
    network.pass_time(10)
    assert_well(network)
    assert list(network.gateway.sending.values()) == [True]


def test_refused_rekeying_leaves_the_old_child_sa() -> None:
    network = up(*site())
    sa = only_sa(network.gateway)
    assert sa.connection is not None
    sa.connection = replace(sa.connection, esp_offer=SuiteOffer.parse("esp", ["aes128-sha512"]))
    old = child_of(network.device)
    network.device.engine.child_expired(old.spi_in, False, network.now)
    network.run()
    assert child_of(network.device) is old
    assert old.state.value == "installed"
    assert failures(network.device)
    sa.connection = replace(sa.connection, esp_offer=SuiteOffer.parse("esp", ["aes256-sha256"]))
    network.pass_time(90)
    assert child_of(network.device) is not old
    assert_well(network)


# -- limits and losses ----------------------------------------------------------------------


@pytest.mark.parametrize("drop", [1, 2, 3])
def test_lost_messages_are_sent_again(drop: int) -> None:
    network = pair(*site())
    count = 0

    def impair(datagram: Datagram) -> list[Datagram]:
        nonlocal count
        if datagram.message[18] != ExchangeType.QUICK:
            return [datagram]
        count += 1
        return [] if count == drop else [datagram]

    network.impair = impair
    connect(network)
    network.pass_time(20)
    assert_well(network)
    assert list(network.gateway.sending.values()) == [True]
    assert not failures(network.device)


def test_everything_twice() -> None:
    network = pair(*site())
    network.impair = lambda datagram: [datagram, datagram]
    connect(network)
    assert_well(network)
    assert list(network.gateway.sending.values()) == [True]
    assert network.gateway.engine.counters["child_sas_installed"] == 1
    assert network.device.engine.counters["child_sas_installed"] == 1


def test_unanswered_quick_mode_ends_the_sa() -> None:
    network = pair(*site())
    network.impair = lambda one: [] if one.message[18] == ExchangeType.QUICK else [one]
    connect(network)
    network.pass_time(200)
    assert not network.device.sas
    assert any("does not answer quick mode" in text for text in failures(network.device))


def test_half_done_quick_mode_of_the_peer_is_forgotten() -> None:
    network = pair(*site())
    network.impair = lambda one: (
        []
        if one.sender == "device" and one.message[18] == ExchangeType.QUICK and count(one) > 1
        else [one]
    )
    seen: list[int] = []

    def count(one: Datagram) -> int:
        seen.append(one.number)
        return len(seen)

    connect(network)
    assert len(network.gateway.sas) == 1
    assert list(network.gateway.sending.values()) == [False]
    network.pass_time(300)
    assert not network.gateway.sas


def test_ipv6_networks_need_the_same_version() -> None:
    ours, theirs = site()
    six = (TrafficSelector.of_network(ip_network("2001:db8:1::/48")),)
    other = (TrafficSelector.of_network(ip_network("2001:db8:2::/48")),)
    network = up(
        replace(ours, local_ts=(*HERE, *six), remote_ts=(*THERE, *other)),
        replace(theirs, local_ts=(*THERE, *other), remote_ts=(*HERE, *six)),
    )
    assert len(network.device.sas) == 2
    assert {one.local_ts[0].start.version for one in network.device.sas.values()} == {4, 6}
