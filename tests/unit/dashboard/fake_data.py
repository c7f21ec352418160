"""Made-up things of a gateway, in the shapes of its interface, for looking at the dashboard."""

import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

Document = dict[str, Any]

HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
"""A name that would run where somebody forgot that names are text."""

MODES = ("vc", "vf", "cvc", "cvf", "fvc", "v")
PEOPLE = ("ann", "ben", "carla", "dieter", "eve", "farid", "grace", "hugo")
PLATFORMS = ("gateway-mn", "android", "apple", "windows", "strongswan", "networkmanager")


def ago(seconds: float) -> str:
    """That moment, as the interface writes it."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds")


def device(number: int, *, name: str | None = None, identity: str | None = None) -> Document:
    """One device; its number decides where it is."""
    wheres = ("outside", "outside", "inside", "outside", "behind-fa", "offline", "outside", "away")
    where = wheres[number % len(wheres)]
    if number % 41 == 40:
        where = "blocked"
    if number % 31 == 30:
        where = "failed"
    mode = {"outside": MODES[number % len(MODES)], "inside": "c", "behind-fa": "f"}.get(where)
    place = {
        "outside": "foreign-agent:cafe" if mode and mode[0] == "f" else "internet",
        "inside": "intranet",
        "behind-fa": "foreign-agent:hall",
        "away": "internet",
    }.get(where, "offline")
    connected = where in {"outside", "inside", "behind-fa"}
    person = PEOPLE[number % len(PEOPLE)]
    platform = PLATFORMS[number % len(PLATFORMS)]
    kind = {"android": "phone", "apple": "ipad"}.get(platform, "laptop")
    plain = f"{person}-{kind}-{number}"
    octets = 1 + number % 250
    return {
        "name": name or plain,
        "identity": identity or f"{plain}@example.com",
        "source": "stored",
        "user": person if number % 3 else None,
        "connection": "staff",
        "platform": platform,
        "where": where,
        "mode": mode,
        "place": place,
        "outer": f"198.51.{number // 250 % 100}.{octets}:4500" if where == "outside" else None,
        "nat": number % 2 == 0,
        "inner_addresses": [f"10.83.{112 + number // 250 % 4}.{octets}"] if connected else [],
        "home_address": f"10.20.0.{octets}" if number % 4 != 3 else None,
        "care_of_addresses": [f"192.0.2.{octets}"] if where in {"away", "behind-fa"} else [],
        "overhead_octets": 78 if where == "outside" else 20,
        "mtu": 1422 if where == "outside" else 1480,
        "connected_since": ago(3600 + number) if connected else None,
        "last_seen": ago(number % 500) if where != "failed" else None,
        "handovers": number % 5,
        "last_move": None,
        "rtt_ms": 23.4 + number % 10,
        "bytes_in": number * 123_456,
        "bytes_out": number * 654_321,
        "packets_in": number * 321,
        "packets_out": number * 654,
        "rate_in": number * 10.5,
        "rate_out": number * 80.5,
        "failures": 1 if where == "failed" else 0,
        "blocked": where == "blocked",
    }


def move(seconds: float, old: str, new: str, gap_ms: float | None) -> Document:
    """A handover."""
    return {
        "at": ago(seconds),
        "kind": "endpoint",
        "old": old,
        "new": new,
        "proof": "authenticated ESP packet",
        "gap_ms": gap_ms,
        "precision_ms": 10,
    }


LAYERS: list[Document] = [
    {
        "name": "x-mip",
        "what": "IP-IP in UDP to the outside home agent",
        "local": "203.0.113.2",
        "remote": "198.51.0.7",
        "headers": [
            {"name": "IPv4", "octets": 20},
            {"name": "UDP", "octets": 8},
            {"name": "MIP data", "octets": 4},
        ],
        "octets": 32,
    },
    {
        "name": "vpn",
        "what": "ESP, aes_gcm_16_256, tunnel",
        "local": "203.0.113.1",
        "remote": "198.51.0.7",
        "headers": [
            {"name": "IPv4", "octets": 20},
            {"name": "ESP: SPI, sequence", "octets": 8},
            {"name": "ESP: IV", "octets": 8},
            {"name": "ESP: pad length, next header", "octets": 5},
            {"name": "ESP: check value", "octets": 16},
        ],
        "octets": 57,
    },
    {
        "name": "i-mip",
        "what": "IP-IP by the VPN's inner address",
        "local": "10.20.0.1",
        "remote": "10.83.112.8",
        "headers": [{"name": "IPv4", "octets": 20}],
        "octets": 20,
    },
]


def failure(number: int, peer: str) -> Document:
    """A failed login."""
    return {
        "id": f"{number:08x}",
        "first_at": ago(4000),
        "last_at": ago(120 + number),
        "count": 3,
        "remote": f"198.51.7.{number % 250}:4500",
        "peer": peer,
        "node": peer,
        "connection": "staff",
        "step": "IKE_SA_INIT",
        "reason": "no proposal of the device is allowed",
        "theirs": "aes128-sha1-modp1024, 3des-sha1-modp1024",
        "ours": "aes256gcm16-prfsha384-x25519, aes128gcm16-prfsha256-ecp256",
        "code": None,
        "remedy": "Give the device one of the gateway's proposals, or set up its profile anew.",
    }


def topology(devices: list[Document]) -> Document:
    """The picture's data."""
    places = [
        ("foreign-agent:cafe", "foreign-agent", "cafe", "outside", "198.51.100.1"),
        ("home-agent:roam", "home-agent", "roam", "outside", "203.0.113.2"),
        ("internet", "internet", "", "outside", None),
        ("gateway", "gateway", "gw.example.com", "dmz", "203.0.113.1"),
        ("home-agent:office", "home-agent", "office", "inside", "10.20.0.1"),
        ("home-network:roaming", "home-network", "roaming", "inside", "10.20.0.0/24"),
        ("intranet", "intranet", "", "inside", None),
        ("foreign-agent:hall", "foreign-agent", "hall", "inside", "10.1.4.1"),
        ("offline", "offline", "", "outside", None),
    ]
    found = []
    for place, kind, name, zone, address in places:
        here = [one for one in devices if one["place"] == place]
        found.append(
            {
                "id": place,
                "kind": kind,
                "name": name,
                "zone": zone,
                "address": address,
                "ours": kind not in {"internet", "intranet"},
                "devices": len(here),
                "first": [
                    {key: one[key] for key in ("name", "identity", "where", "mode")}
                    for one in here[:24]
                ],
            }
        )
    ways = (
        ("foreign-agent:cafe", "internet"),
        ("home-agent:roam", "gateway"),
        ("internet", "gateway"),
        ("gateway", "intranet"),
        ("gateway", "home-agent:office"),
        ("home-agent:office", "home-network:roaming"),
        ("intranet", "foreign-agent:hall"),
    )
    where: dict[str, int] = {}
    modes: dict[str, int] = {}
    for one in devices:
        where[one["where"]] = where.get(one["where"], 0) + 1
        if one["mode"]:
            modes[one["mode"]] = modes.get(one["mode"], 0) + 1
    return {
        "places": found,
        "edges": [{"a": a, "b": b} for a, b in ways],
        "where": where,
        "modes": modes,
        "total": len(devices),
    }


