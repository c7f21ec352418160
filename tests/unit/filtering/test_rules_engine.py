"""Which rules apply to whom, and what the rule sets say, against the judgement of each flow."""

from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.filtering import Direction, RuleSet
from gateway.domain.remote_access import Grant
from gateway.filtering.book import Book, KnownDevice, Terms
from gateway.filtering.engine import Define, Displace, Filtering, Place, Trouble, Undefine
from gateway.filtering.judge import Flow, judge, otherwise
from gateway.filtering.rule import Action, Rule

INSIDE = ip_network("10.1.0.0/16")
SERVER = ip_address("10.1.0.2")
WORKING = ((frozenset(range(5)), 480, 1080),)


def grant(session: str = "s1", peer: str = "phone@example.org", **fields: Any) -> Grant:
    number = int(session[1:])
    defaults = {"connection": "road", "addresses": (ip_address(f"10.9.0.{number}"),)}
    return Grant(session, peer, **{**defaults, **fields})


def book(*rules: Rule, listed: tuple[str, ...] | None = None, **fields: Any) -> Book:
    names = tuple(rule.name for rule in rules) if listed is None else listed
    defaults = {"connections": {"road": Terms(names)}}
    return Book(rules={rule.name: rule for rule in rules}, **{**defaults, **fields})


def web(name: str = "web", **fields: Any) -> Rule:
    return Rule(name, **{"networks": (INSIDE,), "protocols": (6,), "ports": ((80, 80),), **fields})


def passes(rule_set: RuleSet, flow: Flow) -> bool:
    """As the kernel does it."""
    if any(box.holds(flow.address, flow.protocol, flow.port) for box in rule_set.refuse):
        return False
    if any(box.holds(flow.address, flow.protocol, flow.port) for box in rule_set.allow):
        return True
    return not rule_set.closed


def test_sessions_under_the_same_rules_share_a_rule_set() -> None:
    engine = Filtering(book(web()))
    engine.granted(grant("s1"))
    engine.granted(grant("s2", "other@example.org"))
    define, first, second = engine.take_outputs()
    assert isinstance(define, Define)
    assert define.rule_set.closed
    assert isinstance(first, Place)
    assert isinstance(second, Place)
    assert first.placement.rule_sets == {Direction.TO_INSIDE: define.number}
    assert first.placement.rule_sets == second.placement.rule_sets
    engine.ended("s1")
    assert engine.take_outputs() == [Displace("s1")]
    engine.ended("s2")
    assert engine.take_outputs() == [Displace("s2"), Undefine(define.number)]
    assert engine.counted() == {"sessions": 0, "rule_sets": 0, "entries": 0}


def test_the_next_process_numbers_rule_sets_alike() -> None:
    numbers = []
    for order in ((1, 2), (2, 1)):
        engine = Filtering(book(web("a"), web("b", direction=Direction.FROM_INSIDE)))
        for number in order:
            engine.granted(grant(f"s{number}"))
        outputs = engine.take_outputs()
        numbers.append({one.number for one in outputs if isinstance(one, Define)})
    assert numbers[0] == numbers[1]


def test_users_groups_devices_profiles_and_connections() -> None:
    rules = [
        web("of-connection"),
        web("of-profile"),
        web("of-user", users=frozenset({"alice"})),
        web("of-group", groups=frozenset({"admins"})),
        web("of-device", devices=frozenset({"phone"})),
        web("of-identity", devices=frozenset({"phone@example.org"})),
        web("of-nobody", users=frozenset({"bob"})),
    ]
    found = book(
        *rules,
        listed=("of-connection",),
        profiles={"staff": Terms(("of-profile", "unknown")), "plain": Terms()},
        comparable=str.casefold,
    )
    who = grant(peer="Phone@Example.org", user="Alice", groups=frozenset({"admins"}))
    assert found.rules_of(who, KnownDevice("phone")) == {
        "of-connection": "connection road",
        "of-user": "user Alice",
        "of-group": "group admins",
        "of-identity": "device Phone@Example.org",
        "of-device": "device phone",
    }
    assert list(found.rules_of(grant(profile="staff"))) == ["of-profile", "of-identity"]
    assert list(found.rules_of(grant(profile="plain", peer="x"))) == ["of-connection"]


