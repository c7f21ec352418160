"""Our NAR dataplane in this network namespace with as many mappings as asked for: no negotiation.

`python -m bench.nar_dataplane FACTS`, facts as JSON: see `bench.nar_forwarding`. Runs until it is
ended, and serves the queue meanwhile.
"""

import json
import select
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from gateway.dataplane.kernel.nar.dataplane import KernelNar
from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

OTHERS = IPv4Address("10.50.128.0")
"""Clients that only have leases."""
LEASES_OF_EACH = 16


def _mapping(
    facts: dict[str, Any], client: IPv4Address, port: int, delivery: Delivery
) -> NarMapping:
    to = IPv4Address(facts["server"])
    key = NarTuple(
        NarProtocol.TCP, IPv4Address(facts["address"]), port, to, int(facts["server_port"])
    )
    return NarMapping("bench", key, client, delivery, peer=to)


def mappings(facts: dict[str, Any]) -> Iterator[NarMapping]:
    """The measured client's ports, and others' up to the number asked for."""
    delivery = Delivery(facts["delivery"])
    first, own, count = facts["first_port"], facts["ports"], facts["mappings"]
    client = IPv4Address(facts["client"])
    for number in range(own):
        yield _mapping(facts, client, first + number, delivery)
    for number in range(own, count):
        yield _mapping(facts, OTHERS + 1 + number // LEASES_OF_EACH, first + number, delivery)


def serve(facts: dict[str, Any]) -> None:
    """Install what is asked for and serve the queue."""
    settings = NarServerSettings(
        "bench",
        tunnel_address=IPv4Address(facts["tunnel_address"]),
        addresses=(IPv4Address(facts["address"]),),
        client_interfaces=(facts["inside"],),
        outside_interfaces=(facts["outside"],),
        ports=(range(facts["first_port"], facts["first_port"] + 10_000),),
    )
    dataplane = KernelNar(NarSettings((settings,), offload=facts["offload"], dead_after_s=86_400.0))
    dataplane.start()
    for mapping in mappings(facts):
        dataplane.set_mapping(mapping)
    dataplane.adopt()
    if refusals := dataplane.commit():
        raise RuntimeError(str(refusals[:3]))
    dataplane.alive()
    print("ready", flush=True)
    while True:
        select.select(dataplane.event_fds(), [], [])
        dataplane.read_events()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
