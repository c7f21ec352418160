"""Where the configuration comes from: the file and the stored objects."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from gateway.config.document import Config
from gateway.config.kinds import KINDS, Stored
from gateway.config.loader import read_tables

Key = tuple[str, str]
"""Kind and name."""


class Load(Protocol):
    """:func:`gateway.config.loader.load`, or :meth:`gateway.appliance.parts.Parts.load`."""

    def __call__(
        self,
        path: Path,
        *,
        objects: Iterable[Stored] = (),
        tables: Mapping[str, object] | None = None,
        required: Collection[Key] | None = None,
    ) -> Config:
        """The configuration; raises :class:`gateway.config.ConfigError`."""


class Source:
    """Remembers the file as it was read last, so that a change of an object takes in no more."""

    def __init__(self, path: Path, load: Load) -> None:
        self.path = path
        self._load = load
        self.tables: Mapping[str, object] = {}
        self.config: Config | None = None
        """As it was judged last, and is in force but for what waits for a restart."""

    def read(self, objects: Iterable[Stored], required: Collection[Key] = ()) -> Config:
        """Read the file anew. Objects that do not fit are left out, the required ones refused.

        Raises :class:`gateway.config.ConfigError`.
        """
        tables = read_tables(self.path)
        config = self._load(self.path, objects=objects, tables=tables, required=required)
        self.tables, self.config = tables, config
        return config

    def judge(self, objects: Iterable[Stored], required: Collection[Key]) -> Config:
        """The configuration with these objects and the file as it was read last.

        Raises :class:`gateway.config.ConfigError`.
        """
        return self._load(self.path, objects=objects, tables=self.tables, required=required)

    def in_file(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        """The file's tables of a kind, by name. None of users, whose section is another thing."""
        section = self.tables.get(kind, {})
        if kind not in KINDS or kind == "users" or not isinstance(section, Mapping):
            return {}
        return section
