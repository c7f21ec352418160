"""What the control socket of a mobile node answers. A gateway's own list is another one."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from gateway.control.protocol import OPERATIONS, Operation, Parameter, Role

if TYPE_CHECKING:
    from gateway.mobile_node.status import NodeStatus

MAX_PASSWORD_CHARACTERS = 1024
MAX_UID = 2**32 - 2

NODE_OPERATIONS: Final[dict[str, Operation]] = {
    operation.name: operation
    for operation in (
        OPERATIONS["health"],
        Operation("node-status", "Where the node is, its mode and why, its layers and links."),
        Operation(
            "node-unlock",
            "Open the profile's sealed secrets and log in.",
            (
                Parameter(
                    "password", str, required=True, maximum=MAX_PASSWORD_CHARACTERS, secret=True
                ),
            ),
            Role.ADMINISTRATOR,
        ),
        Operation(
            "node-lock",
            "Forget the secrets and log out; nothing of the user's leaves until it is unlocked.",
            role=Role.ADMINISTRATOR,
        ),
        Operation(
            "node-reconnect",
            "Take nothing as proven any more: begin anew on every link.",
            role=Role.ADMINISTRATOR,
        ),
        Operation(
            "node-portal",
            "Open a way to a captive portal's page for one user's browser; ask again to keep it.",
            (
                Parameter("uid", int, required=True, maximum=MAX_UID),
                Parameter("keep", bool, default=False),
            ),
            Role.ADMINISTRATOR,
        ),
        Operation(
            "node-portal-stop",
            "Close the way to a captive portal's page.",
            role=Role.ADMINISTRATOR,
        ),
        OPERATIONS["events"],
    )
}


def status_json(status: "NodeStatus", now: float) -> dict[str, object]:
    """The result of ``node-status``.

    The fields of :class:`NodeStatus`; in the place of each ``since_s``, a moment of the engine's
    clock that means nothing elsewhere, stands ``for_s``: for how long.
    """
    found = asdict(status)
    found["for_s"] = _ago(found.pop("since_s"), now)
    for layer in found["layers"]:
        layer["for_s"] = _ago(layer.pop("since_s"), now)
    return found


def _ago(since_s: float, now: float) -> float | None:
    """None where nothing has begun."""
    return round(max(0.0, now - since_s), 3) if since_s else None