def traffic() -> Document:
    """An hour of somebody who works."""
    samples = []
    for index in range(180):
        wave = abs((index % 60) - 30) / 30
        samples.append(
            {
                "at": ago(3600 - index * 20),
                "bytes_in": int(60_000 * wave + 3_000 * (index % 7)),
                "bytes_out": int(900_000 * (1 - wave) ** 2 + 40_000 * (index % 5)),
                "packets_in": 100,
                "packets_out": 700,
            }
        )
    return {"name": "", "span": "1h", "interval_s": 20, "samples": samples}


def ike_sa(number: int, peer: str) -> Document:
    """An IKE SA."""
    return {
        "id": f"{number:016x}_{number + 7:016x}",
        "session": f"{number:08x}",
        "version": 2,
        "connection": "staff",
        "state": "established",
        "initiator": False,
        "local_id": "gw.example.com",
        "remote_id": peer,
        "auth": "certificate",
        "user": None,
        "profile": None,
        "local": "203.0.113.1:4500",
        "remote": f"198.51.0.{1 + number % 250}:4500",
        "nat": {"local": False, "remote": True},
        "suite": "aes256gcm16-prfsha384-x25519",
        "age_s": 3700.0 + number,
        "idle_s": 12.0,
        "rekey_in_s": 9000.0,
        "inner_addresses": ["10.83.112.8"],
        "mobike": True,
        "fragmentation": True,
        "knows": {"endpoint_update": True, "vpn_fa": True},
        "children": [f"{number:08x}"],
        "last_move": None,
    }


def child_sa(number: int, peer: str) -> Document:
    """A child SA."""
    return {
        "spi_in": f"{number:08x}",
        "spi_out": f"{number + 99:08x}",
        "reqid": number,
        "ike_sa": f"{number:016x}_{number + 7:016x}",
        "connection": "staff",
        "state": "installed",
        "remote_id": peer,
        "suite": "aes256gcm16",
        "local_ts": ["0.0.0.0/0"],
        "remote_ts": ["10.83.112.8/32"],
        "local": "203.0.113.1:4500",
        "remote": f"198.51.0.{1 + number % 250}:4500",
        "encapsulation": "esp-in-udp",
        "endpoint_update": True,
        "vpn_fa": False,
        "age_s": 1200.0,
        "bytes_in": 1_234_567,
        "packets_in": 1234,
        "bytes_out": 9_876_543,
        "packets_out": 7654,
        "last_in_age_s": 0.4,
        "last_move": None,
    }


