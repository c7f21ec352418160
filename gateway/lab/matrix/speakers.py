"""Either side of a cell: strongSwan or libreswan, told in the same words what to do."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from typing import Protocol

from gateway.lab import plan
from gateway.lab.libreswan import Libreswan
from gateway.lab.matrix import ipsecconf, swanctl, world
from gateway.lab.matrix.cells import Event, Role, Row
from gateway.lab.matrix.world import Certificates
from gateway.lab.processes import LabError, wait_until
from gateway.lab.strongswan import PLUGINS, StrongSwan
from gateway.lab.topology import Lab

INITIATE_S = 25.0
IKE_STATE = r"#(\d+): .*\((?:IKE SA established|established IKE SA)"
CHILD_STATE = r"#(\d+): .*\((?:IPsec SA established|established Child SA)"
"""Lines of pluto's states: the number."""


class Speaker(Protocol):
    """One side of a cell."""

    host: str
    moves: tuple[str, ...]
    """The access networks that it follows the device through."""
    defers_sending: bool
    """Whether it sends on a rekeyed child SA only once the other side can receive on it."""
    replaces_moved: bool
    """Whether it makes another child SA when its address changes."""

    def start(self) -> None:
        """Start the daemon."""

    def stop(self) -> None:
        """End it."""

    def load(self, row: Row, role: Role) -> None:
        """Have the row's connection, and no other one; `role` is this side's."""

    def initiate(self) -> None:
        """Bring it up; raises LabError with the reason when it does not come."""

    def ike_names(self) -> set[str]:
        """Names of the established IKE SAs."""

    def rekey_child(self) -> None:
        """Replace the child SA."""

    def rekey_ike(self) -> None:
        """Replace the IKE SA."""

    def reauthenticate(self) -> None:
        """Log in again."""

    def close(self) -> None:
        """Delete everything, and tell the other side."""

    def kill(self) -> None:
        """End as by a power cut."""

    def probes_answered(self) -> int:
        """How many of its liveness checks were answered."""

    def log(self) -> str:
        """Its log so far."""


class StrongSwanSpeaker:
    """Debian's charon."""

    defers_sending = True
    moves: tuple[str, ...] = ("access2", "nat", "access1")

    def __init__(self, lab: Lab, host: str, certificates: Certificates) -> None:
        self.host = host
        self._lab = lab
        self._certificates = certificates
        self._row: Row | None = None
        self._daemon = StrongSwan(
            lab, host, plugins=f"{PLUGINS} eap-gtc xauth-generic", extra=swanctl.CHARON
        )
        self.replaces_moved = self._daemon.user_space

    def start(self) -> None:
        """Start charon."""
        self._daemon.start()

    def stop(self) -> None:
        """End it."""
        self._daemon.stop()

    def load(self, row: Row, role: Role) -> None:
        """Replace the connection."""
        own = self._certificates.of(row, role)
        self._daemon.load(
            swanctl.configuration(row, role),
            authorities=[self._certificates.authority.root],
            credentials={} if own is None else {"own": own},
        )
        self._row = row

    def initiate(self) -> None:
        """Bring the child (or, childless, the IKE SA alone) up."""
        if self._row is not None and self._row.childless:
            self._daemon.initiate(None, ike="gw", timeout_s=INITIATE_S)
        self._daemon.initiate("net", timeout_s=INITIATE_S)

    def ike_names(self) -> set[str]:
        """As SPIs."""
        return {f"{sa.initiator_spi}_{sa.responder_spi}" for sa in self._daemon.established()}

    def rekey_child(self) -> None:
        """By VICI: the newest, because IKEv1 keeps those that were replaced."""
        children = [
            child
            for sa in self._daemon.established()
            for child in sa.raw.get("child-sas", {}).values()
        ]
        self._daemon.rekey(child_id=max(int(child["uniqueid"]) for child in children))

    def rekey_ike(self) -> None:
        """By VICI; IKEv1 knows no other way than another phase 1."""
        if self._row is not None and self._row.version == 1:
            self.reauthenticate()
        else:
            self._daemon.rekey(ike="gw")

    def reauthenticate(self) -> None:
        """By VICI."""
        self._daemon.rekey(ike="gw", reauthenticate=True)

    def close(self) -> None:
        """Every IKE SA."""
        for sa in self._daemon.list_sas():
            with contextlib.suppress(LabError):
                self._daemon.terminate(sa.name or "gw", timeout_s=5)

    def kill(self) -> None:
        """End charon, and let its kernel forget everything too."""
        os.kill(self._daemon.pid, signal.SIGKILL)
        wait_until(lambda: not self._daemon.running(), 10, "charon's end")
        self._lab.wipe(self.host)

    def probes_answered(self) -> int:
        """As its log says."""
        return len(
            re.findall(
                r"parsed INFORMATIONAL(?:_V1 \w+ \d+ \[ HASH N\(DPD_ACK\)| response \d+ \[ \])",
                self.log(),
            )
        )

    def log(self) -> str:
        """Charon's."""
        return self._daemon.log()


