"""The rows of the matrix."""

from __future__ import annotations

from fnmatch import fnmatchcase

from gateway.lab.matrix.cells import (
    PEERS,
    Auth,
    Cell,
    Configuration,
    Event,
    Exchange,
    Fault,
    Role,
    Row,
)

MAIN, AGGRESSIVE, V2 = Exchange.MAIN, Exchange.AGGRESSIVE, Exchange.IKEV2
SUBNETS, PULL, PUSH = Configuration.SUBNETS, Configuration.PULL, Configuration.PUSH

NO_ECDSA_V1 = {"libreswan-*": "its IKEv1 has RSA signatures only"}
NO_HYBRID = {"libreswan-*": "it has no hybrid authentication"}
NO_EAP = {"libreswan-*": "of EAP it has EAP-TLS only, as responder"}
EAP_TLS_ONE_SIDED = {
    "libreswan-initiator": "it has EAP as responder only",
    "libreswan-responder": "it takes TLS 1.3, but ends EAP-TLS as with 1.2, not as in RFC 9190",
}
NO_PUSH = {
    "libreswan-initiator": "as client it takes a pushed configuration after XAUTH only",
    "libreswan-responder": "what it pushes without XAUTH nobody else can decrypt",
}
NO_ADDITIONAL = {
    "strongswan-*": "strongSwan 5.9.8 does not know RFC 9370",
    "libreswan-*": "libreswan 4.10 does not know RFC 9370",
}
US = (Role.INITIATOR,)
"""The peer initiates: what is tried is our side of the responder."""

METHODS = (
    Row(name="main-psk", exchange=MAIN, configuration=SUBNETS),
    Row(name="main-psk-pull", exchange=MAIN),
    Row(name="main-psk-push", exchange=MAIN, configuration=PUSH, not_offered=NO_PUSH),
    Row(name="main-psk-nat", exchange=MAIN, nat=True),
    Row(
        name="main-psk-push-nat",
        exchange=MAIN,
        configuration=PUSH,
        nat=True,
        not_offered=NO_PUSH,
    ),
    Row(name="main-psk-pfs", exchange=MAIN, configuration=SUBNETS, pfs=True),
    Row(name="main-rsa", exchange=MAIN, auth=Auth.RSA),
    Row(name="main-rsa-large", exchange=MAIN, auth=Auth.RSA, large=True),
    Row(name="main-rsa-large-nat", exchange=MAIN, auth=Auth.RSA, large=True, nat=True),
    Row(name="main-ecdsa", exchange=MAIN, auth=Auth.ECDSA, not_offered=NO_ECDSA_V1),
    Row(name="main-hybrid", exchange=MAIN, auth=Auth.HYBRID, not_offered=NO_HYBRID),
    Row(name="main-hybrid-nat", exchange=MAIN, auth=Auth.HYBRID, nat=True, not_offered=NO_HYBRID),
    Row(name="main-xauth-psk", exchange=MAIN, auth=Auth.XAUTH_PSK),
    Row(name="main-xauth-psk-push", exchange=MAIN, auth=Auth.XAUTH_PSK, configuration=PUSH),
    Row(name="main-xauth-rsa", exchange=MAIN, auth=Auth.XAUTH_RSA),
    Row(name="main-xauth-rsa-nat", exchange=MAIN, auth=Auth.XAUTH_RSA, nat=True),
    Row(name="main-xauth-radius", exchange=MAIN, auth=Auth.XAUTH_PSK, radius=True, roles=US),
    Row(name="aggressive-psk", exchange=AGGRESSIVE),
    Row(name="aggressive-psk-nat", exchange=AGGRESSIVE, nat=True),
    Row(name="aggressive-rsa", exchange=AGGRESSIVE, auth=Auth.RSA),
    Row(
        name="aggressive-hybrid",
        exchange=AGGRESSIVE,
        auth=Auth.HYBRID,
        not_offered=NO_HYBRID,
    ),
    Row(name="aggressive-xauth-psk", exchange=AGGRESSIVE, auth=Auth.XAUTH_PSK),
    Row(name="v2-psk", exchange=V2, configuration=SUBNETS),
    Row(name="v2-psk-pull", exchange=V2),
    Row(name="v2-psk-nat", exchange=V2, nat=True),
    Row(name="v2-rsa", exchange=V2, auth=Auth.RSA),
    Row(name="v2-rsa-large", exchange=V2, auth=Auth.RSA, large=True),
    Row(name="v2-ecdsa", exchange=V2, auth=Auth.ECDSA),
    Row(name="v2-eap-mschapv2", exchange=V2, auth=Auth.EAP_MSCHAPV2, not_offered=NO_EAP),
    Row(
        name="v2-eap-mschapv2-nat",
        exchange=V2,
        auth=Auth.EAP_MSCHAPV2,
        nat=True,
        not_offered=NO_EAP,
    ),
    Row(name="v2-eap-tls", exchange=V2, auth=Auth.EAP_TLS, not_offered=EAP_TLS_ONE_SIDED),
    Row(name="v2-eap-gtc", exchange=V2, auth=Auth.EAP_GTC, not_offered=NO_EAP),
    Row(
        name="v2-radius-mschapv2",
        exchange=V2,
        auth=Auth.EAP_MSCHAPV2,
        radius=True,
        roles=US,
        not_offered=NO_EAP,
    ),
    Row(
        name="v2-radius-tls",
        exchange=V2,
        auth=Auth.EAP_TLS,
        radius=True,
        roles=US,
        not_offered=EAP_TLS_ONE_SIDED,
    ),
    Row(name="v2-ppk", exchange=V2, ppk=True),
    Row(
        name="v2-childless",
        exchange=V2,
        configuration=SUBNETS,
        childless=True,
        not_offered={
            "libreswan-initiator": "it opens an IKE SA with a child SA always",
        },
    ),
    Row(name="v2-mlkem", exchange=V2, additional_exchange=True, not_offered=NO_ADDITIONAL),
)

