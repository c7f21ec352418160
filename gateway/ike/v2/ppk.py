"""Post-quantum pre-shared keys (RFC 8784): a secret that is mixed into the keys before AUTH.

The initiator names its PPK beside AUTH and makes AUTH with the mixed keys; unless the PPK is
required it adds what AUTH would be without. The responder says with an empty PPK_IDENTITY that it
knows the PPK. With EAP all this is in the last request and response (section 3).
"""

from dataclasses import replace

from gateway.ike.auth.identity import escape
from gateway.ike.codec import Authentication, Notify, Payload
from gateway.ike.crypto.keymat import IkeKeys
from gateway.ike.crypto.prf import Prf
from gateway.ike.policy import ConnectionPolicy, Ppk
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType, PrfId
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.view import Payloads

PPK_ID_FIXED = 2
"""RFC 8784 section 5.1: the identity alone names the PPK. PPK_ID_OPAQUE (1) is not used."""
TITLE = " with PPK"


def mixed(prf: PrfId, keys: IkeKeys, secret: bytes) -> IkeKeys:
    """SK_d, SK_pi and SK_pr with the PPK in them (section 3)."""
    function = Prf.of(prf)
    return replace(
        keys,
        sk_d=function.plus(secret, keys.sk_d, function.length),
        sk_pi=function.plus(secret, keys.sk_pi, function.length),
        sk_pr=function.plus(secret, keys.sk_pr, function.length),
    )


def announce(connections: tuple[ConnectionPolicy, ...]) -> list[Payload]:
    """USE_PPK of IKE_SA_INIT, where one of the connections knows a PPK."""
    known = any(one.ppk is not None and one.ppk.ppks for one in connections)
    return [Notify(NotifyType.USE_PPK)] if known else []


def problem(connection: ConnectionPolicy, view: Payloads) -> str | None:
    """Initiator: why the IKE_SA_INIT response cannot be used; None if it can."""
    if connection.ppk is None or not connection.ppk.required:
        return None
    if view.notify(NotifyType.USE_PPK) is not None:
        return None
    return "the peer does not use PPKs (RFC 8784), which this connection requires"


def use(sa: IkeSa, ppk: Ppk | None) -> None:
    """Mix a PPK into the keys that IKE_SA_INIT and IKE_INTERMEDIATE made, or take it out again."""
    handshake, suite = sa.handshake, sa.suite
    if handshake is None or handshake.keys is None or suite is None:
        raise ValueError("no handshake")
    plain = handshake.plain_keys or handshake.keys
    handshake.plain_keys = plain
    handshake.keys = plain if ppk is None else mixed(suite.prf, plain, ppk.secret)
    sa.sk_d = handshake.keys.sk_d


# -- initiator ------------------------------------------------------------------------------


def chosen(sa: IkeSa, connection: ConnectionPolicy) -> Ppk | None:
    """The PPK that we use with a responder that knows about them."""
    handshake = sa.handshake
    if handshake is None or not handshake.peer_uses_ppk or connection.ppk is None:
        return None
    return next(iter(connection.ppk.ppks), None)


def identity(ppk: Ppk) -> Notify:
    """PPK_IDENTITY of the request."""
    return Notify(NotifyType.PPK_IDENTITY, bytes((PPK_ID_FIXED,)) + ppk.ppk_id)


def settle(sa: IkeSa, connection: ConnectionPolicy, view: Payloads) -> None:
    """Initiator: the response that holds AUTH says whether the responder used the PPK.

    Raises:
        Refused: it did not, and it must.
    """
    ppk = chosen(sa, connection)
    if ppk is None:
        return
    if view.notify(NotifyType.PPK_IDENTITY) is not None:
        return
    if connection.ppk is not None and connection.ppk.required:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer does not know the PPK {_text(ppk.ppk_id)}, which is required",
            "give both sides the same PPK",
        )
    use(sa, None)


def is_used(sa: IkeSa) -> bool:
    """Whether a PPK is in the keys."""
    handshake = sa.handshake
    return (
        handshake is not None
        and handshake.plain_keys is not None
        and handshake.keys is not handshake.plain_keys
    )


# -- responder ------------------------------------------------------------------------------


def take(
    sa: IkeSa, connection: ConnectionPolicy, view: Payloads
) -> tuple[Authentication | None, list[Payload]]:
    """Responder: use the PPK that the request names, if there is one that we know.

    Returns the AUTH payload that is to be verified, and what the response says about it.

    Raises:
        Refused: AUTHENTICATION_FAILED, if one is required or the peer cannot do without.
    """
    auth = view.get(Authentication)
    handshake, policy = sa.handshake, connection.ppk
    required = policy is not None and policy.required
    named = view.notify(NotifyType.PPK_IDENTITY)
    if named is None or handshake is None or not handshake.peer_uses_ppk:
        if required:
            raise Refused(
                NotifyType.AUTHENTICATION_FAILED,
                f"the peer uses no PPK (RFC 8784), which {connection.name} requires",
                "give the client a PPK, or make it optional here",
            )
        return auth, []
    ppk = _known(connection, named.data)
    if ppk is not None:
        use(sa, ppk)
        return auth, [Notify(NotifyType.PPK_IDENTITY)]
    without = view.notify(NotifyType.NO_PPK_AUTH)
    if required or without is None or not without.data or auth is None:
        known = [_text(one.ppk_id) for one in policy.ppks] if policy is not None else []
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the PPK {_text(named.data[1:])} is not known to {connection.name}",
            "give both sides the same PPK under the same name",
            theirs=_text(named.data[1:]),
            ours=", ".join(known[:8]) or "no PPK",
        )
    return replace(auth, data=without.data), []


def _known(connection: ConnectionPolicy, data: bytes) -> Ppk | None:
    if connection.ppk is None or len(data) < 2 or data[0] != PPK_ID_FIXED:
        return None
    return next((one for one in connection.ppk.ppks if one.ppk_id == data[1:]), None)


def _text(ppk_id: bytes) -> str:
    return escape(ppk_id[:160].decode("utf-8", "backslashreplace"), 80)
