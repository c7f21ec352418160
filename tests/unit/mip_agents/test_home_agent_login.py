"""Mobile nodes whose key comes with a ticket: who may register, until when, and who no more."""

import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from home_agent_world import (
    CARE_OF,
    CARE_OF_2,
    HOME,
    HOME_AGENT,
    KEY,
    OTHER_HOME_AGENT,
    PUBLIC,
    Answers,
    D,
    Nodes,
    T,
    World,
    policy,
)

from gateway.mip_agents import authentication
from gateway.mip_agents.codec.extensions import AuthenticationKind, Extension, VendorExtension
from gateway.mip_agents.codec.registration import RegistrationRequest
from gateway.mip_agents.codec.ticket import TICKET, VENDOR
from gateway.mip_agents.home_agent.logins import GRACE_S, association_of
from gateway.mip_agents.policy import MobileNode
from gateway.mip_agents.ticket import Ticket, TicketBox

SEALING = b"between gateway and home agent.."
BOX = TicketBox([SEALING], random.Random(1).randbytes)
ANN = MobileNode("ann", HOME, login=True, identity="ann@example.com")
BOB = MobileNode("bob", IPv4Address("10.7.0.6"), login=True)
DAY_S = 86_400


def world(**changes: object) -> World:
    settings = {"nodes": Nodes(ANN, BOB), "tickets": BOX, **changes}
    return World(policy(**settings))


def login(world: World, **changes: object) -> Ticket:
    """A new login now."""
    number = len(changes) + int(world.wall * 1000) % 1_000_000
    values: dict[str, object] = {
        "identity": "ann@example.com",
        "home_agent": HOME_AGENT,
        "home_address": HOME,
        "spi": 1000 + number,
        "key": number.to_bytes(32, "big"),
        "issued_at_us": int(world.wall * 1e6),
        "expires_at_s": int(world.wall) + DAY_S,
    }
    return Ticket(**(values | changes))  # type: ignore[arg-type]


def register(
    world: World,
    ticket: Ticket,
    *,
    sealed: bytes | None = None,
    care_of: IPv4Address = CARE_OF,
    home: IPv4Address = HOME,
    lifetime_s: int = 600,
    key: bytes | None = None,
    more: tuple[Extension, ...] = (),
    octets: list[bytes] | None = None,
) -> Answers:
    shown = BOX.seal(ticket) if sealed is None else sealed
    carried = (VendorExtension(False, VENDOR, TICKET, shown),) if shown else ()
    request = RegistrationRequest(
        D | T, lifetime_s, home, HOME_AGENT, care_of, world.tick(), (*carried, *more)
    ).serialize()
    association = association_of(ticket)
    if key is not None:
        association = replace(association, key=key)
    signed = authentication.sign(request, AuthenticationKind.MOBILE_HOME, association)
    if octets is not None:
        octets.append(signed)
    return world.send(signed, care_of)


def is_denied(answers: Answers, why: str) -> None:
    assert answers.code == 131
    assert answers.event.name == "registration_denied"
    assert why in answers.event.text
    assert not answers.reply.authentications(AuthenticationKind.MOBILE_HOME)


def test_a_ticket_registers_and_the_reply_is_signed_with_its_key() -> None:
    at = world()
    ticket = login(at)
    answers = register(at, ticket)
    assert answers.code == 0
    assert answers.set.home_address == HOME
    (extension,) = answers.reply.authentications(AuthenticationKind.MOBILE_HOME)
    (sent,) = [one.message for one in answers.transmits]
    assert authentication.verify(sent, extension, association_of(ticket))


def test_it_is_opened_once_however_often_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    at = world()
    ticket = login(at)
    sealed = BOX.seal(ticket)
    opened = []
    honest = TicketBox.open
    monkeypatch.setattr(TicketBox, "open", lambda box, one: opened.append(1) or honest(box, one))
    for _ in range(5):
        assert register(at, ticket, sealed=sealed).code == 0
    assert len(opened) == 1


def test_by_a_public_name_of_the_home_agent() -> None:
    at = world()
    assert register(at, login(at, home_agent=PUBLIC)).code == 0


def test_without_a_ticket() -> None:
    at = world()
    is_denied(register(at, login(at), sealed=b""), "no ticket")


def test_ticket_behind_the_authenticator_counts_for_nothing() -> None:
    at = world()
    ticket = login(at)
    request = RegistrationRequest(D | T, 600, HOME, HOME_AGENT, CARE_OF, at.tick()).serialize()
    signed = authentication.sign(request, AuthenticationKind.MOBILE_HOME, association_of(ticket))
    late = VendorExtension(False, VENDOR, TICKET, BOX.seal(ticket)).serialize()
    is_denied(at.send(signed + late), "no ticket")


def test_ticket_of_another_node() -> None:
    at = world()
    is_denied(register(at, login(at, home_address=BOB.home_address)), "for the home address")


def test_ticket_for_another_home_agent() -> None:
    at = world()
    is_denied(register(at, login(at, home_agent=OTHER_HOME_AGENT)), "for the home agent")


def test_ticket_of_another_identity() -> None:
    at = world()
    is_denied(register(at, login(at, identity="eve@example.com")), "eve@example.com")


def test_any_identity_where_none_is_configured() -> None:
    at = world()
    ticket = login(at, identity="eve@example.com", home_address=BOB.home_address)
    assert register(at, ticket, home=BOB.home_address).code == 0


def test_tampered_ticket() -> None:
    at = world()
    ticket = login(at)
    sealed = bytearray(BOX.seal(ticket))
    sealed[40] ^= 1
    is_denied(register(at, ticket, sealed=bytes(sealed)), "changed")


