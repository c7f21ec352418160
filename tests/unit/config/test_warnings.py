"""What is allowed but should be looked at."""

import pytest
from config_workshop import CA_KEY, GW_KEY, MINIMAL, Workshop, certificate
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.config import Config

SECRET = "correct-horse-battery-staple"
PSK = MINIMAL.replace(
    "[connections.staff]",
    f'[connections.staff]\nremote_auth = "psk"\nlocal_auth = "psk"\npsk = "{SECRET}"',
)


def warned(config: Config) -> str:
    return "\n".join(map(str, config.warnings))


def test_none_for_a_good_configuration(workshop: Workshop) -> None:
    assert workshop.load().warnings == ()


@pytest.mark.parametrize("home", ["192.168.0.0/24", "192.168.1.0/25", "192.168.0.0/16"])
def test_home_networks(workshop: Workshop, home: str) -> None:
    text = warned(workshop.load(workshop.changed("10.83.112.0/22", home)))
    assert "pools.staff.network" in text
    assert "home routers use" in text


def test_pool_inside_the_intranet(workshop: Workshop) -> None:
    text = warned(workshop.load(workshop.changed("10.1.0.0/16", "10.0.0.0/8")))
    assert "contains pool 10.83.112.0/22: route 10.83.112.0/22 to this gateway" in text


def test_everything_through_the_tunnel_is_no_overlap(workshop: Workshop) -> None:
    assert workshop.load(workshop.changed("10.1.0.0/16", "0.0.0.0/0")).warnings == ()


@pytest.mark.parametrize("weak", ["sha1", "modp1024", "3des", "modp1536"])
def test_weak_algorithms(workshop: Workshop, weak: str) -> None:
    proposal = {
        "sha1": "aes128-sha1-x25519",
        "modp1024": "aes128gcm16-prfsha256-modp1024",
        "3des": "3des-sha256-modp2048",
        "modp1536": "aes128-sha256-modp1536",
    }[weak]
    config = workshop.load(workshop.added("connections.staff", f'ike_proposals = ["{proposal}"]'))
    assert f"{weak} is weak" in warned(config)


def test_modern_algorithms_do_not(workshop: Workshop) -> None:
    line = 'ike_proposals = ["aes256gcm16-prfsha384-x25519"]\nesp_proposals = ["aes256gcm16-esn"]'
    assert workshop.load(workshop.added("connections.staff", line)).warnings == ()


def test_shared_secret_for_everybody(workshop: Workshop) -> None:
    assert "every such device can pose as this gateway" in warned(workshop.load(PSK))


def test_short_and_mistaken_secrets(workshop: Workshop) -> None:
    text = warned(workshop.load(PSK.replace(SECRET, "0sc2VjcmV0")))
    assert "shorter than 20 characters" in text
    assert "begins with 0s, which is taken literally" in text


def test_readable_secrets(workshop: Workshop) -> None:
    workshop.put("staff.psk", SECRET.encode() + b"\n").chmod(0o644)
    (workshop.directory / "gw.key").chmod(0o644)
    text = workshop.changed("[connections.staff]", "[connections.staff]\nremote_auth = 'psk'")
    text = text.replace("remote_auth", "psk_file = 'staff.psk'\nremote_auth")
    found = warned(workshop.load(text))
    assert f"chmod 600 {workshop.directory}/staff.psk" in found
    assert f"chmod 600 {workshop.directory}/gw.key" in found


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [(-9, -1, "expired at"), (1, 9, "is valid from"), (-9, 9, "expires at")],
)
def test_certificate_validity(workshop: Workshop, since: int, until: int, words: str) -> None:
    leaf = certificate(
        "gw.example.com", GW_KEY, "Example CA", CA_KEY, since_days=since, until_days=until
    )
    workshop.put("gw.pem", leaf.public_bytes(Encoding.PEM))
    text = warned(workshop.load())
    assert f'"CN=gw.example.com" {words}' in text


def test_nobody_can_connect(workshop: Workshop) -> None:
    assert "nobody can connect" in warned(workshop.load(""))


def test_cookies_never_demanded(workshop: Workshop) -> None:
    text = workshop.added("ike", "half_open_limit = 50")
    assert "so cookies are never demanded" in warned(workshop.load(text))


def test_peer_that_takes_all_traffic(workshop: Workshop) -> None:
    text = workshop.changed('pool = "staff"', 'remote_subnets = ["0.0.0.0/0"]')
    assert "would get all our traffic; name its networks" in warned(workshop.load(text))
    opened = text.replace("[connections.staff]", '[connections.staff]\nremote = "192.0.2.9"')
    assert workshop.load(opened).warnings == ()


def test_one_source_may_take_all_tcp_connections(workshop: Workshop) -> None:
    text = "[ike]\ntcp_connections = 50\n"
    assert workshop.load(text + MINIMAL).warnings == ()
    both = text + "tcp_connections_per_source = 60\n" + MINIMAL
    assert "ike.tcp_connections_per_source = 60: above tcp_connections" in warned(
        workshop.load(both)
    )
