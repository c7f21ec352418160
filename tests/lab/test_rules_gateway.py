"""A strongSwan device under rules: refused, told, changed by a reload, kept through a restart."""

# planes: kernel portable

from collections.abc import Iterator
from typing import Any

import pytest
from gateway_bed import CONFIGURATION, PSK, RunningGateway, device_configuration

from gateway.lab import plan
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

WHO = "device@example.com"
WEB = """
[rules.web]
networks = ["10.1.0.0/24"]
protocols = ["tcp"]
ports = ["{ports}"]
"""


class Bed:
    def __init__(self, lab: Lab, running: RunningGateway, swan: StrongSwan) -> None:
        self.lab, self.running, self.swan = lab, running, swan

    def write(self, extra: str = "", tables: str = "") -> None:
        text = CONFIGURATION.format(
            folder=self.running.folder, outside=plan.GATEWAY_OUTSIDE, psk=PSK, extra=extra
        )
        text += f'\n[store]\nstate_dir = "{self.running.folder}/state"\n'
        text += f'\n[devices.laptop]\nidentity = "{WHO}"\n{tables}'
        self.running.write_text(text)

    def reload(self, extra: str = "", tables: str = "") -> None:
        self.write(extra, tables)
        self.running.call("reload")

    def connects(self, port: int, address: object = plan.SERVER) -> bool:
        """By TCP: refused by the other end counts, lost on the way does not."""
        argv = ["timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"]
        done = self.lab.run("device", argv, check=False)
        return done.returncode == 0 or "Connection refused" in done.stderr

    def test(self, **flow: Any) -> dict[str, Any]:
        return self.running.call("rule-test", device="laptop", **flow)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    lab = Lab("trul-")
    lab.up(fresh=True)
    try:
        running = RunningGateway(lab)
        swan = StrongSwan(lab, "device")
        found = Bed(lab, running, swan)
        found.write()
        try:
            running.start()
            swan.start()
            swan.load(device_configuration(encap=True))
            swan.initiate("net")
            yield found
        finally:
            swan.stop()
            running.stop()
            print(f"--- gateway\n{running.output()[-6000:]}")
    finally:
        lab.down()


def test_rules_come_change_and_go_and_a_restart_keeps_them(bed: Bed) -> None:
    assert bed.connects(22)
    assert bed.connects(80)
    # The gateway's administration is not for devices.
    assert not bed.connects(8443, plan.GATEWAY_INSIDE)
    assert not bed.test(
        direction="to-gateway", address=str(plan.GATEWAY_INSIDE), protocol=6, port=8443
    )["allowed"]

    bed.reload('rules = ["web"]', WEB.format(ports="80-89"))
    assert bed.connects(80)
    assert not bed.connects(22)
    told = bed.test(address=str(plan.SERVER), protocol=6, port=22)
    assert (told["allowed"], told["rule"], told["sessions"]) == (False, "web", 1)
    assert bed.test(address=str(plan.SERVER), protocol=6, port=80)["allowed"]
    wait_until(
        lambda: any(one.get("port") == 22 for one in bed.running.events("refused")),
        10,
        "the log of what was refused",
    )
    (rule,) = bed.running.call("rules-of", device="laptop")["rules"]
    assert rule["words"] == "allow to-inside tcp 80-89 to 10.1.0.0/24"
    assert rule["packets"] > 0
    assert rule["why"] == "connection road"
    usage = bed.running.call("rules-of", device="laptop")["usage"]
    assert usage["packets_in"] > 0
    assert usage["refused"] > 0
    (counter,) = bed.running.call("rule-counters")["items"]
    assert counter["sessions"] == 1

    # By the device's name now, and another port.
    tables = WEB.format(ports="22") + 'devices = ["laptop"]\n'
    bed.reload("", tables)
    assert bed.connects(22)
    assert not bed.connects(80)

    session = bed.running.call("ike-sas")["items"][0]["id"]
    bed.running.hand_over()
    assert not bed.connects(80)
    assert bed.connects(22)
    bed.running.start()
    assert bed.running.call("ike-sas")["items"][0]["id"] == session
    assert bed.connects(22)
    assert not bed.connects(80)
    assert not bed.connects(8443, plan.GATEWAY_INSIDE)

    bed.reload()
    assert bed.connects(80)
    assert bed.connects(22)
