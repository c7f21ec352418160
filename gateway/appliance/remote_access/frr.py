"""FRR announces the pools: what is entered in it, and whether any routing daemon does so.

FRR has the gateway's routes of the kernel by itself. What is entered, by ``vtysh`` and without
writing FRR's file, is a prefix list of the pools, and that OSPF, BGP and RIP redistribute what is
in it; where an administrator redistributes kernel routes already, that stays as it is.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.child_sa import IpNetwork

LIST: Final = "gateway-pools"
"""Name of the prefix lists and route maps."""
COMMAND_S: Final = 10.0
MAX_CONFIG: Final = 4 << 20
_FAMILIES: Final = {4: "ip", 6: "ipv6"}
_ROUTERS: Final = {"ospf": 4, "ospf6": 6, "rip": 4, "ripng": 6}
"""Whose ``redistribute`` stands in the section itself, and its IP version."""
_ENTRY = re.compile(rf"(ip|ipv6) prefix-list {LIST} seq (\d+) permit (\S+)")


class FrrError(OSError):
    """FRR is not there, or does not do it. The text says what to do."""


@dataclass(slots=True)
class Section:
    """A ``router`` of the configuration and, of BGP, an address family of it."""

    enter: tuple[str, ...]
    version: int
    lines: list[str] = field(default_factory=list)

    @property
    def ours(self) -> bool:
        """Whether it redistributes what our list has."""
        return any(f"route-map {LIST}" in line for line in self.lines)

    @property
    def redistributes(self) -> bool:
        """Whether it announces routes of the kernel, by whomever that was entered."""
        return any(line.startswith("redistribute kernel") for line in self.lines)


@dataclass(frozen=True, slots=True)
class Running:
    """What FRR's running configuration has to do with us."""

    sections: tuple[Section, ...]
    entries: dict[tuple[str, str], str]
    """Numbers of the lines of our prefix lists, by ``ip`` or ``ipv6`` and network."""
    maps: frozenset[str]
    """``ip`` and ``ipv6``, where our route map is there."""


def parse(text: str) -> Running:
    """Read the answer to ``show running-config``; what is not understood is passed over."""
    sections: list[Section] = []
    entries: dict[tuple[str, str], str] = {}
    maps: set[str] = set()
    families: dict[str, Section] = {}
    current: Section | None = None
    for raw in text.splitlines():
        line = raw.strip()
        if raw.startswith(" "):
            if line.startswith("address-family "):
                current = families.get(line)
            elif line == "exit-address-family":
                current = None
            elif current is not None:
                current.lines.append(line)
            continue
        if found := _ENTRY.fullmatch(line):
            entries[found[1], found[3]] = found[2]
        elif line.startswith((f"route-map {LIST} ", f"route-map {LIST}6 ")):
            maps.add("ip" if line.startswith(f"route-map {LIST} ") else "ipv6")
        current, families = _router(line)
        sections += [current] if current is not None else families.values()
    return Running(tuple(sections), entries, frozenset(maps))


def _router(line: str) -> tuple[Section | None, dict[str, Section]]:
    """The section that a line begins, or those of BGP's address families by their first lines."""
    words = line.split()
    if words[:1] != ["router"] or len(words) < 2 or "vrf" in words:
        return None, {}
    if words[1] == "bgp":
        names = {f"address-family ipv{version} unicast": version for version in (4, 6)}
        return None, {name: Section((line, name), version) for name, version in names.items()}
    version = _ROUTERS.get(words[1])
    return (None if version is None else Section((line,), version)), {}


def commands(running: Running, networks: Iterable[IpNetwork]) -> list[tuple[str, ...]]:
    """What to enter so that these networks and no others are announced: blocks of lines."""
    wanted = {(_FAMILIES[one.version], str(one)) for one in networks}
    families = {family for family, _ in wanted}
    blocks: list[tuple[str, ...]] = []
    for family, network in sorted(wanted - running.entries.keys()):
        blocks.append((f"{family} prefix-list {LIST} permit {network}",))
    for family in sorted(families - running.maps):
        route_map = _map(family)
        match = f"match {family} address prefix-list {LIST}"
        blocks.append((f"route-map {route_map} permit 10", match))
    for section in running.sections:
        family = _FAMILIES[section.version]
        if family in families and not section.redistributes:
            line = f"redistribute kernel route-map {_map(family)}"
            blocks.append((*section.enter, line))
        elif family not in families and section.ours:
            blocks.append((*section.enter, "no redistribute kernel"))
    blocks += ((f"no route-map {_map(family)}",) for family in sorted(running.maps - families))
    for (family, network), number in sorted(running.entries.items()):
        if (family, network) not in wanted:
            line = f"no {family} prefix-list {LIST} seq {number} permit {network}"
            blocks.append((line,))
    return blocks


def _map(family: str) -> str:
    return LIST if family == "ip" else f"{LIST}6"


def announces(running: Running, version: int) -> tuple[str, ...]:
    """The routing daemons that announce kernel routes of this IP version, by their sections."""
    return tuple(
        one.enter[0] for one in running.sections if one.version == version and one.redistributes
    )


def join_group() -> None:
    """Get access to FRR's sockets, which a root without capabilities has not by itself."""
    import grp  # noqa: PLC0415 - rarely needed

    with contextlib.suppress(KeyError, PermissionError):
        group = grp.getgrnam("frrvty").gr_gid
        if group not in os.getgroups():
            os.setgroups([*os.getgroups(), group])


def vtysh(lines: Sequence[str], command: str | None = None) -> str:
    """Say ``lines`` to FRR; its answer. Waits for it. Raises :class:`FrrError`."""
    program = command or shutil.which("vtysh")
    if program is None:
        raise FrrError("FRR is not installed; run: apt install frr, and turn a daemon of it on")
    argv = [program, *(word for line in lines for word in ("-c", line))]
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=COMMAND_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FrrError(f"{program} does not answer: {error}") from error
    text = (done.stdout + done.stderr)[:MAX_CONFIG].decode("utf-8", "replace")
    complaints = [one for one in text.splitlines() if one.startswith("% ")]
    # Its own settings, such as a pager, are of no use here, and may be closed to us.
    refused = next((one for one in complaints if "configuration file" not in one), None)
    if done.returncode or refused is not None:
        last = refused or (text.strip().splitlines() or ["no answer"])[-1]
        hint = "; start FRR, then restart the gateway: it enters the group frrvty at its start"
        raise FrrError(f"vtysh: {last[:200]}{hint if 'connect' in last else ''}")
    return text


def hand_over(networks: Sequence[IpNetwork], command: str | None = None) -> Running:
    """Have FRR announce exactly these networks; its configuration then. Waits.

    Raises :class:`FrrError`.
    """
    running = parse(vtysh(["show running-config"], command))
    blocks = commands(running, networks)
    for block in blocks:
        vtysh(["configure terminal", *block], command)
    return parse(vtysh(["show running-config"], command)) if blocks else running
