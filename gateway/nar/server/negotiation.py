"""Methods and logins (RFC 1928 section 3, RFC 1929): who is at the other end."""

from gateway.domain.event import Severity
from gateway.domain.user_auth import Accepted, Answer, Asker, PasswordQuestion, Rejected
from gateway.nar.codec.negotiation import MethodChoice, PasswordStatus, choose
from gateway.nar.codec.numbers import Method
from gateway.nar.outputs import AskPassword
from gateway.nar.server.authorization import find_rule
from gateway.nar.server.connections import Connection, Step
from gateway.nar.server.core import Core
from gateway.nar.server.targets import within

_WRONG = 1
"""STATUS of a login that failed; the RFC knows no reasons."""


def read_offer(core: Core, connection: Connection) -> bool:
    """Choose a method; False while its offer is not complete. Raises WireError."""
    offer = None if connection.stream is None else connection.stream.method_offer()
    if offer is None:
        return False
    choice = choose(offer, _acceptable(core, connection))
    core.send(connection, choice.to_octets())
    if choice.method == Method.PASSWORD:
        connection.advance(Step.LOGIN_NEEDED)
    elif choice.method == Method.NONE:
        connection.advance(Step.NO_LOGIN_NEEDED)
        _let_in(core, connection, "", ())
    else:
        _explain(core, connection, offer.methods, choice)
        core.close(connection)
    return True


def _acceptable(core: Core, connection: Connection) -> tuple[Method, ...]:
    """Methods for this client. Who offers a login has one, and may get more by it."""
    methods = []
    policy = core.policy
    if policy.backend is not None and (connection.tls or not policy.require_tls):
        methods.append(Method.PASSWORD)
    if within(connection.client.address, policy.trusted):
        methods.append(Method.NONE)
    return tuple(methods)


def _explain(core: Core, connection: Connection, offered: bytes, _: MethodChoice) -> None:
    policy = core.policy
    if policy.backend is None:
        why = "there are no logins here, and it is in no trusted network"
    elif policy.require_tls and not connection.tls:
        why = "logins are taken over TLS only"
    else:
        why = "it has to log in with user name and password"
    numbers = ", ".join(map(str, sorted(set(offered))[:8]))
    core.hint(
        "nar_login_refused",
        f"{connection} offers methods {numbers}: {why}",
        client=str(connection.client.address),
        reason=why,
    )


def read_password(core: Core, connection: Connection) -> bool:
    """Ask whether the login is right; False while it is not complete. Raises WireError."""
    request = None if connection.stream is None else connection.stream.password()
    if request is None:
        return False
    policy = core.policy
    asker = Asker(
        policy.name, connection.local, connection.client, f"{policy.name}-{connection.number}"
    )
    question = PasswordQuestion(policy.backend or "", request.user, request.password, asker)
    core.outputs.append(AskPassword(core.ask(connection), question))
    return True


def user_answered(core: Core, connection: Connection, answer: Answer) -> None:
    """Let the user in, or close the connection (RFC 1929 section 2)."""
    if isinstance(answer, Accepted) and connection.advance(Step.LOGGED_IN):
        core.send(connection, PasswordStatus(0).to_octets())
        if answer.session_timeout_s is not None:
            connection.until = core.now + answer.session_timeout_s
        _let_in(core, connection, answer.user, answer.groups)
        return
    known = isinstance(answer, Rejected)
    reason = getattr(answer, "reason", "the backend wants more than a password")
    core.send(connection, PasswordStatus(_WRONG).to_octets())
    core.hint(
        "nar_login_failed" if known else "nar_login_unavailable",
        f"{connection} could not log in: {reason}",
        Severity.WARNING,
        client=str(connection.client.address),
        reason=reason,
    )
    core.close(connection)


def _let_in(core: Core, connection: Connection, user: str, groups: tuple[str, ...]) -> None:
    owner = core.sessions.owner(user, connection.xa)
    owner.connections += 1
    connection.owner = owner
    connection.groups = groups
    connection.xa = owner.client
    connection.rule = find_rule(core.policy, user, groups, connection.client.address)
    rule = "fits no rule" if connection.rule is None else f"rule {connection.rule.name}"
    core.tell(
        "nar_client",
        f"{connection} is let in, {rule}",
        Severity.DEBUG,
        client=str(connection.client.address),
        user=user,
        rule=None if connection.rule is None else connection.rule.name,
        tls=connection.tls,
    )
