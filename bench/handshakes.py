"""Handshakes of every method: our gateway and strongSwan under the same load, taking turns."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.handshake_setups import METHODS, Bed, Method
from bench.measure import Bar, Pairs, Result
from gateway.lab import plan
from gateway.lab.topology import Lab

AT_ONCE = 8
ALONE = 20
"""Handshakes one after the other, for the latency of a single one."""
ONLY = "BENCH_METHODS"
"""Environment variable: names of methods, separated by commas, when not all are wanted."""


@dataclass(slots=True)
class Responder:
    """One of the two, with what was measured of it."""

    address: str
    processor_s: Callable[[], float]
    rates: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)
    generator_ms: list[float] = field(default_factory=list)
    """The load's own processor time for a handshake."""
    latencies: list[float] = field(default_factory=list)
    done: int = 0

    def forget(self) -> None:
        """First uses load code and fill caches."""
        for measured in (self.rates, self.processor_ms, self.generator_ms, self.latencies):
            measured.clear()


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Alternating pairs with 8 handshakes under way, then 20 one at a time; method by method."""
    wanted = os.environ.get(ONLY, "").split(",")
    results: list[Result] = []
    for method in METHODS:
        if wanted == [""] or method.name in wanted:
            say(f"-- {method.title}")
            results += _run(method, say)
    return results


def _run(method: Method, say: Callable[[str], None]) -> list[Result]:
    with Lab("gwbench-") as lab:
        bed = Bed.make(lab, method)
        ours, charon = bed.ours(), bed.strongswan()
        responders = {
            "ours": Responder(str(plan.GATEWAY_OUTSIDE), ours.processor_s),
            "strongSwan": Responder(str(plan.ATTACKER), charon.processor_s),
        }
        for one in responders.values():
            _measure(bed, one, method.count)
            one.forget()
        for number in range(method.pairs):
            order = list(responders.values())
            for one in order if number % 2 else reversed(order):
                _measure(bed, one, method.count)
                _measure(bed, one, ALONE, at_once=1)
            say(
                f"pair {number + 1}/{method.pairs}: "
                + "; ".join(
                    f"{name} {one.rates[-1]:.0f}/s, {one.processor_ms[-1]:.2f} ms processor"
                    f" (load {one.generator_ms[-1]:.2f})"
                    for name, one in responders.items()
                )
            )
        lines = sum(event["event"] == "ike_sa_established" for event in ours.log())
        if lines != responders["ours"].done:
            raise RuntimeError(f"{lines} log lines for {responders['ours'].done} handshakes")
        charon.stop()
        ours.stop()
    return _results(method, responders["ours"], responders["strongSwan"])


def _results(method: Method, ours: Responder, theirs: Responder) -> list[Result]:
    rate = Pairs(ours.rates, theirs.rates)
    processor = Pairs(ours.processor_ms, theirs.processor_ms)
    latency = Pairs(ours.latencies, theirs.latencies)
    name = f"handshakes.{method.name}"
    load = {
        "the load itself, ms, at ours": median(ours.generator_ms),
        "the load itself, ms, at strongSwan": median(theirs.generator_ms),
    }
    return [
        Result(
            f"{name}.rate",
            rate.ratio,
            "of strongSwan",
            Bar(1.0, at_least=True) if method.has_bar else None,
            {"ours per s": rate.median_ours, "strongSwan per s": rate.median_theirs, **load},
            rate.scatter,
        ),
        Result(
            f"{name}.processor_time",
            processor.ratio,
            "of strongSwan",
            Bar(1.0, at_least=False) if method.has_bar else None,
            {"ours ms": processor.median_ours, "strongSwan ms": processor.median_theirs},
            processor.scatter,
        ),
        Result(
            f"{name}.latency",
            latency.median_ours,
            "ms",
            None,
            {"strongSwan ms": latency.median_theirs},
            latency.scatter,
        ),
    ]


def _measure(bed: Bed, one: Responder, count: int, *, at_once: int = AT_ONCE) -> None:
    argv = [sys.executable, "-m", "bench.ike_load"]
    argv += bed.load(one.address, count, at_once, one.done)
    before_s = one.processor_s()
    result = json.loads(bed.lab.run("internet", argv, timeout_s=120).stdout)
    used_s = one.processor_s() - before_s
    if result["failed"]:
        raise RuntimeError(
            f"{one.address}: {result['failed']} of {count} handshakes failed: {result['reasons']}"
        )
    one.done += count
    if at_once == 1:
        one.latencies.append(result["latency_ms"])
    else:
        one.rates.append(result["rate"])
        one.processor_ms.append(used_s * 1000 / count)
        one.generator_ms.append(result["generator_ms"])
