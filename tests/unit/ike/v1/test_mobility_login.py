"""One login brings home addresses: notify 41204, both ways, and who may have which address."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address

import pytest
from harness_v1 import device_v1, gateway_v1
from harness_v2 import (
    DEVICE,
    Network,
    connect,
    device_policy,
    established,
    gateway_policy,
    network_selector,
    pair,
)
from hypothesis import given
from hypothesis import strategies as st
from users_v2 import PASSWORD, device_of_user, find_user, gateway_of_users

from gateway.domain.mobility_credential import MobilityCredential, MobilityGrant
from gateway.domain.wire import WireError
from gateway.ike.auth.identity import Identity
from gateway.ike.codec import Notify
from gateway.ike.codec.mobility_grants import (
    MAX_GRANTS,
    MAX_TICKET_OCTETS,
    TicketedGrant,
    parse,
    serialize,
)
from gateway.ike.outputs import ClientDown, ClientUp
from gateway.ike.policy import ConnectionPolicy, Feature, Lifetimes
from gateway.ike.registry import NotifyType
from gateway.ike.v2 import auth, mobility_login
from gateway.mip_agents.ticket import Ticket, TicketBox

ADA, BOB = Identity.parse("ada@example.com"), Identity.parse("bob@example.com")
HOME, HOME_OF_BOB = IPv4Address("10.44.0.9"), IPv4Address("10.44.0.10")
INSIDE = MobilityGrant(True, IPv4Address("10.44.0.1"), HOME, IPv4Network("10.44.0.0/24"))
OUTSIDE = MobilityGrant(
    False, IPv4Address("192.0.2.5"), IPv4Address("192.0.2.70"), IPv4Network("192.0.2.64/26")
)
OF_BOB = MobilityGrant(True, IPv4Address("10.44.0.1"), HOME_OF_BOB, IPv4Network("10.44.0.0/24"))
EVERYTHING = (network_selector("0.0.0.0/0"),)
LIFETIME_S = 600_000


class Authority:
    """A gateway's knowledge of home addresses, with real tickets."""

    def __init__(self) -> None:
        self.box = TicketBox([bytes(range(32))], os.urandom)
        self.of = {ADA: (INSIDE, OUTSIDE), BOB: (OF_BOB,)}
        self.fails = False

    def grants(self, identity: Identity) -> Sequence[MobilityGrant]:
        return self.of.get(identity, ())

    def holder(self, home_address: IPv4Address) -> Identity | None:
        for identity, grants in self.of.items():
            if any(one.home_address == home_address for one in grants):
                return identity
        return None

    def seal(
        self, identity: Identity, grant: MobilityGrant, spi: int, key: bytes
    ) -> tuple[bytes, int]:
        if self.fails:
            raise ValueError("no")
        ticket = Ticket(
            str(identity), grant.home_agent, grant.home_address, spi, key, 1, LIFETIME_S
        )
        return self.box.seal(ticket), LIFETIME_S


def told(network: Network) -> ClientUp:
    up = [one for one in network.device.log if isinstance(one, ClientUp)][-1]
    assert isinstance(up, ClientUp)
    return up


def fit(authority: Authority, credential: MobilityCredential) -> bool:
    """Whether both ends have the same key, which never travelled."""
    ticket = authority.box.open(credential.ticket)
    grant = credential.grant
    return (ticket.key, ticket.spi, ticket.home_address, ticket.home_agent) == (
        credential.key,
        credential.spi,
        grant.home_address,
        grant.home_agent,
    )


def test_both_ends_derive_the_same_keys() -> None:
    authority = Authority()
    network = connect(pair(mobility=authority))
    credentials = told(network).credentials
    assert [one.grant for one in credentials] == [INSIDE, OUTSIDE]
    assert all(fit(authority, one) for one in credentials)
    assert credentials[0].key != credentials[1].key
    assert {len(one.key) for one in credentials} == {32}
    assert all(one.spi >= 256 for one in credentials)
    now_s = network.device.engine._core.wall_clock().timestamp()
    assert {one.expires_at for one in credentials} == {now_s + LIFETIME_S}
    (event,) = network.gateway.named("mobility_granted")
    assert event.fields["home_addresses"] == f"{HOME}, {OUTSIDE.home_address}"


