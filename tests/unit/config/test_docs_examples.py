"""Every configuration of the documentation can be used as it stands; commands are documented."""

import datetime
import re
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from config_workshop import CA_KEY, Workshop, certificate, pem_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from typer.main import get_command
from typer.testing import CliRunner

from gateway.appliance.provisioning.first import prepare
from gateway.cli.commands import app
from gateway.config import Config, load
from gateway.config.mobility import MobileNodeSection
from gateway.config.mobility_nodes import all_nodes
from gateway.config.to_mobility import foreign_agents, home_agents, mobility_settings
from gateway.config.to_nar import nar_policies, nar_settings
from gateway.config.to_policy import connections
from gateway.config.to_users import radius, user_base
from gateway.domain.nar import Delivery
from gateway.domain.user_auth import LOCAL
from gateway.ike.policy import Feature, UserMethod
from gateway.mip_agents.advertisement import AgentAdvertisement
from gateway.mip_agents.codec.advice import advice
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.policy import MobileNode, MobileNodes
from gateway.nar.codec.numbers import Reply
from gateway.nar.server.engine import NarServer
from gateway.store.database import Store, StoreSettings
from gateway.users.editing import UserFile
from gateway.users.settings import ScryptCost, UserBaseSettings

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
GUIDE = (DOCS / "operation.md").read_text()
MOBILITY = (DOCS / "mobility.md").read_text()
NAR = (DOCS / "nar.md").read_text()
COMMANDS = (DOCS / "command.md").read_text()
GW_RSA = rsa.generate_private_key(65537, 2048)


def examples() -> dict[str, str]:
    """The configurations by the heading that they stand below."""
    found: dict[str, str] = {}
    for file in sorted(DOCS.glob("*.md")):
        if file.name == "mobile-node.md":  # profiles, see test_profile_docs.py
            continue
        parts = re.split(r"^#{1,4} (.+)$", file.read_text(), flags=re.MULTILINE)
        for heading, text in zip(parts[1::2], parts[2::2], strict=True):
            blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
            assert len(blocks) <= 1, heading
            if blocks:
                assert heading not in found
                found[heading] = blocks[0]
    return found


EXAMPLES = examples()
NODES = """
[mobile_nodes.ann]
nai = "ann@example.com"
spi = 256
key = "0f1d03c6a94e57b2e06f7c12d5983ba4"
"""
AGENTS = {
    "A home agent inside the intranet": 1,
    "A home agent outside, beside the VPN gateway": 1,
    "Many devices, addresses on demand": 1,
    "A home agent behind a port forwarding": 1,
    "Several private home agents behind one public address": 1,
    "A foreign agent on a link": 1,
    "A foreign agent in the VPN gateway": 1,
}
"""Examples of docs/mobility.md, and how many agents each has."""


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


def loaded(workshop: Workshop, heading: str) -> Config:
    """An example, with files of the names that it uses in place of those in ``/etc/gateway``."""
    leaf = certificate("gw.example.com", GW_RSA, "Example CA", CA_KEY)
    workshop.put("gateway.pem", leaf.public_bytes(Encoding.PEM))
    workshop.put("gateway.key", pem_key(GW_RSA))
    workshop.put("ca.crl", crl())
    for name in ("old.psk", "staff.ppk", "radius.secret"):
        workshop.put(name, b"a secret of sufficient length\n")
    for number, name in enumerate(("ann.key", "bob.key", "hall.key")):
        workshop.put(name, bytes(range(number, 16 + number)).hex().encode())
    workshop.put("mobile-nodes.toml", NODES.encode())
    workshop.put("names.tsig", b"c2VjcmV0LW9mLXRoZS1kb2NzLTMyLW9jdGV0cy1sb25n\n")
    users = workshop.directory / "users.toml"
    if not users.exists():
        settings = UserBaseSettings(users, users.with_name("users.toml.key"), ScryptCost(10))
        UserFile(settings).add_user("ann", "a pass word", groups=["staff"])
    text = EXAMPLES[heading].replace("/etc/gateway/", f"{workshop.directory}/")
    return workshop.load(provisioned(workshop, text) if "[provisioning]" in text else text)


