"""Answers what engines ask about users: from the local user base, or from RADIUS servers.

How to wire it::

    users = UserService(
        UserBase.load(user_settings),           # None when no user file is configured
        {"office": radius_settings},            # backends by name
        answer=answered,
        emit=event_log,
    )
    engine = IkeEngine(..., find_user=users.find)

    def answered(ticket, answer):
        now = loop.time()
        engine.user_answered(ticket, answer, now)
        ike_service.flush(now)

Call :meth:`UserService.ask` for every :class:`AskAboutUser` of the engine (it never answers before
it returns), :meth:`UserService.reload` after the configuration or the user file was read again
(load the new :class:`UserBase` first, in a thread, because ten thousand users take a second; when
that raises, the old one stays in force), and
:meth:`UserService.stop` at the end.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from gateway.appliance.radius_link import RadiusLink
from gateway.domain.user_auth import (
    LOCAL,
    Accepted,
    Answer,
    LocalUser,
    PasswordQuestion,
    Rejected,
    Unavailable,
)
from gateway.ike.outputs import AskAboutUser, Event, Severity
from gateway.radius import client as radius
from gateway.radius.settings import RadiusSettings
from gateway.users.guessing import GuessLimit
from gateway.users.live import LiveUsers
from gateway.users.store import UserBase

THREADS = 2
"""Password checks at the same time: each takes a processor and 16 MB."""
MAX_CHECKS = 64
"""Password checks that run or wait for a thread."""
MAX_HELD = 256
"""Attempts that wait because of wrong passwords before them."""

_Link = RadiusLink[radius.Output]


class UserService:
    """All backends. Give it a running event loop."""

    def __init__(
        self,
        base: UserBase | None,
        backends: Mapping[str, RadiusSettings],
        *,
        answer: Callable[[int, Answer], None],
        emit: Callable[[Event], None],
        random: Callable[[int], bytes] = os.urandom,
        limit: GuessLimit | None = None,
    ) -> None:
        self._base = base
        self.refusal: Callable[[str, str], str | None] | None = None
        """Why a user is refused whatever it proves: identity and user, here the same."""
        self.stored = LiveUsers()
        """Users of the store; one that the file has, too, is the file's."""
        self._answer = answer
        self._emit = emit
        self._random = random
        self._limit = limit or GuessLimit()
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, "password")
        self._checks = 0
        self._held: dict[int, asyncio.TimerHandle] = {}
        self._attempts: dict[int, PasswordQuestion] = {}
        self._radius: dict[str, tuple[RadiusSettings, radius.RadiusClient, _Link]] = {}
        self._stopped = False
        self.counters = dict.fromkeys(
            ("questions", "accepted", "rejected", "unavailable", "held_up", "refused_guesses"), 0
        )
        self._set_backends(backends)

    # -- questions -----------------------------------------------------------------------

    def find(self, name: str) -> LocalUser | None:
        """An enabled user of the local user base: the engine's ``find_user``."""
        return self._base_of(name).find(name)

    @property
    def base(self) -> UserBase | None:
        """Users of the file."""
        return self._base

    def _base_of(self, name: str) -> UserBase | LiveUsers:
        if self._base is not None and (name in self._base or name not in self.stored):
            return self._base
        return self.stored

    def ask(self, request: AskAboutUser) -> None:
        """Answer later, with exactly one call of ``answer``; after :meth:`stop` with none."""
        if self._stopped:
            return
        self.counters["questions"] += 1
        question, ticket = request.question, request.ticket
        if not isinstance(question, PasswordQuestion):
            self._forward(request)
            return
        user, remote = question.user, question.asker.remote
        wait = self._limit.admit(user, remote.address, self._loop.time())
        if wait is None or (wait > 0 and len(self._held) >= MAX_HELD):
            self.counters["refused_guesses"] += 1
            self._later(ticket, Rejected("too many wrong passwords lately; wait a minute"))
            self._slowed(question, "refused unread")
        elif wait > 0:
            self.counters["held_up"] += 1
            self._slowed(question, f"held up for {wait:.1f} s")
            self._held[ticket] = self._loop.call_later(wait, self._release, request)
        else:
            self._attempt(request, question)

    def reload(self, base: UserBase | None, backends: Mapping[str, RadiusSettings]) -> None:
        """Use another user base and other backends; questions to a changed backend end."""
        self._base = base
        self._set_backends(backends)

    def stop(self) -> None:
        """Answer nothing more, close all sockets."""
        self._stopped = True
        for handle in self._held.values():
            handle.cancel()
        self._held.clear()
        for _, _, link in self._radius.values():
            link.close()
        self._radius.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def facts(self) -> dict[str, object]:
        """What a status page shows."""
        return {
            "local_users": len(self._base or ()) + len(self.stored),
            "counters": dict(self.counters),
            "radius": {
                name: {
                    "servers": [str(server.authentication) for server in settings.servers],
                    "dead": [str(server) for server in client.dead_servers()],
                    "waiting": client.waiting,
                    "counters": dict(client.counters),
                }
                for name, (settings, client, _) in self._radius.items()
            },
        }

    # -- attempts ------------------------------------------------------------------------

    def _release(self, request: AskAboutUser) -> None:
        self._held.pop(request.ticket, None)
        if isinstance(request.question, PasswordQuestion):
            self._attempt(request, request.question)

    def _attempt(self, request: AskAboutUser, question: PasswordQuestion) -> None:
        self._attempts[request.ticket] = question
        if question.backend == LOCAL:
            self._check(request.ticket, question)
        else:
            self._forward(request)

    def _check(self, ticket: int, question: PasswordQuestion) -> None:
        if self._base is None and not len(self.stored):
            self._later(ticket, Unavailable("no local user base is configured"))
            return
        if self._checks >= MAX_CHECKS:
            self._later(ticket, Unavailable(f"{self._checks} password checks wait already"))
            return
        self._checks += 1
        verify = self._base_of(question.user).verify
        future = self._loop.run_in_executor(self._threads, verify, question.user, question.password)
        future.add_done_callback(lambda done: self._checked(ticket, done))

    def _checked(self, ticket: int, done: "asyncio.Future[Accepted | Rejected]") -> None:
        self._checks -= 1
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._settle(ticket, done.result())
            return
        text = f"internal fault: password check: {type(error).__name__}: {error}"
        self._emit(Event("internal_fault", text, Severity.WARNING))
        self._settle(ticket, Unavailable("the password could not be checked"))

    def _forward(self, request: AskAboutUser) -> None:
        found = self._radius.get(request.question.backend)
        if found is None:
            backend = request.question.backend
            reason = (
                "the local user base answers no EAP of a RADIUS server"
                if backend == LOCAL
                else f"there is no RADIUS backend {backend}"
            )
            self._later(request.ticket, Unavailable(reason))
            return
        _, client, link = found
        client.ask(request.ticket, request.question, self._loop.time())
        self._loop.call_soon(link.flush)

    def _later(self, ticket: int, answer: Answer) -> None:
        """The engine is still handing its outputs out: answer at the next turn of the loop."""
        self._loop.call_soon(self._settle, ticket, answer)

    def _settle(self, ticket: int, answer: Answer) -> None:
        if self._stopped:
            return
        attempt = self._attempts.pop(ticket, None)
        if isinstance(answer, Accepted) and self.refusal is not None:
            why = self.refusal(answer.user, answer.user)
            answer = answer if why is None else Rejected(why)
        if isinstance(answer, Accepted):
            self.counters["accepted"] += 1
            if attempt is not None:
                self._limit.succeeded(attempt.user, attempt.asker.remote.address)
        elif isinstance(answer, Rejected):
            self.counters["rejected"] += 1
            if attempt is not None:
                remote = attempt.asker.remote.address
                self._limit.failed(attempt.user, remote, self._loop.time())
        elif isinstance(answer, Unavailable):
            self.counters["unavailable"] += 1
        self._answer(ticket, answer)

    def _slowed(self, question: PasswordQuestion, what: str) -> None:
        user, remote = question.user[:80], question.asker.remote
        text = f"login of {user!r} from {remote} {what}: too many wrong passwords before it"
        facts: dict[str, object] = {
            "user": user,
            "remote": str(remote),
            "connection": question.asker.connection,
        }
        self._emit(Event("login_slowed", text, Severity.WARNING, facts))

    # -- RADIUS --------------------------------------------------------------------------

    def _set_backends(self, backends: Mapping[str, RadiusSettings]) -> None:
        changed = [
            self._radius.pop(name)
            for name, (settings, _, _) in list(self._radius.items())
            if backends.get(name) != settings
        ]
        for name, settings in backends.items():
            if name not in self._radius:
                client = radius.RadiusClient(settings, self._random)
                link = RadiusLink(client, name, rest=self._radius_output, emit=self._emit)
                self._radius[name] = (settings, client, link)
        for _, client, link in changed:  # at last: what is answered now may ask again at once
            client.close("the RADIUS backend was changed")
            link.flush()
            link.close()

    def _radius_output(self, output: radius.Output) -> None:
        if isinstance(output, radius.Answered):
            self._settle(output.ticket, output.answer)
