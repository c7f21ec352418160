"""Profiles of mobile nodes: what they become, and what refuses them."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from config_workshop import Workshop

from gateway.config import ConfigError
from gateway.config.profile import Profile, load_profile
from gateway.config.profile_fields import Acceptance
from gateway.config.profile_sealing import Sealed, Unlocked, WrongPasswordError
from gateway.config.to_node import (
    acceptable,
    connection_policy,
    gateway_address,
    is_locked,
    node_policy,
    node_settings,
    peers,
    unlock,
)
from gateway.domain.mobility_credential import MobilityCredential, MobilityGrant
from gateway.ike.auth.credentials import LocalCredential, PresharedKey
from gateway.ike.policy import Feature
from gateway.mip_agents.policy import Algorithm, ReplayProtection
from gateway.users.settings import ScryptCost

CERTIFICATE = """
[gateway]
address = "192.0.2.1"
identity = "gw.example.com"

[login]
identity = "gw.example.com"
certificate = "gw.pem"
private_key = "gw.key"
ca_certificates = ["ca.pem"]
"""
PSK = """
[gateway]
address = "192.0.2.1"

[login]
method = "psk"
identity = "ann@example.com"
psk = "a secret of sufficient length"
"""
INSIDE = """
[inside]
home_agent = "10.20.0.1"
home_address = "10.20.0.77"
home_network = "10.20.0.0/24"
spi = 300
key = "0f1d03c6a94e57b2e06f7c12d5983ba4"
"""
OUTSIDE = """
[outside]
home_agent = "198.51.100.2"
home_address = "198.51.100.77"
spi = 301
key = "93be1f07c2d84a65b0e9716a2fcd5830"
algorithm = "hmac-sha256"
replay = "nonces"
"""
FAST = ScryptCost(10)


def load(workshop: Workshop, text: str) -> Profile:
    return load_profile(workshop.write(text, "profile.toml"))


def complaints(workshop: Workshop, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(workshop, text)
    return [str(problem) for problem in refused.value.problems]


def complaint(workshop: Workshop, text: str) -> str:
    (line,) = complaints(workshop, text)
    assert line.startswith("profile.toml: ")
    return line.removeprefix("profile.toml: ")


def credential(*, inside: bool, expires_at: float = 1.0, last: int = 9) -> MobilityCredential:
    net = "10.20.0" if inside else "198.51.100"
    grant = MobilityGrant(
        inside,
        IPv4Address(f"{net}.1"),
        IPv4Address(f"{net}.{last}"),
        IPv4Network(f"{net}.0/24"),
    )
    return MobilityCredential(grant, 4000, bytes(range(32)), b"ticket", expires_at)


def test_a_login_is_enough(workshop: Workshop) -> None:
    profile = load(workshop, CERTIFICATE)
    assert profile.warnings == ()
    policy = node_policy(profile)
    assert policy.internal is None
    assert policy.external is None
    assert policy.vpn is not None
    assert policy.vpn.gateway == IPv4Address("192.0.2.1")
    connection = connection_policy(profile)
    assert connection is not None
    assert connection.request_inner_address
    assert connection.vpn_fa is Feature.ALLOWED
    assert connection.endpoint_update is Feature.ALLOWED
    assert str(connection.remote) == "192.0.2.1:500"
    assert isinstance(connection.local_credential, LocalCredential)


def test_what_logins_taught_fills_what_the_profile_leaves_out(workshop: Workshop) -> None:
    profile = load(workshop, PSK)
    taught = [
        credential(inside=True, expires_at=5.0, last=8),
        credential(inside=True, expires_at=9.0, last=9),
        credential(inside=False),
    ]
    policy = node_policy(profile, taught)
    assert policy.internal is not None
    assert policy.internal.home_address == IPv4Address("10.20.0.9")
    assert policy.internal.ticket == b"ticket"
    assert policy.internal.association.algorithm is Algorithm.HMAC_SHA256
    assert not policy.internal.zero_overhead
    assert policy.external is not None
    assert policy.external.zero_overhead
    found = peers(profile, taught)
    assert found.internal_home_agents == (IPv4Address("10.20.0.1"),)
    assert found.external_home_agents == (IPv4Address("198.51.100.1"),)
    assert found.gateways == (IPv4Address("192.0.2.1"),)


def test_what_is_said_by_hand_goes_first(workshop: Workshop) -> None:
    profile = load(workshop, PSK + INSIDE + OUTSIDE)
    policy = node_policy(profile, [credential(inside=True), credential(inside=False)])
    assert policy.internal is not None
    assert policy.internal.home_agent == IPv4Address("10.20.0.1")
    assert policy.internal.association.spi == 300
    assert policy.internal.association.algorithm is Algorithm.HMAC_MD5
    assert policy.internal.ticket == b""
    assert policy.external is not None
    assert policy.external.home_network == IPv4Network("198.51.100.77/32")
    assert policy.external.association.replay is ReplayProtection.NONCES


def granted(*, inside: bool, home_agent: str) -> MobilityCredential:
    one = credential(inside=inside)
    return replace(one, grant=replace(one.grant, home_agent=IPv4Address(home_agent)))


@pytest.mark.parametrize("home_agent", ["192.0.2.1", "198.51.100.1"])
def test_an_i_ha_that_answers_everywhere_is_not_believed(
    workshop: Workshop, home_agent: str
) -> None:
    profile = load(workshop, PSK)
    outside = credential(inside=False)
    taught = [outside, granted(inside=True, home_agent=home_agent)]
    assert acceptable(profile, taught) == (outside,)
    assert node_policy(profile, taught).internal is None
    assert peers(profile, taught).internal_home_agents == ()


def test_an_i_ha_beside_the_x_ha_by_hand(workshop: Workshop) -> None:
    profile = load(workshop, PSK + OUTSIDE)
    good, bad = (granted(inside=True, home_agent=a) for a in ("10.20.0.1", "198.51.100.2"))
    assert acceptable(profile, [bad, credential(inside=False), good]) == (good,)


def test_settings_of_the_dataplane(workshop: Workshop) -> None:
    more = (
        '[network]\naccept_inside = ["TCP/22 from 10.0.0.0/8", "udp/53 from 10.1.1.1"]\nmtu = 1300'
    )
    settings = node_settings(load(workshop, PSK + more))
    assert settings.accept_inside == (
        ("tcp", 22, IPv4Network("10.0.0.0/8")),
        ("udp", 53, IPv4Network("10.1.1.1/32")),
    )
    assert settings.mtu == 1300
    assert settings.tcp_ports == (4500, 443)


def test_a_node_without_vpn(workshop: Workshop) -> None:
    profile = load(workshop, INSIDE)
    assert node_policy(profile).vpn is None
    assert connection_policy(profile) is None
    assert node_settings(profile).tcp_ports == ()
    assert gateway_address(profile, lambda _: []) is None


def test_forced_udp_is_forced_at_both_outer_layers(workshop: Workshop) -> None:
    more = "[network]\nforce_udp_encapsulation = true"
    profile = load(workshop, PSK + INSIDE + OUTSIDE + more)
    policy, connection = node_policy(profile), connection_policy(profile)
    assert connection is not None
    assert connection.force_encapsulation
    assert policy.external is not None
    assert policy.external.force_udp
    assert not policy.external.zero_overhead
    assert policy.internal is not None
    assert not policy.internal.force_udp


def test_an_old_gateway_gets_no_new_mechanisms(workshop: Workshop) -> None:
    text = PSK.replace('"192.0.2.1"', '"192.0.2.1"\nversion = 1')
    profile = load(workshop, text)
    vpn, connection = node_policy(profile).vpn, connection_policy(profile)
    assert vpn is not None
    assert not any((vpn.vpn_fa, vpn.endpoint_update, vpn.mobike))
    assert connection is not None
    assert (connection.version, connection.vpn_fa) == (1, Feature.OFF)


def test_name_and_password(workshop: Workshop) -> None:
    text = """
    [gateway]
    address = "gw.example.com"
    [login]
    method = "password"
    user = "ann"
    password = "a pass word"
    ca_certificates = ["ca.pem"]
    """
    profile = load(workshop, text)
    assert node_policy(profile).vpn is None
    assert connection_policy(profile) is None
    found = connection_policy(profile, gateway=IPv4Address("192.0.2.9"))
    assert found is not None
    assert found.user_credential is not None
    assert (found.user_credential.name, found.user_credential.password) == ("ann", b"a pass word")
    assert not found.device_too
    assert "pass word" not in repr(profile)
    assert "pass word" not in repr(found)


def test_device_and_user(workshop: Workshop) -> None:
    found = connection_policy(load(workshop, CERTIFICATE + 'user = "ann"\npassword = "x y z"'))
    assert found is not None
    assert found.device_too
    assert found.user_credential is not None


# -- sealed secrets -------------------------------------------------------------------------------

SEALED = CERTIFICATE.replace('private_key = "gw.key"', 'sealed = "ann.sealed"') + INSIDE.replace(
    'key = "0f1d03c6a94e57b2e06f7c12d5983ba4"', ""
)


def seal(workshop: Workshop, secrets: dict[str, str]) -> None:
    count = iter(range(1000))
    sealed = Sealed.of(secrets, "open sesame", lambda n: bytes([next(count)]) * n, FAST)
    workshop.put("ann.sealed", f"{sealed}\n".encode())


def test_sealed_secrets_wait_for_the_password(workshop: Workshop) -> None:
    pem = (workshop.directory / "gw.key").read_text()
    seal(workshop, {"login.private_key": pem, "inside.key": "0f1d03c6a94e57b2e06f7c12d5983ba4"})
    profile = load(workshop, SEALED)
    assert is_locked(profile)
    assert connection_policy(profile) is None
    assert node_policy(profile).internal is None
    assert peers(profile).internal_home_agents == (IPv4Address("10.20.0.1"),)
    with pytest.raises(WrongPasswordError):
        unlock(profile, "open barley")
    with pytest.raises(WrongPasswordError):
        unlock(profile, "")
    unlocked = unlock(profile, "open sesame")
    assert not is_locked(profile, unlocked)
    assert pem not in repr(unlocked)
    policy = node_policy(profile, unlocked=unlocked)
    assert policy.internal is not None
    assert policy.internal.association.key.hex() == "0f1d03c6a94e57b2e06f7c12d5983ba4"
    connection = connection_policy(profile, unlocked=unlocked)
    assert connection is not None
    assert isinstance(connection.local_credential, LocalCredential)


def test_sealed_shared_key(workshop: Workshop) -> None:
    seal(workshop, {"login.psk": "a secret of sufficient length"})
    text = PSK.replace('psk = "a secret of sufficient length"', 'sealed = "ann.sealed"')
    profile = load(workshop, text)
    connection = connection_policy(profile, unlocked=unlock(profile, "open sesame"))
    assert connection is not None
    assert connection.local_credential == PresharedKey(b"a secret of sufficient length")
    assert connection.peer_auth.preshared_key == connection.local_credential


def test_no_unlocking_where_nothing_is_sealed(workshop: Workshop) -> None:
    profile = load(workshop, PSK)
    assert not is_locked(profile)
    assert unlock(profile, "whatever") == Unlocked()


@pytest.mark.parametrize("text", ["", "secret", "$mn-sealed-1$ln=99,r=8,p=1$AAAA$AAAA"])
def test_a_damaged_sealed_file_is_refused(workshop: Workshop, text: str) -> None:
    workshop.put("ann.sealed", text.encode())
    line = complaint(workshop, SEALED)
    assert line.startswith("login.sealed = ")
    assert "gateway mn profile seal" in line


def test_every_octet_of_the_box_counts() -> None:
    sealed = Sealed.of({"login.psk": "x"}, "pw", lambda n: b"\7" * n, FAST)
    assert Sealed.parse(str(sealed)) == sealed
    for at in range(len(sealed.box)):
        changed = bytearray(sealed.box)
        changed[at] ^= 1
        with pytest.raises(WrongPasswordError):
            Sealed(sealed.cost, sealed.salt, bytes(changed)).open("pw")
    with pytest.raises(WrongPasswordError):
        Sealed(ScryptCost(11), sealed.salt, sealed.box).open("pw")
    with pytest.raises(ValueError, match="not among"):
        Sealed.of({"profile.name": "x"}, "pw", lambda n: b"\7" * n, FAST)


# -- names of gateways ----------------------------------------------------------------------------


def test_the_last_known_address_counts_where_nobody_answers(workshop: Workshop) -> None:
    text = PSK.replace('"192.0.2.1"', '"gw.example.com"') + '[profile]\nstate_dir = "state"\n'
    profile = load(workshop, text)
    one, two = IPv4Address("192.0.2.5"), IPv4Address("192.0.2.6")

    def silent(_name: str) -> list[IPv4Address]:
        raise OSError("no name server")

    with pytest.raises(OSError, match=r"gw\.example\.com"):
        gateway_address(profile, silent)
    assert gateway_address(profile, lambda _: [two]) == two
    assert gateway_address(profile, lambda _: [one, two]) == two
    assert gateway_address(profile, silent) == two
    assert gateway_address(profile, lambda _: [one]) == one
    other = load(workshop, text.replace("gw.example", "other.example"))
    with pytest.raises(OSError, match="other"):
        gateway_address(other, silent)


def test_an_address_needs_no_lookup(workshop: Workshop) -> None:
    def never(name: str) -> list[IPv4Address]:
        raise AssertionError(name)

    assert gateway_address(load(workshop, PSK), never) == IPv4Address("192.0.2.1")


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "gateway: is required; give the gateway's address, or [inside] by hand"),
        ('[gateway]\naddress = "192.0.2.1"', "login: is required with [gateway]"),
        (INSIDE + '[login]\nidentity = "ann"\nmethod = "psk"\npsk = "x"', "gateway: is required"),
        (PSK.replace("192.0.2.1", "2001:db8::1"), 'gateway.address = "2001:db8::1": not an IPv4'),
        (PSK.replace("192.0.2.1", "not a name"), "gateway.address = "),
        (PSK.replace('method = "psk"', 'method = "eap"'), 'login.method = "eap": not one of'),
        (PSK.replace('identity = "ann@example.com"', ""), "login.identity: is required"),
        (PSK.replace("psk = ", "# "), "login.psk_file: is required to log in"),
        (PSK + 'user = "ann"', "login.password_file: is required to log in"),
        (PSK + 'password = "geheim"', "login.password: is never used; add user"),
        (PSK + 'certificate = "gw.pem"', 'login.certificate = "'),
        (PSK + INSIDE.replace("spi = 300", ""), "inside.spi: is required for a home agent by hand"),
        (PSK + '[inside]\nkey_file = "x"', 'inside.key_file: is only for a home agent'),
        (
            PSK + INSIDE + OUTSIDE.replace("198.51.100.2", "10.20.0.1"),
            'outside.home_agent = "10.20.0.1": is inside.home_agent as well',
        ),
        (
            PSK + INSIDE.replace("10.20.0.1", "192.0.2.1"),
            'inside.home_agent = "192.0.2.1": is gateway.address as well',
        ),
        (
            PSK + INSIDE.replace("10.20.0.77", "10.21.0.77"),
            'inside.home_address = "10.21.0.77": not in home_network 10.20.0.0/24',
        ),
        (PSK + "[detection]\nmonitor_interval_s = 0", "detection.monitor_interval_s = 0: out of"),
        (PSK + "[detection]\nretransmit_max_s = 0.2", "detection.retransmit_max_s = 0.2: below"),
        (PSK + "[detection]\nretransmit_firsts = 1", "detection.retransmit_firsts: no such key"),
        (PSK + '[network]\ndirect_networks = ["0.0.0.0/0"]', 'network.direct_networks = "0.0.0.0'),
        (PSK + "[network]\nnetworks = []", "network.networks: is empty"),
        (PSK + '[network]\nmodes = ["cv"]', 'network.modes[0] = "cv": not one of the choices'),
        (INSIDE + '[network]\nmodes = ["vc"]', 'network.modes = "vc": needs a VPN'),
        (PSK + '[network]\naccept_inside = ["22"]', 'network.accept_inside[0] = "22": not under'),
        (PSK + '[network]\naccept_inside = ["tcp/0 from 10.0.0.0/8"]', "network.accept_inside[0]"),
        (PSK + '[network]\nportal_probe = "https://a/"', 'network.portal_probe = "https'),
        (PSK + '[network]\ndhcp_command = ["udhcpc"]', 'network.dhcp_command = ["udhcp'),
        (PSK + '[network]\ndns = "off"\nsplit_domains = ["a.b"]', "network.split_domains = "),
        (PSK + '[hints]\nrouter_link_addresses = ["x"]', 'hints.router_link_addresses[0]'),
        (PSK + '[profile]\nkill_switch = "never"', 'profile.kill_switch = "never": not one of'),
        (CERTIFICATE.replace("gw.key", "ca.pem"), "login.private_key = "),
        (CERTIFICATE.replace('["ca.pem"]', "[]"), "login.ca_certificates: is required"),
        (CERTIFICATE + 'user = "a"\npassword = "x"\npassword_file = "y"', "login.password: excl"),
        (
            PSK.replace('"192.0.2.1"', '"192.0.2.1"\nike_proposals = ["rot13"]'),
            'gateway.ike_proposals = "rot13": ',
        ),
    ],
)  # fmt: skip
def test_refusals_name_the_key(workshop: Workshop, text: str, line: str) -> None:
    found = complaint(workshop, text)
    assert found.startswith(line), found
    assert "geheim" not in found


def test_all_faults_at_once(workshop: Workshop) -> None:
    found = complaints(workshop, PSK + "[detection]\nidle_after_s = -1\n[network]\nmtu = 10")
    assert len(found) == 2


def test_secrets_are_never_shown(workshop: Workshop) -> None:
    (line,) = complaints(workshop, PSK + INSIDE.replace("0f1d03c6a94e57b2e06f7c12d5983ba4", "zz"))
    assert line.startswith("profile.toml: inside.key: ")
    assert "zz" not in line


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("[detection]\nmonitor_interval_s = 45", "detection.monitor_interval_s"),
        ('[network]\nmodes = ["home", "c"]', "network.modes"),
        ("[outside]\nforce_udp = true\nzero_overhead = true", "outside.zero_overhead"),
        (INSIDE.replace("key = ", 'algorithm = "keyed-md5"\nkey = '), "inside.algorithm"),
    ],
)
def test_warnings_name_the_key(workshop: Workshop, more: str, key: str) -> None:
    profile = load(workshop, PSK + more)
    assert [warning.key for warning in profile.warnings] == [key]


def test_secrets_that_others_can_read(workshop: Workshop) -> None:
    path = workshop.write(PSK + INSIDE, "profile.toml")
    path.chmod(0o644)
    warned = {warning.key: warning.why for warning in load_profile(path).warnings}
    assert set(warned) == {"login.psk", "inside.key"}
    assert all(f"chmod 600 {path}" in why for why in warned.values())


def test_a_short_shared_key_is_named_as_the_profile_does(workshop: Workshop) -> None:
    profile = load(workshop, PSK.replace("a secret of sufficient length", "short"))
    assert [warning.key for warning in profile.warnings] == ["login.psk"]


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gateway mn profile example"):
        load_profile(tmp_path / "none.toml")


def test_acceptance_reads_what_it_writes() -> None:
    assert str(Acceptance("tcp", 22, IPv4Network("10.0.0.0/8"))) == "tcp/22 from 10.0.0.0/8"
