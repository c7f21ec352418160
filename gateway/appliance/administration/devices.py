"""Devices by name and by identity: which are blocked, and what they have."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gateway.config.administration import DeviceSection
from gateway.config.administration_checks import canonical_identity, comparable_identity


@dataclass(frozen=True, slots=True)
class Device:
    """A configured device."""

    name: str
    identity: str
    """As the engine shows it."""
    section: DeviceSection
    source: str

    @property
    def blocked(self) -> bool:
        """Whether its logins are refused."""
        return self.section.blocked


class Devices:
    """All configured devices, of the store and of the file. Look-ups are quick."""

    def __init__(self) -> None:
        self._by_name: dict[str, Device] = {}
        self._by_identity: dict[str, str] = {}
        self._blocked_nodes: dict[str, str] = {}
        """Names of blocked devices by their mobile nodes."""
        self.revision = 0
        """Another number after each change."""
        self.changed: Callable[[str], None] = _nobody
        """Told the name of each device that came, changed or went."""

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Device]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Device | None:
        """The device of this name."""
        return self._by_name.get(name)

    def of_identity(self, identity: str) -> Device | None:
        """The device that proves this identity; None when none is configured."""
        name = self._by_identity.get(comparable_identity(identity))
        return None if name is None else self._by_name[name]

    def put(self, name: str, section: DeviceSection, source: str = "store") -> Device:
        """Add it, or put it in place of the one with its name."""
        self._take_out(name)
        device = Device(name, canonical_identity(section.identity), section, source)
        self._by_name[name] = device
        self._by_identity[comparable_identity(device.identity)] = name
        if section.blocked and section.mobile_node is not None:
            self._blocked_nodes[section.mobile_node] = name
        self._tell(name)
        return device

    def remove(self, name: str) -> None:
        """Forget it."""
        if self._take_out(name):
            self._tell(name)

    def _tell(self, name: str) -> None:
        self.revision += 1
        self.changed(name)

    def _take_out(self, name: str) -> bool:
        old = self._by_name.pop(name, None)
        if old is None:
            return False
        key = comparable_identity(old.identity)
        if self._by_identity.get(key) == name:
            del self._by_identity[key]
        node = old.section.mobile_node
        if node is not None and self._blocked_nodes.get(node) == name:
            del self._blocked_nodes[node]
            for other in self._by_name.values():  # an unblocked one does not free another's
                if other.section.blocked and other.section.mobile_node == node:
                    self._blocked_nodes[node] = other.name
        return True

    def use_file(self, sections: Mapping[str, DeviceSection]) -> tuple[list[str], list[str]]:
        """Take the devices of the file in.

        Names of stored ones that they hide from now on, and of those of the file that are gone.
        """
        of_file = {one.name: one.section for one in self if one.source == "file"}
        gone = [name for name in of_file if name not in sections]
        for name in gone:
            self.remove(name)
        hidden = [name for name in sections if name in self._by_name and name not in of_file]
        for name, section in sections.items():
            if of_file.get(name) != section:
                self.put(name, section, "file")
        return hidden, gone

    # -- who may log in --------------------------------------------------------------------

    def refusal(self, identity: str, user: str = "") -> str | None:
        """Why a login with this identity, by this user, is refused; None when it is not."""
        for proven in (identity, user):
            name = self._by_identity.get(comparable_identity(proven)) if proven else None
            if name is not None and self._by_name[name].section.blocked:
                return f"device {name} is blocked"
        return None

    def node_refusal(self, mobile_node: str) -> str | None:
        """Why a mobile node may not register; None when it may."""
        name = self._blocked_nodes.get(mobile_node)
        return None if name is None else f"device {name} is blocked"


def _nobody(_name: str) -> None:
    pass