EVENTS = (
    Row(
        name="v1-rekey-child",
        exchange=MAIN,
        events=(Event.PEER_REKEYS_CHILD, Event.WE_REKEY_CHILD),
    ),
    Row(
        name="v1-rekey-child-pfs",
        exchange=MAIN,
        configuration=SUBNETS,
        pfs=True,
        events=(Event.PEER_REKEYS_CHILD, Event.WE_REKEY_CHILD),
    ),
    Row(
        name="v1-rekey-ike",
        exchange=MAIN,
        configuration=SUBNETS,
        events=(Event.PEER_REKEYS_IKE, Event.WE_REKEY_IKE),
    ),
    Row(name="v1-peer-deletes", exchange=MAIN, events=(Event.PEER_PROBES, Event.PEER_DELETES)),
    Row(name="v1-we-delete", exchange=MAIN, events=(Event.WE_DELETE,)),
    Row(name="v1-peer-dies", exchange=MAIN, events=(Event.PEER_DIES,)),
    Row(
        name="v2-rekey-child",
        exchange=V2,
        events=(Event.PEER_REKEYS_CHILD, Event.WE_REKEY_CHILD),
    ),
    Row(
        name="v2-rekey-child-pfs",
        exchange=V2,
        pfs=True,
        events=(Event.PEER_REKEYS_CHILD, Event.WE_REKEY_CHILD),
    ),
    Row(
        name="v2-rekey-ike",
        exchange=V2,
        events=(Event.PEER_REKEYS_IKE, Event.WE_REKEY_IKE),
    ),
    Row(
        name="v2-reauthenticate",
        exchange=V2,
        events=(Event.PEER_REAUTHENTICATES,),
        roles=US,
        not_offered={"libreswan-*": "it logs in again only when the SA is over"},
    ),
    Row(
        name="v2-we-reauthenticate",
        exchange=V2,
        events=(Event.WE_REAUTHENTICATE,),
        roles=(Role.RESPONDER,),
    ),
    Row(name="v2-peer-deletes", exchange=V2, events=(Event.PEER_PROBES, Event.PEER_DELETES)),
    Row(name="v2-we-delete", exchange=V2, events=(Event.WE_DELETE,)),
    Row(
        name="v2-mobike",
        exchange=V2,
        events=(Event.INITIATOR_MOVES,),
        roles=US,
        not_offered={"libreswan-*": "it does not return COOKIE2 in a return routability check"},
    ),
    Row(
        name="v2-mobike-unchecked",
        exchange=V2,
        return_routability=False,
        events=(Event.INITIATOR_MOVES,),
        roles=US,
    ),
    Row(name="v2-peer-dies", exchange=V2, events=(Event.PEER_DIES,)),
)

REFUSED = (
    Row(name="main-psk-wrong", exchange=MAIN, fault=Fault.SECRET),
    Row(name="main-rsa-stranger", exchange=MAIN, auth=Auth.RSA, fault=Fault.STRANGER),
    Row(name="main-xauth-wrong", exchange=MAIN, auth=Auth.XAUTH_PSK, fault=Fault.PASSWORD),
    Row(name="main-xauth-skipped", exchange=MAIN, fault=Fault.NO_USER, roles=US),
    Row(name="aggressive-not-allowed", exchange=AGGRESSIVE, fault=Fault.EXCHANGE, roles=US),
    Row(name="v2-psk-wrong", exchange=V2, fault=Fault.SECRET),
    Row(name="v2-rsa-stranger", exchange=V2, auth=Auth.RSA, fault=Fault.STRANGER),
    Row(
        name="v2-eap-mschapv2-wrong",
        exchange=V2,
        auth=Auth.EAP_MSCHAPV2,
        fault=Fault.PASSWORD,
        not_offered=NO_EAP,
    ),
    Row(
        name="v2-eap-gtc-wrong",
        exchange=V2,
        auth=Auth.EAP_GTC,
        fault=Fault.PASSWORD,
        not_offered=NO_EAP,
    ),
    Row(
        name="v2-radius-wrong",
        exchange=V2,
        auth=Auth.EAP_MSCHAPV2,
        radius=True,
        fault=Fault.PASSWORD,
        roles=US,
        not_offered=NO_EAP,
    ),
    Row(
        name="v2-eap-tls-stranger",
        exchange=V2,
        auth=Auth.EAP_TLS,
        fault=Fault.STRANGER,
        not_offered=EAP_TLS_ONE_SIDED,
    ),
    Row(name="v2-eap-skipped", exchange=V2, fault=Fault.NO_USER, roles=US),
    Row(name="v2-ppk-missing", exchange=V2, fault=Fault.PPK),
)

ROWS = METHODS + EVENTS + REFUSED


def cells(pattern: str = "*") -> list[Cell]:
    """The cells whose name contains `pattern` (with * and ?), column by column."""
    every = [
        Cell(row, peer, role)
        for peer in PEERS
        for role in Role
        for row in ROWS
        if role in row.roles
    ]
    wanted = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
    return [cell for cell in every if fnmatchcase(cell.name, wanted)]
