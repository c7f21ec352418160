"""Rekeying."""

from gateway.ike.v2.core import Core
from gateway.ike.v2.sa import Child, IkeSa


def rekey_ike(core: Core, sa: IkeSa, now: float) -> None:
    """Not yet."""


def rekey_child(core: Core, sa: IkeSa, child: Child, now: float) -> None:
    """Not yet."""
