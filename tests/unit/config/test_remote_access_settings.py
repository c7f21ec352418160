"""What the tables of remote access refuse, with field, value and remedy; what a reload says."""

from __future__ import annotations

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.config import ConfigError
from gateway.config.difference import difference, in_force

V6 = '[pools.six]\nnetwork = "fd00:83::/64"\n'
FTP = '[rules.ftp]\nusers = ["ann"]\nhelper = "ftp"\n'
RULE = '[rules.web]\nusers = ["ann"]\n'
PORT = '[redirects.cam]\ndevice = "cam"\nports = 8080\n'
OUTSIDE = '[dataplane]\noutside_interfaces = ["eth0"]\n'
SHOWN = '[translations.hq]\nnetwork = "10.1.0.0/16"\nshown_as = "10.201.0.0/16"\n'


def staff(lines: str, more: str = "", text: str = MINIMAL) -> str:
    return text.replace("[connections.staff]\n", f"[connections.staff]\n{lines}\n") + more


def pool(lines: str) -> str:
    return MINIMAL.replace("[pools.staff]\n", f"[pools.staff]\n{lines}\n")


def without_pool(lines: str, more: str = "") -> str:
    return staff(lines, more).replace('pool = "staff"\n', "")


def transport(lines: str) -> str:
    text = without_pool(f'mode = "transport"\n{lines}')
    return text.replace('local_subnets = ["10.1.0.0/16"]\n', "")


