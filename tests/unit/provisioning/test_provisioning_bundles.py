"""What bundles hold, and that no name breaks out of any of their languages."""

import base64
import dataclasses
import json
import os
import re
import tomllib
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given, settings
from hypothesis import strategies as st
from provisioning_readers import (
    connection_of,
    files,
    make,
    mobileconfig,
    parse_swanctl,
    shape,
    skeleton,
    windows_device,
)
from provisioning_setups import (
    IKE,
    authority,
    by_certificate,
    by_psk,
    by_user,
)

from gateway.config.profile import load_profile
from gateway.provisioning import ca, qr
from gateway.provisioning.bundle import swanctl
from gateway.provisioning.names import Kind, PeerName
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.setup import HomeAgent, Platform, Setup

HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from("\"'`$(){}[]<>&;#=\\|%!*?~^,. \u2018\u2019\u201a\u201b\u201c\u0092äß€😀-"),
        st.characters(blacklist_categories=("Cs",)),
    ),
    min_size=1,
    max_size=60,
).filter(lambda text: text.isprintable() and bool(text.strip()))
"""What the configuration lets through as identity, user or name: printable, anything else."""


def hostile_user(text: str, title: str) -> Setup:
    """A device whose names are all made by somebody who wants to break out."""
    name = PeerName(Kind.EMAIL, f"{text}@example.com".encode(), (), f"email:{text}@example.com")
    return by_user(user=text, identity=name, title=title, domains=("corp.example.com",))


# -- swanctl -------------------------------------------------------------------------------


def test_swanctl_has_the_whole_connection() -> None:
    found = files(make(Platform.STRONGSWAN, by_certificate()))
    assert set(found) == {
        "conf.d/laptop.conf",
        "x509ca/laptop-ca1.pem",
        "x509/laptop.pem",
        "pkcs8/laptop.pem",
    }
    (connection,) = parse_swanctl(found["conf.d/laptop.conf"])["connections"].values()
    assert connection["remote_addrs"] == "gw.example.com"
    assert connection["vips"] == "0.0.0.0"
    assert connection["proposals"] == IKE.words
    assert connection["local-1"] == {
        "auth": "pubkey",
        "id": "ann@example.com",
        "certs": "laptop.pem",
    }
    assert connection["remote"] == {
        "auth": "pubkey",
        "id": "gw.example.com",
        "cacerts": "laptop-ca1.pem",
    }
    assert connection["children"]["laptop"]["remote_ts"] == "10.1.0.0/16"
    root = x509.load_pem_x509_certificate(found["x509ca/laptop-ca1.pem"].encode())
    assert root == authority().certificate


def test_swanctl_knows_shared_keys_ikev1_and_two_logins() -> None:
    setup = by_psk(
        version=1,
        aggressive=True,
        user="ann",
        user_methods=("xauth",),
        ppk_id="staff",
        ppk="0123",
        subnets=(),
    )
    tree = parse_swanctl(swanctl.configuration(setup))
    connection = tree["connections"]["laptop"]
    assert connection["version"] == "1"
    assert connection["aggressive"] == "yes"
    assert connection["local-1"]["auth"] == "psk"
    assert connection["local-2"] == {"auth": "xauth", "xauth_id": "ann"}
    assert connection["children"]["laptop"]["remote_ts"] == "0.0.0.0/0"
    secret = tree["secrets"]["ike-laptop"]["secret"]
    assert bytes.fromhex(secret[2:]).decode() == setup.psk


@settings(max_examples=150, deadline=None)
@given(HOSTILE, HOSTILE)
def test_h78_no_name_breaks_out_of_swanctl(text: str, title: str) -> None:
    tree = parse_swanctl(swanctl.configuration(hostile_user(text, title)))
    plain = parse_swanctl(swanctl.configuration(hostile_user("ann", "gw")))
    assert shape(tree) == shape(plain)
    local = tree["connections"]["laptop"]["local-1"]
    assert local["eap_id"] == text
    identity = f"{text}@example.com"
    assert local["id"] in {identity, f"email:#{identity.encode().hex()}"}


