"""The devices of the demonstration: strongSwan, and our own gateway as the one that connects."""

from __future__ import annotations

from typing import Protocol

from gateway.lab import plan
from gateway.lab.appliance import Appliance
from gateway.lab.pki import Authority
from gateway.lab.processes import LabError, wait_until
from gateway.lab.story_settings import DEVICE_TOML, SWANCTL_CONF
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

CONNECT_S = 20.0
INTRANET = "10.1.0.0/24"


class Device(Protocol):
    """Who connects to the gateway from `device`."""

    name: str
    """For the reader."""

    def start(self) -> None:
        """Raises LabError."""

    def connect(self, *, mobike: bool) -> None:
        """Log in with a certificate, with or without MOBIKE; raises LabError."""

    def disconnect(self) -> None:
        """Say goodbye."""

    def stop(self) -> None:
        """End it; safe to call twice."""


class StrongSwanDevice:
    """Debian's strongSwan, with the kernel's ESP or its own."""

    def __init__(self, lab: Lab, authority: Authority) -> None:
        self._charon = StrongSwan(lab, "device")
        self._authority = authority
        self.user_space = self._charon.user_space
        self.name = "strongSwan" + (" with user-space IPsec" if self.user_space else "")

    def start(self) -> None:
        """The daemon."""
        self._charon.start()

    def connect(self, *, mobike: bool) -> None:
        """By vici."""
        self._charon.load(
            SWANCTL_CONF.format(outside=plan.GATEWAY_OUTSIDE, mobike="yes" if mobike else "no"),
            authorities=[self._authority.root],
            credentials={"device": self._authority.device()},
        )
        self._charon.initiate("intranet")

    def disconnect(self) -> None:
        """By vici."""
        self._charon.terminate("home")

    def stop(self) -> None:
        """The daemon."""
        self._charon.stop()


class OwnDevice:
    """Our own gateway as the initiator: native ESP where strongSwan has ESP in UDP only."""

    name = "this gateway's own IKE and ESP"

    def __init__(self, lab: Lab, authority: Authority) -> None:
        self._lab, self._authority = lab, authority
        self._appliance = Appliance(lab, name="device", host="device")

    def start(self) -> None:
        """Its address is that of the access network, which has to be there."""
        folder = self._appliance.folder
        self._authority.device().write(folder, "device")
        (folder / "ca.crt").write_bytes(self._authority.root.certificate_pem())
        text = DEVICE_TOML.format(folder=folder, outside=plan.GATEWAY_OUTSIDE)
        self._appliance.write_text(text)
        self._appliance.start()

    def connect(self, *, mobike: bool) -> None:
        """And use the inner address, which the gateway itself leaves to its host."""
        if mobike:
            raise LabError("this device does not move by MOBIKE")
        self._appliance.call("initiate", connection="home")

        def there() -> bool:
            return bool(self._appliance.call("child-sas")["items"])

        wait_until(there, CONNECT_S, f"the tunnel; the device's log:\n{self._appliance.output()}")
        (ike,) = self._appliance.call("ike-sas")["items"]
        (address,) = ike["inner_addresses"]
        self._lab.run("device", ["ip", "address", "replace", f"{address}/32", "dev", "lo"])
        route = ["ip", "route", "replace", INTRANET, "dev", "gw0", "src", address]
        self._lab.run("device", route)

    def disconnect(self) -> None:
        """Every IKE SA."""
        for ike in self._appliance.call("ike-sas")["items"]:
            self._appliance.call("close-ike-sa", id=ike["id"])

    def stop(self) -> None:
        """The gateway on the device's host."""
        self._appliance.stop()
