"""Which dataplane a process takes: the kernel where it can do all that is needed, or user space."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.dataplane.interface import DataplaneUnavailableError

IPSEC: Final = frozenset(
    {
        "xfrm",
        "esp-aes-gcm",
        "udp-encapsulation",
        "xfrm-interface",
        "nftables-esp-sets",
        "nft-queue",
    }
)
"""What every gateway needs of the kernel's dataplane, by the names of ``gateway check``."""
TUNNELS: Final = frozenset({"ipip", "gre", "nft-queue"})
"""And for NAR."""
MOBILITY: Final = TUNNELS | {"fou"}
"""And for Mobile IPv4, agents and nodes."""

Problems = Mapping[str, str]
"""What is missing by its name, and what the kernel said."""


class Kind(enum.StrEnum):
    """Who carries the packets."""

    KERNEL = "kernel"
    PORTABLE = "portable"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen."""

    kind: Kind
    why: str
    """One line for the log and status pages."""


def choose(
    wanted: str,
    needs: frozenset[str],
    kernel: Callable[[frozenset[str]], Problems],
    portable: Callable[[frozenset[str]], Problems],
) -> Choice:
    """Decide; ``wanted`` is ``auto``, ``kernel`` or ``portable``.

    ``kernel`` and ``portable`` tell what is missing of the needs; each is asked once at most.
    Raises :class:`DataplaneUnavailableError` where what is wanted cannot be had.
    """
    if wanted == Kind.PORTABLE:
        _require_portable(portable(needs), "")
        return Choice(Kind.PORTABLE, "as configured")
    lacking = kernel(needs)
    if wanted == Kind.KERNEL:
        if lacking.keys() & IPSEC:
            text = f"the kernel lacks {_listed(lacking)}"
            remedy = 'set [dataplane] kind = "auto", or use a kernel that has it'
            raise DataplaneUnavailableError(_ENOSYS, f"{text}; {remedy}")
        return Choice(Kind.KERNEL, "as configured")
    if not lacking:
        return Choice(Kind.KERNEL, "the kernel has all that is needed")
    _require_portable(portable(needs), f"the kernel lacks {_listed(lacking)}, and ")
    return Choice(Kind.PORTABLE, f"the kernel lacks {_listed(lacking)}")


_ENOSYS: Final = 38


def _listed(lacking: Problems) -> str:
    return ", ".join(lacking)


def _require_portable(problems: Problems, before: str) -> None:
    """A kernel that has neither all that one needs nor the other cannot be a gateway."""
    if not problems:
        return
    told = "; ".join(f"{name}: {said}" for name, said in problems.items())
    text = f"{before}the portable dataplane cannot work here: {told}"
    raise DataplaneUnavailableError(_ENOSYS, text)
