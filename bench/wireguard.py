"""wireguard-go on the lab's gateway and device, as the peer that roams by its own packets."""

from ipaddress import IPv4Address
from pathlib import Path

from gateway.lab import plan
from gateway.lab.netns import command
from gateway.lab.processes import Process, wait_until
from gateway.lab.topology import Lab

PORT = 51820
READY_S = 20.0


class WireGuard:
    """A tunnel between `gw` and `device`; the device's inner address is `inner`."""

    def __init__(
        self, lab: Lab, inner: IPv4Address, intranet: str, *, keepalive_s: int = 0
    ) -> None:
        """With `keepalive_s` the device keeps a NAT's mapping alive."""
        self._lab, self._inner, self._intranet = lab, inner, intranet
        self._keepalive_s = keepalive_s
        self._processes: list[Process] = []

    def start(self) -> None:
        """Both ends; returns when both interfaces are there."""
        keys = {host: self._key(host) for host in ("gw", "device")}
        for host in keys:
            self._interface(host)
        self._set("gw", keys["device"], f"{self._inner}/32")
        endpoint = ["endpoint", f"{plan.GATEWAY_OUTSIDE}:{PORT}"]
        keepalive = ["persistent-keepalive", str(self._keepalive_s)]
        self._set("device", keys["gw"], self._intranet, *endpoint, *keepalive)
        self._lab.run("gw", ["ip", "route", "replace", f"{self._inner}/32", "dev", "wg-gw"])
        self._lab.run(
            "device", ["ip", "address", "replace", f"{self._inner}/32", "dev", "wg-device"]
        )
        self._lab.run("device", ["ip", "route", "replace", self._intranet, "dev", "wg-device"])

    def _key(self, host: str) -> str:
        secret = command(["wg", "genkey"])
        path = self._file(host)
        path.touch(mode=0o600)
        path.write_text(secret)
        return command(["wg", "pubkey"], secret).strip()

    def _file(self, host: str) -> Path:
        return self._lab.folder / f"wireguard-{host}.key"

    def _interface(self, host: str) -> None:
        name = f"wg-{host}"
        argv = ["wireguard-go", "--foreground", name]
        environment = {"LOG_LEVEL": "error", "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}
        self._processes.append(self._lab.spawn(host, argv, name, environment))
        show = ["wg", "show", name]
        wait_until(
            lambda: self._lab.run(host, show, check=False).returncode == 0, READY_S, "wireguard-go"
        )
        self._lab.run(host, ["ip", "link", "set", name, "up", "mtu", "1400"])

    def _set(self, host: str, peer: str, allowed: str, *endpoint: str) -> None:
        argv = ["wg", "set", f"wg-{host}", "private-key", str(self._file(host))]
        argv += ["listen-port", str(PORT), "peer", peer, "allowed-ips", allowed, *endpoint]
        self._lab.run(host, argv)

    def processes(self) -> list[int]:
        """Ids of both wireguard-go."""
        return [process.pid for process in self._processes]

    def end(self) -> None:
        """Both ends."""
        for process in self._processes:
            process.stop()
