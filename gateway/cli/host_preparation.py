"""What this host's modules and sysctls should be for a gateway, and what they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ModuleState = Literal["built in", "loaded", "not loaded", "absent"]

MODULES: Mapping[str, str] = {
    "xfrm_user": "IPsec",
    "esp4": "ESP over IPv4",
    "esp6": "ESP over IPv6",
    "xfrm_interface": "the tunnels' interface",
    "nf_tables": "nftables",
    "nfnetlink_queue": "packets that the kernel cannot decide on",
    "nft_queue": "packets that the kernel cannot decide on",
    "nft_numgen": "nftables",
    "ipip": "IP-IP tunnels of Mobile IP and NAR",
    "ip_gre": "GRE tunnels of Mobile IP and NAR",
    "fou": "Mobile IP in UDP",
}
"""Modules by what they are for. The kernel loads most by itself; a list makes it certain."""

SYSCTLS: Mapping[str, tuple[int, str]] = {
    "net.ipv4.ip_forward": (1, "devices reach the intranet"),
    "net.ipv6.conf.all.forwarding": (1, "devices reach the intranet by IPv6"),
    "net.core.rmem_max": (4_194_304, "many devices connect at once"),
    "net.ipv4.conf.all.send_redirects": (0, "devices are not sent past their tunnel"),
    "net.ipv4.conf.default.send_redirects": (0, "devices are not sent past their tunnel"),
}
"""Wanted values and what they are for. A value that is larger stays, where more is better."""

_AT_LEAST = frozenset({"net.core.rmem_max"})


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the list."""

    name: str
    purpose: str
    state: ModuleState


@dataclass(frozen=True, slots=True)
class Sysctl:
    """One setting of the kernel; ``now`` None where this kernel has none."""

    name: str
    purpose: str
    wanted: int
    now: int | None

    @property
    def right(self) -> bool:
        """Whether nothing has to be done about it."""
        if self.now is None:
            return True
        return self.now >= self.wanted if self.name in _AT_LEAST else self.now == self.wanted


def _module_names(lines: Iterable[str]) -> frozenset[str]:
    """Names in ``modules.builtin`` or ``modules.dep``: ``kernel/net/ipv4/ipip.ko.xz: ...``."""
    files = (line.partition(":")[0].strip().rpartition("/")[2] for line in lines)
    return frozenset(file.partition(".ko")[0].replace("-", "_") for file in files if file)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def modules(release: str, root: Path = Path("/")) -> list[Module]:
    """The modules as they are. ``release`` is the kernel's, as ``uname -r`` says it."""
    folder = root / "lib/modules" / release
    built_in = _module_names(_lines(folder / "modules.builtin"))
    available = _module_names(_lines(folder / "modules.dep"))
    loaded = {line.split(" ", 1)[0] for line in _lines(root / "proc/modules")}

    def state(name: str) -> ModuleState:
        if name in built_in:
            return "built in"
        if name in loaded:
            return "loaded"
        return "not loaded" if name in available else "absent"

    return [Module(name, purpose, state(name)) for name, purpose in MODULES.items()]


def sysctls(root: Path = Path("/")) -> list[Sysctl]:
    """The settings as they are."""
    found = []
    for name, (wanted, purpose) in SYSCTLS.items():
        text = "".join(_lines(root / "proc/sys" / name.replace(".", "/"))).strip()
        now = int(text) if text.isascii() and text.isdigit() else None
        found.append(Sysctl(name, purpose, wanted, now))
    return found


def modules_file(found: Iterable[Module]) -> str:
    """The text for modules-load.d(5): what this kernel has as modules."""
    names = [one.name for one in found if one.state in {"loaded", "not loaded"}]
    return "".join(["# Written by `gateway host`.\n", *(f"{name}\n" for name in names)])


def sysctl_file(found: Iterable[Sysctl]) -> str:
    """The text for sysctl.d(5)."""
    settings = [one for one in found if one.now is not None]
    lines = [f"# {one.purpose}\n{one.name} = {_for_good(one)}\n" for one in settings]
    return "".join(["# Written by `gateway host`.\n", *lines])


def _for_good(one: Sysctl) -> int:
    """A larger value that somebody chose is not made smaller by the next boot."""
    return max(one.wanted, one.now or 0) if one.name in _AT_LEAST else one.wanted
