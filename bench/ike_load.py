"""A load of handshakes against any responder.

Run as ``python -m bench.ike_load`` on a host of the lab; writes one JSON object.
"""

import argparse
import json
import select
import socket
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path as FilePath

from bench.ike_initiators import INITIATORS, Credentials, Failed, Initiator
from gateway.domain.endpoint import Endpoint, Path

GIVE_UP_S = 5.0


def run(
    to: str, method: str, count: int, at_once: int, credentials: Credentials, first_number: int
) -> dict[str, object]:
    """Complete ``count`` handshakes with ``at_once`` under way at any moment."""
    make = INITIATORS[method]
    waiting: dict[bytes, Initiator] = {}
    latencies: list[float] = []
    reasons: list[str] = []
    numbers = iter(range(first_number, first_number + count))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 500))
        sock.connect((to, 500))
        here = Endpoint(IPv4Address(sock.getsockname()[0]), 500)
        credentials = replace(credentials, path=Path(here, Endpoint(IPv4Address(to), 500)))

        def begin() -> None:
            for number in numbers:
                one = make(number, credentials)
                waiting[one.spi] = one
                sock.send(one.start())
                return

        began, used = time.perf_counter(), time.process_time()
        for _ in range(at_once):
            begin()
        while waiting:
            if not select.select([sock], [], [], GIVE_UP_S)[0]:
                reasons.append(f"{len(waiting)} without an answer")
                break
            message = sock.recv(8192)
            one = waiting.get(message[:8])
            if one is None:
                continue
            try:
                answer = one.receive(message)
            except Failed as failed:
                reasons.append(str(failed))
                del waiting[one.spi]
                begin()
                continue
            if answer is not None:
                sock.send(answer)
            if one.done:
                del waiting[one.spi]
                latencies.append((time.perf_counter() - one.began) * 1000)
                begin()
        took_s = time.perf_counter() - began
        used_s = time.process_time() - used
    latencies.sort()
    done = len(latencies)
    return {
        "done": done,
        "failed": count - done,
        "reasons": reasons[:3],
        "rate": done / took_s,
        "latency_ms": latencies[done // 2] if done else None,
        "generator_ms": used_s * 1000 / max(done, 1),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("to")
    parser.add_argument("--method", choices=sorted(INITIATORS), default="psk")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--first-number", type=int, default=0)
    parser.add_argument("--psk", required=True)
    parser.add_argument("--name", required=True, help="the responder's identity")
    parser.add_argument("--folder", type=FilePath, help="certificates of the devices")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    given = parser.parse_args()
    credentials = Credentials.load(given.folder, given.name, given.psk, given.user, given.password)
    method, count, first = given.method, given.count, given.first_number
    print(json.dumps(run(given.to, method, count, given.at_once, credentials, first)))


if __name__ == "__main__":
    main()
