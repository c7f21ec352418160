"""Names of devices: orders for the registrar, what became of them, and what another start finds.

What was registered is recorded before the server is told, so that the next process can withdraw
what nobody has any more.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING, Final

from gateway.appliance.access.times import iso
from gateway.appliance.observation.device import seen_name
from gateway.appliance.remote_access.part import Joint
from gateway.domain.remote_access import Grant
from gateway.ike.outputs import Event, Severity
from gateway.names.labels import label_of
from gateway.names.roster import Register, Registered, Roster
from gateway.names.settings import RegistrarSettings

if TYPE_CHECKING:
    from gateway.control.remote_access_views import RegisteredName
    from gateway.control.remote_access_views import Registration as RegistrationView

KIND: Final = "names"
"""Of records."""
MAX_ITEMS: Final = 1000
MAX_TEXT: Final = 300
FAREWELL_S: Final = 2.0

Tell = Callable[[dict[str, object]], bool]


@dataclass(slots=True)
class Became:
    """What became of a name."""

    state: str = "pending"
    detail: str = ""
    since: float | None = None


class Registration:
    """``[names.registration]``; does nothing without it."""

    def __init__(self, joint: Joint, tell: Tell) -> None:
        self._joint = joint
        self._tell = tell
        self._settings: RegistrarSettings | None = None
        self._roster: Roster | None = None
        self._connected = False
        self._became: dict[str, Became] = {}
        self._pending: set[str] = set()
        """Names with an order whose end is not known."""
        self._trouble = ""
        self._settled = asyncio.Event()

    def __len__(self) -> int:
        return 0 if self._roster is None else len(self._roster)

    def open(self, settings: RegistrarSettings | None) -> None:
        """Remember what an earlier process registered."""
        self._settings = settings
        if settings is not None:
            self._roster = Roster(settings.zone, self._configured)
            self._roster.left_behind(self._recorded(settings.zone))

    def settle(self) -> None:
        """See :meth:`Roster.settle`."""
        if self._roster is not None:
            self._roster.settle()
            self.commit()

    def granted(self, grant: Grant) -> None:
        """A session is in."""
        if self._roster is not None:
            self._roster.granted(grant)

    def ended(self, grant: Grant) -> None:
        """It is over."""
        if self._roster is not None:
            self._roster.ended(grant)

    def device_changed(self, name: str, identity: str | None) -> None:
        """An administrator calls a device so from now on, or no longer."""
        if self._roster is None:
            return
        for one in {identity, self._roster.identity_of(label_of(name))} - {None}:
            self._roster.reconsider(str(one))
        self.commit()

    def connected(self) -> None:
        """The process begins, or begins anew: it is told everything."""
        self._connected = True
        self._tell_settings()
        if self._roster is not None:
            self._roster.again()
            self.commit()

    def commit(self) -> None:
        """Give the process its orders."""
        if self._roster is None or not self._connected:
            return
        for order in self._roster.take_orders():
            entry = order.entry
            if isinstance(order, Register):
                self._record(entry)
                self._became.setdefault(entry.name, Became()).state = "pending"
            else:
                self._became.pop(entry.name, None)
            self._pending.add(entry.name)
            self._tell(
                {
                    "op": "register" if isinstance(order, Register) else "withdraw",
                    "name": entry.name,
                    "identity": entry.identity,
                    "addresses": [str(one) for one in entry.addresses],
                }
            )

    def reconfigure(self, settings: RegistrarSettings | None) -> None:
        """Another server, zone or key: names move there."""
        before = self._settings
        if settings == before:
            return
        moved = (
            settings is None
            or before is None
            or (settings.server, settings.port, settings.zone)
            != (before.server, before.port, before.zone)
        )
        if moved and self._roster is not None:
            self._roster.withdraw_all()
            self.commit()
            self._roster = None
        self._settings = settings
        self._trouble = ""
        self._tell_settings()
        if moved and settings is not None:
            self._roster = Roster(settings.zone, self._configured)
            for grant in self._joint.grants().values():
                self._roster.granted(grant)
            self.commit()
        elif self._roster is not None:
            self._roster.again()
            self.commit()

    async def withdraw_all(self) -> None:
        """The gateway ends for good; waits a little for the server."""
        if self._roster is None or not self._connected:
            return
        self._roster.withdraw_all()
        self.commit()
        if self._pending and not self._trouble:
            self._settled.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._settled.wait()

    def heard(self, message: dict[str, object]) -> None:
        """What became of an order."""
        name, state = str(message.get("name")), str(message.get("state"))
        detail = str(message.get("detail", ""))[:MAX_TEXT]
        if state == "refused":
            self._failed(name, detail)
            return
        self._pending.discard(name)
        if not self._pending:
            self._settled.set()
        self._recovered()
        if message.get("what") == "withdrawn":
            self._withdrawn(name)
            return
        became = self._became.get(name)
        if became is None:
            return
        became.since = became.since or self._joint.wall_clock()
        became.detail = detail
        if state == "taken":
            self._taken(name, became)
        else:
            became.state = "registered"

    # -- parts -----------------------------------------------------------------------------

    def _configured(self, identity: str) -> str:
        found = self._joint.configured_device(identity)
        return "" if found is None else found.name

    def _tell_settings(self) -> None:
        settings = self._settings
        self._tell({"op": "registrar", **({} if settings is None else settings.to_json())})

    def _record(self, entry: Registered) -> None:
        record = json.dumps([entry.identity, [str(one) for one in entry.addresses]]).encode()
        self._joint.taken.records.keep(KIND, entry.name, record)

    def _recorded(self, zone: str) -> list[Registered]:
        found = []
        for name, record in self._joint.taken.of(KIND).items():
            with contextlib.suppress(ValueError, TypeError):
                identity, addresses = json.loads(record)
                if not name.endswith(f".{zone}"):
                    # It stays in a zone that we know no key for any more.
                    self._joint.taken.records.forget(KIND, name)
                else:
                    texts = tuple(ip_address(one) for one in addresses)
                    found.append(Registered(name, str(identity), texts))
        return found

    def _withdrawn(self, name: str) -> None:
        if self._roster is not None:
            self._roster.withdrawn(name)
        if name not in self._became:
            self._joint.taken.records.forget(KIND, name)

    def _taken(self, name: str, became: Became) -> None:
        became.state = "refused"
        self._joint.taken.records.forget(KIND, name)
        text = f"{name} is somebody else's in DNS, so the device gets another name"
        again = self._roster is not None and self._roster.taken(name)
        if again:
            del self._became[name]
        else:
            text = f"{name} is somebody else's in DNS, so the device has no name"
        self._joint.emit(Event("name_taken", text, Severity.INFO, {"name": name}))
        self.commit()

    def _failed(self, name: str, detail: str) -> None:
        if (became := self._became.get(name)) is not None:
            became.state, became.detail = "failed", detail
        self._settled.set()
        if detail != self._trouble:
            text = f"names of devices cannot be registered: {detail}; it is tried again"
            if not self._trouble:
                self._joint.emit(Event("names_refused", text, Severity.WARNING, {"name": name}))
            self._trouble = detail

    def _recovered(self) -> None:
        if self._trouble:
            self._trouble = ""
            text = "names of devices are registered again"
            self._joint.emit(Event("names_registered", text))

    # -- views -----------------------------------------------------------------------------

    def view(self) -> "RegistrationView":
        """As ``names`` shows it."""
        settings = self._settings
        state = "off" if settings is None else "failed" if self._trouble else "ok"
        return {
            "state": state,
            "detail": self._trouble,
            "server": None if settings is None else f"{settings.server} port {settings.port}",
            "zone": None if settings is None else settings.zone,
            "pending": len(self._pending),
        }

    def items(self) -> "list[RegisteredName]":
        """The first names."""
        if self._roster is None:
            return []
        return [self._item(entry) for entry in islice(self._roster.entries(), MAX_ITEMS)]

    def _item(self, entry: Registered) -> "RegisteredName":
        became = self._became.get(entry.name, Became())
        return {
            "name": entry.name,
            "addresses": [str(one) for one in entry.addresses],
            "device": self._configured(entry.identity) or seen_name(entry.identity),
            "identity": entry.identity,
            "state": became.state,
            "detail": became.detail,
            "since": iso(became.since),
        }
