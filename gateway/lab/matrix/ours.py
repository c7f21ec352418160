"""Our own gateway as a side of a cell, given its connections by reloading."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from gateway.control.protocol import ControlError
from gateway.eap.mschapv2_crypto import nt_password_hash
from gateway.lab.appliance import Appliance
from gateway.lab.matrix import toml, world
from gateway.lab.matrix.cells import Role, Row
from gateway.lab.matrix.world import Certificates
from gateway.lab.processes import LabError, wait_until
from gateway.lab.topology import Lab
from gateway.users.editing import UserFile
from gateway.users.settings import UserBaseSettings

INITIATE_S = 25.0


class OurGateway:
    """`gateway run` on a host of the lab."""

    defers_sending = True
    replaces_moved = False
    moves: tuple[str, ...] = ()

    def __init__(self, lab: Lab, host: str, certificates: Certificates) -> None:
        self.host = host
        self._lab = lab
        self._certificates = certificates
        self.appliance = Appliance(lab, host=host)
        self._role = Role.RESPONDER

    def start(self) -> None:
        """Start it without a connection, but with a local user."""
        folder = self.appliance.folder
        for name, secret in (("radius.secret", world.RADIUS_SECRET), ("ppk", world.PPK.decode())):
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(secret)
        base = UserBaseSettings(folder / "users.toml", folder / "users.toml.key")
        if not base.path.exists():
            UserFile(base).add_user(
                world.USER,
                world.PASSWORD,
                groups=["staff"],
                nt_hash=nt_password_hash(world.PASSWORD),
            )
        self.appliance.write_text(toml.head(self.host, self.appliance.folder))
        self.appliance.start()

    def stop(self) -> None:
        """End it."""
        self.appliance.stop()

    def load(self, row: Row, role: Role) -> None:
        """Replace the connection."""
        self._reload(toml.connection(row, role, self._files(row, role)))
        self._role = role

    def initiate(self) -> None:
        """Bring it up."""
        failed = len(self.appliance.events("handshake_failed"))
        self._call("initiate", connection=toml.NAME)

        def up() -> bool:
            said = self.appliance.events("handshake_failed")[failed:]
            if said:
                self._reload("")  # or it would try again
                raise LabError(str(said[0]["text"]))
            return bool(self._ike_sas()) and bool(self._call("child-sas")["items"])

        try:
            wait_until(up, INITIATE_S, "our connection")
        except LabError:
            self._reload("")
            raise
        for ike in self._ike_sas():
            for address in ike["inner_addresses"]:
                self._lab.run(self.host, ["ip", "address", "replace", f"{address}/32", "dev", "lo"])

    def ike_names(self) -> set[str]:
        """As SPIs."""
        return {str(ike["id"]) for ike in self._ike_sas()}

    def rekey_child(self) -> None:
        """By the control socket."""
        for name in self.ike_names():
            self._call("rekey", id=name, children=True)

    def rekey_ike(self) -> None:
        """By the control socket."""
        for name in self.ike_names():
            self._call("rekey", id=name)

    def reauthenticate(self) -> None:
        """The connection says that renewing is logging in again."""
        self.rekey_ike()

    def close(self) -> None:
        """Every IKE SA."""
        for name in self.ike_names():
            with contextlib.suppress(LabError):
                self._call("close-ike-sa", id=name)
        if self._role is Role.INITIATOR:
            self._reload("")

    def kill(self) -> None:
        """End it, and let its kernel forget everything too."""
        os.kill(self.appliance.pid, signal.SIGKILL)
        wait_until(lambda: not self.appliance.running(), 10, "our end")
        self._lab.wipe(self.host)

    def probes_answered(self) -> int:
        """Nobody asks us."""
        raise LabError("our gateway does not count the answers to its liveness checks")

    def log(self) -> str:
        """Its lines."""
        return self.appliance.output()

    def _files(self, row: Row, role: Role) -> dict[str, str]:
        """The files that the connection names."""
        folder = self.appliance.folder
        ca = folder / "ca.crt"
        ca.write_bytes(self._certificates.authority.root.certificate_pem())
        files = {"ca": str(ca), "ppk": str(folder / "ppk")}
        own = self._certificates.of(row, role)
        if own is not None:
            certificate, key = own.write(folder, f"own-{own.certificate.serial_number:x}")
            files |= {"certificate": str(certificate), "key": str(key)}
        return files

    def _reload(self, connections: str) -> None:
        self.appliance.write_text(toml.head(self.host, self.appliance.folder) + connections)
        self._call("reload")

    def _ike_sas(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._call("ike-sas")["items"]
        return [item for item in items if item["state"] == "established"]

    def _call(self, op: str, **args: object) -> dict[str, Any]:
        try:
            return self.appliance.call(op, **args)
        except (ControlError, ConnectionError) as error:
            raise LabError(f"our gateway, {op}: {error}") from None
