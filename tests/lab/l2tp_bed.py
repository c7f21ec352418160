"""xl2tpd and pppd at both ends, as docs/l2tp.md has them; strongSwan is the client's IPsec."""

import re
from pathlib import Path

from gateway.lab.processes import Process, wait_until
from gateway.lab.topology import Lab

SERVER_SIDE = """
[global]
listen-addr = {outside}
port = 1701
access control = no

[lns default]
ip range = 10.8.0.10-10.8.0.20
local ip = 10.8.0.1
require authentication = yes
refuse pap = yes
length bit = yes
name = gateway
pppoptfile = {folder}/options
"""
SERVER_OPTIONS = """
name gateway
require-mschap-v2
mtu 1300
mru 1300
nodefaultroute
noproxyarp
lcp-echo-interval 20
lcp-echo-failure 4
logfile {folder}/ppp.log
"""
CLIENT_SIDE = """
[global]
port = 1701
access control = no

[lac gw]
lns = {outside}
length bit = yes
redial = yes
redial timeout = 1
max redials = 30
autodial = yes
pppoptfile = {folder}/options
"""
CLIENT_OPTIONS = """
user ada
name ada
noauth
mtu 1300
mru 1300
nodefaultroute
ipcp-accept-local
ipcp-accept-remote
logfile {folder}/ppp.log
"""
SECRETS = 'ada * "lovelace" *\n'


class Xl2tpd:
    """One xl2tpd on a host; its pppd has an /etc/ppp of its own."""

    def __init__(self, lab: Lab, host: str, settings: str, options: str, outside: object) -> None:
        self._lab, self._host = lab, host
        self.folder = lab.folder / f"xl2tpd-{host}"
        etc = self.folder / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        words = {"folder": self.folder, "outside": outside}
        (self.folder / "xl2tpd.conf").write_text(settings.format(**words))
        (self.folder / "options").write_text(options.format(**words))
        (etc / "options").write_text("")
        secrets = etc / "chap-secrets"
        secrets.touch(mode=0o600)
        secrets.write_text(SECRETS)
        self._process: Process | None = None

    def start(self) -> None:
        script = 'mount --bind "$1/etc" /etc/ppp && cd "$1" && exec /usr/sbin/xl2tpd -D' + "".join(
            f' {flag} "$1/{name}"'
            for flag, name in (
                ("-c", "xl2tpd.conf"),
                ("-p", "pid"),
                ("-C", "control"),
                ("-s", "l2tp-secrets"),
            )
        )
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]
        name = f"xl2tpd-{self._host}"
        self._process = self._lab.spawn(self._host, [*argv, str(self.folder)], name)

    def stop(self) -> None:
        """End both; the interface is gone then, and its name free."""
        if self._process is not None:
            self._process.stop()
            self._process = None
            wait_until(self.gone, 20, f"no PPP link on {self._host}")

    def output(self) -> str:
        """What both have said."""
        log: Path = self.folder / "ppp.log"
        said = self._process.output() if self._process is not None else ""
        return said + (log.read_text(errors="replace") if log.exists() else "")

    def address(self) -> str:
        """Of its first PPP interface; empty while there is none."""
        found = self._lab.addresses(self._host)
        return next((one[0] for name, one in found.items() if name.startswith("ppp") and one), "")

    def gone(self) -> bool:
        """Whether neither of them has left anything: xl2tpd does not wait for its pppd."""
        links = self._lab.run(self._host, ["ip", "-brief", "link", "show"]).stdout
        return not re.search(r"^ppp", links, re.MULTILINE)

    def wait(self) -> None:
        wait_until(self.address, 40, f"a PPP link on {self._host}")
