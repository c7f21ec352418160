"""Links as rtnetlink tells of them: what is a link, and what changes its generation."""

import struct
from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.netlink import attribute, nested
from gateway.mobile_host import rtnetlink
from gateway.mobile_host.link_table import LinkTable
from gateway.mobile_host.rtnetlink import AddressNews, LinkNews, NeighbourNews, RouteNews, news
from gateway.mobile_node.inputs import LinkState

ROUTER, OTHER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
ADDRESS = IPv4Interface("192.0.2.50/24")
MAC, MAC_2 = bytes.fromhex("02aabbccdd01"), bytes.fromhex("02aabbccdd02")
UP, LOWER_UP, LOOPBACK = 0x1, 0x10000, 0x8


def link(index: int = 2, name: str = "eth0", **changes: object) -> LinkNews:
    facts: dict[str, object] = {
        "carrier": True,
        "kind": "",
        "loopback": False,
        "master": 0,
        "link_address": MAC,
        "wireless": False,
        "gone": False,
        **changes,
    }
    return LinkNews(index, name, **facts)  # type: ignore[arg-type]


def address(interface: IPv4Interface = ADDRESS, *, gone: bool = False) -> AddressNews:
    return AddressNews(2, interface, secondary=False, gone=gone)


def route(router: IPv4Address = ROUTER, metric: int = 100, *, gone: bool = False) -> RouteNews:
    return RouteNews(2, router, metric, gone)


def complete() -> LinkTable:
    table = LinkTable(("mn0",))
    for one in (link(), address(), route(), NeighbourNews(2, ROUTER, MAC)):
        table.take(one)
    return table


def only(table: LinkTable) -> LinkState:
    (found,) = table.states()
    return found


def test_everything_about_a_link() -> None:
    found = only(complete())
    assert found.interface == "eth0"
    assert found.carrier
    assert (found.address, found.router, found.router_link_address) == (ADDRESS, ROUTER, MAC)
    assert found.metric == 100


@pytest.mark.parametrize(
    "one",
    [
        link(loopback=True),
        link(name="mn0"),
        link(kind="tun"),
        link(kind="wireguard"),
        link(kind="xfrm"),
        link(master=7),
    ],
)
def test_what_is_no_link(one: LinkNews) -> None:
    table = LinkTable(("mn0",))
    table.take(one)
    assert table.states() == []


def test_a_veth_or_a_bridge_is_a_link() -> None:
    table = LinkTable()
    table.take(link(kind="veth"))
    table.take(link(3, "br0", kind="bridge"))
    assert [one.interface for one in table.states()] == ["br0", "eth0"]


@pytest.mark.parametrize(
    "change",
    [
        [link(carrier=False)],
        [link(carrier=False), link()],
        [link(name="wan0")],
        [link(wireless=True)],
        [address(gone=True)],
        [address(gone=True), address()],
        [route(gone=True), route()],
        [route(OTHER, 50)],
        [NeighbourNews(2, ROUTER, MAC_2)],
        [address(gone=True), address(IPv4Interface("192.0.2.51/24"))],
    ],
    ids=lambda change: "+".join(type(one).__name__ for one in change),
)
def test_every_change_of_the_connection_is_another_generation(change: list[rtnetlink.News]) -> None:
    table = complete()
    before = only(table).generation
    for one in change:
        table.take(one)
    assert only(table).generation > before


@pytest.mark.parametrize(
    "one",
    [
        link(),
        address(),
        route(),
        NeighbourNews(2, ROUTER, MAC),
        NeighbourNews(2, ROUTER, b""),
        NeighbourNews(2, OTHER, MAC_2),
        RouteNews(2, OTHER, 500, gone=False),
        RouteNews(2, OTHER, 500, gone=True),
        AddressNews(9, ADDRESS, secondary=False, gone=True),
    ],
)
def test_what_changes_nothing_is_the_same_generation(one: rtnetlink.News) -> None:
    table = complete()
    before = only(table)
    table.take(one)
    assert only(table) == before


def test_a_link_that_comes_back_is_another_one() -> None:
    table = complete()
    before = only(table).generation
    table.take(link(gone=True))
    assert table.states() == []
    table.take(link())
    assert only(table).generation > before


def test_a_new_dump_gives_new_generations() -> None:
    table = complete()
    before = only(table).generation
    table.forget()
    table.take(link())
    assert only(table).generation > before


def test_routes_are_doubtful_where_the_kernel_drops_them_silently() -> None:
    table = complete()
    assert not table.routes_doubtful
    table.take(link(carrier=False))
    assert table.routes_doubtful
    table.forget_routes()
    assert only(table).router is None
    assert not table.routes_doubtful


@pytest.mark.parametrize("one", [address(), route()])
def test_a_carrier_is_doubtful_where_an_address_comes_before_it(one: rtnetlink.News) -> None:
    table = LinkTable()
    table.take(link(carrier=False))
    assert not table.carriers_doubtful
    table.take(one)
    assert table.carriers_doubtful
    table.take(link())
    table.carriers_doubtful = False
    table.take(one)
    assert not table.carriers_doubtful


def test_the_smallest_metric_and_the_address_of_its_network() -> None:
    table = LinkTable()
    table.take(link())
    far = IPv4Interface("198.51.100.7/24")
    for one in (address(far), address(), route(), RouteNews(2, OTHER, 600, gone=False)):
        table.take(one)
    found = only(table)
    assert (found.address, found.router, found.metric) == (ADDRESS, ROUTER, 100)


