"""Packet captures and tshark's verdict on them."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.lab import netns, record
from gateway.lab.processes import LabError, Process, ProcessTable, wait_until

CHECKOUT = str(Path(__file__).parents[2])
READY_S = 20.0
CATCH_UP_TRIES = 30
STATISTICS = re.compile(r"(\d+) packets? captured, (\d+) packets? received by filter")
SUSPICIOUS = "_ws.malformed || _ws.expert.severity == error"
CHECKED = ("ip", "tcp", "udp")
# tshark takes what an ICMP error quotes, cut short, for a whole segment.
QUOTES = "icmp.type in {3, 11, 12}"
OTHER_ZERO = "(see RFC 1624)"
"""Ends tshark's complaint about a checksum of 0xffff in the place of 0x0000. Both are zero in ones'
complement, so every receiver takes it; a kernel that updates checksums leaves one in 65,536 so."""
BAD_CHECKSUM = (
    "_ws.malformed || ip.checksum.status == Bad || icmp.checksum.status == Bad"
    f" || (!({QUOTES}) && (_ws.expert.severity == error"
    " || tcp.checksum.status == Bad || udp.checksum.status == Bad))"
)
STRANGERS = (
    "a21",
    "ams",
    "ath",
    "bvlc",
    "cbsp",
    "collectd",
    "dlm3",
    "dnp3",
    "ecatf",
    "elasticsearch",
    "enip",
    "eobi",
    "hcrt",
    "irc",
    "jmirror",
    "mactelnet",
    "manolito",
    "mint",
    "mrcpv2",
    "nxp_802154_sniffer",
    "pcomtcp",
    "pmproxy",
    "pn_rt",
    "quake",
    "quake2",
    "quake3",
    "quakeworld",
    "rtpproxy",
    "ssyncp",
    "steam_ihs_discovery",
    "synergy",
    "tzsp",
    "uaudp",
)
"""Protocols to which tshark gives a port among those that hosts choose for themselves."""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Capture:
    """A running (or ended) recording; `path` is the pcap file."""

    path: Path
    process: Process

    def stop(self) -> Path:
        """End the recording, everything seen so far written, and return the file."""
        self._catch_up()
        self.process.stop()
        return self.path

    def _catch_up(self) -> None:
        """Wait until tcpdump has read what the kernel keeps for it: ended, it would not.

        Asked by SIGUSR1, it says how many packets it has written and the kernel has seen.
        """
        for _ in range(CATCH_UP_TRIES):
            if not self.process.running():
                return
            known = len(STATISTICS.findall(self.process.output()))
            self.process.signal(signal.SIGUSR1)
            with contextlib.suppress(LabError):
                wait_until(
                    lambda: len(STATISTICS.findall(self.process.output())) > known,  # noqa: B023
                    1.0,
                    "tcpdump's count",
                )
            found = STATISTICS.findall(self.process.output())
            if found and int(found[-1][0]) >= int(found[-1][1]):
                return


@dataclass(frozen=True, slots=True)
class Finding:
    """One packet that tshark objects to."""

    frame: int
    protocols: str
    complaint: str
    at: float = 0.0
    """When it was seen, in seconds since 1970."""


def start_capture(
    processes: ProcessTable, namespace: str, interface: str, path: Path, only: str
) -> Capture:
    """Start tcpdump on an interface (`any` for all) and return once it listens."""
    argv = [
        "tcpdump",
        "--immediate-mode",
        "-Z",
        "root",
        "-U",
        "-n",
        "-s",
        "0",
        "-i",
        interface,
        "-w",
        str(path),
    ]
    if record.needed():
        argv = [sys.executable, "-S", "-m", "gateway.lab.record", interface, str(path)]
    # A log of its own: an earlier one of the same name has said there that it listens.
    name = f"tcpdump-{path.stem}-{next(_numbers)}"
    command = netns.inside(namespace, [*argv, *only.split()])
    process = processes.spawn(name, command, env={"PYTHONPATH": CHECKOUT})

    def ready() -> bool:
        if not process.running():
            raise LabError(f"tcpdump ended: {process.output().strip()}")
        return "listening on" in process.output()

    wait_until(ready, READY_S, "tcpdump")
    return Capture(path, process)


def dissect(
    pcap: Path,
    display_filter: str,
    fields: Sequence[str],
    *,
    ikev2_keys: Sequence[str] = (),
    preferences: Sequence[str] = (),
    lua: Path | None = None,
) -> list[list[str]]:
    """One row of `fields` per packet that matches; raises LabError when tshark does not work.

    `preferences` are Wireshark's, NAME:VALUE; `lua` is a dissector for what it does not know.

    `ikev2_keys` are lines of Wireshark's ikev2_decryption_table (initiator SPI, responder SPI,
    SK_ei, SK_er, encryption name, SK_ai, SK_ar, integrity name), so that SK payloads are read too.
    """
    argv = [
        "tshark",
        "-n",
        "-r",
        str(pcap),
        "-Y",
        display_filter,
        "-T",
        "fields",
        "-E",
        "separator=/t",
    ]
    argv += [part for field in fields for part in ("-e", field)]
    argv += [part for name in STRANGERS for part in ("--disable-protocol", name)]
    argv += [part for line in ikev2_keys for part in ("-o", f"uat:ikev2_decryption_table:{line}")]
    argv += [part for preference in preferences for part in ("-o", preference)]
    argv += ["-X", f"lua_script:{lua}"] if lua is not None else []
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"tshark cannot read {pcap}: {done.stderr.strip()}")
    return [line.split("\t") for line in done.stdout.splitlines()]


def judge(pcap: Path, *, ikev2_keys: Sequence[str] = (), checksums: bool = False) -> list[Finding]:
    """What tshark calls malformed or an error in a capture; an empty list is a good one.

    With `checksums`, wrong ones of IP, TCP, UDP and ICMP count too: only where the interfaces
    compute them (`MobilityLab.compute_checksums`), or every local packet seems wrong.
    """
    fields = ["frame.number", "frame.time_epoch", "frame.protocols"]
    fields += ["_ws.expert.message", "_ws.malformed"]
    wanted = BAD_CHECKSUM if checksums else SUSPICIOUS
    preferences = [f"{name}.check_checksum:TRUE" for name in CHECKED] if checksums else []
    rows = dissect(pcap, wanted, fields, ikev2_keys=ikev2_keys, preferences=preferences)
    found = [Finding(int(row[0]), row[2], " ".join(row[3:]).strip(), float(row[1])) for row in rows]
    return [one for one in found if OTHER_ZERO not in one.complaint]


def merge(pcaps: Sequence[Path], into: Path) -> Path:
    """One capture of several, so that tshark, slow to start, runs once for all of them."""
    argv = ["mergecap", "-w", str(into), *map(str, pcaps)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"mergecap cannot join the captures: {done.stderr.strip()}")
    return into
