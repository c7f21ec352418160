"""Debian's strongSwan as a peer: one charon per host, with a /run and configuration of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.lab.kernel import has_esp
from gateway.lab.pki import Issued
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab
from gateway.lab.vici import Section, Vici

GONE = frozenset({"DELETED", "DESTROYING"})
"""States of CHILD_SAs that are listed and have nothing installed any more."""
CHARON = Path("/usr/lib/ipsec/charon")
READY_S = 30.0
PLUGINS = (
    "random nonce openssl x509 revocation constraints pubkey pkcs1 pkcs8 pem curve25519 chapoly"
    " kdf hmac gmp counters kernel-netlink socket-default vici updown"
    " eap-identity eap-mschapv2 eap-tls eap-md5"
)
USER_SPACE_PLUGIN = "kernel-libipsec"
"""In front of kernel-netlink: ESP in charon's own process, which then does only links and routes.
It puts ESP in UDP, whether there is a NAT or not, and has no ESN and no transport mode."""
PLUGINS_SWANCTL = "random nonce openssl pem pkcs1 pkcs8 x509 pubkey"

SETTINGS = """
charon {{
    load_modular = no
    load = {plugins}
    install_routes = {install_routes}
    install_virtual_ip = yes
    retransmit_tries = 4
    retransmit_timeout = 1.0
    retransmit_base = 1.3
    delete_rekeyed_delay = 2
    {extra}
    plugins {{
        vici {{
            socket = unix:///run/charon.vici
        }}
        kernel-netlink {{
            mtu = 0
        }}
    }}
    filelog {{
        log {{
            path = /run/charon.log
            append = yes
            flush_line = yes
            default = {log_level}
            ike = {detail_level}
            cfg = {detail_level}
            knl = {log_level}
            time_format = %H:%M:%S
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class ChildSa:
    """One CHILD_SA as charon reports it."""

    name: str
    state: str
    spi_in: int
    spi_out: int
    encapsulated: bool
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int
    local_selectors: tuple[str, ...]
    remote_selectors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IkeSa:
    """One IKE_SA as charon reports it."""

    name: str
    state: str
    local: str
    remote: str
    initiator_spi: str
    responder_spi: str
    proposal: str
    virtual_ips: tuple[str, ...]
    children: tuple[ChildSa, ...]
    raw: Section


class StrongSwan:
    """A charon on a host of the lab.

    `extra` are further lines of strongswan.conf's charon section (`retransmit_tries = 2`);
    `quiet` logs next to nothing, so that writing it costs a measurement nothing.
    `user_space` takes its own IPsec instead of the kernel's; None: where the kernel has none.
    """

    def __init__(
        self,
        lab: Lab,
        host: str,
        *,
        name: str | None = None,
        plugins: str = PLUGINS,
        extra: str = "",
        install_routes: bool = True,
        quiet: bool = False,
        user_space: bool | None = None,
    ) -> None:
        self.user_space = not has_esp() if user_space is None else user_space
        if self.user_space:
            plugins = plugins.replace("kernel-netlink", f"{USER_SPACE_PLUGIN} kernel-netlink")
            lab.asks(host, self.spis)
        self._lab = lab
        self._host = host
        self._name = name or f"charon-{host}"
        self.folder = lab.folder / self._name
        self._settings = SETTINGS.format(
            plugins=plugins,
            extra=extra,
            install_routes="yes" if install_routes else "no",
            log_level=0 if quiet else 1,
            detail_level=0 if quiet else 2,
        )
        self._process: Process | None = None

    def start(self) -> None:
        """Start charon and return once it answers; raises LabError with its log otherwise."""
        if not CHARON.exists():
            raise LabError(f"{CHARON} is missing, scripts/setup installs it")
        run = self.folder / "run"
        run.mkdir(parents=True, exist_ok=True)
        (run / "strongswan.conf").write_text(self._settings)
        # charon's pid file has a fixed place under /run: each instance sees a /run of its own.
        script = 'mount --bind "$1" /run && exec "$2"'
        argv = [
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "charon",
            str(run),
            str(CHARON),
        ]
        self._process = self._lab.spawn(
            self._host, argv, self._name, {"STRONGSWAN_CONF": "/run/strongswan.conf"}
        )

        def ready() -> bool:
            if not self.running():
                raise LabError(f"charon on {self._host} ended: {self.log()[-2000:]}")
            return self._socket.exists() and self._answers()

        wait_until(ready, READY_S, f"charon on {self._host}")

    def stop(self) -> None:
        """End charon; it says goodbye to its peers first."""
        if self._process:
            self._process.stop()

    def running(self) -> bool:
        """Whether charon is there."""
        return self._process is not None and self._process.running()

    @property
    def pid(self) -> int:
        """The process id of charon; raises LabError when it was not started."""
        if self._process is None:
            raise LabError(f"charon on {self._host} was not started")
        return self._process.pid

    def load(
        self,
        configuration: str,
        *,
        authorities: Sequence[Issued] = (),
        credentials: Mapping[str, Issued] | None = None,
    ) -> None:
        """Load swanctl.conf text; `credentials` become NAME.crt and NAME.key that it may name.

        Raises LabError with swanctl's words when it does not take it.
        """
        folder = self.folder / "swanctl"
        for kind in ("x509", "x509ca", "private"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for number, authority in enumerate(authorities):
            (folder / "x509ca" / f"ca{number}.crt").write_bytes(authority.certificate_pem())
        for name, issued in (credentials or {}).items():
            (folder / "x509" / f"{name}.crt").write_bytes(issued.certificate_pem())
            (folder / "private" / f"{name}.key").write_bytes(issued.key_pem())
        (folder / "swanctl.conf").write_text(configuration)
        own = folder / "strongswan.conf"
        own.write_text(f"swanctl {{\n load = {PLUGINS_SWANCTL}\n}}\n")
        done = subprocess.run(
            ["swanctl", "--load-all", "--clear", "--noprompt", "--uri", f"unix://{self._socket}"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SWANCTL_DIR": str(folder), "STRONGSWAN_CONF": str(own)},
        )
        if done.returncode:
            raise LabError(
                f"swanctl refuses the configuration: {(done.stderr or done.stdout).strip()}"
            )

    def initiate(
        self, child: str | None, *, ike: str | None = None, timeout_s: float = 20.0
    ) -> None:
        """Bring a child up (and its IKE_SA); raises LabError with the end of the log on failure.

        Without a child, the IKE_SA of the connection `ike` alone.
        """
        names = {"child": child, "ike": ike}
        arguments: dict[str, object] = {key: name for key, name in names.items() if name}
        arguments |= {"timeout": int(timeout_s * 1000), "init-limits": "no"}
        try:
            self._request("initiate", arguments, timeout_s + 5)
        except LabError as error:
            raise LabError(f"{error}; end of its log:\n{self.log()[-3000:]}") from None

    def terminate(self, ike: str, *, force: bool = False, timeout_s: float = 10.0) -> None:
        """Close the IKE_SAs of a connection; with `force` without waiting for the peer."""
        arguments = {
            "ike": ike,
            "force": "yes" if force else "no",
            "timeout": int(timeout_s * 1000),
        }
        self._request("terminate", arguments, timeout_s + 5)

    def rekey(
        self,
        *,
        ike: str | None = None,
        child: str | None = None,
        child_id: int | None = None,
        reauthenticate: bool = False,
    ) -> None:
        """Start a rekeying of an IKE_SA or a CHILD_SA by connection name, or a new login.

        `child_id` is the number that charon gave to one CHILD_SA.
        """
        names = {"ike": ike, "child": child, "child-id": child_id}
        arguments: dict[str, object] = {key: name for key, name in names.items() if name}
        if reauthenticate:
            arguments["reauth"] = "yes"
        self._request("rekey", arguments)

    def list_sas(self) -> list[IkeSa]:
        """The IKE_SAs there are."""
        vici = Vici(self._socket)
        try:
            events = vici.stream("list-sas", "list-sa")
        finally:
            vici.close()
        return [_ike_sa(name, body) for event in events for name, body in event.items()]

    def established(self) -> list[IkeSa]:
        """The IKE_SAs that are established."""
        return [sa for sa in self.list_sas() if sa.state == "ESTABLISHED"]

    def spis(self) -> set[int]:
        """Of the child SAs that it has itself, both directions."""
        if not self.running():
            return set()
        children = [child for sa in self.list_sas() for child in sa.children]
        there = [child for child in children if child.state not in GONE]
        return {spi for child in there for spi in (child.spi_in, child.spi_out) if spi}

    def wait_for(self, condition: str, timeout_s: float = 20.0) -> None:
        """Wait until the log contains a text; raises LabError when it does not come."""
        wait_until(
            lambda: condition in self.log(), timeout_s, f"{condition!r} in the log of {self._name}"
        )

    def log(self) -> str:
        """Its log so far."""
        path = self.folder / "run/charon.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return text or (self._process.output() if self._process else "")

    def processor_s(self) -> float:
        """User and system time charon has used so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def _socket(self) -> Path:
        return self.folder / "run/charon.vici"

    def _answers(self) -> bool:
        try:
            self._request("version", {})
        except LabError:
            return False
        return True

    def _request(
        self, name: str, arguments: Mapping[str, object], timeout_s: float = 30.0
    ) -> Section:
        vici = Vici(self._socket, timeout_s)
        try:
            return vici.request(name, arguments)
        finally:
            vici.close()


def _ike_sa(name: str, body: Section) -> IkeSa:
    return IkeSa(
        name=name,
        state=body.get("state", ""),
        local=f"{body.get('local-host')}:{body.get('local-port')}",
        remote=f"{body.get('remote-host')}:{body.get('remote-port')}",
        initiator_spi=body.get("initiator-spi", ""),
        responder_spi=body.get("responder-spi", ""),
        proposal="-".join(
            part
            for key in ("encr-alg", "encr-keysize", "integ-alg", "prf-alg", "dh-group")
            if (part := body.get(key))
        ),
        virtual_ips=tuple(body.get("local-vips", ()) or body.get("remote-vips", ())),
        children=tuple(_child_sa(child) for child in body.get("child-sas", {}).values()),
        raw=body,
    )


def _child_sa(body: Section) -> ChildSa:
    def number(key: str, base: int = 10) -> int:
        return int(body.get(key, "0"), base)

    return ChildSa(
        name=body.get("name", ""),
        state=body.get("state", ""),
        spi_in=number("spi-in", 16),
        spi_out=number("spi-out", 16),
        encapsulated=body.get("encap") == "yes",
        bytes_in=number("bytes-in"),
        bytes_out=number("bytes-out"),
        packets_in=number("packets-in"),
        packets_out=number("packets-out"),
        local_selectors=tuple(body.get("local-ts", ())),
        remote_selectors=tuple(body.get("remote-ts", ())),
    )
