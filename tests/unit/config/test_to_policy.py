"""The file's words become the engine's policies, limits and pools."""

from dataclasses import fields
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.config import ConfigError, load
from gateway.config.connection import LifetimesSection
from gateway.config.sections import IkeSection
from gateway.config.to_policy import connections, engine_settings, pools
from gateway.domain.child_sa import ANY_IPV4, Mode, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.domain.remote_access import Presence
from gateway.ike.auth.credentials import LocalCredential, PresharedKey
from gateway.ike.auth.identity import Identity
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import EngineSettings, Feature, Lifetimes

BRANCH = """
[gateway]
name = "gw.example.com"

[connections.branch]
local_auth = "psk"
remote_auth = "psk"
psk_file = "branch.psk"
remote_id = "branch.example.com"
remote = "198.51.100.7"
local = "203.0.113.1"
request_inner_address = true
remote_subnets = ["10.2.0.0/16"]
esp_proposals = ["aes128gcm16"]
encapsulation = "always"
mobike = false
endpoint_update = "off"
liveness_s = 0
replay_window = 64
start = "start"

[connections.branch.lifetimes]
ike_rekey_s = 600
child_hard_packets = 1000
"""


def test_what_devices_get_inside(workshop: Workshop) -> None:
    text = workshop.added(
        "connections.staff",
        'pool6 = "six"\ntranslations = ["lan"]\nipv6 = "block"\nprofiles = ["guests"]\n'
        'user_auth = ["eap-tls"]',
    )
    text += """
[pools.six]
network = "fd00:9::/64"

[translations.lan]
network = "10.1.2.0/24"
shown_as = "100.64.2.0/24"

[profiles.guests]
groups = ["guests"]
presence = "napt"
ipv6 = "pass"
subnets = ["10.1.2.128/25", "10.7.0.0/16"]
"""
    (policy,) = connections(workshop.load(text))
    assert (policy.pool, policy.pool6, policy.block_ipv6) == ("staff", "six", True)
    assert policy.presence is Presence.ADDRESS
    assert policy.subnets == (ip_network("10.1.0.0/16"), ip_network("100.64.2.0/24"))
    assert policy.local_ts == tuple(map(TrafficSelector.of_network, policy.subnets))
    (guests,) = policy.profiles
    assert (guests.presence, guests.block_ipv6, guests.pool6) == (Presence.NAPT, False, None)
    assert guests.subnets == (ip_network("100.64.2.128/25"), ip_network("10.7.0.0/16"))
    theirs = policy.with_profile(guests)
    assert theirs.pool6 == "six"
    assert theirs.local_ts == tuple(map(TrafficSelector.of_network, guests.subnets))


def test_transport_mode_and_napt_need_no_pool(workshop: Workshop) -> None:
    text = MINIMAL.replace('pool = "staff"\n', "")
    (hosts,) = connections(
        workshop.load(text.replace('local_subnets = ["10.1.0.0/16"]', 'mode = "transport"'))
    )
    assert hosts.mode is Mode.TRANSPORT
    assert not hosts.gives_addresses
    (napt,) = connections(workshop.load(text + 'presence = "napt"\n'))
    assert napt.presence is Presence.NAPT
    assert napt.subnets == (ip_network("10.1.0.0/16"),)


def test_minimum(workshop: Workshop) -> None:
    config = workshop.load(workshop.added("pools.staff", 'dns = ["10.1.0.53"]'))
    (policy,) = connections(config)
    assert policy.name == "staff"
    assert policy.local_id == Identity.parse("gw.example.com")
    assert isinstance(policy.local_credential, LocalCredential)
    assert policy.remote_id.matches(Identity.parse("ann@example.com"))
    assert not policy.remote_id.matches(Identity.parse("ann@example.org"))
    assert policy.peer_auth.anchors is not None
    assert policy.peer_auth.preshared_key is None
    assert policy.local_ts == (TrafficSelector.of_network(ip_network("10.1.0.0/16")),)
    assert policy.subnets == (ip_network("10.1.0.0/16"),)
    assert policy.dns == (ip_address("10.1.0.53"),)
    assert policy.ike_offer == SuiteOffer.default_ike()
    assert policy.esp_offer == SuiteOffer.default_esp()
    assert policy.lifetimes == Lifetimes()
    assert (policy.pool, policy.remote, policy.force_encapsulation) == ("staff", None, False)


