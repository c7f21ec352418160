"""A peer's certificate that an OCSP responder must be asked about before the SA is established.

The message whose certificate it is waits meanwhile: a request is not answered, repetitions of it
are dropped, and a response is not acted on.
"""

from collections.abc import Callable
from dataclasses import replace

from gateway.ike import closing
from gateway.ike.core import Core, TimerKind
from gateway.ike.outputs import AskOcsp, Severity
from gateway.ike.v2 import exchange
from gateway.ike.v2.proof import OcspNeeded
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.view import Payloads, Request

MAX_QUESTIONS = 8
"""In one handshake: one for each certificate of the longest path."""
PATIENCE_S = 30.0
"""The adapter answers sooner, with None at the latest; after this the handshake is given up."""

Resume = Callable[[Core, IkeSa, Request], None]


def ask(core: Core, sa: IkeSa, needed: OcspNeeded, request: Request) -> None:
    """Ask; the request is answered by :func:`answered`."""
    handshake = sa.handshake
    if handshake is None:
        return
    hold(sa, request)
    _ask(core, sa, needed, request.now)


def ask_about_response(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    needed: OcspNeeded,
    mine: exchange.Exchange,
    view: Payloads,
    now: float,
) -> None:
    """Ask; the response to our exchange is acted on by :func:`answered`."""
    handshake = sa.handshake
    if handshake is None:
        return
    handshake.held_response = (mine, view)
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + PATIENCE_S)
    _ask(core, sa, needed, now)


def _ask(core: Core, sa: IkeSa, needed: OcspNeeded, now: float) -> None:
    handshake = sa.handshake
    if handshake is None:
        return
    if handshake.ocsp_questions >= MAX_QUESTIONS:
        closing.close(core, sa, "too many questions about its certificates", now)
        return
    handshake.ocsp = (needed.anchors, needed.request)
    handshake.ocsp_questions += 1
    core.count("ocsp_questions")
    ticket = core.take_ticket(sa)
    core.outputs.append(AskOcsp(ticket, needed.request.url, needed.request.der))


def hold(sa: IkeSa, request: Request) -> None:
    """Answer the request later; until then all that comes with its message id is dropped."""
    if sa.handshake is None:
        return
    sa.handshake.held = request
    sa.window.held = True


def release(sa: IkeSa, now: float) -> Request | None:
    """The request that waited; whoever takes it answers it."""
    handshake = sa.handshake
    if handshake is None or handshake.held is None:
        return None
    request, handshake.held = handshake.held, None
    sa.window.held = False
    return replace(request, now=now)


def answered(core: Core, sa: IkeSa, response: bytes | None, now: float, resume: Resume) -> None:
    """Hand the answer to the anchors that asked, and judge what waited anew."""
    handshake = sa.handshake
    if handshake is None or handshake.ocsp is None:
        core.count("answers_unexpected")
        return
    (anchors, question), handshake.ocsp = handshake.ocsp, None
    doubt = anchors.take_ocsp_response(question, response, core.wall_clock())
    if doubt is not None:
        core.count("ocsp_answers_refused")
        core.emit_limited(
            f"ocsp {question.url}",
            now,
            "ocsp_unanswered",
            doubt,
            Severity.WARNING,
            responder=question.url,
            reason=doubt,
        )
    request = release(sa, now)
    if request is not None:
        resume(core, sa, request)
    elif handshake.held_response is not None:
        (mine, view), handshake.held_response = handshake.held_response, None
        core.timers.cancel((TimerKind.GIVE_UP, sa.local_spi))
        mine.response(core, sa, view, now)
        exchange.continue_with_next(core, sa, now)