def test_keys_and_tickets_are_not_shown() -> None:
    authority = Authority()
    network = connect(pair(mobility=authority))
    (one, _) = told(network).credentials
    assert repr(one.key) not in repr(one)
    assert not any(one.key in datagram.message for datagram in network.sent)


@pytest.mark.parametrize("device", [{"mobike": False}, {"vpn_fa": Feature.ALLOWED}])
def test_whichever_draft_both_know(device: dict[str, object]) -> None:
    network = connect(pair(device=device_policy(**device), mobility=Authority()))
    assert told(network).credentials


def test_peer_without_the_drafts_is_not_asked() -> None:
    """It never sees a notify that it does not know."""
    off = {"endpoint_update": Feature.OFF, "vpn_fa": Feature.OFF}
    network = connect(pair(gateway_policy(**off), mobility=Authority()))
    (sa,) = network.device.engine._core.sas.values()
    assert not sa.asked_mobility
    assert not told(network).credentials
    assert not network.gateway.engine.counters["mobility_grants_given"]


def test_device_without_the_drafts_is_told_nothing() -> None:
    device = device_policy(endpoint_update=Feature.OFF)
    network = connect(pair(device=device, mobility=Authority()))
    assert not told(network).credentials
    assert not network.gateway.engine.counters["mobility_grants_given"]


def test_nobody_with_a_home_address() -> None:
    authority = Authority()
    authority.of = {}
    network = connect(pair(mobility=authority))
    assert not told(network).credentials


def test_ticket_that_cannot_be_sealed_ends_no_login() -> None:
    authority = Authority()
    authority.fails = True
    network = connect(pair(mobility=authority))
    assert not told(network).credentials
    assert network.gateway.named("mobility_grant_failed")


def test_rekeying_keeps_them_and_a_new_login_brings_others() -> None:
    authority = Authority()
    short = Lifetimes(ike_rekey_s=100, jitter=0)
    again = gateway_policy(reauthenticate=True, lifetimes=replace(short, ike_rekey_s=350))
    network = connect(pair(again, device_policy(lifetimes=short), mobility=authority))
    first = told(network).credentials
    network.pass_time(250)
    assert network.device.engine.counters["ike_sas_rekeyed"] == 2
    assert told(network).credentials == first
    network.pass_time(200)
    second = told(network).credentials
    assert all(fit(authority, one) for one in second)
    assert {one.key for one in first}.isdisjoint(one.key for one in second)


# -- hostile gateways -----------------------------------------------------------------------


def lies(monkeypatch: pytest.MonkeyPatch, *data: bytes, asked: bool = True) -> Network:
    """A gateway that proved itself answers with these notifies instead."""
    monkeypatch.setattr(
        auth.mobility_login,
        "answer",
        lambda *_: [Notify(NotifyType.MOBILITY_GRANTS, one) for one in data],
    )
    if not asked:
        monkeypatch.setattr(mobility_login, "ask", lambda _: [])
    return connect(pair())


GOOD = serialize([TicketedGrant(INSIDE, 4711, LIFETIME_S, b"ticket")])


def test_what_is_honest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = told(lies(monkeypatch, GOOD)).credentials
    assert one.grant == INSIDE


def test_grants_that_were_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lies(monkeypatch, GOOD, asked=False)
    assert not told(network).credentials
    assert network.device.engine.counters["mobility_grants_ignored"] == 1


