"""What a configuration means for one device: connection, identity, proposals, networks, keys."""

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provisioning_setups import authority

from gateway.appliance.provisioning.choosing import Wish, choose
from gateway.appliance.provisioning.derive import DeviceCredential, setup_of
from gateway.appliance.provisioning.peers import peer_name
from gateway.config import load
from gateway.config.document import Config
from gateway.ike.auth.identity import Identity
from gateway.provisioning import ca
from gateway.provisioning.names import Kind
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.setup import Platform, Proof, Setup

ROOT = authority()
BASE = """
[gateway]
name = "gw.example.com"
[ike]
listen = ["203.0.113.1"]
tcp_listen = ["203.0.113.1:4500", "203.0.113.1:443"]
[credentials]
ca_certificates = ["{folder}/ca.pem"]
certificate = "{folder}/gw.pem"
private_key = "{folder}/gw.key"
[pools.road]
network = "10.9.0.0/24"
dns = ["10.1.0.53"]
"""
STAFF = """
[connections.staff]
remote_id = "*@example.com"
pool = "road"
local_subnets = ["10.1.0.0/16"]
"""


def config_of(folder: Path, text: str, base: str = BASE) -> Config:
    key = ca.new_key()
    now = datetime.now(UTC)
    name = peer_name(Identity.parse("gw.example.com"))
    certificate = ROOT.issue_gateway(key.public_key(), [name], now, 30)
    (folder / "ca.pem").write_bytes(ca.certificate_pem(ROOT.certificate))
    (folder / "gw.pem").write_bytes(ca.certificate_pem(certificate))
    (folder / "gw.key").touch(mode=0o600)
    (folder / "gw.key").write_bytes(ca.key_pem(key))
    file = folder / "gateway.toml"
    file.touch(mode=0o600)
    file.write_text((base + text).replace("{folder}", str(folder)))
    return load(file)


def derive(config: Config, platform: Platform = Platform.STRONGSWAN, **wish: Any) -> Setup:
    asked = Wish("laptop", platform, **wish)
    return setup_of(config, asked, choose(config, asked), None)


def identity(config: Config, platform: Platform = Platform.STRONGSWAN, **wish: Any) -> str:
    asked = Wish("laptop", platform, **wish)
    return peer_name(choose(config, asked).identity).text


def test_a_connection_with_certificates(tmp_path: Path) -> None:
    setup = derive(config_of(tmp_path, STAFF + 'domains = ["corp.example.com"]\n'))
    assert setup.address == "gw.example.com"
    assert setup.gateway.plain == "gw.example.com"
    assert setup.identity.plain == "laptop@example.com"
    assert (setup.gateway_proof, setup.device_proof) == (Proof.CERTIFICATE, Proof.CERTIFICATE)
    assert setup.subnets == (IPv4Network("10.1.0.0/16"),)
    assert setup.dns == (IPv4Address("10.1.0.53"),)
    assert setup.domains == ("corp.example.com",)
    assert setup.tcp_ports == (4500, 443)
    assert setup.authorities == (ca.certificate_pem(ROOT.certificate),)
    assert setup.authority_title == "Test CA"
    assert not setup.own_proposals
    first = setup.ike[0]
    assert first.encryption[0] == "aes256gcm16"
    assert "x25519" in first.groups
    assert "nopfs" not in setup.esp[0].groups
    assert setup.esp[0].esn == (True, False)


def test_own_proposals_are_told_as_they_are(tmp_path: Path) -> None:
    extra = """
ike_proposals = ["aes256gcm16-prfsha384-x25519-ke1_mlkem768", "aes128-sha256-modp2048"]
esp_proposals = ["aes256gcm16-noesn"]
"""
    setup = derive(config_of(tmp_path, STAFF + extra))
    assert [one.words for one in setup.ike] == [
        "aes256gcm16-prfsha384-x25519-ke1_mlkem768",
        "aes128-sha256-prfsha256-modp2048",
    ]
    assert [one.words for one in setup.esp] == ["aes256gcm16-noesn"]
    assert setup.own_proposals


def test_an_additional_key_exchange_that_may_be_left_out_is_left_out(tmp_path: Path) -> None:
    extra = 'ike_proposals = ["aes256gcm16-prfsha384-x25519-ke1_mlkem768-ke1_none"]\n'
    setup = derive(config_of(tmp_path, STAFF + extra))
    assert [one.words for one in setup.ike] == ["aes256gcm16-prfsha384-x25519"]


