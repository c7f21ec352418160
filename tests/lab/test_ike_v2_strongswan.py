"""The IKEv2 engine against strongSwan: rekeying by either side, crossing, and the Delete."""

import signal
from collections.abc import Callable

import pytest
from gateway_bed import PSK, device_configuration, gateway

from gateway.lab import plan
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

StartStrongSwan = Callable[..., StrongSwan]


def lost(lab: Lab, count: int = 5) -> bool:
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "2", str(plan.SERVER)]
    return " 0% packet loss" not in lab.run("device", argv, check=False).stdout


def test_strongswan_rekeys_both_sa_kinds(lab: Lab, strongswan: StartStrongSwan) -> None:
    with gateway(lab) as running:
        device = strongswan("device")
        device.load(device_configuration())
        device.initiate("net")
        (first,) = running.call("child-sas")["items"]
        device.rekey(child="net")
        wait_until(
            lambda: (
                [one["spi_in"] for one in running.call("child-sas")["items"]]
                not in ([first["spi_in"]], [])
                and len(running.call("child-sas")["items"]) == 1
            ),
            20,
            "one child SA, another one",
        )
        assert not lost(lab)
        (before,) = running.call("ike-sas")["items"]
        device.rekey(ike="gw")
        wait_until(
            lambda: (
                [one["id"] for one in running.call("ike-sas")["items"]] not in ([before["id"]], [])
                and len(running.call("ike-sas")["items"]) == 1
            ),
            20,
            "one IKE SA, another one",
        )
        assert not lost(lab)
        (after,) = running.call("ike-sas")["items"]
        (seen,) = device.established()
        assert after["id"] == f"{seen.initiator_spi}_{seen.responder_spi}"
        assert after["inner_addresses"] == before["inner_addresses"]
        device.rekey(child="net")
        assert not lost(lab)
        device.terminate("gw")
        wait_until(lambda: not running.call("ike-sas")["items"], 20, "no IKE SA")
        assert not running.events("internal_error")


def test_we_rekey_a_child_sa_whose_packets_are_counted(
    lab: Lab, strongswan: StartStrongSwan
) -> None:
    limits = "[connections.road.lifetimes]\nchild_soft_packets = 20\nchild_hard_packets = 2000\n"
    with gateway(lab, extra=limits) as running:
        device = strongswan("device")
        device.load(device_configuration())
        device.initiate("net")
        (first,) = running.call("child-sas")["items"]
        assert not lost(lab, 30)
        wait_until(
            lambda: (
                first["spi_in"] not in [one["spi_in"] for one in running.call("child-sas")["items"]]
            ),
            20,
            "another child SA",
        )
        assert not lost(lab)
        assert len(device.established()) == 1
        assert not running.events("internal_error")
        assert not running.events("handshake_failed")


RESPONDER = """
connections {{
  road {{
    version = 2
    local_addrs = %any
    remote_addrs = {outside}
    proposals = aes128gcm16-prfsha256-ecp256
    local {{
      auth = psk
      id = device@example.com
    }}
    remote {{
      auth = psk
      id = gateway.example.com
    }}
    children {{
      net {{
        local_ts = 10.77.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = aes128gcm16-ecp256
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    id-1 = gateway.example.com
    id-2 = device@example.com
    secret = "{psk}"
  }}
}}
"""


def test_we_initiate_and_strongswan_answers(lab: Lab, strongswan: StartStrongSwan) -> None:
    device = strongswan("device")
    device.load(RESPONDER.format(outside=plan.GATEWAY_OUTSIDE, psk=PSK))
    lab.run("device", ["ip", "addr", "add", "10.77.0.1/32", "dev", "lo"])
    address = plan.ACCESSES["access1"].device.ip
    with gateway(lab) as running:
        # Our first offer of a group is not the one that it takes: INVALID_KE_PAYLOAD comes first.
        keys = {
            "remote_subnets": '["10.77.0.0/24"]',
            "remote": f'"{address}"',
            "local": f'"{plan.GATEWAY_OUTSIDE}"',
            "start": '"start"',
        }
        # In the place of the pool, in the connection's table: others follow it.
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
        text = running.config.read_text()
        assert text.count('pool = "road"\n') == 1
        running.write_text(text.replace('pool = "road"\n', lines))
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.events("ike_sa_established"), 30, "the IKE SA")
        argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", "10.77.0.1"]
        assert " 0% packet loss" in lab.run("server", argv, check=False).stdout
        (seen,) = device.established()
        (ours,) = running.call("ike-sas")["items"]
        assert ours["id"] == f"{seen.initiator_spi}_{seen.responder_spi}"
        assert "ecp256" in running.events("ike_sa_established")[0]["text"]
        assert not running.events("handshake_failed")
