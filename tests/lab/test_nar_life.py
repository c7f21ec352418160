"""What becomes of leases when clients crash, the box dies, restarts, reloads, gets a new address.

Draft 004, sections 2.1 (a dynamic address) and 3.1 (the connection persists).
"""

# planes: kernel portable

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from nar_bed import NarBed, granted, leased, nar_bed

from gateway.lab.nar import plan, roles
from gateway.lab.nar.instrument import (
    BIND,
    CONNECT,
    ESP,
    LEASES,
    UDP_ASSOCIATE,
    RawClient,
    leasing,
    tuple_field,
)
from gateway.lab.nar.programs import RawSocket, connected, datagram_socket, exchange
from gateway.lab.nar.stream import Stream
from gateway.lab.processes import LabError, wait_until

pytestmark = pytest.mark.kernel

NB, Y, X1, X2 = plan.NB, plan.Y, plan.X1, plan.X2
ADDRESS_CHANGED, LEASE_ENDED, STOPPING = 1, 2, 3
GRACE_S = 2
SHORTEST_LEASE_S = 10


@pytest.fixture(scope="module")
def bed() -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(roles.soho, grace_s=GRACE_S, lease_s=SHORTEST_LEASE_S)
        yield bed


def held(bed: NarBed, client: object) -> list[dict[str, object]]:
    return [mapping for mapping in bed.mappings() if mapping["client"] == str(client)]


def in_mode(bed: NarBed, host: str, flags: int = LEASES) -> RawClient:
    client = RawClient(bed.lab, host)
    client.hello()
    assert client.nar_mode(Y, flags).reply == 0
    return client


def esp(spi: int, text: bytes = b"still there?") -> bytes:
    return spi.to_bytes(4, "big") + bytes(4) + text.ljust(40, b".")


def test_a_lease_that_nobody_renews_ends(bed: NarBed) -> None:
    """The connection lives, the client says nothing; told, and gone."""
    client, _ = leasing(bed.lab, "x1")
    with client:
        spi = granted(client.ipsec(ESP))
        assert client.renew() == (0, SHORTEST_LEASE_S)
        notice = client.notice(SHORTEST_LEASE_S + 10)
        assert (notice.reason, notice.tuple) == (LEASE_ENDED, tuple_field(ESP, spi))
        assert held(bed, X1) == []


def test_a_client_that_crashes(bed: NarBed) -> None:
    """Its leases go on for the grace period, then nothing of them is left."""
    client, _ = leasing(bed.lab, "x1", flags=LEASES | 0x01)
    spi = granted(client.ipsec(ESP))
    with RawSocket(bed.lab, "y", ESP) as y, RawSocket(bed.lab, "x1", ESP) as x1:
        client.reset()
        y.say(Y, NB, esp(spi))
        x1.hears(esp(spi))
        wait_until(lambda: not held(bed, X1), GRACE_S + 10, "the lease to end")
        y.say(Y, NB, esp(spi, b"too late"))
        assert x1.silence() == []


def test_a_client_that_comes_back_in_time(bed: NarBed) -> None:
    first = in_mode(bed, "x1")
    _, token, _, grace_s = first.session()
    assert grace_s == GRACE_S
    spi = granted(first.ipsec(ESP))
    first.reset()
    with in_mode(bed, "x1") as second:
        code, same, *_ = second.session(token)
        assert (code, same) == (0, token)
        with pytest.raises(LabError):
            wait_until(lambda: not held(bed, X1), GRACE_S + 1, "a lease that must not end")
        assert second.release(tuple_field(ESP, spi))[0] == 0


def test_a_client_without_our_extension_comes_back(bed: NarBed) -> None:
    """The same host asks for the same values in the grace period and has them again."""
    first = in_mode(bed, "x1", 0)
    spi = granted(first.ipsec(ESP))
    port = leased(first.ask(BIND))
    first.reset()
    with in_mode(bed, "x1", 0) as second:
        assert granted(second.ipsec(ESP, spi)) == spi
        assert leased(second.ask(BIND, "0.0.0.0", port)) == port
    wait_until(lambda: not held(bed, X1), GRACE_S + 10, "the leases to end")


