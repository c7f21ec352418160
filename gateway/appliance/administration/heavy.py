"""Judges objects that are part of the configuration: only as a whole it stands or falls."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.appliance.administration.devices import Devices
from gateway.appliance.administration.judging import refused
from gateway.appliance.administration.known import KnownObjects
from gateway.appliance.administration.objects import Wanted
from gateway.appliance.administration.side import Surroundings
from gateway.appliance.administration.source import Key, Source
from gateway.appliance.administration.views import of_change
from gateway.config.difference import Change, difference
from gateway.config.document import Config
from gateway.config.kinds import KINDS, Stored, secret_paths
from gateway.config.one_node import with_node
from gateway.config.problem import ConfigError
from gateway.config.secrets import split
from gateway.control.operation import Document
from gateway.control.protocol import ControlError, ErrorCode

if TYPE_CHECKING:
    from gateway.store.objects import StoredObject as Kept

_REFERRED = {"connections": "connection", "mobile_nodes": "mobile_node"}
"""Fields of devices by the kind that they name."""


class HeavyJudge:
    """Of pools, connections, agents and the like."""

    def __init__(
        self, known: KnownObjects, source: Source, surroundings: Surroundings, devices: Devices
    ) -> None:
        self._known = known
        self._source = source
        self._around = surroundings
        self._devices = devices

    def in_file(self, kind: str, name: str) -> bool:
        """Whether the file has one of this name."""
        return name in self._source.in_file(kind)

    async def judge(
        self, kind: str, name: str, _old: "Kept | None", document: Document | None
    ) -> Wanted:
        """See :class:`gateway.appliance.administration.objects.Judge`."""
        if document is None:
            self._not_needed(kind, name)
        running = self._around.config()
        try:
            config = await asyncio.to_thread(self._wanted, kind, name, document)
            prepared = await self._around.prepare(config)
        except ConfigError as error:
            raise refused(kind, name, error) from None
        changes = [one for one in difference(running, config) if _is_of(one, kind, name)]
        cut = self._around.ended_by(prepared)

        async def apply(_kept: "Kept | None") -> None:
            self._source.config = config
            await self._around.apply(prepared)

        shown, secrets = split(document or {}, secret_paths(KINDS[kind].model))
        return Wanted(
            None if document is None else shown, secrets, list(map(of_change, changes)), cut, apply
        )

    def _wanted(self, kind: str, name: str, document: Document | None) -> Config:
        """In a thread. Raises :class:`ConfigError`."""
        last, key = self._source.config, (kind, name)
        if kind == "mobile_nodes" and last is not None:
            return with_node(last, name, document)
        objects = [one for one in self._known.heavy() if (one.kind, one.name) != key]
        required = self._known.heavy_keys() - set(self._around.config().broken) - {key}
        new = None if document is None else Stored(kind, name, document)
        return self._judge(objects, required, new)

    def _judge(self, objects: list[Stored], required: set[Key], new: Stored | None) -> Config:
        """In a thread. Raises :class:`ConfigError`, if possible with the faults of ``new``."""
        if new is None:
            return self._source.judge(objects, required)
        required = {*required, (new.kind, new.name)}
        try:
            return self._source.judge([*objects, new], required)
        except ConfigError as error:
            own = f"{new.kind}/{new.name}"
            if any(problem.key.startswith(own) for problem in error.problems):
                raise
            # What is in order before it comes may blame what was there before.
            self._source.judge([*objects, replace(new, late=True)], required)
            raise

    def _not_needed(self, kind: str, name: str) -> None:
        field = _REFERRED.get(kind)
        if field is None:
            return
        for device in self._devices:
            if getattr(device.section, field) == name:
                why = f"{kind}/{name}: devices/{device.name} has it as its {field}; change that"
                raise ControlError(ErrorCode.REFUSED, why, "name")


def _is_of(change: Change, kind: str, name: str) -> bool:
    own = f"{kind}.{name}"
    return change.key == own or change.key.startswith(f"{own}.")
