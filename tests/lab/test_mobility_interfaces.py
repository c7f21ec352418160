"""Bindings over REST and the command, of a gateway that runs, after registrations that arrived."""

# planes: portable

import json
import sys
from typing import Any

import pytest
from gateway_bed import RunningGateway, gateway

from gateway.lab import plan
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import wait_until
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

KEY = "8f1d03c6a94e57b2e06f7c12d5983ba4"
AGENTS = f"""
[mobility]
state_dir = "state"

[home_networks.road]
network = "10.77.0.0/24"

[home_agents.road]
address = "{plan.GATEWAY_OUTSIDE}"
placement = "outside"
home_networks = ["road"]

[mobile_nodes.ann]
home_address = "10.77.0.10"
nai = "ann@example.com"
spi = 256
key = "{KEY}"
"""
REGISTER = f"""
import socket, sys, time
sys.path.insert(0, "{CHECKOUT}")
from ipaddress import IPv4Address
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.registration import *
from gateway.mip_agents.policy import SecurityAssociation

agent = IPv4Address("{plan.GATEWAY_OUTSIDE}")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(10)
    sock.connect((str(agent), 434))
    request = RegistrationRequest(
        RequestFlag.CO_LOCATED | RequestFlag.REVERSE,
        600,
        IPv4Address("10.77.0.10"),
        agent,
        IPv4Address(sock.getsockname()[0]),
        int((time.time() + 2208988800) * 2**32),
    )
    association = SecurityAssociation(256, bytes.fromhex(sys.argv[1]))
    sock.send(sign(request.serialize(), AuthenticationKind.MOBILE_HOME, association))
    print(RegistrationReply.parse(sock.recv(2048)).code)
"""


def register(lab: Lab, key: str) -> int:
    """The code of the reply to a registration from the device."""
    return int(lab.run("device", [sys.executable, "-c", REGISTER, key]).stdout)


def api(running: RunningGateway, path: str, method: str = "GET") -> tuple[int, Any]:
    token = (running.folder / "api-token").read_text().strip()
    argv = ["curl", "-s", "-k", "-m", "5", "-X", method, "-H", f"Authorization: Bearer {token}"]
    argv += ["-w", "\n%{http_code}", f"https://127.0.0.1:8443/api/v1{path}"]
    body, _, status = running.lab.run("gw", argv, check=False).stdout.rpartition("\n")
    return int(status), json.loads(body) if body else None


def command(running: RunningGateway, *words: str) -> str:
    argv = [
        "env",
        "COLUMNS=250",
        sys.executable,
        "-m",
        "gateway",
        *words,
        "--socket",
        str(running.folder / "control.sock"),
    ]
    return running.lab.run("gw", argv, check=False).stdout


def test_a_binding_is_seen_explained_and_revoked(lab: Lab) -> None:
    with gateway(lab, extra=AGENTS) as running:
        wait_until(lambda: api(running, "/health")[0] == 200, 30, "the API")
        assert api(running, "/bindings") == (200, {"items": [], "next": None, "total": 0})
        assert register(lab, KEY[::-1]) == 131
        assert register(lab, KEY) == 0

        status, binding = api(running, "/bindings/10.77.0.10")
        assert status == 200
        assert (binding["node"], binding["nai"]) == ("ann", "ann@example.com")
        (place,) = binding["care_of_addresses"]
        assert place["flags"] == ["co_located", "reverse"]
        assert place["tunnel"].startswith("ip-ip")
        shown = command(running, "bindings")
        assert place["address"] in shown
        assert "10.77.0.10" in command(running, "status")
        (network,) = api(running, "/home-networks")[1]["items"]
        assert (network["name"], network["bindings"]) == ("road", 1)
        route = lab.run("gw", ["ip", "route", "get", "10.77.0.10"], check=False).stdout
        assert "mob-ipip" in route

        (denied,) = api(running, "/registration-failures")[1]["items"]
        assert (denied["code"], denied["agent"]) == (131, "road")
        assert "its authenticator is wrong" in command(running, "explain", "ann")

        assert api(running, "/bindings/10.77.0.10", "DELETE") == (204, None)
        assert api(running, "/bindings/10.77.0.10")[0] == 404
        assert api(running, "/bindings/10.77.0.10", "DELETE")[0] == 404
        wait_until(lambda: running.events("registration_revoked"), 10, "the event")
        route = lab.run("gw", ["ip", "route", "get", "10.77.0.10"], check=False).stdout
        assert "mob-ipip" not in route

        assert register(lab, KEY) == 0
        assert "revoked 10.77.0.10 (ann) at road" in command(
            running, "binding", "revoke", "10.77.0.10"
        )
        assert "No binding" in command(running, "bindings")
