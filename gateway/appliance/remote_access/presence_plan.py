"""What the configuration says of inside presence, in the words of the dataplane."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config.connection import ConnectionSection, ProfileSection
from gateway.config.document import Config
from gateway.config.remote_access import NaptSection
from gateway.dataplane.presence import (
    Member,
    Napt,
    PresenceSettings,
    Redirect,
    Translation,
)
from gateway.domain.remote_access import Grant, Presence

_PROTOCOLS = {"tcp": 6, "udp": 17}
_ALL_PORTS = (1024, 65_535)
"""The default: what NAPT does by itself, which keeps reserved ports reserved."""


def needed(config: Config) -> bool:
    """Whether any device has no inner address, or there are redirects or translations."""
    sections = _sections(config)
    return bool(
        config.redirects or any(one.presence == "napt" or one.translations for one in sections)
    )


def _sections(config: Config) -> list[ConnectionSection | ProfileSection]:
    return [*config.connections.values(), *config.profiles.values()]


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of the dataplane, and where in them things are."""

    settings: PresenceSettings
    napts: dict[str, int]
    """By name; the empty one is for the defaults."""
    groups: dict[tuple[str, ...], int]
    """Names of translations that belong together."""
    redirects: tuple[str, ...]
    """Names."""
    by_device: dict[str, tuple[int, ...]]
    """Redirects by the device that they name."""
    config: Config

    @classmethod
    def of(cls, config: Config) -> "Plan":
        """For this configuration."""
        napts = {"": 0, **{name: 1 + place for place, name in enumerate(sorted(config.napt))}}
        sets = {_known(config, one.translations or ()) for one in _sections(config)}
        groups = {names: place for place, names in enumerate(sorted(sets - {()}))}
        by_device: dict[str, tuple[int, ...]] = {}
        for place, section in enumerate(config.redirects.values()):
            by_device[section.device] = (*by_device.get(section.device, ()), place)
        settings = PresenceSettings(
            tunnel=config.dataplane.xfrm_interface,
            outside_interfaces=config.dataplane.outside_interfaces,
            napts=tuple(_napt(config.napt[name]) if name else Napt() for name in napts),
            translations=tuple(
                tuple(
                    Translation(
                        config.translations[name].network, config.translations[name].shown_as
                    )
                    for name in names
                )
                for names in groups
            ),
            redirects=tuple(
                Redirect(
                    _PROTOCOLS[one.protocol],
                    one.address,
                    one.ports,
                    one.to_port or one.ports[0],
                    one.sources,
                )
                for one in config.redirects.values()
            ),
            forwards_ipv6=config.dataplane.forwarding and _offers_ipv6(config),
            helpers=tuple(sorted({one.helper for one in config.rules.values() if one.helper})),
        )
        return cls(settings, napts, groups, tuple(config.redirects), by_device, config)

    def napt_of(self, grant: Grant) -> str:
        """The name of its ``[napt.NAME]``; empty for the defaults."""
        profile = self.config.profiles.get(grant.profile)
        connection = self.config.connections.get(grant.connection)
        name = (profile.napt if profile else None) or (connection.napt if connection else None)
        return name if name in self.napts and name else ""

    def member(self, grant: Grant) -> Member | None:
        """What the dataplane has to do for a session; None for nothing."""
        profile = self.config.profiles.get(grant.profile)
        connection = self.config.connections.get(grant.connection)
        names = profile.translations if profile else None
        if names is None:
            names = (connection.translations if connection else None) or ()
        group = self.groups.get(_known(self.config, names), -1)
        if grant.presence is Presence.NAPT and grant.zone:
            return Member(grant.addresses, grant.zone, self.napts[self.napt_of(grant)], group)
        return Member(grant.addresses, translations=group) if group >= 0 else None


def _offers_ipv6(config: Config) -> bool:
    """Whether devices without inner addresses of ours may reach anything by IPv6."""
    napt = any(one.presence == "napt" for one in _sections(config))
    offers = [*(one.local_subnets for one in config.connections.values())]
    offers += [one.subnets or () for one in config.profiles.values()]
    return napt and any(network.version == 6 for offer in offers for network in offer)


def _known(config: Config, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name in config.translations}))


def _napt(section: NaptSection) -> Napt:
    ports = None if section.ports == _ALL_PORTS else section.ports
    return Napt(section.addresses, ports, section.any_source)