def test_grants_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not told(lies(monkeypatch, GOOD, GOOD)).credentials


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x01",
        b"\x01\x00",
        b"\x02" + GOOD[1:],
        b"\x01\xff" + GOOD[2:],
        GOOD[:-1],
        GOOD + b"\x00",
        GOOD[:2] + b"\x80" + GOOD[3:],
        GOOD[:3] + b"\x21" + GOOD[4:],
        bytes(5000),
        GOOD[:20] + b"\xf8" + bytes(248),
        GOOD[:12] + bytes(4) + GOOD[16:],
    ],
)
def test_broken_grants_end_no_login(monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    network = lies(monkeypatch, octets)
    assert established(network.device)
    assert not told(network).credentials
    (event,) = network.device.named("mobility_grants_ignored")
    assert len(event.text) < 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"home_address": IPv4Address("127.0.0.1")},
        {"home_address": IPv4Address("224.0.0.1")},
        {"home_address": IPv4Address(0)},
        {"home_address": IPv4Address("255.255.255.255")},
        {"home_address": DEVICE.address},
        {"home_address": IPv4Address("10.44.0.0")},
        {"home_address": IPv4Address("10.44.0.255")},
        {"home_address": INSIDE.home_agent},
        {"home_agent": IPv4Address("127.0.0.1")},
        {"home_agent": IPv4Address("239.1.1.1")},
        {"home_agent": DEVICE.address},
        {"home_network": IPv4Network("0.0.0.0/0")},
    ],
)
def test_grants_for_addresses_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object]
) -> None:
    grant = replace(INSIDE, **wrong)
    network = lies(monkeypatch, serialize([TicketedGrant(grant, 4711, LIFETIME_S, b"ticket")]))
    assert established(network.device)
    assert not told(network).credentials


def test_one_wrong_grant_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(INSIDE, home_agent=IPv4Address("127.0.0.1"))
    both = [TicketedGrant(one, 4711, LIFETIME_S, b"ticket") for one in (wrong, OUTSIDE)]
    (one,) = told(lies(monkeypatch, serialize(both))).credentials
    assert one.grant == OUTSIDE


def test_expired_ticket_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    expired = serialize([TicketedGrant(INSIDE, 4711, 0, b"ticket")])
    assert not told(lies(monkeypatch, expired)).credentials


# -- hostile devices ------------------------------------------------------------------------


def test_question_with_data_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = mobility_login.ask

    def ask(sa: object) -> list[Notify]:
        asked(sa)  # type: ignore[arg-type]
        return [Notify(NotifyType.MOBILITY_GRANTS, b"something")]

    monkeypatch.setattr("gateway.ike.v2.auth_exchange.mobility_login.ask", ask)
    network = connect(pair(mobility=Authority()))
    assert established(network.device)
    assert not told(network).credentials


# -- whose home address -----------------------------------------------------------------------


def vpn_fa_pair(
    version: int = 2, authority: Authority | None = None, pool: bool = True, **device: object
) -> Network:
    changes: dict[str, object] = {"vpn_fa": Feature.ALLOWED, "local_ts": EVERYTHING}
    if not pool:
        changes |= {"pool": None, "remote_ts": (network_selector("10.44.0.0/24"),)}
    wanted: dict[str, object] = {
        "vpn_fa": Feature.ALLOWED,
        "home_address": HOME,
        "remote_ts": EVERYTHING,
        **device,
    }
    known: tuple[Callable[..., ConnectionPolicy], Callable[..., ConnectionPolicy]]
    known = (gateway_v1, device_v1) if version == 1 else (gateway_policy, device_policy)
    return pair(known[0](**changes), known[1](**wanted), mobility=authority or Authority())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_own_home_address(version: int, inner: bool, pool: bool) -> None:
    network = connect(vpn_fa_pair(version, pool=pool, request_inner_address=inner))
    up = told(network)
    assert up.vpn_fa
    assert up.inner == HOME
    (sa,) = network.gateway.sas.values()
    assert sa.vpn_fa
    assert [(one.start, one.end) for one in sa.remote_ts] == [(HOME, HOME)]
    assert bool(up.credentials) == (version == 2)


