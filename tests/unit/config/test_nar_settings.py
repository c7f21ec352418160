"""Tables of NAR servers: what is refused, what is warned of, what engine and dataplane get."""

from dataclasses import fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.cli.config import as_toml, redacted
from gateway.config import Config
from gateway.config.difference import difference, in_force
from gateway.config.to_mobility import foreign_agents
from gateway.config.to_nar import (
    NEVER_TARGETS,
    lent_interfaces,
    nar_listeners,
    nar_policies,
    nar_settings,
)
from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import Delivery, NarProtocol
from gateway.nar.policy import NarRule, NarServerPolicy
from gateway.users.editing import UserFile
from gateway.users.settings import ScryptCost, UserBaseSettings

SOHO = """
[nar.soho]
listen = "192.168.1.1"
addresses = "interface:eth0"
client_interfaces = ["eth1"]
outside_interfaces = ["eth0"]
trusted = ["192.168.1.0/24"]
"""
RULE = '\n[nar.soho.rules.all]\nprotocols = ["esp", "udp"]\n'
SECOND = """
[nar.second]
listen = ["10.9.0.1"]
addresses = ["203.0.113.5"]
client_interfaces = ["eth2"]
outside_interfaces = ["eth0"]
trusted = ["10.9.0.0/24"]
"""
LENT = IPv4Address("203.0.113.77")


def address_of(interface: str) -> IPv4Address | None:
    return {"eth0": LENT}.get(interface)


def text(*changes: tuple[str, str], base: str = SOHO) -> str:
    found = base
    for old, new in changes:
        assert old in found, old
        found = found.replace(old, new, 1)
    return found


def with_lines(*lines: str, base: str = SOHO) -> str:
    return text(("[nar.soho]\n", "[nar.soho]\n" + "\n".join(lines) + "\n"), base=base)


def warnings(config: Config) -> list[str]:
    return [str(one).removeprefix("gateway.toml: ") for one in config.warnings]


def test_the_smallest_file_is_enough(workshop: Workshop) -> None:
    config = workshop.load(SOHO)
    assert config.warnings == ()
    (policy,) = nar_policies(config, address_of)
    assert policy.tunnel_address == IPv4Address("192.168.1.1")
    assert policy.addresses == (LENT,)
    assert policy.trusted == (IPv4Network("192.168.1.0/24"),)
    (rule,) = policy.rules
    assert (rule.users, rule.any_remote, rule.proxy) == (None, False, False)
    assert policy.occupied_ports >= {500, 4500, 1080, 1701, 8443}
    assert lent_interfaces(config) == {"soho": ("eth0",)}
    (listener,) = nar_listeners(config)
    assert listener.listen == (Endpoint(IPv4Address("192.168.1.1"), 1080),)
    assert listener.certificate is None


def test_defaults_are_those_of_the_policy(workshop: Workshop) -> None:
    """Whoever reads the policy's dataclass reads what a file without more says."""
    (policy,) = nar_policies(workshop.load(SOHO), address_of)
    other = {"name", "tunnel_address", "addresses", "rules", "trusted", "forbidden"}
    for field in fields(NarServerPolicy):
        if field.name not in other | {"occupied_ports"}:
            assert getattr(policy, field.name) == field.default, field.name
    shared = nar_settings(workshop.load(SOHO), address_of)
    assert shared is not None
    for name in ("offload", "queue_number", "queue_length", "mtu", "dead_after_s", "forwarding"):
        assert getattr(shared, name) == NarSettings.__dataclass_fields__[name].default, name


