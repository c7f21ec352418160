"""``[bridges]``: devices whose connection or profile has a bridge get a port of it.

Frames that hold no IP pass between the device and the inside by GRE through its tunnel (draft 000,
section 1.1). Operated by nobody: it follows who is in.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address

from gateway.appliance.remote_access.part import Joint, Part
from gateway.config.document import Config
from gateway.dataplane.kernel.bridges import KernelBridges, Port
from gateway.domain.remote_access import Grant, Presence
from gateway.ike.outputs import Event, Severity


def build(joint: Joint) -> Part:
    """For :mod:`gateway.appliance.remote_access.composition`."""
    return Bridges(joint)


class Bridges(Part):
    """Ports of bridges, one for each session that is to have one."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._config = joint.config()
        self._bridges: dict[str, str] = {}
        """The interfaces that are the bridges of the configuration, by their names there."""
        self._wanted: dict[str, Port] = {}
        """By session."""
        self._started = False
        self._dirty = False

    def open(self) -> None:
        """Find or make the bridges. Raises OSError."""
        self._kernel = KernelBridges(self._config.dataplane.xfrm_interface)
        try:
            self._kernel.open()
            self._find_bridges(self._config)
        except OSError:
            self._kernel.close(keep=True)
            raise

    def _find_bridges(self, config: Config) -> None:
        self._bridges = {
            name: self._kernel.bridge_of(section.interface)
            for name, section in config.bridges.items()
        }
        self._kernel.set_ends(tuple(_ends(config)))

    async def start(self) -> None:
        """What an earlier process left for devices that are gone goes."""
        self._started = self._dirty = True
        self.commit()
        self._kernel.forget_bridges(self._bridges.values())

    def granted(self, grant: Grant) -> None:
        """See :meth:`Part.granted`."""
        port = self._port(grant)
        if port == self._wanted.get(grant.session):
            return
        if port is None:
            del self._wanted[grant.session]
        else:
            self._wanted[grant.session] = port
        self._dirty = True

    def _port(self, grant: Grant) -> Port | None:
        name = _bridge_of(self._config, grant)
        section = self._config.bridges.get(name or "")
        bridge = self._bridges.get(name or "")
        if section is None or bridge is None or not isinstance(section.address, IPv4Address):
            return None
        if grant.presence is not Presence.ADDRESS:
            self._warn(grant, f"bridge {name}: with presence napt its address may be another's")
            return None
        device = next((one for one in grant.addresses if isinstance(one, IPv4Address)), None)
        if device is None:
            self._warn(grant, f"bridge {name}: it has no IPv4 address inside")
            return None
        return Port(bridge, section.address, device, self._config.filtering.isolate_devices)

    def ended(self, grant: Grant) -> None:
        """See :meth:`Part.ended`."""
        if self._wanted.pop(grant.session, None) is not None:
            self._dirty = True

    def commit(self) -> None:
        """Make the ports those that are wanted.

        Until everybody who was in has been granted again, ports of an earlier process stay.
        """
        if not self._dirty:
            return
        self._dirty = False
        wanted = {port.name: port for port in self._wanted.values()}
        if self._started:
            for port in [one for one in self._kernel.ports if one.name not in wanted]:
                self._do("removing", port)
        for port in wanted.values():
            if port not in self._kernel.ports:
                self._do("making", port)

    def _do(self, what: str, port: Port) -> None:
        try:
            (self._kernel.add if what == "making" else self._kernel.remove)(port)
        except OSError as error:
            text = f"{what} the port of {port.device} at {port.bridge}: {error.strerror or error}"
            facts: dict[str, object] = {"device": str(port.device), "bridge": port.bridge}
            self._joint.emit(Event("bridge_failed", text, Severity.WARNING, facts))

    def _warn(self, grant: Grant, text: str) -> None:
        facts: dict[str, object] = {"session": grant.session, "peer": grant.peer}
        whole = f"{grant.peer} gets no port of {text}"
        self._joint.emit(Event("bridge_failed", whole, Severity.WARNING, facts))

    def reconfigure(self, config: Config) -> None:
        """Bridges and who has them may be others; ports that stay are not touched."""
        self._config = config
        self._find_bridges(config)
        for grant in self._joint.grants().values():
            self.granted(grant)
        self.commit()
        self._kernel.forget_bridges(self._bridges.values())

    async def stop(self, *, keep: bool) -> None:
        """See :meth:`Part.stop`."""
        self._kernel.close(keep=keep)

    def facts(self) -> dict[str, object]:
        """How many ports there are."""
        return {"ports": len(self._kernel.ports)}


def _ends(config: Config) -> Iterator[IPv4Address]:
    for section in config.bridges.values():
        if isinstance(section.address, IPv4Address):
            yield section.address


def _bridge_of(config: Config, grant: Grant) -> str | None:
    """The profile's word counts before the connection's."""
    profile = config.profiles.get(grant.profile)
    if profile is not None and profile.bridge is not None:
        return profile.bridge
    connection = config.connections.get(grant.connection)
    return connection.bridge if connection is not None else None