# -- the mobile node -----------------------------------------------------------------------


def stage(folder: Path, content: bytes) -> Path:
    """As `gateway mn import` does it."""
    from gateway.cli.mn_import import import_file

    source = folder / "in"
    source.write_bytes(content)
    target = folder / "profile.toml"
    import_file(str(source), target, lambda _user: "a password", replace=True)
    return target


@pytest.mark.parametrize(
    "setup",
    [
        by_certificate(),
        by_psk(),
        by_user(),
        by_certificate(own_proposals=True, tcp_ports=(4500, 443), mobike=False, subnets=()),
        by_psk(version=1),
    ],
)
def test_a_mobile_node_takes_its_one_file(setup: Setup, tmp_path: Path) -> None:
    profile = load_profile(stage(tmp_path, make(Platform.GATEWAY_MN, setup)))
    assert profile.gateway is not None
    assert str(profile.gateway.address) == "gw.example.com"
    assert profile.gateway.tcp_ports == setup.tcp_ports
    for file in tmp_path.iterdir():
        assert file.name == "in" or file.stat().st_mode & 0o077 == 0


def test_a_mobile_node_gets_its_home_agents(tmp_path: Path) -> None:
    inside = HomeAgent(
        IPv4Address("10.20.0.1"),
        IPv4Address("10.20.0.10"),
        IPv4Network("10.20.0.0/24"),
        256,
        "8f1d03c6a94e57b2e06f7c12d5983ba4",
        "hmac-sha256",
    )
    outside = dataclasses.replace(
        inside,
        address=IPv4Address("203.0.113.2"),
        home_address=IPv4Address("203.0.113.70"),
        home_network=IPv4Network("203.0.113.64/26"),
    )
    setup = by_certificate(inside=inside, outside=outside)
    profile = load_profile(stage(tmp_path, make(Platform.GATEWAY_MN, setup)))
    assert profile.inside.home_address == inside.home_address
    assert profile.outside.home_agent == outside.address
    assert IPv4Network("10.20.0.0/24") in profile.network.networks


def test_split_networks_cover_everything_once() -> None:
    setup = by_psk(subnets=(IPv4Network("10.1.0.0/16"), IPv4Network("10.1.2.0/24")))
    network = tomllib.loads(make(Platform.GATEWAY_MN, setup).decode())["network"]
    direct = [IPv4Network(one) for one in network["direct_networks"]]
    assert sum(one.num_addresses for one in direct) + 2**16 == 2**32
    assert not any(one.overlaps(IPv4Network("10.1.0.0/16")) for one in direct)


@settings(max_examples=150, deadline=None)
@given(HOSTILE, HOSTILE)
def test_h78_no_name_breaks_out_of_a_profile(text: str, title: str) -> None:
    tables = tomllib.loads(make(Platform.GATEWAY_MN, hostile_user(text, title)).decode())
    plain = tomllib.loads(make(Platform.GATEWAY_MN, hostile_user("ann", "gw")).decode())
    assert shape(tables) == shape(plain)
    assert tables["login"]["user"] == text


def test_a_profile_fits_into_a_code_and_comes_back() -> None:
    content = make(Platform.GATEWAY_MN, by_certificate(subnets=()))
    packed = qr.pack(content)
    assert packed is not None
    assert qr.unpack(packed) == content
    assert qr.svg(packed).startswith("<svg")
    assert qr.pack(os.urandom(4000)) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_codes_round_trip(octets: bytes) -> None:
    packed = qr.pack(octets)
    assert packed is not None
    assert qr.unpack(packed) == octets


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_h78_a_code_of_anybody_is_refused_cleanly(text: str) -> None:
    with pytest.raises(ValueError, match=r"damaged|no code"):
        qr.unpack(qr.LEAD + text)


def test_h78_a_code_does_not_grow_without_bound() -> None:
    packed = qr.pack(b"\0" * 1_000_000)
    assert packed is not None
    with pytest.raises(ValueError, match="damaged"):
        qr.unpack(packed)