FULL = """
[users]
file = "users.json"
[nar_settings]
state_dir = "/var/lib/other"
offload = false
queue = 77
queue_length = 99
mtu = 1400
dead_after_s = 60
[nar.soho]
listen = ["192.168.1.1:1090"]
tls_listen = ["192.168.1.1:1091"]
tunnel_address = "192.168.1.2"
addresses = ["203.0.113.5", "203.0.113.8/30", "203.0.113.20-203.0.113.21"]
client_interfaces = ["eth1"]
outside_interfaces = ["eth0"]
ports = ["30000-30999", 40000]
icmp_ids = "1-99"
spis = "0x1000-0x1fff"
trusted = ["192.168.1.0/24"]
backend = "local"
require_tls = false
certificate = "gw.pem"
private_key = "gw.key"
deliveries = ["gre", "translated"]
impose = "translated"
lease_s = 100
grace_s = 20
handshake_s = 5
idle_s = 50
max_connections = 10
max_connections_per_source = 3
max_leases = 7
forbidden = ["10.0.0.0/8", "2001:db8::/32"]
masquerade = ["192.168.1.0/24"]
[nar.soho.rules.one]
users = ["ann"]
groups = ["staff"]
clients = ["192.168.1.0/25"]
protocols = ["esp", "tcp"]
ports = ["8080"]
remotes = ["198.51.100.0/24"]
deliveries = ["translated"]
max_leases = 2
max_lease_s = 3600
proxy = true
proxy_ipv6 = true
[nar.soho.rules.two]
groups = ["others"]
any_remote = true
"""


def test_every_field_comes_from_the_file(workshop: Workshop) -> None:
    config = workshop.load(FULL.replace('file = "users.json"', f'file = "{users(workshop)}"'))
    (policy,) = nar_policies(config, address_of)
    one = NarRule(
        name="one",
        users=frozenset({"ann"}),
        groups=frozenset({"staff"}),
        clients=(IPv4Network("192.168.1.0/25"),),
        protocols=frozenset({NarProtocol.ESP, NarProtocol.TCP}),
        ports=(range(8080, 8081),),
        remotes=(IPv4Network("198.51.100.0/24"),),
        any_remote=False,
        deliveries=frozenset({Delivery.TRANSLATED}),
        max_leases=2,
        max_lease_s=3600.0,
        proxy=True,
        proxy_ipv6=True,
    )
    two = NarRule(
        name="two",
        users=frozenset(),
        groups=frozenset({"others"}),
        any_remote=True,
        deliveries=frozenset({Delivery.GRE, Delivery.TRANSLATED}),
    )
    addresses = tuple(IPv4Address(f"203.0.113.{last}") for last in (5, 8, 9, 10, 11, 20, 21))
    never = ("10.0.0.0/8", "2001:db8::/32", *(f"{a}/32" for a in addresses), "192.168.1.2/32")
    assert {str(one) for one in policy.forbidden} >= {*never, "192.168.1.1/32"}
    expected = NarServerPolicy(
        name="soho",
        tunnel_address=IPv4Address("192.168.1.2"),
        addresses=addresses,
        ports=(range(30_000, 31_000), range(40_000, 40_001)),
        icmp_ids=range(1, 100),
        spis=range(0x1000, 0x2000),
        rules=(one, two),
        trusted=(IPv4Network("192.168.1.0/24"),),
        backend="local",
        require_tls=False,
        impose=Delivery.TRANSLATED,
        default_delivery=Delivery.TRANSLATED,
        forbidden=policy.forbidden,
        lease_s=100.0,
        grace_s=20.0,
        handshake_s=5.0,
        idle_s=50.0,
        max_connections=10,
        max_connections_per_source=3,
        max_leases=7,
        listen_port=1090,
        occupied_ports=policy.occupied_ports,
    )
    assert policy == expected
    assert policy.occupied_ports == {500, 4500, 8443}  # nothing else is where it lends
    assert 1701 not in policy.occupied_ports  # no L2TP here
    server = NarServerSettings(
        name="soho",
        tunnel_address=IPv4Address("192.168.1.2"),
        addresses=addresses,
        client_interfaces=("eth1",),
        outside_interfaces=("eth0",),
        ports=policy.ports,
        icmp_ids=range(1, 100),
        masquerade=(IPv4Network("192.168.1.0/24"),),
        forbidden=(IPv4Network("10.0.0.0/8"),),
    )
    assert nar_settings(config, address_of) == NarSettings(
        servers=(server,),
        offload=False,
        queue_number=77,
        queue_length=99,
        mtu=1400,
        dead_after_s=60,
    )
    (listener,) = nar_listeners(config)
    assert listener.tls_listen == (Endpoint(IPv4Address("192.168.1.1"), 1091),)
    assert (listener.certificate, listener.private_key) == (
        workshop.directory / "gw.pem",
        workshop.directory / "gw.key",
    )


