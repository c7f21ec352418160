"""What changed between two configurations, for reload and ``gateway check --diff``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, SecretStr

from gateway.config.document import Config
from gateway.config.mobility_difference import TABLES, effect, kept_until_restart
from gateway.config.nar_difference import effect as nar_effect
from gateway.config.nar_difference import kept_until_restart as nar_kept_until_restart
from gateway.config.problem import shown
from gateway.config.remote_access_difference import ACCESS_KEYS, POOL_KEYS, section_effect
from gateway.config.remote_access_difference import SECTIONS as ACCESS_SECTIONS
from gateway.config.remote_access_difference import TABLES as ACCESS_TABLES
from gateway.config.remote_access_difference import effect as access_effect

APPLIED_LIVE = {
    "gateway.log_level": "from now on",
    "gateway.on_sigterm": "from now on",
    "store.history_days": "older entries go at the next clean-up",
    "store.audit_days": "older entries go at the next clean-up",
    "provisioning.enabled": "from now on",
    "provisioning.address": "the next bundles have it",
    "provisioning.url": "the next links have it",
    "provisioning.ca_name": "the next CA has it",
    "provisioning.ca_certificate": "issues certificates from now on; trust it in a connection too",
    "provisioning.ca_private_key": "issues certificates from now on",
    "provisioning.ca_days": "the next certificate has it",
    "provisioning.gateway_days": "the next certificate has it",
    "provisioning.gateway_key": "the gateway gets a new certificate",
    "provisioning.device_days": "the next certificates have it",
    "provisioning.crl_days": "the next CRL has it",
    "provisioning.link_minutes": "the next links have it",
    "mobility.mobile_nodes_file": "its devices can register at once, others no longer",
    "mobility.inside_home_agents": "protected from now on",
    "mobility.ticket_key_file": "tickets of other keys are worthless; devices log in again",
    "mobility.ticket_lifetime_s": "the next logins use it",
    "mobility.relays": "relayed from now on",
    "nar_settings.audit": "from now on; what was written down stays until it is too old",
    "nar_settings.audit_days": "older entries go at the next clean-up",
    "nar_settings.audit_rows": "the oldest entries go at the next clean-up",
}
"""Keys of the tables that exist once which a reload applies; all others need a restart."""

IDENTITY_KEYS = frozenset(
    {
        "ike_version",
        "local_id",
        "local_auth",
        "remote_id",
        "remote_auth",
        "psk",
        "psk_file",
        "ca_certificates",
        "allow_sha1_signatures",
        "user_auth",
        "user_backend",
        "user_names",
        "eap_identity",
        "encapsulation",
        "pool",
        "remote_subnets",
        "local_subnets",
        "remote",
        "local",
        "request_inner_address",
        "mode",
        "pool6",
        "presence",
        "translations",
    }
)
"""Keys of a connection that its established SAs depend on."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``old`` and ``new`` are texts without secrets, None where there is none."""

    kind: Literal["added", "removed", "changed"]
    key: str
    effect: str
    """What a reload does about it."""
    old: str | None = None
    new: str | None = None
    needs_restart: bool = False

    def __str__(self) -> str:
        values = f": {self.old} -> {self.new}" if self.kind == "changed" and self.old else ""
        return f"{self.kind} {self.key}{values} ({self.effect})"


_TRUST_KEYS = frozenset({"ca_certificates"})
_RESTART = "needs a restart: systemctl restart gateway"
_LOST = "SAs with an address that it no longer has are closed with a DELETE; devices reconnect"
_CLOSED = "SAs with an address of it are closed with a DELETE; devices reconnect"


def difference(running: Config, wanted: Config) -> list[Change]:
    """Every difference in the order of the file; empty when a reload has nothing to do.

    Contents of credential files are not compared: a reload always reads them again.
    """
    changes: list[Change] = []
    for section in ("gateway", "ike", "dataplane"):
        changes += _section(section, running, wanted)
    changes += _pools(running, wanted)
    changes += _credentials(running, wanted)
    changes += _users(running, wanted)
    changes += _radius(running, wanted)
    changes += _profiles(running, wanted)
    changes += _connections(running, wanted)
    mobility = [*_section("mobility", running, wanted), *_mobility(running, wanted)]
    if _mobility_comes_or_goes(running, wanted):
        mobility = [replace(one, effect=_RESTART, needs_restart=True) for one in mobility]
    changes += mobility
    nar = [*_section("nar_settings", running, wanted), *_nar(running, wanted)]
    if _nar_comes_or_goes(running, wanted):
        nar = [replace(one, effect=_RESTART, needs_restart=True) for one in nar]
    changes += nar
    changes += _remote_access(running, wanted)
    changes += _devices(running, wanted)
    for section in ("store", "provisioning", "api", "control"):
        changes += _section(section, running, wanted)
    return changes


