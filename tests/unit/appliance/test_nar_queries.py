"""NAR clients, leases and the audit over the control socket's language."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kept_state import KeptState

from gateway.api.models_nar import NarAuditEntry, NarClient, NarLease
from gateway.appliance.nar.audit import Audit
from gateway.appliance.nar.queries import LEASES_PER_TURN, NarQueries
from gateway.appliance.nar.store import NarStore
from gateway.appliance.nar.views import parse_value, value_text
from gateway.control.nar_operations import NAR_LEASE_ID
from gateway.control.protocol import ControlError, ErrorCode, Role, check_request, dump
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.domain.user_auth import Accepted
from gateway.nar.codec.associate import IcmpAssociate, IpsecAssociate, TunnelAssociate
from gateway.nar.codec.negotiation import PasswordRequest
from gateway.nar.codec.numbers import SocksCommand
from gateway.nar.codec.request import SocksRequest
from gateway.nar.outputs import AskPassword, LeaseClosed, LeaseOpened
from gateway.nar.policy import NarRule, NarServerPolicy
from gateway.nar.server.engine import NarServer
from gateway.nar.server.views import parse_id, tuple_id
from gateway.store.nar_leases import Bounds

NB = IPv4Address("203.0.113.5")
YB = IPv4Address("198.51.100.7")
XA, XB = IPv4Address("192.168.1.20"), IPv4Address("192.168.1.21")
HOME = IPv4Address("10.20.0.10")
NOW = 7.0
WALL_S = 1_700_000_100.0

ESP = NarTuple(NarProtocol.ESP, NB, 0x41F3A2C7)
TCP = NarTuple(NarProtocol.TCP, NB, 20_010, YB, 443)
OPEN = NarTuple(NarProtocol.TCP, NB, 8080)
TUNNEL = NarTuple(NarProtocol.IP_IP, NB, int(HOME), YB)


def _nothing(protocol: NarProtocol, address: IPv4Address, value: int) -> bool:
    del protocol, address, value
    return False


class Box:
    """A NAR server whose clients say what they are told to."""

    def __init__(self, name: str = "soho", address: IPv4Address = NB) -> None:
        self.policy = NarServerPolicy(
            name,
            IPv4Address("192.168.1.1"),
            (address,),
            rules=(NarRule("all", ports=(range(8080, 8081),)),),
            trusted=(IPv4Network("192.168.1.0/24"),),
            backend="local",
            require_tls=False,
        )
        self.engine = NarServer(
            self.policy, random=os.urandom, wall_clock=lambda: WALL_S, occupied=_nothing
        )

    def connect(self, client: IPv4Address, user: str = "", port: int = 40_000) -> int:
        """A connection that is let in."""
        local = Endpoint(self.policy.tunnel_address, 1080)
        number = self.engine.connected(Endpoint(client, port), local, NOW, tls=False)
        assert number is not None
        if not user:
            self.say(number, b"\x05\x01\x00")
            return number
        self.say(number, b"\x05\x01\x02", PasswordRequest(user, b"secret").to_octets())
        (asked,) = (one for one in self.engine.outputs() if isinstance(one, AskPassword))
        self.engine.user_answered(asked.ticket, Accepted(user, ()), NOW)
        return number

    def nar_mode(self, client: IPv4Address, user: str = "", target: IPv4Address = YB) -> int:
        """A connection in NAR mode."""
        number = self.connect(client, user)
        self.say(number, SocksRequest(SocksCommand.NAR_MODE, target, 0).to_octets())
        return number

    def say(self, number: int, *messages: bytes) -> None:
        for message in messages:
            self.engine.received(number, message, NOW)

    @property
    def keys(self) -> set[str]:
        return {str(one["id"]) for one in self.engine.mappings()}


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
    boxes: dict[str, Box]
    audit: FakeAudit | None = None
    flushed: list[float] = field(default_factory=list)

    @property
    def servers(self) -> dict[str, NarServer]:
        return {name: box.engine for name, box in self.boxes.items()}

    def flush(self, now: float) -> None:
        self.flushed.append(now)


@pytest.fixture
def nar() -> Nar:
    """Two servers; at the first ann has two sessions, bob one, and somebody has said nothing."""
    soho, other = Box(), Box("other", IPv4Address("203.0.113.6"))
    first = soho.nar_mode(XA, "ann")
    soho.say(first, IpsecAssociate(50, ESP.value).to_octets())
    second = soho.nar_mode(XA, "ann")
    soho.say(second, TunnelAssociate(HOME, 4).to_octets(), IcmpAssociate(0).to_octets())
    anybody = soho.nar_mode(XB, "bob", IPv4Address(0))
    soho.say(anybody, SocksRequest(SocksCommand.BIND, IPv4Address(0), 8080).to_octets())
    soho.engine.connected(
        Endpoint(XB, 41_000), Endpoint(soho.policy.tunnel_address, 1080), NOW, tls=True
    )
    udp = SocksRequest(SocksCommand.UDP_ASSOCIATE, IPv4Address(0), 0)
    other.say(other.nar_mode(XA), udp.to_octets())
    return Nar({"soho": soho, "other": other})


def ask(nar: Nar | None, op: str, **args: object) -> Any:
    queries = NarQueries(lambda: nar, lambda: NOW, lambda: WALL_S)
    request = check_request({"op": op, "args": args}, Role.OPERATOR)

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


def all_pages(nar: Nar, op: str, limit: int, **filters: object) -> list[dict[str, object]]:
    seen: list[dict[str, object]] = []
    cursor: dict[str, object] = {}
    while True:
        result = ask(nar, op, limit=limit, **filters, **cursor)
        assert len(result["items"]) <= limit
        seen += result["items"]
        if result["next"] is None:
            assert result["total"] == len(seen)
            return seen
        cursor = {"cursor": result["next"]}


def test_without_servers_there_is_nothing() -> None:
    for op in ("nar-clients", "nar-mappings"):
        assert ask(None, op) == {"items": [], "next": None, "total": 0}
    assert refused(None, "nar-audit").code == ErrorCode.REFUSED
    assert refused(None, "nar-end-lease", id=tuple_id(ESP)).code == ErrorCode.NOT_FOUND
    assert refused(None, "nar-end-client", client="10.0.0.1").code == ErrorCode.NOT_FOUND


def test_clients_are_as_the_api_describes_them(nar: Nar) -> None:
    found = [NarClient.model_validate(item) for item in ask(nar, "nar-clients")["items"]]
    assert [(one.server, one.client, one.user) for one in found] == [
        ("other", str(XA), None),
        ("soho", str(XA), "ann"),
        ("soho", str(XA), "ann"),
        ("soho", str(XB), "bob"),
        ("soho", str(XB), None),
    ]
    ann, silent = found[1], found[4]
    assert (ann.state, ann.rule, ann.tls, ann.leases) == ("nar", "all", False, 1)
    assert (ann.address, ann.target, ann.delivery) == (str(NB), str(YB), "ip-ip")
    assert ann.since == "2023-11-14T22:15:00.000+00:00"
    assert ann.expires_in_s is None
    assert (silent.state, silent.tls, silent.session, silent.port) == (
        "negotiating",
        True,
        None,
        41_000,
    )


def test_a_lost_client_is_shown_with_what_is_left_to_it(nar: Nar) -> None:
    soho = nar.boxes["soho"]
    soho.engine.disconnected(1, NOW)
    lost = [NarClient.model_validate(one) for one in ask(nar, "nar-clients", user="ann")["items"]]
    assert [(one.state, one.connected) for one in lost] == [("nar", True), ("lost", False)]
    assert (lost[1].port, lost[1].leases, lost[1].expires_in_s) == (None, 1, 120.0)
    (lease,) = ask(nar, "nar-mappings", protocol="esp")["items"]
    assert (lease["connected"], lease["expires_in_s"]) == (False, 120.0)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"client": "192.168.1.20"}, 3),
        ({"user": "bob"}, 1),
        ({"server": "other"}, 1),
        ({"server": "nobody"}, 0),
        ({"server": "soho", "user": "ann"}, 2),
        ({"user": "an"}, 0),
    ],
)
def test_clients_are_filtered(nar: Nar, filters: Any, count: int) -> None:
    result = ask(nar, "nar-clients", **filters)
    assert (len(result["items"]), result["total"]) == (count, count)


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_lists_come_in_pages(nar: Nar, limit: int) -> None:
    soho = nar.boxes["soho"]
    for last in range(30, 40):
        number = soho.nar_mode(IPv4Address(f"192.168.1.{last}"))
        soho.say(number, *[IpsecAssociate(50, 0).to_octets()] * (last % 4))
    soho.engine.disconnected(1, NOW)
    whole = ask(nar, "nar-mappings")
    assert whole["total"] == len(whole["items"]) == 5 + 17
    assert all_pages(nar, "nar-mappings", limit) == whole["items"]
    assert len(set(ids(whole))) == 22
    esp = ask(nar, "nar-mappings", protocol="esp")["items"]
    assert len(esp) == 18
    assert all_pages(nar, "nar-mappings", limit, protocol="esp") == esp
    clients = ask(nar, "nar-clients")["items"]
    assert len(clients) == 15
    assert all_pages(nar, "nar-clients", limit) == clients


def test_leases_are_as_the_api_describes_them(nar: Nar) -> None:
    items = ask(nar, "nar-mappings")["items"]
    found = {one.id: one for one in map(NarLease.model_validate, items)}
    esp = found[tuple_id(ESP)]
    assert (esp.protocol, esp.value, esp.remote, esp.peer) == ("esp", "0x41f3a2c7", None, str(YB))
    assert (esp.user, esp.rule, esp.connected) == ("ann", "all", True)
    assert esp.delivery == "ip-ip"
    port = found[tuple_id(OPEN)]
    assert (port.value, port.remote, port.remote_port, port.peer) == ("8080", None, None, None)
    assert found[tuple_id(TUNNEL)].value == str(HOME)
    (udp,) = (one for one in found.values() if one.server == "other")
    assert (udp.protocol, udp.user, udp.address) == ("udp", None, "203.0.113.6")


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({"protocol": "esp"}, [ESP]),
        ({"value": "0x41f3a2c7"}, [ESP]),
        ({"value": "8080"}, [OPEN]),
        ({"value": "10.20.0.10"}, [TUNNEL]),
        ({"user": "bob"}, [OPEN]),
        ({"client": "192.168.1.21"}, [OPEN]),
        ({"address": "203.0.113.5", "protocol": "tcp"}, [OPEN]),
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
    result = ask(nar, "nar-end-lease", id=tuple_id(OPEN))
    assert result["lease"] == "TCP 203.0.113.5:8080"
    assert tuple_id(OPEN) not in nar.boxes["soho"].keys
    assert nar.flushed == [NOW]
    assert refused(nar, "nar-end-lease", id=tuple_id(OPEN)).code == ErrorCode.NOT_FOUND


def test_a_lease_of_no_protocol_is_not_found(nar: Nar) -> None:
    for name in ("tcp,203.0.113.5,1.1.1.1,any,any", "esp,203.0.113.555,1,any,any"):
        assert refused(nar, "nar-end-lease", id=name).code == ErrorCode.NOT_FOUND
    assert refused(nar, "nar-end-lease", id="sctp,203.0.113.5,1,any,any").field == "id"


def test_a_client_is_ended(nar: Nar) -> None:
    assert ask(nar, "nar-end-client", client=str(XA)) == {"ended": str(XA), "leases": 4}
    assert nar.boxes["soho"].keys == {tuple_id(OPEN)}
    assert nar.flushed == [NOW]


def test_a_client_without_leases_is_ended_too(nar: Nar) -> None:
    nar.boxes["soho"].connect(IPv4Address("192.168.1.22"))
    assert ask(nar, "nar-end-client", client="192.168.1.22", server="soho")["leases"] == 0
    error = refused(nar, "nar-end-client", client="192.168.1.22")
    assert (error.code, error.field) == (ErrorCode.NOT_FOUND, "client")


def test_many_leases_delay_nobody(nar: Nar) -> None:
    """Others have their turn, and only what is shown is put into words."""
    soho = nar.boxes["soho"]
    for last in range(100, 110):
        number = soho.nar_mode(IPv4Address(f"192.168.1.{last}"))
        soho.say(number, *[IpsecAssociate(50, 0).to_octets()] * 250)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> Any:
        task = asyncio.create_task(others())
        queries = NarQueries(lambda: nar, lambda: NOW, lambda: WALL_S)
        request = check_request({"op": "nar-mappings", "args": {"protocol": "ah"}}, Role.OPERATOR)
        result = await queries.handlers()["nar-mappings"](request)
        task.cancel()
        return result

    assert asyncio.run(run())["total"] == 0
    assert turns >= 2500 // LEASES_PER_TURN


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


def test_an_audit_that_cannot_be_read_is_a_refusal(nar: Nar) -> None:
    class Broken(FakeAudit):
        async def find(self, **given: Any) -> Sequence[Row]:
            del given
            raise OSError(5, "disk I/O error")

    nar.audit = Broken([])
    error = refused(nar, "nar-audit")
    assert (error.code, error.message) == (
        ErrorCode.REFUSED,
        "the audit cannot be read: disk I/O error",
    )


@pytest.mark.parametrize("cursor", ["_", "ffffffffffffffffffff"])
def test_a_cursor_that_is_none(nar: Nar, cursor: str) -> None:
    nar.audit = FakeAudit([])
    assert refused(nar, "nar-audit", cursor=cursor).field == "cursor"


def test_who_held_a_port_is_found_on_disk(tmp_path: Path) -> None:
    """With the real store: a lease that is over, one that lasts, and somebody else's."""
    held = mapping(TCP)
    end = Endpoint(XA, 40_000)

    async def run() -> list[list[str]]:
        events: list[Event] = []
        state = KeptState(tmp_path, events.append)
        state.start()
        bounds = Bounds(100, 1e9)
        store = NarStore(state.taken, tmp_path, events.append, bounds, wall_clock=lambda: WALL_S)
        store.open()
        store.start((), ["soho"])
        for at_s, user in ((1_000.0, "ann"), (3_000.0, "bob")):
            store.note(LeaseOpened("soho", user, end, held, at_s))
            if user == "ann":
                store.note(LeaseClosed("soho", user, end, held, 2_000.0, "released"))
        store.note(LeaseOpened("soho", "eve", end, mapping(ESP), 1_500.0))
        nar = Nar({}, Audit(store))  # type: ignore[arg-type]
        handler = NarQueries(lambda: nar, lambda: NOW).handlers()["nar-audit"]
        found = []
        for filters in (
            {"at": "1970-01-01T00:25:00Z"},
            {"at": "1970-01-01T00:25:00Z", "protocol": "tcp", "value": "20010"},
            {"at": "1970-01-01T00:41:40Z", "protocol": "tcp"},
            {"at": "1970-01-01T01:00:00Z", "address": str(NB), "value": "20010"},
            {"user": "ann"},
            {"client": str(XB)},
            {"limit": 1},
        ):
            request = check_request({"op": "nar-audit", "args": filters}, Role.OPERATOR)
            result: Any = await handler(request)
            entries = [NarAuditEntry.model_validate(item) for item in result["items"]]
            found.append([f"{one.user} {one.ended_by}" for one in entries])
        assert result["total"] == 3
        assert result["next"] is not None
        await store.stop()
        await state.stop()
        assert events == []
        return found

    assert asyncio.run(run()) == [
        ["eve None", "ann released"],
        ["ann released"],
        [],
        ["bob None"],
        ["ann released"],
        [],
        ["eve None"],
    ]


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


@given(st.sampled_from(NarProtocol), st.integers(0, 2**32 - 1))
def test_a_value_is_read_as_it_is_written(protocol: NarProtocol, value: int) -> None:
    assert parse_value(value_text(protocol, value)) == value
