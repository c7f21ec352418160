"""What the fake API says of leases, rules, port forwards, names and MTU."""

from typing import Any

import fake_data as data

Document = dict[str, Any]


def leases(devices: list[Document]) -> list[Document]:
    """One for each device, in every state."""
    states = ("in-use", "kept", "static", "reserved")
    return [
        {
            "pool": "staff",
            "address": f"10.83.112.{number + 2}",
            "state": states[number % 4],
            "why": f"{states[number % 4]} for {one['identity']}",
            "identity": one["identity"],
            "user": one["user"],
            "device": one["name"],
            "session": "0" * 16 + "_" + "1" * 16,
            "since": data.ago(900 + number),
            "until": data.ago(-3600) if number % 4 == 1 else None,
        }
        for number, one in enumerate(devices)
    ]


def lease_history(devices: list[Document]) -> list[Document]:
    """The same in the past."""
    return [
        {
            **{key: one[key] for key in ("pool", "address", "identity", "user", "device")},
            "session": one["session"],
            "first_at": data.ago(9000),
            "last_at": None if one["state"] == "in-use" else data.ago(4000),
            "reason": None if one["state"] == "in-use" else "ended",
        }
        for one in leases(devices)
    ]


def reachability(configured: bool) -> Document:
    """One pool whose route is missing inside."""
    if not configured:
        return {"items": [], "pools": []}
    route = {"network": "10.83.112.0/22", "via": "10.1.0.1"}
    command = "ip route add 10.83.112.0/22 via 10.1.0.1"
    one = {"pool": "staff", "network": "10.83.112.0/22", "advertise": "route-hint"}
    use = {"size": 1022, "in_use": 12, "kept": 3, "static": 1, "reserved": 2}
    return {
        "items": [
            {
                **one,
                "interface": None,
                "state": "todo",
                "detail": "enter this route in the inside router",
                "announced": 0,
                "routes": [{**route, "command": command}],
            }
        ],
        "pools": [{"pool": "staff", "network": "10.83.112.0/22", **use}],
    }


def napt(devices: list[Document]) -> list[Document]:
    """Sessions that appear as the gateway."""
    return [
        {
            "session": "0" * 16 + "_" + "1" * 16,
            "device": one["name"],
            "identity": one["identity"],
            "user": one["user"],
            "addresses": ["192.168.0.2"],
            "zone": number + 1,
            "napt": "office" if number else None,
            "seen_as": ["10.1.0.20-10.1.0.29"] if number else [],
            "since": data.ago(60),
        }
        for number, one in enumerate(devices[:3])
    ]


def redirects(devices: list[Document]) -> list[Document]:
    """One that leads to a device, one that waits."""
    return [
        {
            "name": f"camera-{number}",
            "protocol": "tcp",
            "address": "10.1.0.1" if number else None,
            "ports": "8000-8009" if number else "8080",
            "device": one["name"],
            "sources": [],
            "state": "waiting" if number else "active",
            "leads_to": None if number else "10.83.112.2:80",
            "session": None,
            "connections": 5,
            "packets": 120,
            "bytes": 9000,
        }
        for number, one in enumerate(devices[:2])
    ]


def rules(devices: list[Document]) -> list[Document]:
    """One of each action."""
    return [
        {
            "name": name,
            "action": action,
            "direction": "to-inside",
            "in_force": action == "allow",
            "words": f"{action} to-inside tcp 443 to 10.1.0.0/16",
            "sessions": 4,
            "packets": 900,
            "bytes": 90_000,
        }
        for name, action in (("web-only", "allow"), ("no-printers", "refuse"))[: len(devices)]
    ]


def rules_of(name: str) -> Document:
    """What applies to one device."""
    keys = ("name", "action", "direction", "in_force", "words", "packets", "bytes")
    usage = {"packets_in": 9, "bytes_in": 900, "packets_out": 8, "bytes_out": 800, "refused": 3}
    return {
        "device": name,
        "connected": True,
        "addresses": ["10.83.112.2"],
        "rules": [
            {**{key: one[key] for key in keys}, "why": "profile staff"} for one in rules([{}, {}])
        ],
        "otherwise": {"to-inside": "nothing else", "between-devices": "refused"},
        "bandwidth_up_kbit_s": 20_000,
        "bandwidth_down_kbit_s": None,
        "usage": usage,
    }


def rule_test(query: dict[str, str]) -> Document:
    """Port 443 is open, everything else is not."""
    allowed = query.get("port") == "443"
    why = "it allows tcp 443" if allowed else "it allows other things in this direction"
    return {"allowed": allowed, "rule": "web-only", "why": why, "sessions": int(allowed)}


def names(devices: list[Document]) -> Document:
    """A forwarder at work."""
    server = {"server": "10.1.0.53", "zone": "devices.example.com", "pending": 1}
    return {
        "forwarder": {
            "state": "running",
            "detail": "",
            "listen": ["10.1.0.1"],
            "port": 53,
            "forward": [
                {"domains": ["plant.example.com"], "servers": ["10.7.0.53"], "answering": False},
                {"domains": [], "servers": ["10.1.0.53"], "answering": True},
            ],
            "cached": 120,
            "questions": 4000,
            "from_cache": 3000,
            "failures": 7,
        },
        "registration": {"state": "ok", "detail": "3 names", **server},
        "items": [
            {
                "name": f"host-{number}.devices.example.com",
                "addresses": ["10.83.112.2"],
                "device": one["name"],
                "identity": one["identity"],
                "state": ("registered", "pending", "refused")[number],
                "detail": "",
                "since": data.ago(60),
            }
            for number, one in enumerate(devices[:3])
        ],
        "total": min(3, len(devices)),
    }


VERIFY: Document = {
    "domain": "example.com",
    "ok": False,
    "items": [
        {
            "record": "example.com. IN KX 10 gw.example.com.",
            "state": "missing",
            "found": [],
            "detail": "add it",
        },
        {
            "record": "gw.example.com. IN A 203.0.113.1",
            "state": "ok",
            "found": ["203.0.113.1"],
            "detail": "",
        },
    ],
    "advice": ["Sign the zone (DNSSEC)."],
}


def mtu(name: str) -> Document:
    """The arithmetic of ESP in UDP."""
    return {
        "device": name,
        "connected": True,
        "path": 1500,
        "path_source": "assumed",
        "steps": [
            {"what": "IPv4", "octets": 20, "left": 1480},
            {"what": "UDP encapsulation", "octets": 8, "left": 1472},
        ],
        "arithmetic": "1500 - 20 (IPv4) - 8 (UDP) = 1472",
        "inner": 1438,
        "configured": 1400,
        "effective": 1400,
        "mss_ipv4": 1360,
        "mss_ipv6": 1340,
        "published": ["MSS clamping", "ICMP"],
        "warnings": ["The path may be smaller behind PPPoE."],
    }


def path_test(name: str) -> Document:
    """The largest probe does not arrive."""
    return {
        "device": name,
        "address": "10.83.112.2",
        "ok": False,
        "largest": 1300,
        "expected": 1400,
        "summary": "1400 octets do not arrive, 1300 do: set dataplane.mtu = 1300.",
        "probes": [
            {"octets": 1300, "arrived": True, "rtt_ms": 12.3, "detail": ""},
            {"octets": 1400, "arrived": False, "rtt_ms": None, "detail": "no answer"},
        ],
    }
