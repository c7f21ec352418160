"""Tables of the mobility agents: what is refused, what is warned of, what the agents get."""

import ast
import inspect
from base64 import b64encode
from dataclasses import fields, replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.config import Config, ConfigError, to_mobility
from gateway.config.mobility_fields import decode_key
from gateway.config.to_mobility import foreign_agents, home_agents, mobility_settings
from gateway.config.to_policy import connections
from gateway.dataplane.mobility import MobilitySettings
from gateway.domain.mobility import Encapsulation, HomeNetwork
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.policy import (
    Algorithm,
    Allowance,
    ForeignAgentPolicy,
    HomeAgentPolicy,
    Placement,
    ReplayProtection,
)

KEY = "8f1d03c6a94e57b2e06f7c12d5983ba4"
TEXT = b"correct horse battery"
OTHER = "c2b90e7745d1f86a3390ae6d1c5b42f7"
AGENTS = f"""
[dataplane]
outside_interfaces = ["eth0"]

[home_networks.inner]
network = "10.20.0.0/24"
dynamic = "10.20.0.128-10.20.0.139"
reserved = ["10.20.0.130"]

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
spi = 256
key = "{KEY}"

[foreign_agents.hall]
care_of_address = "10.4.0.1"
interface = "eth2"
"""


VPN = '[foreign_agents.vpn]\ncare_of_address = "10.1.0.1"\nthrough_vpn = true\n'


def text(*changes: tuple[str, str]) -> str:
    """The agents' configuration with texts replaced, or a table's line put behind its header."""
    found = MINIMAL + AGENTS
    for old, new in changes:
        assert old in found, old
        found = found.replace(old, new, 1)
    return found


def more(header: str, *lines: str) -> tuple[str, str]:
    header = f"[{header}]\n"
    return header, header + "\n".join(lines) + "\n"


def warnings(config: Config) -> list[str]:
    return [str(one).removeprefix("gateway.toml: ") for one in config.warnings]


def test_loads_without_a_warning(workshop: Workshop) -> None:
    config = workshop.load(text())
    assert config.warnings == ()
    inside, outside = home_agents(config)
    assert (inside.name, inside.address) == ("inside", IPv4Address("10.20.0.1"))
    assert (inside.placement, outside.placement) == (Placement.INSIDE, Placement.OUTSIDE)
    assert inside.networks == (HomeNetwork("inner", IPv4Network("10.20.0.0/24")),)
    assert inside.encapsulations == frozenset(Encapsulation)
    node = inside.nodes.by_home_address(IPv4Address("10.20.0.10"))
    assert node is not None
    assert node.name == "ann"
    assert node.associations[0].key.hex() == KEY
    assert outside.nodes.by_home_address(IPv4Address("10.20.0.10")) is None


