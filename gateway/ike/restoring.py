"""IKE SAs of a former process live on: from their records, and beside what the kernel still has."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.ike import access, child_sas, client, closing, commands, record, record_policy
from gateway.ike.core import Core, TimerKind
from gateway.ike.outputs import ForgetSa, InstallChildSa, SessionOpened, Severity
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.sa import ChildState, IkeSa

SETTLE_S = 3.0
"""A child SA that the kernel lost is replaced after this: what the peer had under way when we were
killed, it sends again before, and most of it settles the matter."""
_NO_CONNECTION: tuple[ConnectionPolicy | None, bytes] = (None, b"")


@dataclass(frozen=True, slots=True)
class DroppedRecord:
    """A record that no IKE SA came of, or only one that ends at once."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of the records."""

    ike_sas: int
    """How many live on."""
    children: tuple[InstallChildSa, ...]
    """Child SAs to take over from the kernel, which has their keys: here they are empty."""
    dropped: tuple[DroppedRecord, ...]


class _Restoring:
    """One go; connections and fingerprints are looked up once."""

    def __init__(self, core: Core, now: float) -> None:
        self.core = core
        self.now = now
        self.kept: list[record.Found] = []
        self.dropped: list[DroppedRecord] = []
        self._connections: dict[tuple[str, str], tuple[ConnectionPolicy | None, bytes]] = {}

    def drop(self, key: str, reason: str) -> None:
        """A record is of no use."""
        self.dropped.append(DroppedRecord(key, reason))
        self.core.outputs.append(ForgetSa(key))

    def connection_of(self, found: record.Found) -> tuple[ConnectionPolicy | None, bytes]:
        """The connection as the SA's profile has it, and its fingerprint."""
        key = (found.connection, found.sa.profile)
        known = self._connections.get(key)
        if known is None:
            policy = commands.profiled(self.core.connections.get(found.connection), key[1])
            known = (
                _NO_CONNECTION if policy is None else (policy, record_policy.fingerprint(policy))
            )
            self._connections[key] = known
        return known


def restore(core: Core, records: Mapping[str, bytes], now: float) -> Restored:
    """Go on with the IKE SAs of a former process; see :meth:`IkeEngine.restore`."""
    going = _Restoring(core, now)
    for family in _decoded(going, records):
        wrong = _conflict(core, family)
        if wrong is None:
            _enter(core, family)
            going.kept += family.sas
        else:
            going.drop(family.key, wrong)
    ending = [(found, wrong) for found in going.kept if (wrong := _misfit(going, found))]
    lost = {id(found) for found, _ in ending}
    for found in going.kept:
        _resume(core, found, now)
        if id(found) not in lost and found.sa.children and not found.sa.replaced:
            access.grant(core, found.sa)
    for found, wrong in ending:
        # Told as ever: the peer by a Delete, whoever accounts for the session by its end.
        going.dropped.append(DroppedRecord(record.key_of(found.sa.family), wrong))
        core.version_of(found.sa).delete_ike_sa(core, found.sa, wrong, now)
    alive = [found.sa for found in going.kept if id(found) not in lost]
    _report(core, len(alive), going.dropped)
    children = tuple(one for sa in alive if not sa.closed for one in _children(sa))
    return Restored(len(alive), children, tuple(going.dropped))


def _decoded(going: _Restoring, records: Mapping[str, bytes]) -> list[record.Family]:
    """What the records hold, the oldest first."""
    families = []
    for key, octets in records.items():
        try:
            families.append(record.decode(going.core, key, octets, going.now))
        except record.UnusableRecord as wrong:
            going.drop(key, str(wrong))
            going.core.count("ike_records_unusable")
            going.core.emit(
                "ike_record_unusable",
                f"a record of IKE SAs ({key[:32]!r}) is of no use: {wrong}; their peer has to log"
                " in again",
                Severity.WARNING,
                record=key[:32],
                reason=str(wrong),
            )
    families.sort(key=lambda one: one.sas[0].sa.created_at)
    return families


def _conflict(core: Core, family: record.Family) -> str | None:
    """Why IKE SAs cannot be beside those that are there already, or None.

    We may have been killed when an older login still had what this one took over: nothing was
    sent since then, so the older one goes on.
    """
    for found in family.sas:
        if found.sa.local_spi in core.sas:
            return "an IKE SA has its SPI"
        if any(spi_in in core.children for spi_in in found.sa.children):
            return "an older IKE SA has its child SAs"
    spis_in = [spi_in for found in family.sas for spi_in in found.sa.children]
    if len(set(spis_in)) != len(spis_in):
        return "two IKE SAs have the same child SA"
    return None


