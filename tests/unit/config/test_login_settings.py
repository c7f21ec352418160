"""How users log in: combinations that cannot work are refused by name, the others become policy."""

from ipaddress import IPv4Address

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.config import load
from gateway.config.difference import difference
from gateway.config.to_dataplane import kernel_settings
from gateway.config.to_policy import connections
from gateway.config.to_users import radius, user_base
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.policy import ConfigMode, Feature, UserMethod, V1Exchange
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag

STAFF = "connections.staff"
USERS = '[users]\nfile = "users.toml"\n'
RADIUS = (
    '[radius.office.servers.one]\naddress = "10.1.0.10"\nsecret_file = "radius.secret"\n'
    "[radius.office]\n"
)
ADMINS = '[profiles.admins]\ngroups = ["admins"]\n'
PSK = 'local_auth = "psk"\nremote_auth = "psk"\npsk = "a secret of sufficient length"\n'
CLIENT = 'remote = "198.51.100.7"\nremote_subnets = ["10.2.0.0/16"]\n'


def text(keys: str, more: str = "", *, pool: bool = True) -> str:
    """The minimal configuration with keys more for its connection, and more tables."""
    base = MINIMAL if pool else MINIMAL.replace('pool = "staff"\n', "")
    return base.replace(f"[{STAFF}]\n", f"[{STAFF}]\n{keys}\n") + "\n" + more


def complaints(workshop: Workshop, keys: str, more: str, *, pool: bool = True) -> list[str]:
    return workshop.complaints(text(keys, more, pool=pool))


@pytest.mark.parametrize(
    ("keys", "more", "said"),
    [
        ('user_auth = ["xauth"]', USERS, 'user_auth = "xauth": is for IKEv1; set ike_version = 1'),
        (
            'ike_version = 1\nuser_auth = ["eap-gtc"]',
            USERS,
            'user_auth = "eap-gtc": is for IKEv2; with ike_version = 1 only "xauth" is allowed',
        ),
        (
            'remote_auth = "user"',
            "",
            'user_auth: is required by remote_auth = "user"; give some of "eap-mschapv2"',
        ),
        (
            'remote_auth = "user"\nuser_auth = ["eap-mschapv2"]\nuser_backend = "office"',
            RADIUS,
            'user_auth = ["eap-radius"], or set user_backend = "local"',
        ),
        (
            'remote_auth = "user"\nuser_auth = ["eap-radius"]',
            RADIUS,
            'user_backend = "local": has no RADIUS server for eap-radius; name one: office',
        ),
        (
            'remote_auth = "user"\nuser_auth = ["eap-radius", "eap-gtc"]\nuser_backend = "office"',
            RADIUS,
            "leaves the choice of the method to the RADIUS server; list it alone",
        ),
        (
            'remote_auth = "user"\nuser_auth = ["eap-gtc"]\nuser_backend = "ofice"',
            RADIUS,
            'user_backend = "ofice": no such backend; choose one of: local, office',
        ),
        (
            'remote_auth = "user"\nuser_auth = ["eap-gtc", "eap-gtc"]',
            USERS,
            'user_auth = "eap-gtc": is listed twice',
        ),
        (
            (
                'remote_auth = "user"\nlocal_auth = "psk"\npsk = "a secret of sufficient length"\n'
                'user_auth = ["eap-gtc"]'
            ),
            USERS,
            'local_auth = "psk": must be "certificate" with remote_auth = "user"',
        ),
        ('user_names = "*@example.com"', "", "user_names = "),
        ("profile_required = true", "", "profile_required = true: "),
        ('user_auth = ["eap-none"]', "", "choose one of: eap-mschapv2, eap-tls, eap-gtc"),
        ("", '[users]\nkey_file = "k"', "users.key_file = "),
        ("", RADIUS.replace("office", "local"), "radius.local: is the name of the local user"),
        ("", "[radius.office]\n", "radius.office.servers: is required but missing"),
        ("", "[radius.office]\nservers = {}\n", "radius.office.servers = "),
        ("", "[profiles.a]\ngroups = []\n", "profiles.a.groups = []: is empty; give at least one"),
        ("", f'{ADMINS}pool = "x"', 'profiles.admins.pool = "x": no such pool; choose one of'),
        ("", f"{ADMINS}subnets = []", "profiles.admins.subnets: is empty, so members could reach"),
        ('user = "ann"', "", f'{STAFF}.user = "ann": only for connections that we open'),
        ('local_auth = "user"', "", 'local_auth = "user": only for connections that we open'),
    ],
)
def test_refused(workshop: Workshop, keys: str, more: str, said: str) -> None:
    workshop.put("radius.secret", b"a secret of sufficient length\n")
    assert any(said in line for line in complaints(workshop, keys, more)), said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('exchange = "aggressive"', 'exchange = "aggressive": only with ike_version = 1'),
        ('config_mode = "push"', 'config_mode = "push": only with ike_version = 1'),
        ("ike_version = 3", "ike_version = 3: out of range; allowed is 1 to 2"),
        ('ike_version = 1\nppk_id = "x"\nppk_file = "ppk"', "ppk_id = "),
        ("ppk_required = true", "ppk_required = true: needs ppk_id"),
        ('ppk_id = "x"', "ppk_file: is required with ppk_id"),
        (
            'ike_version = 1\nike_proposals = ["aes256-sha256-modp2048-ke1_mlkem768"]',
            "additional key exchanges are for IKEv2",
        ),
        (
            f'ike_version = 1\nexchange = "aggressive"\n{PSK}',
            "guess the key offline, without being noticed",
        ),
        ("allow_aggressive_psk = true\nike_version = 1", 'is only for exchange = "aggressive"'),
        (
            'ike_version = 1\nremote_auth = "psk"\npsk = "a secret of sufficient length"',
            "use psk on both sides or neither",
        ),
        ("endpoint_update = true", 'choose one of: "off", "allowed", "required"'),
        ('vpn_fa = "sometimes"', "choose one of: off, allowed, required"),
        ('vpn_fa = "allowed"', f"needs a table [{STAFF}.foreign_agent]"),
        (
            'foreign_agent = { care_of_addresses = ["10.1.0.1"] }',
            f'{STAFF}.foreign_agent: is never used; set vpn_fa = "allowed"',
        ),
        (
            'vpn_fa = "allowed"\nforeign_agent = { care_of_addresses = ["::1"] }',
            "care_of_addresses[0] = ",
        ),
        ('revocation = "required"', 'revocation = "required": nothing says what was revoked'),
        ('ocsp_responder = "ocsp.example.com"', "not the address of a responder; give one such"),
        ('crl_files = ["no.crl"]', f"{STAFF}.crl_files = "),
    ],
)
def test_features_refused(workshop: Workshop, keys: str, said: str) -> None:
    assert any(said in line for line in complaints(workshop, keys, "")), said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('user = "ann"\nlocal_auth = "user"', "password_file: is required to log in; give pass"),
        ('password = "secret"\n', f'{STAFF}.password: needs a name; give user = "NAME" too'),
        (
            'user = "ann"\nlocal_auth = "user"\npassword = "a"\npassword_file = "b"',
            f"{STAFF}.password: excludes password_file; give one of them",
        ),
        ('local_auth = "user"', f'{STAFF}.user: is required by local_auth = "user"'),
        ('remote_auth = "user"\nuser_auth = ["eap-gtc"]', "is for users that log in to us"),
        (
            (
                'user = "ann"\npassword = "a"\nlocal_auth = "user"\nremote_auth = "psk"\n'
                'psk = "a secret of sufficient length"'
            ),
            'remote_auth = "psk": must be "certificate" with local_auth = "user"',
        ),
    ],
)
def test_clients_refused(workshop: Workshop, keys: str, said: str) -> None:
    found = complaints(workshop, CLIENT + keys, "", pool=False)
    assert any(said in line for line in found), said