def test_every_field_of_the_policies_comes_from_the_file(workshop: Workshop) -> None:
    config = workshop.load(
        text(
            more(
                "home_agents.outside",
                'public_addresses = ["198.51.100.20"]',
                "lifetime_s = 600\nlifetime_spread = 0.2\nkeepalive_s = 30",
                'encapsulations = ["ip-ip"]\nreverse_tunnelling = "required"',
                'udp_tunnelling = "off"\nsimultaneous = false\nbroadcasts = false',
                'revocation = false\nzero_overhead_destinations = ["203.0.113.9"]',
                "max_packet_octets = 1300\nmax_bindings = 5\ntrust_unsigned_agents = false",
                f'foreign_agents.b = {{ address = "10.9.0.1", spi = 300, key = "{KEY}" }}',
            ),
            more(
                "foreign_agents.hall",
                'home_agents = ["10.20.0.1", "10.7.0.0/16"]\nregistration_required = false',
                'lifetime_s = 60\nreverse_tunnelling = "off"\nencapsulations = ["ip-ip", "gre"]',
                'challenge = true\nnai = "hall@example.com"\nadvertisement_interval_s = 0',
                "advertisement_lifetime_s = 90\nrevocation = false\nmax_visitors = 7",
                "max_pending = 8\npending_timeout_s = 3\nmax_packet_octets = 1280",
                "trust_unsigned_agents = false\nrequire_visitor_authentication = true",
                f'visitor_keys = [{{ spi = 301, key = "{KEY}", algorithm = "hmac-sha256" }}]',
                f'known_home_agents.a = {{ address = "10.7.0.1", spi = 302, key = "{KEY}" }}',
                f'known_home_agents.b = {{ address = "10.7.0.1", spi = 303, key = "{OTHER}" }}',
            ),
        )
    )
    _, agent = home_agents(config)
    assert agent.public_addresses == (IPv4Address("198.51.100.20"),)
    assert (agent.lifetime_s, agent.lifetime_spread, agent.keepalive_s) == (600, 0.2, 30)
    assert agent.encapsulations == {Encapsulation.IP_IP}
    assert agent.reverse_tunnelling is Allowance.REQUIRED
    assert (agent.udp_tunnelling, agent.zero_overhead) == (Allowance.OFF, Allowance.ALLOWED)
    flags = (agent.simultaneous, agent.broadcasts, agent.revocation, agent.trust_unsigned_agents)
    assert flags == (False,) * 4
    assert agent.zero_overhead_destinations == (IPv4Network("203.0.113.9/32"),)
    assert (agent.max_packet_octets, agent.max_bindings) == (1300, 5)
    assert agent.peer_agents[IPv4Address("10.9.0.1")].associations[0].spi == 300
    (hall,) = foreign_agents(config)
    assert hall.home_agents == (IPv4Network("10.20.0.1/32"), IPv4Network("10.7.0.0/16"))
    assert (hall.interface, hall.lifetime_s) == ("eth2", 60)
    assert (hall.max_visitors, hall.max_pending, hall.pending_timeout_s) == (7, 8, 3)
    assert (hall.advertisement_interval_s, hall.advertisement_lifetime_s) == (0, 90)
    assert (hall.nai, hall.max_packet_octets) == ("hall@example.com", 1280)
    assert hall.reverse_tunnelling is Allowance.OFF
    assert hall.encapsulations == {Encapsulation.IP_IP, Encapsulation.GRE}
    assert hall.challenge
    assert hall.require_visitor_authentication
    flags = (hall.registration_required, hall.revocation, hall.trust_unsigned_agents)
    assert flags == (False,) * 3
    assert hall.visitor_associations[301].algorithm is Algorithm.HMAC_SHA256
    peer = hall.peer_agents[IPv4Address("10.7.0.1")]
    assert [one.spi for one in peer.associations] == [302, 303]


@pytest.mark.parametrize("policy", [HomeAgentPolicy, ForeignAgentPolicy, MobilitySettings])
def test_no_field_of_a_policy_is_forgotten(policy: type) -> None:
    source = ast.parse(inspect.getsource(to_mobility))
    (call,) = (
        node
        for node in ast.walk(source)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == policy.__name__
    )
    assert {one.arg for one in call.keywords} == {field.name for field in fields(policy)}


def test_home_agents_know_each_other(workshop: Workshop) -> None:
    others = 'public_addresses = ["198.51.100.20"]'
    more_of_it = '[mobility]\ninside_home_agents = ["10.1.0.7"]\n'
    config = workshop.load(text(more("home_agents.outside", others)) + more_of_it)
    inside, outside = home_agents(config)
    known = {"203.0.113.2", "198.51.100.20", "10.1.0.7"}
    assert set(map(str, inside.other_home_agents)) == known
    assert set(map(str, outside.other_home_agents)) == known - {"203.0.113.2"} | {"10.20.0.1"}


