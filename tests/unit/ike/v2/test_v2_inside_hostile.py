"""Whatever a gateway assigns, or a device names as its own, nothing breaks or is taken wrongly."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from harness_v2 import connected, device_policy, gateway_policy, sa_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.remote_access import Presence
from gateway.domain.wire import Reader, WireError
from gateway.ike import presence
from gateway.ike.codec import Configuration, ConfigurationAttribute
from gateway.ike.refusal import Refused
from gateway.ike.registry import CfgAttribute, CfgType
from gateway.ike.v2 import config_payload, transport_mode

KINDS = st.sampled_from([*map(int, CfgAttribute), 20_000])
ATTRIBUTES = st.lists(
    st.builds(ConfigurationAttribute, KINDS, st.binary(max_size=20)), max_size=40
).map(tuple)
ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(0, 2**128 - 1).map(IPv6Address),
    st.sampled_from(
        [IPv4Address(one) for one in ("0.0.0.0", "255.255.255.255", "192.0.2.1", "224.0.0.9")]
    ),
)
NETWORK = connected(
    gateway_policy(pool=None, presence=Presence.NAPT), device_policy(request_inner_address=False)
)


@st.composite
def selectors(draw: st.DrawFn) -> TrafficSelector:
    first, second = draw(ADDRESSES), draw(ADDRESSES)
    if draw(st.booleans()) or first.version != second.version:
        second = first
    first, second = sorted((first, second), key=int)
    return TrafficSelector(first, second, draw(st.integers(0, 255)))


@settings(max_examples=300, deadline=None)
@given(ATTRIBUTES)
def test_h80_whatever_a_gateway_assigns_is_taken_or_left(
    attributes: tuple[ConfigurationAttribute, ...],
) -> None:
    octets = Configuration(CfgType.REPLY, attributes).body()
    try:
        reply = Configuration.parse(Reader(octets))
    except WireError:
        return
    found = config_payload.read_reply(reply)
    assert [one.address.version for one in found.leases] in ([], [4], [6], [4, 6])
    assert found.mtu is None or 576 <= found.mtu <= 65535
    for each in (found.dns, found.subnets, found.domains):
        assert len(each) <= 2 * config_payload.MAX_SERVERS


@settings(max_examples=300, deadline=None)
@given(st.lists(selectors(), max_size=6), st.booleans())
def test_h80_no_odd_address_is_a_device_s_own(offered: list[TrafficSelector], natted: bool) -> None:
    core, sa = NETWORK.gateway.engine._core, sa_of(NETWORK.gateway)
    children, before = sa.children, (sa.own_addresses, sa.zone, sa.remote_natted)
    sa.children, sa.own_addresses, sa.remote_natted = {}, (), natted
    try:
        presence.settle(core, sa, sa.connection, offered)
    except Refused:
        assert not sa.own_addresses
    else:
        versions = [one.version for one in sa.own_addresses]
        assert versions in ([4], [6], [4, 6])
        for one in sa.own_addresses:
            assert not any((one.is_unspecified, one.is_multicast, one.is_loopback))
            assert one not in core.own_addresses
            assert natted is False or any(each.start == each.end == one for each in offered)
    finally:
        sa.children = children
        sa.own_addresses, sa.zone, sa.remote_natted = before


@settings(max_examples=300, deadline=None)
@given(st.lists(selectors(), max_size=6), st.booleans(), st.booleans())
def test_h80_transport_selectors_through_nats_are_the_hosts_or_none(
    offered: list[TrafficSelector], local: bool, remote: bool
) -> None:
    sa = sa_of(NETWORK.gateway)
    before = (sa.local_natted, sa.remote_natted)
    sa.local_natted, sa.remote_natted = local, remote
    try:
        connection = replace(sa.connection, mode=transport_mode.Mode.TRANSPORT)
        sides = transport_mode.Sides(sa, connection, offered, offered)
    finally:
        sa.local_natted, sa.remote_natted = before
    if remote:
        assert all(one.start == one.end == sa.path.remote.address for one in sides.theirs)
        assert set(sides.told(sides.theirs)) <= set(offered)
    else:
        assert sides.theirs == tuple(offered)
