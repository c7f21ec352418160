"""Devices are who they are by whatever an event names them with, and lists are made of indexes."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observation_fakes import Chronicle, Clock, Engine, failed

from gateway.appliance.observation.device import BindingFacts, Configured, VisitorFacts, seen_name
from gateway.appliance.observation.following import Follower
from gateway.appliance.observation.layers import costs, mtu_of, overhead_of
from gateway.appliance.observation.listing import list_devices
from gateway.appliance.observation.register import MAX_SEEN, Register
from gateway.domain.event import Event


class Bed:
    def __init__(self) -> None:
        self.clock, self.engine, self.chronicle = Clock(), Engine(), Chronicle()
        self.register = Register()
        self.follower = Follower(
            self.register,
            self.chronicle,
            self.engine,
            lambda: None,
            clock=self.clock,
            wall_clock=self.clock.wall,
        )

    def device(self, identity: str) -> Any:
        return self.register.identified(identity)


@pytest.fixture
def bed() -> Bed:
    return Bed()


def binding(home: str = "10.2.0.9", care_of: str = "10.9.0.2", **changed: Any) -> BindingFacts:
    given = {
        "agent": "inner",
        "outside": False,
        "home_address": home,
        "care_of": (care_of,),
        "tunnels": (f"ip-ip to {care_of}",),
        "node": "laptop",
        "nai": "",
        "co_located": True,
        "zero_overhead": False,
        "via_agent": "",
        "since_s": 1.0,
        **changed,
    }
    return BindingFacts(**given)  # type: ignore[arg-type]


def test_a_device_connects_moves_and_goes(bed: Bed) -> None:
    event = bed.engine.connect("ann@example.com")
    told = bed.follower(event)
    device = bed.device("ann@example.com")
    assert told.fields["device"] == device.name == seen_name("ann@example.com")
    assert told.fields["session"] == "session-1"
    assert (device.where, device.mode, device.connection) == ("outside", "v", "staff")
    assert overhead_of(device) == 65
    assert mtu_of(device) == 1438
    gaps: list[float] = []
    bed.follower.gaps_s = gaps.append
    bed.clock.now += 0.25
    bed.follower(bed.engine.move(event, "203.0.113.5:1024"))
    assert device.outer == "203.0.113.5:1024"
    assert device.moves[0].gap_s == pytest.approx(0.25)
    assert gaps == [pytest.approx(0.25)]
    closed = bed.engine.close(event)
    del closed.fields["session"]
    told = bed.follower(closed)
    assert told.fields["device"] == device.name
    assert told.fields["session"] == "session-1"
    assert (device.where, device.mode) == ("offline", "")
    assert [one[2] for one in bed.chronicle.entries] == ["connected", "moved", "disconnected"]
    assert {one[1] for one in bed.chronicle.entries} == {"session-1"}


def test_packets_that_no_sample_has_seen_make_the_gap_uncertain_not_long(bed: Bed) -> None:
    event = bed.engine.connect("ann")
    bed.follower(event)
    device = bed.device("ann")
    (child,) = device.session.children.values()
    child.counted, child.sampled_at = (1000, 0, 10, 0), bed.clock.now + 5.0
    bed.clock.now += 5.4
    bed.follower.before_move = lambda _spi: (50, None)
    bed.follower(bed.engine.move(event, "203.0.113.5:1"))
    assert device.moves[0].gap_s == pytest.approx(0.4)
    assert device.moves[0].precision_s == pytest.approx(0.4)
    child.counted, child.sampled_at = (5000, 0, 50, 0), bed.clock.now
    bed.clock.now += 60.0
    bed.follower.before_move = lambda _spi: (51, bed.clock.wall() - 20.0)
    bed.follower(bed.engine.move(event, "203.0.113.6:1"))
    assert device.moves[0].gap_s == pytest.approx(20.0)
    assert device.moves[0].precision_s == 1.0


def test_behind_a_nat_esp_is_in_udp_and_the_overhead_says_so(bed: Bed) -> None:
    event = bed.engine.connect("ann", encapsulated=False)
    bed.follower(event)
    device = bed.device("ann")
    assert overhead_of(device) == 57
    (spi,) = bed.engine.children
    bed.engine.children[spi] = replace(bed.engine.children[spi], encapsulated=True)
    bed.follower(bed.engine.move(event, "203.0.113.5:4500"))
    assert overhead_of(device) == 65


def test_a_rekeying_keeps_the_session_and_its_name(bed: Bed) -> None:
    event = bed.engine.connect("ann")
    bed.follower(event)
    old, new = str(event.fields["spis"]), "a" * 16 + "_" + "b" * 16
    bed.follower(Event("ike_sa_rekeyed", "", fields={"old_spis": old, "spis": new, "peer": "ann"}))
    device = bed.device("ann")
    assert list(device.sessions) == [new]
    assert device.session.id == "session-1"
    bed.follower(Event("ike_sa_closed", "", fields={"spis": new, "peer": "ann"}))
    assert not device.sessions


def test_failures_make_no_device_of_who_has_proven_nothing(bed: Bed) -> None:
    for number in range(50):
        bed.follower(failed(f"stranger-{number}"))
    assert len(bed.register) == 0
    bed.register.configure({"laptop": Configured("laptop", "ann")})
    told = bed.follower(failed("ann"))
    assert told.fields["device"] == "laptop"
    device = bed.device("ann")
    assert (device.where, device.failures) == ("failed", 1)
    bed.follower(bed.engine.connect("ann"))
    assert device.where == "outside"
    assert device.failed_s is None


def test_a_flood_of_failures_in_a_device_s_name_does_not_fill_the_store(bed: Bed) -> None:
    bed.register.configure({"laptop": Configured("laptop", "ann")})
    for _ in range(1000):
        bed.clock.now += 0.1
        bed.follower(failed("ann"))
    assert bed.device("ann").failures == 1000
    assert 10 <= len(bed.chronicle.entries) <= 11


def test_a_configured_device_keeps_what_was_seen_of_it(bed: Bed) -> None:
    bed.follower(bed.engine.connect("ann"))
    bed.register.configure({"laptop": Configured("laptop", "ann", note="blue")})
    device = bed.register.named("laptop")
    assert device is bed.device("ann")
    assert device is not None
    assert device.where == "outside"
    assert bed.register.named(seen_name("ann")) is None
    bed.register.configure({"renamed": Configured("renamed", "ann")})
    assert bed.register.named("renamed") is device
    bed.register.configure({})
    assert device.name == seen_name("ann")
    assert device.source == "seen"
    bed.register.configure({"never": Configured("never", "bob")})
    bed.register.configure({})
    assert bed.device("bob") is None


def test_leases_are_counted_by_client_and_survive_a_restart(bed: Bed) -> None:
    bed.follower(bed.engine.connect("ann", inner_address="10.9.0.2"))
    bed.follower.restore_leases(int(IPv4Address("10.9.0.2")), 2)
    fields = {"client": "10.9.0.2", "server": "nar"}
    told = bed.follower(Event("nar_lease_opened", "", fields=fields))
    assert told.fields["device"] == bed.device("ann").name
    assert told.fields["session"] == "session-1"
    assert bed.follower.leases == {"10.9.0.2": 3}
    for _ in range(3):
        bed.follower(Event("nar_lease_closed", "", fields=fields))
    assert bed.follower.leases == {}


def test_blocked_counts_while_nothing_is_up(bed: Bed) -> None:
    bed.register.configure({"laptop": Configured("laptop", "ann", blocked=True)})
    assert bed.device("ann").where == "blocked"


@pytest.mark.parametrize(
    ("changed", "mode", "octets"),
    [
        ({"endpoint_update": True}, "vc", 65 + 20),
        ({"mobike": True}, "mc", 65 + 20),
        ({"vpn_fa": True}, "vf", 65),
    ],
)
def test_the_access_mode_with_an_inside_home_agent(
    bed: Bed, changed: dict[str, Any], mode: str, octets: int
) -> None:
    bed.follower(bed.engine.connect("ann", **changed))
    device = bed.register.set_binding(binding())
    assert device is bed.device("ann")
    assert device.mode == mode
    assert overhead_of(device) == octets


def test_x_mip_below_the_vpn_is_found_whichever_comes_first(bed: Bed) -> None:
    outside = {
        "agent": "outer",
        "outside": True,
        "home": "203.0.113.80",
        "care_of": "198.51.100.7",
        "node": "laptop-x",
    }
    first = bed.register.set_binding(binding(**outside))
    assert first.where == "away"
    bed.follower(bed.engine.connect("ann", remote="203.0.113.80:500", encapsulated=False))
    device = bed.device("ann")
    assert (device.mode, device.where, device.outer) == ("cv", "outside", "198.51.100.7")
    assert len(bed.register) == 1
    bed.register.set_binding(binding())
    assert device.mode == "cvc"
    assert overhead_of(device) == 97
    assert [one.name for one in costs(device)] == ["x-mip", "vpn", "i-mip"]
    other = Bed()
    other.follower(other.engine.connect("ann", remote="203.0.113.80:500"))
    assert other.register.set_binding(binding(**outside)) is other.device("ann")


def test_behind_foreign_agents(bed: Bed) -> None:
    by_agent = {"co_located": False, "via_agent": "10.3.0.1", "care_of": "10.3.0.1"}
    device = bed.register.set_binding(binding(**by_agent))
    assert (device.where, device.mode, device.place) == (
        "behind-fa",
        "f",
        "foreign-agent-at:10.3.0.1",
    )
    assert overhead_of(device) == 0
    visitor = VisitorFacts("cafe", "10.2.0.1", "10.2.0.9", "", False, "aa:bb", 1.0)
    assert bed.register.set_visitor(visitor) is device
    assert device.place == "foreign-agent:cafe"
    bed.register.drop_visitor(("cafe", "10.2.0.1", "10.2.0.9"))
    bed.register.drop_binding("inner", "10.2.0.9")
    assert device.where == "offline"


def test_lists_filter_sort_and_go_on_where_they_stopped(bed: Bed) -> None:
    for number in range(1, 31):
        bed.follower(
            bed.engine.connect(
                f"user{number:02d}",
                number,
                connection="staff" if number % 2 else "guests",
                inner_address=f"10.9.0.{number}",
            )
        )
    register = bed.register
    assert list_devices(register, connection="staff").total == 15
    assert list_devices(register, text="USER07").devices[0].identity == "user07"
    assert list_devices(register, text="10.9.0.30").total == 1
    found, cursor = [], None
    while True:
        page = list_devices(register, sort="-identity", limit=7, cursor=cursor)
        found += [one.identity for one in page.devices]
        cursor = page.following
        if cursor is None:
            break
    assert found == sorted(found, reverse=True)
    assert len(found) == 30


def test_a_page_goes_on_behind_its_last_device_when_others_went(bed: Bed) -> None:
    wanted = {f"d{number:02d}": Configured(f"d{number:02d}", f"i{number}") for number in range(10)}
    bed.register.configure(wanted)
    first = list_devices(bed.register, limit=5)
    for name in ("d00", "d01"):
        del wanted[name]
    bed.register.configure(wanted)
    second = list_devices(bed.register, limit=5, cursor=first.following)
    assert [one.name for one in second.devices] == ["d05", "d06", "d07", "d08", "d09"]


@given(st.text(max_size=40))
def test_h78_any_cursor_is_harmless(cursor: str) -> None:
    register = Register()
    register.see("a")
    list_devices(register, cursor=cursor)


def test_those_that_are_gone_and_unknown_are_forgotten_in_the_end(bed: Bed) -> None:
    for number in range(1, MAX_SEEN + 50):
        event = bed.engine.connect(f"u{number}", number)
        bed.follower(event)
        bed.follower(bed.engine.close(event))
    assert len(bed.register) == MAX_SEEN
    assert bed.device("u1") is None


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["connect", "close", "move", "bind", "unbind", "visit", "leave", "configure", "fail"]
        ),
        st.integers(1, 4),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(_STEPS)
def test_indexes_agree_with_the_devices_whatever_happens(steps: list[tuple[str, int]]) -> None:
    bed = Bed()
    events: dict[int, Event] = {}
    wanted: dict[str, Configured] = {}
    for what, number in steps:
        who, home = f"user{number}", f"10.2.0.{number}"
        if what == "connect" and number not in events:
            inner = f"10.9.0.{number}"
            remote = f"203.0.113.{number}:500"
            events[number] = bed.engine.connect(who, number, inner_address=inner, remote=remote)
            bed.follower(events[number])
        elif what == "close" and number in events:
            bed.follower(bed.engine.close(events.pop(number)))
        elif what == "move" and number in events:
            other = number % 4 + 1
            bed.follower(bed.engine.move(events[number], f"203.0.113.{other}:500"))
        elif what == "bind":
            care_of = f"10.9.0.{number % 3 + 1}"
            bed.register.set_binding(binding(home=home, care_of=care_of, node=f"n{number}"))
        elif what == "unbind":
            bed.register.drop_binding("inner", home)
        elif what == "visit":
            bed.register.set_visitor(VisitorFacts("fa", "h", home, "", False, "", 0.0))
        elif what == "leave":
            bed.register.drop_visitor(("fa", "h", home))
        elif what == "configure":
            name = f"c{number}"
            if wanted.pop(name, None) is None:
                node = f"n{number}" if number % 2 else ""
                wanted[name] = Configured(name, who, mobile_node=node)
            bed.register.configure(dict(wanted))
        else:
            bed.follower(failed(who))
        _consistent(bed.register)


def _consistent(register: Register) -> None:
    devices = list(register)
    names = [device.name for device in devices]
    assert len(set(names)) == len(names)
    listed = list_devices(register, limit=200).devices
    assert [one.name for one in listed] == sorted(names)
    where, modes = register.counts()
    assert sum(where.values()) == len(devices)
    for device in devices:
        assert register.identified(device.identity) is device
        before = (device.where, device.mode, device.place)
        device.settle()
        assert (device.where, device.mode, device.place) == before
        assert device.number in register.at(device.place)
        for spis, session in device.sessions.items():
            assert register.of_session(spis) is device
            for spi in session.children:
                assert register.of_spi(spi) == (device, session)
        for agent, home in device.bindings:
            assert register.of_binding(agent, home) is device
    assert len(register.spis()) == sum(
        len(session.children) for device in devices for session in device.sessions.values()
    )
    assert sum(modes.values()) == sum(1 for one in devices if one.mode)