def test_services_at_other_addresses_are_in_nobodys_way(workshop: Workshop) -> None:
    """Clients that insist on port 500 can have it, each with an address of its own."""
    pool = text(('"interface:eth0"', '"198.51.100.8/29"'))
    rule = '[nar.soho.rules.old]\nports = ["500", "1080"]\n'
    refused = workshop.complaint(pool + rule)
    assert "holds 500, which is ike.port of this gateway" in refused
    elsewhere = '[ike]\nlisten = ["203.0.113.1"]\n'
    (policy,) = nar_policies(workshop.load(pool + rule + elsewhere), address_of)
    assert policy.rules[0].ports == (range(500, 501), range(1080, 1081))
    assert not policy.occupied_ports & {500, 4500, 1080}
    assert "holds 500" in workshop.complaint(
        SOHO + '[nar.soho.rules.old]\nports = ["500"]\n' + elsewhere
    )
    lent = '[ike]\nlisten = ["198.51.100.9"]\n'
    assert "holds 500" in workshop.complaint(pool + rule + lent)
    both = '[ike]\nlisten = ["::"]\n'
    assert "holds 500" in workshop.complaint(pool + rule + both)


def users(workshop: Workshop) -> Path:
    return workshop.put("users.json", b"")


def test_h75_a_proxy_never_reaches_this_host_or_its_links() -> None:
    for address in ("127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255"):
        assert any(IPv4Address(address) in one for one in NEVER_TARGETS), address
    for address in ("::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1"):
        assert any(IPv6Address(address) in one for one in NEVER_TARGETS), address


