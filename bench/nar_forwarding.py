"""What the NAR server's way through the kernel costs a TCP stream.

- Translated: against the same box that only forwards.
- End-to-end over IP-in-IP: against the same box that only forwards, with a plain IP-in-IP tunnel to
  the client.
- Each with 16 mappings (connections that are over keep their ports a while) and with 10,000, and
  against each other.
- The same with `offload = false`: every packet through user space. No bar.

Each subject has namespaces of its own; they take turns, see `bench.turns`.
"""

from collections.abc import Callable, Sequence

from bench.hosts import Hosts, Subject, contest_of
from bench.measure import Bar, Result
from bench.turns import PAIRS, Contest

CLIENT, TUNNEL_ADDRESS = "10.50.0.11", "10.50.0.1"
ADDRESS, SERVER = "203.0.113.1", "203.0.113.7"
PLAIN_INNER = "10.51.0.5"
SERVER_PORT = 5201
FIRST_PORT, OWN_PORTS = 20_000, 16
FEW, MANY = OWN_PORTS, 10_000
BAR = Bar(0.93, at_least=True)
GROWTH_BAR = Bar(1.05, at_least=False)
MOST_PAIRS = 100
QUEUED_PAIRS = 10
DELIVERIES = ("translated", "ip-ip")


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Both deliveries, both directions; few mappings and many; the queue beside them."""
    results: list[Result] = []
    for delivery in DELIVERIES:
        short = delivery.replace("-", "_")
        for count, offload in ((FEW, True), (MANY, True), (MANY, False)):
            way = f"{count}" if offload else f"{count}_nfqueue"
            with Hosts("bn0") as first, Hosts("bn1") as second:
                subjects = [nar(first, delivery, count, offload=offload), plain(second, delivery)]
                results += _both_directions(f"{short}_{way}", subjects, say, offload=offload)
        with Hosts("bn2") as first, Hosts("bn3") as second:
            results.append(_growth(delivery, first, second, say))
    return results


def _both_directions(
    name: str, subjects: Sequence[Subject], say: Callable[[str], None], *, offload: bool
) -> list[Result]:
    results = []
    for download in (False, True):
        contest = Contest(
            f"nar_forwarding.{name}_{'download' if download else 'upload'}",
            "of the baseline",
            BAR if offload else None,
            "plain_forwarding_mbit_s",
            pairs=PAIRS if offload else QUEUED_PAIRS,
            most_pairs=MOST_PAIRS if offload else QUEUED_PAIRS,
        )
        results.append(contest_of(contest, subjects, download, say))
    return results


def _growth(delivery: str, few: Hosts, many: Hosts, say: Callable[[str], None]) -> Result:
    subjects = [nar(few, delivery, FEW, offload=True), nar(many, delivery, MANY, offload=True)]
    contest = Contest(
        f"nar_forwarding.{delivery.replace('-', '_')}_growth",
        f"rate at {FEW} / at {MANY}",
        GROWTH_BAR,
        f"at_{MANY}_mbit_s",
        most_pairs=MOST_PAIRS,
    )
    return contest_of(contest, subjects, True, say)


def _links(hosts: Hosts) -> None:
    hosts.make("device", "box", "cn")
    hosts.wire("device", f"{CLIENT}/16", "box", f"{TUNNEL_ADDRESS}/16")
    hosts.wire("box", f"{ADDRESS}/24", "cn", f"{SERVER}/24")
    ports = f"{FIRST_PORT} {FIRST_PORT + OWN_PORTS - 1}"
    hosts.run("device", "sysctl", "-qw", f"net.ipv4.ip_local_port_range={ports}")


def _tunnel(hosts: Hosts, host: str, local: str, remote: str, address: str) -> None:
    hosts.ip(
        host,
        f"link add tunnel type ipip local {local} remote {remote}",
        *([f"address add {address}/32 dev tunnel"] if address else []),
        "link set tunnel up mtu 1480",
    )


def nar(hosts: Hosts, delivery: str, count: int, *, offload: bool) -> Subject:
    """The client behind our dataplane."""
    _links(hosts)
    device = CLIENT
    if delivery == "translated":
        hosts.ip("device", f"route add default via {TUNNEL_ADDRESS}")
    else:
        device = ADDRESS
        _tunnel(hosts, "device", CLIENT, TUNNEL_ADDRESS, ADDRESS)
        hosts.ip("device", f"route add {SERVER}/32 dev tunnel src {ADDRESS}")
    hosts.dataplane(
        "box",
        "nar_dataplane",
        tunnel_address=TUNNEL_ADDRESS,
        address=ADDRESS,
        inside="device",
        outside="cn",
        client=CLIENT,
        server=SERVER,
        server_port=SERVER_PORT,
        first_port=FIRST_PORT,
        ports=OWN_PORTS,
        mappings=count,
        delivery=delivery,
        offload=offload,
    )
    return Subject(hosts, device, "box", SERVER, SERVER, ("cn", "box"))


def plain(hosts: Hosts, delivery: str) -> Subject:
    """Nothing but routes, and the tunnel where there is one."""
    _links(hosts)
    device = CLIENT
    if delivery == "translated":
        hosts.ip("device", f"route add default via {TUNNEL_ADDRESS}")
        hosts.ip("cn", f"route add {CLIENT}/32 via {ADDRESS}")
    else:
        device = PLAIN_INNER
        _tunnel(hosts, "device", CLIENT, TUNNEL_ADDRESS, PLAIN_INNER)
        _tunnel(hosts, "box", TUNNEL_ADDRESS, CLIENT, "")
        hosts.ip("device", f"route add {SERVER}/32 dev tunnel src {PLAIN_INNER}")
        hosts.ip("box", f"route add {PLAIN_INNER}/32 dev tunnel")
        hosts.ip("cn", f"route add {PLAIN_INNER}/32 via {ADDRESS}")
    return Subject(hosts, device, "box", SERVER, SERVER, ("cn", "box"))
