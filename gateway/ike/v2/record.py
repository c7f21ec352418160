"""What is IKEv2's own in the record of an IKE SA: keys, window, the exchange under way."""

from collections import deque

from gateway.domain.endpoint import Path
from gateway.ike import record_values as values
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto.sk import MAX_SEALED, SkCipher
from gateway.ike.crypto.suites import IkeSuite
from gateway.ike.record_values import Json, Record
from gateway.ike.registry import DhGroup
from gateway.ike.v2 import (
    deleting,
    exchange,
    followup,
    informational,
    mobike,
    rekey,
    rekey_ike,
    rekey_ike_answer,
)
from gateway.ike.v2.sa import Evidence, IkeSa, State
from gateway.ike.v2.window import LAST_MESSAGE_ID, Outstanding, Window

RECORDED = frozenset({State.ESTABLISHED, State.REKEYED, State.DELETING})
IV_MARGIN = 1 << 16
"""IVs that a new process leaves out, should the last record have been lost: there are 2^63."""
_KINDS: dict[str, type[exchange.Exchange]] = {
    kind.in_record: kind
    for kind in (
        deleting.DeleteChild,
        deleting.DeleteIkeSa,
        followup.FollowupKe,
        informational.LivenessCheck,
        mobike.ReturnRoutability,
        mobike.UpdateAddresses,
        rekey.CreateChild,
        rekey_ike.RekeyIke,
    )
}


def is_recorded(sa: IkeSa) -> bool:
    """Whether another process could go on with the SA."""
    if sa.connection is None:  # it went with the configuration; only the Delete is left
        return False
    return sa.state in RECORDED and sa.handshake is None and sa.cipher_out is not None


# -- writing --------------------------------------------------------------------------------


def write(sa: IkeSa) -> Record:
    """What is IKEv2's own."""
    cipher_in, cipher_out = sa.cipher_in, sa.cipher_out
    if cipher_in is None or cipher_out is None:
        raise ValueError("no keys")
    window = sa.window
    record: Record = {
        "state": sa.state.value,
        "evidence": int(sa.evidence),
        "suite": values.ike_suite(sa.suite),
        "d": values.octets(sa.sk_d),
        "in": list(map(values.octets, cipher_in.keys)),
        "out": list(map(values.octets, cipher_out.keys)),
        "sealed": cipher_out.sealed,
        "ids": [window.next_request, window.expected],
        "answer": [values.octets(window.digest), list(map(values.octets, window.responses))],
    }
    outstanding = window.outstanding
    if outstanding is not None:
        messages = list(map(values.octets, outstanding.messages))
        record["asking"] = [messages, _exchange(outstanding.exchange)]
    if sa.exchanges:
        record["waiting"] = [_exchange(one) for one in sa.exchanges]
    if sa.rekeyed_by is not None:
        record["successor"] = values.octets(sa.rekeyed_by.local_spi)
    if sa.login_again_at is not None:
        record["login"] = sa.login_again_at
    if sa.mobike_state is not None:
        state = sa.mobike_state
        record["mobike"] = [
            list(map(values.octets, state.additional)),
            values.octets(state.mapping),
        ]
    if sa.followup is not None:
        record["followup"] = _followup(sa.followup)
    return record


def _exchange(one: exchange.Exchange) -> Json:
    if not one.in_record:
        raise ValueError(f"{one.name} is under way")
    return [one.in_record, one.record()]


def _followup(state: followup.Followup) -> Json:
    return [
        values.octets(state.link),
        [int(group) for group in state.pending],
        state.until,
        values.octets(state.secrets),
        state.awaited.record(),
    ]


# -- reading --------------------------------------------------------------------------------


