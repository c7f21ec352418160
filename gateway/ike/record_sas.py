"""When IKE SAs are recorded: once for each batch of outputs, those that changed, before it is sent.

Whatever changes an SA touches it. What was touched is encoded when the outputs are taken, and
recorded if it is not what was recorded last. IKE SAs that came of one login by rekeying are one
record: whenever we are killed, all of them are as they were at one moment.
"""

from gateway.ike import record
from gateway.ike.core import Core
from gateway.ike.outputs import Event, ForgetSa, Output, RecordSa, Severity, Transmit
from gateway.ike.sa import IkeSa


def put_first(core: Core, outputs: list[Output]) -> None:
    """Put the records of this batch before its first datagram."""
    kept = _changed(core)
    if kept:
        at = next((at for at, one in enumerate(outputs) if type(one) is Transmit), len(outputs))
        outputs[at:at] = kept


def _changed(core: Core) -> list[Output]:
    families = core.families
    touched, families.touched = families.touched, {}
    records: list[Output] = []
    others: list[Output] = []
    for family in touched:
        members = [
            sa
            for sa in families.members.get(family, {}).values()
            if core.version_of(sa).is_recorded(sa)
        ]
        if not members:
            others += _forget(core, family)
            continue
        try:
            octets = record.encode(core, family, members)
        except ValueError as wrong:
            others += [_unrecorded(core, members[0], wrong), *_forget(core, family)]
            continue
        mark = record.digest(octets)
        if mark != families.recorded.get(family):
            families.recorded[family] = mark
            records.append(RecordSa(record.key_of(family), octets))
    core.counters["ike_records_written"] += len(records)
    return records + others


def _forget(core: Core, family: bytes) -> list[Output]:
    if core.families.recorded.pop(family, None) is None:
        return []
    return [ForgetSa(record.key_of(family))]


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
