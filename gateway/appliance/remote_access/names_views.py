"""What operations about names answer with."""

from typing import TYPE_CHECKING

from gateway.control.remote_access_views import Forwarder, ForwardRule, NamesVerify, PublicRecord
from gateway.names.publication import Publication, Record
from gateway.names.settings import ForwarderSettings

if TYPE_CHECKING:
    from gateway.config.document import Config

_RECORD_STATES = frozenset({"ok", "missing", "different"})
MAX_TEXT = 300


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _texts(value: object) -> list[str]:
    return [str(one)[:MAX_TEXT] for one in value[:16]] if isinstance(value, list) else []


def forwarder_view(
    config: "Config",
    settings: ForwarderSettings,
    state: str,
    detail: str,
    facts: dict[str, object] | None,
) -> Forwarder:
    """The forwarder; ``facts`` are its process's, which is not trusted."""
    facts = facts or {}
    counters = _mapping(facts.get("counters"))
    answering = _answering(facts.get("servers"))
    rules = [_rule((), [str(one) for one in settings.servers], answering)]
    rules += [
        _rule(route.domains, [str(one) for one in route.servers], answering)
        for route in settings.routes
    ]
    return {
        "state": state,
        "detail": detail,
        "listen": [str(one) for one in config.names.listen],
        "port": config.names.port,
        "forward": rules,
        "cached": _number(facts.get("cached")),
        "questions": _number(counters.get("queries")),
        "from_cache": _number(counters.get("from_cache")),
        "failures": _number(counters.get("failed")),
    }


def _rule(
    domains: tuple[str, ...], servers: list[str], answering: dict[str, bool | None]
) -> ForwardRule:
    known = [answering.get(one) for one in servers]
    state = True if True in known else False if False in known else None
    return {"domains": list(domains), "servers": servers, "answering": state}


def _answering(servers: object) -> dict[str, bool | None]:
    found: dict[str, bool | None] = {}
    for one in servers if isinstance(servers, list) else ():
        server = _mapping(one)
        asked = _number(server.get("answered")) + _number(server.get("failed"))
        state = bool(server.get("last_answered")) if asked else None
        found[str(server.get("address"))] = state
    return found


def verification(wanted: Publication, answer: dict[str, object]) -> NamesVerify:
    """What public DNS has, from :mod:`gateway.names.verify`."""
    checks: dict[tuple[str, str], dict[str, object]] = {}
    listed = answer.get("checks")
    for one in listed if isinstance(listed, list) else ():
        check = _mapping(one)
        checks[str(check.get("owner")), str(check.get("type"))] = check
    failure = str(answer.get("error", "no answer"))[:MAX_TEXT]
    items = [
        _public_record(record, checks.get((record.owner, record.type)), failure)
        for record in wanted.records
    ]
    return {
        "domain": wanted.domain,
        "ok": not wanted.advice and all(item["state"] == "ok" for item in items),
        "items": items,
        "advice": list(wanted.advice),
    }


def _public_record(record: Record, check: dict[str, object] | None, failure: str) -> PublicRecord:
    if check is None:
        return {"record": str(record), "state": "unknown", "found": [], "detail": failure}
    state, found = str(check.get("state")), _texts(check.get("found"))
    if state == "different" and record.data.lower() in found:
        state = "ok"  # another record of the name is the one that lacks
    return {
        "record": str(record),
        "state": state if state in _RECORD_STATES else "unknown",
        "found": found,
        "detail": str(check.get("detail", ""))[:MAX_TEXT],
    }
