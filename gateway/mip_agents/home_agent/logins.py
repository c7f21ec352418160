"""Mobile nodes whose keys come with a ticket of the gateway (draft 002, section 4.2.1).

Whoever shows a ticket has logged in at the gateway; the authenticator, made with the key that the
ticket holds, proves that it is the one who did. A newer login makes older tickets worthless, after
a moment for what is on its way: so a device that was stolen loses with its user's next login.
"""

from gateway.domain.wire import WireError
from gateway.mip_agents import authentication
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.home_agent import denials
from gateway.mip_agents.home_agent.bindings import Logins, Registrant
from gateway.mip_agents.home_agent.case import Case
from gateway.mip_agents.home_agent.denials import Denial
from gateway.mip_agents.policy import (
    Algorithm,
    HomeAgentPolicy,
    MobileNode,
    SecurityAssociation,
)
from gateway.mip_agents.replay import TimestampIdentification
from gateway.mip_agents.ticket import Ticket, TicketBox

REPLAY_WINDOW_S = 7.0
"""How far a timestamp may be from our clock, as for configured keys."""
GRACE_S = 30.0
"""How long the ticket before the newest still counts, once the newest was shown."""
MEMORY_S = 2 * REPLAY_WINDOW_S + 1


def check(
    case: Case, node: MobileNode, policy: HomeAgentPolicy, own: frozenset[int]
) -> Denial | None:
    """Whether the ticket is good, and the authenticator made with its key.

    ``own`` are the addresses that this home agent may be named by. Costs no more than an
    authenticator, when the ticket is the one that was shown last time.
    """
    extension, registrant = case.mobile_home, case.registrant
    if extension is None:
        return denials.MISSING_AUTHENTICATOR
    known = registrant.logins if registrant is not None else None
    if not case.ticket:
        return _denial(
            "it shows no ticket, which is what its key comes with",
            "log in at the gateway first, with a client that asks for home addresses",
        )
    if policy.tickets is None:
        return _denial("tickets cannot be opened here", "give mobility.ticket_key_file")
    if known is not None and known.opened is not None and known.octets == case.ticket:
        ticket, association = known.opened, known.association
    else:
        opened = _open(policy.tickets, case.ticket, node, own)
        if isinstance(opened, Denial):
            return opened
        ticket, association = opened, None
    if ticket.expires_at_s <= case.wall_s:
        return _denial("its ticket has expired", "log in at the gateway again")
    if known is not None and _is_outdated(ticket, known, registrant, case.wall_s):
        return _denial(
            "its ticket is of an older login than the last one shown",
            "log in again on the device that is to have this home address",
        )
    association = association or association_of(ticket)
    if not authentication.verify(case.request.octets, extension, association):
        return denials.WRONG_AUTHENTICATOR
    case.association, case.opened = association, ticket
    return None


def _open(
    tickets: TicketBox, octets: bytes, node: MobileNode, own: frozenset[int]
) -> Ticket | Denial:
    try:
        ticket = tickets.open(octets)
    except WireError as problem:
        return _denial(
            f"its ticket is worthless: {problem}",
            "let gateway and home agent have the same mobility.ticket_key_file",
        )
    if ticket.home_address != node.home_address:
        return _denial(f"its ticket is for the home address {ticket.home_address}")
    if int(ticket.home_agent) not in own:
        return _denial(f"its ticket is for the home agent {ticket.home_agent}")
    if node.identity and node.identity != ticket.identity:
        return _denial(
            f"its ticket is of {ticket.identity}, not of {node.identity}",
            f"correct identity of mobile_nodes.{node.name}, here or at the gateway",
        )
    return ticket


def association_of(ticket: Ticket) -> SecurityAssociation:
    """The mobility security association that a ticket holds."""
    return SecurityAssociation(
        ticket.spi, ticket.key, Algorithm.HMAC_SHA256, replay_window_s=REPLAY_WINDOW_S
    )


def _is_outdated(
    ticket: Ticket, known: Logins, registrant: Registrant | None, wall_s: float
) -> bool:
    if ticket.issued_at_us >= known.newest_us:
        return False
    seen = registrant is not None and ticket.spi in registrant.replay
    return not (seen and wall_s < known.since + GRACE_S)


def note(case: Case, registrant: Registrant) -> None:
    """An authentic and fresh request showed its ticket: remember it."""
    ticket, known = case.opened, registrant.logins
    if ticket is None:
        return
    if known is None or ticket.issued_at_us > known.newest_us:
        before = known.opened.spi if known is not None and known.opened is not None else ticket.spi
        later = known.expires_wall_s if known is not None else 0.0
        known = Logins(ticket.issued_at_us, case.wall_s, max(ticket.expires_at_s, later))
        registrant.logins = known
        for spi in [one for one in registrant.replay if one not in (before, ticket.spi)]:
            del registrant.replay[spi]
    # Forgotten, it could not tell older tickets from newer ones.
    quiet_until = case.now + quiet_s(registrant, case.wall_s)
    registrant.quiet_until = max(registrant.quiet_until, quiet_until)
    if known.octets != case.ticket:
        known.octets, known.opened, known.association = case.ticket, ticket, case.association


def lifetime_s(case: Case, asked_s: int) -> int:
    """No binding outlives its ticket."""
    if case.opened is None:
        return asked_s
    return min(asked_s, max(1, int(case.opened.expires_at_s - case.wall_s)))


def quiet_s(registrant: Registrant, wall_s: float) -> float:
    """How long a mobile node must be remembered for the sake of its older tickets."""
    known = registrant.logins
    return max(0.0, known.expires_wall_s - wall_s) if known is not None else 0.0


def restored(registrant: Registrant, stamps: tuple[tuple[int, int], ...], floor: int) -> None:
    """Replay protection of keys that no configuration names."""
    if registrant.node.login:
        for spi, _ in stamps:
            registrant.replay[spi] = TimestampIdentification(floor)


def _denial(reason: str, hint: str = "log in at the gateway again") -> Denial:
    return Denial(ReplyCode.HA_MOBILE_NODE_AUTHENTICATION, reason, hint)
