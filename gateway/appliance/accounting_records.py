"""What accounting must not lose at a restart: whose session it is, since when, and its traffic.

Counters of child SAs that stand are the kernel's; here is only the sum of those that are gone.
"""

import json
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import Session
from gateway.radius.accounting import Traffic

KIND: Final = "accounting"
VERSION: Final = 1


class RecordRefusedError(ValueError):
    """These octets are no record of accounting."""


@dataclass(frozen=True, slots=True)
class Account:
    """One session."""

    session: Session
    opened_wall_s: float
    ended: Traffic
    """Of child SAs that are gone."""


def write(account: Account) -> bytes:
    """The record."""
    session, ended = account.session, account.ended
    inner, inner6 = session.inner_address, session.inner_address6
    document = {
        "id": session.session_id,
        "backend": session.backend,
        "user": session.user,
        "connection": session.connection,
        "local": [str(session.local.address), session.local.port],
        "remote": [str(session.remote.address), session.remote.port],
        "inner": None if inner is None else str(inner),
        "inner6": None if inner6 is None else str(inner6),
        "class": [one.hex() for one in session.radius_class],
        "interim_s": session.interim_interval_s,
        "opened": account.opened_wall_s,
        "ended": [ended.bytes_in, ended.packets_in, ended.bytes_out, ended.packets_out],
    }
    return bytes([VERSION]) + json.dumps(document).encode()


def read(octets: bytes) -> Account:
    """Read a record. Raises :class:`RecordRefusedError`."""
    if octets[:1] != bytes([VERSION]):
        raise RecordRefusedError("another version")
    try:
        found: dict[str, Any] = json.loads(octets[1:])
        interim_s = found["interim_s"]
        inner6 = found.get("inner6")
        session = Session(
            str(found["id"]),
            str(found["backend"]),
            str(found["user"]),
            str(found["connection"]),
            _endpoint(found["local"]),
            _endpoint(found["remote"]),
            None if found["inner"] is None else ip_address(found["inner"]),
            tuple(bytes.fromhex(one) for one in found["class"]),
            None if interim_s is None else float(interim_s),
            None if inner6 is None else ip_address(inner6),
        )
        return Account(session, float(found["opened"]), Traffic(*map(int, found["ended"])))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecordRefusedError(repr(error)) from None


def _endpoint(found: list[str]) -> Endpoint:
    address, port = found
    return Endpoint(ip_address(address), int(port))