@pytest.mark.parametrize(
    ("remote_id", "expected"),
    [
        ("*", "laptop"),
        ("*@example.com", "laptop@example.com"),
        ("*.example.com", "laptop.example.com"),
        ("laptop.example.org", "laptop.example.org"),
        ("O=Example, CN=*", "O=Example, CN=laptop"),
    ],
)
def test_an_identity_follows_the_pattern(tmp_path: Path, remote_id: str, expected: str) -> None:
    config = config_of(tmp_path, STAFF.replace("*@example.com", remote_id))
    assert identity(config) == expected


def test_windows_gets_a_subject_where_the_connection_takes_one(tmp_path: Path) -> None:
    config = config_of(tmp_path, STAFF.replace("*@example.com", "*"))
    assert identity(config, Platform.WINDOWS) == "CN=laptop"
    assert identity(config, Platform.APPLE) == "laptop"


USERS = """
[users]
file = "{folder}/users.toml"
[connections.phones]
remote_auth = "user"
user_auth = ["eap-mschapv2"]
remote_id = "*@phones.example.com"
user_names = "*@phones.example.com"
pool = "road"
local_subnets = ["{subnets}"]
"""


def test_users_get_the_connection_that_logs_users_in(tmp_path: Path) -> None:
    (tmp_path / "users.toml").touch(mode=0o600)
    config = config_of(tmp_path, USERS.replace("{subnets}", "0.0.0.0/0") + STAFF)
    asked = Wish("phone", Platform.ANDROID, user="ann@phones.example.com")
    choice = choose(config, asked)
    assert choice.connection == "phones"
    setup = setup_of(config, asked, choice, None)
    assert setup.device_proof is None
    assert setup.user == setup.identity.plain == "ann@phones.example.com"
    assert setup.user_methods == ("eap-mschapv2",)
    assert setup.subnets == ()
    assert choose(config, Wish("laptop", Platform.ANDROID)).connection == "staff"
    bob = Wish("x", Platform.APPLE, "x@phones.example.com", "phones", "bob@example.org")
    with pytest.raises(ProvisioningRefusedError, match="user_names takes"):
        choose(config, bob)
    with pytest.raises(ProvisioningRefusedError, match="say which user"):
        choose(config, Wish("x", Platform.APPLE, connection="phones"))


def test_shared_keys_are_told_without_authorities(tmp_path: Path) -> None:
    extra = 'local_auth = "psk"\nremote_auth = "psk"\npsk = "a shared key of some length"\n'
    setup = derive(config_of(tmp_path, STAFF + extra))
    assert setup.psk == "a shared key of some length"
    assert setup.authorities == ()
    assert "shared key of some" not in repr(setup)


def test_profiles_widen_what_a_bundle_asks_for(tmp_path: Path) -> None:
    (tmp_path / "users.toml").touch(mode=0o600)
    profile = """
[profiles.admins]
groups = ["admins"]
subnets = ["10.1.0.0/16", "10.7.0.0/16"]
"""
    users = USERS.replace("{subnets}", "10.1.0.0/16")
    text = profile + users + 'profiles = ["admins"]\n'
    setup = derive(config_of(tmp_path, text), user="ann@phones.example.com")
    assert setup.subnets == (IPv4Network("10.1.0.0/16"), IPv4Network("10.7.0.0/16"))


def test_what_only_our_node_can_do_is_named(tmp_path: Path) -> None:
    setup = derive(config_of(tmp_path, STAFF + 'endpoint_update = "required"\n'))
    assert setup.only_ours == "connections.staff.endpoint_update"


NODES = """
[home_networks.roaming]
network = "10.20.0.0/24"
[home_networks.outer]
network = "203.0.113.64/26"
[home_agents.inside]
address = "10.20.0.1"
placement = "inside"
home_networks = ["roaming"]
remote = true
[home_agents.outside]
address = "203.0.113.2"
placement = "outside"
home_networks = ["outer"]
remote = true
[mobile_nodes.laptop]
home_address = "10.20.0.10"
nai = "laptop@example.com"
spi = 256
key = "8f1d03c6a94e57b2e06f7c12d5983ba4"
algorithm = "hmac-sha256"
"""


