"""After a restart: bindings and replay protection out of the records of the last run."""

from collections import Counter
from collections.abc import Iterable

from gateway.domain.event import Event
from gateway.domain.wire import WireError
from gateway.mip_agents.home_agent import home_addresses, logins, records
from gateway.mip_agents.home_agent.bindings import NEVER, CareOf, Registrant, node_key
from gateway.mip_agents.home_agent.records import Record
from gateway.mip_agents.home_agent.registrar import Registrar
from gateway.mip_agents.outputs import Forget, RemoveBinding
from gateway.mip_agents.policy import MobileNode, ReplayProtection
from gateway.mip_agents.replay import TimestampIdentification


def restore_records(
    octets: Iterable[bytes],
    registrar: Registrar,
    counters: Counter[str],
    now: float,
    wall_s: float,
) -> None:
    """Take up every record of this home agent that is still good for something."""
    restored = lost = 0
    for one in octets:
        try:
            record = records.read(one, registrar.policy.address)
        except WireError:
            counters["discarded_record"] += 1
            continue
        if record.home_agent != registrar.policy.name:
            continue
        registrant = _restore(record, registrar, now, wall_s)
        if registrant is None:
            registrar.outputs.append(Forget(_key(record)))
        if registrant is not None and registrant.care_ofs:
            restored += 1
        elif record.care_ofs:
            lost += 1
            _remove(record, registrar)
    if restored or lost:
        text = f"{registrar.policy.name} took up {restored} bindings of the last run"
        if lost:
            text += f"; {lost} were over or have no place in the configuration any more"
        fields: dict[str, object] = {
            "home_agent": registrar.policy.name,
            "restored": restored,
            "lost": lost,
        }
        registrar.outputs.append(Event("bindings_restored", text, fields=fields))


def _restore(record: Record, registrar: Registrar, now: float, wall_s: float) -> Registrant | None:
    """Take a record up; None if it is good for nothing, not even against replays."""
    nodes = registrar.policy.nodes
    if record.nai:
        node = nodes.by_nai(record.nai)
    else:
        node = nodes.by_home_address(record.static_home_address)
    if node is None or node.nai != record.nai or node_key(node) in registrar.table.by_key:
        return None
    care_ofs = tuple(one for one in record.care_ofs if one.expires_at > wall_s)
    for one in care_ofs:
        _to_engine_clock(one, now, wall_s)
    # Renewals since then need not have been written down.
    long_ago_s = _memory_s(node) + records.LONGEST_PAUSE_S
    logged_in = record.logins is not None and record.logins.expires_wall_s > wall_s
    if not care_ofs and not logged_in and wall_s - record.accepted_wall_s > long_ago_s:
        return None
    registrant = Registrant(node_key(node), node)
    registrant.record_key = records.key(registrar.policy.name, node.nai, node.home_address)
    if care_ofs and _settle(registrant, record, registrar):
        for one in care_ofs:
            if not registrar.table.may_switch(registrant, int(one.address)):
                one.zero_overhead = None
        registrar.table.set_care_ofs(registrant, care_ofs)
    registrant.logins = record.logins
    registrant.quiet_until = now + max(_memory_s(node), logins.quiet_s(registrant, wall_s))
    registrant.registrations = record.registrations
    _restore_replay(registrant, record, wall_s)
    registrar.table.by_key[registrant.key] = registrant
    registrar.take_up(registrant, now)
    return registrant


def _to_engine_clock(one: CareOf, now: float, wall_s: float) -> None:
    one.granted_at += now - wall_s
    if one.expires_at != NEVER:
        # A wall clock that was set back must not prolong anything.
        one.expires_at = min(one.expires_at + now - wall_s, now + one.lifetime_s)
    one.kept_expires_at = one.expires_at


def _settle(registrant: Registrant, record: Record, registrar: Registrar) -> bool:
    addresses = registrar.court.addresses
    home, node = record.home_address, registrant.node
    network = addresses.home_network(int(home))
    if network is None or not addresses.can_be_home_address(int(home)):
        return False
    if int(home) in registrar.table.by_home or node.home_address not in (None, home):
        return False
    if node.home_address is None:
        if not home_addresses.lease_again(home, registrant.key, registrar.policy):
            return False
        registrant.leased = True
    registrar.table.bind(registrant, home, network)
    return True


def _restore_replay(registrant: Registrant, record: Record, wall_s: float) -> None:
    # One clock, whatever the key: the last timestamp says how far it is.
    last = records.latest(timestamp for _, timestamp in record.replay)
    floor = records.floor(last, record.accepted_wall_s, wall_s)
    for association in registrant.node.associations:
        if last and association.replay is ReplayProtection.TIMESTAMPS:
            registrant.replay[association.spi] = TimestampIdentification(floor)
    logins.restored(registrant, record.replay, floor)
    registrant.kept_skew_s = records.skew_s(last, record.accepted_wall_s)
    # The floor is as good as a timestamp of that moment: the next restart adds no margin to it.
    registrant.accepted_wall_s = max(record.accepted_wall_s, wall_s + records.MARGIN_S)


def _memory_s(node: MobileNode) -> float:
    least_s = logins.MEMORY_S if node.login else 0.0
    return max((2 * one.replay_window_s + 1 for one in node.associations), default=least_s)


def _remove(record: Record, registrar: Registrar) -> None:
    """The last run's tunnel may still be in the kernel."""
    if int(record.home_address) not in registrar.table.by_home:
        registrar.outputs.append(RemoveBinding(registrar.policy.address, record.home_address))


def _key(record: Record) -> str:
    return records.key(record.home_agent, record.nai, record.static_home_address)
