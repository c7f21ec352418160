"""ipsec.conf and ipsec.secrets of libreswan for a row, for either side of it."""

from __future__ import annotations

from gateway.lab.matrix import world
from gateway.lab.matrix.cells import Auth, Configuration, Event, Exchange, Role, Row

NAME = "net"
SUITES = {
    "aes256-sha256-modp2048": "aes256-sha2_256;dh14",
    "aes256gcm16-prfsha256-x25519": "aes_gcm256-sha2_256;dh31",
    "aes256-sha256": "aes256-sha2_256",
    "aes256gcm16": "aes_gcm256",
    "aes256gcm16-x25519": "aes_gcm256;dh31",
}
"""strongSwan's words in libreswan's."""


def configuration(row: Row, role: Role, left: str) -> str:
    """The section `conn net`; `left` is our own address, or %defaultroute."""
    suite = world.suite(row)
    lines = {
        "ikev2": "no" if row.version == 1 else "yes",
        "aggressive": _yes(_exchange(row, role) is Exchange.AGGRESSIVE),
        "left": left,
        "ike": SUITES[suite.ike],
        "esp": SUITES[suite.esp],
        "pfs": _yes(row.pfs),
        # With "yes" it sends a message of IKEv1 whole, and in fragments when it repeats it.
        "fragmentation": "force" if row.large and row.version == 1 else "yes",
        "ikepad": "no",
        "mobike": _yes(Event.INITIATOR_MOVES in row.events),
        "ppk": "insist" if world.has_ppk(row, role) else "no",
        "auto": "ignore",
        # Without rekeying, it is not opened again when the other side deletes it.
        "rekey": _yes(any("rekey" in event.value for event in row.events)),
        **_proof(row, role),
        **(_initiator(row) if role is Role.INITIATOR else _responder(row)),
    }
    if row.fault is not None:  # it shall not try for half a minute what cannot work
        lines |= {"retransmit-timeout": "6s", "keyingtries": "1"}
    if Event.PEER_PROBES in row.events:
        lines |= {"dpddelay": "2", "dpdtimeout": "20", "dpdaction": "clear"}
    written = "".join(f"    {key}={value}\n" for key, value in lines.items())
    return f"conn {NAME}\n{written}\n"


def secrets(row: Row, role: Role) -> str:
    """ipsec.secrets."""
    opens = role is Role.INITIATOR
    psk = world.secret(row) if opens else world.SECRET
    text = f': PSK "{psk}"\n'
    if row.auth.xauth and opens:
        text += f'@{world.USER} : XAUTH "{world.password(row)}"\n'
    if world.has_ppk(row, role):
        text += f': PPKS "{world.PPK_ID}" "{world.PPK.decode()}"\n'
    return text


def _exchange(row: Row, role: Role) -> Exchange:
    return row.exchange if role is Role.INITIATOR else world.responder_exchange(row)


def _proof(row: Row, role: Role) -> dict[str, str]:
    opens = role is Role.INITIATOR
    own = world.INITIATOR_ID if opens else world.RESPONDER_ID
    other = world.RESPONDER_ID if opens else world.INITIATOR_ID
    lines = {"leftid": _id(own), "rightid": _id(other)}
    if row.auth in {Auth.PSK, Auth.XAUTH_PSK}:
        return lines | {"authby": "secret"}
    lines |= {"leftcert": "own", "leftsendcert": "always", "rightca": "%any"}
    if row.auth is Auth.EAP_TLS:
        return lines | {
            "leftauth": "rsa",
            "rightauth": "eaponly",
            "leftautheap": "tls",
            "rightautheap": "tls",
            "rightid": "%fromcert",
        }
    if row.version == 1:
        return lines | {"authby": "rsasig"}
    return lines | {"authby": "ecdsa" if row.auth is Auth.ECDSA else "rsa-sha2,rsa-sha1"}


def _initiator(row: Row) -> dict[str, str]:
    lines = {"right": str(world.RESPONDER), "rightsubnet": world.INTRANET}
    if world.asks_for_address(row):
        lines |= {"leftmodecfgclient": "yes", "rightmodecfgserver": "yes"}
        lines |= {"modecfgpull": _yes(row.configuration is Configuration.PULL)}
        if row.version == 2:
            lines["leftsubnet"] = "0.0.0.0/0"
    else:
        lines |= {"leftsubnet": f"{world.SITE}/32", "leftsourceip": str(world.SITE)}
    if row.auth.xauth:
        lines |= {"leftxauthclient": "yes", "rightxauthserver": "yes", "leftusername": world.USER}
    return lines


def _responder(row: Row) -> dict[str, str]:
    lines = {"right": "%any", "leftsubnet": world.INTRANET}
    if world.asks_for_address(row):
        lines |= {"leftmodecfgserver": "yes", "rightmodecfgclient": "yes"}
        lines |= {"modecfgpull": _yes(row.configuration is Configuration.PULL)}
        lines |= {"rightaddresspool": "10.9.0.1-10.9.0.250", "modecfgdns": "10.1.0.10"}
    else:
        lines |= {"rightsubnet": f"{world.SITE}/32"}
    if row.auth.xauth:
        lines |= {"leftxauthserver": "yes", "rightxauthclient": "yes", "xauthby": "file"}
    return lines


def _id(identity: str) -> str:
    return identity if "@" in identity else f"@{identity}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
