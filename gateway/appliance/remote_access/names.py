"""``[names]``: the forwarder, names of devices, and how devices find the gateway.

What reads DNS messages is :mod:`gateway.names.worker`, in a process of its own: this part tells it
what to do and knows what became of it.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.appliance.accounts import Account, api_account, out_of_reach
from gateway.appliance.remote_access.names_process import NamesProcess
from gateway.appliance.remote_access.names_registration import Registration
from gateway.appliance.remote_access.names_verification import verify
from gateway.appliance.remote_access.names_views import forwarder_view
from gateway.appliance.remote_access.part import Joint, Part
from gateway.config import to_names
from gateway.config.problem import ConfigError, Problem, shown
from gateway.control.protocol import ControlError, ErrorCode
from gateway.domain.remote_access import Grant
from gateway.ike.outputs import Event, Severity
from gateway.names.listening import Doors

if TYPE_CHECKING:
    from gateway.config.document import Config
    from gateway.control.protocol import Request
    from gateway.control.remote_access_views import NamesVerify, NamesView

    Handler = Callable[[Request], Awaitable[object]]

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
MAX_TEXT: Final = 300
_PROGRAM = Path(__file__)


def build(joint: Joint) -> Part:
    """For :mod:`gateway.appliance.remote_access.composition`."""
    return Names(joint)


class Names(Part):
    """See the module."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._config = joint.config()
        self._doors = Doors()
        self._process: NamesProcess | None = None
        self._account: Account | None = None
        self._registration = Registration(joint, self._tell)
        self._state, self._detail = "off", ""
        self._worker: int | None = None
        """Number of the process that reads DNS messages."""
        self._pause_s = FIRST_PAUSE_S
        self._stopping = False
        self._verifying: asyncio.Task[NamesVerify] | None = None

    # -- life ------------------------------------------------------------------------------

    def open(self) -> None:
        """Bind the forwarder's sockets and start its process, as another user where we can."""
        self._registration.open(to_names.registrar(self._config))
        if self._wanted(self._config):
            self._account = self._find_account()
        self._listen(self._config)
        try:
            self._begin()
        except OSError:
            self._doors.close()
            raise

    async def start(self) -> None:
        """Names of devices that did not come back are withdrawn."""
        self._registration.settle()

    def granted(self, grant: Grant) -> None:
        """See :meth:`Part.granted`."""
        self._registration.granted(grant)

    def ended(self, grant: Grant) -> None:
        """See :meth:`Part.ended`."""
        self._registration.ended(grant)

    def commit(self) -> None:
        """See :meth:`Part.commit`."""
        self._registration.commit()

    def device_changed(self, name: str, identity: str | None) -> None:
        """See :meth:`Part.device_changed`."""
        self._registration.device_changed(name, identity)

    def reconfigure(self, config: "Config") -> None:
        """Apply what changed. Raises OSError and ConfigError with the former one in force."""
        settings = to_names.registrar(config)
        moved = self._listen(config)
        forwarder = to_names.forwarder(config)
        asks_others = forwarder != to_names.forwarder(self._config)
        self._config = config
        if self._process is None:
            self._begin()
        else:
            if moved:
                self._tell({"op": "listen"}, self._doors.descriptors())
            if asks_others:
                self._tell({"op": "forwarder", **forwarder.to_json()})
        if not config.names.listen:
            self._state, self._detail = "off", ""
        self._registration.reconfigure(settings)

    async def stop(self, *, keep: bool) -> None:
        """End the process. What is registered stays if sessions do, and is withdrawn otherwise."""
        self._stopping = True
        if not keep:
            await self._registration.withdraw_all()
        if self._process is not None:
            await self._process.stop()
            self._process = None
        self._doors.close()

    def facts(self) -> dict[str, object]:
        """See :meth:`Part.facts`."""
        return {
            "forwarder": self._state,
            "names": len(self._registration),
            "worker": self._worker,
        }

    def handlers(self) -> "Mapping[str, Handler]":
        """See :meth:`Part.handlers`."""
        return {"names": self._names, "names-verify": self._names_verify}

    # -- sockets and process ---------------------------------------------------------------

    @staticmethod
    def _wanted(config: "Config") -> bool:
        return bool(config.names.listen) or config.names.registration is not None

    def _find_account(self) -> Account | None:
        config = self._config
        account = api_account(config.names.user, config.path, "names.user")
        if account is None:
            return None
        barred = out_of_reach([Path(sys.executable), _PROGRAM], account)
        if barred is None:
            return account
        text = (
            f"[names] user {config.names.user} may not enter {barred}, so the forwarder runs as the"
            " gateway's user, without capabilities: install the gateway where everybody may read,"
            " as in /opt"
        )
        self._joint.emit(Event("names_user_barred", text, Severity.WARNING))
        return None

    def _listen(self, config: "Config") -> bool:
        """Whether the sockets are other ones now. Raises ConfigError, with everything as it was."""
        names = config.names
        try:
            return self._doors.open(names.listen, names.port)
        except OSError as error:
            why = f"{error.strerror}; stop what answers names there, or choose another address"
            problem = Problem(config.path, "names.listen", why, shown(names.listen))
            raise ConfigError([problem]) from None

    def _begin(self) -> None:
        if not self._wanted(self._config):
            return
        self._process = NamesProcess(self._account, self._heard, self._ended)
        if self._config.names.listen:
            self._state = "starting"

    def _ended(self) -> None:
        """The process is gone: another one, later."""
        process, self._process = self._process, None
        if process is None or self._stopping:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(process.stop())
        task.add_done_callback(lambda _: None)
        self._state, self._detail = "failed", "its process ended"
        text = f"the process of names ended; again in {self._pause_s:g} s"
        self._joint.emit(Event("names_ended", text, Severity.WARNING))
        loop.call_later(self._pause_s, self._again)
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)

    def _again(self) -> None:
        if self._stopping or self._process is not None:
            return
        try:
            self._begin()
        except OSError as error:
            self._state = "failed"
            self._detail = f"its process does not start: {os.strerror(error.errno or 0)}"
            self._joint.emit(Event("names_ended", self._detail, Severity.WARNING))
            asyncio.get_running_loop().call_later(LONGEST_PAUSE_S, self._again)

    def _tell(self, message: dict[str, object], sockets: "list[int] | None" = None) -> bool:
        return self._process is not None and self._process.tell(message, sockets or ())

    def _heard(self, message: dict[str, object]) -> None:
        match message.get("what"):
            case "hello":
                pid = message.get("pid")
                self._worker = pid if isinstance(pid, int) else None
                self._tell({"op": "forwarder", **to_names.forwarder(self._config).to_json()})
                self._tell({"op": "listen"}, self._doors.descriptors())
                self._registration.connected()
            case "listening":
                self._pause_s = FIRST_PAUSE_S
                if self._config.names.listen:
                    self._state, self._detail = "running", ""
            case "registered" | "withdrawn":
                self._registration.heard(message)
            case "fault":
                text = f"the process of names: {str(message.get('detail'))[:MAX_TEXT]}"
                self._joint.emit(Event("names_fault", text, Severity.WARNING))

    # -- operations ------------------------------------------------------------------------

    async def _names(self, _request: "Request") -> "NamesView":
        facts = None if self._process is None else await self._process.facts()
        settings = to_names.forwarder(self._config)
        forwarder = forwarder_view(self._config, settings, self._state, self._detail, facts)
        return {
            "forwarder": forwarder,
            "registration": self._registration.view(),
            "items": self._registration.items(),
            "total": len(self._registration),
        }

    async def _names_verify(self, _request: "Request") -> "NamesVerify":
        wanted = to_names.published(self._config)
        if wanted is None:
            why = "names.published is not set; name the domain in whose public DNS devices look"
            raise ControlError(ErrorCode.REFUSED, why)
        if self._verifying is None or self._verifying.done():
            # Each costs a process and a thread: whoever asks meanwhile gets the same answer.
            loop = asyncio.get_running_loop()
            self._verifying = loop.create_task(verify(wanted))
        return await asyncio.shield(self._verifying)