@pytest.fixture
def long_leases(bed: NarBed) -> NarBed:
    bed.start(roles.soho, grace_s=60)
    return bed


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "restarted"])
@pytest.mark.parametrize("delivery", ["ip-ip", "translated"])
def test_restart_with_traffic_running(long_leases: NarBed, delivery: str, *, kill: bool) -> None:
    """Not one packet is lost: the kernel's tables stay, the next process adopts them."""
    bed = long_leases
    session = bed.session("x1", delivery)
    control = session.control
    with contextlib.ExitStack() as ends:
        ends.callback(session.presence.end)
        ends.callback(control.close)
        token = control.token
        port = leased(control.ask(UDP_ASSOCIATE, Y, 5500, flags=0x01))
        tcp_port = leased(control.ask(CONNECT, Y, 8500))
        near = ends.enter_context(datagram_socket(bed.lab, "x1", session.source, port))
        far = ends.enter_context(datagram_socket(bed.lab, "y", Y, 5500))
        a, b, _ = ends.enter_context(
            connected(bed.lab, ("x1", session.source, tcp_port), ("y", Y, 8500))
        )
        with (
            Stream(near, far, (str(Y), 5500)) as outward,
            Stream(far, near, (str(NB), port)) as inward,
        ):
            known = {key(mapping) for mapping in bed.mappings()}
            bed.restart(kill=kill)
            assert {key(mapping) for mapping in bed.mappings()} == known
            exchange(a, b, 20_000)
        assert (outward.lost, inward.lost) == ([], [])
        assert min(outward.sent, inward.sent) > 50
        with in_mode(bed, "x1") as again:
            code, same, *_ = again.session(token)
            assert (code, same) == (0, token)
            fresh = leased(again.ask(UDP_ASSOCIATE, Y, 5501, flags=0x01))
            assert fresh != port
            exchange(a, b, 20_000)
            assert again.release()[0] == 0
        assert held(bed, X1) == []


def key(mapping: dict[str, object]) -> tuple[object, ...]:
    """What tells a mapping from others."""
    return tuple(mapping[name] for name in ("protocol", "value", "remote", "remote_port", "client"))


def test_clients_are_told_of_a_stop(long_leases: NarBed) -> None:
    client, _ = leasing(long_leases.lab, "x1")
    spi = granted(client.ipsec(ESP))
    long_leases.n.stop()
    with client:
        assert client.notice().reason == STOPPING
        client.ends()
    with RawSocket(long_leases.lab, "y", ESP) as y, RawSocket(long_leases.lab, "n", ESP) as n:
        y.say(Y, NB, esp(spi))
        assert n.silence() == []
    long_leases.start_again()
    assert [mapping["value"] for mapping in held(long_leases, X1)] == [spi]


def test_reload_ends_what_is_not_allowed_any_more(long_leases: NarBed) -> None:
    bed = long_leases
    one, _ = leasing(bed.lab, "x1")
    two, _ = leasing(bed.lab, "x2")
    with one, two:
        spi, other = granted(one.ipsec(ESP)), granted(two.ipsec(ESP))
        port = leased(one.ask(CONNECT, Y, 80))
        rules = {
            "no-esp": {"clients": [f"{X1}/32"], "protocols": ["tcp"]},
            "all": {"any_remote": True},
        }
        bed.n.write_text(roles.soho(bed.n.folder, rules=rules, grace_s=60))
        assert bed.n.call("reload")
        notice = one.notice()
        assert (notice.reason, notice.tuple) == (LEASE_ENDED, tuple_field(ESP, spi))
        assert [mapping["value"] for mapping in held(bed, X1)] == [port]
        assert [mapping["value"] for mapping in held(bed, X2)] == [other]
        assert one.ipsec(ESP)[0] != 0
        assert two.ipsec(ESP)[0] == 0


def test_the_provider_gives_another_address(bed: NarBed) -> None:
    """Section 1.2: one public address, perhaps dynamic. Leases move, everybody is told."""
    new = plan.NB_MOVED
    bed.start(roles.dynamic, grace_s=60)
    knows, _ = leasing(bed.lab, "x1", flags=LEASES | 0x01)
    plain = in_mode(bed, "x2", 0x01)
    try:
        with knows, plain, RawSocket(bed.lab, "y", ESP) as y, RawSocket(bed.lab, "x1", ESP) as x1:
            spi = granted(knows.ipsec(ESP))
            granted(plain.ipsec(ESP))
            y.say(Y, NB, esp(spi))
            x1.hears(esp(spi))
            bed.lab.change_address(new)
            notice = knows.notice()
            assert (notice.reason, notice.address) == (ADDRESS_CHANGED, new)
            plain.ends()
            y.say(Y, new, esp(spi, b"at the new address"))
            x1.hears(esp(spi, b"at the new address"))
            x1.say(X1, Y, esp(0xC0DE0009, b"from there"))
            assert IPv4Address(y.hears(esp(0xC0DE0009, b"from there"))[12:16]) == new
            assert {mapping["address"] for mapping in held(bed, X1)} == {str(new)}
            assert knows.nar_mode(Y, LEASES | 0x01).address == new
    finally:
        bed.lab.change_address(NB)