def test_several_keys_of_a_device(workshop: Workshop) -> None:
    workshop.put("next.key", f"base64:{b64encode(TEXT).decode()}\n".encode())
    table = '\n[[mobile_nodes.ann.keys]]\nspi = 257\nalgorithm = "hmac-sha256"\nreplay = "nonces"\n'
    key = 'key_file = "next.key"\nreplay_window_s = 9\n[foreign_agents.hall]\n'
    config = workshop.load(text(("[foreign_agents.hall]\n", table + key)))
    (node,) = (home_agents(config)[0].nodes.by_home_address(IPv4Address("10.20.0.10")),)
    assert node is not None
    first, second = node.associations
    assert (first.spi, first.replay) == (256, ReplayProtection.TIMESTAMPS)
    assert (second.spi, second.replay) == (257, ReplayProtection.NONCES)
    assert (second.algorithm, second.replay_window_s) == (Algorithm.HMAC_SHA256, 9)
    assert second.key == TEXT
    (warned,) = warnings(config)
    assert warned.startswith("mobile_nodes.ann.keys[0].key_file = ")
    assert "is a text in other digits" in warned


def test_dynamic_addresses(workshop: Workshop) -> None:
    fixed = ('home_address = "10.20.0.10"', 'home_address = "10.20.0.131"\nnai = "Ann@Example.com"')
    free = f'\n[mobile_nodes.bob]\nnai = "bob@example.com"\nspi = 256\nkey = "{OTHER}"\n[foreign'
    config = workshop.load(text(fixed, ("[foreign", free)))
    inside, outside = home_agents(config)
    pool = inside.pools["inner"]
    leased = [str(pool.lease(f"node{n}")) for n in range(pool.size)]
    expected = [128, 129, 132, 133, 134, 135, 136, 137, 138, 139]
    assert leased == [f"10.20.0.{n}" for n in expected]
    assert outside.pools == {}
    bob = inside.nodes.by_nai("bob@EXAMPLE.com")
    assert bob is not None
    assert bob.home_address is None
    assert inside.nodes.by_nai("BOB@example.com") is None
    assert outside.nodes.by_nai("bob@example.com") is None


@pytest.mark.parametrize(
    ("dynamic", "first", "last", "size"),
    [
        ("10.20.0.4/30", "10.20.0.4", "10.20.0.7", 4),
        ("10.20.0.0/24", "10.20.0.2", "10.20.0.254", 252),
        ("10.20.0.9", "10.20.0.9", "10.20.0.9", 1),
    ],
)
def test_a_range_loses_no_address(
    workshop: Workshop, dynamic: str, first: str, last: str, size: int
) -> None:
    change = (
        'dynamic = "10.20.0.128-10.20.0.139"\nreserved = ["10.20.0.130"]',
        f'dynamic = "{dynamic}"',
    )
    config = workshop.load(text(change))
    pool = home_agents(config)[0].pools["inner"]
    leased = [str(pool.lease(f"node{n}")) for n in range(pool.size)]
    taken = {"10.20.0.10", "10.20.0.1"}
    assert (leased[0], leased[-1], len(leased)) == (first, last, size)
    assert not taken & set(leased)


def test_settings_of_the_dataplane(workshop: Workshop) -> None:
    lines = 'inside_home_agents = ["10.1.0.7"]\noffload = false\nqueue = 9\nqueue_length = 10'
    relay = '[[mobility.relays]]\npublic_address = "203.0.113.1"\npublic_port = 4434\n'
    config = workshop.load(f'{text()}[mobility]\n{lines}\n{relay}home_agent = "10.1.0.8"\n')
    settings = mobility_settings(config)
    assert settings is not None
    assert list(map(str, settings.home_agents)) == ["10.20.0.1", "203.0.113.2"]
    assert list(map(str, settings.inside_home_agents)) == ["10.20.0.1", "10.1.0.7"]
    assert list(map(str, settings.care_of_addresses)) == ["10.4.0.1"]
    assert [one.name for one in settings.home_networks] == ["inner", "outer"]
    assert settings.visited_interfaces == ("eth2",)
    assert settings.outside_interfaces == ("eth0",)
    assert settings.protected_networks == (IPv4Network("10.1.0.0/16"),)
    assert (settings.offload, settings.queue_number, settings.queue_length) == (False, 9, 10)
    (only,) = settings.relayed_home_agents
    assert (only.public_port, str(only.home_agent)) == (4434, "10.1.0.8")