def test_bandwidth_of_the_device_then_the_profile_then_the_connection() -> None:
    found = Book(
        connections={"road": Terms(None, 100, 200)}, profiles={"staff": Terms(None, None, 300)}
    )
    device = KnownDevice("phone", Terms(None, 50, None))
    assert found.bandwidth_of(grant()) == (100, 200)
    assert found.bandwidth_of(grant(profile="staff")) == (100, 300)
    assert found.bandwidth_of(grant(profile="staff"), device) == (50, 300)
    fast = KnownDevice("vip", Terms(None, 5000, 250))
    assert found.bandwidth_of(grant(proven=False), fast) == (100, 200), "claimed only"


def test_who_only_claims_to_be_a_device_gets_nothing_that_is_for_it() -> None:
    phone = frozenset({"phone@example.org"})
    yes, no = web(devices=phone), web("not", action=Action.REFUSE, devices=phone)
    found = book(yes, no, listed=())
    assert found.rules_of(grant()).keys() == {"web", "not"}
    assert found.rules_of(grant(proven=False)).keys() == {"not"}
    known = KnownDevice("phone")
    named = book(web(devices=frozenset({"phone"})), listed=())
    assert named.rules_of(grant(peer="x"), known).keys() == {"web"}
    assert not named.rules_of(grant(peer="x", proven=False), known)


def test_a_changed_rule_changes_its_rule_sets_only() -> None:
    other = web("other", users=frozenset({"alice"}))
    engine = Filtering(book(web(), other, listed=("web",)))
    engine.granted(grant("s1"))
    engine.granted(grant("s2", user="alice"))
    engine.take_outputs()
    changed = web("other", users=frozenset({"alice"}), ports=((443, 443),))
    engine.change(book(web(), changed, listed=("web",)))
    (output,) = engine.take_outputs()
    assert isinstance(output, Define)
    assert {box.ports for box in output.rule_set.allow} == {(80, 80), (443, 443)}


def test_a_rule_that_comes_or_goes_places_whom_it_is_for() -> None:
    mine = web("mine", users=frozenset({"alice"}))
    engine = Filtering(book(web(), listed=("web",)))
    engine.granted(grant("s1"))
    engine.granted(grant("s2", user="alice"))
    engine.take_outputs()
    engine.change(book(web(), mine, listed=("web",)))
    kinds = [type(one) for one in engine.take_outputs()]
    assert kinds == [Define, Place]
    engine.change(book(web(), listed=("web",)))
    kinds = [type(one) for one in engine.take_outputs()]
    assert kinds.count(Place) == 1
    assert kinds[-1] is Undefine
    engine.change(book(web(), listed=()))
    places = [one for one in engine.take_outputs() if isinstance(one, Place)]
    assert [one.placement.rule_sets for one in places] == [{}, {}]


def test_out_of_its_times_an_allowing_rule_opens_nothing() -> None:
    engine = Filtering(book(web(times=WORKING)), day=0, minute=479)
    engine.granted(grant())
    define = engine.take_outputs()[0]
    assert isinstance(define, Define)
    assert define.rule_set == RuleSet(closed=True)
    engine.time(0, 480)
    (begun,) = engine.take_outputs()
    assert isinstance(begun, Define)
    assert begun.rule_set.allow
    engine.time(0, 481)
    assert engine.take_outputs() == []
    engine.time(5, 600)
    (over,) = engine.take_outputs()
    assert over == Define(begun.number, RuleSet(closed=True))
    flow = Flow(Direction.TO_INSIDE, SERVER, 6, 80)
    found = judge(engine.book, ["web"], flow, engine.in_force, lambda *_: False)
    assert not found.allowed
    assert found.why == "refused: rules.web is not in force at this time"


