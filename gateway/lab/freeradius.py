"""Debian's freeradius on a host of the lab: users, EAP-MSCHAPv2, EAP-TLS, EAP-GTC, accounting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from gateway.lab.pki import Issued
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

PROGRAM = Path("/usr/sbin/freeradius")
READY_S = 40.0
AUTHENTICATION_PORT, ACCOUNTING_PORT = 1812, 1813

CONFIGURATION = """
prefix = /usr
libdir = /usr/lib/freeradius
raddbdir = {folder}
logdir = {folder}
run_dir = {folder}
pidfile = {folder}/pid
name = freeradius
max_request_time = 10
cleanup_delay = 2
hostname_lookups = no
log {{
    auth = yes
}}
security {{
    allow_core_dumps = no
    max_attributes = 200
    reject_delay = 0
    status_server = yes
}}
thread pool {{
    start_servers = 1
    max_servers = 2
    min_spare_servers = 1
    max_spare_servers = 1
}}
client gateway {{
    ipaddr = {client}
    secret = "{secret}"
}}
modules {{
    files {{
        usersfile = {folder}/users
    }}
    pap {{
    }}
    mschap {{
        use_mppe = yes
    }}
    detail {{
        filename = {folder}/detail
        header = "%t"
        permissions = 0600
    }}
    eap {{
        default_eap_type = mschapv2
        timer_expire = 60
        ignore_unknown_eap_types = no
        max_sessions = 4096
        tls-config tls-common {{
            private_key_file = {folder}/own.key
            certificate_file = {folder}/own.crt
            ca_file = {folder}/ca.crt
            cipher_list = "DEFAULT"
            tls_min_version = "1.2"
            tls_max_version = "1.2"
            ecdh_curve = ""
            cache {{
                enable = no
            }}
        }}
        tls {{
            tls = tls-common
        }}
        mschapv2 {{
        }}
        gtc {{
            auth_type = PAP
        }}
    }}
}}
server lab {{
    listen {{
        type = auth
        ipaddr = {address}
        port = {authentication_port}
    }}
    listen {{
        type = acct
        ipaddr = {address}
        port = {accounting_port}
    }}
    authorize {{
        eap {{
            ok = return
        }}
        files
        pap
    }}
    authenticate {{
        Auth-Type PAP {{
            pap
        }}
        Auth-Type MS-CHAP {{
            mschap
        }}
        eap
    }}
    accounting {{
        detail
    }}
    post-auth {{
        update reply {{
            Message-Authenticator := 0x00
        }}
        Post-Auth-Type REJECT {{
            update reply {{
                Message-Authenticator := 0x00
            }}
        }}
    }}
}}
"""
"""freeradius before 3.2.5 signs its answers only when told (CVE-2024-3596)."""


@dataclass(frozen=True, slots=True)
class RadiusUser:
    """A user; `password` None: by certificate only. `reply` are lines such as `Class = "x"`."""

    name: str
    password: str | None = None
    reply: Sequence[str] = ()

    def entry(self) -> str:
        """Its lines of the users file."""
        check = "EAP-Type := TLS"
        if self.password is not None:
            check = f'Cleartext-Password := "{self.password}"'
        return f'"{self.name}" {check}\n' + "\t" + ",\n\t".join(self.reply) + "\n\n"


class FreeRadius:
    """A freeradius on a host of the lab; `own` is its certificate for EAP-TLS."""

    def __init__(
        self,
        lab: Lab,
        host: str,
        address: IPv4Address,
        *,
        client: IPv4Address,
        secret: str,
        users: Sequence[RadiusUser],
        own: Issued,
        authority: Issued,
        name: str | None = None,
    ) -> None:
        self._lab = lab
        self._host = host
        self._address = address
        self._name = name or f"freeradius-{host}"
        self.folder = lab.folder / self._name
        self._process: Process | None = None
        self.folder.mkdir(mode=0o700)
        own.write(self.folder, "own")
        (self.folder / "ca.crt").write_bytes(authority.certificate_pem())
        (self.folder / "users").write_text("".join(user.entry() for user in users))
        (self.folder / "dictionary").write_text("")
        text = CONFIGURATION.format(
            folder=self.folder,
            address=address,
            client=client,
            secret=secret,
            authentication_port=AUTHENTICATION_PORT,
            accounting_port=ACCOUNTING_PORT,
        )
        (self.folder / "radiusd.conf").write_text(text)

    def start(self) -> None:
        """Start it and return once it serves; raises LabError with its log otherwise."""
        if not PROGRAM.exists():
            raise LabError(f"{PROGRAM} is missing, `scripts/setup test` installs it")
        argv = [str(PROGRAM), "-f", "-l", "stdout", "-d", str(self.folder), "-n", "radiusd"]
        before = len(self.log())
        self._process = self._lab.spawn(self._host, argv, self._name)

        def ready() -> bool:
            if not self.running():
                raise LabError(f"freeradius on {self._host} ended: {self.log()[-2000:]}")
            return "Ready to process requests" in self.log()[before:]

        wait_until(ready, READY_S, f"freeradius on {self._host}")

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.stop()

    def running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.running()

    def log(self) -> str:
        """What it wrote so far."""
        path = self._lab.folder / "processes" / f"{self._name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def accounting(self) -> list[dict[str, str]]:
        """The accounting requests it took, in order: attribute to value, quotes removed."""
        path = self.folder / "detail"
        text = path.read_text(errors="replace") if path.exists() else ""
        records = []
        for block in re.split(r"\n\s*\n", text):
            found = dict(re.findall(r'^\t([\w-]+) = "?(.*?)"?$', block, re.MULTILINE))
            if found:
                records.append(found)
        return records
