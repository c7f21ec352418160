"""CREATE_CHILD_SA as the requester: new child SAs, and successors of old ones.

RFC 7296 sections 1.3.1, 1.3.3, 2.8 (with simultaneous rekeying, 2.8.1) and 2.25.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.wire import WireError
from gateway.ike import child_sas, closing, presence
from gateway.ike import record_values as values
from gateway.ike.codec import (
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    describe_notify,
)
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.draft_features import PLAIN, Features, wanted
from gateway.ike.record_values import Record
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import DhGroup, ExchangeType, NotifyType, ProtocolId
from gateway.ike.sa import Child, ChildState
from gateway.ike.v2 import child as child_sa
from gateway.ike.v2 import deleting, draft_notifies, exchange, transport_mode
from gateway.ike.v2.auth_exchange import read_agreed
from gateway.ike.v2.init import NONCE_OCTETS
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.view import Payloads

RETRY_S = 5.0
"""After TEMPORARY_FAILURE; a random part comes on top, so that both sides do not meet again."""
REFUSED_RETRY_S = 60.0
"""After any other refusal."""
MAX_GROUP_RETRIES = 2


@dataclass(slots=True)
class Rival:
    """The successor that the peer made of the child SA which we are rekeying as well."""

    spi_in: int
    low: bytes
    """The lower nonce of its exchange."""


class CreateChild(exchange.Exchange):
    """Ask for a child SA; with ``old``, for its successor."""

    __slots__ = (
        "_asked",
        "_group",
        "_nonce",
        "_old",
        "_pair",
        "_reqid",
        "_retries",
        "_spi",
        "_ts",
        "rival",
    )
    name = "CREATE_CHILD_SA"
    exchange_type = ExchangeType.CREATE_CHILD_SA
    in_record = "create child"

    def __init__(
        self,
        local_ts: tuple[TrafficSelector, ...],
        remote_ts: tuple[TrafficSelector, ...],
        *,
        reqid: int | None = None,
        old: int | None = None,
        group: DhGroup | None = None,
        retries: int = 0,
    ) -> None:
        self._ts = (local_ts, remote_ts)
        self._reqid = reqid
        self._old = old
        self._group = group
        self._retries = retries
        self.rival: Rival | None = None
        self._spi = 0
        self._nonce = b""
        self._pair: dh.DhKeyPair | None = None
        self._asked = PLAIN

    @property
    def old(self) -> int | None:
        """Our SPI of the child SA that is being replaced."""
        return self._old

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """REKEY_SA, SA, Ni, KE, TSi, TSr."""
        del now
        connection = sa.connection
        if connection is None or sa.state is not State.ESTABLISHED:
            return None
        local, remote = self._ts
        try:
            self._asked = wanted(sa, connection, local, remote)
        except Refused as refused:
            self._report(core, sa, refused)
            return None
        payloads: list[Payload] = []
        if self._old is not None:
            old = sa.children.get(self._old)
            if old is None or old.state is not ChildState.INSTALLED:
                return None
            old.state = ChildState.REKEYING
            spi = self._old.to_bytes(4, "big")
            payloads.append(Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, spi))
        self._spi = core.new_child_spi()
        self._nonce = core.random(NONCE_OCTETS)
        group = self._group or connection.esp_offer.first_group()
        self._pair = dh.generate(group) if group else None
        payloads += [
            connection.esp_offer.to_payload(ProtocolId.ESP, self._spi.to_bytes(4, "big")),
            Nonce(self._nonce),
        ]
        if self._pair is not None:
            payloads.append(KeyExchange(self._pair.group, self._pair.public))
        payloads += [
            TrafficSelectorsInitiator(local),
            TrafficSelectorsResponder(remote),
            *transport_mode.notifies(connection),
            *draft_notifies.notifies(self._asked),
        ]
        return payloads

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """Install the child SA, or make sense of the refusal."""
        old = sa.children.get(self._old) if self._old is not None else None
        if old is not None and old.state is ChildState.REKEYING:
            old.state = ChildState.INSTALLED
        error = view.error()
        if error is not None:
            self._refused(core, sa, old, error, now)
            return
        try:
            made, low = self._install(core, sa, view, old, now)
        except Refused as refused:
            self._report(core, sa, refused)
            if old is not None:
                core.timers.set((TimerKind.REKEY_CHILD, old.spi_in), now + REFUSED_RETRY_S)
            return
        if old is not None:
            self._settle(core, sa, old, made, low, now)

    def _install(
        self, core: Core, sa: IkeSa, view: Payloads, old: Child | None, now: float
    ) -> tuple[Child, bytes]:
        connection = sa.connection
        if connection is None:
            raise Refused(NotifyType.NO_ADDITIONAL_SAS, "the connection is gone")
        agreed = read_agreed(connection, view, self._spi, *self._ts, self._asked, with_group=True)
        agreed = presence.take(core, sa, connection, agreed, old)
        nonce = view.need(Nonce).data
        shared = b""
        if agreed.group:
            theirs = view.need(KeyExchange)
            if self._pair is None or not theirs.group == agreed.group == self._pair.group:
                raise Refused(NotifyType.INVALID_KE_PAYLOAD, "the peer answered with another group")
            try:
                shared = self._pair.shared_secret(theirs.data)
            except dh.InvalidKeyExchange as invalid:
                raise WireError(f"key exchange value refused: {invalid}") from None
        of_us, of_peer = child_sa.keys(sa, agreed.suite, self._nonce, nonce, shared)
        low = min(self._nonce, nonce)
        reqid = self._reqid if old is None else child_sas.reqid_after(old, agreed)
        loses = self._loses(sa, low)
        made = child_sas.install(
            core, sa, agreed, of_peer, of_us, now, reqid=reqid, outbound=not loses
        )
        return made, low

    def _loses(self, sa: IkeSa, low: bytes) -> bool:
        """Whether the peer's successor stays: the lowest of all four nonces is ours."""
        return self.rival is not None and self.rival.spi_in in sa.children and low < self.rival.low

    def _settle(  # noqa: PLR0917 - one fact each
        self, core: Core, sa: IkeSa, old: Child, made: Child, low: bytes, now: float
    ) -> None:
        core.count("child_sas_rekeyed")
        if self._loses(sa, low) and self.rival is not None:
            deleting.delete_child(core, sa, made, "redundant after simultaneous rekeying", now)
            _leave_to_rival(core, sa, old, self.rival.spi_in, now)
            return
        old.replaced_by = made.spi_in
        if old.state is ChildState.INSTALLED:
            old.state = ChildState.REKEYED
            deleting.delete_child(core, sa, old, "rekeyed", now)

    def _refused(self, core: Core, sa: IkeSa, old: Child | None, error: Notify, now: float) -> None:
        core.count("create_child_refused")
        rival = self.rival
        if old is not None and rival is not None and rival.spi_in in sa.children:
            _leave_to_rival(core, sa, old, rival.spi_in, now)
            return
        if error.type == NotifyType.INVALID_KE_PAYLOAD and self._retry_group(core, sa, error, now):
            return
        if error.type == NotifyType.CHILD_SA_NOT_FOUND and old is not None:
            self._replace_lost(core, sa, old, now)
            return
        if old is None:
            self._report(core, sa, _as_refused(error))
            return
        if error.type == NotifyType.TEMPORARY_FAILURE:
            delay = RETRY_S * (1 + core.fraction())
        else:
            self._report(core, sa, _as_refused(error))
            delay = REFUSED_RETRY_S
        core.timers.set((TimerKind.REKEY_CHILD, old.spi_in), now + delay)

    def _retry_group(self, core: Core, sa: IkeSa, error: Notify, now: float) -> bool:
        connection = sa.connection
        wanted = int.from_bytes(error.data, "big")
        if (
            connection is None
            or len(error.data) != 2
            or self._retries >= MAX_GROUP_RETRIES
            or wanted not in connection.esp_offer.groups()
        ):
            return False
        again = CreateChild(
            *self._ts,
            reqid=self._reqid,
            old=self._old,
            group=DhGroup(wanted),
            retries=self._retries + 1,
        )
        exchange.begin(core, sa, again, now)
        return True

    def _replace_lost(self, core: Core, sa: IkeSa, old: Child, now: float) -> None:
        """The peer does not have it any more: so do we, and ask for another one."""
        if old.state is ChildState.DELETING:
            return
        again = CreateChild(*self._ts, reqid=old.reqid)
        closing.remove_child(core, sa, old, "the peer does not know it any more", now)
        exchange.begin(core, sa, again, now)

    def record(self) -> Record:
        """What was asked for; once it was sent, also what the answer needs."""
        local, remote = self._ts
        record: Record = {
            "ts": [list(map(values.selector, local)), list(map(values.selector, remote))],
            "reqid": self._reqid,
            "old": self._old,
            "group": None if self._group is None else int(self._group),
            "retries": self._retries,
        }
        if self.rival is not None:
            record["rival"] = [self.rival.spi_in, values.octets(self.rival.low)]
        if self._nonce:
            record["sent"] = [
                self._spi,
                values.octets(self._nonce),
                self._asked.endpoint_update,
                self._asked.vpn_fa,
            ]
        if self._pair is not None:
            record["key"] = [int(self._pair.group), values.octets(self._pair.private)]
        return record

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        local, remote = values.items(record["ts"], 2)
        reqid = record["reqid"]
        create = cls(
            values.read_selectors(local),
            values.read_selectors(remote),
            reqid=None if reqid is None else values.number(reqid, 1, 0xFFFFFFFF),
            old=values.maybe_child_spi(record["old"]),
            group=values.read_group(record["group"]),
            retries=values.number(record["retries"], 0, MAX_GROUP_RETRIES),
        )
        if "rival" in record:
            spi_in, low = values.items(record["rival"], 2)
            create.rival = Rival(values.child_spi(spi_in), values.read_octets(low, 1, 256))
        if "sent" in record:
            spi_in, nonce, endpoint_update, vpn_fa = values.items(record["sent"], 4)
            create._spi = values.child_spi(spi_in)
            create._nonce = values.read_octets(nonce, 1, 256)
            create._asked = Features(values.flag(endpoint_update), values.flag(vpn_fa))
        if "key" in record:
            group, private = values.items(record["key"], 2)
            create._pair = dh.resume(group, values.read_octets(private))
        return create

    def _report(self, core: Core, sa: IkeSa, refused: Refused) -> None:
        report_refusal(
            core,
            refused,
            sa.peer_name,
            sa.path.remote,
            self.name,
            connection=sa.connection_name,
            sa=sa,
        )


