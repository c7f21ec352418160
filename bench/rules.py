"""What rules cost, and how quickly one changes.

TCP through the tunnel of a device with one rule against that of a device with 10,000 rules, among
10,000 other devices that have them too. The rules are in the configuration; the other devices are
elements in the kernel's sets, as sessions of theirs would have put there.

A change: 10,000 sessions, each with a rule of its own; one of the rules becomes another one. From
the new rules to the kernel's sets, in process.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_network

from bench.bed import connect_device, fresh_lab, start_gateway
from bench.measure import Bar, Result
from bench.throughput import SUITE, start, start_server
from bench.turns import Contest, compare
from gateway.dataplane.filter import GatewayServices
from gateway.dataplane.kernel.filter import elements
from gateway.dataplane.kernel.filter.dataplane import KernelFilter
from gateway.dataplane.kernel.filter.ruleset import TABLE
from gateway.dataplane.kernel.nft_elements import SetElements
from gateway.domain.filtering import Direction, Placement
from gateway.domain.remote_access import Grant
from gateway.filtering.book import Book
from gateway.filtering.engine import Define, Filtering, Output, Place
from gateway.filtering.rule import Rule
from gateway.lab import netns, plan
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

MANY = 10_000
RATE_BAR = Bar(0.95, at_least=True)
CHANGE_BAR = Bar(50.0, at_least=False)
CHANGES = 20
_FIRST_NETWORK = int(IPv4Address("172.16.0.0"))
_FIRST_DEVICE = int(IPv4Address("10.64.0.0"))
_WHO = "device@example.com"


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Both directions, and the change."""
    results = []
    with fresh_lab("rule0") as many, fresh_lab("rule1") as one:
        for lab, count in ((many, MANY), (one, 1)):
            start_gateway(lab, esp=SUITE, extra=_rules(count))
            connect_device(lab, esp=SUITE)
        say(f"{_crowd(many)} elements of other devices")
        servers = [start_server(lab) for lab in (many, one)]
        for download in (False, True):
            transfers = [
                start(lab, server, download=download)
                for lab, server in zip((many, one), servers, strict=True)
            ]
            name = f"rules.{MANY}_{'download' if download else 'upload'}"
            contest = Contest(name, "of one rule", RATE_BAR, "with_one_rule_mbit_s")
            results.append(compare(contest, transfers[0], transfers[1], say))
            for transfer in transfers:
                transfer.end()
        results.append(_change(one, say))
    return results


def _rules(count: int) -> str:
    """Rules that all apply to the device; one of them allows what is measured."""
    texts = [f'\n[rules.server]\nnetworks = ["{plan.SERVER}"]\ndevices = ["{_WHO}"]\n']
    for number in range(count - 1):
        network = IPv4Address(_FIRST_NETWORK + 16 * number)
        texts.append(
            f'[rules.r{number}]\nnetworks = ["{network}/28"]\nprotocols = ["tcp"]\n'
            f'ports = ["{1000 + number % 100}-{2000 + number % 100}"]\ndevices = ["{_WHO}"]\n'
        )
    return "".join(texts)


def _crowd(lab: Lab) -> int:
    """Other devices with the same rules."""

    def add() -> int:
        sets = SetElements(TABLE)
        number = _number(sets)
        changes = [
            element.change()
            for place in range(MANY)
            for element in elements.of_placement(
                Placement((IPv4Address(_FIRST_DEVICE + place),), 0, {Direction.TO_INSIDE: number})
            )
        ]
        refusal = sets.apply(changes)
        sets.close()
        if refusal is not None:
            raise LabError(f"nftables refused an element: {refusal}")
        return len(changes)

    return netns.made_inside(lab.namespace("gw"), add)


def _number(sets: SetElements) -> int:
    """Of the rule set that the measured device has."""
    (data,) = sets.read("rules_up4").values()
    return int.from_bytes(data or b"", "big")


def _rule(number: int) -> Rule:
    network = ip_network((_FIRST_NETWORK + 16 * number, 28))
    users = frozenset({f"u{number}"})
    ports = ((80, 80),)
    return Rule(f"r{number}", networks=(network,), protocols=(6,), ports=ports, users=users)


def _change(lab: Lab, say: Callable[[str], None]) -> Result:
    def measure() -> list[float]:
        taken: list[float] = []
        netfilter = KernelFilter("other0")
        netfilter.configure(GatewayServices(), isolate=True, rules=True)
        netfilter.open()
        rules = {rule.name: rule for rule in map(_rule, range(MANY))}
        engine = Filtering(Book(rules))
        for number in range(MANY):
            address = IPv4Address(_FIRST_DEVICE + number)
            who = Grant(f"s{number}", f"p{number}", f"u{number}", addresses=(address,))
            engine.granted(who)
        _carry_out(netfilter, engine.take_outputs())
        for turn in range(CHANGES):
            name = f"r{turn}"
            rules = {**rules, name: replace(rules[name], ports=((8080, 8080),))}
            book = Book(rules)
            begin = time.perf_counter()
            engine.change(book)
            outputs = engine.take_outputs()
            _carry_out(netfilter, outputs)
            taken.append(1000 * (time.perf_counter() - begin))
            if len(outputs) != 1:
                raise LabError(f"a change of one rule touched {len(outputs)}")
        netfilter.close(keep=False)
        return taken

    taken = netns.made_inside(lab.namespace("server"), measure)
    say(json.dumps([round(one, 1) for one in taken]))
    scatter = f"{min(taken):.1f} .. {max(taken):.1f}"
    return Result("rules.change", statistics.median(taken), "ms", CHANGE_BAR, scatter=scatter)


def _carry_out(netfilter: KernelFilter, outputs: Iterable[Output]) -> None:
    for output in outputs:
        if isinstance(output, Define):
            netfilter.define(output.number, output.rule_set)
        elif isinstance(output, Place):
            netfilter.place(output.session, output.placement)
    problems = netfilter.commit()
    if problems:
        raise LabError(problems[0])
