"""When IKE SAs are recorded: once for each batch of outputs, those that changed, before it is sent.

Whatever changes an SA touches it. What was touched is encoded when the outputs are taken, and
recorded if it is not what was recorded last.
"""

from gateway.ike import record
from gateway.ike.core import Core
from gateway.ike.outputs import Event, ForgetSa, Output, RecordSa, Severity, Transmit
from gateway.ike.sa import IkeSa


def put_first(core: Core, outputs: list[Output]) -> None:
    """Put the records of this batch before its first datagram."""
    kept = _changed(core)
    if not kept:
        return
    at = next((at for at, one in enumerate(outputs) if type(one) is Transmit), len(outputs))
    outputs[at:at] = kept


def _changed(core: Core) -> list[Output]:
    touched, core.touched = core.touched, {}
    records: list[tuple[float, RecordSa]] = []
    others: list[Output] = []
    for sa in touched.values():
        if core.sas.get(sa.local_spi) is sa and core.version_of(sa).is_recorded(sa):
            try:
                octets = record.encode(core, sa)
            except ValueError as wrong:
                others.append(_unrecorded(core, sa, wrong))
                others += _forget(sa)
                continue
            mark = record.digest(octets)
            if mark != sa.recorded:
                sa.recorded = mark
                records.append((sa.created_at, RecordSa(record.key_of(sa), octets)))
        else:
            others += _forget(sa)
    # The newest first. Should we be killed between two records, a successor has what its
    # predecessor still has, and it shows: ``restoring`` goes on with the predecessor.
    records.sort(key=lambda one: one[0], reverse=True)
    core.counters["ike_sas_recorded"] += len(records)
    return [*(one for _, one in records), *others]


def _forget(sa: IkeSa) -> list[Output]:
    if not sa.recorded:
        return []
    sa.recorded = b""
    return [ForgetSa(record.key_of(sa))]


def _unrecorded(core: Core, sa: IkeSa, wrong: ValueError) -> Output:
    core.count("ike_sas_unrecorded")
    return Event(
        "ike_sa_unrecorded",
        f"IKE SA of {sa.peer_name} ({sa.connection_name}) would not survive a restart: {wrong}",
        Severity.WARNING,
        {
            "peer": sa.peer_name,
            "connection": sa.connection_name,
            "spis": sa.spis,
            "session": sa.session_id,
            "reason": str(wrong),
        },
    )