def test_no_agents_no_settings(workshop: Workshop) -> None:
    assert mobility_settings(workshop.load()) is None
    assert home_agents(workshop.load()) == ()


def test_others_home_agents_are_protected_without_agents_of_ours(workshop: Workshop) -> None:
    lines = '[dataplane]\noutside_interfaces = ["eth0"]\n[mobility]\n'
    config = workshop.load(f'{MINIMAL}{lines}inside_home_agents = ["10.1.0.7"]\n')
    settings = mobility_settings(config)
    assert settings is not None
    assert list(map(str, settings.inside_home_agents)) == ["10.1.0.7"]


NODE = "mobile_nodes.ann"
BEHIND = ("[foreign_agents.hall]\n", "{}\n[foreign_agents.hall]\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ('address = "203.0.113.2"', 'address = "10.20.0.1"'),
            "the inside and the outside home agent must have different addresses",
        ),
        (
            more("home_agents.outside", 'public_addresses = ["10.20.0.1"]'),
            "is the address of home_agents.inside; a device could not tell them apart",
        ),
        (
            ('home_networks = ["outer"]', 'home_networks = ["outer", "inner"]'),
            "belongs to home_agents.inside already",
        ),
        (
            ('home_networks = ["outer"]', 'home_networks = ["outer", "here"]'),
            'outside.home_networks = "here": no such table; choose one of: inner, outer',
        ),
        (
            ('network = "203.0.113.64/26"', 'network = "10.20.0.0/16"'),
            'home_networks.outer.network = "10.20.0.0/16": overlaps home_networks.inner.network',
        ),
        (
            ('network = "203.0.113.64/26"', 'network = "10.83.112.0/24"'),
            "overlaps pools.staff.network 10.83.112.0/22",
        ),
        (('network = "203.0.113.64/26"', 'network = "::/64"'), "not an IPv4 network"),
        (('network = "203.0.113.64/26"', 'network = "224.0.0.0/8"'), "not addresses that a device"),
        (('network = "203.0.113.64/26"', 'network = "96.0.0.0/3"'), "too large"),
        (
            ('"10.20.0.128-10.20.0.139"', '"10.20.1.0/28"'),
            'home_networks.inner.dynamic = "10.20.1.0/28": not part of the home network 10.20.0.0',
        ),
        (
            ('"10.20.0.128-10.20.0.139"', '["10.20.0.130", "10.20.0.128/25"]'),
            'dynamic = "10.20.0.128/25": overlaps 10.20.0.130',
        ),
        (('"10.20.0.128-10.20.0.139"', '"10.20.0.139-10.20.0.128"'), "ends before it begins"),
        (('reserved = ["10.20.0.130"]', 'reserved = ["10.20.0.9"]'), "is not in dynamic"),
        (more("home_networks.outer", 'interface = "gw0"'), "is the interface of the tunnels"),
        (more("home_networks.inner", 'interface = "eth0"'), "but home_agents.inside is inside"),
        (more("home_agents.inside", "max_packet_octets = 575"), "allowed is 576 to 65000"),
        (more("home_agents.inside", "max_packet_octets = 65001"), "allowed is 576 to 65000"),
        (more("home_agents.inside", 'encapsulations = ["gre"]'), 'lacks "ip-ip"'),
        (more("home_agents.inside", 'zero_overhead = "required"'), "choose one of: off, allowed"),
        (more("home_agents.inside", "udp_tunnelling = true"), 'choose one of: "off"'),
        (
            more(
                "home_agents.inside",
                'zero_overhead = "off"\nzero_overhead_destinations=["10.0.0.1"]',
            ),
            'is never used with zero_overhead = "off"',
        ),
        (
            ('care_of_address = "10.4.0.1"', 'care_of_address = "203.0.113.2"'),
            "is an address of home_agents.outside",
        ),
        (
            ('care_of_address = "10.4.0.1"', 'care_of_address = "10.20.0.77"'),
            "lies in the virtual home_networks.inner",
        ),
        (
            ('care_of_address = "10.4.0.1"', 'care_of_address = "2001:db8::1"'),
            "not an IPv4 address",
        ),
        (('interface = "eth2"', ""), "foreign_agents.hall.interface: is required"),
        (('interface = "eth2"', 'interface = "gw0"'), "set through_vpn = true and remove it"),
        (
            ("[foreign_agents.hall]\n", "[foreign_agents.hall]\nthrough_vpn = true\n"),
            "excludes thr",
        ),
        (
            ('interface = "eth2"', 'through_vpn = true\nreverse_tunnelling = "off"'),
            "through the VPN every packet is tunnelled to the home agent",
        ),
        (('interface = "eth2"', "through_vpn = true\nchallenge = true"), "its challenge would be"),
        (
            ('interface = "eth2"', "through_vpn = true\nregistration_required = false"),
            "can only register by way of it",
        ),
        (
            ('interface = "eth2"', "through_vpn = true\nadvertisement_interval_s = 5"),
            "is for links",
        ),
        (
            ('interface = "eth2"', 'interface = "eth2"\nadvertisement_interval_s = 60'),
            "shorter than advertisement_interval_s = 60",
        ),
        (
            ('interface = "eth2"', 'interface = "eth2"\nrequire_visitor_authentication = true'),
            "lets nobody in without keys",
        ),
        (more("dataplane", "queue = 4758"), "is dataplane.queue as well"),
        (('home_address = "10.20.0.10"', 'home_address = "10.21.0.10"'), "lies in no home network"),
        (('home_address = "10.20.0.10"', 'home_address = "10.20.0.255"'), "is no host's address"),
        (
            ('home_address = "10.20.0.10"', 'home_address = "10.20.0.1"'),
            "home_agents.inside.address",
        ),
        (('home_address = "10.20.0.10"', ""), "mobile_nodes.ann.home_address: is required without"),
        (('home_address = "10.20.0.10"', 'nai = "a b@c"'), "not a network access identifier"),
        (more(NODE, 'home_network = "outer"'), "does not contain home_address 10.20.0.10"),
        (more(NODE, 'home_network = "where"'), "no such table; choose one of: inner, outer"),
        (more(NODE, 'home_agents = ["outside"]'), "does not have home_networks.inner"),
        (more(NODE, 'home_agents = ["other"]'), "no such table; choose one of: inside, outside"),
        (
            ('home_address = "10.20.0.10"', 'nai = "a@b"\nhome_network = "outer"'),
            "has no dynamic addresses; give home_address, or home_networks.outer.dynamic",
        ),
        (
            ('home_address = "10.20.0.10"', 'nai = "a@b"\nhome_agents = ["outside"]'),
            "no home network of its home agents has dynamic addresses",
        ),
        (("spi = 256\n", "spi = 255\n"), "too small; allowed is 256 or more"),
        (("spi = 256\n", ""), "mobile_nodes.ann.spi: needs spi"),
        ((f'key = "{KEY}"', ""), "mobile_nodes.ann.key_file: is required with spi"),
        (
            (f'key = "{KEY}"', f'key = "{KEY[:30]}"'),
            "has 15 octets; give 16 to 512, because whoever",
        ),
        ((f'key = "{KEY}"', 'key = "correct horse"'), "is not a key; give pairs of hexadecimal"),
        ((f'key = "{KEY}"', f'key = "{"00" * 16}"'), "repeats 1 octets and can be guessed"),
        ((f'key = "{KEY}"', 'key = "base64:?"'), "is not base64 behind base64:"),
        ((f'key = "{KEY}"', f'key = "{KEY}"\nkey_file = "x"'), "excludes key_file"),
        ((f'key = "{KEY}"', 'key_file = "absent"'), "no such file"),
        (
            (f'key = "{KEY}"', f'key = "{KEY}"\nkeys = [{{ spi = 256, key = "{OTHER}" }}]'),
            "mobile_nodes.ann.keys[0].spi = 256: is used twice",
        ),
    ],
)
def test_refused(workshop: Workshop, change: tuple[str, str], said: str) -> None:
    lines = workshop.complaints(text(change))
    assert any(said in line for line in lines), lines
    assert not any(secret in line for line in lines for secret in (KEY[:30], OTHER, "horse"))


