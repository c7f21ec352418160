"""BIND's ``named`` as a judge: authoritative for zones that a TSIG key may update."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMED = Path("/usr/sbin/named")
KEY_NAME = "gateway-key"
SECRET = "c2VjcmV0LW9mLXRoZS1sYWItMzItb2N0ZXRzLWxvbmc="

_CONFIGURATION = """
options {{
    directory "{folder}";
    pid-file "{folder}/named.pid";
    session-keyfile "{folder}/session.key";
    managed-keys-directory "{folder}";
    listen-on port {port} {{ {address}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    empty-zones-enable no;
    notify no;
    dnssec-validation no;
}};
controls {{ }};
key "{key}" {{ algorithm {algorithm}; secret "{secret}"; }};
"""
_ZONE = """
zone "{name}" {{
    type primary;
    file "{file}";
    allow-update {{ key "{key}"; }};
}};
"""
_RECORDS = """$TTL 300
@ IN SOA ns.{name}. hostmaster.{name}. ( 1 3600 600 86400 30 )
@ IN NS {server}
{records}
"""


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and the records that it has besides SOA and NS."""

    name: str
    records: str = ""


def write(
    folder: Path,
    address: str,
    port: int,
    zones: Sequence[Zone],
    *,
    algorithm: str = "hmac-sha256",
) -> list[str]:
    """Write named's configuration and zones; returns the command that runs it in front."""
    folder.mkdir(parents=True, exist_ok=True)
    text = _CONFIGURATION.format(
        folder=folder, address=address, port=port, key=KEY_NAME, secret=SECRET, algorithm=algorithm
    )
    for zone in zones:
        file = folder / f"{zone.name}.zone"
        reverse = zone.name.endswith(".arpa")
        server = "ns.invalid." if reverse else f"ns.{zone.name}."
        glue = "" if reverse else f"ns IN A {address}\n"
        records = glue + zone.records
        file.write_text(_RECORDS.format(name=zone.name, server=server, records=records))
        text += _ZONE.format(name=zone.name, file=file, key=KEY_NAME)
    conf = folder / "named.conf"
    conf.write_text(text)
    return [str(NAMED), "-g", "-4", "-n", "1", "-c", str(conf)]


def answers(name: str, rdtype: str, server: str, port: int = 53) -> list[str]:
    """What ``dig`` gets from here, a record's data each."""
    argv = ["dig", f"@{server}", "-p", str(port), "+short", "+time=2", "+tries=2", name, rdtype]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()
