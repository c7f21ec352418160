"""Which dataplane a gateway would take here, what each could do, and what that costs."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gateway.cli.verdict import State, Verdict
from gateway.dataplane import choice
from gateway.dataplane.choice import Choice, Kind
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.portable.probe import required

if TYPE_CHECKING:
    from gateway.dataplane.kernel.probe import Capability

PORTABLE: Final = "portable-"
"""How the names of what the portable dataplane needs begin."""
REPLACED: Final = (choice.IPSEC | choice.MOBILITY) | {
    "esp-aes-cbc",
    "esp-chacha20",
    "esp-in-tcp",
    "nftables-mobility",
    "xfrm-migrate",
}
"""What a kernel need not have where user space carries the packets."""
_PRICE: Final = "more processor time for each packet than in the kernel; docs/dataplanes.md"
_FORCE: Final = 'to force one: [dataplane] kind = "kernel" or "portable"'


def choose(
    capabilities: Iterable["Capability"], kind: str, needs: frozenset[str]
) -> Choice | DataplaneUnavailableError:
    """What a gateway that starts here would take, or why it could not start."""
    lacking = {one.name: one.detail for one in capabilities if not one.ok}
    try:
        return choice.choose(
            kind,
            needs,
            lambda wanted: {name: said for name, said in lacking.items() if name in wanted},
            lambda wanted: {
                name: said for name, said in lacking.items() if name in required(wanted)
            },
        )
    except DataplaneUnavailableError as error:
        return error


def dataplane_verdicts(
    capabilities: list["Capability"], kind: str, needs: frozenset[str]
) -> Iterator[Verdict]:
    """The choice, and both dataplanes side by side."""
    made = choose(capabilities, kind, needs)
    if isinstance(made, DataplaneUnavailableError):
        text = made.strerror or str(made)
        detail, _, remedy = text.partition("; ")
        yield Verdict("dataplane", "choice", "missing", detail, remedy or _FORCE)
    else:
        detail = f"{made.kind}: {made.why}"
        if made.kind is Kind.PORTABLE:
            detail += f"; costs {_PRICE}"
        yield Verdict("dataplane", "choice", "ok", detail)
    portable = [one for one in capabilities if one.name.startswith(PORTABLE)]
    kernel = [one for one in capabilities if one.name in needs]
    yield _side("kernel", kernel, made)
    yield _side("portable", portable, made)


def _side(
    name: str, found: list["Capability"], made: Choice | DataplaneUnavailableError
) -> Verdict:
    lacking = [one for one in found if not one.ok]
    if not lacking:
        return Verdict("dataplane", name, "ok", "can do all that is needed")
    chosen = isinstance(made, Choice) and made.kind == name
    state: State = "warn" if chosen else "ok"
    costs = "; ".join(f"{one.name} ({one.cost})" for one in lacking)
    remedies = dict.fromkeys(one.remedy for one in lacking if chosen)
    return Verdict("dataplane", name, state, f"lacks {costs}", "; ".join(remedies))


def for_chosen(
    capabilities: Iterable["Capability"], made: Choice | DataplaneUnavailableError
) -> Iterator["Capability"]:
    """The kernel's part as it counts for the dataplane that was chosen."""
    portable = isinstance(made, Choice) and made.kind is Kind.PORTABLE
    for one in capabilities:
        if one.name.startswith(PORTABLE):
            if portable or (isinstance(made, Choice) and one.ok):
                yield one
        elif portable and one.name in REPLACED:
            yield replace(one, ok=True, detail="" if one.ok else "in user space")
        else:
            yield one