def test_a_device_that_is_configured_later_gets_its_rules() -> None:
    devices: dict[str, KnownDevice] = {}
    rule = web(devices=frozenset({"phone"}))
    engine = Filtering(book(rule, listed=()), find_device=devices.get)
    engine.granted(grant())
    engine.granted(grant("s2", "other"))
    engine.take_outputs()
    devices["phone@example.org"] = KnownDevice("phone", Terms(None, 64, None))
    engine.device_changed("phone", "phone@example.org")
    define, place = engine.take_outputs()
    assert isinstance(define, Define)
    assert isinstance(place, Place)
    assert place.session == "s1"
    assert place.placement.up_kbit_s == 64
    del devices["phone@example.org"]
    engine.device_changed("phone", None)
    place, undefine = engine.take_outputs()
    assert isinstance(place, Place)
    assert place.placement.rule_sets == {}
    assert isinstance(undefine, Undefine)


def test_a_renewed_grant_takes_the_place_of_the_former() -> None:
    engine = Filtering(book(web(), web("mine", users=frozenset({"alice"})), listed=("web",)))
    engine.granted(grant())
    engine.take_outputs()
    engine.granted(grant(user="alice", addresses=(ip_address("10.9.0.9"),)))
    assert [type(one) for one in engine.take_outputs()] == [Define, Place, Undefine]
    assert engine.session_at(ip_address("10.9.0.1")) is None
    assert engine.session_at(ip_address("10.9.0.9")) == "s1"
    engine.granted(grant("s2", zone=7))
    assert engine.session_at(ip_address("10.9.0.2")) is None
    assert engine.session_at(ip_address("192.168.0.1"), 7) == "s2"
    assert engine.sessions_under("web") == 2


def test_too_many_entries_refuse_everything() -> None:
    rules = [
        web(f"r{n}", networks=tuple(ip_network((n << 24 | m << 8, 24)) for m in range(0, 8000, 2)))
        for n in range(17)
    ]
    engine = Filtering(book(*rules))
    engine.granted(grant())
    trouble, define, _ = engine.take_outputs()
    assert isinstance(trouble, Trouble)
    assert "65536" in trouble.text
    assert isinstance(define, Define)
    assert define.rule_set == RuleSet(closed=True)


def test_isolation_is_part_of_rules_between_devices() -> None:
    rule = web(direction=Direction.BETWEEN_DEVICES, action=Action.REFUSE)
    engine = Filtering(book(rule))
    engine.granted(grant())
    define = engine.take_outputs()[0]
    assert isinstance(define, Define)
    assert define.rule_set.closed
    engine.change(book(rule, isolate_devices=False))
    (opened,) = engine.take_outputs()
    assert isinstance(opened, Define)
    assert not opened.rule_set.closed


def test_whose_an_entry_is() -> None:
    engine = Filtering(book(web("a"), web("b", ports=((443, 443),))))
    engine.granted(grant())
    define = engine.take_outputs()[0]
    assert isinstance(define, Define)
    whose = {box.ports: engine.rule_of(define.number, box) for box in define.rule_set.allow}
    assert whose == {(80, 80): "a", (443, 443): "b"}
    assert engine.rule_of(define.number + 1, next(iter(define.rule_set.allow))) is None


def test_what_holds_without_rules() -> None:
    empty = Book()
    words = otherwise(empty, [])
    assert words["between-devices"] == "refused"
    assert words["from-inside"] == "allowed"

    def verdict(direction: Direction, protocol: int = 6, port: int = 22, **fields: Any) -> bool:
        flow = Flow(direction, SERVER, protocol, port)
        services = lambda one, number: (one, number) == (17, 53)  # noqa: E731
        return judge(Book(**fields), [], flow, lambda _: True, services).allowed

    assert verdict(Direction.TO_INSIDE)
    assert verdict(Direction.FROM_INSIDE)
    assert not verdict(Direction.BETWEEN_DEVICES)
    assert verdict(Direction.BETWEEN_DEVICES, isolate_devices=False)
    assert not verdict(Direction.TO_GATEWAY)
    assert verdict(Direction.TO_GATEWAY, 17, 53)
    assert not verdict(Direction.TO_GATEWAY, 17, 53, to_gateway="none")
    assert verdict(Direction.TO_GATEWAY, to_gateway="all")
    closed = book(web())
    assert otherwise(closed, ["web"])["to-inside"] == "refused"