def _enter(core: Core, family: record.Family) -> None:
    """Enter them into the tables, with their timers."""
    for found in family.sas:
        sa = found.sa
        core.add_sa(sa)
        core.add_peer(sa)
        if not sa.session_initiator:
            core.own_addresses.add(sa.path.local.address)
        for child in list(sa.children.values()):
            core.add_child(sa, child)
        for key, at in found.timers:
            core.timers.set(key, at)
        for reqid in found.trapped:
            core.trap_reqids[found.connection] = reqid
        # The record is good until something new happens.
        core.families.recorded[sa.family] = family.mark
        core.families.touched.pop(sa.family, None)


def _misfit(going: _Restoring, found: record.Found) -> str | None:
    """Find the SA's connection and its inner address; why it must not live on, or None.

    The same questions as when the configuration changes (see ``commands.reconfigure``).
    """
    core, sa = going.core, found.sa
    connection, fingerprint = going.connection_of(found)
    base = core.connections.get(found.connection)
    sa.connection = connection or base
    wrong = _changed(found, connection, base, fingerprint)
    if wrong is not None:
        access.disown(sa)
        return wrong
    return _reclaim(core, sa)


def _changed(
    found: record.Found,
    connection: ConnectionPolicy | None,
    base: ConnectionPolicy | None,
    fingerprint: bytes,
) -> str | None:
    sa = found.sa
    if connection is None or commands.still_due(sa, base) is None:
        return f"connection {found.connection} or its profile was removed or changed"
    sa.policy_mark = (connection, fingerprint)
    changed = fingerprint != found.policy or connection.version != sa.version
    if changed or (sa.peer_id is not None and not connection.remote_id.matches(sa.peer_id)):
        return f"connection {connection.name} was changed"
    return None


def _reclaim(core: Core, sa: IkeSa) -> str | None:
    """Take the inner addresses and the zone again. Why not, or None."""
    if sa.session_initiator:
        return None
    wrong = access.reclaim(core, sa)
    if wrong is not None:
        access.disown(sa)
    return wrong


def _resume(core: Core, found: record.Found, now: float) -> None:
    """Go on with what was under way, and look after the peer again."""
    sa, connection = found.sa, found.sa.connection
    sa.last_inbound = now
    if sa.session is not None:
        core.outputs.append(SessionOpened(sa.session, resumed=True))
    core.version_of(sa).rejoin(core, sa, now)
    if not sa.established or sa.replaced:
        return
    if connection is not None and connection.liveness_s > 0:
        # Not all peers at the same time.
        sa.last_inbound = now - connection.liveness_s * core.fraction()
        core.timers.set((TimerKind.LIVENESS, sa.local_spi), sa.last_inbound + connection.liveness_s)
    if sa.local_natted:
        again = now + core.settings.nat_keepalive_s * core.fraction()
        core.timers.set((TimerKind.KEEPALIVE, sa.local_spi), again)
    if sa.session_initiator and connection is not None and connection.remote is not None:
        core.wanted.setdefault(connection.name, 0)
        client.tell(core, sa)


def _children(sa: IkeSa) -> list[InstallChildSa]:
    return [
        InstallChildSa(
            child_sas.described(sa, child), child.outbound_active, sa.session_id, sa.peer_name
        )
        for child in sa.children.values()
    ]


def _report(core: Core, alive: int, dropped: list[DroppedRecord]) -> None:
    core.counters["ike_sas_restored"] += alive
    if not alive and not dropped:
        return
    text = f"{alive} IKE SAs of the former process live on"
    if dropped:
        text += f", {len(dropped)} do not; the first: {dropped[0].reason}"
    core.emit(
        "ike_sas_restored",
        text,
        Severity.WARNING if dropped else Severity.INFO,
        restored=alive,
        dropped=len(dropped),
    )


def reconcile(core: Core, kernel_spis: Collection[int], now: float) -> set[int]:
    """Replace child SAs that the kernel lost; returns the inbound SPIs of those that we have."""
    for spi_in, sa in list(core.children.items()):
        child = sa.children.get(spi_in)
        if child is None or spi_in in kernel_spis:
            continue
        core.count("child_sas_lost")
        core.emit(
            "child_sa_lost",
            f"child SA {spi_in:08x} of {sa.peer_name} ({sa.connection_name}) is gone from the"
            " dataplane: it is replaced",
            Severity.WARNING,
            peer=sa.peer_name,
            session=sa.session_id,
            spis=sa.spis,
            connection=sa.connection_name,
            spi_in=f"{spi_in:08x}",
        )
        if child.state is ChildState.DELETING or not sa.established:
            closing.remove_child(core, sa, child, "the dataplane does not have it any more", now)
        elif child.state is ChildState.INSTALLED:
            core.touch(sa)
            core.timers.set((TimerKind.REKEY_CHILD, spi_in), now + SETTLE_S)
        # Else it is being replaced already.
    return set(core.children)
