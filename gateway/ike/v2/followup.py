"""IKE_FOLLOWUP_KE: additional key exchanges when an IKE SA is rekeyed (RFC 9370 section 2.2.4).

The new SA has no keys before the last of them, so each exchange is protected by the old SA and
tied to the CREATE_CHILD_SA before it by a link that the responder chose.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from gateway.domain.wire import WireError
from gateway.ike import record_values as values
from gateway.ike.codec import KeyExchange, Notify, Payload
from gateway.ike.core import Core
from gateway.ike.crypto import dh
from gateway.ike.crypto.dh import DhKeyPair
from gateway.ike.record_values import Record
from gateway.ike.refusal import Refused
from gateway.ike.registry import DhGroup, ExchangeType, NotifyType
from gateway.ike.v2 import exchange
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.view import Payloads, Request

LINK_OCTETS = 16
MAX_LINK_OCTETS = 256
"""Of a link that the peer chose."""
MAX_METHODS = 7
"""Additional key exchanges of one rekeying (RFC 9370)."""
FOLLOWUP_S = 30.0
"""The responder forgets a rekeying whose next exchange does not come within this."""


class Awaited(Protocol):
    """Responder: a rekeying that goes on when all additional key exchanges are done."""

    def complete(self, core: Core, sa: IkeSa, additional: bytes, now: float) -> None:
        """``additional``: all additional secrets, one after the other."""

    def record(self) -> Record:
        """To go on in another process."""


class Rekeying(Protocol):
    """Requester: the same."""

    def complete(self, core: Core, sa: IkeSa, additional: bytes, now: float) -> None:
        """``additional``: all additional secrets, one after the other."""

    def followup_refused(self, core: Core, sa: IkeSa, error: Notify, now: float) -> None:
        """The peer refused an additional key exchange."""

    def rejoin(self, core: Core, sa: IkeSa) -> None:
        """See :meth:`exchange.Exchange.rejoin`."""

    def record(self) -> Record:
        """To go on in another process."""


@dataclass(slots=True)
class Followup:
    """Responder: a rekeying that waits for additional key exchanges."""

    link: bytes
    pending: list[DhGroup]
    awaited: Awaited
    until: float
    secrets: bytes = b""


def is_waiting(sa: IkeSa, now: float) -> bool:
    """Whether the peer is in the middle of rekeying this IKE SA."""
    if sa.followup is not None and now >= sa.followup.until:
        sa.followup = None
    return sa.followup is not None


def expect(
    core: Core,
    sa: IkeSa,
    methods: Sequence[DhGroup],
    awaited: Awaited,
    now: float,
) -> Notify:
    """Wait for additional key exchanges; returns the link for the CREATE_CHILD_SA response."""
    link = core.random(LINK_OCTETS)
    sa.followup = Followup(link, list(methods), awaited, now + FOLLOWUP_S)
    return Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, link)


def receive_request(core: Core, sa: IkeSa, request: Request) -> None:
    """Answer the next additional key exchange of a rekeying. Raises WireError."""
    try:
        reply, finished = _answer(core, sa, request)
    except Refused as refused:
        core.count("followups_refused")
        exchange.respond(core, sa, request, [refused.notify()])
        return
    exchange.respond(core, sa, request, reply)
    if finished is not None:
        finished.awaited.complete(core, sa, finished.secrets, request.now)


def _answer(core: Core, sa: IkeSa, request: Request) -> tuple[list[Payload], Followup | None]:
    theirs = request.view.need(KeyExchange)
    shown = request.view.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    state = sa.followup if is_waiting(sa, request.now) else None
    if state is None or shown is None or not hmac.compare_digest(shown.data, state.link):
        raise Refused(NotifyType.STATE_NOT_FOUND, "no rekeying waits for this exchange")
    wanted = state.pending[0]
    if theirs.group != wanted:
        raise Refused(NotifyType.INVALID_SYNTAX, f"key exchange of group {theirs.group}")
    try:
        public, shared = dh.respond(wanted, theirs.data)
    except dh.InvalidKeyExchange as invalid:
        raise Refused(NotifyType.INVALID_SYNTAX, f"key exchange value refused: {invalid}") from None
    state.pending.pop(0)
    state.secrets += shared
    state.until = request.now + FOLLOWUP_S
    reply: list[Payload] = [KeyExchange(wanted, public)]
    core.count("additional_key_exchanges")
    if not state.pending:
        sa.followup = None
        return reply, state
    state.link = core.random(LINK_OCTETS)
    reply.append(Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, state.link))
    return reply, None


class FollowupKe(exchange.Exchange):
    """One additional key exchange of our own rekeying."""

    __slots__ = ("_link", "_pair", "_pending", "_secrets", "rekeying")
    name = "IKE_FOLLOWUP_KE"
    exchange_type = ExchangeType.IKE_FOLLOWUP_KE
    in_record = "followup"

    def __init__(
        self,
        link: bytes,
        pending: Sequence[DhGroup],
        rekeying: Rekeying,
        secrets: bytes = b"",
    ) -> None:
        self._link = link
        self._pending = tuple(pending)
        self._secrets = secrets
        self._pair: DhKeyPair | None = None
        self.rekeying = rekeying

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """KEi of the next method and the link."""
        del core, now
        if not sa.established:
            return None
        self._pair = dh.generate(self._pending[0])
        return [
            KeyExchange(self._pair.group, self._pair.public),
            Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, self._link),
        ]

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """Take KEr; go on with the next method, or finish the rekeying."""
        error = view.error()
        if error is not None:
            self.rekeying.followup_refused(core, sa, error, now)
            return
        theirs = view.need(KeyExchange)
        if self._pair is None or theirs.group != self._pair.group:
            raise WireError("the peer answered with another key exchange method")
        try:
            secrets = self._secrets + self._pair.shared_secret(theirs.data)
        except dh.InvalidKeyExchange as invalid:
            raise WireError(f"key exchange value refused: {invalid}") from None
        core.count("additional_key_exchanges")
        left = self._pending[1:]
        if not left:
            self.rekeying.complete(core, sa, secrets, now)
            return
        following = FollowupKe(link_of(view), left, self.rekeying, secrets)
        exchange.begin(core, sa, following, now)

    def rejoin(self, core: Core, sa: IkeSa) -> None:
        """So does the rekeying."""
        self.rekeying.rejoin(core, sa)

    def record(self) -> Record:
        """The rekeying, how far it is, and our private key."""
        record: Record = {
            "link": values.octets(self._link),
            "pending": [int(group) for group in self._pending],
            "secrets": values.octets(self._secrets),
            "rekeying": self.rekeying.record(),
        }
        if self._pair is not None:
            record["key"] = [int(self._pair.group), values.octets(self._pair.private)]
        return record

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        from gateway.ike.v2.rekey_ike import RekeyIke  # noqa: PLC0415 - it needs this module

        following = cls(
            values.read_octets(record["link"], 1, MAX_LINK_OCTETS),
            [DhGroup(group) for group in values.items(record["pending"], MAX_METHODS)],
            RekeyIke.resumed(values.fields(record["rekeying"])),
            values.read_octets(record["secrets"]),
        )
        if not following._pending:
            raise ValueError("no key exchange is left")
        if "key" in record:
            group, private = values.items(record["key"], 2)
            following._pair = dh.resume(group, values.read_octets(private))
        return following


def link_of(view: Payloads) -> bytes:
    """The link to the next exchange. Raises WireError when it is missing or too large."""
    notify = view.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    if notify is None or not 1 <= len(notify.data) <= MAX_LINK_OCTETS:
        raise WireError("additional key exchanges without a usable link")
    return notify.data
