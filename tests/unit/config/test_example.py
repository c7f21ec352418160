"""The annotated example is complete, and every line of it is right."""

import re
import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.cli.config import example_text
from gateway.config import Config, load
from gateway.config.administration import DeviceSection
from gateway.config.connection import (
    AdvertisementSection,
    ConnectionSection,
    LifetimesSection,
    ProfileSection,
)
from gateway.config.mobility import (
    ForeignAgentSection,
    HomeAgentSection,
    HomeNetworkSection,
    KeySection,
    MobileNodeSection,
    NodeKeySection,
    PeerAgentSection,
    RelaySection,
)
from gateway.config.nar import NarRuleSection, NarServerSection
from gateway.config.remote_access import (
    BridgeSection,
    ForwardSection,
    NaptSection,
    RedirectSection,
    RegistrationSection,
    RuleSection,
    TranslationSection,
)
from gateway.config.sections import PoolSection, RadiusSection, RadiusServerSection

ROOT = Path(__file__).parents[3]
SECTIONS: dict[str, type[BaseModel]] = {
    **{
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    },
    "pools.staff": PoolSection,
    "connections.staff": ConnectionSection,
    "connections.staff.lifetimes": LifetimesSection,
    "connections.staff.foreign_agent": AdvertisementSection,
    "profiles.admins": ProfileSection,
    "radius.office": RadiusSection,
    "radius.office.servers.first": RadiusServerSection,
    "mobility.relays": RelaySection,
    "home_networks.roaming": HomeNetworkSection,
    "home_agents.office": HomeAgentSection,
    "home_agents.office.foreign_agents.branch": PeerAgentSection,
    "mobile_nodes.ann": MobileNodeSection,
    "mobile_nodes.ann.keys": NodeKeySection,
    "foreign_agents.hall": ForeignAgentSection,
    "foreign_agents.hall.known_home_agents.office": PeerAgentSection,
    "foreign_agents.hall.visitor_keys": KeySection,
    "nar.soho": NarServerSection,
    "nar.soho.rules.staff": NarRuleSection,
    "devices.anns-laptop": DeviceSection,
    "napt.office": NaptSection,
    "redirects.camera": RedirectSection,
    "translations.head-office": TranslationSection,
    "rules.web-only": RuleSection,
    "bridges.plant": BridgeSection,
    "names.forward": ForwardSection,
    "names.registration": RegistrationSection,
}
SERVER: dict[str, object] = {"address": "10.1.0.10", "secret_file": "radius.secret"}
PEER: dict[str, object] = {"address": "10.3.0.1", "spi": 1000}
REQUIRED: dict[str, dict[str, object]] = {
    "pools.staff": {"network": "10.83.112.0/22"},
    "connections.staff.foreign_agent": {"care_of_addresses": ["10.1.0.1"]},
    "profiles.admins": {"groups": ["admins"]},
    "radius.office": {"servers": {"first": SERVER}},
    "radius.office.servers.first": SERVER,
    "mobility.relays": {
        "public_address": "203.0.113.1",
        "public_port": 4434,
        "home_agent": "10.1.0.8",
    },
    "home_networks.roaming": {"network": "10.20.0.0/24"},
    "home_agents.office": {
        "address": "10.20.0.1",
        "placement": "inside",
        "home_networks": ["roaming"],
    },
    "home_agents.office.foreign_agents.branch": PEER,
    "devices.anns-laptop": {"identity": "ann@example.com"},
    "redirects.camera": {"ports": "8080", "device": "anns-laptop"},
    "translations.head-office": {"network": "10.1.0.0/16", "shown_as": "10.201.0.0/16"},
    "bridges.plant": {"interface": "eth1", "address": "10.1.0.1"},
    "names.forward": {"domains": ["plant.example.com"], "servers": ["10.7.0.53"]},
    "names.registration": {
        "server": "10.1.0.53",
        "zone": "devices.example.com",
        "key_name": "gateway.example.com",
        "secret_file": "tsig.key",
    },
    "mobile_nodes.ann.keys": {"spi": 257},
    "foreign_agents.hall": {"care_of_address": "10.4.0.1"},
    "foreign_agents.hall.known_home_agents.office": PEER,
    "foreign_agents.hall.visitor_keys": {"spi": 300},
    "nar.soho": {
        "addresses": ["203.0.113.5"],
        "client_interfaces": ["eth1"],
        "outside_interfaces": ["eth0"],
    },
}
TABLES = {
    ("radius.office", "servers"),
    ("mobility", "relays"),
    ("home_agents.office", "foreign_agents"),
    ("mobile_nodes.ann", "keys"),
    ("foreign_agents.hall", "known_home_agents"),
    ("foreign_agents.hall", "visitor_keys"),
    ("nar.soho", "rules"),
    ("names", "forward"),
    ("names", "registration"),
}
"""Keys that have a section of their own."""
OTHER_TABLES = ("#pool6", "#napt", "#rules", "#translations", "#bridge")
"""Keys of a profile that name a table which is not in force."""


def settings(text: str) -> Iterator[tuple[str, str, bool]]:
    """Section, line without its comment mark, and whether it is in force."""
    section = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"#?\[\[?([\w.-]+)\]\]?", line):
            section = header[1]
        elif found := re.fullmatch(r"(#?)(\w+ = .+)", line):
            yield section, found[2], not found[1]


SETTINGS = list(settings(example_text()))


