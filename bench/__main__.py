"""Run the benchmarks, print a line for each figure, write build/bench.json.

``python -m bench [NAME ...]``, or with ``--only NAME``, which may be repeated: those alone.
Progress and scatter go to stderr, the figures to stdout.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Result

BENCHMARKS = ("footprint", "throughput", "handshakes", "handover")
"""In the order they run; each is a module ``bench.NAME`` with ``run(say) -> Sequence[Result]``."""

OUTPUT = Path("build/bench.json")


def say(text: str) -> None:
    """Show progress; it goes to stderr so that stdout stays a list of results."""
    print(f"    {text}", file=sys.stderr, flush=True)


def line(result: Result) -> str:
    """One result for people."""
    verdict = "" if result.bar is None else ("holds" if result.holds else "DOES NOT HOLD")
    bar = str(result.bar) if result.bar else "-"
    return f"{result.name:<44} {result.value:>10.4g} {result.unit:<12} {bar:>10}  {verdict}"


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
        run: Callable[[Callable[[str], None]], Sequence[Result]]
        run = importlib.import_module(f"bench.{name}").run
        for result in run(say):
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


def arguments() -> list[str]:
    """The names on the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    given = parser.parse_args()
    return [*given.names, *given.only]


if __name__ == "__main__":
    sys.exit(main(arguments()))