def provisioned(workshop: Workshop, text: str) -> str:
    """The example as its first start finds it: with the files that the CA makes."""
    text += f'\n[store]\nstate_dir = "{workshop.directory}/state"\n'
    config = load(workshop.write(text), with_files=False)
    store = Store(StoreSettings(state_dir=config.store.state_dir), lambda _event: None)
    store.open()
    try:
        prepare(store, config)
    finally:
        store.close()
    return text


def test_every_scenario_has_an_example() -> None:
    titles = re.findall(r"^### (.+)$", GUIDE.partition("## Who may log in")[2], re.MULTILINE)
    assert set(titles) <= set(EXAMPLES)
    assert len(titles) == 11


@pytest.mark.parametrize("heading", EXAMPLES)
def test_the_engine_can_use_it(workshop: Workshop, heading: str) -> None:
    config = loaded(workshop, heading)
    backends = {LOCAL, *(one.name for one in radius(config))}
    policies = connections(config)
    assert [one.name for one in policies] == list(config.connections)
    for policy in policies:
        user = policy.peer_auth.user
        assert user is None or user.backend in backends
    needs_users = any(section.needs_local_users for section in config.connections.values())
    needs_users |= any(server.backend == LOCAL for server in config.nar.values())
    assert (user_base(config) is not None) == needs_users
    warned = {warning.key for warning in config.warnings}
    many_share_a_key = heading == "Old devices: IKEv1 with XAUTH"
    warned -= set() if config.connections else {"connections"}  # those are in the store then
    assert warned == ({"connections.old.remote_id"} if many_share_a_key else set())


@pytest.mark.parametrize("heading", AGENTS)
def test_the_agents_can_use_it(workshop: Workshop, heading: str) -> None:
    config = loaded(workshop, heading)
    homes, visited = home_agents(config), foreign_agents(config)
    assert len(homes) + len(visited) == AGENTS[heading]
    assert mobility_settings(config) is not None
    for agent in homes:
        known = [
            node
            for name, section in all_nodes(config).items()
            if (node := _node_of(agent.nodes, section)) is not None and node.name == name
        ]
        assert known
        assert all(node.associations for node in known)


def _node_of(nodes: MobileNodes, section: MobileNodeSection) -> MobileNode | None:
    if section.home_address is not None:
        return nodes.by_home_address(section.home_address)
    return nodes.by_nai(section.nai or "")


def test_details_of_the_mobility_examples(workshop: Workshop) -> None:
    (policy,) = connections(loaded(workshop, "A foreign agent in the VPN gateway"))
    assert policy.vpn_fa is Feature.REQUIRED
    told = AgentAdvertisement.parse(policy.fa_advertisement)
    assert [str(address) for address in told.care_of_addresses] == ["10.1.0.1"]
    relayed = mobility_settings(
        loaded(workshop, "Several private home agents behind one public address")
    )
    assert relayed is not None
    assert [one.public_port for one in relayed.relayed_home_agents] == [4341, 4342]
    (road,) = home_agents(loaded(workshop, "Many devices, addresses on demand"))
    assert road.pools["road"].size == 55


def test_every_example_of_the_mobility_agents_is_tried() -> None:
    text = (DOCS / "mobility.md").read_text()
    headings = re.findall(r"^### (.+)$\n(?:(?!^###).*\n)*?```toml", text, re.MULTILINE)
    assert set(headings) == set(AGENTS)


SERVERS = {
    "A home or small office with one address": (None, False),
    "A pool of addresses": (None, True),
    "Without tunnels": (Delivery.TRANSLATED, False),
    "A server inside that is reached from outside": (None, True),
    "A firewall that lets somebody in end-to-end": (None, False),
    "Plain SOCKS5 beside it": (None, False),
    "Users, groups and TLS": (None, True),
    "Mobile IP behind it": (None, False),
}
"""Examples of docs/nar.md: the delivery they impose, and whether a rule opens ports to anybody."""


