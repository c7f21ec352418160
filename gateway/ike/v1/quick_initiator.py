"""Quick mode as the initiator (RFC 2409 section 5.5): new child SAs, and successors of old ones."""

import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from gateway.domain.child_sa import ANY_IPV4, Mode
from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike import closing, draft_features, selectors
from gateway.ike import record_values as values
from gateway.ike.child_sas import Agreed
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto import dh
from gateway.ike.draft_features import Features
from gateway.ike.record_values import Record
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import NotifyType as Reason
from gateway.ike.sa import Child, ChildState
from gateway.ike.v1 import esp_offers, exchange, phase1, quick, quick_ids, transport_mode
from gateway.ike.v1.codec import (
    ExchangeType,
    Identification,
    KeyExchange,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    SecurityAssociation,
    describe_notify,
    find,
    find_all,
)
from gateway.ike.v1.esp_transforms import Meant
from gateway.ike.v1.quick import Wanted
from gateway.ike.v1.sa import IkeSa, State

STEP = "quick mode"
MANY_TRIES = 3
"""After more transmissions than these, silence is worth a report."""
CROSSED_S = 10.0
"""A rekeying waits this long when the peer is making a successor already."""


class QuickInitiator(exchange.Phase2Exchange):
    """Our quick mode, waiting for message 2."""

    __slots__ = ("asked", "key_pair", "nonce", "offered", "spi_in", "wanted")
    name = STEP
    exchange_type = ExchangeType.QUICK
    in_record = "quick"

    def __init__(self, message_id: int, wanted: Wanted, now: float) -> None:
        super().__init__(message_id, initiator=True, now=now)
        self.wanted = wanted
        self.spi_in = 0
        self.nonce = b""
        self.key_pair: dh.DhKeyPair | None = None
        self.offered: frozenset[Meant] = frozenset()
        self.asked = Features()

    def receive(
        self, core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float
    ) -> None:
        """Message 2: take the child SA into use and say so."""
        del path
        try:
            made = self._install(core, sa, list(payloads), now)
        except WireError as malformed:
            core.count("malformed_messages")
            refused = Refused(Reason.INVALID_SYNTAX, f"the peer's answer is malformed: {malformed}")
            self._fail(core, sa, refused, now, tell=True)
            return
        except Refused as refused:
            self._fail(core, sa, refused, now, tell=True)
            return
        exchange.finish(core, sa, self, now)
        _conclude(core, sa, made, now)
        start_waiting(core, sa, now)

    def _install(self, core: Core, sa: IkeSa, payloads: list[Payload], now: float) -> Child:
        """Check the answer, send message 3. Raises Refused or WireError."""
        connection = sa.connection
        if connection is None or sa.state is not State.ESTABLISHED:
            raise Refused(Reason.NO_ADDITIONAL_SAS, "the SA was replaced meanwhile")
        chosen = esp_offers.check_selected(
            sa, self.offered, phase1.need(payloads, SecurityAssociation)
        )
        nonce = phase1.need(payloads, Nonce).data
        self._check_ids(find_all(payloads, Identification))
        features = draft_features.agreed(connection, self.asked, chosen.meant.features)
        shared = self._shared(find(payloads, KeyExchange))
        lives = [one for one in (chosen.life_s, quick.responder_lifetime(payloads)) if one]
        made = Agreed(
            self.spi_in,
            chosen.spi_out,
            chosen.meant.suite,
            chosen.meant.group,
            quick_ids.installed(sa, connection, self.wanted.local_ts),
            (self.wanted.remote_ts,),
            features.endpoint_update,
            features.vpn_fa,
            connection.mode,
        )
        keys_of = quick.child_keys(sa, made, self.nonce, nonce, shared)
        old = sa.children.get(self.wanted.old or 0)
        reqid = old.reqid if old is not None else self.wanted.reqid
        life_s = min(lives) if lives else None
        # Some responders take packets on the new child SA only once they have message 3.
        fresh = not quick.siblings(sa, made.local_ts, made.remote_ts)
        child = quick.install(core, sa, made, keys_of, life_s, now, reqid=reqid, outbound=fresh)
        if not fresh:
            core.timers.set((TimerKind.ACTIVATE, child.spi_in), now + quick.ACTIVATE_S)
        exchange.send(
            core,
            sa,
            self,
            [],
            now,
            hash_lead=b"\0",
            hash_prefix=self.nonce + nonce,
            expect_answer=False,
        )
        return child

    def _check_ids(self, ids: list[Identification]) -> None:
        """IKEv1 does not narrow: the responder repeats our IDs, or leaves them out."""
        if not ids:
            return
        ours = [
            quick_ids.from_selector(self.wanted.local_ts),
            quick_ids.from_selector(self.wanted.remote_ts),
        ]
        if [quick_ids.to_selector(one) for one in ids] != [
            quick_ids.to_selector(one) for one in ours
        ]:
            raise Refused(
                Reason.TS_UNACCEPTABLE, "the peer answered with other selectors than we offered"
            )

    def _shared(self, theirs: KeyExchange | None) -> bytes:
        if self.key_pair is None:
            if theirs is not None:
                raise WireError("a key exchange that was not asked for")
            return b""
        if theirs is None:
            raise WireError("KeyExchange payload is missing")
        try:
            return self.key_pair.shared_secret(theirs.data)
        except dh.InvalidKeyExchange as invalid:
            raise WireError(f"key exchange value refused: {invalid}") from None

    def record(self) -> Record:
        """What message 2 is judged by; what was offered follows from it."""
        record: Record = {
            "wanted": self.wanted.record(),
            "spi": self.spi_in,
            "nonce": values.octets(self.nonce),
            "asked": [self.asked.endpoint_update, self.asked.vpn_fa],
        }
        if self.key_pair is not None:
            record["key"] = [int(self.key_pair.group), values.octets(self.key_pair.private)]
        return record

    @classmethod
    def resumed(cls, message_id: int, record: Record, now: float) -> Self:
        """As from :meth:`record`."""
        mine = cls(message_id, Wanted.resumed(record["wanted"]), now)
        mine.spi_in = values.child_spi(record["spi"])
        mine.nonce = values.read_octets(record["nonce"], 0, 256)
        endpoint_update, vpn_fa = values.items(record["asked"], 2)
        mine.asked = Features(values.flag(endpoint_update), values.flag(vpn_fa))
        if "key" in record:
            group, private = values.items(record["key"], 2)
            mine.key_pair = dh.resume(group, values.read_octets(private))
        return mine

    def rejoin(self, core: Core, sa: IkeSa) -> None:
        """Offer again what was offered, in thought: the connection says what that was."""
        del core
        group = None if self.key_pair is None else self.key_pair.group
        if sa.connection is not None:
            with contextlib.suppress(Refused):
                _, self.offered = esp_offers.to_payload(
                    sa, sa.connection, self.spi_in, group, self.asked
                )

    def refused_by_peer(self, core: Core, sa: IkeSa, notify: Notify, now: float) -> None:
        """The peer said no, in an informational exchange."""
        connection = sa.connection
        if (
            notify.type in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_KEY_INFORMATION)
            and self.key_pair is not None
            and connection is not None
            and esp_offers.pfs_group(connection.esp_offer, preferred=False) is None
        ):
            exchange.forget(core, sa, self)
            _release_old(sa, self.wanted)
            begin(core, sa, replace(self.wanted, pfs=False), now)
            return
        refused = Refused(
            Reason.NO_PROPOSAL_CHOSEN,
            f"the peer answered {describe_notify(notify.type)}",
            "compare proposals, PFS and selectors of both sides; see the peer's log",
            ours=f"{selectors.text(self.wanted.local_ts)} ==="
            f" {selectors.text(self.wanted.remote_ts)},"
            f" {connection.esp_offer if connection is not None else ''}",
        )
        self._fail(core, sa, refused, now, tell=False)

    def _fail(self, core: Core, sa: IkeSa, refused: Refused, now: float, *, tell: bool) -> None:
        if tell:
            quick.refuse(core, sa, refused, self.spi_in.to_bytes(4, "big"))
        exchange.forget(core, sa, self)
        _failed(core, sa, self.wanted, refused, now)
        start_waiting(core, sa, now)

    def unanswered(self, core: Core, sa: IkeSa, now: float) -> None:
        """The peer is gone, or says nothing where it refuses."""
        self._report_silence(core, sa)
        reason = f"peer does not answer ({self.name})"
        hint = "many IKEv1 peers refuse in silence: compare proposals, PFS and selectors"
        closing.close(core, sa, reason, now, refused=False, hint=hint)

    def abandoned(self, core: Core, sa: IkeSa, now: float) -> None:
        """The SA goes, be it because it has no child SA for too long."""
        del now
        if self.tries > MANY_TRIES and self.due:
            self._report_silence(core, sa)

    @staticmethod
    def _report_silence(core: Core, sa: IkeSa) -> None:
        if sa.children:
            return
        refused = Refused(
            Reason.NO_PROPOSAL_CHOSEN,
            "the peer does not answer quick mode",
            "many IKEv1 peers refuse in silence: compare proposals, PFS and selectors",
        )
        _report(core, sa, refused)


