"""swanctl.conf for a row, for either side of it."""

from __future__ import annotations

from gateway.lab import plan
from gateway.lab.matrix import world
from gateway.lab.matrix.cells import Auth, Configuration, Event, Exchange, Fault, Role, Row
from gateway.lab.matrix.world import has_ppk

CONNECTION = """
connections {{
  gw {{
    version = {version}
    local_addrs = %any
    remote_addrs = {remote}
    proposals = {ike}
    {lines}
{proofs}
    children {{
      net {{
        esp_proposals = {esp}
        {selectors}
        rekey_time = 0
        dpd_action = {dpd_action}
      }}
    }}
  }}
}}
pools {{
  inner {{
    addrs = {pool}
    dns = {dns}
  }}
}}
secrets {{
{secrets}
}}
"""

CHARON = """
    i_dont_care_about_security_and_use_aggressive_mode_psk = yes
    send_vendor_id = yes
    fragment_size = 1100
    retransmit_tries = 3
    plugins {
        eap-gtc {
            backend = generic
        }
    }
"""
"""Further lines of strongswan.conf that some rows need."""


def configuration(row: Row, role: Role) -> str:
    """swanctl.conf of the connection `gw` with the child `net`."""
    opens = role is Role.INITIATOR
    suite = world.suite(row)
    return CONNECTION.format(
        version=row.version,
        remote=world.RESPONDER if opens else "%any",
        ike=suite.ike,
        esp=suite.esp,
        lines="\n    ".join(_lines(row, role)),
        proofs=_proofs(row, role),
        selectors="\n        ".join(_selectors(row, role)),
        dpd_action="clear",
        pool=world.POOL,
        dns=plan.SERVER,
        secrets=_secrets(row, role),
    )


def _lines(row: Row, role: Role) -> list[str]:
    opens = role is Role.INITIATOR
    exchange = row.exchange if opens else world.responder_exchange(row)
    lines = [f"aggressive = {_yes(exchange is Exchange.AGGRESSIVE)}", "unique = replace"]
    lines.append("send_cert = always")
    if row.configuration is not Configuration.SUBNETS:
        lines.append("vips = 0.0.0.0" if opens else "pools = inner")
    if row.version == 1:
        lines.append(f"pull = {_yes(row.configuration is not Configuration.PUSH)}")
    if has_ppk(row, role):
        lines += [f"ppk_id = {world.PPK_ID}", "ppk_required = yes"]
    if row.childless:
        lines.append("childless = force" if opens else "childless = allow")
    if {Event.PEER_PROBES, Event.PEER_DIES} & set(row.events):
        lines += ["dpd_delay = 2s", "dpd_timeout = 20s"]
    lines += ["rekey_time = 4h", f"mobike = {_yes(Event.INITIATOR_MOVES in row.events)}"]
    return lines


def _selectors(row: Row, role: Role) -> list[str]:
    site = f"{world.SITE}/32"
    if role is Role.INITIATOR:
        own = [] if world.asks_for_address(row) else [f"local_ts = {site}"]
        return [*own, f"remote_ts = {world.INTRANET}"]
    theirs = [] if world.asks_for_address(row) else [f"remote_ts = {site}"]
    return [f"local_ts = {world.INTRANET}", *theirs]


def _proofs(row: Row, role: Role) -> str:
    if role is Role.INITIATOR:
        return _initiator(row)
    return _responder(row)


def _initiator(row: Row) -> str:
    responder = "psk" if row.auth in {Auth.PSK, Auth.XAUTH_PSK} else "pubkey"
    them = {"auth": responder, "id": world.RESPONDER_ID}
    us = {"id": world.INITIATOR_ID}
    match row.auth:
        case Auth.HYBRID:
            mine = [{"auth": "xauth", "xauth_id": world.USER, **us}]
        case Auth.XAUTH_PSK | Auth.XAUTH_RSA:
            mine = [{"auth": responder, **us}, {"auth": "xauth", "xauth_id": world.USER}]
        case Auth.EAP_MSCHAPV2 | Auth.EAP_GTC | Auth.EAP_TLS:
            aaa = world.RADIUS_ID if row.radius else world.RESPONDER_ID
            method = row.auth.value.lower()
            mine = [{"auth": method, "eap_id": world.user_name(row), "aaa_id": aaa, **us}]
        case _:
            mine = [{"auth": responder, **us}]
    if row.auth in {Auth.RSA, Auth.ECDSA, Auth.XAUTH_RSA, Auth.EAP_TLS}:
        mine[0]["certs"] = "own.crt"
    return _sections("local", mine) + _sections("remote", [them])


def _responder(row: Row) -> str:
    initiator = "psk" if row.auth in {Auth.PSK, Auth.XAUTH_PSK} else "pubkey"
    us = {"id": world.RESPONDER_ID}
    if initiator == "pubkey":
        us["certs"] = "own.crt"
    match row.auth:
        case Auth.HYBRID:
            them = [{"auth": "xauth"}]
        case Auth.XAUTH_PSK | Auth.XAUTH_RSA:
            them = [{"auth": initiator, "id": world.INITIATOR_ID}, {"auth": "xauth"}]
        case Auth.EAP_MSCHAPV2 | Auth.EAP_GTC | Auth.EAP_TLS:
            them = [{"auth": row.auth.value.lower(), "eap_id": "%any"}]
        case _:
            them = [{"auth": initiator, "id": world.INITIATOR_ID}]
            if row.fault is Fault.NO_USER:
                them.append({"auth": "xauth"})
    return _sections("local", [{"auth": initiator, **us}]) + _sections("remote", them)


def _sections(name: str, rounds: list[dict[str, str]]) -> str:
    text = ""
    for number, each in enumerate(rounds):
        lines = "".join(f"      {key} = {value}\n" for key, value in each.items())
        text += f"    {name}-{number} {{\n      round = {number}\n{lines}    }}\n"
    return text


def _secrets(row: Row, role: Role) -> str:
    opens = role is Role.INITIATOR
    psk = world.secret(row) if opens else world.SECRET
    password = world.password(row) if opens else world.PASSWORD
    text = f'  ike-1 {{\n    secret = "{psk}"\n  }}\n'
    for kind in ("eap", "xauth"):
        text += f'  {kind}-1 {{\n    id = {world.USER}\n    secret = "{password}"\n  }}\n'
    if has_ppk(row, role):
        text += f"  ppk-1 {{\n    id = {world.PPK_ID}\n    secret = 0x{world.PPK.hex()}\n  }}\n"
    return text


def _yes(value: bool) -> str:
    return "yes" if value else "no"
