"""Each fault of the text gives one line that names file, key, value and what is allowed."""

from pathlib import Path

import pytest
from config_workshop import MINIMAL, Workshop
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError, load
from gateway.config.problem import shown

STAFF = "connections.staff"


@pytest.mark.parametrize(
    ("section", "line", "message"),
    [
        ("ike", "port = 0", "ike.port = 0: out of range; allowed is 1 to 65535"),
        ("ike", "port = 65536", "ike.port = 65536: out of range; allowed is 1 to 65535"),
        ("ike", 'port = "500"', 'ike.port = "500": give a whole number without quotes'),
        ("ike", "port = true", "ike.port = true: give a whole number without quotes"),
        ("ike", "port = 500.5", "ike.port = 500.5: give a whole number without quotes"),
        ("ike", "nat_port = 500", "ike.nat_port = 500: is ike.port as well; the two need"),
        ("ike", "listen = []", "ike.listen = []: is empty; give at least one"),
        ("ike", 'listen = "::1"', 'ike.listen = "::1": give a list in brackets'),
        ("ike", 'listen = ["gw"]', 'ike.listen[0] = "gw": not an IP address; give one such as'),
        ("ike", "listen = [1]", "ike.listen[0] = 1: give a text in quotes, such as"),
        ("ike", 'listen = ["224.0.0.1"]', 'ike.listen = "224.0.0.1": not an address of a host'),
        ("ike", 'listen = ["::1", "::1"]', 'ike.listen = "::1": is listed twice'),
        ("ike", 'tcp_listen = ["gw:443"]', 'ike.tcp_listen[0] = "gw:443": not an IP address'),
        ("ike", 'tcp_listen = ["::1"]', 'ike.tcp_listen[0] = "::1": '),
        ("ike", 'tcp_listen = ["192.0.2.1"]', 'ike.tcp_listen[0] = "192.0.2.1": lacks the port'),
        ("ike", 'tcp_listen = "192.0.2.1:443"', "ike.tcp_listen = "),
        ("ike", 'tcp_listen = ["224.0.0.1:443"]', "not an address of a host"),
        ("ike", 'tcp_listen = ["127.0.0.1:8443"]', "is api.listen as well; choose another port"),
        ("ike", 'tcp_listen = ["[::1]:443", "[::1]:443"]', "is listed twice"),
        ("ike", 'listen = ["::1"]\ntcp_listen = ["[::1]:443"]', "needs an IPv4 address in ike.li"),
        ("ike", "tcp_connections = 0", "ike.tcp_connections = 0: out of range; allowed is 1 to"),
        ("ike", "tcp_connections_per_source = 0", "ike.tcp_connections_per_source = 0: out of"),
        ("ike", "half_open_timeout_s = nan", "half_open_timeout_s = nan: out of range; allowed"),
        ("ike", "retransmit_factor = 0.5", "ike.retransmit_factor = 0.5: out of range; allowed is"),
        ("ike", "prot = 500", 'ike.prot: no such key; did you mean "port"?'),
        ("dataplane", 'kind = "dpdk"', 'dataplane.kind = "dpdk": not one of the choices; choose'),
        ("dataplane", 'xfrm_interface = "a b"', 'dataplane.xfrm_interface = "a b": not an inter'),
        ("gateway", "log_level = 3", "gateway.log_level = 3: not one of the choices; choose one"),
        ("gateway", "log_format = 'xml'", "choose one of: human, json"),
        ("pools.two", 'network = "10.83.113.0/24"', "overlaps pools.staff.network 10.83.112.0/22"),
        ("pools.two", 'network = "10.9.0.1/24"', 'bits set behind the prefix; write "10.9.0.0/24"'),
        ("pools.two", 'network = "10.9/16"', "not a network; give an address and prefix length"),
        ("pools.two", "", "pools.two.network: is required but missing"),
        ("pools.two", 'network = "224.0.0.0/24"', "not addresses that a device can have"),
        ("pools.staff", 'reserved = ["10.9.0.1"]', "not part of the pool's network 10.83.112.0/22"),
        ("pools.'a b'", 'network = "10.9.0.0/24"', "not a name; use 1 to 63 letters, digits, -"),
        (STAFF, 'mobike = "yes"', f'{STAFF}.mobike = "yes": give true or false without quotes'),
        (STAFF, 'local_id = "a b"', f'{STAFF}.local_id = "a b": '),
        (STAFF, 'domains = ["-.x"]', f'{STAFF}.domains[0] = "-.x": not a domain name'),
        (STAFF, 'remote_subnets = ["10.2.0.0/16"]', "excludes pool: the peer has either"),
        (STAFF, "request_inner_address = true", None),
        (STAFF, 'start = "start"', "only for connections that we open; add remote ="),
        (STAFF, 'remote = "gw.example.org"', "not an IP address (host names are not looked up)"),
        (STAFF, 'remote = "192.0.2.1:0"', "has no valid port; give one from 1 to 65535"),
        (STAFF, 'remote = "192.0.2.1"\nlocal = "::1"', "not the IP version of remote 192.0.2.1"),
        (STAFF, 'remote_auth = "eap"', "not one of the choices; choose one of: certificate, psk"),
        (STAFF, 'remote_auth = "psk"', f"{STAFF}.psk_file: is required for psk authentication"),
        (STAFF, 'psk = "0123456789abcdefghijk"', f"{STAFF}.psk: is never used; set local_auth or"),
        (STAFF, 'ike_proposals = ["rot13"]', f'{STAFF}.ike_proposals = "rot13": '),
        (STAFF, "lifetimes = 5", f"{STAFF}.lifetimes = 5: give a table"),
        (
            f"{STAFF}.lifetimes",
            "child_soft_bytes = 5\nchild_hard_bytes = 5",
            "must be below child_hard_bytes = 5, to leave time for rekeying",
        ),
        ("api", 'listen = "0.0.0.0:80"\ntls = false', "without TLS the API listens on loopback"),
        ("api", 'certificate = "api.pem"', "api.private_key: is required with certificate"),
        ("store", 'url = "mysql://x:pass@y/z"', 'begins with neither "sqlite:///" nor'),
        ("store", 'url = "sqlite://relative"', "names no file"),
        ("api", 'listen = "127.0.0.1"', "lacks the port; give address and port such as"),
        ("api", "listen = 8443", "api.listen = 8443: give a text in quotes"),
        ("control", "allowed_uids = [-1]", "control.allowed_uids[0] = -1: too small; allowed is 0"),
        (
            "zone",
            "enabled = true",
            "zone: no such key; choose from: gateway, ike, dataplane, pools",
        ),
    ],
)
def test_fault(workshop: Workshop, section: str, line: str, message: str | None) -> None:
    lines = workshop.complaints(workshop.added(section, line))
    assert all(one.startswith("gateway.toml: ") for one in lines)
    if message is not None:
        assert len(lines) == 1
        assert message in lines[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'pool = "staff"',
            'pool = "stuff"',
            'connections.staff.pool = "stuff": no such pool; choose one of: staff',
        ),
        ('pool = "staff"', "", "connections.staff.pool: is required: give pool"),
        ('local_subnets = ["10.1.0.0/16"]', "", "connections.staff.local_subnets: is required"),
        ("10.1.0.0/16", "10.83.113.0/24", "lies in pool 10.83.112.0/22, whose addresses devices"),
        ('"ca.pem"', '"no.pem"', "no such file"),
        ('ca_certificates = ["ca.pem"]', "", "credentials.ca_certificates: is required by conn"),
        ('certificate = "gw.pem"', "", "credentials.certificate: is required for local_auth"),
        ('private_key = "gw.key"', "", "credentials.private_key: is required for local_auth"),
        ('"gw.key"', '"gw.pem"', "holds no usable private key; give an unencrypted PEM"),
        ('certificate = "gw.pem"', 'certificate = "gw.key"', "holds no certificate; give a PEM"),
        ('"gw.example.com"', '""', 'gateway.name = "": is empty; give at least one'),
    ],
)
def test_replaced(workshop: Workshop, old: str, new: str, message: str | None) -> None:
    line = workshop.complaint(workshop.changed(old, new))
    assert message is None or message in line


