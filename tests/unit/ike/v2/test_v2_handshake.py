"""IKE_SA_INIT and IKE_AUTH, both ways, with every kind of credential and refusal."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from certs_v2 import anchors, credential
from harness_v2 import (
    DEVICE,
    GATEWAY,
    NOW,
    Datagram,
    Host,
    Network,
    assert_consistent,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    network_selector,
    pair,
    sa_of,
    site_policies,
)

from gateway.domain.endpoint import Endpoint
from gateway.domain.pools import AddressPool
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.outputs import InstallChildSa, Severity, Transmit
from gateway.ike.policy import EngineSettings, PeerAuth


def certificates(kind: str = "p256", **more: object) -> dict[str, object]:
    return {
        "gateway": gateway_policy(
            local_credential=credential("gw.example.com", kind, **more),
            peer_auth=PeerAuth(anchors=anchors()),
        ),
        "device": device_policy(
            local_credential=credential("ada@example.com", kind, **more),
            peer_auth=PeerAuth(anchors=anchors()),
        ),
    }


def failure(host: Host) -> dict[str, object]:
    events = host.named("handshake_failed")
    assert len(events) == 1, [event.text for event in host.events]
    event = events[0]
    assert event.severity is Severity.WARNING
    assert {"peer", "remote", "step", "reason", "remedy"} <= event.fields.keys()
    assert "\n" not in event.text
    return {**event.fields, "text": event.text}


def test_preshared_key_gives_an_inner_address_and_mirrored_child_sas() -> None:
    network = connected()
    assert_consistent(network)
    (sa,) = network.gateway.sas.values()
    assert str(sa.remote_ts[0]) == "10.9.0.1/32"
    assert str(sa.local_ts[0]) == "10.1.0.0/16"
    assert sa.follow_endpoint
    assert network.device.engine.ike_sas(0)[0].inner_address == "10.9.0.1"


def test_a_handshake_is_one_line_at_the_default_level() -> None:
    network = connected()
    loud = [event for event in network.gateway.events if event.severity is not Severity.DEBUG]
    assert [event.name for event in loud] == ["ike_sa_established"]
    text = loud[0].text
    for part in ("ada@example.com", "198.51.100.7", "10.9.0.1", "10.1.0.0/16", "aes", "x25519"):
        assert part in text
    assert loud[0].fields["inner_address"] == "10.9.0.1"


def test_the_child_sa_is_installed_before_the_answer_is_sent() -> None:
    network = connected()
    kinds = [type(one) for one in network.gateway.log]
    last_answer = len(kinds) - 1 - kinds[::-1].index(Transmit)
    assert kinds.index(InstallChildSa) < last_answer


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521", "ed25519"])
def test_certificates(kind: str) -> None:
    network = connected(**certificates(kind))
    assert_consistent(network)


def test_certificate_chain_travels_in_several_payloads() -> None:
    network = connected(**certificates(intermediate=True))
    assert_consistent(network)


def test_certificates_without_signature_hashes_use_the_older_methods() -> None:
    policies = certificates("rsa")
    network = pair(**policies)
    for host in network.hosts.values():
        core = host.engine._core
        core.counters["seen"] = 0
    # Forget what the peer announced, as if it were a peer without RFC 7427.
    network.device.engine.initiate("office", network.now)
    (sa,) = network.device.engine._core.sas.values()
    network.collect()
    (request,) = network.queue
    network.queue = []
    network.deliver(request)
    (responder,) = network.gateway.engine._core.sas.values()
    responder.handshake.peer_hashes = ()
    network.run()
    assert established(network.gateway)
    del sa


@pytest.mark.parametrize(
    "proposal",
    [
        "aes128gcm16-prfsha256-x25519",
        "aes256gcm16-prfsha384-ecp384",
        "chacha20poly1305-prfsha512-ecp521",
        "aes256-sha256-modp2048",
        "aes128-sha384-ecp256",
        "aes256-sha512-modp3072",
    ],
)
def test_ike_suites(proposal: str) -> None:
    offer = SuiteOffer.parse("ike", [proposal])
    network = connected(gateway_policy(ike_offer=offer), device_policy(ike_offer=offer))
    assert_consistent(network)


@pytest.mark.parametrize(
    "proposal",
    ["aes128gcm16-noesn", "aes256gcm16", "chacha20poly1305", "aes256-sha256", "aes128-sha512"],
)
def test_esp_suites(proposal: str) -> None:
    offer = SuiteOffer.parse("esp", [proposal])
    network = connected(gateway_policy(esp_offer=offer), device_policy(esp_offer=offer))
    assert_consistent(network)


def test_invalid_ke_payload_is_answered_with_the_other_group() -> None:
    offer = SuiteOffer.parse("ike", ["aes128gcm16-prfsha256-x25519-ecp256"])
    only = SuiteOffer.parse("ike", ["aes128gcm16-prfsha256-ecp256"])
    network = connected(gateway_policy(ike_offer=only), device_policy(ike_offer=offer))
    assert "ecp256" in network.gateway.named("ike_sa_established")[0].text
    assert not network.gateway.named("handshake_failed")


def test_tunnel_between_networks() -> None:
    network = connected(*site_policies())
    assert_consistent(network)
    (sa,) = network.gateway.sas.values()
    assert sa.summary == "10.1.0.0/16 === 10.2.0.0/16"


def test_narrowing() -> None:
    gateway, device = site_policies()
    wide = replace(device, local_ts=(network_selector("10.0.0.0/8"),))
    network = connected(gateway, wide)
    assert_consistent(network)
    (sa,) = network.gateway.sas.values()
    assert sa.summary == "10.1.0.0/16 === 10.2.0.0/16"


def test_wrong_preshared_key() -> None:
    network = connect(pair(device=device_policy(local_credential=PresharedKey(b"another"))))
    fields = failure(network.gateway)
    assert "pre-shared key" in str(fields["reason"])
    assert fields["peer"] == "ada@example.com"
    assert fields["step"] == "IKE_AUTH"
    assert not network.gateway.sas
    assert not network.device.sas
    assert "AUTHENTICATION_FAILED" in str(failure(network.device)["reason"])


def test_a_failed_login_holds_no_address() -> None:
    pools = {"road": AddressPool("road", ip_network("10.9.0.0/24"))}
    network = pair(device=device_policy(local_credential=PresharedKey(b"another")), pools=pools)
    connect(network)
    assert pools["road"].in_use == 0
    network.pass_time(60)
    assert not network.gateway.engine._core.sas
    assert len(network.gateway.engine._core.half_open) == 0


def test_unknown_identity() -> None:
    network = connect(pair(device=device_policy(local_id=Identity.parse("eve@evil.example"))))
    fields = failure(network.gateway)
    assert "eve@evil.example" in str(fields["reason"])
    assert "*@example.com" in str(fields["ours"])


def test_unknown_gateway_identity() -> None:
    device = device_policy(remote_id=IdentityPattern.parse("other.example.com"))
    fields = failure(connect(pair(device=device)).gateway)
    assert "other.example.com" in str(fields["reason"])
    assert "gw.example.com" in str(fields["ours"])


def test_no_proposal_chosen_puts_both_side_by_side() -> None:
    network = connect(
        pair(device=device_policy(ike_offer=SuiteOffer.parse("ike", ["aes128-sha1-modp1024"])))
    )
    text = str(failure(network.gateway)["text"])
    assert "theirs" in text
    assert "ours" in text
    assert "aes256gcm16" in text
    network.pass_time(10)
    assert "NO_PROPOSAL_CHOSEN" in str(failure(network.device)["reason"])


def test_expired_certificate() -> None:
    policies = certificates()
    policies["device"] = replace(
        policies["device"], local_credential=credential("ada@example.com", "p256", days=30)
    )
    network = connect(pair(**policies))
    assert "expired" in str(failure(network.gateway)["reason"])


def test_unknown_authority() -> None:
    policies = certificates()
    stranger = credential("ada@example.com", "p256", issuer="Other CA")
    policies["device"] = replace(policies["device"], local_credential=stranger)
    network = connect(pair(**policies))
    assert "Other CA" in str(failure(network.gateway)["reason"])


def test_certificate_of_another_identity() -> None:
    policies = certificates()
    policies["device"] = replace(
        policies["device"], local_credential=credential("bob@example.com", "p256")
    )
    assert "ada@example.com" in str(failure(connect(pair(**policies)).gateway)["reason"])


def test_preshared_key_where_a_certificate_is_wanted() -> None:
    network = connect(pair(certificates()["gateway"], device_policy()))
    assert "certificate" in str(failure(network.gateway)["reason"])


def test_device_refuses_a_gateway_with_a_wrong_key() -> None:
    device = device_policy(peer_auth=PeerAuth(preshared_key=PresharedKey(b"not this one")))
    network = connect(pair(device=device))
    assert "pre-shared key" in str(failure(network.device)["reason"])
    assert not established(network.device)
    assert not network.device.sas


def test_pool_exhausted_keeps_the_ike_sa_and_names_the_pool() -> None:
    pools = {"road": AddressPool("road", ip_network("10.9.0.0/31"))}
    pools["road"].lease("a")
    pools["road"].lease("b")
    network = connect(pair(pools=pools))
    fields = failure(network.gateway)
    assert "road" in str(fields["reason"])
    assert "2 are leased" in str(fields["reason"])
    assert not network.gateway.sas
    assert "INTERNAL_ADDRESS_FAILURE" in str(failure(network.device)["reason"])


def test_no_address_asked_for_where_the_pool_gives_one() -> None:
    device = device_policy(request_inner_address=False, local_ts=(network_selector("10.2.0.0/16"),))
    network = connect(pair(device=device))
    assert "asked for no inner address" in str(failure(network.gateway)["reason"])
    assert "FAILED_CP_REQUIRED" in str(failure(network.device)["reason"])


def test_traffic_selectors_without_anything_in_common() -> None:
    gateway, device = site_policies()
    wrong = replace(device, remote_ts=(network_selector("172.16.0.0/12"),))
    network = connect(pair(gateway, wrong))
    fields = failure(network.gateway)
    assert "172.16.0.0/12" in str(fields["theirs"])
    assert "10.1.0.0/16" in str(fields["ours"])


def test_a_childless_ike_sa_is_closed_after_a_while() -> None:
    gateway, device = site_policies()
    wrong = replace(device, remote_ts=(network_selector("172.16.0.0/12"),))
    network = pair(gateway, wrong)
    # The device says nothing any more after its IKE_AUTH, so its Delete does not come.
    network.impair = lambda d: [] if d.sender == "device" and d.number > 3 else [d]
    connect(network)
    assert established(network.gateway)
    network.pass_time(200)
    assert not network.gateway.engine._core.sas


def test_cookies_when_it_gets_crowded() -> None:
    settings = EngineSettings(cookie_threshold=0)
    network = connected(settings=settings)
    assert network.gateway.engine.counters["cookies_demanded"] == 1


def test_retransmission_fills_every_single_loss() -> None:
    for lost in range(4):
        network = pair()
        network.impair = lambda d, lost=lost: [] if d.number == lost else [d]
        connect(network)
        network.pass_time(10)
        assert established(network.gateway), lost
        assert established(network.device), lost
        assert_consistent(network)


def test_duplicates_change_nothing() -> None:
    network = pair()
    network.impair = lambda d: [d, d]
    connect(network)
    assert_consistent(network)
    assert len(network.gateway.sas) == 1
    assert len(network.gateway.named("ike_sa_established")) == 1


def test_fragmentation_of_certificates() -> None:
    small = EngineSettings(fragment_size=576)
    network = pair(**certificates("rsa"), settings=small, device_settings=small)
    connect(network)
    assert established(network.gateway)
    assert_consistent(network)
    assert max(len(d.message) for d in network.sent) <= 576 - 28
    assert len(network.sent) > 6


def test_fragments_out_of_order_and_twice() -> None:
    small = EngineSettings(fragment_size=576)
    network = pair(**certificates("rsa"), settings=small, device_settings=small)
    network.device.engine.initiate("office", network.now)
    for _ in range(20):
        network.collect()
        waiting, network.queue = network.queue, []
        for datagram in reversed(waiting + waiting):
            network.deliver(datagram)
    network.collect()
    assert_consistent(network)
    assert established(network.gateway)
    assert len(network.gateway.sas) == 1


def test_nat_in_front_of_the_device() -> None:
    network = pair()
    public = ip_address("203.0.113.5")
    network.nat = {
        DEVICE: Endpoint(public, 10500),
        Endpoint(DEVICE.address, 4500): Endpoint(public, 14500),
    }
    connect(network)
    (sa,) = network.gateway.sas.values()
    assert sa.udp_encapsulation
    assert sa.remote == Endpoint(public, 14500)
    assert sa.local == Endpoint(GATEWAY.address, 4500)
    assert network.device.engine.ike_sas(0)[0].local_natted
    assert network.gateway.engine.ike_sas(0)[0].remote_natted
    network.pass_time(65)
    assert len(network.device.keepalives) == 3
    assert not network.gateway.keepalives


def test_no_nat_means_no_encapsulation() -> None:
    (sa,) = connected().gateway.sas.values()
    assert not sa.udp_encapsulation


@pytest.mark.parametrize("side", ["gateway", "device"])
def test_forced_encapsulation(side: str) -> None:
    gateway = gateway_policy(force_encapsulation=side == "gateway")
    device = device_policy(force_encapsulation=side == "device")
    network = connected(gateway, device)
    assert_consistent(network)
    (sa,) = network.gateway.sas.values()
    assert sa.udp_encapsulation
    assert sa.remote.port == 4500


def test_initial_contact_replaces_the_old_session_and_keeps_the_address() -> None:
    network = connected()
    again = Host(make_engine([device_policy()]), "device")
    network.hosts["device"] = again
    connect(network)
    assert len(established(network.gateway)) == 1
    assert len(network.gateway.sas) == 1
    (sa,) = network.gateway.sas.values()
    assert str(sa.remote_ts[0]) == "10.9.0.1/32"
    assert len(network.gateway.named("ike_sa_closed")) == 1


def test_two_devices_of_one_identity_get_two_addresses() -> None:
    second = Endpoint(ip_address("198.51.100.8"), 500)
    network = connected()
    other = Host(make_engine([device_policy(local=second)]), "second")
    network.hosts["second"] = other
    network.where[second.address] = "second"
    from gateway.ike.codec import Notify
    from gateway.ike.registry import NotifyType
    from gateway.ike.v2 import initiate

    original = initiate.AuthExchange.request

    def without_initial_contact(self, core, sa, now):  # noqa: ANN001, ANN202
        return [
            one
            for one in original(self, core, sa, now)
            if not (isinstance(one, Notify) and one.type == NotifyType.INITIAL_CONTACT)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initiate.AuthExchange, "request", without_initial_contact)
        other.engine.initiate("office", network.now)
        network.run()
    addresses = {str(sa.remote_ts[0]) for sa in network.gateway.sas.values()}
    assert addresses == {"10.9.0.1/32", "10.9.0.2/32"}


def test_a_dead_peer_is_noticed_and_its_address_comes_back() -> None:
    network = connected()
    network.impair = lambda d: []
    network.pass_time(400)
    assert not network.gateway.engine._core.sas
    assert not network.gateway.sas
    assert network.gateway.engine._core.pools["road"].in_use == 0
    closed = network.gateway.named("ike_sa_closed")
    assert "does not answer" in closed[0].text


def test_esp_traffic_spares_the_liveness_check() -> None:
    network = Network(
        Host(make_engine([gateway_policy()], last_inbound=lambda spi: 1.0), "gateway"),
        Host(make_engine([device_policy(liveness_s=0)]), "device"),
    )
    connect(network)
    sent = len(network.sent)
    network.pass_time(600)
    assert len(network.sent) == sent


def test_an_initiator_that_is_to_be_up_tries_again_ever_slower() -> None:
    network = pair()
    network.impair = lambda d: []
    connect(network)
    network.pass_time(600)
    failures = network.device.named("handshake_failed")
    assert len(failures) >= 3
    network.impair = lambda d: [d]
    network.pass_time(120)
    assert established(network.device)
    network.gateway.engine.close_all(network.now)
    network.run()
    assert not network.device.sas
    network.pass_time(10)
    assert established(network.device)


def test_close_all_leaves_nothing() -> None:
    network = connected()
    network.device.engine.close_all(network.now)
    network.run()
    for host in network.hosts.values():
        core = host.engine._core
        assert not host.sas
        assert not core.sas
        assert not core.children
        assert not core.by_peer
        assert len(core.timers) == 0
        assert core.pools["road"].in_use == 0


def test_close_one_by_name() -> None:
    network = connected()
    (sa,) = network.gateway.engine.ike_sas(network.now)
    assert network.gateway.engine.close_ike_sa(sa.spis, "asked for", network.now)
    assert not network.gateway.engine.close_ike_sa("nonsense", "asked for", network.now)
    network.run()
    assert not network.gateway.sas
    assert not network.device.sas
    assert "asked for" in network.gateway.named("ike_sa_closed")[0].text


def test_reconfigure_leaves_what_did_not_change() -> None:
    network = connected()
    engine = network.gateway.engine
    engine.reconfigure([gateway_policy(liveness_s=5.0)], network.now)
    network.run()
    assert established(network.gateway)
    engine.reconfigure([gateway_policy(local_ts=(network_selector("10.7.0.0/16"),))], network.now)
    network.run()
    assert not established(network.gateway)
    assert not network.device.sas


def test_reconfigure_ends_what_vanished() -> None:
    network = connected()
    network.gateway.engine.reconfigure([], network.now)
    network.run()
    assert not network.gateway.sas
    assert not network.device.sas
    assert "removed" in network.gateway.named("ike_sa_closed")[0].text


def test_the_connection_is_picked_by_identity() -> None:
    first = gateway_policy(name="first", remote_id=IdentityPattern.parse("bob@example.com"))
    second = gateway_policy(name="second", pool="two")
    pools = {
        "road": AddressPool("road", ip_network("10.9.0.0/24")),
        "two": AddressPool("two", ip_network("10.8.0.0/24")),
    }
    network = Network(
        Host(make_engine([first, second], pools=pools), "gateway"),
        Host(make_engine([device_policy()]), "device"),
    )
    connect(network)
    (sa,) = network.gateway.sas.values()
    assert str(sa.remote_ts[0]) == "10.8.0.1/32"
    assert network.gateway.engine.ike_sas(0)[0].connection == "second"


def test_dataplane_refusal_deletes_the_child_on_both_sides() -> None:
    network = connected()
    (spi,) = network.gateway.sas
    network.gateway.engine.child_refused(spi, "no such algorithm", network.now)
    network.run()
    assert not network.gateway.sas
    assert not network.device.sas
    assert "no such algorithm" in network.gateway.named("child_sa_refused")[0].text


def test_established_sa_keeps_nothing_of_the_handshake() -> None:
    network = connected()
    for host in network.hosts.values():
        assert sa_of(host).handshake is None


def test_snapshots_are_json() -> None:
    import json
    from dataclasses import asdict

    network = connected()
    for host in network.hosts.values():
        for one in (*host.engine.ike_sas(network.now), *host.engine.child_sas(network.now)):
            json.dumps(asdict(one))
        for event in host.events:
            json.dumps(event.fields)
    assert NOW


def test_a_datagram_is_never_sent_by_a_responder_on_its_own() -> None:
    network = pair()
    heard: list[Datagram] = []

    def only_requests(datagram: Datagram) -> list[Datagram]:
        heard.append(datagram)
        return [datagram] if datagram.number == 0 else []

    network.impair = only_requests
    network.device.engine.initiate("office", network.now)
    network.run()
    network.device.engine.take_outputs()
    network.device.engine._core.timers = type(network.device.engine._core.timers)()
    network.pass_time(60)
    assert [d.sender for d in heard] == ["device", "gateway"]


def test_reading_the_configuration_again_during_a_login() -> None:
    network = pair()
    network.device.engine.initiate("office", network.now)
    network.collect()
    network.deliver(network.queue.pop())
    network.gateway.engine.reconfigure([gateway_policy()], network.now)
    network.run()
    assert established(network.gateway)


def test_a_renewed_certificate_of_ours_ends_no_session() -> None:
    policies = certificates()
    network = connected(**policies)
    renewed = replace(
        policies["gateway"], local_credential=credential("gw.example.com", "p256", days=300)
    )
    network.gateway.engine.reconfigure([renewed], network.now)
    network.run()
    assert established(network.gateway)


def test_pools_that_did_not_change_keep_their_leases() -> None:
    network = connected()
    engine = network.gateway.engine
    same = {"road": AddressPool("road", ip_network("10.9.0.0/24"))}
    engine.reconfigure([gateway_policy()], network.now, same)
    network.run()
    assert established(network.gateway)
    assert network.gateway.engine._core.pools["road"].in_use == 1
    other = {"road": AddressPool("road", ip_network("10.77.0.0/24"))}
    engine.reconfigure([gateway_policy()], network.now, other)
    network.run()
    assert not established(network.gateway)
    network.pass_time(5)
    (sa,) = network.gateway.sas.values()
    assert str(sa.remote_ts[0]) == "10.77.0.1/32"


def test_our_own_addresses_are_known() -> None:
    network = connected()
    assert network.gateway.engine._core.own_addresses == {GATEWAY.address}
    assert network.device.engine._core.own_addresses == {DEVICE.address}