def test_links_with_a_router_come_first_by_metric() -> None:
    table = LinkTable()
    for index, name in ((2, "eth0"), (3, "wlan0"), (4, "usb0")):
        table.take(link(index, name))
    table.take(RouteNews(3, ROUTER, 10, gone=False))
    table.take(RouteNews(2, OTHER, 600, gone=False))
    assert [one.interface for one in table.states()] == ["wlan0", "eth0", "usb0"]


def test_the_domain_is_asked_for_links_with_an_address_only() -> None:
    asked: list[str] = []

    def domain_of(_index: int, name: str) -> str:
        asked.append(name)
        return "corp.example"

    table = LinkTable((), domain_of)
    table.take(link())
    assert only(table).domain == ""
    table.take(address())
    assert only(table).domain == "corp.example"
    table.take(NeighbourNews(2, ROUTER, MAC))
    assert only(table).domain == "corp.example"
    assert asked == ["eth0"]
    table.take(link(carrier=False))
    assert only(table).domain == ""


# -- messages ------------------------------------------------------------------------------


def link_message(flags: int, *attributes: bytes) -> bytes:
    return struct.pack("=BxHiII", 0, 1, 5, flags, 0) + b"".join(attributes)


def test_a_link_message() -> None:
    body = link_message(
        UP | LOWER_UP,
        attribute(3, b"wlan0\0"),
        attribute(16, b"\6"),
        attribute(1, MAC),
        nested(18, attribute(1, b"veth\0")),
    )
    (found,) = news(rtnetlink.NEW_LINK, body)
    assert found == link(5, "wlan0", kind="veth")


@pytest.mark.parametrize(
    ("flags", "state", "carrier"),
    [
        (UP | LOWER_UP, 6, True),
        (UP | LOWER_UP, 0, True),
        (UP | LOWER_UP, 2, True),
        (UP | LOWER_UP, 5, False),
        (UP | LOWER_UP, 4, False),
        (UP, 6, False),
        (LOWER_UP, 6, False),
        (0, 2, False),
    ],
)
def test_carrier(flags: int, state: int, carrier: bool) -> None:
    (found,) = news(rtnetlink.NEW_LINK, link_message(flags, attribute(16, bytes([state]))))
    assert isinstance(found, LinkNews)
    assert found.carrier is carrier


@pytest.mark.parametrize(("command", "moved"), [(0x8B15, True), (0x8B19, False)])
def test_a_finished_scan_is_no_other_access_point(command: int, moved: bool) -> None:
    event = struct.pack("=HH16x", 20, command)
    (found,) = news(rtnetlink.NEW_LINK, link_message(UP | LOWER_UP, attribute(11, event)))
    assert isinstance(found, LinkNews)
    assert found.wireless is moved


def route_message(length: int, table: int, *attributes: bytes, kind: int = 1) -> bytes:
    return struct.pack("=BBBBBBBBI", 2, length, 0, 0, table, 3, 0, kind, 0) + b"".join(attributes)


INDEX = attribute(4, struct.pack("=I", 5))


def test_a_default_route_of_the_main_table() -> None:
    body = route_message(
        0, 254, INDEX, attribute(5, ROUTER.packed), attribute(6, struct.pack("=I", 77))
    )
    assert list(news(rtnetlink.NEW_ROUTE, body)) == [RouteNews(5, ROUTER, 77, gone=False)]
    assert list(news(rtnetlink.DELETE_ROUTE, body)) == [RouteNews(5, ROUTER, 77, gone=True)]


@pytest.mark.parametrize(
    "body",
    [
        route_message(24, 254, INDEX),
        route_message(0, 100, INDEX),
        route_message(0, 254, INDEX, attribute(15, struct.pack("=I", 0x4763))),
        route_message(0, 254, INDEX, kind=7),
        route_message(0, 254),
    ],
)
def test_routes_of_no_interest(body: bytes) -> None:
    assert list(news(rtnetlink.NEW_ROUTE, body)) == []


def test_both_next_hops_of_a_multipath_route() -> None:
    hops = b"".join(
        struct.pack("=HBBi", 16, 0, 0, index) + attribute(5, router.packed)
        for index, router in ((5, ROUTER), (6, OTHER))
    )
    body = route_message(0, 254, attribute(9, hops))
    assert list(news(rtnetlink.NEW_ROUTE, body)) == [
        RouteNews(5, ROUTER, 0, gone=False),
        RouteNews(6, OTHER, 0, gone=False),
    ]


def test_addresses_of_host_scope_or_link_scope_are_none() -> None:
    def message(scope: int) -> bytes:
        head = struct.pack("=BBBBI", 2, 24, 0, scope, 5)
        return head + attribute(2, ADDRESS.ip.packed)

    assert list(news(rtnetlink.NEW_ADDRESS, message(0))) == [
        AddressNews(5, ADDRESS, secondary=False, gone=False)
    ]
    assert list(news(rtnetlink.NEW_ADDRESS, message(253))) == []
    assert list(news(rtnetlink.NEW_ADDRESS, message(254))) == []


def test_a_neighbour_that_does_not_answer_has_no_link_address() -> None:
    def message(state: int) -> bytes:
        head = struct.pack("=BxxxiHBB", 2, 5, state, 0, 1)
        return head + attribute(1, ROUTER.packed) + attribute(2, MAC)

    assert list(news(rtnetlink.NEW_NEIGHBOUR, message(0x02))) == [NeighbourNews(5, ROUTER, MAC)]
    assert list(news(rtnetlink.NEW_NEIGHBOUR, message(0x20))) == [NeighbourNews(5, ROUTER, b"")]


@given(st.sampled_from((16, 17, 20, 21, 24, 25, 28, 29)), st.binary(max_size=200))
def test_any_octets_are_read_to_their_end(kind: int, body: bytes) -> None:
    table = LinkTable()
    for one in news(kind, body):
        table.take(one)
    table.states()
