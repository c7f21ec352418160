"""Servers inside that are reached at a leased port, and what an administrator sees of them.

Draft 004, sections 1.4 (server mappings) and 2.6.1; the audit answers who held what and when.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nar_bed import DELIVERIES, NarBed, leased, nar_bed

from gateway.control.protocol import ControlError
from gateway.lab.nar import plan, programs, roles
from gateway.lab.nar.instrument import ANY, BIND, LEASES, RawClient, leasing, tuple_field
from gateway.lab.nar.programs import connected, exchange
from gateway.lab.processes import LabError, wait_until

pytestmark = pytest.mark.kernel

NB, X1, Y = plan.NB, plan.X1, plan.Y
ANNA, OTTO = roles.USERS
LEASE_ENDED = 2
PAGE = "You have reached the intranet."


def configuration(folder: Path) -> str:
    """x1 needs no login, and may wish for ports; anna may have what she likes from mallory."""
    rules = {
        "staff": {"groups": ["staff"], "any_remote": True, "ports": ["8080-8089"]},
        "servers": {"clients": [f"{X1}/32"], "any_remote": True, "ports": ["8080-8089"]},
    }
    return roles.soho(
        folder, rules=rules, trusted=[f"{X1}/32"], backend="local", require_tls=False, grace_s=0
    ) + roles.users(folder)


@pytest.fixture(scope="module")
def bed() -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(configuration)
        bed.lab.serve("x1", X1)
        yield bed


def page(bed: NarBed, port: int) -> str:
    """What a browser outside gets."""
    argv = ["curl", "-sS", "--noproxy", "*", "--max-time", "4", f"http://{NB}:{port}/"]
    done = bed.lab.run("y", argv, check=False)
    return done.stdout + done.stderr


def test_a_web_server_inside_at_another_port(bed: NarBed) -> None:
    """Translated: the server listens at its own port 80 and knows nothing."""
    with bed.session("x1", "translated") as session:
        port = leased(session.control.ask(BIND, ANY, 80))
        assert port != 80
        assert PAGE in page(bed, port)
        session.control.release()
        assert PAGE not in page(bed, port)


def test_at_the_port_it_wishes(bed: NarBed) -> None:
    """A rule may allow ports outside the ranges."""
    for delivery in DELIVERIES:
        with bed.session("x1", delivery) as session:
            port = leased(session.control.ask(BIND, ANY, 8080))
            assert port == 8080
            server = ("x1", session.source, 8080)
            with connected(bed.lab, ("y", Y, 0), server, to=(NB, port)) as (near, far, seen):
                assert seen[0] == str(Y)
                exchange(near, far, 5000)


def test_the_list_says_whose_it_is(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1", flags=LEASES | 0x01)
    with client:
        port = leased(client.ask(BIND, ANY, 80))
        (lease,) = bed.mappings()
        wanted = {
            "server": "soho",
            "client": str(X1),
            "protocol": "tcp",
            "address": str(NB),
            "value": port,
            "client_port": 80,
            "delivery": "translated",
            "rule": "servers",
            "remote": None,
        }
        assert {key: lease[key] for key in wanted} == wanted
        (session,) = bed.n.call("nar-clients")["items"]
        assert (session["client"], session["leases"], session["connected"]) == (str(X1), 1, True)
        client.release()


def test_an_administrator_ends_a_lease(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1", flags=LEASES | 0x01)
    with client:
        port = leased(client.ask(BIND, ANY, 80))
        other = leased(client.ask(BIND, ANY, 8083))
        (lease,) = [one for one in bed.mappings() if one["value"] == port]
        bed.n.call("nar-end-lease", id=lease["id"])
        notice = client.notice()
        assert (notice.reason, notice.tuple) == (LEASE_ENDED, tuple_field(6, port))
        assert PAGE not in page(bed, port)
        with connected(bed.lab, ("y", Y, 0), ("x1", X1, 8083), to=(NB, other)) as (near, far, _):
            exchange(near, far, 1000)
        with pytest.raises(ControlError):
            bed.n.call("nar-end-lease", id=lease["id"])
        bed.n.call("nar-end-client", client=str(X1))
        assert bed.mappings() == []


def test_who_held_a_port_at_a_time(bed: NarBed) -> None:
    """First x1, then anna from another host; the audit tells them apart by the time."""
    times = [_now()]
    client, _ = leasing(bed.lab, "x1", flags=LEASES | 0x01)
    with client:
        port = leased(client.ask(BIND, ANY, 8081))
        times.append(_between())
        client.release()
    times.append(_between())
    password = roles.USERS[ANNA][0]
    client, _ = leasing(bed.lab, "mallory", flags=LEASES | 0x01, user=(ANNA, password))
    with client:
        assert leased(client.ask(BIND, ANY, 8081)) == port
        times.append(_between())
    wait_until(lambda: not bed.mappings(), 10, "the lease to end")
    times.append(_between())

    def holders(at: datetime) -> list[tuple[str, str | None]]:
        rows = bed.n.call(
            "nar-audit", protocol="tcp", value=str(port), address=str(NB), at=at.isoformat()
        )["items"]
        return [(row["client"], row["user"]) for row in rows]

    wait_until(lambda: holders(times[4]) == [], 10, "the audit to know of the end")
    assert [holders(at) for at in times] == [
        [],
        [(str(X1), None)],
        [],
        [(str(plan.MALLORY), ANNA)],
        [],
    ]


def _now() -> datetime:
    return datetime.now(UTC)


def _between() -> datetime:
    """A moment that is later than the last event and earlier than the next one."""
    begun = _now()
    wait_until(lambda: (_now() - begun).total_seconds() > 0.02, 5, "the clock")
    at = _now()
    wait_until(lambda: (_now() - at).total_seconds() > 0.02, 5, "the clock")
    return at


def test_a_login_without_rule_gets_nothing(bed: NarBed) -> None:
    with pytest.raises(LabError, match="answered with 2"):
        leasing(bed.lab, "mallory", user=(OTTO, roles.USERS[OTTO][0]))
    with RawClient(bed.lab, "mallory") as client:
        assert client.hello(2) == 2
        assert client.login(ANNA.encode(), b"guessed") != 0


def test_guessing_is_slowed_down_for_the_guesser_alone(bed: NarBed) -> None:
    """Many wrong passwords from one address do not lock anna out elsewhere."""
    for _ in range(12):
        with RawClient(bed.lab, "mallory") as client:
            client.hello(2)
            try:
                assert client.login(ANNA.encode(), b"guessed") != 0
            except LabError:
                continue
    with RawClient(bed.lab, "legacy") as client:
        assert client.hello(2) == 2
        assert client.login(ANNA.encode(), roles.USERS[ANNA][0].encode()) == 0


def test_a_leased_port_is_not_used_by_the_box(bed: NarBed) -> None:
    """Its own connections leave from other ports, also when it translates for others."""
    with bed.session("x1") as session:
        port = leased(session.control.ask(BIND, ANY, 8082))
        with pytest.raises(LabError):
            programs.stream_socket(bed.lab, "n", NB, port).listen()
        reserved = bed.lab.run("n", ["sysctl", "-n", "net.ipv4.ip_local_reserved_ports"]).stdout
        assert "20000-29999" in reserved