def test_an_interface_without_an_address_lends_nothing(workshop: Workshop) -> None:
    (policy,) = nar_policies(workshop.load(SOHO), lambda _name: None)
    assert policy.addresses == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('tunnel_address = "x"', 'nar.soho.tunnel_address = "x": not an IPv4 address (host names'),
        ('tunnel_address = "224.0.0.1"', 'tunnel_address = "224.0.0.1": not an address of a host'),
        ("ports = [0]", "nar.soho.ports = [0]: out of range; allowed is 1 to 65535"),
        ('ports = ["2-1"]', "ends before it begins; give the lower number first"),
        ('ports = ["x"]', 'not a range; give the first and the last such as "20000-29999"'),
        ("ports = true", 'give a list in brackets, such as ["20000-29999"]'),
        ('ports = ["400-600"]', "holds 500, which is ike.port of this gateway; leave that port"),
        ('ports = ["1080"]', "holds 1080, which is nar.soho.listen of this gateway; leave"),
        ('ports = ["1701"]', "holds 1701, the port of L2TP tunnels with NAR clients of this"),
        ('ports = ["8000-9000"]', "holds 8443, which is api.listen of this gateway"),
        ('ports = ["3000-3009", "3005"]', "overlaps 3000-3009; list each port once"),
        ('icmp_ids = "0-65536"', "out of range; allowed is 0 to 65535"),
        ('spis = "0-300"', "out of range; allowed is 256 to 4294967295"),
        ('spis = "0x100000000"', "not a range"),
        ('backend = "x"', "no such backend; choose one of: local, or add a table [radius.x]"),
        ('certificate = "gw.pem"', "is for tls_listen, which is empty; give an address there"),
        ('deliveries = ["gre", "gre"]', 'nar.soho.deliveries = "gre": is listed twice'),
        ('deliveries = ["pptp"]', "choose one of: ip-ip, gre, l2tp, translated"),
        ('deliveries = ["gre"]\nimpose = "l2tp"', "is not in deliveries (gre); add it there"),
        ("lease_s = 1", "nar.soho.lease_s = 1: out of range; allowed is 10 to 86400"),
        ('masquerade = ["0.0.0.0/0"]', "would translate everything that leaves"),
        ('tls_listen = ["192.168.1.1"]', "lacks the port; give address and port such as"),
        ('tls_listen = ["192.168.1.1:1081", "192.168.1.1:1081"]', "is listed twice"),
        ('tls_listen = ["::1"]', "not an IPv4 address and port; NAR knows no IPv6"),
        ('tls_listen = ["192.168.1.1:0"]', "has no valid port; give one from 1 to 65535"),
        ('forbidden = ["10.0.0.1/8"]', 'has bits set behind the prefix; write "10.0.0.0/8"'),
        ("colour = 1", "nar.soho.colour: no such key; choose from: listen, tls_listen"),
    ],
)
def test_one_line_says_what_is_wrong(workshop: Workshop, line: str, message: str) -> None:
    key = line.split(" = ", maxsplit=1)[0]
    found = [one for one in workshop.complaints(with_lines(line)) if message in one]
    assert found, workshop.complaints(with_lines(line))
    assert key in found[0] or "\nimpose" in line


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('listen = "192.168.1.1"\n', "", "nar.soho.listen: is required: the address that clients"),
        ('"192.168.1.1"', '"0.0.0.0"', "nar.soho.tunnel_address: is required where listen names"),
        ('"192.168.1.1"', '"gw.example.com"', "not an IPv4 address (host names are not looked up)"),
        ('"192.168.1.1"', '"127.0.0.1:8443"', "is api.listen as well; choose another port"),
        ('"interface:eth0"', '"interface:e th"', 'not an interface; write it such as "interface:'),
        ('"interface:eth0"', '"eth0"', "not an address; give one such as"),
        ('"interface:eth0"', '"2001:db8::1"', "not an IPv4 address; NAR knows no other"),
        ('"interface:eth0"', '"127.0.0.1"', "not addresses that a host can have"),
        ('"interface:eth0"', '"203.0.113.9-203.0.113.1"', "ends before it begins"),
        ('"interface:eth0"', '["203.0.113.5", "203.0.113.0/28"]', "overlaps 203.0.113.5; list"),
        ('"interface:eth0"', '"10.32.0.0/11"', "more than 4096 addresses; lend fewer"),
        ('"interface:eth0"', "[]", "nar.soho.addresses: is empty; give at least one address"),
        ('"interface:eth0"', '"interface:eth1"', "is an interface of the clients, and what is"),
        ('["eth1"]', '["eth1", "eth0"]', "is in outside_interfaces as well: whoever is outside"),
        ('["eth1"]', '["lo"]', "is the loopback interface; nobody is behind it"),
        ('["192.168.1.0/24"]', '["0.0.0.0/0"]', "too wide: whoever is in it needs no login"),
        ('["192.168.1.0/24"]', '["192.168.1.0/24", "192.168.1.7"]', "overlaps 192.168.1.0/24"),
        ('["192.168.1.0/24"]', "[]", "is empty and there is no backend, so nobody is let in"),
    ],
)
def test_one_value_is_wrong(workshop: Workshop, old: str, new: str, message: str) -> None:
    assert message in workshop.complaint(text((old, new)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('users = ["ann"]', "nobody logs in here, so nobody fits; set backend of the server"),
        ('clients = ["10.0.0.0/24"]', "nobody from here is let in: it is outside trusted"),
        ("protocols = []", "is empty; give at least one"),
        ('protocols = ["sctp"]', "choose one of: tcp, udp, icmp, esp, ah, ip-ip, gre"),
        ('protocols = ["esp"]\nports = ["8080"]', "is for tcp and udp, which protocols leaves"),
        ('ports = ["4500"]', "holds 4500, which is ike.nat_port of this gateway"),
        ('protocols = ["esp"]\nproxy = true', "is for tcp and udp, which protocols leaves out"),
        ("proxy_ipv6 = true", "is never used without proxy = true"),
        ("max_leases = 0", "allows nothing at all without proxy = true"),
        ('deliveries = ["gre", "gre"]', "is listed twice"),
    ],
)
def test_a_rule_is_wrong(workshop: Workshop, line: str, message: str) -> None:
    complaint = workshop.complaint(f"{SOHO}\n[nar.soho.rules.one]\n{line}\n")
    assert complaint.startswith("gateway.toml: nar.soho.rules.one.")
    assert message in complaint