def test_ticket_of_another_gateway() -> None:
    at = world()
    ticket = login(at)
    other = TicketBox([bytes(32)], random.Random(2).randbytes)
    is_denied(register(at, ticket, sealed=other.seal(ticket)), "ticket_key_file")


def test_stolen_ticket_without_its_key() -> None:
    at = world()
    is_denied(register(at, login(at), key=b"guessed"), "authenticator is wrong")


def test_configured_key_of_another_node_does_not_help() -> None:
    at = world()
    ticket = login(at, spi=KEY.spi)
    is_denied(register(at, ticket, key=KEY.key), "authenticator is wrong")


def test_expired_ticket() -> None:
    at = world()
    ticket = login(at, expires_at_s=int(at.wall) + 700)
    assert register(at, ticket).code == 0
    at.pass_time(701)
    is_denied(register(at, ticket), "expired")


def test_expired_while_it_is_the_cached_one() -> None:
    at = world()
    ticket = login(at, expires_at_s=int(at.wall) + 100)
    sealed = BOX.seal(ticket)
    assert register(at, ticket, sealed=sealed).code == 0
    at.pass_time(101)
    is_denied(register(at, ticket, sealed=sealed), "expired")


def test_no_binding_outlives_its_ticket() -> None:
    at = world()
    ticket = login(at, expires_at_s=int(at.wall) + 50)
    answers = register(at, ticket, lifetime_s=65_535)
    assert answers.code == 0
    assert answers.reply.lifetime_s <= 50
    at.pass_time(51)
    assert not at.agent.bindings(at.now)


def test_newer_login_makes_older_tickets_worthless_after_a_grace() -> None:
    at = world()
    old = login(at)
    assert register(at, old).code == 0
    at.pass_time(60)
    new = login(at)
    assert register(at, new, care_of=CARE_OF_2).code == 0
    at.pass_time(GRACE_S / 2)
    assert register(at, old).code == 0
    at.pass_time(GRACE_S)
    is_denied(register(at, old), "older login")
    assert register(at, new).code == 0


def test_older_ticket_that_was_never_shown_has_no_grace() -> None:
    at = world()
    stolen = login(at)
    at.pass_time(60)
    assert register(at, login(at)).code == 0
    is_denied(register(at, stolen), "older login")


def test_a_ticket_that_is_not_proved_makes_nothing_outdated() -> None:
    at = world()
    ticket = login(at)
    assert register(at, ticket).code == 0
    at.pass_time(60)
    assert register(at, login(at), key=b"wrong").code == 131
    at.pass_time(GRACE_S + 1)
    assert register(at, ticket).code == 0


@pytest.mark.parametrize("tidy", [False, True])
def test_newest_login_is_known_after_a_restart(tidy: bool) -> None:
    at = world()
    old = login(at)
    assert register(at, old).code == 0
    at.pass_time(60)
    new = login(at)
    assert register(at, new).code == 0
    at.restart(40, tidy=tidy)
    at.pass_time(1)
    is_denied(register(at, old), "older login")
    assert register(at, new).code == 0
    assert at.agent.binding(HOME, at.now) is not None


def test_newest_login_is_known_long_after_the_binding_is_gone() -> None:
    at = world()
    old = login(at)
    at.pass_time(60)
    new = login(at)
    assert register(at, new).code == 0
    at.pass_time(DAY_S / 2)
    assert not at.agent.bindings(at.now)
    at.restart(DAY_S / 4)
    is_denied(register(at, old), "older login")
    at.pass_time(DAY_S)
    assert not at.records, "no ticket is left that could be outdated"


def test_records_of_before_there_were_logins() -> None:
    """They are as those of nodes with keys of their own are still."""
    at = World()
    assert at.register().code == 0
    ((key, record),) = at.records.items()
    assert record[0] == 2
    at.records[key] = b"\x01" + record[1:]
    at.restart(1)
    assert at.agent.binding(HOME, at.now) is not None


def test_records_with_logins_that_are_cut_off() -> None:
    at = world()
    assert register(at, login(at)).code == 0
    ((key, record),) = at.records.items()
    for size in range(len(record)):
        at.records[key] = record[:size]
        at.restart(1)
        assert at.agent.counters["internal_errors"] == 0


def test_renewals_are_not_written_down_each_time() -> None:
    at = world()
    ticket = login(at)
    assert register(at, ticket).kept
    assert not register(at, ticket).kept


def test_replay_of_a_request_with_a_ticket() -> None:
    at = world()
    ticket = login(at)
    sent: list[bytes] = []
    assert register(at, ticket, octets=sent).code == 0
    assert at.send(sent[0]).code == 133
    at.restart(1)
    assert at.send(sent[0]).code == 133


def test_deregisters_with_its_ticket() -> None:
    at = world()
    ticket = login(at)
    assert register(at, ticket).code == 0
    answers = register(at, ticket, lifetime_s=0)
    assert answers.code == 0
    assert answers.removed


def test_home_agent_that_cannot_open_tickets() -> None:
    at = world(tickets=None)
    is_denied(register(at, login(at)), "cannot be opened")


def test_changed_configuration_judges_the_ticket_anew() -> None:
    at = world()
    ticket = login(at)
    sealed = BOX.seal(ticket)
    assert register(at, ticket, sealed=sealed).code == 0
    other = replace(ANN, identity="bob@example.com")
    at.agent.reconfigure(replace(at.policy, nodes=Nodes(other, BOB)), at.now)
    at.take()
    is_denied(register(at, ticket, sealed=sealed), "bob@example.com")


def test_many_logins_leave_no_heap_of_replay_states() -> None:
    at = world()
    for number in range(50):
        at.pass_time(1)
        assert register(at, login(at, spi=5000 + number)).code == 0
    registrant = at.agent._table.by_home[int(HOME)]
    assert len(registrant.replay) <= 3
