"""The ruleset of inside presence as text: ``ruleset.nft``, what the configuration adds, elements.

What was learnt (Linux 6.1, nft 1.0.6):

- ``ct original zone`` keeps connections of the same device address apart, and answers that come
  in zone 0 still find them. Helpers expect connections in the zone of their master: whoever is
  expected to open one to us is put into that zone (``helped``). Answers are not hurt by it.
- A zone that a packet has been given is not changed by a later statement: the first one counts.
- The data of ``update @map`` may be what ``ct`` says, but no map lookup.
- NAPT keeps a member's port where it is free; a reserved port is exchanged for a reserved one.
- A named map cannot be used as a set.
- ``update @map`` with a key of an IPv6 address and something else ends the whole process in an
  assertion of libnftables: IPv6 has no ``any_source``, and helpers look at our address only.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from ipaddress import ip_address, summarize_address_range
from string import Template
from typing import Final

from gateway.dataplane.kernel.presence import constants
from gateway.dataplane.kernel.presence.constants import TABLE
from gateway.dataplane.kernel.ruleset_version import version_chain
from gateway.dataplane.packet import marks
from gateway.dataplane.presence import Member, Napt, PresenceSettings, Redirect, Translation
from gateway.domain.child_sa import IpNetwork

Key = tuple[str, bytes]
"""Set or map, and key of the element."""
Elements = Mapping[Key, bytes | None]
"""What a map says for the key; None in a set."""
CARRIED: Final = ("zones", "to_device", "own", "address4")
"""Where members are, whatever the configuration says."""
_U32 = struct.Struct("=I")
_U16 = struct.Struct("=H")
_PORT_PROTOCOLS: Final = "{ tcp, udp, dccp, sctp }"
_PROTOCOL: Final = {6: "tcp", 17: "udp"}


def from_mark(zone: int) -> bytes:
    """Fwmark of what comes from a member."""
    return _U32.pack(marks.FROM_DEVICE | zone)


def to_mark(zone: int) -> bytes:
    """Fwmark of what goes to a member."""
    return _U32.pack(marks.TO_DEVICE | zone)


def member_elements(member: Member) -> dict[Key, bytes | None]:
    """All elements that a session has."""
    found: dict[Key, bytes | None] = {}
    group = member.translations
    if member.zone:
        came, goes = from_mark(member.zone), to_mark(member.zone)
        found["zones", came] = _U16.pack(member.zone)
        found["to_device", came] = goes
        found["own", came + goes] = None
        found[f"napt_{member.napt}", came] = None
        for address in member.addresses:
            if address.version == 4:
                found["address4", goes] = address.packed
        if group >= 0:
            found[f"translated_{group}", came] = None
            found[f"shown_to_{group}", goes] = None
    elif group >= 0:
        for address in member.addresses:
            found[f"inner{address.version}_{group}", address.packed] = None
    return found


# -- text -------------------------------------------------------------------------------------


def render(
    settings: PresenceSettings,
    elements: Elements | None = None,
    leads: Sequence[Member | None] = (),
) -> str:
    """Everything: rules for these settings, who is in, where redirects lead, a version's chain."""
    text = resources.files(__package__).joinpath("ruleset.nft").read_text("ascii")
    rules = Template(text).safe_substitute(
        INTERFACE=settings.tunnel,
        ZONE_MASK=f"{marks.ZONES:#x}",
        FROM=f"{marks.FROM_DEVICE:#x}",
        TO=f"{marks.TO_DEVICE:#x}",
        ANSWER=f"{marks.ANSWER:#x}",
        ANSWER_MASK=f"{0xFFFF_FFFF ^ marks.TO_DEVICE ^ marks.ANSWER:#x}",
        HELPERS=", ".join(f'"{name}"' for name in constants.HELPERS),
        HELPED_S=constants.HELPED_S,
        ANY_SOURCE_S=constants.ANY_SOURCE_S,
        **_configured(settings),
    )
    found = _texts(elements or {})
    filled = Template(rules).safe_substitute(
        {name.upper(): _list(found.pop(name, ())) for name in CARRIED}
    )
    chain = version_chain(rules)
    added = "".join(
        f"add element inet {TABLE} {name} {{ {', '.join(texts)} }}\n"
        for name, texts in found.items()
    )
    led = "".join(
        redirect_rules(place, settings.redirects[place], target)
        for place, target in enumerate(leads)
        if target is not None
    )
    return f"{filled}{added}{led}add chain inet {TABLE} {chain}\n"


def version(settings: PresenceSettings) -> str:
    """The chain that only the rules of these settings have."""
    return render(settings).split()[-1]


def _list(texts: Iterable[str]) -> str:
    listed = ", ".join(texts)
    return f"elements = {{ {listed} }}" if listed else ""


