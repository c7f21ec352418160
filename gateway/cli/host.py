"""``gateway host``: has modules loaded and sysctls set, now and at every boot, with consent."""

import os
import subprocess
import sys
from pathlib import Path

from gateway.cli import exits
from gateway.cli.host_preparation import (
    Module,
    Sysctl,
    modules,
    modules_file,
    sysctl_file,
    sysctls,
)
from gateway.cli.output import console, table

MODULES_FILE = Path("etc/modules-load.d/gateway.conf")
SYSCTL_FILE = Path("etc/sysctl.d/60-gateway.conf")


def prepare(*, yes: bool, dry_run: bool, root: Path = Path("/")) -> int:
    """Show what is and what would be done, ask, do it; returns the exit status."""
    found, settings = modules(os.uname().release, root), sysctls(root)
    _show(found, settings)
    files = {MODULES_FILE: modules_file(found), SYSCTL_FILE: sysctl_file(settings)}
    stale = {path: text for path, text in files.items() if _text(root / path) != text}
    load = [one.name for one in found if one.state == "not loaded"]
    wrong = [one for one in settings if not one.right]
    if not (stale or load or wrong):
        console().print("\nNothing to do.")
        return exits.OK
    _announce(stale, load, wrong)
    if dry_run:
        return exits.OK
    if not yes and not _consents():
        console().print("Nothing was changed.")
        return exits.FAILED
    return _do(root, stale, load, wrong)


def _show(found: list[Module], settings: list[Sysctl]) -> None:
    out = console()
    rows = [(one.name, one.state, one.purpose) for one in found]
    out.print(table(("module", "state", "for"), rows))
    out.print()
    lines = [
        (one.name, "-" if one.now is None else str(one.now), str(one.wanted), one.purpose)
        for one in settings
    ]
    out.print(table(("sysctl", "now", "wanted", "so that"), lines))


def _announce(stale: dict[Path, str], load: list[str], wrong: list[Sysctl]) -> None:
    out = console()
    out.print("\nTo do:")
    for path in stale:
        out.print(f"  write /{path}")
    if load:
        out.print(f"  load {' '.join(load)}")
    for one in wrong:
        out.print(f"  set {one.name} = {one.wanted}")


def _consents() -> bool:
    if not sys.stdin.isatty():
        print("gateway: nobody can be asked here; give --yes", file=sys.stderr)
        return False
    return input("Do it? [y/N] ").strip().lower() in {"y", "yes"}


def _do(root: Path, stale: dict[Path, str], load: list[str], wrong: list[Sysctl]) -> int:
    failed = []
    for path, text in stale.items():
        try:
            _write(root / path, text)
        except OSError as error:
            failed.append(f"/{path}: {error.strerror}")
    for name in load:
        try:
            done = subprocess.run(["modprobe", name], capture_output=True, text=True, check=False)
        except OSError as error:
            failed.append(f"modprobe: {error.strerror}; install the package kmod")
            break
        if done.returncode:
            failed.append(f"modprobe {name}: {done.stderr.strip()}")
    for one in wrong:
        try:
            (root / "proc/sys" / one.name.replace(".", "/")).write_text(f"{one.wanted}\n")
        except OSError as error:
            failed.append(f"{one.name}: {error.strerror}")
    for why in failed:
        print(f"gateway: {why}", file=sys.stderr)
    console().print("Done; `gateway check` tells the rest." if not failed else "Not all was done.")
    return exits.FAILED if failed else exits.OK


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)