# -- Android -------------------------------------------------------------------------------


def test_sswan_has_the_keys_that_the_app_reads() -> None:
    setup = by_certificate(kind=ca.KeyKind.RSA3072)
    profile = json.loads(make(Platform.ANDROID, setup))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", profile["uuid"])
    assert profile["type"] == "ikev2-cert"
    assert profile["remote"]["addr"] == "gw.example.com"
    root = x509.load_der_x509_certificate(base64.b64decode(profile["remote"]["cert"]))
    assert root == authority().certificate
    key, certificate, more = pkcs12.load_key_and_certificates(
        base64.b64decode(profile["local"]["p12"]), b"laptop"
    )
    assert key is not None
    assert certificate is not None
    assert setup.certificate == ca.certificate_pem(certificate)
    assert more == [root]
    assert profile["split-tunneling"] == {"subnets": ["10.1.0.0/16"]}
    assert "esn" not in profile["esp-proposal"]


def test_sswan_names_each_kind_of_login() -> None:
    both = by_certificate(user="ann", user_methods=("eap-mschapv2",))
    assert json.loads(make(Platform.ANDROID, both))["type"] == "ikev2-cert-eap"
    assert json.loads(make(Platform.ANDROID, by_user()))["type"] == "ikev2-eap"
    tls = by_certificate(device_proof=None, user="ann", user_methods=("eap-tls",))
    assert json.loads(make(Platform.ANDROID, tls))["type"] == "ikev2-eap-tls"


@settings(max_examples=100, deadline=None)
@given(HOSTILE, HOSTILE)
def test_h78_no_name_breaks_out_of_sswan(text: str, title: str) -> None:
    profile = json.loads(make(Platform.ANDROID, hostile_user(text, title)))
    assert shape(profile) == shape(json.loads(make(Platform.ANDROID, by_user())))
    assert profile["local"]["eap_id"] == text


# -- Apple ---------------------------------------------------------------------------------


def test_mobileconfig_has_a_certificate_that_ios_opens() -> None:
    setup = by_certificate()
    _, payloads = mobileconfig(setup)
    vpn = payloads["com.apple.vpn.managed"]["IKEv2"]
    identity = payloads["com.apple.security.pkcs12"]
    assert vpn["AuthenticationMethod"] == "Certificate"
    assert vpn["CertificateType"] == "ECDSA256"
    assert vpn["PayloadCertificateUUID"] == identity["PayloadUUID"]
    key, certificate, _ = pkcs12.load_key_and_certificates(
        identity["PayloadContent"], identity["Password"].encode()
    )
    assert key is not None
    assert certificate is not None
    assert ca.certificate_pem(certificate) == setup.certificate
    # pbeWithSHAAnd3-KeyTripleDES-CBC, and no AES: iOS and macOS take nothing newer in .p12
    assert bytes.fromhex("060a2a864886f70d010c0103") in identity["PayloadContent"]
    assert bytes.fromhex("6086480165030401") not in identity["PayloadContent"]
    dns = payloads["com.apple.vpn.managed"]["DNS"]
    assert dns == {
        "ServerAddresses": ["10.1.0.53"],
        "SupplementalMatchDomains": ["corp.example.com"],
    }


def test_mobileconfig_of_users_and_shared_keys() -> None:
    _, payloads = mobileconfig(by_user())
    vpn = payloads["com.apple.vpn.managed"]["IKEv2"]
    assert vpn["AuthenticationMethod"] == "Certificate"
    assert "PayloadCertificateUUID" not in vpn
    assert vpn["ExtendedAuthEnabled"] == 1
    assert vpn["AuthName"] == "ann@example.com"
    assert "AuthPassword" not in vpn
    _, payloads = mobileconfig(by_psk())
    vpn = payloads["com.apple.vpn.managed"]["IKEv2"]
    assert vpn["AuthenticationMethod"] == "SharedSecret"
    assert vpn["SharedSecret"] == "a shared key of some length"