def _texts(elements: Elements) -> dict[str, list[str]]:
    """Elements in the words of nft by set; those of another shape are another version's."""
    found: dict[str, list[str]] = {}
    for (name, key), data in elements.items():
        text = _text(name, key, data)
        if text is not None:
            found.setdefault(name, []).append(text)
    return found


def _text(name: str, key: bytes, data: bytes | None) -> str | None:
    kind = name.partition("_")[0] if name not in CARRIED else name
    if kind in ("inner4", "inner6"):
        return str(ip_address(key)) if len(key) == (4 if kind == "inner4" else 16) else None
    if len(key) not in (4, 8):
        return None
    key_text = " . ".join(f"{_U32.unpack_from(key, at)[0]:#x}" for at in range(0, len(key), 4))
    if data is None:
        return key_text
    if name == "zones":
        return f"{key_text} : {_U16.unpack_from(data)[0]}"
    if name == "to_device":
        return f"{key_text} : {_U32.unpack_from(data)[0]:#x}"
    return f"{key_text} : {ip_address(data)}" if len(data) == 4 else None


# -- what the configuration says --------------------------------------------------------------


def _configured(settings: PresenceSettings) -> dict[str, str]:
    napts, groups = settings.napts, settings.translations
    sets = [_napt_set(place, napt) for place, napt in enumerate(napts)]
    sets += [_translation_sets(place, group) for place, group in enumerate(groups)]
    sets += map(_redirect_chains, range(len(settings.redirects)))
    every = [network for napt in napts for network in napt.any_source]
    return {
        "SETS": "".join(sets),
        "OUTSIDE": _list(f'"{name}"' for name in settings.outside_interfaces),
        "ANY_SOURCE4": _list(_disjoint(every, 4)),
        "NAPT": "".join(
            f"\t\tmeta mark @napt_{place} goto as_napt_{place}\n" for place in range(len(napts))
        ),
        "LEARN": "".join(map(_learning, range(len(napts)), napts)),
        "SHOWN_TO_INSIDE": "".join(map(_to_inside, range(len(groups)))),
        "INSIDE_TO_SHOWN": "".join(map(_to_shown, range(len(groups)))),
        **_redirects(settings.redirects),
    }


def _disjoint(networks: Iterable[IpNetwork], version: int) -> Iterator[str]:
    """Without those that another one holds: interval sets refuse that."""
    mine = [network for network in networks if network.version == version]
    end = -1
    for network in sorted(mine, key=lambda n: (int(n.network_address), n.prefixlen)):
        if int(network[0]) > end:
            end = int(network[-1])
            yield str(network)


def _napt_set(place: int, napt: Napt) -> str:
    lines = [f"\tset napt_{place} {{\n\t\ttypeof meta mark\n\t}}\n\tchain as_napt_{place} {{\n"]
    for family, version_of, nfproto in (("ip", 4, "ipv4"), ("ip6", 6, "ipv6")):
        ranges = [one for one in napt.addresses if one[0].version == version_of]
        only = f"meta nfproto {nfproto}"
        if napt.ports is not None:
            ports = "{}-{}".format(*napt.ports)
            with_ports = f"\t\t{only} meta l4proto {_PORT_PROTOCOLS} "
            lines.append(with_ports + _source(family, ranges, ports))
        lines.append(f"\t\t{only} " + _source(family, ranges, ""))
    lines.append("\t}\n")
    return "".join(lines)


def _source(family: str, ranges: Sequence[tuple[object, object]], ports: str) -> str:
    """The statement; a member has the same address for all its connections."""
    colon = f":{ports}" if ports else ""
    if not ranges:
        return f"masquerade to {colon}\n" if ports else "masquerade\n"
    texts = [str(one) if one == last else f"{one}-{last}" for one, last in ranges]
    if len(texts) == 1:
        text = texts[0]
        if family == "ip6" and ports:
            text = "-".join(f"[{one}]" for one in text.split("-"))
        return f"snat {family} to {text}{colon} persistent\n"
    # Of several ranges, the zone chooses one.
    chosen = ", ".join(f"{place} : {text}" for place, text in enumerate(texts))
    which = f"jhash meta mark mod {len(texts)} seed 0x4755 map {{ {chosen} }}"
    return f"snat {family} to {which}{' : ' + ports if ports else ''} persistent\n"


def _learning(place: int, napt: Napt) -> str:
    networks = ", ".join(_disjoint(napt.any_source, 4))
    if not networks:
        return ""
    match = f"meta l4proto udp ip daddr {{ {networks} }} meta mark @napt_{place}"
    return f"\t\t{match} jump learn_answers\n"


