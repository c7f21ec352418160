"""SAs with the algorithms of draft 001's table, 3DES and HMAC-SHA1-96, which nobody should use.

The gateway does not offer 3DES for ESP. IKE agrees on AES-GCM as ever; then the kernels' SAs are
exchanged by hand at both ends for ones with the same SPIs, addresses and marks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

_SA = re.compile(r"src (\S+) dst (\S+)\n\s+proto esp spi (0x[0-9a-f]+) reqid (\d+) mode tunnel")
_OPTIONS = {
    r"output-mark (0x[0-9a-f]+)/(0x[0-9a-f]+)": "output-mark {0} mask {1}",
    r"if_id (0x[0-9a-f]+)": "if_id {0}",
    r"flag .*\b(af-unspec)\b": "flag {0}",
    r"\smark (0x[0-9a-f]+)/(0x[0-9a-f]+)": "mark {0} mask {1}",
    r"encap type espinudp sport (\d+) dport (\d+) addr (\S+)": "encap espinudp {0} {1} {2}",
    r"sel src (\S+) dst (\S+)": "sel src {0} dst {1}",
}
"""What a line of `ip xfrm state` says, and how to say it to `ip xfrm state add`."""


def as_in_the_draft(lab: Lab, hosts: Sequence[str] = ("device", "gw")) -> int:
    """Exchange the algorithms of all SAs of these hosts; how many there were.

    Raises LabError when the kernel lacks 3DES or does not take an SA.
    """
    found = 0
    for host in hosts:
        lines = []
        for state in re.split(r"\n(?=src )", lab.run(host, ["ip", "xfrm", "state"]).stdout.strip()):
            if not state:
                continue
            lines += _exchange(state)
            found += 1
        lab.run(host, ["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
    return found


def _exchange(state: str) -> list[str]:
    head = _SA.match(state)
    if head is None:
        raise LabError(f"not understood: {state.splitlines()[0]}")
    source, destination, spi, reqid = head.groups()
    key = hashlib.sha512(spi.encode()).hexdigest()
    options = [
        words.format(*match.groups())
        for pattern, words in _OPTIONS.items()
        if (match := re.search(pattern, state, re.MULTILINE))
    ]
    marks = [words for words in options if words.startswith("mark ")]
    return [
        " ".join(
            ["xfrm state delete", f"src {source} dst {destination} proto esp spi {spi}", *marks]
        ),
        " ".join(
            [
                f"xfrm state add src {source} dst {destination} proto esp spi {spi}",
                f"reqid {reqid} mode tunnel",
                f"enc cbc(des3_ede) 0x{key[:48]} auth-trunc hmac(sha1) 0x{key[48:88]} 96",
                *options,
            ]
        ),
    ]