def test_all_faults_are_told_at_once(workshop: Workshop) -> None:
    lines = workshop.complaints("[ike]\nport = 0\nnat_port = 'x'\n[pools.a]\nnetwork = '::'\nx=1")
    assert len(lines) == 3 or len(lines) == 4


def test_duplicate_identities(workshop: Workshop) -> None:
    text = MINIMAL + (
        '[connections.two]\nremote_id = "*@example.com"\npool = "staff"\n'
        'local_subnets = ["10.1.0.0/16"]\n'
    )
    assert "connections.staff has the same local_id and remote_id and proof" in workshop.complaint(
        text
    )


def test_own_address_in_pool(workshop: Workshop) -> None:
    text = workshop.added("ike", 'listen = ["10.83.112.7"]')
    assert "contains our own address 10.83.112.7 of ike.listen" in workshop.complaint(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = \n", "gateway.toml: line 1, column 5: not valid TOML: invalid value"),
        ("[ike]\nport = 500\nport = 501\n", "gateway.toml: line 3, column 11: not valid TOML: "),
        ("[ike", "gateway.toml: line 1, column 5: not valid TOML: "),
        ("a = " + "[" * 5000, "gateway.toml: not valid TOML: "),
        ("x = '''\n\n", "gateway.toml: line 3, column 1: not valid TOML: "),
    ],
)
def test_syntax_gives_line_and_column(workshop: Workshop, text: str, message: str) -> None:
    assert workshop.complaint(text).startswith(message)


