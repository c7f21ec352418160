"""Devices as clients of the control socket see them."""

from collections.abc import Iterable
from datetime import UTC, datetime

from gateway.appliance.failures import Failure, Failures
from gateway.appliance.observation.device import Device, MoveRecord
from gateway.appliance.observation.layers import mtu_of, overhead_of
from gateway.appliance.remedies import remedy_of_login, remedy_of_registration
from gateway.control import observation_views as shapes

MAX_FAILURES = 20


def time_text(wall_s: float | None) -> str | None:
    """ISO 8601, UTC, with milliseconds."""
    if wall_s is None:
        return None
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")


def move_view(move: MoveRecord) -> shapes.Move:
    """A handover."""
    return {
        "at": str(time_text(move.at_s)),
        "kind": move.kind,
        "old": move.old,
        "new": move.new,
        "proof": move.proof,
        "gap_ms": None if move.gap_s is None else round(move.gap_s * 1000, 1),
        "precision_ms": round(move.precision_s * 1000),
    }


def device_view(device: Device) -> shapes.Device:
    """A device in a list."""
    configured, session = device.configured, device.session
    i_mip = device.i_mip
    visitor = next(iter(device.visitors.values()), None)
    home = i_mip.home_address if i_mip is not None else None
    if home is None and visitor is not None:
        home = visitor.home_address
    care_of = [one for each in device.bindings.values() for one in each.care_of]
    inner = [one for each in device.sessions.values() for one in each.inner]
    return {
        "name": device.name,
        "identity": device.identity,
        "source": device.source,
        "user": device.user or None,
        "connection": device.connection or None,
        "platform": (configured.platform or None) if configured is not None else None,
        "note": configured.note if configured is not None else "",
        "where": device.where,
        "mode": device.mode or None,
        "place": device.place,
        "foreign_agent": foreign_agent_of(device),
        "outer": device.outer or None,
        "nat": any(one.natted for one in device.sessions.values()),
        "inner_addresses": list(dict.fromkeys(inner)),
        "home_address": home,
        "care_of_addresses": list(dict.fromkeys(care_of)),
        "overhead_octets": overhead_of(device),
        "mtu": mtu_of(device),
        "connected": device.active,
        "connected_since": time_text(device.connected_s),
        "last_seen": time_text(device.last_seen_s),
        "handovers": device.handovers,
        "last_move": move_view(device.moves[0]) if device.moves else None,
        "rtt_ms": None if device.rtt_s is None else round(device.rtt_s * 1000, 1),
        "bytes_in": device.octets_in,
        "bytes_out": device.octets_out,
        "packets_in": device.packets_in,
        "packets_out": device.packets_out,
        "rate_in": round(device.rate_in, 1),
        "rate_out": round(device.rate_out, 1),
        "failures": device.failures,
        "last_failed": time_text(device.failed_s),
        "blocked": device.blocked,
        "sessions": [] if session is None else [one.id for one in device.sessions.values()],
    }


def foreign_agent_of(device: Device) -> str | None:
    """Name of ours that it is behind, or the address of the one that relayed its registration."""
    for visitor in device.visitors.values():
        return visitor.agent
    for binding in device.bindings.values():
        if binding.via_agent:
            return binding.via_agent
    return None


def failures_of(device: Device, failures: Failures) -> list[shapes.DeviceFailure]:
    """Why logins and registrations of a device failed, the newest first."""
    names = {device.identity.casefold(), device.user.casefold()} - {""}
    if device.configured is not None and device.configured.mobile_node:
        names.add(device.configured.mobile_node.casefold())
    names |= {one.node.casefold() for one in device.bindings.values()}
    names |= {one.home_address for one in device.bindings.values()}
    logins = [login_view(one) for one in failures.find() if _concerns(one, names)]
    denials = [
        registration_view(one) for one in failures.registrations.find() if _concerns(one, names)
    ]
    found = sorted(logins + denials, key=lambda one: one["last_at"], reverse=True)
    return found[:MAX_FAILURES]


def _concerns(failure: Failure, names: Iterable[str]) -> bool:
    """Whole names only: a part of one belongs to somebody else."""
    words = {one.strip().casefold() for one in failure.peer.split(",")}
    reason = failure.reason.casefold()
    return any(one in words or f"user {one}" in reason.split(":")[0] for one in names)


def login_view(failure: Failure) -> shapes.DeviceFailure:
    """A failed login."""
    return {
        "id": failure.id,
        "kind": "login",
        "first_at": failure.first_at.isoformat(timespec="milliseconds"),
        "last_at": failure.last_at.isoformat(timespec="milliseconds"),
        "count": failure.count,
        "remote": failure.remote,
        "step": failure.step,
        "reason": failure.reason,
        "theirs": failure.theirs or None,
        "ours": failure.ours or None,
        "code": None,
        "remedy": remedy_of_login(failure.step, failure.reason, failure.remedy),
    }


def registration_view(failure: Failure) -> shapes.DeviceFailure:
    """A denied registration."""
    return {
        "id": failure.id,
        "kind": "registration",
        "first_at": failure.first_at.isoformat(timespec="milliseconds"),
        "last_at": failure.last_at.isoformat(timespec="milliseconds"),
        "count": failure.count,
        "remote": failure.remote,
        "step": failure.step.replace("_", " "),
        "reason": failure.reason,
        "theirs": None,
        "ours": None,
        "code": failure.code,
        "remedy": remedy_of_registration(failure.code, failure.remedy),
    }
