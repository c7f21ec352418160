"""Hostile negotiations with a running NAR box: inputs 69 to 72 and 74 to 77.

Clear refusals, bounded in time and memory, nothing of anybody's lost; the clients are raw sockets.
"""

# planes: portable

import contextlib
import secrets
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from nar_bed import NarBed, granted, leased, nar_bed

from gateway.lab.nar import plan, roles
from gateway.lab.nar.instrument import (
    ADDRESS_TYPE_UNKNOWN,
    AH,
    ANY,
    BIND,
    COMMAND_UNKNOWN,
    CONNECT,
    ESP,
    GENERAL_FAILURE,
    LEASES,
    NAR_MODE,
    NOT_ALLOWED,
    UDP_ASSOCIATE,
    ConnectionEndedError,
    RawClient,
    leasing,
    tuple_field,
)
from gateway.lab.nar.names import NameServer
from gateway.lab.nar.programs import stream_socket
from gateway.lab.processes import LabError, wait_until

pytestmark = pytest.mark.kernel

HANDSHAKE_S = 3
MANAGEMENT = "192.0.2.0/30"
ANNA, OTTO = roles.USERS
X1_LEASES = 40
PER_SOURCE = 500
IDS = 8


def configuration(folder: Path) -> str:
    """x1 may do nearly all, x2 little, mallory has to log in first; passwords are in the clear."""
    rules = {
        "one": {
            "clients": [f"{plan.X1}/32"],
            "any_remote": True,
            "max_leases": X1_LEASES,
            "ports": ["8000-8010"],
        },
        "two": {
            "clients": [f"{plan.X2}/32"],
            "remotes": [f"{plan.Y}/32"],
            "protocols": ["tcp", "udp", "icmp", "esp"],
            "deliveries": ["ip-ip", "gre"],
        },
        "staff": {"groups": ["staff"], "remotes": [f"{plan.Y}/32"]},
    }
    return roles.soho(
        folder,
        rules=rules,
        trusted=[f"{plan.X1}/32", f"{plan.X2}/32"],
        backend="local",
        require_tls=False,
        handshake_s=HANDSHAKE_S,
        grace_s=0,
        max_connections_per_source=PER_SOURCE,
        icmp_ids=f"{0xC000}-{0xC000 + IDS - 1}",
        forbidden=[MANAGEMENT],
    ) + roles.users(folder)


@pytest.fixture(scope="module")
def bed() -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(configuration)
        yield bed


@pytest.fixture(autouse=True)
def unharmed(bed: NarBed) -> Iterator[None]:
    """Whatever is sent, the box goes on, and says nothing of an error of its own."""
    wait_until(lambda: not bed.mappings(), 10, "the leases of the last test to be over")
    yield
    assert bed.n.running()
    assert "Traceback" not in bed.n.output()
    client, _ = leasing(bed.lab, "x1")
    with client:
        assert client.icmp()[0] == 0
        client.release()


def connect(bed: NarBed, host: str = "x1") -> RawClient:
    return RawClient(bed.lab, host)


def refused(client: RawClient, *, timeout_s: float = HANDSHAKE_S + 3) -> bytes:
    """What the server says before it hangs up."""
    with client:
        return client.ends(timeout_s)


# -- 69: the method negotiation --------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 4, 6, 22, 71, 255])
def test_h69_version(bed: NarBed, version: int) -> None:
    client = connect(bed)
    client.send(bytes([version, 1, 0]))
    assert refused(client) in {b"", b"\x05\xff"}


def test_h69_no_methods(bed: NarBed) -> None:
    client = connect(bed)
    client.send(b"\x05\x00")
    assert refused(client) in {b"", b"\x05\xff"}


def test_h69_255_methods(bed: NarBed) -> None:
    with connect(bed) as client:
        assert client.hello(*range(0x80, 0xFF), *range(3, 0x80), *[1] * 2, 0) == 0
    client = connect(bed)
    assert client.hello(*[0x80] * 255) == 0xFF
    assert refused(client) == b""


def test_h69_no_acceptable_method(bed: NarBed) -> None:
    client = connect(bed, "mallory")
    assert client.hello(0, 1) == 0xFF
    assert refused(client) == b""


# -- 70: user and password -------------------------------------------------------------------------


def test_h70_lengths(bed: NarBed) -> None:
    for user, password in ((b"", b"x"), (b"x", b""), (b"", b""), (b"u" * 255, b"p" * 255)):
        client = connect(bed, "mallory")
        assert client.hello(2) == 2
        with client:
            with contextlib.suppress(ConnectionEndedError):
                assert client.login(user, password) != 0
            assert client.ends() == b""


