"""The names that devices have in lists, by what they proved."""

import hashlib
from typing import TYPE_CHECKING

from gateway.ike.auth.identity import Identity

if TYPE_CHECKING:
    from gateway.config.document import Config


class DeviceNames:
    """Of one configuration."""

    def __init__(self, config: "Config") -> None:
        self._names = {
            comparable(section.identity): name for name, section in config.devices.items()
        }

    def of(self, identity: str) -> str:
        """The name of a ``[devices.NAME]``, or ``~`` and 16 digits of one that was only seen."""
        known = self._names.get(comparable(identity)) if self._names else None
        return known or f"~{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def comparable(text: str) -> str:
    """One spelling of an identity for all of them; a text that is none stays as it is."""
    try:
        return Identity.parse(text).comparable()
    except ValueError:
        return text
