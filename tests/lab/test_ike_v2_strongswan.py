"""The IKEv2 engine against strongSwan: rekeying by either side, crossing, and the Delete."""

from collections.abc import Callable

import pytest
from gateway_bed import device_configuration, gateway

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