def test_the_reason_names_the_rules() -> None:
    found = judge(
        book(web("a"), web("b", action=Action.REFUSE, log=True)),
        ["a", "b"],
        Flow(Direction.TO_INSIDE, SERVER, 6, 80),
        lambda _: True,
        lambda *_: False,
    )
    assert (found.allowed, found.rule, found.why, found.log) == (
        False, "b", "refused by rules.b", True,
    )  # fmt: skip
    found = judge(
        book(web("a")), ["a"], Flow(Direction.TO_INSIDE, SERVER, 17, 80), lambda _: True,
        lambda *_: False,
    )  # fmt: skip
    assert found.why == "refused: only what rules.a allow is let through to-inside"


addresses = st.integers(0, 15).map(lambda n: ip_address(int(ip_address("10.1.0.0")) + n))
some_networks = st.tuples(st.integers(28, 32), addresses).map(
    lambda pair: ip_network((int(pair[1]), pair[0]), strict=False)
)
port_spans = st.tuples(st.integers(1, 6), st.integers(0, 3)).map(lambda p: (p[0], p[0] + p[1]))


@st.composite
def some_rules(draw: st.DrawFn) -> list[Rule]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        protocols = draw(st.sampled_from(((), (1,), (6,), (6, 17), (17, 47))))
        ports = () if set(protocols) - {6, 17} else tuple(draw(st.lists(port_spans, max_size=3)))
        found.append(
            Rule(
                f"r{number}",
                draw(st.sampled_from(Action)),
                networks=tuple(draw(st.lists(some_networks, max_size=3))),
                protocols=protocols,
                ports=ports if protocols else (),
                times=draw(st.sampled_from(((), WORKING))),
            )
        )
    return found


@settings(max_examples=200)
@given(
    some_rules(),
    st.sampled_from(((0, 600), (6, 600))),
    st.lists(
        st.tuples(addresses, st.sampled_from((1, 6, 17, 47)), st.integers(0, 9)),
        min_size=10,
        max_size=30,
    ),
)
def test_the_kernel_and_the_judge_agree(
    rules: list[Rule], when: tuple[int, int], tried: list[tuple[Any, int, int]]
) -> None:
    engine = Filtering(book(*rules), *when)
    engine.granted(grant())
    define = engine.take_outputs()[0]
    assert isinstance(define, Define)
    names = [rule.name for rule in rules]
    for address, protocol, port in tried:
        flow = Flow(Direction.TO_INSIDE, address, protocol, port)
        found = judge(engine.book, names, flow, engine.in_force, lambda *_: False)
        assert passes(define.rule_set, flow) == found.allowed, found


def test_rule_sets_that_nobody_is_under_stay_a_while() -> None:
    rules = [web(f"r{n}", users=frozenset({f"u{n}"})) for n in range(4)]
    engine = Filtering(book(*rules, listed=()), max_idle=4)
    for number in range(4):
        engine.granted(grant(f"s{number + 1}", user=f"u{number}"))
    numbers = [one.number for one in engine.take_outputs() if isinstance(one, Define)]
    for number in range(4):
        engine.ended(f"s{number + 1}")
    gone = [one.number for one in engine.take_outputs() if isinstance(one, Undefine)]
    assert gone == numbers[:2]
    engine.granted(grant("s4", user="u3"))
    assert [type(one) for one in engine.take_outputs()] == [Place]
    engine.change(book(*rules[2:], web("other"), listed=()))
    assert engine.take_outputs() == [Undefine(numbers[2])]
