"""NAR clients, leases and the audit over the control socket's language."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.models_nar import NarAuditEntry, NarClient, NarLease
from gateway.appliance.nar.queries import BY_ADMINISTRATOR, NarQueries
from gateway.appliance.nar.views import lease_cursor, lease_value, parse_value, value_text
from gateway.control.nar_operations import NAR_LEASE_ID
from gateway.control.protocol import ControlError, ErrorCode, Role, check_request, dump
from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.nar.codec.associate import IcmpAssociate, IpsecAssociate, TunnelAssociate
from gateway.nar.codec.numbers import SocksCommand
from gateway.nar.codec.request import SocksRequest
from gateway.nar.policy import NarRule, NarServerPolicy
from gateway.nar.server.engine import NarServer
from gateway.nar.server.views import parse_id, tuple_id

NB = IPv4Address("203.0.113.5")
YB = IPv4Address("198.51.100.7")
XA = IPv4Address("192.168.1.20")
NOW = 7.0

ESP = NarTuple(NarProtocol.ESP, NB, 0x41F3A2C7)
TCP = NarTuple(NarProtocol.TCP, NB, 20_010, YB, 443)
OPEN = NarTuple(NarProtocol.TCP, NB, 8080)
TUNNEL = NarTuple(NarProtocol.IP_IP, NB, int(IPv4Address("10.20.0.10")), YB)
WALL_S = 1_700_000_100.0


def lease(key: NarTuple, client: IPv4Address = XA, user: str = "ann") -> dict[str, object]:
    protocol = key.protocol
    is_ipsec = protocol in (NarProtocol.ESP, NarProtocol.AH)
    return {
        "id": tuple_id(key),
        "server": "soho",
        "client": str(client),
        "user": user,
        "session": "90c1f2d30a774be5",
        "protocol": tuple_id(key).split(",")[0],
        "address": str(key.address),
        "port": key.value if protocol.has_ports else None,
        "identifier": key.value if protocol is NarProtocol.ICMP else None,
        "spi": key.value if is_ipsec else None,
        "inner": str(IPv4Address(key.value)) if protocol.is_tunnel else None,
        "remote": None if key.remote is None else str(key.remote),
        "remote_port": key.remote_port,
        "delivery": "ip-ip",
        "client_port": None,
        "peer": None,
        "connected": True,
        "since": 1_700_000_000.25,
        "expires": WALL_S + 599.98765,
    }


def session(number: int, client: IPv4Address = XA, user: str = "ann") -> dict[str, object]:
    return {
        "server": "soho",
        "client": str(client),
        "port": 40_000 + number,
        "user": user,
        "rule": "staff",
        "state": "nar",
        "tls": True,
        "address": str(NB),
        "target": str(YB),
        "delivery": "ip-ip",
        "session": f"{number:016x}",
        "resumable": False,
        "leases": 2,
        "since": 1_700_000_000.0,
        "expires": None,
    }


@dataclass
class FakeServer:
    leases: dict[NarTuple, dict[str, object]] = field(default_factory=dict)
    sessions: list[dict[str, object]] = field(default_factory=list)

    def clients(self) -> list[dict[str, object]]:
        return self.sessions

    def mappings(self) -> list[dict[str, object]]:
        return list(self.leases.values())

    def end_lease(self, key: NarTuple, now: float, reason: str) -> bool:
        assert (now, reason) == (NOW, BY_ADMINISTRATOR)
        return self.leases.pop(key, None) is not None

    def end_client(self, client: IPv4Address, now: float, reason: str) -> int:
        assert (now, reason) == (NOW, BY_ADMINISTRATOR)
        ending = [key for key, one in self.leases.items() if one["client"] == str(client)]
        for key in ending:
            del self.leases[key]
        return len(ending)


@dataclass(frozen=True)
class Row:
    id: int
    mapping: NarMapping
    server: str = "soho"
    user: str = "ann"
    client: str = "192.168.1.20:40000"
    opened_s: float = 1_700_000_000.0
    closed_s: float | None = None
    reason: str = ""


@dataclass
class FakeAudit:
    rows: list[Row]
    asked: list[dict[str, object]] = field(default_factory=list)

    async def find(self, **given: Any) -> Sequence[Row]:
        self.asked.append(given)
        before, limit = given["before"], given["limit"]
        fitting = [row for row in self.rows if before is None or row.id < before]
        return sorted(fitting, key=lambda row: -row.id)[:limit]

    async def count(self, **_given: Any) -> int:
        return len(self.rows)


@dataclass
class Nar:
    servers: dict[str, FakeServer]
    audit: FakeAudit | None = None
    flushed: list[float] = field(default_factory=list)

    def flush(self, now: float) -> None:
        self.flushed.append(now)


@pytest.fixture
def nar() -> Nar:
    leases = {
        ESP: lease(ESP),
        TCP: lease(TCP, user=""),
        OPEN: lease(OPEN, IPv4Address("192.168.1.21"), "bob"),
        TUNNEL: lease(TUNNEL),
    }
    others = [session(1), session(2), session(3, IPv4Address("192.168.1.21"), "bob")]
    second = NarTuple(NarProtocol.UDP, IPv4Address("203.0.113.6"), 20_000)
    return Nar(
        {
            "soho": FakeServer(leases, others),
            "other": FakeServer({second: {**lease(second), "server": "other"}}),
        }
    )


def ask(nar: Nar | None, op: str, **args: object) -> Any:
    queries = NarQueries(lambda: nar, lambda: NOW, lambda: WALL_S)
    request = check_request({"op": op, "args": args}, Role.VIEWER_AND_CLOSER)

    async def answer() -> Any:
        return await queries.handlers()[op](request)

    result = asyncio.run(answer())
    assert dump(result)
    return result


def refused(nar: Nar | None, op: str, **args: object) -> ControlError:
    with pytest.raises(ControlError) as caught:
        ask(nar, op, **args)
    return caught.value


def ids(result: Any) -> list[str]:
    return [item["id"] for item in result["items"]]


def sessions(result: Any) -> list[str]:
    return [item["session"] for item in result["items"]]


def test_without_servers_there_is_nothing() -> None:
    for op in ("nar-clients", "nar-mappings"):
        assert ask(None, op) == {"items": [], "next": None, "total": 0}
    assert refused(None, "nar-audit").code == ErrorCode.REFUSED
    assert refused(None, "nar-end-lease", id=tuple_id(ESP)).code == ErrorCode.NOT_FOUND
    assert refused(None, "nar-end-client", client="10.0.0.1").code == ErrorCode.NOT_FOUND


def test_clients_are_as_the_api_describes_them(nar: Nar) -> None:
    result = ask(nar, "nar-clients")
    assert result["total"] == 3
    first = NarClient.model_validate(result["items"][0])
    assert first.since == "2023-11-14T22:13:20.000+00:00"
    assert (first.client, first.port, first.state) == ("192.168.1.20", 40_001, "nar")
    assert (first.target, first.tls, first.resumable) == (str(YB), True, False)


def test_what_has_no_session_yet_is_a_client_too(nar: Nar) -> None:
    nothing = {"session": None, "address": None, "target": None, "delivery": None, "leases": 0}
    lost = {"port": None, "state": "lost", "expires": WALL_S + 60, "target": None}
    nar.servers["soho"].sessions = [
        {**session(1), **nothing, "state": "negotiating", "user": "", "rule": None},
        {**session(2), **nothing, "state": "relaying"},
        {**session(3), **lost},
    ]
    found = [NarClient.model_validate(item) for item in ask(nar, "nar-clients")["items"]]
    assert [one.state for one in found] == ["lost", "negotiating", "relaying"]
    assert [one.expires_in_s for one in found] == [60.0, None, None]
    assert found[1].user is None


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"client": "192.168.1.20"}, [1, 2]),
        ({"user": "bob"}, [3]),
        ({"server": "other"}, []),
        ({"server": "soho", "user": "ann"}, [1, 2]),
        ({"user": "an"}, []),
    ],
)
def test_clients_are_filtered(nar: Nar, filters: Any, numbers: list[int]) -> None:
    assert sessions(ask(nar, "nar-clients", **filters)) == [f"{number:016x}" for number in numbers]


def test_clients_come_in_pages(nar: Nar) -> None:
    nar.servers["soho"].sessions = [session(number) for number in range(7)]
    seen: list[str] = []
    cursor: dict[str, object] = {}
    while True:
        result = ask(nar, "nar-clients", limit=3, **cursor)
        seen += sessions(result)
        if result["next"] is None:
            break
        cursor = {"cursor": result["next"]}
    assert seen == [f"{number:016x}" for number in range(7)]


def test_leases_are_as_the_api_describes_them(nar: Nar) -> None:
    found = {
        item["id"]: NarLease.model_validate(item) for item in ask(nar, "nar-mappings")["items"]
    }
    esp = found[tuple_id(ESP)]
    assert (esp.protocol, esp.value, esp.remote) == ("esp", "0x41f3a2c7", None)
    assert esp.expires_in_s == 599.988
    tcp = found[tuple_id(TCP)]
    assert (tcp.value, tcp.remote, tcp.remote_port, tcp.user) == ("20010", str(YB), 443, None)
    assert found[tuple_id(TUNNEL)].value == "10.20.0.10"


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({"protocol": "esp"}, [ESP]),
        ({"value": "0x41f3a2c7"}, [ESP]),
        ({"value": "20010"}, [TCP]),
        ({"value": "10.20.0.10"}, [TUNNEL]),
        ({"user": "bob"}, [OPEN]),
        ({"client": "192.168.1.21"}, [OPEN]),
        ({"address": "203.0.113.5", "protocol": "tcp"}, [OPEN, TCP]),
        ({"address": "203.0.113.9"}, []),
    ],
)
def test_leases_are_filtered(nar: Nar, filters: Any, keys: list[NarTuple]) -> None:
    assert set(ids(ask(nar, "nar-mappings", **filters))) == set(map(tuple_id, keys))


@pytest.mark.parametrize(
    ("filters", "name"),
    [
        ({"client": "256.1.1.1"}, "client"),
        ({"address": "1.2.3.999"}, "address"),
        ({"value": "4294967296"}, "value"),
        ({"value": "1.2.3.999"}, "value"),
        ({"value": "x"}, "value"),
        ({"protocol": "sctp"}, "protocol"),
    ],
)
def test_what_is_not_allowed_names_the_field(nar: Nar, filters: Any, name: str) -> None:
    error = refused(nar, "nar-mappings", **filters)
    assert (error.code, error.field) == (ErrorCode.INVALID, name)


def test_a_lease_is_ended(nar: Nar) -> None:
    result = ask(nar, "nar-end-lease", id=tuple_id(TCP))
    assert result["lease"] == "TCP 203.0.113.5:20010 from 198.51.100.7:443"
    assert TCP not in nar.servers["soho"].leases
    assert nar.flushed == [NOW]
    assert refused(nar, "nar-end-lease", id=tuple_id(TCP)).code == ErrorCode.NOT_FOUND


def test_a_lease_of_no_protocol_is_not_found(nar: Nar) -> None:
    for name in ("tcp,203.0.113.5,1.1.1.1,any,any", "esp,203.0.113.555,1,any,any"):
        assert refused(nar, "nar-end-lease", id=name).code == ErrorCode.NOT_FOUND
    assert refused(nar, "nar-end-lease", id="sctp,203.0.113.5,1,any,any").field == "id"


def test_a_client_is_ended(nar: Nar) -> None:
    assert ask(nar, "nar-end-client", client=str(XA)) == {"ended": str(XA), "leases": 4}
    assert list(nar.servers["soho"].leases) == [OPEN]
    assert nar.flushed == [NOW]


def test_a_client_without_leases_is_ended_too(nar: Nar) -> None:
    nar.servers["soho"].leases.clear()
    assert ask(nar, "nar-end-client", client=str(XA), server="soho")["leases"] == 0
    error = refused(nar, "nar-end-client", client="192.168.1.99")
    assert (error.code, error.field) == (ErrorCode.NOT_FOUND, "client")


def mapping(key: NarTuple) -> NarMapping:
    return NarMapping("soho", key, XA, Delivery.TRANSLATED, client_port=80, peer=YB)


def test_the_audit_is_as_the_api_describes_it(nar: Nar) -> None:
    over = Row(3, mapping(TCP), closed_s=1_700_000_060.0, reason="released")
    nar.audit = FakeAudit([over, Row(2, mapping(ESP), user="")])
    result = ask(nar, "nar-audit")
    first, second = map(NarAuditEntry.model_validate, result["items"])
    assert (first.protocol, first.value, first.until) == (
        "tcp",
        "20010",
        "2023-11-14T22:14:20.000+00:00",
    )
    assert (first.client, first.client_port, first.ended_by) == (str(XA), 80, "released")
    assert (second.user, second.until, second.ended_by) == (None, None, None)


def test_who_held_a_port_at_a_time(nar: Nar) -> None:
    nar.audit = FakeAudit([])
    at = "2023-11-14T23:13:20+01:00"
    ask(nar, "nar-audit", address=str(NB), protocol="tcp", value="20010", at=at, user="ann")
    (asked,) = nar.audit.asked
    assert asked["at_s"] == 1_700_000_000.0
    assert (asked["address"], asked["protocol"], asked["value"]) == (NB, NarProtocol.TCP, 20_010)
    for same in ("2023-11-14T22:13:20", "2023-11-14T22:13:20Z", "2023-11-14 22:13:20"):
        ask(nar, "nar-audit", at=same)
        assert nar.audit.asked[-1]["at_s"] == 1_700_000_000.0


@pytest.mark.parametrize("at", ["yesterday", "2023-02-30T00:00:00Z", "2023-01-01", "1"])
def test_no_such_time(nar: Nar, at: str) -> None:
    nar.audit = FakeAudit([])
    assert refused(nar, "nar-audit", at=at).field == "at"


def test_the_audit_comes_in_pages(nar: Nar) -> None:
    nar.audit = FakeAudit([Row(number, mapping(ESP)) for number in range(1, 8)])
    seen: list[str] = []
    cursor: dict[str, object] = {}
    while True:
        result = ask(nar, "nar-audit", limit=3, **cursor)
        assert result["total"] == 7
        seen += ids(result)
        if result["next"] is None:
            break
        cursor = {"cursor": result["next"]}
    assert seen == [f"{number:016x}" for number in range(7, 0, -1)]


@pytest.mark.parametrize("cursor", ["_", "ffffffffffffffffffff"])
def test_a_cursor_that_is_none(nar: Nar, cursor: str) -> None:
    nar.audit = FakeAudit([])
    assert refused(nar, "nar-audit", cursor=cursor).field == "cursor"


ADDRESSES = st.integers(1 << 24, 2**32 - 1).map(IPv4Address)
PORTS = st.integers(1, 65_535)
TUPLES = st.builds(
    NarTuple,
    st.sampled_from(NarProtocol),
    ADDRESSES,
    st.integers(0, 2**32 - 1),
    st.none() | ADDRESSES,
    st.none() | PORTS,
)


@given(TUPLES)
def test_a_lease_is_found_by_its_name(key: NarTuple) -> None:
    name = tuple_id(key)
    assert NAR_LEASE_ID.fullmatch(name)
    assert parse_id(name) == key
    assert lease_value(lease(key)) == key.value


@given(TUPLES, TUPLES)
def test_leases_have_different_places_in_the_list(one: NarTuple, other: NarTuple) -> None:
    same = lease_cursor(lease(one)) == lease_cursor(lease(other))
    assert same == (one == other)
    assert len(lease_cursor(lease(one))) <= 40


@given(st.sampled_from(NarProtocol), st.integers(0, 2**32 - 1))
def test_a_value_is_read_as_it_is_written(protocol: NarProtocol, value: int) -> None:
    assert parse_value(value_text(protocol, value)) == value


def test_what_the_real_engine_says_is_understood() -> None:
    """A client without a login, in NAR mode, with a lease of every kind of value."""
    policy = NarServerPolicy(
        "soho",
        IPv4Address("192.168.1.1"),
        (NB,),
        rules=(NarRule("all"),),
        trusted=(IPv4Network("192.168.1.0/24"),),
    )
    engine = NarServer(policy, random=os.urandom, wall_clock=lambda: WALL_S, occupied=_nothing)
    local = Endpoint(policy.tunnel_address, 1080)
    number = engine.connected(Endpoint(XA, 40_000), local, NOW, tls=False)
    assert number is not None
    udp = SocksRequest(SocksCommand.UDP_ASSOCIATE, IPv4Address(0), 0)
    for message in (
        b"\x05\x01\x00",
        SocksRequest(SocksCommand.NAR_MODE, YB, 0).to_octets(),
        udp.to_octets(),
        SocksRequest(SocksCommand.CONNECT, YB, 443).to_octets(),
        IcmpAssociate(0).to_octets(),
        IpsecAssociate(50, 0).to_octets(),
        TunnelAssociate(IPv4Address("10.20.0.10"), 4).to_octets(),
    ):
        engine.received(number, message, NOW)
    nar = Nar({"soho": engine})  # type: ignore[dict-item]
    (client,) = (NarClient.model_validate(item) for item in ask(nar, "nar-clients")["items"])
    assert (client.client, client.rule, client.state) == (str(XA), "all", "nar")
    assert (client.address, client.target, client.leases) == (str(NB), str(YB), 5)
    leases = [NarLease.model_validate(item) for item in ask(nar, "nar-mappings")["items"]]
    assert [one.protocol for one in leases] == ["icmp", "ip-ip", "tcp", "udp", "esp"]
    assert leases[1].value == "10.20.0.10"
    for one in leases:
        assert ids(ask(nar, "nar-mappings", protocol=one.protocol, value=one.value)) == [one.id]
        ask(nar, "nar-end-lease", id=one.id)
    assert ask(nar, "nar-mappings")["total"] == 0
    assert ask(nar, "nar-end-client", client=str(XA))["leases"] == 0


def _nothing(protocol: NarProtocol, address: IPv4Address, value: int) -> bool:
    del protocol, address, value
    return False