def node(name: str, *lines: str) -> tuple[str, str]:
    table = "\n".join((f"[mobile_nodes.{name}]", "spi = 300", f'key = "{OTHER}"', *lines))
    return BEHIND[0], BEHIND[1].format(table)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['home_address = "10.20.0.10"'], "is that of mobile_nodes.ann as well; give each device"),
        (['nai = "ann@EXAMPLE.org"'], "is that of mobile_nodes.ann as well, at home_agents.inside"),
        (['home_address = "10.4.0.1"'], "lies in no home network"),
    ],
)
def test_two_devices(workshop: Workshop, lines: list[str], said: str) -> None:
    changes = (node("bob", *lines), more(NODE, 'nai = "ann@example.org"'))
    assert said in workshop.complaint(text(*changes))


def relay(address: str, port: int, agent: str) -> str:
    table = f'public_address = "{address}"\npublic_port = {port}\nhome_agent = "{agent}"'
    return f"[[mobility.relays]]\n{table}\n"


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (relay("203.0.113.1", 4434, "10.20.0.1"), "is an inside home agent"),
        (relay("203.0.113.2", 434, "10.1.0.9"), "is where home_agents.outside listens"),
        (relay("203.0.113.1", 4500, "10.1.0.9"), "is IKE's; choose another"),
        (relay("203.0.113.1", 4434, "10.1.0.9") * 2, "is that of mobility.relays[0] as well"),
        ('[mobility]\ninside_home_agents = ["10.20.0.1"]\n', "its placement says it already"),
        ('[mobility]\ninside_home_agents = ["224.0.0.1"]\n', "not an address of a host"),
    ],
)
def test_shared_refused(workshop: Workshop, tables: str, said: str) -> None:
    assert said in workshop.complaint(text() + tables)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('outside_interfaces = ["eth0"]', ""), "dataplane.outside_interfaces: is empty, so this"),
        (
            more("home_agents.inside", 'public_addresses = ["198.51.100.9"]'),
            "makes an inside home agent known outside",
        ),
        (more(NODE, 'algorithm = "keyed-md5"'), 'mobile_nodes.ann.algorithm = "keyed-md5": is br'),
        (
            more("home_agents.outside", 'udp_tunnelling = "required"\nzero_overhead = "allowed"'),
            "is never granted with udp_tunnelling",
        ),
        (
            more("home_agents.outside", 'reverse_tunnelling = "off"\nzero_overhead = "allowed"'),
            "is never granted with reverse_tunnelling",
        ),
        (more("home_agents.inside", "trust_unsigned_agents = false"), "lets no foreign agent in"),
        (
            ('home_networks = ["outer"]', 'home_networks = ["third"]'),
            "home_networks.outer: no home",
        ),
        ((KEY, "41" * 8 + "4243444546474849"), "is a text in other digits"),
        (node("bob", 'nai = "b@c"', f'keys = [{{ spi = 301, key = "{KEY}" }}]'), "who has one dev"),
        (
            (
                "[foreign_agents.hall]\n",
                f"{VPN}[foreign_agents.hall]\n",
            ),
            "no connection tells its devices",
        ),
    ],
)
def test_warned(workshop: Workshop, change: tuple[str, str], said: str) -> None:
    third = '\n[home_networks.third]\nnetwork = "10.22.0.0/24"\n' if "third" in change[1] else ""
    lines = warnings(workshop.load(text(change) + third))
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert KEY not in lines[0]