def binding(number: int, node: str) -> Document:
    """A binding."""
    return {
        "home_agent": "office",
        "node": node,
        "nai": f"{node}@example.com",
        "home_address": f"10.20.0.{10 + number}",
        "home_network": "roaming",
        "dynamic": False,
        "care_of_addresses": [
            {
                "address": "10.83.112.8",
                "tunnel": "ip-ip",
                "flags": ["co_located", "reverse"],
                "lifetime_s": 1800,
                "expires_in_s": 1500.0,
                "nat": False,
                "via_foreign_agent": None,
            }
        ],
        "lifetime_s": 1800,
        "registered_for_s": 300.0,
        "expires_in_s": 1500.0,
        "zero_overhead": None,
        "registrations": 4,
        "last_code": 0,
    }


def visitor(number: int) -> Document:
    """A visitor of a foreign agent."""
    return {
        "foreign_agent": "hall",
        "home_address": f"10.20.0.{60 + number}",
        "home_agent": "10.20.0.1",
        "care_of_address": "10.1.4.1",
        "nai": f"node-{number}@example.com",
        "interface": "eth3",
        "link_address": "02:00:00:00:00:07",
        "tunnel": "ip-ip to 10.20.0.1",
        "flags": ["reverse"],
        "lifetime_s": 600,
        "expires_in_s": 420.0,
        "installed": True,
        "registrations": 2,
        "last_code": 0,
    }


def nar_client(number: int) -> Document:
    """A client of a NAR server."""
    return {
        "server": "home",
        "client": f"192.168.1.{20 + number}",
        "port": 40_000 + number,
        "user": "ann",
        "rule": "family",
        "state": "nar",
        "connected": True,
        "tls": True,
        "address": "203.0.113.5",
        "target": None,
        "delivery": "ip-ip",
        "session": "90c1f2d30a774be5",
        "resumable": True,
        "leases": 3,
        "since": ago(900),
        "expires_in_s": 480.0,
    }


def nar_lease(number: int) -> Document:
    """A lease, and with `until` an entry of the audit."""
    return {
        "id": f"esp,203.0.113.5,{1_106_485_959 + number},any,any",
        "server": "home",
        "protocol": "esp",
        "address": "203.0.113.5",
        "value": "0x41f3a2c7",
        "remote": None,
        "remote_port": None,
        "client": f"192.168.1.{20 + number}",
        "user": "ann",
        "rule": "family",
        "session": "90c1f2d30a774be5",
        "connected": True,
        "delivery": "ip-ip",
        "client_port": None,
        "peer": None,
        "since": ago(900),
        "expires_in_s": 480.0,
        "until": None,
        "ended_by": None,
    }


STATUS: Document = {
    "name": "gw.example.com",
    "version": "1.0.0",
    "pid": 4711,
    "started_at": 1_790_000_000.0,
    "uptime_s": 86_400.0 * 3,
    "rss_kib": 66 * 1024,
    "config": "/etc/gateway/gateway.toml",
    "listen": ["203.0.113.1:500", "203.0.113.1:4500"],
    "dataplane": {"kind": "kernel", "counters": {}},
    "api": {"listen": "127.0.0.1:8443", "state": "running"},
    "reloads": {},
    "pools": [
        {"name": "staff", "network": "10.83.112.0/22", "size": 1022, "in_use": 640},
        {"name": "guests", "network": "10.91.7.0/24", "size": 254, "in_use": 241},
    ],
}


def kinds() -> list[Document]:
    """What can be configured, with the very schemas of the configuration."""
    from gateway.config.connection import ConnectionSection, ProfileSection
    from gateway.config.mobility import HomeAgentSection, HomeNetworkSection
    from gateway.config.nar import NarServerSection
    from gateway.config.remote_access import NaptSection, RedirectSection, RuleSection
    from gateway.config.sections import PoolSection, RadiusSection

    sections = {
        "pools": PoolSection,
        "radius": RadiusSection,
        "profiles": ProfileSection,
        "home_networks": HomeNetworkSection,
        "home_agents": HomeAgentSection,
        "nar": NarServerSection,
        "connections": ConnectionSection,
        "napt": NaptSection,
        "rules": RuleSection,
        "redirects": RedirectSection,
    }
    text = {"type": "string"}
    perhaps = {"anyOf": [text, {"type": "null"}], "default": None}
    devices = {
        "type": "object",
        "required": ["identity"],
        "properties": {
            "identity": {"type": "string", "maxLength": 253},
            "connection": perhaps,
            "user": perhaps,
            "platform": {"enum": [*PLATFORMS, "other"], "type": "string", "default": "other"},
            "note": {"type": "string", "maxLength": 1000, "default": ""},
            "blocked": {"type": "boolean", "default": False},
        },
    }
    users = {
        "type": "object",
        "properties": {
            "groups": {"type": "array", "items": text, "default": []},
            "enabled": {"type": "boolean", "default": True},
            "password": {
                "anyOf": [{"type": "string", "format": "password", "writeOnly": True}],
                "default": None,
            },
        },
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # defaults that JSON has no words for
        schemas = {name: one.model_json_schema() for name, one in sections.items()}
    schemas |= {"devices": devices, "users": users}
    return [
        {
            "kind": name,
            "title": name.replace("_", " ").capitalize(),
            "document_schema": schema,
            "secret_fields": [],
        }
        for name, schema in schemas.items()
    ]
