"""What a reload does about changed tables of NAR servers."""

from typing import Literal

from gateway.config.nar import NarSettingsSection

Kind = Literal["added", "removed", "changed"]

RESTART_KEYS = ("state_dir", "offload", "queue", "queue_length", "mtu", "dead_after_s")
"""Of ``[nar_settings]``: opened or set up once, at start."""

_ENDING = {
    "addresses": "leases of addresses that are no longer lent end, others stay",
    "tunnel_address": "tunnels of clients end at the old address; they negotiate again",
    "client_interfaces": "packets of clients elsewhere are dropped from now on",
    "outside_interfaces": "packets that come elsewhere match no lease from now on",
    "ports": "leases outside the ranges end, others stay",
    "icmp_ids": "leases outside the range end, others stay",
    "spis": "leases outside the range end, others stay",
    "trusted": "clients that are no longer trusted lose their leases, others stay",
    "deliveries": "leases with a delivery that is no longer allowed end, others stay",
    "impose": "the next negotiations use it; leases with another delivery end",
    "backend": "the next logins use it, leases stay",
    "require_tls": "the next connections, leases stay",
    "listen": "listened to from now on; connections stay",
    "tls_listen": "listened to from now on; connections stay",
    "certificate": "the next TLS connections use it",
    "private_key": "the next TLS connections use it",
    "masquerade": "from now on, translated connections stay",
    "forbidden": "leases with a remote in it end, others stay",
    "rules": "leases that no rule allows any more end, others stay",
}
_STAYING = "from now on, leases stay"


def effect(kind: Kind, key: str = "") -> str:
    """What happens to a server that was added or removed, or a changed ``key`` of one."""
    if kind == "added":
        return "clients can connect at once"
    if kind == "removed":
        return "its leases end and its clients are told"
    return _ENDING.get(key.partition(".")[0], _STAYING)


def kept_until_restart(
    running: NarSettingsSection, wanted: NarSettingsSection
) -> NarSettingsSection:
    """``[nar_settings]`` as it is after a reload."""
    return wanted.model_copy(update={name: getattr(running, name) for name in RESTART_KEYS})
