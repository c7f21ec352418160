"""What to do about a failure, in one place for the command line, the API and the dashboard.

Engines say it themselves where they know the details; here is what can be said without them.
"""

import re
from typing import Final

_LOGIN: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), remedy)
    for pattern, remedy in (
        (
            r"blocked",
            "unblock the device on its page, or with: gateway set devices NAME blocked=false",
        ),
        (
            r"NO_PROPOSAL_CHOSEN|no proposal|proposals? ",
            (
                "let both sides have one proposal in common: ike_proposals and esp_proposals of the"
                " connection"
            ),
        ),
        (r"TS_UNACCEPTABLE|selector", "let the device ask for networks of local_subnets"),
        (
            r"pool .*(leased|free)|INTERNAL_ADDRESS_FAILURE",
            "make the pool's network larger, or end sessions nobody uses",
        ),
        (r"expired|not yet valid", "renew the certificate, and compare the clocks of both sides"),
        (r"revoked", "give the device a new certificate, if it is still to have access"),
        (
            r"certificate|signature",
            (
                "check that the certificate is signed by a CA of credentials.ca_certificates,"
                " and that key and certificate belong together"
            ),
        ),
        (
            r"RADIUS|server",
            "check that the RADIUS server answers: its log, its address, the shared secret",
        ),
        (
            r"password|MSCHAP|EAP|AUTHENTICATION_FAILED|user ",
            "check name and password of the user: gateway users list",
        ),
        (
            r"identity|no connection",
            "compare the device's identity with remote_id of the connection, letter by letter",
        ),
        (
            r"malformed|INVALID_SYNTAX",
            "update the device's software; if it is a strongSwan or ours, report the fault",
        ),
        (
            r"does not answer|timed out|timeout|retransmission",
            (
                "check that UDP ports 500 and 4500 and IP fragments pass between both sides;"
                " else use TCP (ike.tcp_listen)"
            ),
        ),
        (
            r"limit|too many|flood",
            "wait a minute; if it stays, look for who floods the gateway: gateway ike explain",
        ),
    )
)
OTHERWISE: Final = "look at the device's own log for the same minute, and compare both sides"


def remedy_of_login(step: str, reason: str, known: str = "") -> str:
    """What to do about a failed login; ``known`` is what the engine said."""
    if known:
        return known
    for pattern, remedy in _LOGIN:
        if pattern.search(reason) or pattern.search(step):
            return remedy
    return OTHERWISE


def remedy_of_registration(code: int, known: str = "") -> str:
    """What to do about a denied registration; ``known`` is what the agent said."""
    if known:
        return known
    from gateway.mip_agents.codec.advice import advice  # noqa: PLC0415 - most have no agents

    return advice(code)
