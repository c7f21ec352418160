"""The beginning of phase 1 as the responder: limits, the choice of a proposal, the half-open SA."""

from hashlib import sha256

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto.suites import NoProposalChosen
from gateway.ike.first_line import V1_SHARE
from gateway.ike.policy import ConnectionPolicy, V1Exchange
from gateway.ike.refusal import Refused, report, report_refusal
from gateway.ike.registry import NotifyType
from gateway.ike.v1 import aggressive_mode, failing, main_mode, methods, offers
from gateway.ike.v1.codec import (
    ExchangeType,
    Header,
    SecurityAssociation,
    UnsupportedSituation,
    parse_message,
)
from gateway.ike.v1.sa import IkeSa, State

MAX_FIRST_OCTETS = 8192
"""Of a first message, most of which is kept until the peer has proven itself."""
MAX_REPEATED = 3
"""Answers to the same message of a peer that has not shown that it receives them."""
MAX_KEYS_TRIED = 16
"""Different pre-shared keys that one message 5 is tried with."""


def life_s(connection: ConnectionPolicy) -> int:
    """The life of an ISAKMP SA that we offer."""
    life = connection.lifetimes
    return int(life.ike_rekey_s + life.ike_over_s)


def receive_first(core: Core, data: bytes, header: Header, path: Path, now: float) -> None:
    """The first message of main or aggressive mode.

    Raises WireError for everything that deserves no answer.
    """
    if header.message_id:
        raise WireError("first message of phase 1 with a message id")
    if len(data) > MAX_FIRST_OCTETS:
        raise WireError(f"first message of {len(data)} octets, at most {MAX_FIRST_OCTETS} allowed")
    digest = sha256(data).digest()
    known = core.half_open.find(digest, path.remote)
    if known is not None:
        if isinstance(known, IkeSa) and known.last_digest == digest:
            repeat(core, known, path)
        return
    if header.initiator_spi in core.sas:
        # A message of our own that came back: nobody may log in to us with our own proof.
        core.count("messages_reflected")
        return
    aggressive = header.exchange == ExchangeType.AGGRESSIVE
    step = "aggressive mode message 1" if aggressive else "main mode message 1"
    try:
        payloads = parse_message(data, header).payloads
        if not _has_room(core, path):
            return
        mode = aggressive_mode if aggressive else main_mode
        mode.receive_1(core, digest, header, payloads, path, now)
    except UnsupportedSituation as unsupported:
        refused = Refused(NotifyType.NO_PROPOSAL_CHOSEN, str(unsupported))
        _refuse(core, header, refused, path, step, now)
    except Refused as refused:
        _refuse(core, header, refused, path, step, now)


def _refuse(  # noqa: PLR0917 - one fact each
    core: Core, header: Header, refused: Refused, path: Path, step: str, now: float
) -> None:
    report_refusal(core, refused, "a peer", path.remote, step, now=now)
    failing.refuse_in_the_clear(core, header, failing.notify_of(refused), path, now)


def _has_room(core: Core, path: Path) -> bool:
    settings = core.settings
    if len(core.half_open) >= settings.half_open_limit * V1_SHARE:
        core.count("half_open_limit_reached")
        return False
    if core.half_open.of_source(path.remote) >= settings.half_open_per_source:
        core.count("half_open_source_limit_reached")
        return False
    return True


def repeat(core: Core, sa: IkeSa, path: Path) -> None:
    """The peer repeats its last message: so do we, a limited number of times before it is proven.

    Whoever forged the source address gets no more out of us than a few answers.
    """
    phase = sa.phase1
    if phase is not None and sa.state in (State.MAIN_2_SENT, State.AGGRESSIVE_2_SENT):
        if phase.repeated >= MAX_REPEATED:
            core.count("repetitions_not_answered")
            return
        phase.repeated += 1
    core.count("requests_repeated")
    core.transmit(sa.last_sent, path)


def new_sa(core: Core, header: Header, path: Path, digest: bytes, now: float) -> IkeSa:
    """A half-open SA under a cookie of ours."""
    sa = IkeSa(header.initiator_spi, core.new_ike_spi(), initiator=False, path=path, now=now)
    if sa.phase1 is not None:
        sa.phase1.half_open_key = core.half_open.add(digest, path.remote, sa)
    sa.last_digest = digest
    core.add_sa(sa)
    core.own_addresses.add(path.local.address)
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + core.settings.half_open_timeout_s)
    return sa


def choose(
    core: Core, offered: SecurityAssociation, path: Path, *, aggressive: bool
) -> tuple[offers.Chosen, tuple[ConnectionPolicy, ...]]:
    """Pick a transform by the first connection that likes one, and all that would take it.

    Connections for exactly this remote address come before those for any.

    Raises:
        Refused: NO_PROPOSAL_CHOSEN, with theirs and ours.
    """
    wanted = V1Exchange.AGGRESSIVE if aggressive else V1Exchange.MAIN
    here = [
        one
        for one in core.connections.values()
        if one.version == 1 and (one.remote is None or one.remote.address == path.remote.address)
    ]
    here.sort(key=lambda one: one.remote is None)
    fitting = [one for one in here if one.v1_exchange is wanted]
    if not fitting:
        other = "main" if aggressive else "aggressive"
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            f"the peer wants {wanted.value} mode, no connection allows it for its address",
            f"set the peer to {other} mode, or v1_exchange of a connection to {wanted.value}"
            if here
            else 'add a connection with version = 1 for this address, or use "IKEv2" at the peer',
        )
    reasons: dict[str, None] = {}
    theirs = ""
    ours: dict[str, None] = {}
    chosen: offers.Chosen | None = None
    candidates: list[ConnectionPolicy] = []
    for one in fitting:
        try:
            method = methods.method_of(one, initiator=False)
            if chosen is None:
                chosen = offers.select(one.ike_offer, method, offered)
                candidates.append(one)
            elif method is chosen.method and chosen.suite in offers.suites(one.ike_offer):
                candidates.append(one)
        except (methods.Unusable, NoProposalChosen) as nothing:
            reasons[str(nothing)] = None
            theirs = theirs or getattr(nothing, "theirs", "")
            ours[getattr(nothing, "ours", "")] = None
    if chosen is None:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            " / ".join(list(reasons)[:3]),
            "offer one of ours, or add one of theirs to ike_proposals",
            theirs=theirs,
            ours=", ".join(one for one in ours if one),
        )
    return chosen, tuple(candidates)


def report_unreadable(core: Core, sa: IkeSa, path: Path, names: str, now: float) -> None:
    """The proof does not decrypt with any pre-shared key that may be meant."""
    report(
        core,
        "a peer",
        path.remote,
        failing.step_of(sa),
        f"its proof cannot be decrypted: the pre-shared key is none of {names}",
        "enter the same key on both sides",
        now=now,
    )
