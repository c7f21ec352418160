"""The whole gateway in the test kernel, with strongSwan as the device."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_bed import PSK, RunningGateway, device_configuration, gateway, kernel_state

from gateway.appliance.held_sockets import HeldSockets
from gateway.appliance.systemd import ServiceManager
from gateway.lab import plan
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

StartStrongSwan = Callable[..., StrongSwan]


def ping(lab: Lab, count: int = 3) -> bool:
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "2", str(plan.SERVER)]
    return " 0% packet loss" in lab.run("device", argv, check=False).stdout


def api(running: RunningGateway, path: str) -> str:
    token = (running.folder / "api-token").read_text().strip()
    argv = ["curl", "-s", "-k", "-m", "5", "-H", f"Authorization: Bearer {token}"]
    url = f"https://127.0.0.1:8443/api/v1{path}"
    return running.lab.run("gw", [*argv, url], check=False).stdout


@pytest.mark.parametrize("encap", [False, True])
def test_a_device_connects_and_reaches_the_intranet(
    lab: Lab, strongswan: StartStrongSwan, encap: bool
) -> None:
    with gateway(lab, fresh=True) as running:
        device = strongswan("device")
        device.load(device_configuration(encap=encap))
        assert not ping(lab, 1)
        device.initiate("net")
        assert ping(lab)

        (ike,) = running.call("ike-sas")["items"]
        (child,) = running.call("child-sas")["items"]
        (seen,) = device.established()
        assert ike["id"] == f"{seen.initiator_spi}_{seen.responder_spi}"
        assert ike["remote_id"] == "device@example.com"
        assert ike["inner_addresses"] == ["10.9.0.1"]
        assert ike["children"] == [child["spi_in"]]
        assert int(child["spi_in"], 16) == seen.children[0].spi_out
        in_udp = encap or device.user_space
        assert child["encapsulation"] == ("esp-in-udp" if in_udp else "esp")
        assert child["packets_in"] >= 3
        assert child["packets_out"] >= 3
        assert len(running.events("ike_sa_established")) == 1
        # One line per handshake at the default level.
        quiet = {"api_user_barred", "dataplane"}
        names = [line["event"] for line in running.log() if line["event"] not in quiet]
        assert names == ["started", "ike_sa_established"]


def test_reload_keeps_the_tunnel_and_refuses_a_bad_configuration(
    lab: Lab, strongswan: StartStrongSwan
) -> None:
    with gateway(lab, fresh=True) as running:
        device = strongswan("device")
        device.load(device_configuration())
        device.initiate("net")
        (before,) = running.call("ike-sas")["items"]

        running.write(extra="liveness_s = 60")
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.events("reloaded"), 10, "the reload")
        assert ping(lab)

        running.config.write_text("[gateway]\nname = 3\n")
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.events("reload_refused"), 10, "the refusal")
        assert "gateway.name" in running.events("reload_refused")[0]["text"]
        assert ping(lab)
        (after,) = running.call("ike-sas")["items"]
        assert after["id"] == before["id"]
        assert running.call("status")["reloads"]["refused"] == 1


def test_reload_exchanges_a_pool(lab: Lab, strongswan: StartStrongSwan) -> None:
    with gateway(lab, fresh=True) as running:
        device = strongswan("device")
        device.load(device_configuration())
        device.initiate("net")
        text = running.config.read_text()
        running.write_text(text.replace('"10.9.0.0/24"', '"10.8.0.0/24"'))
        running.call("reload")
        wait_until(lambda: not device.established(), 10, "the device learns of it")
        device.initiate("net")
        (ike,) = running.call("ike-sas")["items"]
        assert ike["inner_addresses"] == ["10.8.0.1"]
        assert ping(lab)
        routes = kernel_state(lab)["routes"]
        assert re.search(r"10\.8\.0\.0/24 .*dev gw0", routes)
        assert "10.9.0." not in routes
        ruleset = lab.run("gw", ["nft", "list", "set", "inet", "gateway", "inner4"]).stdout
        assert "10.8.0.0/24" in ruleset
        assert "10.9.0.0/24" not in ruleset


def test_the_api_dies_and_comes_back_and_the_core_does_not_notice(
    lab: Lab, strongswan: StartStrongSwan
) -> None:
    with gateway(lab, fresh=True) as running:
        device = strongswan("device")
        device.load(device_configuration())
        device.initiate("net")
        wait_until(lambda: "device@example.com" in api(running, "/ike-sas"), 30, "the API")
        core = running.pid
        first = running.call("status")["api"]["pid"]
        os.kill(first, signal.SIGKILL)
        assert ping(lab)
        wait_until(lambda: running.events("api_ended"), 10, "the news of its end")
        wait_until(lambda: "device@example.com" in api(running, "/ike-sas"), 30, "the API again")
        status = running.call("status")
        assert status["pid"] == core
        assert status["api"]["pid"] != first
        assert ping(lab)


def test_a_clean_stop_tells_the_device_and_leaves_nothing(
    lab: Lab, strongswan: StartStrongSwan
) -> None:
    before = kernel_state(lab)
    with gateway(lab, fresh=True) as running:
        device = strongswan("device")
        device.load(device_configuration())
        device.initiate("net")
        assert kernel_state(lab) != before
        processes = _descendants(running.pid)
        assert len(processes) >= 2  # the API's keeper and the API
        running.stop()
        wait_until(lambda: not device.established(), 10, "the device learns of it")
        wait_until(lambda: not any(map(_alive, processes)), 10, "its processes end")
        assert not (running.folder / "control.sock").exists()
    assert kernel_state(lab) == before


def test_after_a_crash_the_next_start_clears_what_is_left(
    lab: Lab, strongswan: StartStrongSwan
) -> None:
    before = kernel_state(lab)
    with gateway(lab, fresh=True) as running:
        device = strongswan("device")
        device.load(device_configuration())
        device.initiate("net")
        processes = _descendants(running.pid)
        running.signal(signal.SIGKILL)
        wait_until(lambda: not running.running(), 10, "the crash")
        wait_until(lambda: not any(map(_alive, processes)), 10, "API and keeper end with the core")
        # Its sockets wait for a gateway of the same folder; the next one has another, and its
        # records are not there.
        held = HeldSockets(running.folder, ServiceManager({}))
        for one in held.take():
            one.close()
        held.end()
    with gateway(lab, fresh=True, name="gateway2") as again:
        assert again.call("ike-sas")["total"] == 0
        assert "esp" not in kernel_state(lab)["states"]
    assert kernel_state(lab) == before


def test_an_administrator_closes_an_ike_sa(lab: Lab, strongswan: StartStrongSwan) -> None:
    with gateway(lab, fresh=True) as running:
        device = strongswan("device")
        device.load(device_configuration())
        device.initiate("net")
        (ike,) = running.call("ike-sas")["items"]
        running.call("close-ike-sa", id=ike["id"])
        wait_until(lambda: not device.established(), 10, "the device learns of it")
        wait_until(lambda: running.call("ike-sas")["total"] == 0, 10, "it is gone")
        assert not ping(lab, 1)
        assert "esp" not in kernel_state(lab)["states"]


def test_a_wrong_key_is_refused_with_one_line_that_says_why(
    lab: Lab, strongswan: StartStrongSwan
) -> None:
    with gateway(lab, fresh=True) as running:
        device = strongswan("device")
        device.load(device_configuration(psk=PSK + "!"))
        with pytest.raises(Exception, match=r"AUTHENTICATION_FAILED|failed"):
            device.initiate("net")
        assert "AUTHENTICATION_FAILED" in device.log()
        wait_until(lambda: running.events("handshake_failed"), 10, "the line")
        (line,) = running.events("handshake_failed")
        assert "device@example.com" in line["text"]
        assert running.call("ike-sas")["total"] == 0


def test_a_port_in_use_is_named_and_nothing_is_touched(
    lab: Lab, strongswan: StartStrongSwan
) -> None:
    strongswan("gw")
    before = kernel_state(lab)
    running = RunningGateway(lab)
    done = lab.run("gw", running.argv(), check=False)
    assert done.returncode == 71
    assert re.search(rf"UDP port 500 of {plan.GATEWAY_OUTSIDE} is in use", done.stderr)
    assert kernel_state(lab) == before


def test_a_second_gateway_is_refused_and_the_first_stays(lab: Lab) -> None:
    with gateway(lab, fresh=True) as running:
        state = kernel_state(lab)
        done = lab.run("gw", running.argv(), check=False)
        assert done.returncode == 71
        assert "another gateway answers" in done.stderr
        assert running.call("health") == {"status": "ok"}
        assert kernel_state(lab) == state


def test_the_core_keeps_three_capabilities_and_little_memory(lab: Lab) -> None:
    with gateway(lab, fresh=True) as running:
        status = _status_of(running.pid)
        assert int(status["CapEff"], 16) == 1 << 10 | 1 << 12 | 1 << 13
        assert status["NoNewPrivs"] == "1"
        print("core", status["VmRSS"])


def _status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _descendants(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _alive(int(entry.name)):
            parents[int(entry.name)] = int(_status_of(int(entry.name))["PPid"])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _alive(pid: int) -> bool:
    try:
        return _status_of(pid)["State"][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


BRANCH = """
[connections.branch]
local_auth = "psk"
remote_auth = "psk"
psk = "{psk}"
remote_id = "branch.example.com"
remote = "{device}"
local_subnets = ["10.1.0.0/24"]
remote_subnets = ["10.5.0.0/24"]
start = "{start}"
"""

BRANCH_PEER = """
connections {{
  gw {{
    version = 2
    local_addrs = %any
    proposals = aes256gcm16-prfsha256-x25519
    local {{
      auth = psk
      id = branch.example.com
    }}
    remote {{
      auth = psk
      id = gateway.example.com
    }}
    children {{
      net {{
        local_ts = 10.5.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256gcm16
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    id-1 = gateway.example.com
    id-2 = branch.example.com
    secret = "{psk}"
  }}
}}
"""


@pytest.mark.parametrize("start", ["start", "trap"])
def test_we_open_a_connection_by_ourselves(
    lab: Lab, strongswan: StartStrongSwan, start: str
) -> None:
    branch = strongswan("device")
    branch.load(BRANCH_PEER.format(psk=PSK))
    lab.run("device", ["ip", "address", "add", "10.5.0.1/24", "dev", "lo"])
    extra = BRANCH.format(psk=PSK, device=plan.ACCESSES["access1"].device.ip, start=start)
    ping_branch = ["ping", "-n", "-q", "-c", "1", "-W", "1", "10.5.0.1"]
    with gateway(lab, fresh=True, extra=extra) as running:
        if start == "trap":
            assert not running.events("ike_sa_established")
            lab.run("server", ping_branch, check=False)
        wait_until(lambda: running.events("ike_sa_established"), 20, "the connection")
        (ike,) = running.call("ike-sas")["items"]
        assert ike["initiator"]
        assert ike["remote_id"] == "branch.example.com"
        wait_until(
            lambda: lab.run("server", ping_branch, check=False).returncode == 0,
            10,
            "an answer of the branch",
        )