def in_force(running: Config, wanted: Config) -> Config:
    """The configuration after a reload: ``wanted``, except what waits for a restart.

    That stays as it runs, so the next :func:`difference` still names it.
    """
    live = {"log_level": wanted.gateway.log_level, "on_sigterm": wanted.gateway.on_sigterm}
    kept = {name: getattr(running, name) for name in ("ike", "dataplane", "api", "control")}
    gateway = running.gateway.model_copy(update=live)
    store = wanted.store.model_copy(
        update={name: getattr(running.store, name) for name in ("url", "key_file", "state_dir")}
    )
    if _mobility_comes_or_goes(running, wanted):
        agents = {name: getattr(running, name) for name in ("mobility", *TABLES)}
    else:
        agents = {"mobility": kept_until_restart(running.mobility, wanted.mobility)}
    if _nar_comes_or_goes(running, wanted):
        nar = {name: getattr(running, name) for name in ("nar_settings", "nar")}
    else:
        shared = nar_kept_until_restart(running.nar_settings, wanted.nar_settings)
        nar = {"nar_settings": shared}
    return wanted.model_copy(update={**kept, **agents, **nar, "gateway": gateway, "store": store})


def _mobility_comes_or_goes(running: Config, wanted: Config) -> bool:
    """The first agent, and the end of the last one: sockets and devices are made at start."""
    return running.needs_mobility != wanted.needs_mobility


def _nar_comes_or_goes(running: Config, wanted: Config) -> bool:
    """The first NAR server, and the end of the last one: the dataplane is made at start."""
    return running.needs_nar != wanted.needs_nar


def _fields(old: BaseModel, new: BaseModel, key: str) -> Iterator[tuple[str, str, str]]:
    """Key, old text and new text of each field that differs, nested tables spelled out."""
    for name in type(old).model_fields:
        yield from _values(getattr(old, name), getattr(new, name), f"{key}.{name}")