def _as_refused(error: Notify) -> Refused:
    return Refused(
        NotifyType.NO_ADDITIONAL_SAS,
        f"the peer answered {describe_notify(error.type)}",
        "see the peer's log for its reason",
    )


def _leave_to_rival(core: Core, sa: IkeSa, old: Child, successor: int, now: float) -> None:
    """The peer's successor stays, and the peer deletes the old child SA."""
    old.replaced_by = successor
    if old.state is ChildState.INSTALLED:
        old.state = ChildState.REKEYED
    core.timers.cancel((TimerKind.REKEY_CHILD, old.spi_in))
    made = sa.children.get(successor)
    if made is None:
        return
    if old.state is ChildState.DELETING:
        core.activate(made)
    else:
        core.timers.set((TimerKind.ACTIVATE, successor), now + deleting.OLD_INBOUND_S)


def outstanding_rekey(sa: IkeSa, spi_in: int) -> CreateChild | None:
    """Our own exchange under way that rekeys a child SA, if there is one."""
    outstanding = sa.window.outstanding
    mine = outstanding.exchange if outstanding is not None else None
    if isinstance(mine, CreateChild) and mine.old == spi_in:
        return mine
    return None


def waits_for_answer(sa: IkeSa) -> bool:
    """Whether a child SA of our asking may be there on the other side already."""
    outstanding = sa.window.outstanding
    return outstanding is not None and isinstance(outstanding.exchange, CreateChild)


def successor_of(sa: IkeSa, child: Child) -> Child | None:
    """The child SA that replaced another one, be it by the peer during our own rekeying."""
    if child.replaced_by is None:
        mine = outstanding_rekey(sa, child.spi_in)
        if mine is not None and mine.rival is not None:
            return sa.children.get(mine.rival.spi_in)
        return None
    return sa.children.get(child.replaced_by)


def rekey_child(core: Core, sa: IkeSa, child: Child, now: float) -> None:
    """Replace a child SA, unless that is under way."""
    if child.state is ChildState.INSTALLED and sa.state is State.ESTABLISHED:
        connection = sa.connection
        theirs = child.remote_ts if connection is None else presence.wanted(sa, connection, child)
        exchange.begin(core, sa, CreateChild(child.local_ts, theirs, old=child.spi_in), now)


def create(core: Core, sa: IkeSa, now: float, *, reqid: int | None = None) -> None:
    """Ask for a new child SA with the selectors that policy allows."""
    if sa.connection is None or sa.state is not State.ESTABLISHED:
        return
    local, remote = child_sas.allowed_selectors(sa, sa.connection)
    exchange.begin(core, sa, CreateChild(local, remote, reqid=reqid), now)
