"""The store, the REST interface's certificate, and what the running gateway left out."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.certificate_checks import certificate_verdict
from gateway.cli.output import printable
from gateway.cli.verdict import Verdict
from gateway.config import Config
from gateway.config.credential_files import FileRefusedError, read_certificates
from gateway.control.client import ControlClient
from gateway.control.object_operations import OBJECT_KINDS
from gateway.control.protocol import ControlError

MAX_BROKEN = 20
"""Named of each kind."""
MIN_FREE_OCTETS = 64 * 1024 * 1024


def store_verdicts(config: Config) -> Iterator[Verdict]:
    """Folder, key and space of the store."""
    folder = config.store.state_dir
    yield _folder(folder)
    yield _key(config.store_key_file, folder / "gateway.sqlite")
    if config.store.url is None and folder.is_dir():
        free = os.statvfs(folder)
        octets = free.f_bavail * free.f_frsize
        if octets < MIN_FREE_OCTETS:
            detail = f"{octets // 1024**2} MB are free"
            remedy = f"make room on the disk of {folder}: nothing can be stored on a full one"
            yield Verdict("host", "store", "warn", detail, remedy)


def _folder(folder: Path) -> Verdict:
    name = f"store.state_dir {folder}"
    if not folder.exists():
        return Verdict("host", name, "ok", "is made at the first start")
    if not folder.is_dir():
        return Verdict("host", name, "missing", "is no folder", "give another one")
    if folder.stat().st_mode & stat.S_IWOTH:
        detail = "everybody may write there"
        return Verdict("host", name, "warn", detail, f"run: chmod 700 {folder}")
    return Verdict("host", name, "ok")


def _key(file: Path, database: Path) -> Verdict:
    name = f"store.key_file {file}"
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        if database.exists():
            detail = "is gone, but secrets of the database are sealed with it"
            return Verdict("host", name, "missing", detail, "restore it from your backup")
        return Verdict("host", name, "ok", "is made at the first start")
    except OSError as error:
        return Verdict(
            "host", name, "warn", f"cannot be looked at: {error.strerror}", "run as root"
        )
    if mode & 0o077:
        detail = f"others may read it (mode {stat.S_IMODE(mode):04o})"
        return Verdict("host", name, "missing", detail, f"run: chmod 600 {file}")
    return Verdict("host", name, "ok", "keep a copy elsewhere")


def api_verdicts(config: Config, now: datetime | None = None) -> Iterator[Verdict]:
    """The certificate that administrators see."""
    api = config.api
    if not api.enabled or api.certificate is None:
        return
    try:
        leaf = read_certificates(api.certificate)[0]
    except FileRefusedError as error:
        yield Verdict("configuration", f"api.certificate {api.certificate}", "missing", str(error))
        return
    yield certificate_verdict("certificate of the API", leaf, now or datetime.now(UTC))


def object_verdicts(socket: Path) -> Iterator[Verdict]:
    """Stored objects that the running gateway left out."""
    try:
        with ControlClient(socket, timeout_s=10.0) as client:
            for kind in OBJECT_KINDS:
                yield from _broken(client, kind)
    except (ControlError, OSError) as error:
        yield Verdict("configuration", "stored objects", "warn", f"not looked at: {error}")


def _broken(client: ControlClient, kind: str) -> Iterator[Verdict]:
    told = 0
    for one in client.pages("objects", kind=kind, source="store"):
        reasons = one.get("broken")
        if not isinstance(reasons, list) or not reasons:
            continue
        told += 1
        if told > MAX_BROKEN:
            return
        name = f"{kind}/{printable(one.get('name'))}"
        remedy = f"mend it: gateway set {kind} {printable(one.get('name'))} KEY=VALUE, or delete it"
        yield Verdict("configuration", name, "warn", f"left out: {printable(reasons[0])}", remedy)


def has_stored_connection(socket: Path) -> bool:
    """Whether the running gateway has connections that are not in the file."""
    try:
        with ControlClient(socket, timeout_s=2.0) as client:
            return client.call("setup-state").get("has_connection") is True
    except (ControlError, OSError):
        return False