def begin(core: Core, sa: IkeSa, wanted: Wanted, now: float) -> None:
    """Start a quick mode, or queue it behind others."""
    if sa.state is not State.ESTABLISHED or sa.connection is None:
        return
    if quick.under_way(sa, initiator=True) >= quick.MAX_QUICK_MODES:
        mine = quick.of(sa)
        if mine.waiting is None:
            mine.waiting = deque()
        if len(mine.waiting) < quick.MAX_WAITING:
            mine.waiting.append(wanted)
            core.touch(sa)
        else:
            core.count("exchanges_not_queued")
        return
    try:
        _start(core, sa, wanted, now)
    except Refused as refused:
        _failed(core, sa, wanted, refused, now)


def start_waiting(core: Core, sa: IkeSa, now: float) -> None:
    """Start what waits, as far as the limit goes."""
    mine = quick.of(sa)
    while mine.waiting and quick.under_way(sa, initiator=True) < quick.MAX_QUICK_MODES:
        begin(core, sa, mine.waiting.popleft(), now)
    if not mine.waiting:
        mine.waiting = None


def _start(core: Core, sa: IkeSa, asked_for: Wanted, now: float) -> None:
    """Send message 1. Raises Refused."""
    connection = sa.connection
    if connection is None:
        return
    old = sa.children.get(asked_for.old) if asked_for.old is not None else None
    if asked_for.old is not None and (old is None or old.state is not ChildState.INSTALLED):
        return
    local, remote = asked_for.local_ts, asked_for.remote_ts
    ids = [quick_ids.from_selector(local), quick_ids.from_selector(remote)]
    mine = QuickInitiator(exchange.new_message_id(core, sa), asked_for, now)
    if connection.mode is Mode.TUNNEL:
        mine.asked = draft_features.wanted(sa, connection, (local,), (remote,))
    group = esp_offers.pfs_group(connection.esp_offer, preferred=asked_for.pfs)
    mine.spi_in = core.new_child_spi()
    offer, mine.offered = esp_offers.to_payload(sa, connection, mine.spi_in, group, mine.asked)
    if not exchange.add(sa, mine):
        core.count("exchanges_too_many")
        if old is not None:
            core.timers.set((TimerKind.REKEY_CHILD, old.spi_in), now + CROSSED_S)
        return
    if old is not None:
        old.state = ChildState.REKEYING
    mine.nonce = mine.hash_prefix = core.random(quick.NONCE_OCTETS)
    payloads: list[Payload] = [offer, Nonce(mine.nonce)]
    if group is not None:
        mine.key_pair = dh.generate(group)
        payloads.append(KeyExchange(mine.key_pair.public))
    originals = transport_mode.original_addresses(sa, connection, initiator=True)
    exchange.send(core, sa, mine, [*payloads, *ids, *originals], now)