def test_no_secret_is_in_a_complaint(workshop: Workshop) -> None:
    found = complaints(workshop, f'{CLIENT}password = "hunter2hunter2"\nuser = 5', "", pool=False)
    assert "hunter2" not in "\n".join(found)


def test_aggressive_psk_by_name_is_warned_of(workshop: Workshop) -> None:
    keys = f'ike_version = 1\nexchange = "aggressive"\nallow_aggressive_psk = true\n{PSK}'
    config = workshop.load(text(keys))
    (warning,) = (w for w in config.warnings if w.key == f"{STAFF}.exchange")
    assert "guess the key offline" in warning.why
    (policy,) = connections(config)
    assert (policy.version, policy.v1_exchange) == (1, V1Exchange.AGGRESSIVE)


def test_ikev1_words(workshop: Workshop) -> None:
    keys = f'ike_version = 1\nconfig_mode = "push"\nuser_auth = ["xauth"]\n{PSK}'
    (policy,) = connections(workshop.load(text(keys, USERS)))
    assert policy.v1_config_mode is ConfigMode.PUSH
    assert policy.peer_auth.preshared_key is not None
    assert policy.peer_auth.user is not None
    assert policy.peer_auth.user.methods == (UserMethod.XAUTH,)
    assert policy.peer_auth.user.backend == "local"


