"""What is IKEv1's own in the record of an ISAKMP SA: keys, message ids, exchanges under way.

Initialization vectors of later exchanges come from the last block of phase 1 and a random message
id, so nothing counts up that could come again but the numbers of dead peer detection.
"""

from collections import deque

from gateway.domain.endpoint import Path
from gateway.ike import record_values as values
from gateway.ike.core import Core, TimerKind
from gateway.ike.record_values import Json, Record
from gateway.ike.v1 import exchange, mode_config, quick, quick_initiator, quick_responder
from gateway.ike.v1 import transaction as transactions
from gateway.ike.v1.dpd import DeadPeerDetection
from gateway.ike.v1.keys import PhaseOneKeys
from gateway.ike.v1.sa import (
    REMEMBERED_IDS,
    AuthMethod,
    Evidence,
    IkeSa,
    NatTraversal,
    Peer,
    State,
)

RECORDED = frozenset({State.ESTABLISHED, State.REPLACED})
_KINDS: dict[str, type[exchange.Phase2Exchange]] = {
    kind.in_record: kind
    for kind in (
        mode_config.Pull,
        mode_config.Push,
        quick_initiator.QuickInitiator,
        quick_responder.QuickResponder,
        transactions.Answer,
    )
}


def is_recorded(sa: IkeSa) -> bool:
    """Whether another process could go on with the SA."""
    if sa.connection is None:  # it went with the configuration; only the Delete is left
        return False
    return sa.state in RECORDED and sa.phase1 is None and sa.keys is not None


# -- writing --------------------------------------------------------------------------------


def write(sa: IkeSa) -> Record:
    """What is IKEv1's own. SKEYID and SKEYID_e have done their part."""
    if sa.keys is None:
        raise ValueError("no keys")
    peer = sa.peer
    record: Record = {
        "state": sa.state.value,
        "evidence": int(sa.evidence),
        "method": None if sa.auth_method is None else int(sa.auth_method),
        "suite": values.ike_suite(sa.suite),
        "keys": [values.octets(one) for one in (sa.keys.d, sa.keys.a, sa.cipher_key)],
        "iv": values.octets(sa.iv),
        "peer": [peer.nat_traversal.value, peer.dpd, peer.xauth, peer.unity],
        "last": [
            values.octets(sa.last_digest),
            list(map(values.octets, sa.last_sent)),
            bool(sa.retransmit_at),
        ],
        "ids": list(sa.finished_ids),
        "renewal": [sa.renewal, sa.renewing],
    }
    exchanges = [_exchange(one) for one in sa.exchanges.values() if one.in_record]
    if exchanges:
        record["exchanges"] = exchanges
    if isinstance(sa.quick, quick.Quick):
        waiting = [one.record() for one in sa.quick.waiting or ()]
        record["quick"] = [sa.quick.announced, waiting]
    if isinstance(sa.dpd, DeadPeerDetection):
        record["dpd"] = [sa.dpd.ours, sa.dpd.last_theirs]
    if sa.rekeyed_by is not None:
        record["successor"] = values.octets(sa.rekeyed_by.local_spi)
    return record


def _exchange(one: exchange.Phase2Exchange) -> Json:
    return {
        "kind": one.in_record,
        "id": one.message_id,
        "path": None if one.path is None else values.path(one.path),
        "started": one.started_at,
        "finished": one.finished_at,
        "awaits": bool(one.due),
        "octets": [
            values.octets(part) for part in (one.iv, one.taken, one.hash_lead, one.hash_prefix)
        ],
        "sent": list(map(values.octets, one.sent)),
        "own": one.record(),
    }


# -- reading --------------------------------------------------------------------------------


