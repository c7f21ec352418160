"""What the mobility agents' fast path costs a TCP stream.

- Zero-overhead switching (draft 001, appendix D): a home agent that switches addresses, against
  the same box that only forwards.
- VPN/FA (appendix B): ESP to the gateway, IP-in-IP from there to the home agent and back, against
  the same ESP with plain forwarding behind it.
- The same bindings with `offload = false`: every packet through user space. No bar: it is what
  the kernel's path saves.

Each subject has namespaces of its own; they take turns, see `bench.turns`. The dataplanes are the
gateway's; bindings and SAs are set without signalling.
"""

from collections.abc import Callable, Sequence

from bench.hosts import Hosts, Subject, contest_of
from bench.measure import Bar, Result
from bench.turns import PAIRS, Contest, random_key

HOME_ADDRESS, HOME_NETWORK = "10.8.0.5", "10.8.0.0/24"
HOME_AGENT = "192.0.2.1"
CORRESPONDENT = "10.7.0.2"
DEVICE, GATEWAY_OUTSIDE = "198.51.100.2", "198.51.100.1"
GATEWAY_INSIDE, AGENT_OUTSIDE = "10.6.0.1", "10.6.0.2"
KEY_OCTETS = 32 + 4
BAR = Bar(0.93, at_least=True)
MODULE = "mip_dataplane"
MOST_PAIRS = 100
QUEUED_PAIRS = 10


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Both mechanisms, both directions, both ways."""
    results: list[Result] = []
    for name, build, baseline, theirs in (
        ("zero_overhead", switching, plain, "plain_forwarding_mbit_s"),
        ("vpn_fa", vpn_fa, bare_xfrm, "bare_xfrm_mbit_s"),
    ):
        for offload in (True, False):
            with Hosts(f"bf0{name[0]}") as first, Hosts(f"bf1{name[0]}") as second:
                subjects = [build(first, offload=offload), baseline(second)]
                for download in (False, True):
                    way = "" if offload else "_nfqueue"
                    contest = Contest(
                        f"mip_forwarding.{name}{way}_{'download' if download else 'upload'}",
                        "of the baseline",
                        BAR if offload else None,
                        theirs,
                        pairs=PAIRS if offload else QUEUED_PAIRS,
                        most_pairs=MOST_PAIRS if offload else QUEUED_PAIRS,
                    )
                    results.append(contest_of(contest, subjects, download, say))
    return results


# -- zero overhead -----------------------------------------------------------------------------


def _two_links(hosts: Hosts) -> None:
    hosts.make("device", "ha", "cn")
    hosts.wire("device", f"{DEVICE}/30", "ha", f"{GATEWAY_OUTSIDE}/30")
    hosts.wire("ha", "10.7.0.1/24", "cn", f"{CORRESPONDENT}/24")
    hosts.ip("ha", f"address add {HOME_AGENT}/32 dev lo")
    hosts.ip("device", f"route add default via {GATEWAY_OUTSIDE}")
    hosts.ip("cn", "route add default via 10.7.0.1")


def switching(hosts: Hosts, *, offload: bool) -> Subject:
    """The mobile node's end speaks from its care-of address to the home agent.

    That is what its packets look like after its own switching, which is not ours to measure.
    """
    _two_links(hosts)
    binding = {
        "home_agent": HOME_AGENT,
        "home_address": HOME_ADDRESS,
        "care_of": DEVICE,
        "co_located": True,
        "zero_overhead": CORRESPONDENT,
    }
    hosts.dataplane("ha", MODULE, offload=offload, home_network=HOME_NETWORK, binding=binding)
    subject = Subject(hosts, DEVICE, "ha", HOME_AGENT, CORRESPONDENT)
    subject.carries()
    return subject


def plain(hosts: Hosts) -> Subject:
    """Nothing but routes."""
    _two_links(hosts)
    subject = Subject(hosts, DEVICE, "ha", CORRESPONDENT, CORRESPONDENT)
    subject.carries()
    return subject


# -- VPN/FA ------------------------------------------------------------------------------------


def _three_links(hosts: Hosts, keys: Sequence[str]) -> None:
    hosts.make("device", "gw", "ha", "cn")
    hosts.wire("device", f"{DEVICE}/30", "gw", f"{GATEWAY_OUTSIDE}/30")
    hosts.wire("gw", f"{GATEWAY_INSIDE}/24", "ha", f"{AGENT_OUTSIDE}/24")
    hosts.wire("ha", "10.7.0.1/24", "cn", f"{CORRESPONDENT}/24")
    hosts.ip("ha", f"route add default via {GATEWAY_INSIDE}")
    hosts.ip("gw", f"route add 10.7.0.0/24 via {AGENT_OUTSIDE}")
    hosts.ip("cn", "route add default via 10.7.0.1")
    hosts.ip(
        "device",
        f"address add {HOME_ADDRESS}/32 dev lo",
        f"route add 10.7.0.0/24 via {GATEWAY_OUTSIDE} src {HOME_ADDRESS}",
        *_states(keys),
        _policy("out", from_device=True),
        _policy("in", from_device=False),
    )


def _states(keys: Sequence[str]) -> list[str]:
    ways = ((DEVICE, GATEWAY_OUTSIDE, 0x1001), (GATEWAY_OUTSIDE, DEVICE, 0x1002))
    return [
        f"xfrm state add src {source} dst {destination} proto esp spi {spi:#x} reqid 1"
        f" mode tunnel replay-window 32 aead rfc4106(gcm(aes)) {key} 128"
        for (source, destination, spi), key in zip(ways, keys, strict=True)
    ]


def _policy(direction: str, *, from_device: bool) -> str:
    ends = (DEVICE, GATEWAY_OUTSIDE) if from_device else (GATEWAY_OUTSIDE, DEVICE)
    inner = (f"{HOME_ADDRESS}/32", "0.0.0.0/0")
    source, destination = inner if from_device else inner[::-1]
    selector = f"src {source} dst {destination} dir {direction}"
    template = f"tmpl src {ends[0]} dst {ends[1]} proto esp reqid 1 mode tunnel"
    return f"xfrm policy add {selector} {template}"


def vpn_fa(hosts: Hosts, *, offload: bool) -> Subject:
    """The gateway's own IPsec and foreign agent, and a home agent behind it."""
    keys = [random_key(KEY_OCTETS) for _ in range(2)]
    _three_links(hosts, keys)
    hosts.ip("ha", f"address add {HOME_AGENT}/32 dev lo")
    hosts.ip("gw", f"route add {HOME_AGENT}/32 via {AGENT_OUTSIDE}")
    sa = {"keys": keys, "home_address": HOME_ADDRESS, "ends": [GATEWAY_OUTSIDE, DEVICE]}
    visitor = {"care_of": GATEWAY_INSIDE, "home_agent": HOME_AGENT, "home_address": HOME_ADDRESS}
    hosts.dataplane("gw", MODULE, offload=offload, sa=sa, visitor=visitor)
    binding = {
        "home_agent": HOME_AGENT,
        "home_address": HOME_ADDRESS,
        "care_of": GATEWAY_INSIDE,
        "co_located": False,
    }
    hosts.dataplane("ha", MODULE, offload=offload, home_network=HOME_NETWORK, binding=binding)
    subject = Subject(hosts, HOME_ADDRESS, "gw", CORRESPONDENT, CORRESPONDENT, ("gw", "device"))
    subject.carries()
    return subject


def bare_xfrm(hosts: Hosts) -> Subject:
    """The same SAs typed in at the gateway; behind it there are only routes."""
    keys = [random_key(KEY_OCTETS) for _ in range(2)]
    _three_links(hosts, keys)
    hosts.ip(
        "gw",
        *_states(keys),
        _policy("in", from_device=True),
        _policy("fwd", from_device=True),
        _policy("out", from_device=False),
        f"route add {HOME_ADDRESS}/32 via {DEVICE}",
    )
    subject = Subject(hosts, HOME_ADDRESS, "gw", CORRESPONDENT, CORRESPONDENT, ("gw", "device"))
    subject.carries()
    return subject
