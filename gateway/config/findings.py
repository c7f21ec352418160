"""What the checks of a configuration collect."""

from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.problem import Problem, shown


@dataclass(slots=True)
class Findings:
    """Problems refuse the file, warnings do not."""

    file: Path
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def refuse(self, key: str, value: object, why: str) -> None:
        """Note a fault; ``value`` None shows no value."""
        self.problems.append(Problem(self.file, key, why, None if value is None else shown(value)))

    def warn(self, key: str, value: object, why: str) -> None:
        """Note something that is allowed but should be looked at."""
        self.warnings.append(Problem(self.file, key, why, None if value is None else shown(value)))

    def add(self, other: "Findings") -> None:
        """Take over what another check found."""
        self.problems += other.problems
        self.warnings += other.warnings
