"""The load generator against a home agent that forgets, denies and answers."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from gateway.lab.mobility.load import Fleet, Run, care_of_route
from gateway.mip_agents.authentication import verify
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.registration import RegistrationReply, RegistrationRequest

HOME_AGENT = IPv4Address("127.0.0.1")


@contextmanager
def agent(code: Callable[[RegistrationRequest], int | None]) -> Iterator[tuple[int, list[str]]]:
    """Answers with the code, or not at all; what it saw are sources and care-of addresses."""
    seen: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((str(HOME_AGENT), 0))

        def serve() -> None:
            while True:
                message, peer = sock.recvfrom(2048)
                if message == b"end":
                    return
                request = RegistrationRequest.parse(message)
                seen.append(f"{peer[0]} {request.care_of_address}")
                number = code(request)
                if number is not None:
                    reply = RegistrationReply(
                        number,
                        request.lifetime_s,
                        request.home_address,
                        HOME_AGENT,
                        request.identification,
                    )
                    sock.sendto(reply.serialize(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1], seen
        finally:
            sock.sendto(b"end", sock.getsockname())
            thread.join()


def fleet(port: int, count: int = 60) -> Fleet:
    return Fleet(HOME_AGENT, count, first_care_of=IPv4Address("127.9.0.1"), port=port)


def test_every_node_registers_from_its_own_care_of_address() -> None:
    with agent(lambda _: 0) as (port, seen):
        outcome = Run(fleet(port), window=8).run()
    assert outcome.accepted == outcome.sent == 60
    assert outcome.lost == 0
    assert outcome.per_second > 0
    assert len(set(seen)) == 60
    assert all(source == care_of for source, care_of in (line.split() for line in seen))


def test_moving_changes_the_care_of_addresses() -> None:
    with agent(lambda _: 0) as (port, seen):
        Run(fleet(port, 5), window=None).run()
        Run(fleet(port, 5), window=None, place=1).run()
    assert len(set(seen)) == 10


def test_what_is_forgotten_is_sent_again_with_a_new_identification() -> None:
    tries: Counter[IPv4Address] = Counter()
    identifications: set[tuple[IPv4Address, int]] = set()

    def forget_first_of_some(request: RegistrationRequest) -> int | None:
        tries[request.home_address] += 1
        identifications.add((request.home_address, request.identification))
        forgotten = int(request.home_address) % 10 == 0 and tries[request.home_address] == 1
        return None if forgotten else 0

    with agent(forget_first_of_some) as (port, _):
        outcome = Run(fleet(port), window=None).run()
    assert outcome.accepted == 60
    assert outcome.sent == 66
    assert len(identifications) == 66
    assert outcome.latencies_ms["1"] >= 1000


def test_denials_and_losses_are_counted() -> None:
    def answer(request: RegistrationRequest) -> int | None:
        return {0: None, 1: 131}.get(int(request.home_address) % 10, 0)

    with agent(answer) as (port, _):
        outcome = Run(fleet(port), window=None, patience_s=0.7).run()
    assert outcome.lost == 6
    assert outcome.codes == {"ACCEPTED": 48, "HA_MOBILE_NODE_AUTHENTICATION": 6}


def test_requests_carry_the_authenticator_of_their_node() -> None:
    nodes = fleet(434, 2)
    request = RegistrationRequest.parse(nodes.request(1, 1_700_000_000.0))
    (proof,) = request.authentications(AuthenticationKind.MOBILE_HOME)
    assert verify(request.octets, proof, nodes.association(1))
    assert not verify(request.octets, proof, nodes.association(0))
    assert request.home_address == IPv4Address("10.100.0.2")


def test_the_route_holds_all_care_of_addresses() -> None:
    (line,) = care_of_route(Fleet(HOME_AGENT, 10_000), places=3)
    assert line == "route replace local 172.20.0.0/17 dev lo"