def test_a_mobile_node_with_a_key_of_its_own_gets_it(tmp_path: Path) -> None:
    config = config_of(tmp_path, STAFF + NODES)
    setup = derive(config, Platform.GATEWAY_MN)
    assert setup.inside is not None
    assert setup.inside.home_address == IPv4Address("10.20.0.10")
    assert setup.inside.address == IPv4Address("10.20.0.1")
    assert setup.inside.key == "8f1d03c6a94e57b2e06f7c12d5983ba4"
    assert setup.outside is None
    assert derive(config, Platform.STRONGSWAN).inside is None
    other = derive(config, Platform.GATEWAY_MN, identity="bob@example.com")
    assert other.inside is None
    named = derive(config, Platform.GATEWAY_MN, identity="bob@example.com", mobile_node="laptop")
    assert named.inside == setup.inside


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (BASE, "gw.example.com"),
        (BASE.replace('name = "gw.example.com"', 'name = "gw"'), "203.0.113.1"),
        (BASE + '[provisioning]\naddress = "vpn.example.net"\n', "vpn.example.net"),
    ],
)
def test_devices_are_told_where_the_gateway_is(tmp_path: Path, base: str, expected: str) -> None:
    assert derive(config_of(tmp_path, STAFF, base)).address == expected


def test_nobody_guesses_where_the_gateway_is(tmp_path: Path) -> None:
    base = BASE.replace('name = "gw.example.com"', 'name = "gw"')
    base = base.replace('listen = ["203.0.113.1"]', "").replace("tcp_listen", "#")
    with pytest.raises(ProvisioningRefusedError) as refused:
        derive(config_of(tmp_path, STAFF, base))
    assert refused.value.field == "provisioning.address"


def test_a_certificate_that_the_connection_would_refuse_is_not_issued(tmp_path: Path) -> None:
    config = config_of(tmp_path, STAFF)
    other = ca.create("Other", datetime.now(UTC))
    wish = Wish("laptop", Platform.OTHER)
    choice = choose(config, wish)
    key = ca.new_key()
    for issuer, fits in ((ROOT, True), (other, False)):
        name, now = peer_name(choice.identity), datetime.now(UTC)
        certificate = issuer.issue_device(key.public_key(), name, "laptop", now, 5)
        credential = DeviceCredential(certificate, issuer, ca.key_pem(key))
        if fits:
            assert setup_of(config, wish, choice, credential).certificate is not None
        else:
            with pytest.raises(ProvisioningRefusedError, match="does not have Other"):
                setup_of(config, wish, choice, credential)


def test_a_gateway_whose_ca_is_unknown_is_refused_with_the_remedy(tmp_path: Path) -> None:
    config = config_of(tmp_path, STAFF)
    other = ca.create("Other", datetime.now(UTC))
    (tmp_path / "ca.pem").write_bytes(ca.certificate_pem(other.certificate))
    with pytest.raises(ProvisioningRefusedError, match="put its certificate behind ours"):
        derive(config)


def test_what_a_device_asks_for_inside(tmp_path: Path) -> None:
    six = '[pools.six]\nnetwork = "fd00:9::/64"\n'
    block, napt = STAFF + 'ipv6 = "block"\n', STAFF.replace('pool = "road"', 'presence = "napt"')
    found = derive(config_of(tmp_path, STAFF + 'pool6 = "six"\n' + six))
    assert found.inner_versions == (4, 6)
    found = derive(config_of(tmp_path, block))
    assert found.inner_versions == (4, 6)
    assert [str(one) for one in found.subnets] == ["10.1.0.0/16", "::/0"]
    assert derive(config_of(tmp_path, napt)).inner_versions == ()
    table = '[translations.lan]\nnetwork = "10.1.0.0/16"\nshown_as = "100.64.0.0/16"\n'
    found = derive(config_of(tmp_path, STAFF + 'translations = ["lan"]\n' + table))
    assert [str(one) for one in found.subnets] == ["100.64.0.0/16"]


def test_a_connection_that_we_open_is_for_no_device(tmp_path: Path) -> None:
    text = STAFF.replace("*@example.com", "peer.example.com").replace('pool = "road"\n', "")
    config = config_of(
        tmp_path, text + 'remote = "198.51.100.7"\nremote_subnets = ["10.2.0.0/16"]\n'
    )
    with pytest.raises(ProvisioningRefusedError, match="add one"):
        choose(config, Wish("laptop", Platform.OTHER))
    with pytest.raises(ProvisioningRefusedError, match="opens this one itself"):
        choose(config, Wish("laptop", Platform.OTHER, connection="staff"))


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_every_identity_of_the_configuration_is_told_so_that_it_reads_the_same(text: str) -> None:
    try:
        found = Identity.parse(text)
    except ValueError:
        return
    name = peer_name(found)
    assert Identity.parse(name.text) == found or name.kind is Kind.SUBJECT
    assert name.octets == found.data
    assert name.swan.isascii() or name.kind is Kind.ADDRESS