@pytest.mark.parametrize("heading", SERVERS)
def test_the_nar_server_can_use_it(workshop: Workshop, heading: str) -> None:
    config = loaded(workshop, heading)
    (policy,) = nar_policies(config, lambda _: IPv4Address("203.0.113.5"))
    assert policy.addresses
    opened = any(rule.any_remote for rule in policy.rules)
    assert (policy.impose, opened) == SERVERS[heading]
    NarServer(policy, random=bytes, wall_clock=lambda: 0.0, occupied=lambda *_: False)
    assert nar_settings(config, lambda _: None) is not None


def test_every_example_of_the_nar_server_is_tried() -> None:
    headings = re.findall(r"^### (.+)$\n(?:(?!^###).*\n)*?```toml", NAR, re.MULTILINE)
    assert set(headings) == set(SERVERS)


def test_every_reply_and_event_of_the_nar_server_has_its_row() -> None:
    rows = NAR.partition("## When something does not work")[2]
    for reply in Reply:
        if reply:
            words = reply.name.lower().replace("_", " ").replace("ttl", "TTL")
            assert f"{int(reply)} {words}" in rows, reply
    sources = [p.read_text() for p in ROOT.glob("gateway/nar/server/*.py")]
    sources += [p.read_text() for p in ROOT.glob("gateway/appliance/nar/*.py")]
    for event in {name for text in sources for name in re.findall(r'"(nar_[a-z_]+)"', text)}:
        assert f"`{event}`" in NAR, event


def test_every_code_has_its_row() -> None:
    text = (DOCS / "mobility.md").read_text().partition("## Codes of registrations")[2]
    rows = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    codes = sorted(ReplyCode)
    assert rows == [f"| {int(code)} | {code.text} | {advice(code)} |" for code in codes]


def test_name_and_password(workshop: Workshop) -> None:
    title = "Windows, Android and iOS with name and password"
    (policy,) = connections(loaded(workshop, title))
    assert policy.peer_auth.user is not None
    assert policy.peer_auth.user.methods == (UserMethod.EAP_MSCHAPV2,)
    assert not policy.peer_auth.device_too


def test_radius_servers_in_their_order(workshop: Workshop) -> None:
    (settings,) = radius(loaded(workshop, "Active Directory or freeradius"))
    servers = [str(server.authentication) for server in settings.servers]
    assert servers == ["10.1.0.10:1812", "10.1.0.11:1812"]
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


def test_profiles_and_features(workshop: Workshop) -> None:
    (policy,) = connections(loaded(workshop, "Profiles by group"))
    admins, guests = policy.profiles
    assert policy.with_profile(admins).pool == "admins"
    assert policy.with_profile(guests).pool == "staff"
    assert policy.with_profile(guests).endpoint_update is Feature.OFF
    (moving,) = connections(loaded(workshop, "Moving devices: endpoint_update and vpn_fa"))
    assert (moving.endpoint_update, moving.vpn_fa) == (Feature.REQUIRED, Feature.ALLOWED)
    assert moving.fa_advertisement


def test_every_command_is_documented() -> None:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        rows = [line for line in COMMANDS.splitlines() if f"`gateway {name}" in line]
        assert rows, name
        for one in getattr(command, "commands", ()):
            assert any(re.search(rf"`(gateway {name} )?{one}\b", row) for row in rows), (name, one)


def test_every_documented_command_exists() -> None:
    for written in re.findall(
        r"`gateway ([a-z][a-z-]*(?: [a-z]+)?)\b", COMMANDS + GUIDE + MOBILITY + NAR
    ):
        group, _, rest = written.partition(" ")
        found = get_command(app).commands[group]  # type: ignore[attr-defined]
        if rest and hasattr(found, "commands"):
            assert rest in found.commands, written
        asked = CliRunner().invoke(app, [group, "--help"])
        assert asked.exit_code == 0, written