def test_agents_alone_need_no_connection(workshop: Workshop) -> None:
    assert workshop.load(AGENTS).warnings == ()


def test_nodes_without_a_home_agent(workshop: Workshop) -> None:
    nodes = f'[mobile_nodes.ann]\nhome_address = "10.20.0.10"\nspi = 256\nkey = "{KEY}"\n'
    assert "mobile_nodes: is never used" in workshop.complaint(MINIMAL + nodes)


def test_readable_keys(workshop: Workshop) -> None:
    workshop.put("ann.key", KEY.encode()).chmod(0o640)
    config = workshop.load(text((f'key = "{KEY}"', 'key_file = "ann.key"')))
    assert ["readable by others; run: chmod 600" in one for one in warnings(config)] == [True]
    assert decode_key(KEY) == bytes.fromhex(KEY)


NODES = ("[dataplane]\n", '[mobility]\nmobile_nodes_file = "nodes.toml"\n[dataplane]\n')


def test_file_of_nodes(workshop: Workshop) -> None:
    tables = "".join(
        f'[mobile_nodes.n{n}]\nhome_address = "10.20.0.{n}"\nspi = 256\nkey = "{n:032x}"\n'
        for n in range(20, 120)
    )
    workshop.put("nodes.toml", tables.encode())
    with pytest.raises(ConfigError) as refused:
        workshop.load(text(NODES))
    problems = refused.value.problems
    assert str(problems[0]).startswith("nodes.toml: mobile_nodes.n20.key: repeats ")
    assert len(problems) <= 21
    good = tables.replace("0" * 28, "1234567890abcdef1234567890ab")
    workshop.put("nodes.toml", good.encode())
    config = workshop.load(text(NODES))
    assert config.warnings == ()
    known = home_agents(config)[0].nodes
    found = known.by_home_address(IPv4Address("10.20.0.119"))
    assert found is not None
    assert found.name == "n119"
    assert known.by_home_address(IPv4Address("10.20.0.10")) is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            f"[mobile_nodes.ann]\nnai = 'x'\nspi = 300\nkey = '{OTHER}'\n",
            "ann: is in nodes.toml and",
        ),
        (
            f"[mobile_nodes.b]\nhome_address = '10.20.0.10'\nspi = 300\nkey = '{OTHER}'\n",
            "is that of mobile_nodes.ann as well",
        ),
        ("[mobile_nodes.b]\nspy = 300\n", "nodes.toml: mobile_nodes.b.spy: no such key; did you"),
        ("[mobile_node.b]\n", 'no such key; did you mean "mobile_nodes"?'),
        ("[mobile_nodes", "not valid TOML"),
        ("\xff", "not UTF-8"),
        (None, "no such file"),
    ],
)
def test_bad_file_of_nodes(workshop: Workshop, content: str | None, said: str) -> None:
    if content is not None:
        workshop.put("nodes.toml", content.encode("latin-1"))
    line = workshop.complaint(text(NODES))
    assert line.startswith("nodes.toml: ")
    assert said in line