def test_h70_sub_version(bed: NarBed) -> None:
    client = connect(bed, "mallory")
    assert client.hello(2) == 2
    client.send(b"\x05\x01u\x01p")
    answer = refused(client)
    assert not answer.startswith(b"\x01\x00")


def test_h70_command_before_login(bed: NarBed) -> None:
    client = connect(bed, "mallory")
    assert client.hello(2) == 2
    client.command(NAR_MODE, plan.Y, 0, LEASES)
    assert b"\x05\x00" not in refused(client)
    assert not [m for m in bed.mappings() if m["client"] == str(plan.MALLORY)]


def test_h70_login_and_a_second_one(bed: NarBed) -> None:
    name, password = ANNA.encode(), roles.USERS[ANNA][0].encode()
    client = connect(bed, "mallory")
    assert client.hello(2) == 2
    assert client.login(name, password) == 0
    client.send(bytes([1, len(name)]) + name + bytes([len(password)]) + password)
    assert refused(client) in {b"", b"\x05\x01\x00\x01" + bytes(6)}


def test_h70_a_user_without_a_rule(bed: NarBed) -> None:
    with connect(bed, "mallory") as client:
        client.hello(2)
        assert client.login(OTTO.encode(), roles.USERS[OTTO][0].encode()) == 0
        assert client.nar_mode().reply == NOT_ALLOWED


# -- 71: addresses ---------------------------------------------------------------------------------


def test_h71_address_types(bed: NarBed) -> None:
    for kind in (0, 2, 5, 255):
        client = connect(bed)
        client.hello()
        client.send(bytes([5, NAR_MODE, LEASES, kind]) + bytes(20))
        assert refused(client)[:2] == bytes([5, ADDRESS_TYPE_UNKNOWN]), kind


def test_h71_ipv6(bed: NarBed) -> None:
    with connect(bed) as client:
        client.hello()
        address = bytes.fromhex("20010db8000000000000000000000001")
        client.send(bytes([5, NAR_MODE, LEASES, 4]) + address + bytes(2))
        assert client.reply().reply == ADDRESS_TYPE_UNKNOWN


@pytest.mark.parametrize(
    "name",
    [b"", b"a\0b.example.com", b"a\nb.example.com", b"-", b"." * 255, b"\xff\xfe", b"x" * 255],
)
def test_h71_names(bed: NarBed, name: bytes) -> None:
    with NameServer(bed.lab, "n", {}), connect(bed) as client:
        client.hello()
        client.command(NAR_MODE, name, 0, LEASES)
        with contextlib.suppress(ConnectionEndedError):
            assert client.reply().reply != 0


def test_a_name_as_target(bed: NarBed) -> None:
    with NameServer(bed.lab, "n", {"y.example.com": plan.Y}), connect(bed) as client:
        client.hello()
        assert client.nar_mode(b"y.example.com").reply == 0


# -- 72: the stream --------------------------------------------------------------------------------


def test_h72_unknown_commands(bed: NarBed) -> None:
    for number in (0, 4, 0x7F, 0x81, 0xFF):
        with connect(bed) as client:
            client.hello()
            assert client.ask(number, plan.Y, 80).reply == COMMAND_UNKNOWN, number


def test_h72_unknown_nar_commands_end_the_connection(bed: NarBed) -> None:
    for number in (0, 1, 0x84, 0x94, 0xFF):
        client, _ = leasing(bed.lab, "x1")
        client.send(bytes([1, number]) + bytes(40))
        assert refused(client) == b"", number


def test_h72_nar_commands_before_nar_mode(bed: NarBed) -> None:
    client = connect(bed)
    client.hello()
    client.send(bytes([1, 0x81, 0, 0]))
    answer = refused(client)
    assert answer in {b"", bytes([1, GENERAL_FAILURE, 0, 0]), bytes([1, NOT_ALLOWED, 0, 0])}


def test_h72_reserved_octet(bed: NarBed) -> None:
    with connect(bed) as client:
        client.hello()
        client.nar_mode()
        assert client.ask(CONNECT, plan.Y, 80, flags=0x55).reply == GENERAL_FAILURE


def test_h72_one_octet_per_segment(bed: NarBed) -> None:
    with connect(bed) as client:
        client.send(b"\x05\x01\x00", pieces=True)
        assert client.read(2) == b"\x05\x00"
        request = bytes([5, NAR_MODE, LEASES, 1]) + plan.Y.packed + bytes(2)
        client.send(request, pieces=True)
        assert client.reply().reply == 0
        client.send(bytes([1, 0x82, ESP]) + bytes(4), pieces=True)
        assert client.read(3) == bytes([1, 0, ESP])


