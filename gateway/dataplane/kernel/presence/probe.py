"""What inside presence needs of a kernel, for ``gateway check``."""

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from gateway.dataplane.kernel.filter.ruleset import HELPERS, helper_objects
from gateway.dataplane.kernel.presence import ruleset
from gateway.dataplane.kernel.ruleset import run_nft
from gateway.dataplane.presence import Napt, PresenceSettings

_MODULES: Final = {
    "ftp": "nf_nat_ftp",
    "sip": "nf_nat_sip",
    "h323": "nf_nat_h323",
    "irc": "nf_nat_irc",
    "pptp": "nf_nat_pptp",
    "tftp": "nf_nat_tftp",
}
_MODPROBE_S: Final = 10
_OPTIONS: Final = (
    "CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_CT, CONFIG_NFT_FIB_INET,"
    " CONFIG_NF_CONNTRACK_ZONES and CONFIG_NF_CONNTRACK_MARK"
)


def load_nat_helpers(helpers: tuple[str, ...]) -> None:
    """Ask for the modules that rewrite what these protocols announce. Never raises.

    Unlike the helpers themselves they are not loaded on demand. Kernels that have them built in, or
    not at all, need no such thing.
    """
    modules = [_MODULES[name] for name in helpers if name in _MODULES]
    if not modules:
        return
    try:
        subprocess.run(
            ["modprobe", "-q", "-a", *modules],
            check=False,
            timeout=_MODPROBE_S,
            capture_output=True,
        )
    except (OSError, subprocess.SubprocessError):
        return


def trials() -> Iterator[tuple[str, str, str, Callable[[], None]]]:
    """Name, what does not work without it, what to do, and the attempt, which raises OSError."""
    yield (
        "napt",
        "no devices without inner addresses, no redirects and no translations",
        f"use a kernel with {_OPTIONS} (load its module, or rebuild)",
        _try_napt,
    )
    for name in HELPERS:
        option = f"CONFIG_NF_CONNTRACK_{name.upper()} and CONFIG_NF_NAT_{name.upper()}"
        yield (
            f"helper-{name}",
            f'no rules with helper = "{name}"',
            f"use a kernel with {option} (load its module, or rebuild)",
            partial(_try_helper, name),
        )


def _try_napt() -> None:
    run_nft(ruleset.render(PresenceSettings(tunnel="probe0", napts=(Napt(),))))


def _try_helper(name: str) -> None:
    objects = "\n".join(helper_objects([name]))
    run_nft(f"table inet probe_{name} {{\n{objects}\n}}\n")
