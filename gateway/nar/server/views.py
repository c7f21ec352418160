"""What an administrator may see, as plain JSON values. Keys are stable.

A client: ``server``, ``client`` (its address), ``port`` (of its control connection, None when it is
lost), ``user`` ("" without login), ``rule`` (name, or None), ``state`` (``negotiating``,
``authenticating``, ``ready``, ``nar``, ``proxying``, ``relaying``, or ``lost``), ``tls``,
``address`` (Nb, or None), ``target`` (of NAR-MODE, or None), ``delivery`` (``ip-ip``, ``gre``,
``l2tp``, ``translated``, or None), ``session`` (hexadecimal name, or None), ``resumable`` (it has a
token), ``leases`` (how many), ``since`` and ``expires`` (seconds since 1970; ``expires`` is when
its leases end unless it renews or comes back, None when that is with the connection).

A mapping: ``id`` (for :func:`parse_id`), ``server``, ``client``, ``user``, ``rule``, ``session``,
``protocol`` (``tcp``, ``udp``, ``icmp``, ``esp``, ``ah``, ``ip-ip``, ``gre``), ``address`` (Nb),
``port`` (TCP, UDP), ``identifier`` (ICMP), ``spi`` (ESP, AH), ``inner`` (tunnels; an address): the
others are None, ``remote`` and ``remote_port`` (None: any), ``delivery``, ``client_port`` (when the
client uses another port than ``port``, else None), ``peer`` (where the client may send to, None:
anywhere), ``connected`` (its control connection is there), ``since`` and ``expires`` as above.
"""

from ipaddress import AddressValueError, IPv4Address

from gateway.domain.nar import NarProtocol, NarTuple
from gateway.nar.server.connections import Connection, State
from gateway.nar.server.core import Core
from gateway.nar.server.leases import Lease
from gateway.nar.server.sessions import Session

_NAMES = {one: one.name.lower().replace("_", "-") for one in NarProtocol}
_PROTOCOLS = {name: one for one, name in _NAMES.items()}
_ANY = "any"


def tuple_id(key: NarTuple) -> str:
    """A name of a tuple that fits into a URL: ``tcp,192.0.2.1,20010,203.0.113.9,443``."""
    value = str(IPv4Address(key.value)) if key.protocol.is_tunnel else str(key.value)
    remote = _ANY if key.remote is None else str(key.remote)
    port = _ANY if key.remote_port is None else str(key.remote_port)
    return ",".join((_NAMES[key.protocol], str(key.address), value, remote, port))


def parse_id(text: str) -> NarTuple:
    """The tuple of a :func:`tuple_id`. Raises ValueError for anything else."""
    parts = text.split(",")
    if len(parts) != 5 or parts[0] not in _PROTOCOLS:
        raise ValueError("a mapping's id is protocol,address,value,remote,remote port")
    protocol = _PROTOCOLS[parts[0]]
    try:
        value = int(IPv4Address(parts[2])) if protocol.is_tunnel else _number(parts[2])
        return NarTuple(
            protocol,
            IPv4Address(parts[1]),
            value,
            None if parts[3] == _ANY else IPv4Address(parts[3]),
            None if parts[4] == _ANY else _number(parts[4]),
        )
    except AddressValueError as error:
        raise ValueError(f"a mapping's id with an address that is none: {error}") from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError("a mapping's id with a number that is none")
    return int(text)


def clients(core: Core) -> list[dict[str, object]]:
    """All connections, and the sessions without one."""
    found = [connection(core, one) for one in core.connections.by_number.values()]
    found += [lost(core, one) for one in core.sessions if one.connection is None]
    return found


def mappings(core: Core) -> list[dict[str, object]]:
    """All leases."""
    return [mapping(core, lease) for session in core.sessions for lease in session.leases.values()]


def connection(core: Core, one: Connection) -> dict[str, object]:
    """A client with its connection."""
    in_nar_mode = one.state is State.NAR
    session = one.session
    return {
        "server": core.policy.name,
        "client": str(one.client.address),
        "port": one.client.port,
        "user": "" if one.owner is None else one.owner.user,
        "rule": None if one.rule is None else one.rule.name,
        "state": one.state.value,
        "tls": one.tls,
        "address": str(one.address) if in_nar_mode else None,
        "target": None if one.target is None else str(one.target),
        "delivery": one.delivery.value if in_nar_mode else None,
        "session": None if session is None else f"{session.number:016x}",
        "resumable": session is not None and bool(session.token_digest),
        "leases": 0 if session is None else len(session.leases),
        "since": one.since_wall_s,
        "expires": None if session is None else _expires(core, session),
    }


def lost(core: Core, one: Session) -> dict[str, object]:
    """A client whose session lost its connection."""
    return {
        "server": core.policy.name,
        "client": str(one.owner.client),
        "port": None,
        "user": one.owner.user,
        "rule": one.rule.name,
        "state": "lost",
        "tls": False,
        "address": str(one.address),
        "target": None,
        "delivery": None,
        "session": f"{one.number:016x}",
        "resumable": bool(one.token_digest),
        "leases": len(one.leases),
        "since": one.since_wall_s,
        "expires": _expires(core, one),
    }


def mapping(core: Core, lease: Lease) -> dict[str, object]:
    """A lease."""
    what, session = lease.mapping, lease.session
    key = what.tuple
    protocol = key.protocol
    is_ipsec = protocol in (NarProtocol.ESP, NarProtocol.AH)
    return {
        "id": tuple_id(key),
        "server": core.policy.name,
        "client": str(what.client),
        "user": session.owner.user,
        "rule": session.rule.name,
        "session": f"{session.number:016x}",
        "protocol": _NAMES[protocol],
        "address": str(key.address),
        "port": key.value if protocol.has_ports else None,
        "identifier": key.value if protocol is NarProtocol.ICMP else None,
        "spi": key.value if is_ipsec else None,
        "inner": str(IPv4Address(key.value)) if protocol.is_tunnel else None,
        "remote": None if key.remote is None else str(key.remote),
        "remote_port": key.remote_port,
        "delivery": what.delivery.value,
        "client_port": what.client_port or None,
        "peer": None if what.peer is None else str(what.peer),
        "connected": session.connection is not None,
        "since": lease.opened_wall_s,
        "expires": _expires(core, session, lease),
    }


def _expires(core: Core, session: Session, lease: Lease | None = None) -> float | None:
    """The wall clock's time of the earliest deadline."""
    of_session = core.timers.deadline(session)
    of_lease = None if lease is None else core.timers.deadline(lease)
    times = [one for one in (of_session, of_lease) if one is not None]
    return min(times) + core.wall_offset if times else None