class LibreswanSpeaker:
    """Debian's pluto."""

    defers_sending = False
    replaces_moved = False
    moves: tuple[str, ...] = ("access2", "access1")

    def __init__(self, lab: Lab, host: str, certificates: Certificates) -> None:
        self.host = host
        self._lab = lab
        self._certificates = certificates
        self._daemon = Libreswan(lab, host)
        self._known: dict[int, str] = {}
        self._row: Row | None = None
        self._role = Role.INITIATOR

    def start(self) -> None:
        """Start pluto."""
        self._daemon.start()
        line = f"{world.USER}:{world.PASSWORD_CRYPT}:\n"
        (self._daemon.folder / "ipsec.d/passwd").write_text(line)

    def stop(self) -> None:
        """End it."""
        self._daemon.stop()

    def load(self, row: Row, role: Role) -> None:
        """Replace the connection."""
        own = self._certificates.of(row, role)
        self._daemon.forget(ipsecconf.NAME)
        text = ipsecconf.configuration(row, role, self._left(row))
        authorities = [] if self._known else [self._certificates.authority.root]
        if own is not None:  # its database knows a certificate by one name for good
            name = self._known.setdefault(own.certificate.serial_number, f"c{len(self._known)}")
            text = text.replace("leftcert=own", f"leftcert={name}")
        else:
            name = ""
        self._daemon.load(
            text,
            secrets=ipsecconf.secrets(row, role),
            authorities=authorities,
            credentials={} if own is None else {name: own},
        )
        self._row, self._role = row, role

    def _left(self, row: Row) -> str:
        if self.host == "gw":
            return str(world.RESPONDER)
        if Event.INITIATOR_MOVES in row.events:
            return "%defaultroute"
        return str(plan.ACCESSES[self._lab.access()[-1]].device.ip)

    def initiate(self) -> None:
        """Bring it up."""
        self._daemon.initiate(ipsecconf.NAME, timeout_s=INITIATE_S)

    def ike_names(self) -> set[str]:
        """As its own numbers of states."""
        return {f"#{number}" for number in self._states(IKE_STATE)}

    def rekey_child(self) -> None:
        """By whack; in IKEv1 by letting the SA's time come."""
        if self._row is not None and self._row.version == 1:
            self._replace(CHILD_STATE)
        else:
            self._daemon.rekey(ipsecconf.NAME)

    def rekey_ike(self) -> None:
        """By whack; in IKEv1 by letting the SA's time come."""
        if self._row is not None and self._row.version == 1:
            self._replace(IKE_STATE)
        else:
            self._daemon.rekey(ipsecconf.NAME, ike=True)

    def _states(self, pattern: str) -> list[int]:
        return [int(number) for number in re.findall(pattern, self._daemon.status())]

    def _replace(self, pattern: str) -> None:
        self._daemon.replace(max(self._states(pattern)))

    def reauthenticate(self) -> None:
        """It has no word for it."""
        raise LabError("libreswan logs in again only when the SA is over")

    def close(self) -> None:
        """Take the connection down."""
        with contextlib.suppress(LabError):
            self._daemon.terminate(ipsecconf.NAME)

    def kill(self) -> None:
        """End pluto, and let its kernel forget everything too."""
        os.kill(self._daemon.pid, signal.SIGKILL)
        wait_until(lambda: not self._daemon.running(), 10, "pluto's end")
        self._lab.wipe(self.host)

    def probes_answered(self) -> int:
        """As it counts them."""
        return self._daemon.counter("total.ike.dpd.recv")

    def log(self) -> str:
        """Pluto's."""
        return self._daemon.log()
