"""Which connection a device is for, and which identity it gets."""

import re
from dataclasses import dataclass

from gateway.config.connection import ConnectionSection
from gateway.config.document import Config
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.provisioning.names import one_line
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.setup import Platform


@dataclass(frozen=True, slots=True)
class Wish:
    """What the administrator asked for."""

    device: str
    platform: Platform
    identity: str | None = None
    connection: str | None = None
    user: str | None = None
    mobile_node: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The connection and identity that a device gets."""

    connection: str
    section: ConnectionSection
    identity: Identity
    pattern: IdentityPattern


def choose(config: Config, wish: Wish) -> Choice:
    """Raises :class:`ProvisioningRefusedError`, which says why no connection fits."""
    if wish.connection is not None:
        section = config.connections.get(wish.connection)
        if section is None:
            choice = ", ".join(list(config.connections)[:10]) or "none is configured"
            why = f'"{one_line(wish.connection)}" is no connection; choose one of: {choice}'
            raise ProvisioningRefusedError("connection", why)
        return _fitting(wish.connection, section, wish)
    why = "there is no connection that devices may come to; add one"
    first: ProvisioningRefusedError | None = None
    for name, section in config.connections.items():
        if section.remote is not None:
            continue
        try:
            return _fitting(name, section, wish)
        except ProvisioningRefusedError as refused:
            first = first or refused
    raise first or ProvisioningRefusedError("connection", why)


def _fitting(name: str, section: ConnectionSection, wish: Wish) -> Choice:
    key = f"connections.{name}"
    if section.remote is not None:
        why = "the gateway opens this one itself; name one that devices come to"
        raise ProvisioningRefusedError("connection", why)
    by_password = section.asks_for_user and section.user_auth[:1] != ("eap-tls",)
    if by_password and wish.user is None and section.remote_auth == "user":
        why = f"{key} logs users in: say which user has the device"
        raise ProvisioningRefusedError("user", why)
    pattern = IdentityPattern.parse(section.remote_id)
    text = wish.identity or _default_identity(section, pattern, wish)
    try:
        identity = Identity.parse(text)
    except ValueError as error:
        raise ProvisioningRefusedError("identity", str(error)) from None
    if not pattern.matches(identity):
        why = f'"{one_line(text)}" is not of the form {pattern} that {key}.remote_id takes'
        raise ProvisioningRefusedError("identity", why)
    if section.user_names is not None and wish.user is not None:
        users = IdentityPattern.parse(section.user_names)
        if not users.matches(_user_identity(wish.user)):
            why = f'"{one_line(wish.user)}" is not of the form {users} that {key}.user_names takes'
            raise ProvisioningRefusedError("user", why)
    return Choice(name, section, identity, pattern)


def _user_identity(user: str) -> Identity:
    try:
        return Identity.parse(user)
    except ValueError:
        return Identity.parse(f"keyid:{user}")


def _default_identity(section: ConnectionSection, pattern: IdentityPattern, wish: Wish) -> str:
    """An identity of the device's own that the connection takes."""
    alone = section.remote_auth == "user"
    if alone and wish.user is not None and pattern.matches(_user_identity(wish.user)):
        return wish.user
    if wish.platform is Platform.WINDOWS and section.remote_auth == "certificate":
        subject = f"CN={wish.device}"
        if pattern.matches(Identity.parse(subject)):
            return subject
    if pattern.exact is None:
        lead, rest = pattern.text[:2], pattern.text[2:]
        if lead == "*@":
            return f"{wish.device}@{rest}"
        return f"{wish.device}.{rest}" if lead == "*." else wish.device
    if "*" in pattern.text:
        return re.sub(r"\bCN=\*", f"CN={wish.device}", pattern.text, flags=re.IGNORECASE)
    return pattern.text
