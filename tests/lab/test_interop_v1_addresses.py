"""IKEv1 inside addresses against strongSwan: both IP versions, none (NAPT), and Cisco's Unity."""

# planes: portable

from collections.abc import Iterator

import pytest
from gateway_bed import PSK
from interop_bed import Bed, device_file, gateway_alone, psk_connection, table

from gateway.lab import plan
from gateway.lab.strongswan import PLUGINS, StrongSwan

pytestmark = pytest.mark.kernel

IKE, ESP = "aes256-sha256-modp2048", "aes256-sha256"
FIXED: dict[str, object] = {"ike_version": 1, "ike_proposals": [IKE], "esp_proposals": [ESP]}
SERVER6 = "2001:db8:1::10"
CONNECTIONS = (
    psk_connection("split", remote_id="split@example.com", domains=["corp.example.com"], **FIXED)
    + psk_connection(
        "dual",
        remote_id="dual@example.com",
        pool6="six",
        local_subnets=["10.1.0.0/24", "2001:db8:1::/64"],
        **{key: value for key, value in FIXED.items() if key != "local_subnets"},
    )
    + table(
        "connections.own",
        local_auth="psk",
        remote_auth="psk",
        psk=PSK,
        remote_id="own@example.com",
        presence="napt",
        local_subnets=["10.1.0.0/24"],
        **FIXED,
    )
    + table("pools.six", network="fd00:9::/64")
)


def device(name: str, **changes: object) -> str:
    text = device_file(  # type: ignore[arg-type]
        device_id=f"{name}@example.com", ike=IKE, esp=ESP, **changes
    )
    return text.replace("version = 2", "version = 1")


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with gateway_alone(CONNECTIONS) as bed:
        for host, port, address in (("gw", "inside", "1"), ("server", "intranet", "10")):
            words = ["ip", "addr", "add", f"2001:db8:1::{address}/64", "dev", port, "nodad"]
            bed.lab.run(host, words)
        bed.lab.run("server", ["ip", "route", "add", "fd00:9::/64", "via", "2001:db8:1::1"])
        bed.device = StrongSwan(
            bed.lab, "device", plugins=f"{PLUGINS} unity", extra="cisco_unity = yes"
        )
        try:
            bed.device.start()
            yield bed
        finally:
            print(f"--- charon\n{bed.device.log()[-6000:]}")
            bed.device.stop()


@pytest.fixture(autouse=True)
def alone(bed: Bed) -> Iterator[None]:
    yield
    bed.disconnect()


def test_a_client_with_unity_sends_what_the_gateway_names(bed: Bed) -> None:
    bed.device.load(device("split", remote_ts="0.0.0.0/0"))
    bed.device.initiate("net")
    (ike,) = bed.device.established()
    (child,) = ike.children
    assert child.remote_selectors == ("10.1.0.0/24",)
    (ours,) = bed.child_sas()
    assert ours["local_ts"] == ["10.1.0.0/24"]
    assert bed.ping()
    bed.device.rekey(child="net")
    assert bed.ping(5)


def test_a_device_that_keeps_its_private_address_is_the_gateway_inside(bed: Bed) -> None:
    bed.lab.move("nat")
    wire = bed.lab.capture("server", "intranet", "inside", "icmp")
    try:
        bed.device.load(device("own", vips=False))
        bed.device.initiate("net")
        (ours,) = bed.child_sas()
        assert ours["remote_ts"] == [f"{plan.ACCESSES['nat'].device.ip}/32"]
        assert bed.ping()
    finally:
        bed.lab.move("access1")
    seen = wire.stop().read_bytes()
    assert plan.GATEWAY_INSIDE.packed + plan.SERVER.packed in seen
    assert plan.ACCESSES["nat"].device.ip.packed not in seen


def test_a_device_has_an_address_of_each_ip_version(bed: Bed) -> None:
    text = device("dual").replace("vips = 0.0.0.0", "vips = 0.0.0.0, ::")
    child = text[text.index("      net {") : text.index("    }\n  }\n}\nsecrets")]
    # It proposes the first of its addresses, unless told which one.
    six = child.replace("net {", "six {\n        local_ts = fd00:9::1/128")
    six = six.replace("10.1.0.0/24", "2001:db8:1::/64")
    bed.restart_device()  # strongSwan's Unity knows IPv4 only
    bed.device.load(text.replace(child, child + six))
    bed.device.initiate("net")
    bed.device.initiate("six")
    (ike,) = bed.device.established()
    assert len(ike.virtual_ips) == 2
    assert bed.ping()
    assert bed.ping(to=SERVER6)
