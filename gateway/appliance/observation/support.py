"""A bundle for a bug report: what runs, how, and what it last did; no secrets, no keys."""

import asyncio
import base64
import gzip
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from gateway import __version__
from gateway.appliance.observation.redaction import document_without_secrets, without_secrets
from gateway.appliance.observation.views import (
    device_view,
    login_view,
    registration_view,
    time_text,
)
from gateway.control import observation_views as shapes
from gateway.control.observation_operations import CHUNK_OCTETS
from gateway.control.protocol import ControlError, ErrorCode, Request

if TYPE_CHECKING:
    from gateway.appliance.administration.side import Surroundings
    from gateway.appliance.observation.device import Device
    from gateway.appliance.observation.metrics import Metrics
    from gateway.appliance.observation.register import Register

MAX_FILE: Final = 2 * 1024 * 1024
"""Octets of one file of the bundle; more are cut."""
MAX_BUNDLES: Final = 2
MAX_DEVICES: Final = 200
COMMAND_S: Final = 5.0
PLACES: Final = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "addresses": ("ip", "-details", "address", "show"),
    "rules": ("ip", "rule", "show"),
    "routes": ("ip", "route", "show", "table", "all"),
    "routes6": ("ip", "-6", "route", "show", "table", "all"),
    "links": ("ip", "-statistics", "link", "show"),
    "xfrm-states": ("ip", "-statistics", "xfrm", "state", "list", "nokeys"),
    "xfrm-policies": ("ip", "xfrm", "policy", "list", "nosock"),
    "nft": ("nft", "--stateless", "list", "ruleset"),
    "nft-counters": ("nft", "list", "counters"),
    "sockets": ("ss", "-lunt"),
}
READ: Final = (
    "/etc/os-release",
    "/proc/version",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/net/xfrm_stat",
    "/proc/net/dev",
    "/proc/net/netfilter/nfnetlink_queue",
    "/proc/self/status",
    "/proc/self/limits",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv6/conf/all/forwarding",
    "/proc/sys/net/ipv4/conf/all/rp_filter",
    "/proc/sys/net/core/rmem_max",
    "/proc/sys/net/core/xfrm_acq_expires",
)