def _translation_sets(place: int, group: Sequence[Translation]) -> str:
    text = f"""	set translated_{place} {{
		typeof meta mark
	}}
	set shown_to_{place} {{
		typeof meta mark
	}}
	set inner4_{place} {{
		type ipv4_addr
	}}
	set inner6_{place} {{
		type ipv6_addr
	}}
	chain to_inside_{place} {{
"""
    for one in group:
        family = "ip" if one.network.version == 4 else "ip6"
        pair = f"{{ {one.shown_as} : {one.network} }}"
        text += f"\t\tdnat {family} prefix to {family} daddr map {pair}\n"
    text += f"\t}}\n\tchain to_shown_{place} {{\n"
    for one in group:
        family = "ip" if one.network.version == 4 else "ip6"
        pair = f"{{ {one.network} : {one.shown_as} }}"
        text += f"\t\tsnat {family} prefix to {family} saddr map {pair}\n"
    return text + "\t}\n"


def _to_inside(place: int) -> str:
    return (
        f"\t\tmeta mark @translated_{place} goto to_inside_{place}\n"
        f"\t\tip saddr @inner4_{place} goto to_inside_{place}\n"
        f"\t\tip6 saddr @inner6_{place} goto to_inside_{place}\n"
    )


def _to_shown(place: int) -> str:
    return (
        f"\t\tmeta mark @shown_to_{place} goto to_shown_{place}\n"
        f"\t\tip daddr @inner4_{place} goto to_shown_{place}\n"
        f"\t\tip6 daddr @inner6_{place} goto to_shown_{place}\n"
    )


# -- redirects ----------------------------------------------------------------------------------


def _redirect_chains(place: int) -> str:
    """The first one counts connections, the second one says where to."""
    return (
        f"\tchain redirect_{place} {{\n\t\tcounter jump target_{place}\n\t}}\n"
        f"\tchain target_{place} {{\n\t}}\n"
    )


def ports_text(ports: tuple[int, int]) -> str:
    """``80`` or ``8000-8099``."""
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def _redirects(redirects: Sequence[Redirect]) -> dict[str, str]:
    lists: dict[str, list[str]] = {
        name: []
        for name in (
            "REDIRECTED4",
            "REDIRECTED6",
            "REDIRECTED_ANY",
            "REDIRECT4",
            "REDIRECT6",
            "REDIRECT_ANY4",
            "REDIRECT_ANY6",
        )
    }
    for place, one in enumerate(redirects):
        what = f"{_PROTOCOL[one.protocol]} . {ports_text(one.ports)}"
        address = one.address
        if address is None:
            lists["REDIRECTED_ANY"].append(what)
        else:
            lists[f"REDIRECTED{address.version}"].append(f"{address} . {what}")
        for version_of, everybody in ((4, "0.0.0.0/0"), (6, "::/0")):
            if address is not None and address.version != version_of:
                continue
            sources = [*_disjoint(one.sources, version_of)] if one.sources else [everybody]
            for source in sources:
                name = f"REDIRECT{version_of}" if address else f"REDIRECT_ANY{version_of}"
                middle = f"{address} . " if address else ""
                lists[name].append(f"{source} . {middle}{what} : goto redirect_{place}")
    return {name: _list(texts) for name, texts in lists.items()}


def redirect_rules(place: int, redirect: Redirect, target: Member | None) -> str:
    """Commands that make a redirect lead to ``target``, or nowhere."""
    chain = f"inet {TABLE} target_{place}"
    text = f"flush chain {chain}\n"
    if target is None:
        return text
    zone = marks.TO_DEVICE | target.zone
    mark = f"meta mark set {zone:#x} ct mark set {zone:#x} " if target.zone else ""
    protocol = _PROTOCOL[redirect.protocol]
    for address in target.addresses:
        family = "ip" if address.version == 4 else "ip6"
        match = f"meta nfproto ipv{address.version} meta l4proto {protocol} "
        to = f"dnat {family} to {_target(redirect, str(address), protocol)}"
        text += f"add rule {chain} {match}{mark}{to}\n"
    return text


def _target(redirect: Redirect, address: str, protocol: str) -> str:
    first, last = redirect.ports
    if redirect.to_port == first:
        return address
    if first == last:
        return (
            f"[{address}]:{redirect.to_port}" if ":" in address else f"{address}:{redirect.to_port}"
        )
    pairs = ", ".join(
        f"{port} : {redirect.to_port + port - first}" for port in range(first, last + 1)
    )
    return f"{address} : {protocol} dport map {{ {pairs} }}"


def local_networks(settings: PresenceSettings) -> Iterator[IpNetwork]:
    """Where the gateway has to be reached: addresses of members and of redirects."""
    for napt in settings.napts:
        for first, last in napt.addresses:
            yield from summarize_address_range(first, last)
    for redirect in settings.redirects:
        if redirect.address is not None:
            yield from summarize_address_range(redirect.address, redirect.address)
