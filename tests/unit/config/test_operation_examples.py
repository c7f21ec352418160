"""The configurations of the operator's guide can be used as they stand."""

import datetime
import re
from pathlib import Path

import pytest
from config_workshop import CA_KEY, Workshop, certificate, pem_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.config import Config, load
from gateway.config.to_policy import connections
from gateway.config.to_users import radius, user_base
from gateway.domain.user_auth import LOCAL
from gateway.ike.policy import UserMethod
from gateway.ike.v1.methods import method_of

GUIDE = (Path(__file__).parents[3] / "docs" / "operation.md").read_text()
EXAMPLES = dict(
    re.findall(r"^### (.+?)\n(?:(?!^###).*\n)*?```toml\n((?:.*\n)*?)```", GUIDE, re.MULTILINE)
)
GW_RSA = rsa.generate_private_key(65537, 2048)


def crl() -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example CA")]))
        .last_update(now)
        .next_update(now + datetime.timedelta(days=1))
        .sign(CA_KEY, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def loaded(workshop: Workshop, title: str) -> Config:
    """The example of the guide, with files of the names it uses."""
    leaf = certificate("gw.example.com", GW_RSA, "Example CA", CA_KEY)
    workshop.put("gateway.pem", leaf.public_bytes(Encoding.PEM))
    workshop.put("gateway.key", pem_key(GW_RSA))
    workshop.put("ca.crl", crl())
    for name in ("old.psk", "staff.ppk", "radius.secret"):
        workshop.put(name, b"a secret of sufficient length\n")
    text = EXAMPLES[title].replace("/etc/gateway/", f"{workshop.directory}/")
    return load(workshop.write(text))


def test_every_scenario_has_an_example() -> None:
    titles = re.findall(r"^### (.+)$", GUIDE.partition("## Who may log in")[2], re.MULTILINE)
    assert titles == list(EXAMPLES)
    assert len(titles) == 7


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_engine_can_use_it(workshop: Workshop, title: str) -> None:
    config = loaded(workshop, title)
    backends = {LOCAL, *(one.name for one in radius(config))}
    for policy in connections(config):
        user = policy.peer_auth.user
        assert user is None or user.backend in backends
        if policy.version == 1:
            method_of(policy, initiator=False)
    needs_users = any(section.needs_local_users for section in config.connections.values())
    assert (user_base(config) is not None) == needs_users


def test_only_the_shared_key_of_many_devices_is_warned_of(workshop: Workshop) -> None:
    for title in EXAMPLES:
        keys = {warning.key for warning in loaded(workshop, title).warnings} - {"users.file"}
        expected = {"connections.old.remote_id"} if "XAUTH" in title else set()
        assert keys == expected, title


def test_name_and_password(workshop: Workshop) -> None:
    title = "Windows, Android and iOS with name and password"
    (policy,) = connections(loaded(workshop, title))
    assert policy.peer_auth.user is not None
    assert policy.peer_auth.user.methods == (UserMethod.EAP_MSCHAPV2,)
    assert not policy.peer_auth.device_too
    assert policy.profiles[0].local_ts is not None


def test_radius_servers_in_their_order(workshop: Workshop) -> None:
    (settings,) = radius(loaded(workshop, "Active Directory or freeradius"))
    assert [str(server.authentication) for server in settings.servers] == [
        "10.1.0.10:1812",
        "10.1.0.11:1812",
    ]
    assert all(server.accounting is not None for server in settings.servers)


def test_device_and_user(workshop: Workshop) -> None:
    (policy,) = connections(loaded(workshop, "The tunnel needs its user's password too"))
    assert policy.peer_auth.anchors is not None
    assert policy.peer_auth.user is not None


def test_revocation_is_in_the_anchors(workshop: Workshop) -> None:
    (policy,) = connections(loaded(workshop, "Certificates that were revoked"))
    assert policy.peer_auth.anchors is not None
    assert policy.peer_auth.anchors.revocation is not None
    assert policy.peer_auth.anchors.revocation.policy.ocsp_responder == "http://ocsp.example.com/"
