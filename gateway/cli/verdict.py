"""One line of ``gateway check``."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "missing"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was looked at, how it is, and what to do about it."""

    area: str
    """Group of the table: configuration, host, network, kernel."""
    name: str
    state: State
    detail: str = ""
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return {
            "area": self.area,
            "name": self.name,
            "state": self.state,
            "detail": self.detail,
            "remedy": self.remedy,
        }