def rules(*tables: tuple[str, str]) -> str:
    return SOHO + "".join(f"[nar.soho.rules.{name}]\n{lines}\n" for name, lines in tables)


def test_a_rule_that_nobody_gets_to_is_refused(workshop: Workshop) -> None:
    why = "nobody gets to it: who fits it fits nar.soho.rules.all above, and the first rule counts"
    shadowed = rules(("all", ""), ("some", 'clients = ["192.168.1.7"]'))
    assert workshop.complaint(shadowed).startswith(f"gateway.toml: nar.soho.rules.some: {why}")
    workshop.load(rules(("some", 'clients = ["192.168.1.7"]'), ("all", "")))
    narrow = rules(("net", 'clients = ["192.168.1.0/25"]'), ("one", 'clients = ["192.168.1.9"]'))
    assert "nobody gets to it" in workshop.complaint(narrow)
    workshop.load(
        rules(("net", 'clients = ["192.168.1.0/25"]'), ("one", 'clients = ["192.168.1.200"]'))
    )


def test_rules_by_users_do_not_hide_each_other(workshop: Workshop) -> None:
    base = with_lines('backend = "local"', "require_tls = false")
    base = f'[users]\nfile = "{users(workshop)}"\n{base}'
    one = '[nar.soho.rules.one]\nusers = ["ann", "bob"]\n'
    workshop.load(f'{base}{one}[nar.soho.rules.two]\ngroups = ["staff"]\n')
    workshop.load(f"{base}{one}[nar.soho.rules.two]\n")
    hidden = f'{base}{one}[nar.soho.rules.two]\nusers = ["bob"]\n'
    assert "nobody gets to it" in workshop.complaint(hidden)


def test_what_rules_deliver_fits_the_server(workshop: Workshop) -> None:
    base = with_lines('deliveries = ["ip-ip", "translated"]')
    rule = "[nar.soho.rules.one]\n"
    wrong = f'{base}{rule}deliveries = ["gre"]\n'
    assert (
        "the server does not deliver so; choose some of: ip-ip, translated"
        in workshop.complaint(wrong)
    )
    imposed = with_lines('impose = "gre"') + f'{rule}deliveries = ["ip-ip"]\n'
    assert "lacks gre, which the server imposes on everybody" in workshop.complaint(imposed)


def test_ah_is_never_translated(workshop: Workshop) -> None:
    base = with_lines('impose = "translated"')
    config = workshop.load(f'{base}[nar.soho.rules.one]\nprotocols = ["ah"]\n')
    (warning,) = warnings(config)
    assert "is never leased in translated mode: it signs the addresses" in warning
    plain = workshop.load(f"{base}[nar.soho.rules.one]\n")  # all protocols means all that work
    assert plain.warnings == ()


def test_h69_passwords_need_tls(workshop: Workshop) -> None:
    base = f'[users]\nfile = "{users(workshop)}"\n' + with_lines('backend = "local"')
    complaint = workshop.complaint(base)
    assert complaint.startswith("gateway.toml: nar.soho.tls_listen: is required by backend")
    clear = base.replace("[nar.soho]\n", "[nar.soho]\nrequire_tls = false\n")
    assert any("passwords in the clear" in one for one in warnings(workshop.load(clear)))


