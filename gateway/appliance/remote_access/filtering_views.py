"""What is told about rules: see :mod:`gateway.control.remote_access_views`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.control.remote_access_views import (
    RuleOfDevice,
    RulesOfDevice,
    RuleTest,
    Usage,
)
from gateway.dataplane.filter import Count, DeviceUsage
from gateway.domain.remote_access import Grant
from gateway.filtering.engine import Filtering
from gateway.filtering.judge import Judgement, otherwise
from gateway.filtering.rule import Rule
from gateway.filtering.words import in_words

if TYPE_CHECKING:
    from gateway.appliance.administration.devices import Device as Configured
    from gateway.appliance.observation.device import Device


def would_be(device: "Device", configured: "Configured | None") -> Grant:
    """The session that a device would have, as far as it is known."""
    section = None if configured is None else configured.section
    return Grant(
        session="",
        peer=device.identity,
        user=(section.user or "") if section else "",
        connection=(section.connection or "") if section else "",
    )


def device_view(
    engine: Filtering,
    name: str,
    grants: Sequence[tuple[Grant, bool]],
    counts: Mapping[str, Count],
    usages: Sequence[DeviceUsage],
) -> RulesOfDevice:
    """``rules-of``."""
    rules: dict[str, RuleOfDevice] = {}
    for grant, _ in grants:
        for rule, why in engine.rules_of(grant).items():
            found = engine.book.rules[rule]
            count = counts.get(rule, Count())
            rules[rule] = {
                "name": rule,
                "action": found.action.value,
                "direction": found.direction.value,
                "in_force": engine.in_force(found),
                "words": in_words(found),
                "why": why,
                "packets": count.packets,
                "bytes": count.octets,
            }
    up, down = engine.bandwidth_of(grants[0][0])
    return {
        "device": name,
        "connected": any(connected for _, connected in grants),
        "addresses": [str(one) for grant, _ in grants for one in grant.addresses],
        "rules": list(rules.values()),
        "otherwise": otherwise(engine.book, rules),
        "bandwidth_up_kbit_s": up,
        "bandwidth_down_kbit_s": down,
        "usage": _usage(usages),
    }


def _usage(usages: Sequence[DeviceUsage]) -> Usage | None:
    if not usages:
        return None
    return {
        "packets_in": sum(one.from_device.packets for one in usages),
        "bytes_in": sum(one.from_device.octets for one in usages),
        "packets_out": sum(one.to_device.packets for one in usages),
        "bytes_out": sum(one.to_device.octets for one in usages),
        "refused": sum(one.refused for one in usages),
    }


def rule_view(engine: Filtering, rule: Rule, count: Count | None) -> dict[str, object]:
    """An item of ``rule-counters``."""
    counted = count or Count()
    return {
        "name": rule.name,
        "action": rule.action.value,
        "direction": rule.direction.value,
        "in_force": engine.in_force(rule),
        "words": in_words(rule),
        "sessions": engine.sessions_under(rule.name),
        "packets": counted.packets,
        "bytes": counted.octets,
    }


def test_view(name: str, found: Sequence[Judgement], sessions: int) -> RuleTest:
    """``rule-test``: of several sessions, one that refuses is told."""
    told = next((one for one in found if not one.allowed), found[0])
    why = told.why if sessions else f"{told.why} ({name} is not connected)"
    return {"allowed": told.allowed, "rule": told.rule, "why": why, "sessions": sessions}