def test_loads_without_its_files(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(example_text())
    config = load(path, with_files=False)
    assert config.connections["staff"].pool == "staff"
    assert config.warnings == ()


@pytest.mark.parametrize("section", SECTIONS)
def test_names_every_field_once(section: str) -> None:
    given = [line.split(" = ")[0] for where, line, _ in SETTINGS if where == section]
    expected = [
        name
        for name, field in SECTIONS[section].model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
        and (section, name) not in TABLES
    ]
    assert sorted(given) == sorted(expected)


def test_has_no_other_section() -> None:
    assert {section for section, _, _ in SETTINGS} == set(SECTIONS)


@pytest.mark.parametrize(("section", "line", "_active"), SETTINGS)
def test_each_line_is_valid_by_itself(section: str, line: str, _active: bool) -> None:
    values = {**REQUIRED.get(section, {}), **tomllib.loads(line)}
    SECTIONS[section].model_validate(values)


@pytest.mark.parametrize(("section", "line", "active"), SETTINGS)
def test_commented_scalars_show_the_default(section: str, line: str, active: bool) -> None:
    """A reader takes a commented value for the default: where there is one, it must be it."""
    key, value = next(iter(tomllib.loads(line).items()))
    model = SECTIONS[section]
    default = model.model_fields[key].default
    if (
        active
        or default is None
        or default == ()
        or default is PydanticUndefined
        or isinstance(value, list)
    ):
        return
    given = {**REQUIRED.get(section, {}), key: value}
    assert getattr(model.model_validate(given), key) == default


def test_every_commented_table_can_be_used(tmp_path: Path) -> None:
    """What begins with a commented header is right as a whole, with a connection that uses it."""
    text = example_text()
    for header in ("[radius.", "[profiles.", "[connections.staff.foreign"):
        text = uncommented(text, header, ("#name = ", "#secret = ", *OTHER_TABLES))
    uses = 'vpn_fa = "allowed"\nremote_auth = "user"\nuser_auth = ["eap-radius"]\n'
    uses += 'user_backend = "office"\nprofiles = ["admins"]'
    text = text.replace("[connections.staff]\n", f"[connections.staff]\n{uses}\n")
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    config = load(path, with_files=False)
    assert list(config.radius["office"].servers) == ["first"]
    assert config.profiles["admins"].groups == ("admins",)
    assert config.connections["staff"].foreign_agent is not None


def test_every_commented_table_of_the_mobility_agents_can_be_used(tmp_path: Path) -> None:
    text = uncommented(example_text(), "[mobility]", ("#mobile_nodes_file",))
    headers = ("[home_", "[mobile_nodes.", "[foreign_agents.", "[[mob", "[[for")
    others = ("#key = ", "#interface", "#public_addresses", "#identity", "#nar_server")
    for header in headers:
        text = uncommented(text, header, others)
    text = text.replace('#interface = "eth2"', 'interface = "eth2"')
    text = text.replace("#outside_interfaces", "outside_interfaces", 1)
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    config = load(path, with_files=False)
    assert config.warnings == ()
    assert list(config.home_agents["office"].foreign_agents) == ["branch"]
    assert [one.spi for one in config.mobile_nodes["ann"].keys] == [257]
    assert [one.public_port for one in config.mobility.relays] == [4434]


def test_every_commented_table_of_the_nar_server_can_be_used(tmp_path: Path) -> None:
    text = uncommented(example_text(), "[nar", ("#remotes",))
    text = uncommented(text, "[users]")
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    config = load(path, with_files=False)
    assert config.warnings == ()
    assert list(config.nar["soho"].rules) == ["staff"]


def test_every_commented_table_of_remote_access_can_be_used(tmp_path: Path) -> None:
    text = example_text()
    for header in ("[napt.", "[redirects.", "[translations.", "[rules.", "[names", "[[names"):
        text = uncommented(text, header)
    text = uncommented(text, "[devices.", ("#mobile_node",))
    text = uncommented(text, "[pools.", ("#advertise", "#inside_interface"))
    text = text.replace('dns = ["10.1.0.53"]', 'dns = ["10.1.0.1"]', 1)
    uses = 'rules = ["web-only"]\ntranslations = ["head-office"]\nipv6 = "block"'
    text = text.replace("[connections.staff]\n", f"[connections.staff]\n{uses}\n")
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    config = load(path, with_files=False)
    assert [one.network for one in config.translations.values()] == [IPv4Network("10.1.0.0/16")]
    assert config.names.registration is not None


def test_the_commented_device_can_log_in_instead(tmp_path: Path) -> None:
    text = uncommented(example_text(), "[home_networks.", ("#interface",))
    text = uncommented(text, "[home_agents.office]", ("#public_addresses",))
    text = uncommented(text, "[mobile_nodes.ann]", ("#key", "#spi", "#algorithm", "#replay"))
    text = text.replace("[mobile_nodes.ann]", '[mobile_nodes.ann]\nkeys = "login"')
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    config = load(path, with_files=False)
    assert config.mobile_nodes["ann"].logs_in
    assert config.mobile_nodes["ann"].identity == "ann@example.com"


def uncommented(text: str, header: str, skipped: tuple[str, ...] = ()) -> str:
    """The text with the settings below headers that begin so in force, except some."""
    lines, inside = [], False
    for line in text.splitlines():
        found = re.fullmatch(r"#?(\[[\w.\[\]-]+\])", line)
        if found:
            inside = found[1].startswith(header)
        setting = found or (re.fullmatch(r"#\w+ = .+", line) and not line.startswith(skipped))
        lines.append(line.removeprefix("#") if inside and setting else line)
    return "\n".join(lines) + "\n"


def test_the_copy_in_docs_is_the_same() -> None:
    assert (ROOT / "docs" / "gateway.toml.example").read_text() == example_text()


def test_minimum_is_short() -> None:
    assert sum(active for _, _, active in SETTINGS) <= 15
