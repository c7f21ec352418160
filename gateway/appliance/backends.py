"""What stands behind the engine: users, RADIUS servers, accounting, revocation.

The engine's questions go out here, and their answers come back into the engine.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol

from gateway.appliance.accounting import AccountingService
from gateway.appliance.crl_files import CrlFiles
from gateway.appliance.revocation import OcspFetcher
from gateway.appliance.users import UserService
from gateway.dataplane.interface import Usage
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.session_records import SessionRecords
from gateway.domain.user_auth import Answer, LocalUser, PasswordQuestion, Question
from gateway.ike.auth.credentials import TrustAnchors
from gateway.ike.outputs import (
    AskAboutUser,
    AskOcsp,
    Event,
    InstallChildSa,
    RemoveChildSa,
    SessionClosed,
    SessionOpened,
)
from gateway.ike.policy import ConnectionPolicy
from gateway.radius.settings import RadiusSettings
from gateway.users.live import LiveUsers
from gateway.users.store import UserBase


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """The users of a configuration, read."""

    users: UserBase | None = None
    radius: Mapping[str, RadiusSettings] | None = None
    """RADIUS backends by name."""


class Asking(Protocol):
    """What is needed of :class:`gateway.ike.engine.IkeEngine`."""

    def user_answered(self, ticket: int, answer: Answer, now: float) -> None:
        """The answer to a question about a user."""

    def ocsp_answered(self, ticket: int, response: bytes | None, now: float) -> None:
        """The answer to a question about a certificate."""


class Backends:
    """All of them. Give it a running event loop, then :meth:`join` it to the engine."""

    def __init__(
        self,
        settings: BackendSettings,
        *,
        usage: Callable[[int], Usage | None],
        emit: Callable[[Event], None],
        local: IpAddress | None = None,
        records: SessionRecords | None = None,
    ) -> None:
        """``usage`` counts a child SA's traffic, ``local`` is our address for RADIUS servers.

        ``records`` has the sessions of accounting, for the next process.
        """
        self._loop = asyncio.get_running_loop()
        radius = settings.radius or {}
        self._users = UserService(settings.users, radius, answer=self._answered, emit=emit)
        self._tickets = count(1)
        self._waiting: dict[int, Callable[[Answer], None]] = {}
        """Who asked, by our own tickets: those of several askers would be mixed up."""
        self._accounting = AccountingService(
            radius, usage=usage, emit=emit, local=local, records=records
        )
        self._ocsp = OcspFetcher(self._ocsp_answered, emit)
        self._crls = CrlFiles(emit)
        self._watch: asyncio.Task[None] | None = None
        self._engine: Asking | None = None
        self.true_remote: Callable[[Endpoint], Endpoint] = _itself
        """Where a peer really is, see :mod:`gateway.appliance.tcp_names`."""
        self._flush: Callable[[], None] = _nothing

    def join(self, engine: Asking, flush: Callable[[], None]) -> None:
        """Answers go to ``engine``; ``flush`` carries out what they make it do."""
        self._engine, self._flush = engine, flush

    def find_user(self, name: str) -> LocalUser | None:
        """An enabled user of the local user base."""
        return self._users.find(name)

    @property
    def file_users(self) -> UserBase | None:
        """Users of the file."""
        return self._users.base

    def refuse(self, refusal: Callable[[str, str], str | None]) -> None:
        """Refuse users whose device is blocked, whatever they prove."""
        self._users.refusal = refusal

    @property
    def stored_users(self) -> LiveUsers:
        """Users of the store."""
        return self._users.stored

    # -- life ----------------------------------------------------------------------------

    def follow_crls(self, connections: Iterable[ConnectionPolicy]) -> Mapping[Path, str]:
        """Put the CRL files of these connections in force; returns what is wrong with which."""
        return self._crls.follow(one for policy in connections for one in _anchors(policy))

    async def refresh_crls(self) -> None:
        """Read the CRL files that changed, now."""
        await self._crls.refresh()

    def resume(self, accounts: Mapping[str, bytes]) -> None:
        """Accounting's records of the last process; before its sessions are opened again."""
        self._accounting.resume(accounts)

    def start(self) -> None:
        """The gateway is ready."""
        self._accounting.start()
        self._watch = self._loop.create_task(self._crls.run())

    def reload(self, settings: BackendSettings) -> None:
        """Use other users and RADIUS servers; sessions and questions go on where they can."""
        radius = settings.radius or {}
        self._users.reload(settings.users, radius)
        self._accounting.reload(radius)

    async def stop(self, *, keep: bool = False) -> None:
        """End accounting, or with ``keep`` leave it to the next process; answer nothing more."""
        if self._watch is not None:
            self._watch.cancel()
        await self._accounting.stop(keep=keep)
        await self._ocsp.close()
        self._users.stop()

    def facts(self) -> dict[str, object]:
        """What a status page shows."""
        return {"users": self._users.facts(), "accounting": self._accounting.facts()}

    # -- outputs of the engine -------------------------------------------------------------

    def ask_about_user(self, question: AskAboutUser) -> None:
        """Answered later, never within this call."""
        asked = question.question
        remote = self.true_remote(asked.asker.remote)
        if remote is not asked.asker.remote:
            asked = replace(asked, asker=replace(asked.asker, remote=remote))
        self._ask(asked, partial(self._user_answered, question.ticket))

    def ask_password(self, question: PasswordQuestion, answered: Callable[[Answer], None]) -> None:
        """For whoever is no IKE engine: the same users, and the same limits on guessing.

        ``answered`` is called later, exactly once; after :meth:`stop` not any more.
        """
        self._ask(question, answered)

    def _ask(self, question: Question, answered: Callable[[Answer], None]) -> None:
        ticket = next(self._tickets)
        self._waiting[ticket] = answered
        self._users.ask(AskAboutUser(ticket, question))

    def ask_ocsp(self, question: AskOcsp) -> None:
        """Answered later, never within this call."""
        self._ocsp.ask(question)

    def child_installed(self, output: InstallChildSa) -> None:
        """A child SA that may belong to a session."""
        self._accounting.child_installed(output.sa.spi_in, output.session_id)

    def child_removed(self, output: RemoveChildSa) -> None:
        """Before the dataplane removes it: its counters are read for the last time."""
        self._accounting.child_removed(output.spi_in)

    def session_opened(self, output: SessionOpened) -> None:
        """A user logged in."""
        session = output.session
        remote = self.true_remote(session.remote)
        if remote is not session.remote:
            session = replace(session, remote=remote)
        self._accounting.session_opened(session, resumed=output.resumed)

    def session_closed(self, output: SessionClosed) -> None:
        """A user's session is over."""
        self._accounting.session_closed(output.session_id, output.reason)

    # -- answers ---------------------------------------------------------------------------

    def _answered(self, ticket: int, answer: Answer) -> None:
        answered = self._waiting.pop(ticket, None)
        if answered is not None:
            answered(answer)

    def _user_answered(self, ticket: int, answer: Answer) -> None:
        if self._engine is not None:
            self._engine.user_answered(ticket, answer, self._loop.time())
            self._flush()

    def _ocsp_answered(self, ticket: int, response: bytes | None) -> None:
        if self._engine is not None:
            self._engine.ocsp_answered(ticket, response, self._loop.time())
            self._flush()


def _anchors(policy: ConnectionPolicy) -> list[TrustAnchors]:
    """All trust anchors that a connection judges certificates by."""
    user, credential = policy.peer_auth.user, policy.user_credential
    found = (
        policy.peer_auth.anchors,
        user.anchors if user is not None else None,
        credential.anchors if credential is not None else None,
    )
    return [one for one in found if one is not None]


def _itself(endpoint: Endpoint) -> Endpoint:
    return endpoint


def _nothing() -> None:
    return None