@settings(max_examples=100, deadline=None)
@given(HOSTILE, HOSTILE)
def test_h78_no_name_breaks_out_of_mobileconfig(text: str, title: str) -> None:
    whole, payloads = mobileconfig(hostile_user(text, title))
    plain, _ = mobileconfig(hostile_user("ann", "gw"))
    assert [shape(one) for one in whole["PayloadContent"]] == [
        shape(one) for one in plain["PayloadContent"]
    ]
    assert payloads["com.apple.vpn.managed"]["IKEv2"]["AuthName"] == text


# -- Windows -------------------------------------------------------------------------------


def test_windows_gets_its_machine_certificate_and_algorithms() -> None:
    script = make(Platform.WINDOWS, windows_device()).decode()
    assert "-AuthenticationMethod MachineCertificate" in script
    assert "-EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA384" in script
    assert "-SplitTunneling" in script
    assert "Add-VpnConnectionRoute $name -DestinationPrefix '10.1.0.0/16'" in script
    blob, password = re.findall(r"FromBase64String\('([^']+)'\)|\$data,'([0-9a-f]+)'", script)[1:3]
    key, certificate, _ = pkcs12.load_key_and_certificates(
        base64.b64decode(blob[0]), password[1].encode()
    )
    assert key is not None
    assert certificate is not None
    assert certificate.subject.rfc4514_string() == "CN=laptop"


def test_windows_users_log_in_by_password() -> None:
    setup = by_user(ike=(dataclasses.replace(IKE, groups=("modp2048",)),), subnets=())
    script = make(Platform.WINDOWS, setup).decode()
    assert "-AuthenticationMethod Eap" in script
    assert "-DHGroup Group14" in script
    assert "SplitTunneling" not in script
    assert "PersistKeySet" not in script


@settings(max_examples=150, deadline=None)
@given(HOSTILE, HOSTILE)
def test_h78_no_name_breaks_out_of_powershell(text: str, title: str) -> None:
    script = make(Platform.WINDOWS, hostile_user(text, title))
    assert skeleton(script) == skeleton(make(Platform.WINDOWS, hostile_user("ann", "gw")))


# -- NetworkManager ------------------------------------------------------------------------


def test_networkmanager_names_files_that_are_in_its_archive() -> None:
    found = files(make(Platform.NETWORK_MANAGER, by_certificate()))
    vpn = connection_of(by_certificate())["vpn"]
    assert vpn["method"] == "cert"
    for key in ("certificate", "usercert", "userkey"):
        assert vpn[key].removeprefix("/") in found
    assert vpn["ike"] == IKE.words
    assert vpn["remote-ts"] == "10.1.0.0/16"


def test_networkmanager_knows_users_and_shared_keys() -> None:
    assert connection_of(by_user())["vpn"]["method"] == "eap"
    psk = connection_of(by_psk())
    assert psk["vpn"]["method"] == "psk"
    assert psk["vpn-secrets"]["password"] == "a shared key of some length"
    with pytest.raises(ProvisioningRefusedError, match="20 characters"):
        connection_of(by_psk(psk="short"))


@settings(max_examples=150, deadline=None)
@given(HOSTILE, HOSTILE)
def test_h78_no_name_breaks_out_of_a_key_file(text: str, title: str) -> None:
    found = connection_of(hostile_user(text, title))
    assert shape(found) == shape(connection_of(hostile_user("ann", "gw")))
    assert found["vpn"]["user"].strip() == text.strip()


# -- others --------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(HOSTILE, HOSTILE)
def test_h78_no_name_adds_a_line_to_the_page(text: str, title: str) -> None:
    page = make(Platform.OTHER, hostile_user(text, title)).decode()
    plain = make(Platform.OTHER, hostile_user("ann", "gw")).decode()
    assert len(page.splitlines()) == len(plain.splitlines())


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a.b", "-x", "x" * 64, "a\nb", "a b", "ä", "con;rm"]
)
def test_h78_a_device_name_is_never_a_path(name: str) -> None:
    with pytest.raises(ProvisioningRefusedError):
        by_psk(device=name)