def test_initiator(workshop: Workshop) -> None:
    workshop.put("branch.psk", b"a secret of sufficient length\n")
    (policy,) = connections(workshop.load(BRANCH))
    assert isinstance(policy.local_credential, PresharedKey)
    assert policy.local_credential.secret == b"a secret of sufficient length"
    assert policy.peer_auth.preshared_key == policy.local_credential
    assert policy.remote == Endpoint(ip_address("198.51.100.7"), 500)
    assert policy.local == Endpoint(ip_address("203.0.113.1"), 500)
    assert policy.local_ts == (ANY_IPV4,)
    assert policy.remote_ts == (TrafficSelector.of_network(ip_network("10.2.0.0/16")),)
    assert policy.esp_offer == SuiteOffer.parse("esp", ["aes128gcm16"])
    assert policy.lifetimes == Lifetimes(ike_rekey_s=600, child_hard_packets=1000)
    assert policy.request_inner_address
    assert policy.force_encapsulation
    assert (policy.mobike, policy.endpoint_update) == (False, Feature.OFF)
    assert (policy.liveness_s, policy.replay_window) == (0, 64)
    assert b"secret" not in repr(policy).encode()


def test_full_tunnel_announces_no_subnets(workshop: Workshop) -> None:
    (policy,) = connections(workshop.load(workshop.changed("10.1.0.0/16", "0.0.0.0/0")))
    assert policy.local_ts == (ANY_IPV4,)
    assert policy.subnets == ()


def test_dns_of_the_connection_comes_first(workshop: Workshop) -> None:
    text = workshop.added("connections.staff", 'dns = ["10.1.0.1"]\ndomains = ["Corp.Example."]')
    (policy,) = connections(workshop.load(text))
    assert policy.dns == (ip_address("10.1.0.1"),)
    assert policy.dns_domains == ("corp.example",)


@pytest.mark.parametrize("name", ["ca.pem", "gw.pem", "gw.key"])
def test_file_that_went_away(workshop: Workshop, name: str) -> None:
    config = workshop.load()
    (workshop.directory / name).unlink()
    with pytest.raises(ConfigError, match=r"credentials\.\w+ = .*: no such file"):
        connections(config)


def test_pools_keep_what_is_reserved(workshop: Workshop) -> None:
    text = workshop.changed("10.83.112.0/22", "10.83.112.0/29")
    text = text.replace("/29", '/29"\nreserved = ["10.83.112.1", "10.83.112.4/30')
    text = text.replace('/30"', '/30"]')
    pool = pools(workshop.load(text))["staff"]
    assert [str(pool.lease(name)) for name in "ab"] == ["10.83.112.2", "10.83.112.3"]


@pytest.mark.parametrize(
    ("settings", "section"), [(EngineSettings, IkeSection), (Lifetimes, LifetimesSection)]
)
def test_every_limit_can_be_set_and_defaults_agree(settings: type, section: type) -> None:
    for field in fields(settings):
        assert section.model_fields[field.name].default == field.default  # type: ignore[attr-defined]


def test_engine_settings(workshop: Workshop) -> None:
    config = workshop.load(workshop.added("ike", "half_open_limit = 7\nfragment_size = 600"))
    settings = engine_settings(config)
    assert (settings.half_open_limit, settings.fragment_size) == (7, 600)
    assert engine_settings(workshop.load()) == EngineSettings()


def test_kernel_settings(workshop: Workshop) -> None:
    from gateway.config.to_dataplane import kernel_settings
    from gateway.dataplane.kernel.settings import KernelSettings

    settings = kernel_settings(workshop.load())
    expected = KernelSettings(
        inner_networks=(ip_network("10.83.112.0/22"),),
        protected_networks=(ip_network("10.1.0.0/16"),),
    )
    assert settings == expected
    full = workshop.load(workshop.changed("10.1.0.0/16", "0.0.0.0/0"))
    assert kernel_settings(full).protected_networks == ()


def test_without_files_for_another_machine(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(MINIMAL)
    with pytest.raises(ConfigError):
        load(path)
    assert load(path, with_files=False).connections