class Observed(Protocol):
    """What is read of :class:`gateway.appliance.observation.side.Observation`."""

    register: "Register"

    @property
    def metrics(self) -> "Metrics":
        """The metrics."""

    @property
    def last_events(self) -> list[dict[str, object]]:
        """The oldest first."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """One that can be read."""

    id: str
    file_name: str
    octets: bytes


class Support:
    """Makes bundles, and gives them out piece by piece."""

    def __init__(self, observed: Observed, around: "Surroundings") -> None:
        self._observed = observed
        self._around = around
        self._bundles: dict[str, Bundle] = {}
        self._making = asyncio.Lock()

    async def answer(self, request: Request) -> object:
        """The first piece of a new bundle, or another one of a known one."""
        wanted = request.text("id")
        if wanted is None:
            async with self._making:
                bundle = await self._make()
            self._bundles[bundle.id] = bundle
            while len(self._bundles) > MAX_BUNDLES:
                del self._bundles[next(iter(self._bundles))]
        else:
            found = self._bundles.get(wanted)
            if found is None:
                why = "there is no such bundle any more: ask for a new one, without id"
                raise ControlError(ErrorCode.NOT_FOUND, why, "id")
            bundle = found
        offset = request.number("offset") if wanted is not None else 0
        octets = bundle.octets[offset : offset + CHUNK_OCTETS]
        end = offset + len(octets)
        piece: shapes.Piece = {
            "id": bundle.id,
            "file_name": bundle.file_name,
            "media_type": "application/gzip",
            "offset": offset,
            "octets": len(bundle.octets),
            "content": base64.b64encode(octets).decode(),
            "next": end if end < len(bundle.octets) else None,
        }
        return piece

    async def _make(self) -> Bundle:
        around = self._around
        metrics = await self._observed.metrics.answer(devices=False)
        config = around.config()
        known, tables = await asyncio.to_thread(_config_of, config)
        documents: dict[str, object] = {
            "versions.json": _versions(),
            "config.json": tables,
            "status.json": around.facts(),
            "failures.json": {
                "logins": [login_view(one) for one in around.failures.find()],
                "registrations": [
                    registration_view(one) for one in around.failures.registrations.find()
                ],
            },
            "devices.json": [
                device_view(one)
                for _, one in zip(range(MAX_DEVICES), self._devices(), strict=False)
            ],
            "events.json": self._observed.last_events,
        }
        carried = getattr(around.dataplane, "sas", None)
        if carried is not None:  # of a forwarder; those of the kernel are in xfrm-states.txt
            documents["forwarder-sas.json"] = carried()
        now_s = around.wall_clock()
        stamp = str(time_text(now_s))[:19].replace(":", "").replace("-", "")
        name = f"gateway-support-{stamp}"
        texts = {"metrics.txt": metrics["text"]}
        octets = await asyncio.to_thread(_packed, name, documents, texts, known, now_s)
        return Bundle(around.random(8).hex(), f"{name}.tar.gz", octets)

    def _devices(self) -> Iterator["Device"]:
        register = self._observed.register
        yield from (one for one in register if one.active)
        yield from (one for one in register if not one.active)


def _config_of(config: object) -> tuple[tuple[str, ...], object]:
    """Every secret of a configuration, and the configuration without them."""
    from pydantic import BaseModel, SecretStr  # noqa: PLC0415 - is loaded by now

    known: list[str] = []

    def plain(value: object) -> object:
        if isinstance(value, SecretStr):
            known.append(value.get_secret_value())
            return "(removed)"
        if isinstance(value, BaseModel):
            return {name: plain(getattr(value, name)) for name in type(value).model_fields}
        if isinstance(value, Mapping):
            return {str(name): plain(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [plain(inner) for inner in value]
        if isinstance(value, bytes):
            known.append(value.hex())
            return "(removed)"
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return str(value)

    tables = plain(config)
    return tuple(known), tables


def _versions() -> dict[str, object]:
    from importlib import metadata  # noqa: PLC0415 - seldom

    names = ("cryptography", "pydantic", "sqlalchemy", "fastapi", "uvicorn", "pyOpenSSL")
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "(missing)"
    return {
        "gateway": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": found,
    }


def _packed(
    name: str,
    documents: Mapping[str, object],
    texts: Mapping[str, str],
    known: tuple[str, ...],
    now_s: float,
) -> bytes:
    """A tar file, gzipped. Whatever goes in passes the redaction here and nowhere else."""
    files = {
        one: json.dumps(document_without_secrets(value, known), indent=1, default=str)
        for one, value in documents.items()
    }
    files |= {one: without_secrets(text, known) for one, text in texts.items()}
    for one, text in _host():
        files[one] = without_secrets(text, known)
    files["README.txt"] = _README
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=int(now_s)) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for one, text in sorted(files.items()):
            octets = text.encode("utf-8", "replace")
            if len(octets) > MAX_FILE:
                octets = octets[:MAX_FILE] + b"\n(cut here)\n"
            member = tarfile.TarInfo(f"{name}/{one}")
            member.size, member.mtime, member.mode = len(octets), int(now_s), 0o600
            tar.addfile(member, io.BytesIO(octets))
    return packed.getvalue()


def _host() -> Iterator[tuple[str, str]]:
    """What kernel and host say."""
    for path in READ:
        try:
            text = Path(path).read_text("utf-8", "replace")[:MAX_FILE]
        except OSError as error:
            text = f"(cannot be read: {error.strerror})"
        yield f"host{path}".replace("/proc/", "/proc-"), text
    for name, command in COMMANDS.items():
        yield f"kernel/{name}.txt", _output_of(command)


def _output_of(command: tuple[str, ...]) -> str:
    program = next(
        (str(path) for place in PLACES if (path := Path(place) / command[0]).exists()), None
    )
    if program is None:
        return f"({command[0]} is not installed)"
    try:
        done = subprocess.run(
            (program, *command[1:]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
            env={"PATH": ":".join(PLACES), "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({' '.join(command)}: {error})"
    text = done.stdout[:MAX_FILE].decode("utf-8", "replace")
    if done.returncode:
        text += f"\n(status {done.returncode}: {done.stderr[:2000].decode('utf-8', 'replace')})"
    return text


_README = """\
What this gateway is, how it is configured, and what it did last.

Passwords, keys, tokens and certificates' private keys are not in here. Names of users and devices
and their addresses are: read the files before you give them to somebody else.

versions.json   of the gateway, Python, kernel and libraries
config.json     every setting in force, secrets removed
status.json     what `gateway status` says; metrics.txt: what Prometheus reads
devices.json    up to 200 devices, those that are connected first
failures.json   why logins and registrations failed
events.json     the last events
kernel/, host/  addresses, routes, SAs without keys, rules, modules, limits
"""