def test_h72_everything_at_once(bed: NarBed) -> None:
    request = bytes([5, NAR_MODE, LEASES, 1]) + plan.Y.packed + bytes(2)
    with connect(bed) as client:
        client.send(b"\x05\x01\x00" + request + bytes([1, 0x81, 0, 0]) * 3)
        assert client.read(2) == b"\x05\x00"
        assert client.reply().reply == 0
        identifiers = {client.read(4)[2:] for _ in range(3)}
        assert len(identifiers) == 3


def test_h72_half_close_after_the_last_command(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1")
    client.send(bytes([1, 0x91]))
    client.half_close()
    assert refused(client)[:2] in {bytes([1, 0]), b""}


@pytest.mark.parametrize("begin", [b"", b"\x05", b"\x05\x01\x00", b"\x05\x01\x00\x05\x80"])
def test_h72_silence_ends(bed: NarBed, begin: bytes) -> None:
    client = connect(bed)
    client.send(begin)
    refused(client)


def test_h72_dripping_ends(bed: NarBed) -> None:
    """One octet now and then does not make more time."""
    client = connect(bed)
    client.hello()
    request = bytes([5, NAR_MODE, LEASES, 3, 200]) + b"x" * 200
    with client, pytest.raises(ConnectionEndedError):
        drip(client, request)


def drip(client: RawClient, data: bytes) -> None:
    """All of it would take most of a minute."""
    for at in range(len(data)):
        client.send(data[at : at + 1])
        if not client.silent(0.25):
            client.read(1)


def test_h72_hundreds_of_idle_connections(bed: NarBed) -> None:
    """They cost their own source its share, and nobody else anything."""
    resident = _resident_kb(bed)
    held: list[RawClient] = []
    try:
        held += [leasing(bed.lab, "x1")[0] for _ in range(PER_SOURCE)]
        with RawClient(bed.lab, "x1") as one_more, pytest.raises(ConnectionEndedError):
            one_more.hello()
        other, _ = leasing(bed.lab, "x2")
        with other:
            assert other.icmp()[0] == 0
        assert (_resident_kb(bed) - resident) / PER_SOURCE < 64
    finally:
        for client in held:
            client.close()


def _resident_kb(bed: NarBed) -> int:
    for line in Path(f"/proc/{bed.n.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LabError("no VmRSS")


# -- 74, 77: values that are somebody's ------------------------------------------------------------


def test_h74_h77_an_spi_that_another_client_has(bed: NarBed) -> None:
    one, _ = leasing(bed.lab, "x1")
    two, _ = leasing(bed.lab, "x2")
    with one, two:
        spi = granted(one.ipsec(ESP, 0x4123_4567))
        assert spi == 0x4123_4567
        other = granted(two.ipsec(ESP, spi))
        assert other != spi
        one.release()
        two.release()


def test_h74_low_spis_are_nobodys(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1")
    with client:
        for spi in (0, 1, 255, 0xFFFF_FFFF, 0x3FFF_FFFF):
            assert 0x4000_0000 <= granted(client.ipsec(ESP, spi)) < 0x8000_0000
        assert client.ipsec(ESP + 7, 0)[0] != 0
        client.release()


@pytest.mark.parametrize("port", [1, 22, 434, 500, 1080, 1701, 4500, 8443, 65_535])
def test_h74_ports_of_the_box(bed: NarBed, port: int) -> None:
    client, _ = leasing(bed.lab, "x1")
    with client:
        assert 20_000 <= leased(client.ask(BIND, ANY, port)) < 30_000
        assert 20_000 <= leased(client.ask(UDP_ASSOCIATE, ANY, port)) < 30_000
        client.release()


def test_h74_a_port_that_another_client_has(bed: NarBed) -> None:
    one, _ = leasing(bed.lab, "x1")
    two, _ = leasing(bed.lab, "x2")
    with one, two:
        assert leased(one.ask(BIND, ANY, 8001)) == 8001
        assert leased(one.ask(BIND, ANY, 20_001)) == 20_001
        assert leased(two.ask(BIND, plan.Y, 20_001)) != 20_001
        assert leased(two.ask(BIND, plan.Y, 8001)) != 8001
        one.release()
        two.release()


def test_h74_a_port_with_a_socket_of_the_box(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1")
    with client, stream_socket(bed.lab, "n", plan.NB, 8002) as own:
        own.listen()
        assert leased(client.ask(BIND, ANY, 8002)) != 8002
        client.release()


def test_h74_wildcards_need_a_rule(bed: NarBed) -> None:
    with connect(bed, "x2") as client:
        client.hello()
        assert client.nar_mode(ANY).reply == NOT_ALLOWED
    client, _ = leasing(bed.lab, "x2")
    with client:
        assert client.ask(BIND, ANY, 0).reply == NOT_ALLOWED


def test_unauthorized_tuples(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x2")
    with client:
        assert client.ipsec(AH)[0] == NOT_ALLOWED
        assert client.tunnel(plan.XB2)[0] == NOT_ALLOWED
        assert client.ask(CONNECT, plan.HOME_AGENT, 80).reply == NOT_ALLOWED
    with connect(bed, "x2") as client:
        client.hello()
        assert client.nar_mode(plan.Y2).reply == NOT_ALLOWED


def test_a_delivery_that_the_rule_forbids(bed: NarBed) -> None:
    client, mode = leasing(bed.lab, "x2", flags=LEASES | 0x01)
    with client:
        assert mode.flags & 0x07 == 0


def test_tunnels_and_echo_need_a_target(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1", ANY)
    with client:
        assert client.icmp()[0] == NOT_ALLOWED
        assert client.tunnel(plan.XB)[0] == NOT_ALLOWED
        assert client.ipsec(ESP)[0] == 0
        client.release()


# -- 75: how much, and whose -----------------------------------------------------------------------


def test_h75_more_leases_than_one_may_have(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1")
    other, _ = leasing(bed.lab, "x2")
    with client, other:
        codes = [client.ipsec(ESP)[0] for _ in range(X1_LEASES + 5)]
        assert codes[:X1_LEASES] == [0] * X1_LEASES
        assert 0 not in codes[X1_LEASES:]
        assert other.ipsec(ESP)[0] == 0
        assert client.release()[0] == 0
        assert client.ipsec(ESP)[0] == 0
        client.release()
        other.release()


def test_h75_all_identifiers_are_out(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1")
    with client:
        answers = [client.icmp() for _ in range(IDS + 1)]
        assert {answer[1] for answer in answers[:IDS]} == set(range(0xC000, 0xC000 + IDS))
        assert answers[IDS][0] != 0
        client.release()
        assert client.icmp()[0] == 0
        client.release()


def test_h75_another_clients_session(bed: NarBed) -> None:
    one = connect(bed)
    one.hello()
    one.nar_mode()
    code, token, *_ = one.session()
    assert code == 0
    spi = granted(one.ipsec(ESP))
    with one, connect(bed, "x2") as two:
        two.hello()
        two.nar_mode()
        for wrong in (token, secrets.token_bytes(16), token[:-1] + bytes([token[-1] ^ 1])):
            assert two.session(wrong)[0] == NOT_ALLOWED
        assert two.release(tuple_field(ESP, spi))[0] != 0
        assert two.release()[0] == 0
        held = {m["value"] for m in bed.mappings() if m["client"] == str(plan.X1)}
        assert spi in held
        assert one.renew()[0] == 0
        one.release()


def test_h75_ones_own_session_from_a_new_connection(bed: NarBed) -> None:
    """The old connection is closed, the leases are the new one's."""
    old = connect(bed)
    old.hello()
    old.nar_mode()
    token = old.session()[1]
    spi = granted(old.ipsec(ESP))
    with connect(bed) as new:
        new.hello()
        new.nar_mode()
        code, same, *_ = new.session(token)
        assert (code, same) == (0, token)
        refused(old)
        assert new.release(tuple_field(ESP, spi))[0] == 0


# -- 76: with whom ---------------------------------------------------------------------------------

FORBIDDEN = (
    "127.0.0.1", "127.8.8.8", "169.254.169.254", "224.0.0.1", "255.255.255.255", "0.1.2.3",
    str(plan.NA), str(plan.NB), str(plan.HOME_AGENT),
)  # fmt: skip


def test_h76_targets(bed: NarBed) -> None:
    for target in FORBIDDEN:
        with connect(bed) as client:
            client.hello()
            assert client.nar_mode(target).reply == NOT_ALLOWED, target
    client, _ = leasing(bed.lab, "x1", ANY)
    with client:
        for target in FORBIDDEN:
            assert client.ask(CONNECT, target, 80).reply == NOT_ALLOWED, target


def test_h76_a_name_that_stands_for_such_a_target(bed: NarBed) -> None:
    records = {f"t{at}.example.com": IPv4Address(target) for at, target in enumerate(FORBIDDEN)}
    with NameServer(bed.lab, "n", records):
        for name, target in records.items():
            with connect(bed) as client:
                client.hello()
                assert client.nar_mode(name.encode()).reply == NOT_ALLOWED, target


def test_the_log_stays_small(bed: NarBed) -> None:
    """A hundred bad connections are not a hundred lines."""
    before = len(bed.n.log())
    for _ in range(100):
        client = connect(bed)
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        client.close()
    wait_until(lambda: _no_connection(bed), 10, "the box to have closed them")
    assert len(bed.n.log()) - before < 50


def _no_connection(bed: NarBed) -> bool:
    argv = ["ss", "-Htn", "state", "established", "sport", "=", ":1080"]
    return not bed.lab.run("n", argv).stdout.strip()
