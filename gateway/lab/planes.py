"""Which dataplane the lab's gateways and nodes take, and those of tests that drive one directly.

``GATEWAY_LAB_DATAPLANE`` says ``kernel`` or ``portable``; without it a configuration says nothing
(``auto``), and what a test drives directly is the kernel's where the running kernel has it all.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.lab.held import end_forwarders, held_by
from gateway.lab.kernel import missing_features
from gateway.lab.processes import LabError

if TYPE_CHECKING:
    from gateway.dataplane.kernel.dataplane import KernelDataplane
    from gateway.dataplane.kernel.mobility.dataplane import KernelMobility
    from gateway.dataplane.kernel.nar.dataplane import KernelNar
    from gateway.dataplane.kernel.node.node import KernelNode
    from gateway.dataplane.kernel.settings import KernelSettings
    from gateway.dataplane.mobility import MobilitySettings
    from gateway.dataplane.nar import NarSettings
    from gateway.dataplane.node import NodeSettings
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.portable.forwarder import HeldSa

VARIABLE = "GATEWAY_LAB_DATAPLANE"
KINDS = ("kernel", "portable")
FORWARDERS = Path("/run/gateway-lab/forwarders")
"""Folders of the forwarders of dataplanes that tests drive directly, one for each host."""

_SESSION = os.getpid()
"""Of whoever has imported this: the processes that it forks take over from each other."""
_planes: dict[Path, Plane] = {}


def wanted() -> str:
    """``kernel``, ``portable`` or ``auto``; raises LabError where the variable says another."""
    kind = os.environ.get(VARIABLE) or "auto"
    if kind not in {"auto", *KINDS}:
        raise LabError(f"{VARIABLE}: {kind!r} given, allowed are {', '.join(KINDS)}")
    return kind


def portable() -> bool:
    """Whether what is driven directly, and what says ``auto``, is the portable dataplane."""
    kind = wanted()
    return kind == "portable" or (kind == "auto" and bool(missing_features()))


def with_kind(text: str) -> str:
    """A configuration or a profile that names its dataplane, unless it does or none is wanted."""
    kind = wanted()
    if kind == "auto":
        return text
    line, table = f'kind = "{kind}"\n', "[dataplane]\n"
    if table not in text:
        return f"{text}\n{table}{line}"
    before, _, after = text.partition(table)
    if "kind =" in after.partition("\n[")[0]:
        return text
    return f"{before}{table}{line}{after}"


def rejected(counters: Mapping[str, int]) -> Counter[str]:
    """Packets of strangers that moved nothing, of the counters of either dataplane.

    ``late``: an old sequence number; ``forged``: a wrong check value; ``unchecked``: too many.
    """
    return Counter({kind: counters.get(f"slow_path_{kind}", 0) for kind in _REJECTED})


_REJECTED = ("late", "forged", "unchecked")


# -- what a test drives directly ------------------------------------------------------------------
# Each is made in the network namespace that the calling thread is in. Roles of one host share a
# forwarder, and so do a role and the one that takes over from it.


def plane(interface: str = "gw0") -> Plane:
    """The portable one of the host that the calling thread is in, with its tunnels' interface."""
    from gateway.dataplane.plane import Plane  # noqa: PLC0415 - most of the lab needs none

    folder = folder_here()
    if folder not in _planes:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _planes[folder] = Plane.of("portable", frozenset(), folder, interface)
    return _planes[folder]


def held_here() -> list[HeldSa]:
    """The SAs of the forwarder of the host that the calling thread is in."""
    folder = folder_here()
    return held_by(folder) if folder.exists() else []


def forget() -> None:
    """End the forwarder of that host, before its namespace goes: another may get its number."""
    folder = folder_here()
    _planes.pop(folder, None)
    if folder.exists():
        end_forwarders(folder)
        shutil.rmtree(folder, ignore_errors=True)


def folder_here() -> Path:
    """Where the forwarder of the host that the calling thread is in has its sockets."""
    inode = Path("/proc/thread-self/ns/net").stat().st_ino
    return FORWARDERS / f"{_SESSION}-{inode}"


def dataplane(settings: KernelSettings) -> KernelDataplane:
    """Child SAs; not started."""
    if portable():
        made = plane(settings.xfrm_interface)
        return made.dataplane(settings)  # type: ignore[return-value]  # the same surface
    from gateway.dataplane.kernel.dataplane import KernelDataplane  # noqa: PLC0415 - as above

    return KernelDataplane(settings)


def mobility(settings: MobilitySettings) -> KernelMobility:
    """Bindings and visitors; not started."""
    if portable():
        from gateway.dataplane.portable.mobility.dataplane import (  # noqa: PLC0415 - as above
            PortableMobility,
        )

        return PortableMobility(settings, plane().forwarder())
    from gateway.dataplane.kernel.mobility.dataplane import KernelMobility  # noqa: PLC0415

    return KernelMobility(settings)


def nar(settings: NarSettings) -> KernelNar:
    """Mappings; not started."""
    if portable():
        from gateway.dataplane.portable.nar.dataplane import PortableNar  # noqa: PLC0415 - as above

        return PortableNar(settings, plane().forwarder())
    from gateway.dataplane.kernel.nar.dataplane import KernelNar  # noqa: PLC0415

    return KernelNar(settings)


def node(settings: NodeSettings) -> KernelNode:
    """A mobile node's; not opened."""
    if portable():
        from gateway.dataplane.kernel.node.constants import XFRM_INTERFACE  # noqa: PLC0415
        from gateway.dataplane.portable.node.node import PortableNode  # noqa: PLC0415 - as above

        return PortableNode(settings, plane(XFRM_INTERFACE).forwarder)
    from gateway.dataplane.kernel.node.node import KernelNode  # noqa: PLC0415

    return KernelNode(settings)
