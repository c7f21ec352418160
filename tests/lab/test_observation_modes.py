"""Access modes as each box sees them, and overheads as the wire has them."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.lab.mobility import plan, profiles
from gateway.lab.mobility.stage import MODE_S, Stage
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage("tobm-", endpoint_update="allowed") as stage:
        login = {"identity": profiles.identity("vf")}
        stage.become(
            "home",
            {"modes": (*profiles.INSIDE_MODES, "vf"), "login": login, "gateway": {}},
        )
        yield stage


def devices(stage: Stage, box: str) -> list[dict[str, Any]]:
    return stage.boxes[box].call("devices")["items"]


def seen(stage: Stage, box: str, where: str, mode: str) -> dict[str, Any]:
    """The device as a box sees it, once it does."""

    def found() -> list[dict[str, Any]]:
        return [one for one in devices(stage, box) if one["where"] == where and one["mode"] == mode]

    try:
        wait_until(lambda: bool(found()), 20, f"{box} sees {where} {mode}")
    except Exception:
        print(devices(stage, box))
        raise
    (device,) = found()
    return device


def test_outside_by_vpn_with_the_foreign_agent_in_the_gateway(stage: Stage) -> None:
    for link, host in (("access1", "198.51.100."), ("nat", "192.0.2.")):
        stage.enter(link)
        stage.node.wait_for_mode("vf", timeout_s=MODE_S)
        wait_until(
            lambda: any(str(one["outer"]).startswith(host) for one in devices(stage, "gw")),  # noqa: B023
            20,
            f"the device at {link}",
        )
        device = seen(stage, "gw", "outside", "vf")
        assert device["overhead_octets"] == stage.octets(link)
        assert device["home_address"] == str(plan.INSIDE_HOME_ADDRESS)


def test_inside_by_its_own_address_and_by_a_foreign_agent(stage: Stage) -> None:
    stage.enter("plain")
    stage.node.wait_for_mode("c", timeout_s=MODE_S)
    device = seen(stage, "iha", "inside", "c")
    assert device["overhead_octets"] == stage.octets("plain")
    stage.enter("ifalink")
    stage.node.wait_for_mode("f", timeout_s=MODE_S)
    device = seen(stage, "iha", "behind-fa", "f")
    assert device["overhead_octets"] == stage.octets("ifalink")
    assert device["handovers"] >= 1
    assert seen(stage, "ifa", "behind-fa", "f")["place"] == "foreign-agent:hall"
    topology = stage.boxes["ifa"].call("topology")
    (place,) = [one for one in topology["places"] if one["id"] == "foreign-agent:hall"]
    assert place["devices"] == 1
