"""``gateway mn release``: the plain network back, after a node that died or was told to hold on."""

from pathlib import Path

from gateway.cli import exits
from gateway.cli.failure import complain
from gateway.control.client import MOBILE_NODE, ControlClient
from gateway.control.protocol import ControlError


def node_runs(socket: Path) -> bool:
    """Whether a mobile node answers on a control socket."""
    try:
        with ControlClient(socket, timeout_s=2.0, service=MOBILE_NODE) as client:
            client.call("health")
    except ControlError:
        return True
    except OSError:
        return False
    return True


def release(socket: Path, state_dir: Path, *, force: bool) -> int:
    """Remove what a node left, also of the host's name servers; refuses while one runs.

    Raises OSError.
    """
    if node_runs(socket) and not force:
        complain(
            f"a mobile node answers on {socket}: stop it first (systemctl stop gateway-mn); "
            "--force removes the switch all the same"
        )
        return exits.FAILED
    from gateway.dataplane.kernel.node.release import release as remove  # noqa: PLC0415
    from gateway.dataplane.portable.node.release import release as end_forwarder  # noqa: PLC0415
    from gateway.mobile_host.resolver import restore_dns  # noqa: PLC0415

    removed = end_forwarder(socket.parent) + remove()
    if restore_dns(state_dir):
        removed.append("the node's name servers; /etc/resolv.conf is as it was")
    for what in removed:
        print(f"removed {what}")
    if not removed:
        print("nothing was left: no switch, no device, no rule")
    return exits.OK
