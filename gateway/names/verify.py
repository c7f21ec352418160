"""Whether public DNS has what it should: a process for one question, JSON in and out.

``python -m gateway.names.verify`` reads ``{"records": [[owner, type, data], ...], "servers":
[...]}`` and writes ``{"checks": [{"state": ..., "found": [...], ...}]}``. Without servers, those of
the host are asked.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import dns.exception
import dns.rdatatype
import dns.resolver

LIFETIME_S: Final = 3.0
MAX_INPUT_OCTETS: Final = 65_536
MAX_FOUND: Final = 16
MAX_AT_ONCE: Final = 8


def check(
    resolver: dns.resolver.Resolver, owner: str, rdtype: str, wanted: set[str]
) -> dict[str, object]:
    """Compare what DNS has with what is wanted."""
    found: list[str] = []
    detail, absent = "", "unknown"
    try:
        answer = resolver.resolve(owner, rdtype, search=False, lifetime=LIFETIME_S)
        found = sorted(one.to_text().lower() for one in answer)[:MAX_FOUND]
    except dns.resolver.NXDOMAIN:
        detail, absent = "no such name", "missing"
    except dns.resolver.NoAnswer:
        detail, absent = f"the name has no {rdtype} record", "missing"
    except dns.exception.Timeout:
        detail = "no name server answers"
    except (dns.exception.DNSException, OSError, ValueError) as error:
        detail = str(error)[:300] or type(error).__name__
    lower = {one.lower() for one in wanted}
    missing, surplus = sorted(lower - set(found)), sorted(set(found) - lower)
    if not found:
        state = absent
    elif missing:
        state, detail = "different", f"lacks {', '.join(missing)}"
    else:
        state, detail = "ok", f"also has {', '.join(surplus)}" if surplus else ""
    return {
        "owner": owner,
        "type": rdtype,
        "wanted": sorted(wanted),
        "state": state,
        "found": found,
        "detail": detail,
    }


def verify(given: dict[str, object]) -> dict[str, object]:
    """Check all records. Raises ValueError for what is no such question."""
    wanted: dict[tuple[str, str], set[str]] = {}
    records = given.get("records")
    for record in records if isinstance(records, list) else []:
        owner, rdtype, data = (str(part) for part in record)
        wanted.setdefault((owner, rdtype), set()).add(data)
    servers = given.get("servers")
    try:
        resolver = dns.resolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration:
        return {"checks": [], "error": "this host has no name server in /etc/resolv.conf"}
    if isinstance(servers, list) and servers:
        resolver.nameservers = [str(one) for one in servers]
        resolver.port = int(str(given.get("port", 53)))
    with ThreadPoolExecutor(MAX_AT_ONCE) as pool:
        checks = pool.map(lambda one: check(resolver, one[0][0], one[0][1], one[1]), wanted.items())
        return {"checks": list(checks)}


if __name__ == "__main__":
    json.dump(verify(json.loads(sys.stdin.buffer.read(MAX_INPUT_OCTETS))), sys.stdout)