@pytest.mark.parametrize("pool", [False, True])
def test_own_home_address_through_rekeying(pool: bool) -> None:
    short = Lifetimes(ike_rekey_s=100, child_rekey_s=40, jitter=0)
    network = connect(vpn_fa_pair(pool=pool, lifetimes=short))
    network.pass_time(500)
    assert network.gateway.engine.counters["child_sas_rekeyed"] >= 5
    (sa,) = list(network.gateway.sas.values())[-1:]
    assert [one.start for one in sa.remote_ts] == [HOME]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_anothers_home_address_is_refused(version: int, inner: bool, pool: bool) -> None:
    network = connect(
        vpn_fa_pair(version, pool=pool, request_inner_address=inner, home_address=HOME_OF_BOB)
    )
    assert not network.gateway.sas
    assert not network.device.sas
    assert not [one for one in network.device.log if isinstance(one, ClientUp)]
    down = next(one for one in network.device.log if isinstance(one, ClientDown))
    assert down.refused
    assert any("bob@example.com" in one.text for one in network.gateway.named("handshake_failed"))


def test_anothers_home_address_in_a_later_child_sa() -> None:
    network = connect(vpn_fa_pair(pool=False))
    core = network.device.engine._core
    (sa,) = core.sas.values()
    sa.connection = replace(sa.connection, home_address=HOME_OF_BOB)
    core.version_of(sa).create_child(core, sa, 77, network.now)
    network.run()
    assert len(network.gateway.sas) == 1


def test_address_of_nobody_is_not_leased_by_naming_it() -> None:
    network = connect(vpn_fa_pair(home_address=IPv4Address("10.44.0.77")))
    assert not network.gateway.sas


def test_without_vpn_fa_at_the_gateway_there_is_only_the_pool() -> None:
    changes = {"vpn_fa": Feature.ALLOWED, "home_address": HOME, "remote_ts": EVERYTHING}
    network = connect(pair(device=device_policy(**changes), mobility=Authority()))
    assert told(network).inner == ip_address("10.9.0.1")


@pytest.mark.parametrize(("user", "password"), [("ada", PASSWORD), ("grace", "COBOL")])
def test_only_what_was_proven_counts(user: str, password: str) -> None:
    """Nobody vouches for the device's own identity here: the user's password does for its name."""
    authority = Authority()
    authority.of = {ADA: (INSIDE,), Identity.parse("ada"): (OUTSIDE,)}
    device = device_of_user(user, password)
    assert device.local_id.same_as(ADA)
    network = connect(pair(gateway_of_users(), device, find_user=find_user, mobility=authority))
    granted = [one.grant for one in told(network).credentials]
    assert granted == ([OUTSIDE] if user == "ada" else [])
    assert all(fit(authority, one) for one in told(network).credentials)


# -- the codec --------------------------------------------------------------------------------


addresses = st.integers(0, 2**32 - 1).map(IPv4Address)


@st.composite
def ticketed(draw: st.DrawFn) -> TicketedGrant:
    home = draw(addresses)
    network = IPv4Network((home, draw(st.integers(0, 32))), strict=False)
    return TicketedGrant(
        MobilityGrant(draw(st.booleans()), draw(addresses), home, network),
        draw(st.integers(256, 2**32 - 1)),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.binary(min_size=1, max_size=MAX_TICKET_OCTETS)),
    )


@given(st.lists(ticketed(), min_size=1, max_size=MAX_GRANTS))
def test_round_trip(grants: list[TicketedGrant]) -> None:
    assert parse(serialize(grants)) == tuple(grants)


@given(st.binary(max_size=400))
def test_any_octets(octets: bytes) -> None:
    try:
        found = parse(octets)
    except WireError:
        return
    assert serialize(found) == octets


@given(st.lists(ticketed(), min_size=1, max_size=3), st.data())
def test_truncated(grants: list[TicketedGrant], data: st.DataObject) -> None:
    octets = serialize(grants)
    with pytest.raises(WireError):
        parse(octets[: data.draw(st.integers(0, len(octets) - 1))])


def test_bounds_of_what_is_written() -> None:
    one = TicketedGrant(INSIDE, 300, 1, b"t")
    with pytest.raises(ValueError, match="grants"):
        serialize([])
    with pytest.raises(ValueError, match="grants"):
        serialize([one] * (MAX_GRANTS + 1))
    for ticket in (b"", bytes(MAX_TICKET_OCTETS + 1)):
        with pytest.raises(ValueError, match="ticket"):
            serialize([replace(one, ticket=ticket)])
