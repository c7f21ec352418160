"""One end of a tunnel of ours on a kernel without IPsec, without signalling.

``python -m bench.portable_forwarder FACTS`` inside its network namespace, facts as JSON, see
:class:`bench.portable_ends.Ours`. Writes a line of JSON when it is ready, and runs until it is
ended.
"""

import json
import select
import signal
import socket
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.plane import Plane
from gateway.dataplane.portable.dataplane import PortableDataplane
from gateway.dataplane.portable.wire import filters
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

LINK = "gw0"
NAT_PORT = 4500


def associations(facts: dict[str, Any]) -> list[ChildSa]:
    """An SA for each peer's inner address; what is ``in`` here is ``out`` at the other end."""
    local, remote = (Endpoint(IPv4Address(facts[end]), NAT_PORT) for end in ("local", "remote"))
    suite = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False)
    there = [TrafficSelector.of_network(IPv4Network(one)) for one in facts["remote_networks"]]
    here = [TrafficSelector.of_network(IPv4Network(one)) for one in facts["local_networks"]]
    pairs = [(left, right) for left in here for right in there]
    return [
        ChildSa(
            spi_in=facts["spi_in"] + number,
            spi_out=facts["spi_out"] + number,
            reqid=1 + number,
            suite=suite,
            keys_in=EspKeys(bytes.fromhex(facts["key_in"])),
            keys_out=EspKeys(bytes.fromhex(facts["key_out"])),
            local=local,
            remote=remote,
            udp_encapsulation=facts["udp"],
            local_ts=(left,),
            remote_ts=(right,),
        )
        for number, (left, right) in enumerate(pairs)
    ]


def started(facts: dict[str, Any]) -> PortableDataplane:
    """The dataplane with its rules and routes, as the gateway starts it."""
    settings = KernelSettings(
        inner_networks=tuple(IPv4Network(one) for one in facts["remote_networks"])
    )
    folder = Path(facts["folder"])
    plane = Plane.of("portable", frozenset(), folder, workers=facts["workers"])
    dataplane = plane.dataplane(settings)
    if not isinstance(dataplane, PortableDataplane):
        raise SystemExit("this is not the portable dataplane")
    dataplane.start()
    return dataplane


def main(facts: dict[str, Any]) -> None:
    """Entry point."""
    # In real life the gateway's socket for IKE, which hears no ESP.
    nat = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    filters.attach(nat, filters.NOTHING)
    nat.bind((facts["local"], NAT_PORT))
    began = time.perf_counter()
    dataplane = started(facts)
    took = time.perf_counter() - began
    for sa in associations(facts):
        dataplane.install_child_sa(sa)
    if refusals := dataplane.commit():
        raise SystemExit(str(refusals))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(json.dumps({"start_s": took}), flush=True)
    try:
        while True:
            select.select(dataplane.event_fds(), [], [])
            dataplane.read_events()
    finally:
        dataplane.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
