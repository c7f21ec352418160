"""Run the benchmarks, print a line for each figure, write build/bench.json.

``python -m bench [NAME ...]``, or with ``--only NAME``, which may be repeated: those alone.
Progress and scatter go to stderr, the figures to stdout.

``--native`` runs only those that need nothing of the kernel but UDP, and keeps their figures for
the next run, which takes them over: `make bench` does that before it enters the test kernel.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.measure import Result

BENCHMARKS = (
    "ike_memory",
    "ike_flood",
    "mip_registrations",
    "rest",
    "footprint",
    "throughput",
    "handshakes",
    "handover",
    "restart",
    "mip_kernel",
    "mip_forwarding",
    "nar_leases",
    "nar_demultiplex",
    "nar_forwarding",
    "node_handover",
    "rules",
    "portable",
    "esp_packets",
)
"""In the order they run; each is a module ``bench.NAME`` with ``run(say) -> Sequence[Result]``."""
NATIVE = (
    "ike_memory",
    "ike_flood",
    "mip_registrations",
    "nar_demultiplex",
    "rest",
    "portable",
    "esp_packets",
)
"""Those for the running kernel: in the test kernel a system call costs too much for a flood, and
the portable dataplane is for kernels that the test kernel is not."""

OUTPUT = Path("build/bench.json")
KEPT = Path("build/bench-native.json")


def say(text: str) -> None:
    """Show progress; it goes to stderr so that stdout stays a list of results."""
    print(f"    {text}", file=sys.stderr, flush=True)


def line(result: Result) -> str:
    """One result for people."""
    verdict = "" if result.bar is None else ("holds" if result.holds else "DOES NOT HOLD")
    bar = str(result.bar) if result.bar else "-"
    return f"{result.name:<44} {result.value:>10.4g} {result.unit:<12} {bar:>10}  {verdict}"


def measure(name: str) -> Sequence[Result]:
    """Run one benchmark, or take over what was measured on the running kernel just before."""
    kept = KEPT.with_suffix(f".{name}")
    if kept.exists():
        say("measured on the running kernel")
        found = json.loads(kept.read_text())
        kept.unlink()
        return [Result.of_json(each) for each in found]
    run: Callable[[Callable[[str], None]], Sequence[Result]]
    run = importlib.import_module(f"bench.{name}").run
    return run(say)


def native(names: Sequence[str]) -> int:
    """Run those for the running kernel and keep their figures. Returns 0."""
    KEPT.parent.mkdir(exist_ok=True)
    for name in NATIVE:
        kept = KEPT.with_suffix(f".{name}")
        kept.unlink(missing_ok=True)
        if not names or name in names:
            say(f"== {name}")
            results = [asdict(result) for result in measure(name)]
            kept.write_text(json.dumps(results))
    return 0


def main(names: Sequence[str]) -> int:
    """Run what was asked for. Returns 1 when a bar does not hold, 2 for an unknown name."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
        return 2
    results: list[Result] = []
    for name in names or BENCHMARKS:
        started = time.monotonic()
        say(f"== {name}")
        for result in measure(name):
            results.append(result)
            print(line(result), flush=True)
            if result.scatter:
                say(result.scatter)
        say(f"== {name} took {time.monotonic() - started:.0f} s")
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps([result.as_json() for result in results], indent=2) + "\n")
    failed = [result.name for result in results if not result.holds]
    print(
        f"\n{len(results)} figures in {OUTPUT}; "
        + (f"missed: {', '.join(failed)}" if failed else "every bar holds")
    )
    return 1 if failed else 0


def arguments() -> tuple[list[str], bool]:
    """The names on the command line, and whether only those for the running kernel."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--native", action="store_true")
    given = parser.parse_args()
    return [*given.names, *given.only], given.native


if __name__ == "__main__":
    wanted, native_only = arguments()
    sys.exit(native(wanted) if native_only else main(wanted))