def test_a_user_of_a_rule_that_nobody_is(workshop: Workshop) -> None:
    path = workshop.directory / "users.toml"
    kept = UserBaseSettings(path, path.with_name("users.toml.key"), ScryptCost(10))
    UserFile(kept).add_user("ann", "a pass word")
    base = f'[users]\nfile = "{path}"\n' + with_lines('backend = "local"', "require_tls = false")
    config = workshop.load(f'{base}[nar.soho.rules.one]\nusers = ["ann", "anne"]\n')
    (found,) = (one for one in warnings(config) if "rules" in one)
    assert found.startswith('nar.soho.rules.one.users = "anne": no local user who may log in has')


def test_names_are_compared_as_the_user_base_keeps_them(workshop: Workshop) -> None:
    base = f'[users]\nfile = "{users(workshop)}"\n'
    base += with_lines('backend = "local"', "require_tls = false")
    config = workshop.load(f'{base}[nar.soho.rules.one]\nusers = ["Rene\\u0301"]\n')
    (policy,) = nar_policies(config, address_of)
    assert policy.rules[0].users == frozenset({"Ren\u00e9"})


def test_local_users_need_no_file_the_store_may_have_them(workshop: Workshop) -> None:
    config = workshop.load(with_lines('backend = "local"', "require_tls = false"))
    assert config.users.file is None


TLS = 'tls_listen = ["192.168.1.1:1081"]'


def test_tls_needs_a_certificate_and_its_key(workshop: Workshop) -> None:
    found = workshop.complaints(with_lines(TLS))
    assert [one.split(":")[1] for one in found] == [
        " nar.soho.certificate",
        " nar.soho.private_key",
    ]
    assert "or credentials.certificate" in found[0]
    half = workshop.complaint(with_lines(TLS, 'certificate = "gw.pem"'))
    assert "nar.soho.private_key: is required with certificate" in half
    config = workshop.load(MINIMAL + with_lines(TLS))
    (listener,) = nar_listeners(config)
    assert listener.certificate == workshop.directory / "gw.pem"


def test_tls_files_are_read(workshop: Workshop) -> None:
    own = with_lines(TLS, 'certificate = "no.pem"', 'private_key = "gw.key"')
    assert "nar.soho.certificate" in workshop.complaint(own)
    assert "no such file" in workshop.complaint(own)
    other = with_lines(TLS, 'certificate = "ca.pem"', 'private_key = "gw.key"')
    complaint = workshop.complaint(other)
    assert "nar.soho.private_key" in complaint
    assert "is not the key of" in complaint


def test_h74_two_servers_never_lease_the_same(workshop: Workshop) -> None:
    both = text(('"interface:eth0"', '"203.0.113.0/28"')) + SECOND
    complaints = workshop.complaints(both)
    assert [one.split(":")[1].split(" = ")[0] for one in complaints] == [
        " nar.second.ports",
        " nar.second.icmp_ids",
        " nar.second.spis",
    ]
    assert "overlaps ports 20000-29999 of nar.soho, which lends the same address" in complaints[0]
    own = 'ports = ["30000-30999"]\nicmp_ids = "1-99"\nspis = "0x1000-0x1fff"\n'
    workshop.load(both + own)


def test_two_servers_share_an_interface(workshop: Workshop) -> None:
    same = SECOND.replace('["203.0.113.5"]', '"interface:eth0"')
    assert len(workshop.complaints(SOHO + same)) == 3
    workshop.load(SOHO + SECOND)


def test_two_servers_listen_at_different_places(workshop: Workshop) -> None:
    same = SECOND.replace('["10.9.0.1"]', '["0.0.0.0"]\ntunnel_address = "10.9.0.1"')
    complaint = workshop.complaint(SOHO + same)
    assert "nar.second.listen" in complaint
    assert "is where nar.soho listens already" in complaint


