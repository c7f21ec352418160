"""IKEv2 handshakes: our gateway and strongSwan as responder for the same load, taking turns."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.measure import Bar, Pairs, Result
from gateway.lab import plan
from gateway.lab.appliance import Appliance
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

PAIRS = 10
COUNT = 150
AT_ONCE = 8
ALONE = 20
"""Handshakes one after the other, for the latency of a single one."""
PSK = "the same long secret for both responders"
NAME = "gateway.bench"

GATEWAY_TOML = """
[gateway]
name = "{name}"
runtime_dir = "{folder}"
log_format = "json"
[ike]
listen = ["{address}"]
cookie_threshold = 100000
half_open_limit = 100000
half_open_per_source = 100000
[pools.bench]
network = "10.16.0.0/16"
[connections.bench]
local_auth = "psk"
remote_auth = "psk"
psk = "{psk}"
remote_id = "*@bench"
pool = "bench"
local_subnets = ["10.1.0.0/24"]
"""

SWANCTL_CONF = """
connections {{ bench {{
    version = 2
    local_addrs = {address}
    proposals = aes128gcm16-prfsha256-x25519
    pools = bench
    unique = never
    local {{ auth = psk
        id = {name} }}
    remote {{ auth = psk
        id = *@bench }}
    children {{ net {{
        local_ts = 10.1.0.0/24
        esp_proposals = aes128gcm16 }} }}
}} }}
pools {{ bench {{ addrs = 10.16.0.0/16 }} }}
secrets {{ ike-bench {{ secret = "{psk}" }} }}
"""


@dataclass(slots=True)
class Responder:
    """One of the two, with what was measured of it."""

    address: str
    processor_s: Callable[[], float]
    rates: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    done: int = 0


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Ten alternating pairs of 150 handshakes with 8 under way, then 20 one at a time."""
    with Lab("gwbench-") as lab:
        ours, charon = _ours(lab), _strongswan(lab)
        responders = {
            "ours": Responder(str(plan.GATEWAY_OUTSIDE), ours.processor_s),
            "strongSwan": Responder(str(plan.ATTACKER), charon.processor_s),
        }
        for one in responders.values():  # first uses load code and fill caches
            _measure(lab, one, COUNT)
            one.rates.clear()
            one.processor_ms.clear()
        for number in range(PAIRS):
            order = list(responders.values())
            for one in order if number % 2 else reversed(order):
                _measure(lab, one, COUNT)
                _measure(lab, one, ALONE, at_once=1)
            say(
                f"pair {number + 1}/{PAIRS}: "
                + "; ".join(
                    f"{name} {one.rates[-1]:.0f}/s, {one.processor_ms[-1]:.2f} ms processor"
                    for name, one in responders.items()
                )
            )
        lines = sum(event["event"] == "ike_sa_established" for event in ours.log())
        if lines != responders["ours"].done:
            raise RuntimeError(f"{lines} log lines for {responders['ours'].done} handshakes")
        charon.stop()
        ours.stop()
    return _results(responders["ours"], responders["strongSwan"])


def _results(ours: Responder, theirs: Responder) -> list[Result]:
    rate = Pairs(ours.rates, theirs.rates)
    processor = Pairs(ours.processor_ms, theirs.processor_ms)
    latency = Pairs(ours.latencies, theirs.latencies)
    return [
        Result(
            "handshakes.rate",
            rate.ratio,
            "of strongSwan",
            Bar(1.0, at_least=True),
            {"ours per s": rate.median_ours, "strongSwan per s": rate.median_theirs},
            rate.scatter,
        ),
        Result(
            "handshakes.processor_time",
            processor.ratio,
            "of strongSwan",
            Bar(1.0, at_least=False),
            {"ours ms": processor.median_ours, "strongSwan ms": processor.median_theirs},
            processor.scatter,
        ),
        Result(
            "handshakes.latency",
            latency.median_ours,
            "ms",
            None,
            {"strongSwan ms": latency.median_theirs},
            latency.scatter,
        ),
    ]


def _measure(lab: Lab, one: Responder, count: int, *, at_once: int = AT_ONCE) -> None:
    argv = [sys.executable, "-m", "bench.ike_load", one.address, "--psk", PSK, "--name", NAME]
    argv += ["--count", str(count), "--at-once", str(at_once), "--first-number", str(one.done)]
    before_s = one.processor_s()
    result = json.loads(lab.run("internet", argv, timeout_s=120).stdout)
    used_s = one.processor_s() - before_s
    if result["failed"]:
        raise RuntimeError(f"{one.address}: {result['failed']} of {count} handshakes failed")
    one.done += count
    if at_once == 1:
        one.latencies.append(result["latency_ms"])
    else:
        one.rates.append(result["rate"])
        one.processor_ms.append(used_s * 1000 / count)


def _ours(lab: Lab) -> Appliance:
    gateway = Appliance(lab)
    address = plan.GATEWAY_OUTSIDE
    gateway.write_text(
        GATEWAY_TOML.format(name=NAME, folder=gateway.folder, address=address, psk=PSK)
    )
    gateway.start()
    return gateway


def _strongswan(lab: Lab) -> StrongSwan:
    """Debian's, without a log and without the limits that a load from one address would hit."""
    charon = StrongSwan(lab, "attacker", extra="dos_protection = no", quiet=True)
    charon.start()
    charon.load(SWANCTL_CONF.format(name=NAME, address=plan.ATTACKER, psk=PSK))
    return charon
