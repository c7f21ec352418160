"""libreswan as a peer: Debian's package unpacked into the cache, one pluto per host.

Installed the usual way it conflicts with strongSwan's packages; scripts/setup unpacks it instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from gateway.lab import netns
from gateway.lab.pki import Issued
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gateway"
PROGRAMS = CACHE / "libreswan/root/usr/libexec/ipsec"
READY_S = 40.0
PASSWORD = b"lab"
ESTABLISHED = ("established Child SA", "IPsec SA established")
"""What whack says at the end of IKEv2 and of quick mode."""

SETUP = "config setup\n    ikev1-policy=accept\n\n"
INSIDE = "/usr/libexec/ipsec"

# pluto looks for its programs in a fixed place, and its updown script writes /etc/resolv.conf when
# it is given name servers: it sees both places, and /run, as its own.
SCRIPT = """
set -e
mount -t tmpfs tmpfs /usr/libexec
mkdir /usr/libexec/ipsec
mount --bind "$2" /usr/libexec/ipsec
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1" /run
shift 2
exec "$@"
"""


class Libreswan:
    """A pluto on a host of the lab."""

    def __init__(self, lab: Lab, host: str, *, name: str | None = None) -> None:
        self._lab = lab
        self._host = host
        self._name = name or f"pluto-{host}"
        self.folder = lab.folder / self._name  # what pluto sees as /run
        self._process: Process | None = None

    def start(self) -> None:
        """Start pluto and return once it listens; raises LabError with its log when it does not."""
        if not (PROGRAMS / "pluto").exists():
            raise LabError(f"{PROGRAMS / 'pluto'} is missing, `scripts/setup test` fetches it")
        for folder in ("pluto", "nss", "ipsec.d"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        for file in ("resolv.conf", "secrets", "ipsec.conf"):
            (self.folder / file).touch(mode=0o600)
        (self.folder / "ipsec.conf").write_text(SETUP)
        if not (self.folder / "nss/cert9.db").exists():  # it would ask for the password
            netns.command(["certutil", "-N", "-d", self._nss, "--empty-password"])
        for left in ("pluto.pid", "pluto.ctl"):  # by one that was killed
            (self.folder / "pluto" / left).unlink(missing_ok=True)
        pluto = [f"{INSIDE}/pluto", "--nofork", "--no-dnssec", "--logfile"]
        pluto += ["/run/pluto.log", "--log-no-audit", "--rundir", "/run/pluto"]
        for option, file in (
            ("config", "ipsec.conf"),
            ("secretsfile", "secrets"),
            ("nssdir", "nss"),
        ):
            pluto += [f"--{option}", f"/run/{file}"]
        pluto += ["--ipsecdir", "/run/ipsec.d"]
        private = ["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT, "pluto"]
        self._process = self._lab.spawn(
            self._host, [*private, str(self.folder), str(PROGRAMS), *pluto], self._name
        )

        def ready() -> bool:
            if not self.running():
                raise LabError(f"pluto on {self._host} ended: {self.log()[-2000:]}")
            return self._control.exists() and self._whack("--listen").returncode == 0

        wait_until(ready, READY_S, f"pluto on {self._host}")

    def stop(self) -> None:
        """End pluto; it tells its peers."""
        if self.running():
            self._whack("--shutdown")
        if self._process:
            self._process.stop()

    def running(self) -> bool:
        """Whether pluto is there."""
        return self._process is not None and self._process.running()

    def load(
        self,
        connections: str,
        *,
        secrets: str = "",
        authorities: Sequence[Issued] = (),
        credentials: Mapping[str, Issued] | None = None,
    ) -> None:
        """Load `conn` sections of ipsec.conf and lines of ipsec.secrets.

        `credentials` come into its database under their names, for `leftcert=NAME`.
        Raises LabError with libreswan's words when it does not take them.
        """
        for number, authority in enumerate(authorities):
            path = self.folder / f"ca{number}.crt"
            path.write_bytes(authority.certificate_pem())
            argv = [
                "certutil",
                "-A",
                "-d",
                self._nss,
                "-n",
                f"ca{number}",
                "-t",
                "CT,,",
                "-i",
                str(path),
            ]
            netns.command(argv)
        for name, issued in (credentials or {}).items():
            self._import(name, issued)
        head = f"{SETUP}conn %default\n    leftupdown={INSIDE}/_updown.xfrm\n\n"
        (self.folder / "ipsec.conf").write_text(head + connections)
        (self.folder / "secrets").write_text(secrets)
        self._must("--rereadsecrets")
        self._must("--listen")  # the host's addresses may have changed
        for line in connections.splitlines():
            if line.startswith("conn ") and (name := line.split()[1]) != "%default":
                argv = [str(PROGRAMS / "addconn"), "--config", str(self.folder / "ipsec.conf")]
                argv += ["--ctlsocket", str(self._control), name]
                self._lab.run(self._host, argv)  # there, for %defaultroute

    def initiate(self, name: str, *, timeout_s: float = 30.0) -> None:
        """Bring a connection up; raises LabError with the end of pluto's log when it fails."""
        done = self._whack("--name", name, "--initiate", timeout_s=timeout_s)
        if not any(words in done.stdout for words in ESTABLISHED):
            raise LabError(f"libreswan: {name} failed:\n{done.stdout}{self.log()[-3000:]}")

    def terminate(self, name: str) -> None:
        """Take a connection down."""
        self._must("--name", name, "--terminate")

    def forget(self, name: str) -> None:
        """Take a connection down and unload it; one that is not loaded is no error."""
        self._whack("--name", name, "--delete")

    def status(self) -> str:
        """Its own report of its states."""
        return self._must("--showstates")

    def traffic(self) -> str:
        """Its report of octets in and out, with each SA's inner address."""
        return self._must("--trafficstatus")

    def counter(self, name: str) -> int:
        """One of its counters, as `whack --globalstatus` names them."""
        found = re.search(rf"{re.escape(name)}=(\d+)", self._must("--globalstatus"))
        if found is None:
            raise LabError(f"libreswan does not count {name}")
        return int(found[1])

    def rekey(self, name: str, *, ike: bool = False) -> None:
        """Start a rekeying of the connection's IKE SA or Child SA."""
        self._must("--name", name, "--rekey-ike" if ike else "--rekey-ipsec")

    def impair(self, behaviour: str) -> None:
        """Turn one of libreswan's own faults on (`whack --impair list` names them)."""
        self._must("--impair", behaviour)

    def replace(self, state: int) -> None:
        """Let the time of an SA come, named by the number of its state; it is then replaced."""
        # whack stays until the new SA is there, and sometimes longer.
        with contextlib.suppress(LabError):
            self._whack("--impair", f"event-sa-replace:{state}", timeout_s=2)

    def log(self) -> str:
        """Its log so far."""
        path = self.folder / "pluto.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return text or (self._process.output() if self._process else "")

    @property
    def pid(self) -> int:
        """The process id of pluto; raises LabError when it was not started."""
        if self._process is None:
            raise LabError(f"pluto on {self._host} was not started")
        return self._process.pid

    @property
    def _nss(self) -> str:
        return f"sql:{self.folder / 'nss'}"

    @property
    def _control(self) -> Path:
        return self.folder / "pluto/pluto.ctl"

    def _import(self, name: str, issued: Issued) -> None:
        """Put a certificate with its key into the database, by way of a PKCS#12 file."""
        protected = serialization.BestAvailableEncryption(PASSWORD)
        path = self.folder / f"{name}.p12"
        path.write_bytes(
            pkcs12.serialize_key_and_certificates(
                name.encode(), issued.key, issued.certificate, None, protected
            )
        )
        argv = ["pk12util", "-i", str(path), "-d", self._nss, "-W", PASSWORD.decode(), "-K", ""]
        netns.command(argv)

    def _whack(self, *arguments: str, timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
        argv = [str(PROGRAMS / "whack"), "--ctlsocket", str(self._control), *arguments]
        try:
            return subprocess.run(
                argv, capture_output=True, text=True, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode(errors="replace")
            raise LabError(f"libreswan: no end of `{' '.join(arguments)}`: {said}") from None

    def _must(self, *arguments: str) -> str:
        done = self._whack(*arguments)
        if done.returncode:
            raise LabError(f"libreswan refuses `{' '.join(arguments)}`: {done.stdout}{done.stderr}")
        return done.stdout
