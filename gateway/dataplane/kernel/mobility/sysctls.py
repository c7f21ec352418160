"""Switches below /proc/sys/net/ipv4 that the mobility dataplane needs, set back at its end.

Reverse path filters: the kernel uses the larger one of ``all`` and the interface's own, where 0 is
off, 1 strict and 2 loose. Inner packets come out of receiving devices that no route leads to, and
visitors' addresses are foreign to their link, so a strict filter would drop them: 2 overrules a
strict ``all``. A device without an address of its own passes no filter at all, not even the loose
one: where ``all`` is not 0, receiving devices get the dummy address. Interfaces that packets of
zero-overhead bindings come in by are left alone; there a strict filter has to be relaxed by the
administrator, whom :func:`strict_interfaces` tells.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/proc/sys/net/ipv4")


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""


class Sysctls:
    """What was changed, by file."""

    def __init__(self) -> None:
        self._before: dict[Path, str] = {}

    def _write(self, name: str, value: str) -> None:
        path = _ROOT / name
        before = _read(path)
        if before and before != value:
            path.write_text(value, "ascii")
            self._before.setdefault(path, before)

    def write(self, name: str, value: str) -> None:
        """Set one of ``/proc/sys/net/ipv4`` until :meth:`restore`. Raises OSError."""
        self._write(name, value)

    def forwarding(self) -> None:
        """Route between interfaces; this stays on. Raises OSError."""
        path = _ROOT / "ip_forward"
        if _read(path) == "0":
            path.write_text("1", "ascii")

    def receiving(self, device: str) -> None:
        """A device that inner packets come out of. Raises OSError.

        Our own address may be their source: the two ends of a tunnel can be one machine.
        """
        self._write(f"conf/{device}/rp_filter", "2" if filtered() else "0")
        self._write(f"conf/{device}/accept_local", "1")

    def visited(self, interface: str) -> None:
        """A link whose visitors have addresses from elsewhere. Raises OSError."""
        every = _read(_ROOT / "conf/all/rp_filter")
        if "1" in (every, _read(_ROOT / f"conf/{interface}/rp_filter")):
            self._write(f"conf/{interface}/rp_filter", "2")

    def home(self, interface: str) -> None:
        """A home link: answer for mobile nodes at once, not after up to 0.8 s. Raises OSError."""
        self._write(f"neigh/{interface}/proxy_delay", "0")

    def restore(self) -> None:
        """Write back what was there."""
        for path, before in self._before.items():
            with contextlib.suppress(OSError):
                path.write_text(before, "ascii")
        self._before.clear()


def filtered() -> bool:
    """Whether ``all`` turns reverse path filters on for every interface."""
    return _read(_ROOT / "conf/all/rp_filter") not in ("", "0")


def strict_interfaces(interfaces: Iterable[str]) -> list[str]:
    """Those of ``interfaces`` whose reverse path filter is strict: it drops switched packets."""
    every = _read(_ROOT / "conf/all/rp_filter")
    found = []
    for interface in interfaces:
        own = _read(_ROOT / f"conf/{interface}/rp_filter")
        if max(every or "0", own or "0") == "1":
            found.append(interface)
    return found
