"""Our dataplanes in this network namespace with one binding, visitor or SA: no signalling.

`python -m bench.mip_dataplane FACTS`, facts as JSON: see `bench.mip_forwarding`. Runs until it is
ended, and serves the queue meanwhile.
"""

import json
import select
import sys
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from gateway.dataplane.kernel.dataplane import KernelDataplane
from gateway.dataplane.kernel.mobility.dataplane import KernelMobility
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.mobility import MobilitySettings
from gateway.domain.child_sa import (
    ANY_IPV4,
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import HomeNetwork, MobilityBinding, Tunnel, Visitor


def _binding(facts: dict[str, Any], network: HomeNetwork) -> MobilityBinding:
    home_agent = IPv4Address(facts["home_agent"])
    switched = facts.get("zero_overhead")
    return MobilityBinding(
        home_agent=home_agent,
        home_address=IPv4Address(facts["home_address"]),
        home_network=network,
        tunnels=(Tunnel(home_agent, IPv4Address(facts["care_of"])),),
        co_located=facts["co_located"],
        reverse=True,
        broadcasts=False,
        max_packet_octets=1400,
        zero_overhead=IPv4Address(switched) if switched else None,
    )


def _visitor(facts: dict[str, Any]) -> Visitor:
    home_agent = IPv4Address(facts["home_agent"])
    return Visitor(
        home_address=IPv4Address(facts["home_address"]),
        home_agent=home_agent,
        tunnel=Tunnel(IPv4Address(facts["care_of"]), home_agent),
        interface="gw0",
        through_vpn=True,
    )


def _sa(facts: dict[str, Any]) -> ChildSa:
    keys = [EspKeys(bytes.fromhex(key.removeprefix("0x"))) for key in facts["keys"]]
    gateway, device = (Endpoint(IPv4Address(end), 500) for end in facts["ends"])
    return ChildSa(
        spi_in=0x1001,
        spi_out=0x1002,
        reqid=1,
        suite=EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False),
        keys_in=keys[0],
        keys_out=keys[1],
        local=gateway,
        remote=device,
        udp_encapsulation=False,
        local_ts=(ANY_IPV4,),
        remote_ts=(TrafficSelector.of_address(IPv4Address(facts["home_address"])),),
        vpn_fa=True,
    )


def serve(facts: dict[str, Any]) -> None:
    """Install what is asked for and serve the queue."""
    if "sa" in facts:
        ipsec = KernelDataplane(KernelSettings())
        ipsec.start()
        ipsec.install_child_sa(_sa(facts["sa"]))
        if refused := ipsec.commit():
            raise RuntimeError(str(refused))
    binding, visitor, network = facts.get("binding"), facts.get("visitor"), None
    if "home_network" in facts:
        network = HomeNetwork("bench", IPv4Network(facts["home_network"]))
    mobility = KernelMobility(
        MobilitySettings(
            home_agents=(IPv4Address(binding["home_agent"]),) if binding else (),
            care_of_addresses=(IPv4Address(visitor["care_of"]),) if visitor else (),
            home_networks=(network,) if network else (),
            offload=facts["offload"],
            mtu=1480,
        )
    )
    mobility.start()
    if binding and network:
        mobility.set_binding(_binding(binding, network))
    if visitor:
        mobility.set_visitor(_visitor(visitor))
    if refusals := mobility.commit():
        raise RuntimeError(str(refusals))
    print("ready", flush=True)
    while True:
        select.select(mobility.event_fds(), [], [])
        mobility.read_events()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
