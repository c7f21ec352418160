"""One end of a tunnel of ours on a kernel without IPsec, without signalling.

``python -m bench.portable_forwarder FACTS`` inside its network namespace, facts as JSON, see
:class:`bench.portable_ends.Ours`. Writes a line of JSON when it is ready, and runs until it is
ended.
"""

import json
import signal
import socket
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from gateway.dataplane.portable.launch import open_forwarder
from gateway.dataplane.portable.wire import filters, links
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
MTU = 1400
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


def main(facts: dict[str, Any]) -> None:
    """Entry point."""
    links.make_pair(LINK, MTU)
    # In real life the gateway's socket for IKE, which hears no ESP.
    nat = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    filters.attach(nat, filters.NOTHING)
    nat.bind((facts["local"], NAT_PORT))
    began = time.perf_counter()
    forwarder = open_forwarder(
        Path(facts["folder"]), interface=LINK, adopt=False, workers=facts["workers"], lasting=False
    )
    took = time.perf_counter() - began
    for sa in associations(facts):
        forwarder.install(sa, outbound=True)
    refusals, _ = forwarder.commit()
    if refusals:
        raise SystemExit(str(refusals))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(json.dumps({"processes": forwarder.processes, "start_s": took}), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
