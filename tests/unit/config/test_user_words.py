"""What the file says of users: with the device, instead of it, and who may be asked."""

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.config.to_policy import connections
from gateway.ike.auth.credentials import LocalCredential, PresharedKey
from gateway.ike.policy import ConnectionPolicy, UserMethod

KEY = "correct-horse-battery-staple"
LOGIN = 'user_auth = ["eap-mschapv2"]\n[users]\nfile = "users.toml"\n'
CLIENT = """
[credentials]
ca_certificates = ["ca.pem"]
certificate = "gw.pem"
private_key = "gw.key"
[connections.office]
local_id = "gw.example.com"
remote_id = "office.example.com"
remote = "198.51.100.7"
remote_subnets = ["10.2.0.0/16"]
request_inner_address = true
user = "ann"
password = "a pass word"
"""


def policy(workshop: Workshop, text: str) -> ConnectionPolicy:
    (found,) = connections(workshop.load(text))
    return found


@pytest.mark.parametrize(
    ("word", "key", "anchors"),
    [("certificate", False, True), ("psk", True, False), ("user", False, False)],
)
def test_device_and_user(workshop: Workshop, word: str, key: bool, anchors: bool) -> None:
    secret = f'psk = "{KEY}"\n' if word == "psk" else ""
    peer = policy(workshop, f'{MINIMAL}remote_auth = "{word}"\n{secret}{LOGIN}').peer_auth
    assert (peer.preshared_key is not None, peer.anchors is not None) == (key, anchors)
    assert peer.device_too is (key or anchors)
    assert peer.user is not None
    assert peer.user.methods == (UserMethod.EAP_MSCHAPV2,)


def test_our_device_then_our_user(workshop: Workshop) -> None:
    ours = policy(workshop, CLIENT)
    assert ours.device_too
    assert isinstance(ours.local_credential, LocalCredential)
    assert ours.user_credential is not None
    assert ours.user_credential.certificate is None
    shared = CLIENT.replace("user =", f'psk = "{KEY}"\nlocal_auth = "psk"\nuser =')
    ours = policy(workshop, shared)
    assert ours.device_too
    assert isinstance(ours.local_credential, PresharedKey)
    assert ours.local_credential.secret == KEY.encode()


def test_our_user_alone(workshop: Workshop) -> None:
    ours = policy(workshop, CLIENT.replace("user =", 'local_auth = "user"\nuser ='))
    assert not ours.device_too
    assert ours.user_credential is not None
    shared = f'ike_version = 1\npsk = "{KEY}"\nlocal_auth = "psk"\nremote_auth = "psk"\nuser ='
    old = policy(workshop, CLIENT.replace("user =", shared))
    assert not old.device_too, "IKEv1 has XAUTH for that"
    assert old.user_credential is not None


def test_only_a_gateway_with_a_certificate_is_told_a_password(workshop: Workshop) -> None:
    shared = f'psk = "{KEY}"\nlocal_auth = "psk"\nremote_auth = "user"\n{LOGIN}'
    assert 'must be "certificate" with remote_auth' in workshop.complaint(MINIMAL + shared)
    alone = f'local_auth = "user"\nremote_auth = "psk"\npsk = "{KEY}"\nuser ='
    assert 'must be "certificate" with local_auth' in workshop.complaint(
        CLIENT.replace("user =", alone)
    )


def test_aggressive_mode_with_a_shared_key_says_why(workshop: Workshop) -> None:
    shared = 'ike_version = 1\nlocal_auth = "psk"\nremote_auth = "psk"\nexchange = "aggressive"\n'
    shared += f'psk = "{KEY}"\n'
    refused = workshop.complaint(MINIMAL + shared)
    assert "guess the key offline" in refused
    assert "set allow_aggressive_psk = true" in refused
    config = workshop.load(f"{MINIMAL}{shared}allow_aggressive_psk = true\n")
    said = [str(warning) for warning in config.warnings if warning.key.endswith(".exchange")]
    assert len(said) == 1
    assert "shows a hash of the shared key to whoever asks" in said[0]


def test_users_that_others_can_read(workshop: Workshop) -> None:
    workshop.put("users.toml", b'[users.ann]\ngroups = ["staff"]\n').chmod(0o644)
    text = f'{MINIMAL}remote_auth = "user"\n{LOGIN}'
    assert "everybody may read or write" in workshop.complaint(text)


def test_users_that_a_group_can_read(workshop: Workshop) -> None:
    file = workshop.put("users.toml", b'[users.ann]\ngroups = ["staff"]\n')
    text = f'{MINIMAL}remote_auth = "user"\n{LOGIN}'
    assert workshop.load(text).warnings == ()
    file.chmod(0o640)
    (warning,) = workshop.load(text).warnings
    assert f"its group may read it; run: chmod 600 {file}" in str(warning)


RADIUS = """remote_auth = "user"
user_auth = ["eap-radius"]
user_backend = "office"
[radius.office.servers.first]
address = "10.1.0.10"
secret_file = "radius.secret"
"""


@pytest.mark.parametrize(("secret", "warns"), [("short-secret-15", True), (KEY, False)])
def test_radius_secrets_that_can_be_guessed(workshop: Workshop, secret: str, warns: bool) -> None:
    workshop.put("radius.secret", secret.encode())
    said = [str(warning) for warning in workshop.load(MINIMAL + RADIUS).warnings]
    assert any("radius.office.servers.first.secret_file" in one for one in said) is warns
    assert all(secret not in one for one in said)
    if warns:
        assert "it can be guessed offline" in said[0]
