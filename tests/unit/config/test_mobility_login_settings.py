"""One login: what the configuration says of it, what is refused, what the parts are told."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.appliance.mobility_login import KEY_FILE_NAME, mobility_login, ticket_boxes
from gateway.appliance.parts import Parts
from gateway.config import Config, ConfigError, difference
from gateway.config.mobility_logins import grants, has_logins
from gateway.config.to_mobility import home_agents, mobility_settings
from gateway.domain.mobility_credential import MobilityGrant
from gateway.domain.wire import WireError
from gateway.ike.auth.identity import Identity
from gateway.mip_agents.ticket import MAX_IDENTITY_OCTETS, TicketBox

KEY = "8f1d03c6a94e57b2e06f7c12d5983ba4c2b90e7745d1f86a3390ae6d1c5b42f7"
OLD_KEY = "c2b90e7745d1f86a3390ae6d1c5b42f78f1d03c6a94e57b2e06f7c12d5983ba4"
ANN = Identity.parse("ann@example.com")
AGENTS = """
[dataplane]
outside_interfaces = ["eth0"]

[home_networks.inner]
network = "10.20.0.0/24"

[home_networks.outer]
network = "203.0.113.64/26"

[home_agents.inside]
address = "10.20.0.1"
placement = "inside"
home_networks = ["inner"]

[home_agents.outside]
address = "203.0.113.2"
placement = "outside"
home_networks = ["outer"]

[mobile_nodes.ann]
home_address = "10.20.0.10"
keys = "login"
identity = "ann@example.com"

[mobile_nodes.ann-outside]
home_address = "203.0.113.70"
keys = "login"
identity = "Ann@Example.com"