@pytest.mark.parametrize("line", ["", 'foreign_agent = "vpn"', "foreign_agent = { name = 'vpn' }"])
def test_foreign_agent_of_the_vpn(workshop: Workshop, line: str) -> None:
    minimal = workshop.added("connections.staff", f'vpn_fa = "allowed"\n{line}')
    config = workshop.load(f"{minimal}\n{VPN}")
    assert config.warnings == ()
    (policy,) = connections(config)
    told = AgentAdvertisement.parse(policy.fa_advertisement)
    (agent,) = foreign_agents(config)
    assert told.care_of_addresses == (agent.care_of_address,)
    assert told.flags & AgentFlag.REVERSE_TUNNELLING
    assert told.flags & AgentFlag.REGISTRATION_REQUIRED
    assert told.flags & (AgentFlag.GRE | AgentFlag.MINIMAL_ENCAPSULATION)
    engine = ForeignAgent(agent, random=bytes, wall_clock=float)
    same = replace(engine.advertisement(), sequence=0, lifetime_s=told.lifetime_s)
    assert told == replace(same, extensions=told.extensions)
    assert (agent.interface, agent.reverse_tunnelling) == ("gw0", Allowance.REQUIRED)
    settings = mobility_settings(config)
    assert settings is not None
    assert settings.visited_interfaces == ()


