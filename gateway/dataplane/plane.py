"""The dataplane of a process, chosen once for all of its roles."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.dataplane import choice
from gateway.dataplane.choice import Choice, Kind, Problems
from gateway.dataplane.interface import DataplaneTrouble
from gateway.dataplane.portable.forwarder import Forwarder, ForwarderUnavailableError

if TYPE_CHECKING:
    from gateway.dataplane.kernel.dataplane import KernelDataplane
    from gateway.dataplane.kernel.settings import KernelSettings
    from gateway.dataplane.portable.dataplane import PortableDataplane
    from gateway.dataplane.portable.shared import SharedForwarder

INTERFACE = "gw0"
"""Unless the configuration names another one."""
FOLDER = "forwarder"
"""Of the forwarder's sockets, in the process's own folder."""


class Plane:
    """Who carries the packets; and the forwarder, where it is one that carries them."""

    def __init__(
        self,
        made: Choice,
        folder: Path,
        interface: str = INTERFACE,
        workers: int | None = None,
    ) -> None:
        """``folder`` is where the process has its sockets; see :meth:`of`."""
        self.choice = made
        self._workers = workers
        self._interface = interface
        self._folder = folder / FOLDER
        self._shared: SharedForwarder | None = None

    @classmethod
    def of(
        cls,
        kind: str,
        needs: frozenset[str],
        folder: Path,
        interface: str = INTERFACE,
        *,
        workers: int | None = None,
    ) -> "Plane":
        """Choose: ``kind`` is ``auto``, ``kernel`` or ``portable``.

        ``needs`` are names of :mod:`gateway.dataplane.choice`, ``interface`` is the tunnels' own,
        of the IPsec dataplane, ``workers`` how many processes a forwarder has; one for each
        processor unless given. Raises
        :class:`gateway.dataplane.interface.DataplaneUnavailableError`.
        """
        made = choice.choose(kind, needs, _kernel_lacks, _portable_lacks)
        return cls(made, folder, interface, workers)

    @property
    def portable(self) -> bool:
        """Whether user space carries the packets."""
        return self.choice.kind is Kind.PORTABLE

    @property
    def why(self) -> str:
        """Why it was chosen, in one line."""
        return self.choice.why

    def facts(self) -> dict[str, object]:
        """For status pages."""
        found: dict[str, object] = {"kind": str(self.choice.kind), "why": self.why}
        if self._shared is not None:
            found["forwarder"] = self._shared.facts()
        return found

    def dataplane(self, settings: "KernelSettings") -> "KernelDataplane | PortableDataplane":
        """The IPsec dataplane, not started."""
        if self.portable:
            from gateway.dataplane.portable.dataplane import PortableDataplane  # noqa: PLC0415

            return PortableDataplane(settings, self)
        from gateway.dataplane.kernel.dataplane import KernelDataplane  # noqa: PLC0415

        self.end_forwarder()
        return KernelDataplane(settings)

    # -- the forwarder -----------------------------------------------------------------------

    def forwarder(self) -> Forwarder:
        """A view of its own for each who asks. The first one starts it, or takes it over.

        Raises :class:`ForwarderUnavailableError`.
        """
        return self.shared.view()

    @property
    def shared(self) -> "SharedForwarder":
        """What the views are of."""
        if self._shared is None:
            from gateway.dataplane.portable.shared import SharedForwarder  # noqa: PLC0415

            self._shared = SharedForwarder(self._open, self._ended)
        return self._shared

    def _open(self, adopt: bool) -> Forwarder:
        from gateway.dataplane.kernel.settings import DEFAULT_MTU  # noqa: PLC0415
        from gateway.dataplane.portable.launch import open_forwarder  # noqa: PLC0415
        from gateway.dataplane.portable.wire import inside  # noqa: PLC0415

        if adopt and self._interface and not self._runs() and inside.served(self._interface):
            # Devices of a gateway with another folder, whose forwarder ends with them. Those of
            # one that has died stay: without their routes packets would leave in the clear.
            self._ended()
        # Whoever is first: roles may ask for the forwarder before the IPsec dataplane starts.
        made = bool(self._interface) and not inside.exists(self._interface)
        if made:
            inside.make(self._interface, DEFAULT_MTU)
        try:
            return open_forwarder(
                self._folder, interface=self._interface, adopt=adopt, workers=self._workers
            )
        except ForwarderUnavailableError:
            if made:
                inside.delete(self._interface)
            raise

    def _runs(self) -> bool:
        """Whether an earlier process of ours left a forwarder, of whatever version."""
        from gateway.dataplane.portable.client import (  # noqa: PLC0415
            ForwarderClient,
            UnusableForwarderError,
        )

        try:
            ForwarderClient(self._folder).close(keep=True)
        except UnusableForwarderError:
            return True
        except OSError:
            return False
        return True

    def _ended(self) -> None:
        from gateway.dataplane.portable.wire import inside  # noqa: PLC0415

        if self._interface and inside.exists(self._interface):
            inside.delete(self._interface)

    def use_interface(self, name: str) -> None:
        """Another name of what the inner packets pass; before the first view.

        Raises :class:`ForwarderUnavailableError` when it is too late for that.
        """
        if self._interface != name and self._shared is not None and self._shared.open:
            text = f"the forwarder serves {self._interface or 'no interface'}, not {name}"
            raise ForwarderUnavailableError(text)
        self._interface = name

    def end_forwarder(self) -> None:
        """End the one that an earlier process left, with its devices, when there is any."""
        if not (self._folder / "forwarder-0.sock").exists():
            return
        with contextlib.suppress(ForwarderUnavailableError):
            self.shared.view().close(keep=False)

    def event_fds(self) -> list[int]:
        """For a process without an IPsec dataplane: readable, :meth:`look_after` is due."""
        return [self.shared.fileno()]

    def look_after(self) -> list[DataplaneTrouble]:
        """Start a forwarder that has ended again, with its tunnel links; what to tell."""
        shared = self.shared
        try:
            shared.read_events()
        except ForwarderUnavailableError as error:
            try:
                shared.revive()
            except ForwarderUnavailableError as again:
                text = f"the forwarder ended ({error}) and cannot be started again: {again}"
                return [DataplaneTrouble(text)]
            return [DataplaneTrouble(f"the forwarder ended ({error}) and was started again")]
        return []


def _kernel_lacks(needs: frozenset[str]) -> Problems:
    from gateway.dataplane.kernel.probe_here import missing_here  # noqa: PLC0415 - only to choose

    return missing_here(needs)


def _portable_lacks(needs: frozenset[str]) -> Problems:
    from gateway.dataplane.portable.probe import missing  # noqa: PLC0415 - only to choose

    return missing(needs)