[mobile_nodes.bob]
home_address = "10.20.0.11"
spi = 256
key = "8f1d03c6a94e57b2e06f7c12d5983ba4"
"""
REMOTE = ('placement = "inside"\n', 'placement = "inside"\nremote = true\n')


def text(*changes: tuple[str, str]) -> str:
    found = MINIMAL + AGENTS
    for old, new in changes:
        assert old in found, old
        found = found.replace(old, new, 1)
    return found


def with_ticket_key(workshop: Workshop, *lines: str) -> tuple[str, str]:
    file = workshop.directory / "ticket.key"
    file.write_text("\n".join(lines or (KEY,)) + "\n")
    file.chmod(0o600)
    return "[dataplane]\n", f'[mobility]\nticket_key_file = "{file}"\n\n[dataplane]\n'


def of_inside(workshop: Workshop) -> tuple[str, str]:
    """A key for the inside home agent alone."""
    file = workshop.directory / "inside.key"
    file.write_text(OLD_KEY + "\n")
    file.chmod(0o600)
    header = "[home_agents.inside]\n"
    return header, f'{header}ticket_key_file = "{file}"\n'


def state_in(folder: Path) -> tuple[str, str]:
    return "[dataplane]\n", f'[mobility]\nstate_dir = "{folder}"\n\n[dataplane]\n'


def test_loads_without_a_warning(workshop: Workshop) -> None:
    config = workshop.load(text())
    assert config.warnings == ()
    assert has_logins(config)
    inside, outside = home_agents(config)
    ann = inside.nodes.by_home_address(IPv4Address("10.20.0.10"))
    assert ann is not None
    assert (ann.login, ann.identity, ann.associations) == (True, "ann@example.com", ())
    bob = inside.nodes.by_home_address(IPv4Address("10.20.0.11"))
    assert bob is not None
    assert not bob.login
    assert outside.nodes.by_home_address(IPv4Address("203.0.113.70")) is not None


def test_who_gets_what(workshop: Workshop) -> None:
    config = workshop.load(text())
    inside = MobilityGrant(
        True, IPv4Address("10.20.0.1"), IPv4Address("10.20.0.10"), IPv4Network("10.20.0.0/24")
    )
    outside = MobilityGrant(
        False,
        IPv4Address("203.0.113.2"),
        IPv4Address("203.0.113.70"),
        IPv4Network("203.0.113.64/26"),
    )
    assert [grant for _, grant in grants(config)] == [inside, outside]


def test_authority_of_a_gateway_that_is_its_own_home_agent(
    workshop: Workshop, tmp_path: Path
) -> None:
    """It makes its key itself, and keeps it."""
    folder = tmp_path / "state"
    config = workshop.load(text(state_in(folder)))
    authority = mobility_login(config)
    assert authority is not None
    inside, outside = authority.grants(ANN)
    assert (inside.inside, outside.inside) == (True, False)
    assert authority.grants(Identity.parse("ANN@example.com")) == (inside, outside)
    assert authority.grants(Identity.parse("bob@example.com")) == ()
    assert authority.holder(inside.home_address) == ANN
    assert authority.holder(IPv4Address("10.20.0.11")) is None
    file = folder / KEY_FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    ticket, lifetime_s = authority.seal(ANN, inside, 4711, bytes(32))
    box = ticket_boxes(config)["inside"]
    opened = box.open(ticket)
    assert (opened.identity, opened.home_address, opened.home_agent, opened.spi) == (
        "ann@example.com",
        inside.home_address,
        inside.home_agent,
        4711,
    )
    assert lifetime_s == 7 * 86_400
    newer, _ = authority.seal(ANN, inside, 4711, bytes(32))
    assert box.open(newer).issued_at_us > opened.issued_at_us


def test_plan_of_the_appliance_opens_what_it_seals(workshop: Workshop, tmp_path: Path) -> None:
    config = workshop.load(text(state_in(tmp_path / "state")))
    parts = Parts()
    authority = parts.mobility_login(config)
    plan = parts.mobility(config)
    assert authority is not None
    assert plan is not None
    inside = plan.home_agents[0]
    assert inside.tickets is not None
    ticket, _ = authority.seal(ANN, authority.grants(ANN)[0], 300, bytes(32))
    assert inside.tickets.open(ticket).home_agent == inside.address


def test_key_that_cannot_be_kept_is_told_with_its_field(workshop: Workshop, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    config = workshop.load(text(state_in(file / "below")))
    with pytest.raises(ConfigError, match=r"mobility\.state_dir"):
        Parts().mobility_login(config)


def test_broken_key_of_its_own_is_told(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / KEY_FILE_NAME).write_text("rubbish\n")
    config = workshop.load(text(state_in(tmp_path)))
    with pytest.raises(ConfigError, match=r"mobility\.state_dir"):
        Parts().mobility_login(config)


def test_nothing_is_made_without_logins(workshop: Workshop, tmp_path: Path) -> None:
    lines = MINIMAL + AGENTS[: AGENTS.index("[mobile_nodes.ann]")]
    lines += AGENTS[AGENTS.index("[mobile_nodes.bob]") :]
    folder = tmp_path / "state"
    config = workshop.load(lines.replace(*state_in(folder)))
    assert Parts().mobility_login(config) is None
    plan = Parts().mobility(config)
    assert plan is not None
    assert plan.home_agents[0].tickets is None
    assert not folder.exists()


def test_remote_home_agent(workshop: Workshop) -> None:
    """Its addresses are granted and it is protected; it does not run here."""
    config = workshop.load(text(REMOTE, of_inside(workshop)))
    assert config.warnings == ()
    assert [one.name for one in home_agents(config)] == ["outside"]
    assert len(grants(config)) == 2
    settings = mobility_settings(config)
    assert settings is not None
    assert settings.home_agents == (IPv4Address("203.0.113.2"),)
    assert settings.inside_home_agents == (IPv4Address("10.20.0.1"),)
    assert [one.name for one in settings.home_networks] == ["outer"]
    authority = Parts().mobility_login(config)
    assert authority is not None
    assert len(authority.grants(ANN)) == 2


def test_remote_home_agents_alone(workshop: Workshop) -> None:
    both = ('placement = "outside"\n', 'placement = "outside"\nremote = true\n')
    config = workshop.load(text(REMOTE, both, with_ticket_key(workshop)))
    assert not config.has_mobility_agents
    assert config.needs_mobility
    assert home_agents(config) == ()
    assert Parts().mobility_login(config) is not None


def test_outside_home_agent_goes_by_its_public_address(workshop: Workshop) -> None:
    public = ('placement = "outside"\n', 'placement = "outside"\npublic_addresses = ["8.8.8.8"]\n')
    config = workshop.load(text(public))
    assert grants(config)[1][1].home_agent == IPv4Address("8.8.8.8")


def test_outside_home_agent_cannot_open_tickets_of_the_inside_one(workshop: Workshop) -> None:
    config = workshop.load(text(REMOTE, with_ticket_key(workshop), of_inside(workshop)))
    assert config.warnings == ()
    authority = Parts().mobility_login(config)
    assert authority is not None
    inside, outside = authority.grants(ANN)
    boxes = ticket_boxes(config)
    for grant, name in ((inside, "inside"), (outside, "outside")):
        ticket, _ = authority.seal(ANN, grant, 300, bytes(32))
        assert boxes[name].open(ticket).home_agent == grant.home_agent
    ticket, _ = authority.seal(ANN, inside, 300, bytes(32))
    assert isinstance(boxes["outside"], TicketBox)
    with pytest.raises(WireError):
        boxes["outside"].open(ticket)
    (agent,) = home_agents(config, boxes)
    assert agent.tickets == boxes["outside"]


def test_one_key_for_both_in_different_boxes_is_warned_of(workshop: Workshop) -> None:
    config = workshop.load(text(REMOTE, with_ticket_key(workshop)))
    assert any("could answer as the inside one" in str(one) for one in config.warnings)


def test_two_keys_while_they_are_changed(workshop: Workshop) -> None:
    old = ticket_boxes(workshop.load(text(with_ticket_key(workshop, OLD_KEY))))["inside"]
    two = text(with_ticket_key(workshop, "# new", KEY, "", OLD_KEY))
    new = ticket_boxes(workshop.load(two))["inside"]
    assert old is not None
    assert new is not None
    assert old != new
    assert "8f1d" not in repr(new)


def test_home_agent_whose_gateway_is_elsewhere(workshop: Workshop) -> None:
    """No connection here, so no identity is needed; with one, tickets must name it."""
    lines = '[gateway]\nname = "ha.example.com"\n' + AGENTS.replace(
        'identity = "ann@example.com"\n', ""
    )
    config = workshop.load(lines.replace(*with_ticket_key(workshop)))
    inside, outside = home_agents(config, ticket_boxes(config))
    ann = inside.nodes.by_home_address(IPv4Address("10.20.0.10"))
    assert ann is not None
    assert (ann.login, ann.identity) == (True, "")
    assert outside.tickets is not None
    assert Parts().mobility_login(config) is None


LONG = "x" * MAX_IDENTITY_OCTETS + "@example.com"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('keys = "login"\n', 'keys = "logins"\n'), "mobile_nodes.ann.keys"),
        (('keys = "login"\n', 'keys = "login"\nspi = 300\n'), "mobile_nodes.ann.spi"),
        (('keys = "login"\n', f'keys = "login"\nkey = "{KEY}"\n'), "mobile_nodes.ann.key"),
        (('identity = "ann@example.com"\n', ""), "mobile_nodes.ann.identity"),
        (('"ann@example.com"', '"*@example.com"'), "mobile_nodes.ann.identity"),
        (('"ann@example.com"', f'"{LONG}"'), "mobile_nodes.ann.identity"),
        (('"ann@example.com"', '"a b@@"'), "mobile_nodes.ann.identity"),
        (('home_address = "10.20.0.10"\n', 'nai = "a@b.example"\n'), "mobile_nodes.ann.home_add"),
        (("spi = 256\n", 'spi = 256\nidentity = "bob@example.com"\n'), "mobile_nodes.bob.identity"),
        (REMOTE, "mobility.ticket_key_file"),
        (
            ('placement = "inside"\n', 'placement = "inside"\nremote = true\nlifetime_s = 60\n'),
            "home_agents.inside.lifetime_s",
        ),
        (
            ("spi = 256\n", 'keys = "login"\nidentity = "ANN@example.com"\n'),
            "mobile_nodes.bob.identity",
        ),
    ],
)
def test_refused(workshop: Workshop, change: tuple[str, str], said: str) -> None:
    lines = text(change)
    if change[0] == "spi = 256\n" and "keys" in change[1]:
        lines = lines.replace('key = "8f1d03c6a94e57b2e06f7c12d5983ba4"\n', "")
    with pytest.raises(ConfigError) as refused:
        workshop.load(lines)
    assert any(str(one).startswith(f"gateway.toml: {said}") for one in refused.value.problems), [
        str(one) for one in refused.value.problems
    ]


@pytest.mark.parametrize("lines", [["rubbish"], [""], ["00" * 16], [KEY] * 5, ["\xff"]])
def test_ticket_key_files_that_are_refused(workshop: Workshop, lines: list[str]) -> None:
    with pytest.raises(ConfigError, match="ticket_key_file") as refused:
        workshop.load(text(with_ticket_key(workshop, *lines)))
    assert KEY not in str(refused.value)


def test_ticket_key_file_that_others_read(workshop: Workshop) -> None:
    change = with_ticket_key(workshop)
    (workshop.directory / "ticket.key").chmod(0o644)
    config = workshop.load(text(change))
    assert any("ticket_key_file" in str(one) for one in config.warnings)


def test_reload_tells_of_the_change(workshop: Workshop) -> None:
    running: Config = workshop.load(text())
    spi = 'spi = 300\nkey = "c2b90e7745d1f86a3390ae6d1c5b42f7"\n'
    wanted = workshop.load(text(('keys = "login"\nidentity = "ann@example.com"\n', spi)))
    told = [str(one) for one in difference.difference(running, wanted)]
    assert any("mobile_nodes.ann" in one for one in told)