def _conclude(core: Core, sa: IkeSa, made: Child, now: float) -> None:
    """The child SA is in use: whatever had its selectors goes."""
    olds = [one for one in quick.siblings(sa, made.local_ts, made.remote_ts) if one is not made]
    quick.succeed(core, olds, made, quick.RETIRE_S, now)
    quick.announce(core, sa, made, now)


def _release_old(sa: IkeSa, wanted: Wanted) -> Child | None:
    """The child SA that was being replaced stays in use."""
    old = sa.children.get(wanted.old) if wanted.old is not None else None
    if old is not None and old.state is ChildState.REKEYING:
        old.state = ChildState.INSTALLED
        return old
    return None


def _failed(core: Core, sa: IkeSa, wanted: Wanted, refused: Refused, now: float) -> None:
    """Report it; a rekeying is tried again later, an SA without children is of no use."""
    core.count("quick_modes_failed")
    _report(core, sa, refused)
    old = _release_old(sa, wanted)
    if old is not None:
        core.timers.set((TimerKind.REKEY_CHILD, old.spi_in), now + quick.REFUSED_RETRY_S)
    elif not sa.children and not quick.under_way(sa, initiator=True):
        core.version_of(sa).delete_ike_sa(core, sa, refused.reason, now)


def _report(core: Core, sa: IkeSa, refused: Refused) -> None:
    report_refusal(
        core, refused, sa.peer_name, sa.path.remote, STEP, connection=sa.connection_name, sa=sa
    )


def rekey(core: Core, sa: IkeSa, child: Child, now: float) -> None:
    """Replace a child SA, unless that is under way; what cannot be done now is done later."""
    if child.state is not ChildState.INSTALLED or sa.state is not State.ESTABLISHED:
        return
    if not child.outbound_active:
        taken_into_use = core.timers.deadline((TimerKind.ACTIVATE, child.spi_in))
        if taken_into_use is not None:
            # We made it a moment ago, and nobody asks twice: neither people nor the dataplane.
            _rekey_at(core, sa, child, taken_into_use)
        return
    if any(
        not other.outbound_active
        and (other.local_ts, other.remote_ts) == (child.local_ts, child.remote_ts)
        for other in sa.children.values()
    ):
        # The peer's own rekeying is not over; if it comes to nothing, ours follows.
        _rekey_at(core, sa, child, now + CROSSED_S)
        return
    # Several selectors are what a client with Unity got where it named everything.
    local = child.local_ts[0] if len(child.local_ts) == 1 else ANY_IPV4
    begin(core, sa, Wanted(local, child.remote_ts[0], old=child.spi_in), now)


def _rekey_at(core: Core, sa: IkeSa, child: Child, at: float) -> None:
    core.timers.set((TimerKind.REKEY_CHILD, child.spi_in), at)
    core.touch(sa)