def test_profiles_become_policy_and_protected_networks(workshop: Workshop) -> None:
    keys = (
        'remote_auth = "user"\nuser_auth = ["eap-mschapv2"]\nuser_names = "*@example.com"\n'
        'profiles = ["admins"]\nprofile_required = true\neap_identity = false'
    )
    more = f'{USERS}{ADMINS}subnets = ["10.8.0.0/16"]\npool = "two"\nendpoint_update = "off"\n'
    more += '[pools.two]\nnetwork = "10.84.0.0/24"\ndns = ["10.1.0.9"]\n'
    config = workshop.load(text(keys, more))
    (policy,) = connections(config)
    (profile,) = policy.profiles
    assert policy.profile_required
    assert (profile.name, profile.groups, profile.pool) == (
        "admins",
        frozenset({"admins"}),
        "two",
    )
    assert profile.dns == (IPv4Address("10.1.0.9"),)
    assert profile.endpoint_update is Feature.OFF
    assert profile.vpn_fa is None
    changed = policy.with_profile(profile)
    assert list(map(str, changed.subnets)) == ["10.8.0.0/16"]
    assert changed.local_ts != policy.local_ts
    user = policy.peer_auth.user
    assert user is not None
    assert not user.eap_identity
    assert user.identities is not None
    assert user.identities.text == "*@example.com"
    assert "10.8.0.0/16" in map(str, kernel_settings(config).protected_networks)


def test_eap_tls_judges_users_by_the_authorities(workshop: Workshop) -> None:
    keys = 'remote_auth = "user"\nuser_auth = ["eap-tls"]'
    (policy,) = connections(workshop.load(text(keys)))
    assert policy.peer_auth.anchors is None
    assert policy.peer_auth.user is not None
    assert policy.peer_auth.user.anchors is not None


def test_a_client_with_a_password_alone_has_nothing_else_to_prove(workshop: Workshop) -> None:
    workshop.put("ann.password", b"not a long one\n")
    keys = f'{CLIENT}local_auth = "user"\nuser = "ann"\npassword_file = "ann.password"'
    first, second = (connections(load(workshop.write(text(keys, pool=False))))[0] for _ in range(2))
    assert first.user_credential is not None
    assert first.user_credential.password == b"not a long one"
    assert "not a long one" not in repr(first)
    assert isinstance(first.local_credential, PresharedKey)
    assert first.peer_auth.preshared_key is None
    assert first == second, "a reload would take it for another connection"


def test_a_client_of_eap_tls(workshop: Workshop) -> None:
    keys = f'{CLIENT}local_auth = "user"\nuser = "ann"\ncertificate = "gw.pem"\n'
    (policy,) = connections(workshop.load(text(f'{keys}private_key = "gw.key"', pool=False)))
    assert policy.user_credential is not None
    assert policy.user_credential.certificate is not None
    assert policy.user_credential.anchors is not None
    assert policy.user_credential.password == b""


def test_foreign_agent(workshop: Workshop) -> None:
    keys = 'vpn_fa = "required"\nforeign_agent = { care_of_addresses = ["10.1.0.1"] }'
    (policy,) = connections(workshop.load(text(keys)))
    assert policy.vpn_fa is Feature.REQUIRED
    found = AgentAdvertisement.parse(policy.fa_advertisement)
    assert found.care_of_addresses == (IPv4Address("10.1.0.1"),)
    assert AgentFlag.FOREIGN_AGENT in found.flags
    assert found.registration_lifetime_s == 1800


def test_ppk(workshop: Workshop) -> None:
    workshop.put("ppk", b"a secret of sufficient length\n")
    keys = 'ppk_id = "x"\nppk_file = "ppk"\nppk_required = true'
    (policy,) = connections(workshop.load(text(keys)))
    assert policy.ppk is not None
    assert (policy.ppk.ppks[0].ppk_id, policy.ppk.required) == (b"x", True)
    assert policy.ppk.ppks[0].secret == b"a secret of sufficient length"


def test_radius(workshop: Workshop) -> None:
    workshop.put("radius.secret", b"a secret of sufficient length\n")
    config = workshop.load(text("", f'{RADIUS}accounting = false\ngroup_attributes = ["class"]'))
    (settings,) = radius(config)
    assert (settings.name, settings.nas_identifier) == ("office", "gw.example.com")
    assert settings.servers[0].accounting is None
    assert [one.value for one in settings.groups_from] == ["class"]
    assert "sufficient" not in repr(settings)


def test_the_key_of_the_users_stands_beside_their_file(workshop: Workshop) -> None:
    assert user_base(workshop.load()) is None
    settings = user_base(workshop.load(text("", USERS)))
    assert settings is not None
    assert settings.key_path.name == "users.toml.key"


def test_differences_of_the_new_tables(workshop: Workshop) -> None:
    workshop.put("radius.secret", b"a secret of sufficient length\n")
    before = workshop.load(text("", RADIUS + ADMINS))
    moved = RADIUS.replace("10.1.0.10", "10.1.0.11")
    after = workshop.load(text("", f"{moved}{ADMINS}subnets = ['10.8.0.0/16']\n{USERS}"))
    changes = {change.key: change for change in difference(before, after)}
    assert set(changes) == {
        "users.file",
        "radius.office.servers.one.address",
        "profiles.admins.subnets",
    }
    assert "closed with a DELETE" in changes["profiles.admins.subnets"].effect
    assert not any(change.needs_restart for change in changes.values())
