"""The portable dataplane beside strongSwan's kernel-libipsec and wireguard-go, where it runs.

Each has two hosts of its own, one wire, both ends on this machine, and all of them take turns.
Nothing here needs IPsec of the kernel.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from bench.measure import Bar, Result, quartiles
from bench.portable_beat import BEAT_S, Beat, beating
from bench.portable_ends import (
    Ends,
    LibIpsec,
    Nothing,
    Ours,
    Tunnel,
    WireGuardGo,
    joined,
    memory_mb,
)
from bench.portable_flood import flood
from bench.portable_turns import Taken, datagrams, ratios, streaming, take_turns
from bench.turns import Transfer

ROUNDS = 30
LATENCY_ROUNDS = 5
ADDED_MS = 0.5
PEERS = 4
"""Of the gateway in the measurement with two processes."""
PEERS_S = 4.0

Say = Callable[[str], None]


def run(say: Say) -> Sequence[Result]:
    """All of it."""
    results = compared(say)
    results += several_peers(say)
    results += flood(say)
    return results


def compared(say: Say) -> list[Result]:
    """Throughput, small datagrams, processor time, latency and memory, beside the peers."""
    ours, plain = Ours(udp=True), Ours(udp=False)
    tunnels: dict[str, Tunnel] = {
        "ours": ours,
        "ours_esp": plain,
        "ours_two": Ours(udp=True, workers=2),
        "libipsec": LibIpsec(),
        "wireguard": WireGuardGo(),
        "nothing": Nothing(),
    }
    with contextlib.ExitStack() as stack:
        labs = {name: stack.enter_context(joined(name, one)) for name, one in tunnels.items()}
        results = idle(tunnels, ours)
        carrying = {name: labs[name] for name in labs if name != "nothing"}
        taken = in_turns(carrying, tunnels, streaming, say)
        results += rates("tcp", taken, "mbit_s", 1.0)
        results += processor_times("processor", taken, 1e9 / 8, "s_per_gbit")
        taken = in_turns(carrying, tunnels, datagrams, say)
        results += rates("datagrams", taken, "per_s", 1.0)
        results += processor_times("datagrams_processor", taken, 1e6, "us_each")
        results += latency(labs, say)
    return results


def in_turns(
    labs: Mapping[str, Ends],
    tunnels: Mapping[str, Tunnel],
    start: Callable[[Ends], contextlib.AbstractContextManager[Transfer]],
    say: Say,
) -> dict[str, Taken]:
    """A transfer in each lab, in turns."""
    with contextlib.ExitStack() as stack:
        transfers = {name: stack.enter_context(start(lab)) for name, lab in labs.items()}
        return take_turns(transfers, tunnels, ROUNDS, say)


def load() -> dict[str, float]:
    """How busy the machine is, the benchmark itself included."""
    return {"load_average": os.getloadavg()[0]}


def rates(what: str, taken: Mapping[str, Taken], unit: str, least: float) -> list[Result]:
    """Ours in UDP, as plain ESP and with two processes; libipsec has UDP and several threads."""
    beside = {f"{name}_{unit}": one.rate for name, one in taken.items()} | load()
    results = []
    for ours, theirs, bar in (
        ("ours", "libipsec", Bar(least, at_least=True)),
        ("ours_esp", "libipsec", Bar(least, at_least=True)),
        ("ours_two", "libipsec", Bar(least, at_least=True)),
        ("ours", "wireguard", None),
        ("ours_esp", "wireguard", None),
    ):
        found = ratios(taken[ours], taken[theirs])
        name = f"portable.{what}{ours.removeprefix('ours')}.to_{theirs}"
        middle = statistics.median(found)
        results.append(Result(name, middle, f"of {theirs}", bar, beside, quartiles(list(found))))
    return results


def processor_times(what: str, taken: Mapping[str, Taken], scale: float, unit: str) -> list[Result]:
    """Processor time of the forwarders of both ends; ``scale`` of what was counted is a unit."""
    each = {name: one.processor_per * scale for name, one in taken.items()}
    beside = {f"{name}_{unit}": needed for name, needed in each.items()} | load()
    return [
        Result(
            f"portable.{what}{name.removeprefix('ours')}",
            each[name] / each["libipsec"],
            "of libipsec",
            Bar(1.0, at_least=False),
            beside,
        )
        for name in ("ours", "ours_esp", "ours_two")
    ]


def idle(tunnels: Mapping[str, Tunnel], ours: Ours) -> list[Result]:
    """What a forwarder takes before anything is sent."""
    beside = {
        f"{name}_mb": statistics.mean(memory_mb(one) for one in tunnel.forwarders())
        for name, tunnel in tunnels.items()
        if tunnel.forwarders()
    }
    return [
        Result("portable.memory", beside["ours_mb"], "MB", None, beside),
        Result("portable.start", statistics.median(ours.start_s), "s", None, load()),
    ]


def latency(labs: Mapping[str, Ends], say: Say) -> list[Result]:
    """What a tunnel, both its ends, adds to the wire alone."""
    found = {name: Beat.none() for name in labs}
    for lab in labs.values():
        lab.apart = False
    for _ in range(LATENCY_ROUNDS):
        for name, lab in labs.items():
            found[name] += beating(lab, BEAT_S)
    for name, one in found.items():
        say(f"delay of {name}: {one}")
    beside = {f"{name}_ms": one.median_ms for name, one in found.items()}
    beside |= {f"{name}_99_ms": one.late_ms for name, one in found.items()} | load()
    return [
        Result(
            f"portable.latency{name.removeprefix('ours')}",
            found[name].median_ms - found["nothing"].median_ms,
            "ms added",
            Bar(ADDED_MS, at_least=False),
            beside,
            f"99 % {found[name].late_ms:.3f} ms, without a tunnel {found['nothing'].late_ms:.3f}",
        )
        for name in ("ours", "ours_esp", "ours_two")
    ]


def several_peers(say: Say) -> list[Result]:
    """Two processes and several peers: how the second one shares in the work."""
    tunnel = Ours(udp=True, workers=2, clients=PEERS)
    with joined("peers", tunnel, apart=False) as lab, contextlib.ExitStack() as stack:
        memory = sum(memory_mb(one, shared=False) for one in tunnel.forwarders()[1:])
        running = [
            stack.enter_context(datagrams(lab, number, address))
            for number, address in enumerate(tunnel.addresses())
        ]
        shares, rate, used = _together(tunnel, running)
        say(f"{PEERS} peers, two processes: {rate:.0f}/s, {used:.2f} processors, {shares}")
    return [
        Result(
            "portable.second_process",
            min(shares) / sum(shares),
            "of the work",
            Bar(0.25, at_least=True),
            {"datagrams_per_s": rate, "processors_of_all_forwarders": used, "peers": PEERS}
            | load(),
        ),
        Result("portable.memory_two_processes", memory, "MB", None, {}),
    ]


def _together(tunnel: Ours, running: Sequence[Transfer]) -> tuple[list[float], float, float]:
    """Processor time of the gateway's processes, datagrams per second, processors in use."""
    for one in running:
        one.resume()
    time.sleep(0.5)
    before, used = sum(one.octets() for one in running), tunnel.processor_times()
    began = time.monotonic()
    time.sleep(PEERS_S)
    took = time.monotonic() - began
    rate = (sum(one.octets() for one in running) - before) / took
    spent = [now - then for now, then in zip(tunnel.processor_times(), used, strict=True)]
    for one in running:
        one.pause()
    return spent[1:], rate, sum(spent) / took