def read(  # noqa: PLR0917 - one fact each
    record: Record, spi_i: bytes, spi_r: bytes, initiator: bool, path: Path, now: float
) -> IkeSa:
    """The SA of :func:`write`; what refers to other SAs waits for :func:`rejoin`."""
    sa = IkeSa(spi_i, spi_r, initiator, path, now)
    sa.state = State(record["state"])
    if sa.state not in RECORDED:
        raise ValueError("a state that is never recorded")
    sa.phase1 = None
    sa.evidence = Evidence(values.number(record["evidence"], 0, 255))
    method = record["method"]
    sa.auth_method = None if method is None else AuthMethod(method)
    sa.suite = values.read_ike_suite(record["suite"])
    d, a, cipher_key = values.items(record["keys"], 3)
    sa.keys = PhaseOneKeys(b"", values.read_octets(d, 1, 64), values.read_octets(a, 1, 64), b"")
    sa.cipher_key = values.read_octets(cipher_key, 16, 32)
    sa.iv = values.read_octets(record["iv"], 8, 16)
    _read_peer(sa, record)
    sa.finished_ids = tuple(
        values.number(one, 0, 0xFFFFFFFF) for one in values.items(record["ids"], REMEMBERED_IDS)
    )
    sa.renewal, sa.renewing = map(values.flag, values.items(record["renewal"], 2))
    for one in values.items(record.get("exchanges", []), exchange.MAX_EXCHANGES * 2):
        read_one = _read_exchange(one, now)
        sa.exchanges[read_one.message_id] = read_one
    if "quick" in record:
        announced, waiting = values.items(record["quick"], 2)
        mine = quick.of(sa)
        mine.announced = values.flag(announced)
        wanted = [quick.Wanted.resumed(one) for one in values.items(waiting, quick.MAX_WAITING)]
        mine.waiting = deque(wanted) or None
    if "dpd" in record:
        ours, theirs = values.items(record["dpd"], 2)
        sa.dpd = dpd = DeadPeerDetection(values.number(ours, 0, 0xFFFFFFFF))
        dpd.last_theirs = None if theirs is None else values.number(theirs, 0, 0xFFFFFFFF)
    sa.successor_spi = values.spi(record["successor"]) if "successor" in record else b""
    return sa


def _read_peer(sa: IkeSa, record: Record) -> None:
    nat_traversal, dpd, xauth, unity = values.items(record["peer"], 4)
    sa.peer = Peer(
        NatTraversal(nat_traversal), values.flag(dpd), values.flag(xauth), values.flag(unity)
    )
    digest, sent, repeated = values.items(record["last"], 3)
    sa.last_digest = values.read_octets(digest, 0, 32)
    sa.last_sent = values.messages(sent)
    # Any time but 0 will do until the SA is back.
    sa.retransmit_at = sa.created_at or 1.0 if values.flag(repeated) and sa.last_sent else 0.0


def _read_exchange(record: Json, now: float) -> exchange.Phase2Exchange:
    kind = _KINDS[values.fields(record)["kind"]]
    message_id = values.number(record["id"], 1, 0xFFFFFFFF)
    one = kind.resumed(message_id, values.fields(record["own"]), now)
    path, finished = record["path"], record["finished"]
    one.path = None if path is None else values.read_path(path)
    one.started_at = values.time(record["started"])
    one.finished_at = None if finished is None else values.time(finished)
    one.iv, one.taken, one.hash_lead, one.hash_prefix = (
        values.read_octets(part, 0, 1024) for part in values.items(record["octets"], 4)
    )
    one.sent = values.messages(record["sent"])
    one.due = now or 1.0 if values.flag(record["awaits"]) and one.sent else 0.0
    return one


def rejoin(core: Core, sa: IkeSa, now: float) -> None:
    """Find the other SAs that it refers to; send again what waits for an answer."""
    successor = core.sas.get(sa.successor_spi)
    if isinstance(successor, IkeSa) and successor is not sa:
        sa.rekeyed_by = successor
    elif sa.successor_spi:
        core.touch(sa)
    sa.successor_spi = b""
    for one in sa.exchanges.values():
        one.rejoin(core, sa)
    if sa.retransmit_at:
        sa.retransmit_at = now
    exchange.arm(core, sa)
    if sa.renewing and sa.state is State.ESTABLISHED:
        # The phase 1 that was under way is lost. The peer may have moved to it, and will delete
        # this SA with its children unless another one comes before.
        core.touch(sa)
        core.timers.set((TimerKind.REKEY_IKE, sa.local_spi), now + core.fraction())