def _values(before: object, after: object, key: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(before, BaseModel) and isinstance(after, BaseModel):
        yield from _fields(before, after, key)
    elif isinstance(before, dict) and isinstance(after, dict) and list(before) == list(after):
        for name in before:
            yield from _values(before[name], after[name], f"{key}.{name}")
    elif before != after or isinstance(before, dict):
        yield key, _shown(before), _shown(after)


def _mobility(running: Config, wanted: Config) -> Iterator[Change]:
    for table in TABLES:
        old: Mapping[str, BaseModel] = getattr(running, table)
        new: Mapping[str, BaseModel] = getattr(wanted, table)
        for name in _names(old, new):
            key = f"{table}.{name}"
            if name not in new:
                yield Change("removed", key, effect(table, "removed"))
            elif name not in old:
                yield Change("added", key, effect(table, "added"))
            elif old[name] is not new[name]:
                for field, before, after in _fields(old[name], new[name], key):
                    what = effect(table, "changed", field.removeprefix(f"{key}."))
                    yield Change("changed", field, what, before, after)


def _nar(running: Config, wanted: Config) -> Iterator[Change]:
    for name in _names(running.nar, wanted.nar):
        key = f"nar.{name}"
        if name not in wanted.nar:
            yield Change("removed", key, nar_effect("removed"))
        elif name not in running.nar:
            yield Change("added", key, nar_effect("added"))
        else:
            for field, before, after in _fields(running.nar[name], wanted.nar[name], key):
                what = nar_effect("changed", field.removeprefix(f"{key}."))
                yield Change("changed", field, what, before, after)


def _remote_access(running: Config, wanted: Config) -> Iterator[Change]:
    for table in ACCESS_TABLES:
        old: Mapping[str, BaseModel] = getattr(running, table)
        new: Mapping[str, BaseModel] = getattr(wanted, table)
        for name in _names(old, new):
            key = f"{table}.{name}"
            if name not in new:
                yield Change("removed", key, access_effect(table, "removed"))
            elif name not in old:
                yield Change("added", key, access_effect(table, "added"))
            elif old[name] is not new[name]:
                for field, before, after in _fields(old[name], new[name], key):
                    what = access_effect(table, "changed")
                    yield Change("changed", field, what, before, after)
    for section in ACCESS_SECTIONS:
        for field, before, after in _fields(
            getattr(running, section), getattr(wanted, section), section
        ):
            yield Change("changed", field, section_effect(field), before, after)


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "(hidden)"
    if isinstance(value, BaseModel):
        return "a table"
    if isinstance(value, dict):
        return shown(list(value))  # the tables' names, whose order counts
    if isinstance(value, tuple) and any(isinstance(one, BaseModel) for one in value):
        return f"{len(value)} tables"  # may hold secrets
    return "unset" if value is None else shown(value)


def _section(name: str, running: Config, wanted: Config) -> Iterator[Change]:
    for key, old, new in _fields(getattr(running, name), getattr(wanted, name), name):
        live = APPLIED_LIVE.get(key)
        yield Change("changed", key, live or _RESTART, old, new, needs_restart=live is None)


def _credentials(running: Config, wanted: Config) -> Iterator[Change]:
    stay = "new handshakes use it, established SAs stay"
    closed = "SAs of the connections that use it are closed with a DELETE; devices reconnect"
    for key, old, new in _fields(running.credentials, wanted.credentials, "credentials"):
        trusted = key.removeprefix("credentials.") in _TRUST_KEYS
        yield Change("changed", key, closed if trusted else stay, old, new)


def _users(running: Config, wanted: Config) -> Iterator[Change]:
    for key, old, new in _fields(running.users, wanted.users, "users"):
        yield Change("changed", key, "new logins use it, established SAs stay", old, new)


def _radius(running: Config, wanted: Config) -> Iterator[Change]:
    for name in _names(running.radius, wanted.radius):
        key = f"radius.{name}"
        if name not in wanted.radius:
            yield Change("removed", key, "established SAs stay; logins need another backend")
        elif name not in running.radius:
            yield Change("added", key, "connections can use it at once")
        else:
            for field, old, new in _fields(running.radius[name], wanted.radius[name], key):
                yield Change("changed", field, "new logins use it, sessions stay", old, new)


def _profiles(running: Config, wanted: Config) -> Iterator[Change]:
    closed = "SAs of its users are closed with a DELETE; devices reconnect"
    for name in _names(running.profiles, wanted.profiles):
        key = f"profiles.{name}"
        if name not in wanted.profiles:
            yield Change("removed", key, closed)
        elif name not in running.profiles:
            yield Change("added", key, "connections can use it at once")
        else:
            for field, old, new in _fields(running.profiles[name], wanted.profiles[name], key):
                what = field.rpartition(".")[2]
                closes = what in {"pool", "subnets", "pool6", "presence", "translations"}
                effect = closed if closes else "users that log in from now on get it"
                effect = ACCESS_KEYS.get(what, effect)
                yield Change("changed", field, effect, old, new)


def _devices(running: Config, wanted: Config) -> Iterator[Change]:
    for name in _names(running.devices, wanted.devices):
        key = f"devices.{name}"
        if name not in wanted.devices:
            yield Change("removed", key, device_effect("removed"))
        elif name not in running.devices:
            yield Change("added", key, device_effect("added"))
        else:
            for field, old, new in _fields(running.devices[name], wanted.devices[name], key):
                yield Change("changed", field, device_effect(field.rpartition(".")[2]), old, new)


def device_effect(what: str) -> str:
    """What happens to a device that was added or removed, or whose field ``what`` changed."""
    match what:
        case "added":
            return "known at once"
        case "removed":
            return "forgotten; its sessions stay, and who has its credentials may log in"
        case "blocked":
            return "from now on; the sessions of a device that is blocked end"
        case _:
            return "from now on"


def _names(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return [*old, *(name for name in new if name not in old)]


def _pools(running: Config, wanted: Config) -> Iterator[Change]:
    for name in _names(running.pools, wanted.pools):
        key = f"pools.{name}"
        if name not in wanted.pools:
            yield Change("removed", key, _CLOSED)
        elif name not in running.pools:
            yield Change("added", key, "connections can use it at once")
        else:
            for field, old, new in _fields(running.pools[name], wanted.pools[name], key):
                what = POOL_KEYS.get(field.removeprefix(f"{key}.").partition(".")[0], _LOST)
                yield Change("changed", field, what, old, new)


def _connections(running: Config, wanted: Config) -> Iterator[Change]:
    for name in _names(running.connections, wanted.connections):
        key = f"connections.{name}"
        if name not in wanted.connections:
            yield Change("removed", key, "its SAs are closed with a DELETE")
        elif name not in running.connections:
            yield Change("added", key, "devices can use it at once")
        else:
            old_section, new_section = running.connections[name], wanted.connections[name]
            for field, old, new in _fields(old_section, new_section, key):
                name_of_field = field.removeprefix(f"{key}.")
                effect = (
                    "its SAs are closed with a DELETE; devices reconnect"
                    if name_of_field in IDENTITY_KEYS
                    else ACCESS_KEYS.get(name_of_field, "established SAs stay, new ones use it")
                )
                yield Change("changed", field, effect, old, new)