def test_an_address_has_one_use(workshop: Workshop) -> None:
    pool = text(('"interface:eth0"', '"10.83.112.9"'))
    assert "pools.staff.network 10.83.112.0/22 gives these" in workshop.complaint(MINIMAL + pool)
    home = '[home_networks.h]\nnetwork = "203.0.113.0/24"\n'
    lent = text(('"interface:eth0"', '"203.0.113.9"'))
    assert "lies in the virtual home_networks.h" in workshop.complaint(lent + home)
    masked = with_lines('masquerade = ["203.0.113.0/24"]', base=lent)
    assert "holds 203.0.113.9, which is lent" in workshop.complaint(masked)


def test_queues_are_different(workshop: Workshop) -> None:
    complaint = workshop.complaint(f"{SOHO}[nar_settings]\nqueue = 4757\n")
    assert "nar_settings.queue = 4757: is dataplane.queue as well" in complaint


AGENT = """
[foreign_agents.hall]
care_of_address = "203.0.113.5"
interface = "eth1"
nar_server = "soho"
"""


def test_a_care_of_address_is_shared_by_nar(workshop: Workshop) -> None:
    lends = text(('"interface:eth0"', '"203.0.113.5"'))
    (policy,) = foreign_agents(workshop.load(lends + AGENT))
    assert policy.nar_server == "soho"
    workshop.load(SOHO + AGENT)  # whatever address eth0 has, it may be this one


def test_a_home_agent_at_a_lent_address_should_keep_its_tunnels(workshop: Workshop) -> None:
    agents = """
[home_networks.road]
network = "203.0.113.64/26"
[home_agents.road]
address = "203.0.113.5"
placement = "outside"
home_networks = ["road"]
[mobile_nodes.ann]
home_address = "203.0.113.70"
spi = 256
key = "8f1d03c6a94e57b2e06f7c12d5983ba4"
"""
    lends = text(('"interface:eth0"', '"203.0.113.5"')) + agents
    assert any("is the address of home_agents.road" in w for w in warnings(workshop.load(lends)))
    assert warnings(workshop.load(lends + RULE)) == []  # no tunnels by this rule


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"soho"', '"other"', 'nar_server = "other": no such NAR server; choose one of: soho'),
        ("113.5", "113.6", "does not lend 203.0.113.6, the care-of address; add it to nar.soho"),
        ("eth1", "eth2", "serves no clients on eth2; add it to nar.soho.client_interfaces"),
        ('"soho"', '"soho"\nregistration_required = false', "excludes nar_server, which learns"),
    ],
)
def test_a_care_of_address_that_cannot_be_shared(
    workshop: Workshop, old: str, new: str, message: str
) -> None:
    lends = text(('"interface:eth0"', '"203.0.113.5"'))
    assert message in workshop.complaint(lends + text((old, new), base=AGENT))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["192.168.1.0/24"]', '["198.51.100.0/24", "9.9.9.0/24"]', "are public addresses, and"),
        ('"interface:eth0"', '"interface:eth7"', "is not in outside_interfaces; packets for its"),
        ("trusted", 'ports = ["900-999"]\ntrusted', "holds ports below 1024, which services"),
        ("trusted", "ports = []\ntrusted", "is empty, so no TCP or UDP port can be leased"),
        ("trusted", 'impose = "l2tp"\ntrusted', "shuts out clients that know the draft alone"),
        (
            "trusted",
            "max_connections = 5\nmax_connections_per_source = 9\ntrusted",
            "above max_connections = 5: one source may take them all",
        ),
    ],
)
def test_what_should_be_looked_at(workshop: Workshop, old: str, new: str, message: str) -> None:
    found = warnings(workshop.load(text((old, new))))
    assert any(message in one for one in found), found


def test_remotes_that_never_count(workshop: Workshop) -> None:
    lines = with_lines('forbidden = ["10.0.0.0/8"]')
    rule = f'{lines}[nar.soho.rules.one]\nremotes = ["10.1.0.0/16"]\n'
    assert "lies in 10.0.0.0/8 of forbidden, which comes first" in workshop.complaint(rule)
    both = f'{SOHO}[nar.soho.rules.one]\nremotes = ["10.1.0.0/16"]\nany_remote = true\n'
    assert "any_remote = true: is never granted with remotes" in workshop.complaint(both)