def read(  # noqa: PLR0917 - one fact each
    record: Record, spi_i: bytes, spi_r: bytes, initiator: bool, path: Path, now: float
) -> IkeSa:
    """The SA of :func:`write`; what refers to other SAs waits for :func:`rejoin`."""
    sa = IkeSa(spi_i, spi_r, initiator, path, now)
    sa.state = State(record["state"])
    if sa.state not in RECORDED:
        raise ValueError("a state that is never recorded")
    sa.handshake = None
    sa.evidence = Evidence(values.number(record["evidence"], 0, 255))
    sa.suite = values.read_ike_suite(record["suite"])
    sa.sk_d = values.read_octets(record["d"], 1, 64)
    sa.cipher_in = _cipher(sa.suite, record["in"])
    sa.cipher_out = _cipher(sa.suite, record["out"])
    sealed = values.number(record["sealed"], 0, MAX_SEALED)
    sa.cipher_out.go_on(min(sealed + IV_MARGIN, MAX_SEALED))
    _read_window(sa, record)
    sa.exchanges = _read_waiting(record)
    sa.successor_spi = values.spi(record["successor"]) if "successor" in record else b""
    if "login" in record:
        sa.login_again_at = values.time(record["login"])
    if "mobike" in record:
        additional, mapping = values.items(record["mobike"], 2)
        sa.mobike_state = mobike.MobikeState(
            tuple(
                values.read_octets(one, 4, 16)
                for one in values.items(additional, mobike.MAX_ADDITIONAL_ADDRESSES)
            ),
            values.read_octets(mapping, 0, 64),
        )
    if "followup" in record:
        sa.followup = _read_followup(record["followup"])
    return sa


def _cipher(suite: IkeSuite, keys: Json) -> SkCipher:
    encryption, integrity = values.items(keys, 2)
    return SkCipher(
        suite.encr,
        suite.key_bits,
        suite.integ,
        values.read_octets(encryption, 1, 128),
        values.read_octets(integrity, 0, 128),
    )


def _read_window(sa: IkeSa, record: Record) -> None:
    next_request, expected = values.items(record["ids"], 2)
    digest, responses = values.items(record["answer"], 2)
    sa.window = Window.resumed(
        values.number(next_request, 0, LAST_MESSAGE_ID),
        values.number(expected, 0, LAST_MESSAGE_ID + 1),
        values.messages(responses),
        values.read_octets(digest, 0, 32),
    )
    if "asking" in record:
        messages, one = values.items(record["asking"], 2)
        if not sa.window.next_request:
            raise ValueError("a request without a number")
        sent = values.messages(messages)
        if not sent:
            raise ValueError("a request without a message")
        sa.window.outstanding = Outstanding(_read_exchange(one), sent)


def _read_waiting(record: Record) -> "deque[exchange.Exchange] | None":
    if "waiting" not in record:
        return None
    return deque(map(_read_exchange, values.items(record["waiting"], exchange.MAX_QUEUED)))


def _read_exchange(record: Json) -> exchange.Exchange:
    kind, own = values.items(record, 2)
    return _KINDS[kind].resumed(values.fields(own))


def _read_followup(record: Json) -> followup.Followup:
    link, pending, until, secrets, awaited = values.items(record, 5)
    methods = [DhGroup(group) for group in values.items(pending, followup.MAX_METHODS)]
    if not methods:
        raise ValueError("no key exchange is left")
    return followup.Followup(
        values.read_octets(link, 1, followup.MAX_LINK_OCTETS),
        methods,
        rekey_ike_answer.AwaitedIke.resumed(values.fields(awaited)),
        values.time(until),
        values.read_octets(secrets),
    )


def rejoin(core: Core, sa: IkeSa, now: float) -> None:
    """Find the other SAs that it refers to, and go on with what was under way."""
    successor = core.sas.get(sa.successor_spi)
    if isinstance(successor, IkeSa) and successor is not sa:
        sa.rekeyed_by = successor
    elif sa.successor_spi:
        core.touch(sa)
    sa.successor_spi = b""
    login = (TimerKind.REAUTHENTICATE, sa.local_spi)
    if login in core.timers:
        # A login that was under way is lost.
        core.touch(sa)
        core.timers.set(login, max(sa.login_again_at or now, now))
    outstanding = sa.window.outstanding
    if outstanding is not None:
        outstanding.exchange.rejoin(core, sa)
        exchange.resume(core, sa, now)
    elif sa.exchanges:
        exchange.continue_with_next(core, sa, now)