@pytest.mark.parametrize(
    ("line", "agents", "said"),
    [
        ('foreign_agent = "other"', VPN, 'foreign_agent = "other": no foreign agent with through'),
        ("foreign_agent = { lifetime_s = 9 }", VPN, "care_of_addresses: is empty"),
        (
            'foreign_agent = { care_of_addresses = ["10.1.0.2"] }',
            VPN,
            "nobody answers there; choose one of: 10.1.0.1",
        ),
        (
            'foreign_agent = { name = "vpn", lifetime_s = 9 }',
            VPN,
            "foreign_agent.lifetime_s: excludes name",
        ),
        (
            "",
            VPN + VPN.replace("vpn]", "two]").replace("10.1.0.1", "10.1.0.2"),
            "foreign_agent: is required, because there are several; choose one of: vpn, two",
        ),
    ],
)
def test_foreign_agent_refused(workshop: Workshop, line: str, agents: str, said: str) -> None:
    minimal = workshop.added("connections.staff", f'vpn_fa = "allowed"\n{line}')
    assert any(said in one for one in workshop.complaints(f"{minimal}\n{agents}"))


def test_home_addresses_on_both_sides_of_the_tunnel(workshop: Workshop) -> None:
    one = 'remote_subnets = ["10.20.0.10/32"]\nvpn_fa = "allowed"\nremote_id = "a@example.com"'
    minimal = MINIMAL.replace('pool = "staff"', one).replace('remote_id = "*@example.com"\n', "")
    minimal = minimal.replace('"10.1.0.0/16"', '"0.0.0.0/0", "10.20.0.0/24"')
    config = workshop.load(f"{minimal}\n{VPN}")
    assert config.warnings == ()
    shared = minimal.replace("10.20.0.10/32", "10.20.0.0/24").replace("a@ex", "*@ex")
    (warned,) = warnings(workshop.load(f"{shared}\n{VPN}"))
    assert warned.startswith(
        'connections.staff.remote_subnets = "10.20.0.0/24": with VPN/FA, every'
    )
    lines = workshop.complaints(minimal.replace('vpn_fa = "allowed"', ""))
    assert any("an address can be on one side only" in line for line in lines)


def test_the_care_of_address_must_fit_through_the_tunnel(workshop: Workshop) -> None:
    minimal = workshop.added("connections.staff", 'vpn_fa = "allowed"')
    (warned,) = warnings(workshop.load(f"{minimal}\n{VPN.replace('10.1.0.1', '10.2.0.1')}"))
    assert warned.startswith('connections.staff.local_subnets = ["10.1.0.0/16"]: does not hold')
    assert warned.endswith('add "10.2.0.1/32"')


def test_care_of_address_that_is_ours(workshop: Workshop) -> None:
    line = 'vpn_fa = "allowed"\nforeign_agent = { care_of_addresses = ["10.1.0.1"] }'
    config = workshop.load(f"{workshop.added('connections.staff', line)}\n{VPN}")
    assert config.warnings == ()