WRONG = [
    # connections and profiles
    (staff('pool6 = "six"'), "connections.staff.pool6", "no such table; choose one of: staff"),
    (
        staff('pool6 = "two"', '[pools.two]\nnetwork = "10.84.0.0/24"'),
        "connections.staff.pool6",
        "has IPv4 addresses, as connections.staff.pool",
    ),
    (without_pool('remote_subnets=["10.9.0.0/24"]\npool6 = "six"', V6), "pool6", "needs pool"),
    (staff('napt = "x"\npresence = "napt"'), "connections.staff.napt", "add [napt.x]"),
    (staff('napt = "x"', "[napt.x]"), "connections.staff.napt", 'set presence = "napt"'),
    (staff('rules = ["x"]'), "connections.staff.rules", "add [rules.x]"),
    (staff('rules = ["web", "web"]', RULE), "connections.staff.rules", "is listed twice"),
    (staff('translations = ["x"]'), "connections.staff.translations", "add [translations.x]"),
    (staff('bridge = "x"'), "connections.staff.bridge", "add [bridges.x]"),
    (
        staff('bridge = "b"', '[bridges.b]\ninterface = "eth1"\naddress = "fd00::1"'),
        "bridges.b.address",
        "not an IPv4 address",
    ),
    (
        staff('bridge = "b"', '[bridges.b]\ninterface = "eth1"\naddress = "10.2.0.1"'),
        "connections.staff.bridge",
        'add "10.2.0.1"',
    ),
    (staff('remote = "198.51.100.1"\nipv6 = "block"'), "connections.staff.ipv6", "connect to us"),
    (
        without_pool('presence = "napt"\nipv6 = "block"'),
        "connections.staff.ipv6",
        "devices that get no address",
    ),
    (
        staff('remote = "198.51.100.1"\nrules = ["web"]', RULE),
        "connections.staff.rules",
        "connect to us",
    ),
    (
        without_pool('remote_subnets = ["10.9.0.0/24"]\nrules = ["web"]', RULE),
        "connections.staff.rules",
        "not for networks behind a peer",
    ),
    (transport('rules = ["web"]') + RULE, "connections.staff.rules", "remove it"),
    (transport("bandwidth_up_kbit_s = 64"), "connections.staff.bandwidth_up_kbit_s", "remove it"),
    (transport('ipv6 = "block"'), "connections.staff.ipv6", 'is for mode = "tunnel"'),
    (staff('mode = "transport"'), "connections.staff.pool", 'is for mode = "tunnel"'),
    (
        staff('profiles = ["p"]\nuser_auth = ["eap-mschapv2"]')
        + '[profiles.p]\ngroups = ["g"]\npool6 = "x"',
        "profiles.p.pool6",
        "no such table",
    ),
    (
        staff('profiles = ["p"]\nuser_auth = ["eap-mschapv2"]')
        + '[profiles.p]\ngroups = ["g"]\nnapt = "n"\n[napt.n]',
        "profiles.p.napt",
        "is never used",
    ),
    (
        without_pool('presence = "napt"\nprofiles = ["p"]\nuser_auth = ["eap-mschapv2"]')
        + '[profiles.p]\ngroups = ["g"]\npresence = "address"',
        "profiles.p.presence",
        "name a pool",
    ),
    (
        staff('pool6 = "six"\nprofiles = ["p"]\nuser_auth = ["eap-mschapv2"]', V6)
        + '[profiles.p]\ngroups = ["g"]\npool = "six"',
        "profiles.p.pool",
        "both pools have IPv6 addresses",
    ),
    # pools
    (pool('static = { ann = "10.9.0.1" }'), "pools.staff.static.ann", "not in the pool's network"),
    (pool('advertise = "proxy-arp"'), "pools.staff.inside_interface", "is required"),
    (pool('inside_interface = "eth1"'), "pools.staff.inside_interface", "only with advertise"),
    (
        pool('advertise = "proxy-arp"\ninside_interface = "gw0"'),
        "pools.staff.inside_interface",
        "nobody is behind it",
    ),
    (
        pool('advertise = "proxy-arp"\ninside_interface = "eth0"')
        + '[dataplane]\noutside_interfaces = ["eth0"]',
        "pools.staff.inside_interface",
        "is one of dataplane.outside_interfaces",
    ),
    # napt and bridges
    (MINIMAL + '[napt.x]\naddresses = ["224.0.0.1"]', "napt.x.addresses", "not addresses"),
    (
        MINIMAL + '[napt.x]\naddresses = ["10.83.112.9-10.83.112.12"]',
        "pools.staff.network",
        "contains 10.83.112.9 of napt.x",
    ),
    (
        MINIMAL + '[bridges.b]\ninterface = "eth1"\naddress = "10.83.112.1"',
        "pools.staff.network",
        "contains 10.83.112.1 of bridges.b",
    ),
    (MINIMAL + '[napt.x]\nany_source = ["fd00::/8"]', "napt.x.any_source", "only IPv4"),
    (
        MINIMAL + PORT.replace("8080", '"2000-3024"') + "to_port = 5000",
        "redirects.cam.to_port",
        "at most 1024",
    ),
    # translations
    (
        MINIMAL + '[translations.a]\nnetwork = "10.1.0.0/16"\nshown_as = "10.2.0.0/17"',
        "translations.a.shown_as",
        "give a /16",
    ),
    (
        MINIMAL + '[translations.a]\nnetwork = "10.1.0.0/16"\nshown_as = "fd00::/16"',
        "translations.a.shown_as",
        "give an IPv4 network",
    ),
    (
        MINIMAL + '[translations.a]\nnetwork = "0.0.0.0/0"\nshown_as = "0.0.0.0/0"',
        "translations.a.network",
        "everything",
    ),
    (
        MINIMAL + '[translations.a]\nnetwork = "10.1.0.0/16"\nshown_as = "10.1.0.0/16"',
        "translations.a.shown_as",
        "overlaps network",
    ),
    (
        MINIMAL + '[translations.a]\nnetwork = "10.1.0.0/22"\nshown_as = "10.83.112.0/22"',
        "pools.staff.network",
        "overlaps translations.a.shown_as",
    ),
    (
        MINIMAL + SHOWN + '[translations.b]\nnetwork = "10.3.0.0/24"\nshown_as = "10.201.5.0/24"',
        "translations.b.shown_as",
        "overlaps shown_as of translations.hq",
    ),
    (
        staff('translations = ["hq", "b"]', SHOWN)
        + '[translations.b]\nnetwork = "10.1.5.0/24"\nshown_as = "10.202.5.0/24"',
        "connections.staff.translations",
        "list one of them",
    ),
    (
        staff('translations = ["hq"]', SHOWN).replace('"10.1.0.0/16"]', '"10.201.0.0/24"]'),
        "connections.staff.translations",
        "choose another shown_as",
    ),
    # rules
    (MINIMAL + RULE + "ports = [80]", "rules.web.ports", "needs protocols"),
    (
        MINIMAL + RULE + 'ports = [80]\nprotocols = ["tcp", "icmp"]',
        "rules.web.protocols",
        "has no ports",
    ),
    (MINIMAL + FTP + 'action = "refuse"', "rules.ftp.helper", "is for rules that allow"),
    (MINIMAL + FTP + 'direction = "to-gateway"', "rules.ftp.helper", "only to-inside"),
    (MINIMAL + FTP + 'protocols = ["udp"]', "rules.ftp.helper", "is for tcp"),
    # redirects
    (MINIMAL + PORT.replace("8080", "500") + 'protocol = "udp"', "redirects.cam.ports", "ike.port"),
    (
        MINIMAL + PORT.replace("8080", "8443") + '[api]\nlisten = "10.1.0.1:8443"',
        "redirects.cam.ports",
        "api.listen",
    ),
    (
        MINIMAL + PORT.replace("8080", '"1000-1009"') + "to_port = 65530",
        "redirects.cam.to_port",
        "give at most 65526",
    ),
    (MINIMAL + PORT + 'address = "127.0.0.1"', "redirects.cam.address", "inside hosts"),
    (
        MINIMAL + PORT + 'address = "10.1.0.1"\nsources = ["fd00::/8"]',
        "redirects.cam.sources",
        "not of the IP version",
    ),
    (
        MINIMAL + PORT + PORT.replace("cam]", "two]").replace("8080", '"8000-8099"'),
        "redirects.cam.ports",
        "overlaps redirects.two",
    ),
    (
        MINIMAL + PORT + PORT.replace("cam]", "two]") + 'address = "10.1.0.1"',
        "redirects.two.ports",
        "overlaps redirects.cam",
    ),
    # names
    (MINIMAL + '[names]\nlisten = ["10.1.0.1"]', "names.servers", "is required"),
    (
        MINIMAL + '[names]\nlisten = ["10.1.0.1"]\nservers = ["10.1.0.1"]',
        "names.servers",
        "ask itself",
    ),
    (
        MINIMAL + '[names]\nlisten = ["10.83.112.1"]\nservers = ["10.1.0.1"]',
        "names.listen",
        "lies in pools.staff",
    ),
    (
        MINIMAL
        + '[names]\nlisten = ["10.1.0.1"]\nservers = ["10.1.0.2"]\n'
        + '[[names.forward]]\ndomains = ["a.b"]\nservers = ["10.1.0.3"]\n' * 2,
        "names.forward.1.domains",
        "twice",
    ),
]