def test_not_utf8(workshop: Workshop) -> None:
    path = workshop.put("gateway.toml", b"[ike]\nx = '\xff'\n")
    with pytest.raises(ConfigError, match="line 2, column 6: not UTF-8; save the file as UTF-8"):
        load(path)


def test_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file: .*none\.toml; name one with --config"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is a directory; give a file"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("nul\0"))
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than 4194304 octets"):
        load(big)


@given(st.integers())
def test_port_takes_its_range_and_nothing_else(number: int) -> None:
    from gateway.config.sections import IkeSection

    if 1 <= number <= 65535:
        assert IkeSection.model_validate({"port": number}).port == number
    else:
        with pytest.raises(ValueError, match="port"):
            IkeSection.model_validate({"port": number})


@given(st.ip_addresses())
def test_every_address_is_taken_as_written(address: object) -> None:
    from gateway.config.sections import IkeSection

    assert IkeSection.model_validate({"listen": [str(address)]}).listen == (address,)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_endpoint_is_taken_as_printed(address: object, port: int) -> None:
    from gateway.config.sections import ApiSection
    from gateway.domain.endpoint import Endpoint

    endpoint = Endpoint(address, port)  # type: ignore[arg-type]
    assert ApiSection.model_validate({"listen": str(endpoint)}).listen == endpoint


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_any_value_is_shown_short_and_on_one_line(value: object) -> None:
    text = shown(value)
    assert len(text) <= 80
    assert text.isprintable()


VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from(["gateway", "ike", "pools", "connections", "api", "control", "x"]),
        VALUES | st.dictionaries(st.sampled_from(["staff", "psk", "listen", "port"]), VALUES),
    )
)
def test_no_table_raises_anything_but_problems(tables: dict[str, object]) -> None:
    from pydantic import ValidationError

    from gateway.config import Config
    from gateway.config.explain import problems_of

    try:
        Config.model_validate(tables)
    except ValidationError as error:
        for problem in problems_of(error, Path("gateway.toml"), Config):
            assert str(problem).isprintable()
            assert problem.why