# -- reload ---------------------------------------------------------------------------------------


def test_the_first_server_needs_a_restart(workshop: Workshop) -> None:
    without, having = workshop.load(), workshop.load(MINIMAL + SOHO)
    for running, wanted in ((without, having), (having, without)):
        (change,) = difference(running, wanted)
        assert change.key == "nar.soho"
        assert change.needs_restart
        assert in_force(running, wanted).nar == running.nar


def test_a_second_server_comes_and_goes(workshop: Workshop) -> None:
    one, two = workshop.load(SOHO), workshop.load(SOHO + SECOND)
    (added,) = difference(one, two)
    assert (added.kind, added.key, added.needs_restart) == ("added", "nar.second", False)
    (removed,) = difference(two, one)
    assert removed.effect == "its leases end and its clients are told"
    assert in_force(one, two).nar == two.nar


@pytest.mark.parametrize(
    ("line", "key", "effect"),
    [
        ("lease_s = 60", "lease_s", "from now on, leases stay"),
        ('ports = ["30000-30009"]', "ports", "leases outside the ranges end, others stay"),
        ('impose = "gre"', "impose", "the next negotiations use it"),
    ],
)
def test_a_changed_server(workshop: Workshop, line: str, key: str, effect: str) -> None:
    running, wanted = workshop.load(SOHO), workshop.load(with_lines(line))
    (change,) = difference(running, wanted)
    assert change.key == f"nar.soho.{key}"
    assert change.effect.startswith(effect)
    assert not change.needs_restart
    assert in_force(running, wanted).nar == wanted.nar


def test_ranges_are_shown_as_they_are_written(workshop: Workshop) -> None:
    lines = ('ports = ["30000-30009", "8080"]', 'icmp_ids = "1-99"')
    running, wanted = workshop.load(SOHO), workshop.load(with_lines(*lines))
    ports, ids = difference(running, wanted)
    assert (ports.old, ports.new) == ('["20000-29999"]', '["30000-30009", "8080"]')
    assert (ids.old, ids.new) == ('"49152-65535"', '"1-99"')


def test_what_is_in_force_can_be_a_configuration(workshop: Workshop) -> None:
    config = workshop.load(FULL.replace('file = "users.json"', f'file = "{users(workshop)}"'))
    again = workshop.load(as_toml(redacted(config)))
    assert (again.nar, again.nar_settings) == (config.nar, config.nar_settings)


def test_a_changed_rule_is_named(workshop: Workshop) -> None:
    running = workshop.load(SOHO + RULE)
    wanted = workshop.load(SOHO + RULE + "max_leases = 3\n")
    (change,) = difference(running, wanted)
    assert change.key == "nar.soho.rules.all.max_leases"
    assert (change.old, change.new) == ("256", "3")
    assert change.effect == "leases that no rule allows any more end, others stay"


def test_rules_in_another_order_are_a_change(workshop: Workshop) -> None:
    some, rest = ("some", 'clients = ["192.168.1.7"]'), ("rest", 'clients = ["192.168.1.8"]')
    running, wanted = workshop.load(rules(some, rest)), workshop.load(rules(rest, some))
    (change,) = difference(running, wanted)
    assert change.key == "nar.soho.rules"
    assert (change.old, change.new) == ('["some", "rest"]', '["rest", "some"]')


@pytest.mark.parametrize(
    ("line", "restart"),
    [
        ("queue = 99", True),
        ("offload = false", True),
        ('state_dir = "/tmp/x"', True),
        ("audit_days = 30", False),
        ("audit = false", False),
    ],
)
def test_shared_settings(workshop: Workshop, line: str, restart: bool) -> None:
    running, wanted = workshop.load(SOHO), workshop.load(f"{SOHO}[nar_settings]\n{line}\n")
    (change,) = difference(running, wanted)
    assert change.needs_restart is restart
    left = difference(in_force(running, wanted), wanted)
    assert bool(left) is restart