@pytest.mark.parametrize(("text", "key", "why"), WRONG)
def test_h78_what_does_not_fit_is_named_with_its_remedy(
    workshop: Workshop, text: str, key: str, why: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        workshop.load(text)
    problems = {problem.key: str(problem) for problem in refused.value.problems}
    found = [words for at, words in problems.items() if at.endswith(key)]
    assert found, problems
    assert why in found[0]


RIGHT = [
    staff('pool6 = "six"\nipv6 = "block"', V6),
    without_pool('presence = "napt"'),
    without_pool('presence = "napt"\nremote_subnets = ["192.168.0.0/16"]'),
    staff('translations = ["hq"]', SHOWN),
    staff('translations = ["hq"]', SHOWN).replace('"10.1.0.0/16"]', '"0.0.0.0/0"]'),
    MINIMAL + OUTSIDE + PORT + PORT.replace("cam]", "two]") + 'protocol = "udp"',
    MINIMAL
    + PORT
    + 'address = "10.1.0.1"\n'
    + PORT.replace("cam]", "two]")
    + 'address = "10.1.0.2"',
    pool('static = { ann = "10.83.112.9" }\nadvertise = "proxy-arp"\ninside_interface = "eth1"'),
    pool('advertise = "frr"\nlease_s = 0'),
    staff('bridge = "b"', '[bridges.b]\ninterface = "eth1"\naddress = "10.1.0.1"'),
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_fits_is_taken_without_a_word(workshop: Workshop, text: str) -> None:
    assert workshop.load(text).warnings == ()


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        (MINIMAL + "[rules.web]", "rules.web", "applies to nobody"),
        (MINIMAL + RULE + "log = true", "rules.web.log", "is never used"),
        (MINIMAL + SHOWN, "translations.hq", "is never used"),
        (MINIMAL + PORT, "redirects.cam", "the Internet can use it"),
        (
            MINIMAL + '[bridges.b]\ninterface = "eth1"\naddress = "10.1.0.1"',
            "bridges.b",
            "is never used",
        ),
        (
            staff('translations = ["hq"]', SHOWN).replace('"10.1.0.0/16"]', '"10.2.0.0/16"]'),
            "connections.staff.translations",
            "none of what devices reach",
        ),
        (MINIMAL + '[names]\nservers = ["10.1.0.1"]', "names.servers", "is never used"),
        (
            MINIMAL + '[names]\nlisten = ["10.1.0.1"]\nservers = ["10.1.0.2"]',
            "names.listen",
            "no device is told",
        ),
        (
            pool('dns = ["10.1.0.1"]')
            + '[names]\nport = 5353\nlisten = ["10.1.0.1"]\nservers = ["10.1.0.1"]',
            "names.port",
            "at port 53 only",
        ),
    ],
)
def test_what_helps_nobody_is_a_warning(workshop: Workshop, text: str, key: str, why: str) -> None:
    found = {problem.key: str(problem) for problem in workshop.load(text).warnings}
    assert why in found[key]


