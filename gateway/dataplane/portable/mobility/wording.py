"""The mobility ruleset for kernels that can neither queue packets nor have tunnel devices."""

from typing import Final

from gateway.dataplane.kernel.mobility import constants
from gateway.dataplane.kernel.mobility.ruleset import Wording
from gateway.dataplane.kernel.ruleset import run_nft
from gateway.dataplane.packet import marks
from gateway.dataplane.portable.logged_queue import as_logged, copied
from gateway.dataplane.portable.ways_back import in_rules

PRIORITY: Final = 0x4757_0021
"""Of packets of this host that are given back: only the privileged set it."""
_TUNNEL_ERRORS: Final = (
    "icmp type destination-unreachable icmp code { 2, 3 } @th,136,8 { 4, 47, 55 } drop"
)
"""A kernel that has tunnel devices all the same knows none for what the forwarder opens."""


def _slow_tunnel() -> str:
    """The slow path reads it from the link; the mark says for which tunnel."""
    nested = ", ".join(
        f"{marks.SENT + depth:#x} : {marks.SLOW + depth:#x}"
        for depth in range(1, marks.MAX_NESTING + 1)
    )
    known = f"{constants.REVERSE:#x} : {marks.SLOW_REVERSE:#x}, {nested}"
    return (
        f'meta mark set meta mark map {{ {known} }} counter accept comment "slow_tunnel"\n'
        f'\t\tmeta mark set {marks.SLOW:#x} counter accept comment "slow_tunnel"'
    )


def wording(queue_number: int) -> Wording:
    """What differs from the kernel's own means."""
    return Wording(
        judged="jump judged",
        judged_here=f"meta priority {in_rules(PRIORITY)} accept",
        copy=copied(queue_number),
        # Nothing is left to protect: what has to be is routed to a link of the forwarder.
        sends="",
        slow_tunnel=_slow_tunnel(),
        output=_TUNNEL_ERRORS,
        chains="chain judged {\n\t}",
        outside=(constants.BACK_OUTSIDE,),
        final=as_logged,
    )


def let_pass(*senders: str) -> None:
    """What has one of these Ethernet source addresses has been decided about.

    They are secrets of this process, and not among the rules that say which version there is.
    Raises :class:`RulesetRefusedError`.
    """
    rules = [f"flush chain ip {constants.TABLE} judged"]
    rules += [
        f"add rule ip {constants.TABLE} judged ether saddr {sender} accept" for sender in senders
    ]
    run_nft("\n".join(rules))
