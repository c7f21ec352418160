"""Leases: asking, releasing, taking them up again; and the order of everything that is said."""

from collections import deque
from ipaddress import IPv4Address

from gateway.domain.wire import WireError
from gateway.nar.client import words
from gateway.nar.client.asks import Ask, ask_again
from gateway.nar.client.book import LeaseBook
from gateway.nar.client.link import MAX_AHEAD, Link, Sent, SentAsk, SentRelease
from gateway.nar.client.notices import noticed
from gateway.nar.client.opening import Opening
from gateway.nar.client.phases import CLOSED, Phase
from gateway.nar.client.restoring import Restoring
from gateway.nar.client.settings import NarClientSettings
from gateway.nar.client_outputs import Granted, Lease, Lost, Refused, Released
from gateway.nar.codec.leases import (
    L2tpReply,
    LeaseKey,
    NoticeMessage,
    Release,
    ReleaseReply,
    Renew,
    RenewReply,
    SessionReply,
)
from gateway.nar.codec.numbers import NarCommand, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply
from gateway.nar.codec.stream import ServerReply


class Dialogue:
    """The inner half of :class:`gateway.nar.client.engine.NarClient`."""

    def __init__(self, settings: NarClientSettings) -> None:
        self.book = LeaseBook()
        self.link = Link()
        self._target = settings.target
        self._opening = Opening(self.link, settings)
        self._restoring = Restoring(self.book)
        self._asking: deque[int] = deque()
        self._releasing: deque[SentRelease] = deque()
        self._taken_up = False
        """Whether what is held was looked after since the connection came."""

    # What the application wants.

    def ask(self, ask: Ask) -> int:
        """Ask as soon as the server listens; a ticket."""
        ticket = self.book.add(ask)
        self._asking.append(ticket)
        self._pump()
        return ticket

    def adopt(self, lease: Lease) -> int:
        """A lease of the session of the settings' token."""
        ticket = self.book.add(ask_again(lease, self._target))
        if not self.book.grant(ticket, lease):
            self.book.remove(ticket)
            raise ValueError(f"{lease.tuple} is adopted already")
        return ticket

    def release(self, leases: dict[int, Lease], *, everything: bool) -> None:
        """Tell the server, where it wants to know, that these leases are over."""
        if self.link.agreed and not self.link.leases_known:
            self._released(leases)
            return
        self._releasing.append(SentRelease(NarCommand.RELEASE, leases, everything))
        self._pump()

    # The connection.

    def start(self, local: IPv4Address, now: float) -> None:
        """A new one, after the one before if that was not over yet."""
        if self.link.phase is not Phase.AWAY:
            self.disconnected(now)
        self._taken_up = False
        self.link.open(local)
        self._opening.begin()
        self.settle(now)

    def read(self, data: bytes, now: float) -> None:
        """Handle what came. Raises WireError when the server breaks the protocol."""
        link = self.link
        if link.phase in CLOSED:
            return
        link.clock.now = now
        link.stream.feed(data)
        while self._step():
            link.clock.answered()
        self._pump()

    def disconnected(self, now: float) -> None:
        """Keep what was not answered for the next connection."""
        for sent in reversed(self.link.sent):
            if isinstance(sent, SentRelease) and sent.leases:
                self._releasing.appendleft(sent)
            elif isinstance(sent, SentAsk) and not sent.restoring and sent.ticket in self.book:
                self._asking.appendleft(sent.ticket)
        self.link.sent.clear()
        self.link.enter(Phase.AWAY)
        self.link.clock.away(now)

    def settle(self, now: float) -> None:
        """Set the deadline of what is waited for."""
        self.link.clock.settle(now, waits=self.link.waits)

    def handle_timer(self, now: float) -> None:
        """See the engine."""
        link = self.link
        self.settle(now)
        if link.clock.silent(now):
            link.fail(words.SILENT, again=True)
        if link.phase is Phase.READY and link.clock.renewal_due(now):
            link.command(Sent(NarCommand.RENEW), Renew().to_octets())
        if link.phase is Phase.AWAY and link.clock.forgotten(now):
            self._forget()
        self.settle(now)

    # Messages.

    def _step(self) -> bool:
        """Handle one message; False when there is no whole one."""
        link = self.link
        if link.phase in CLOSED:
            return False
        if link.phase in (Phase.METHODS, Phase.LOGIN):
            return self._opening.login_step()
        message = link.stream.message(link.sent[0].command if link.sent else None)
        if message is None:
            return False
        if isinstance(message, NoticeMessage):
            if not (link.agreed and link.leases_known):
                raise WireError("a notice before NAR mode")
            link.mode = noticed(message, link.mode, self.book, link.say)
        else:
            self._replied(link.sent.popleft(), message)
        if link.phase is Phase.READY and not self._taken_up:
            self._take_up()
        return True

    def _replied(self, sent: Sent, message: ServerReply) -> None:
        if isinstance(sent, SentAsk):
            self._lease_answered(sent, message)
        elif isinstance(message, SocksReply):
            self._mode_answered(message)
        elif isinstance(message, SessionReply):
            self._opening.session_answered(message)
        elif isinstance(message, L2tpReply):
            self._opening.l2tp_answered(message)
        elif isinstance(message, RenewReply):
            self._renewed(message)
        elif isinstance(sent, SentRelease) and isinstance(message, ReleaseReply):
            self._released(sent.leases)

    def _mode_answered(self, message: SocksReply) -> None:
        if message.reply is Reply.SUCCEEDED:
            self._opening.mode_granted(message)
        elif self.link.agreed:
            self.link.enter(Phase.READY)
            self._target_refused(message.reply)
        else:
            self._opening.mode_refused(message.reply)

    def _renewed(self, message: RenewReply) -> None:
        if message.reply is Reply.SUCCEEDED:
            self.link.clock.leased(message.lease_s, None)
        else:
            self._opening.forget()
            self.link.fail(words.refusal(NarCommand.RENEW, message.reply), again=True)

    # Leases.

    def _take_up(self) -> None:
        """The first thing on a connection that is ready: what is held goes on."""
        self._taken_up = True
        self.link.clock.back()
        resumed = self._opening.resumed
        if not resumed:
            self._over()
        tickets = self._restoring.begin(everything=not resumed, target=self._target)
        self._asking.extendleft(reversed(tickets))

    def _pump(self) -> None:
        """Say what waits, as far as may be ahead of replies."""
        link = self.link
        while link.phase is Phase.READY and len(link.sent) < MAX_AHEAD:
            if self._releasing:
                sent = self._releasing.popleft()
                lease = next(iter(sent.leases.values()))
                key = None if sent.everything else LeaseKey.of(lease.tuple)
                link.command(sent, Release(key).to_octets())
            elif not self._asking or not self._ask_next(self._asking[0]):
                return

    def _ask_next(self, ticket: int) -> bool:
        """Ask for the first lease of those that wait; False when it has to wait on."""
        link = self.link
        if ticket not in self.book:
            self._asking.popleft()
            self._given_up(ticket)
            return True
        entry = self.book[ticket]
        if entry.ask.target is not None and entry.ask.target != link.mode.target:
            if not link.sent:
                self._opening.ask_mode(entry.ask.target)
            return False
        self._asking.popleft()
        sent = SentAsk(entry.ask.command, ticket, entry.ask, entry.restoring)
        if entry.ask.needs_leases and not link.leases_known:
            self._refused(sent, Reply.COMMAND_NOT_SUPPORTED)
        else:
            link.command(sent, entry.ask.request.to_octets())
        return True

    def _target_refused(self, reply: Reply) -> None:
        """NAR-MODE for another target was refused: the lease that needed it is."""
        ticket = self._asking.popleft()
        if ticket in self.book:
            entry = self.book[ticket]
            sent = SentAsk(SocksCommand.NAR_MODE, ticket, entry.ask, entry.restoring)
            self._refused(sent, reply)
        else:
            self._given_up(ticket)

    def _given_up(self, ticket: int) -> None:
        """A ticket that waited was released; the last of those to restore may have been it."""
        if self._restoring.gave_up(ticket):
            self._restored()

    def _lease_answered(self, sent: SentAsk, message: ServerReply) -> None:
        if message.reply is not Reply.SUCCEEDED:
            self._refused(sent, message.reply)
            return
        lease = sent.ask.lease(message, self.link.mode)
        if sent.restoring:
            self._came_back(sent.ticket, lease)
        elif sent.ticket not in self.book:
            self._give_back(lease)
        elif self.book.grant(sent.ticket, lease):
            self.link.say(Granted(sent.ticket, lease))
        else:
            self.book.remove(sent.ticket)
            self.link.say(Refused(sent.ticket, Reply.GENERAL_FAILURE, words.TWICE))

    def _came_back(self, ticket: int, lease: Lease) -> None:
        changes = self._restoring.came(ticket, lease)
        if changes is None:
            self._give_back(lease)
        for change in changes or ():
            self.link.say(change)
        self._restored()

    def _refused(self, sent: SentAsk, reply: Reply) -> None:
        if sent.restoring:
            self._restoring.answered(sent.ticket)
            self._restored()
        elif sent.ticket in self.book:
            self.book.remove(sent.ticket)
            self.link.say(Refused(sent.ticket, reply, words.refusal(sent.command, reply)))

    def _restored(self) -> None:
        for ticket, lease in self._restoring.lost():
            self.link.say(Lost(ticket, lease, words.CHANGED))

    def _give_back(self, lease: Lease) -> None:
        """Nobody wants it (any more)."""
        if self.link.leases_known and self.book.holder(lease.tuple) is None:
            octets = Release(LeaseKey.of(lease.tuple)).to_octets()
            self.link.command(SentRelease(NarCommand.RELEASE), octets)

    def _released(self, leases: dict[int, Lease]) -> None:
        for ticket, lease in leases.items():
            self.link.say(Released(ticket, lease))

    def _over(self) -> None:
        """The server knows nothing of us: what was to be released is."""
        while self._releasing:
            self._released(self._releasing.popleft().leases)

    def _forget(self) -> None:
        """Too long without a connection."""
        self._opening.forget()
        self._over()
        for ticket, lease in self.book.held().items():
            self.book.remove(ticket)
            self.link.say(Lost(ticket, lease, words.AWAY))