def test_ten_thousand_of_each_are_judged_in_the_order_of_sorting(workshop: Workshop) -> None:
    count = 10_000
    lines = [MINIMAL]
    for n in range(count):
        port, address = 1024 + n, f"10.1.{n % 250}.1"
        lines += [
            f'[rules.r{n}]\nusers = ["ann"]\nprotocols = ["tcp"]\nports = [{port}]',
            f'[redirects.p{n}]\ndevice = "d{n}"\nports = {port}\naddress = "{address}"',
        ]
    config = workshop.load("\n".join(lines))
    assert len(config.rules) == len(config.redirects) == count


@pytest.mark.parametrize(
    ("old", "new", "key", "effect"),
    [
        (MINIMAL, MINIMAL + RULE, "rules.web", "from now on, for the sessions"),
        (MINIMAL + RULE, MINIMAL, "rules.web", "no longer applied, at once"),
        (MINIMAL + RULE, MINIMAL + RULE + 'action = "refuse"', "rules.web.action", "from now on"),
        (MINIMAL, MINIMAL + PORT, "redirects.cam", "from now on"),
        (MINIMAL + PORT, MINIMAL, "redirects.cam", "no new connection comes by it"),
        (MINIMAL + SHOWN, MINIMAL, "translations.hq", "its addresses lead nowhere"),
        (MINIMAL, MINIMAL + "[napt.x]", "napt.x", "connections can use it at once"),
        (
            MINIMAL,
            MINIMAL + '[filtering]\nto_gateway = "all"',
            "filtering.to_gateway",
            "from now on",
        ),
        (MINIMAL, MINIMAL + '[names]\nservers = ["10.1.0.1"]', "names.servers", "the next"),
        (staff("", RULE), staff('rules = ["web"]', RULE), "connections.staff.rules", "from now on"),
        (staff(""), staff("bandwidth_up_kbit_s = 800"), "bandwidth_up_kbit_s", "from now on"),
        (staff("", V6), staff('pool6 = "six"', V6), "connections.staff.pool6", "its SAs are clos"),
        (MINIMAL, pool("lease_s = 60"), "pools.staff.lease_s", "from now on, also for"),
        (
            MINIMAL,
            pool('static = { ann = "10.83.112.9" }'),
            "pools.staff.static",
            "from now on; who has somebody",
        ),
        (
            pool('static = { ann = "10.83.112.9" }'),
            pool('static = { ann = "10.83.112.8" }'),
            "pools.staff.static.ann",
            "from now on; who has somebody",
        ),
    ],
)
def test_a_reload_says_what_it_does(
    workshop: Workshop, old: str, new: str, key: str, effect: str
) -> None:
    running, wanted = workshop.load(old), workshop.load(new)
    (change,) = difference(running, wanted)
    assert change.key.endswith(key)
    assert change.effect.startswith(effect)
    assert not change.needs_restart
    assert difference(in_force(running, wanted), wanted) == []


def test_registration_comes_without_its_key_in_the_difference(workshop: Workshop) -> None:
    workshop.put("tsig.key", b"MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=")
    text = (
        MINIMAL
        + '[names.registration]\nserver = "10.1.0.1"\nzone = "d.example.com"\n'
        + 'key_name = "gw.example.com"\nsecret_file = "tsig.key"'
    )
    changes = difference(workshop.load(), workshop.load(text))
    assert [change.key for change in changes] == ["names.registration"]
    assert changes[0].new == "a table"
    ttl = workshop.load(text + "\nttl_s = 5")
    (change,) = difference(workshop.load(text), ttl)
    assert (change.key, change.effect) == (
        "names.registration.ttl_s",
        "names are registered anew; sessions stay",
    )
