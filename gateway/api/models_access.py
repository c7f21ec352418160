"""What the API answers on logins, tokens, administrators, the setup and the audit."""

from typing import Any

from pydantic import Field

from gateway.api.models import Answer


class Session(Answer):
    """Who asks."""

    actor: str = Field(description="As the audit names them.", examples=["admin ann"])
    administrator: str | None = Field(description="Who logged in; null with a bearer token.")
    role: str = Field(description="admin, operator or read-only.")
    expires_at: str | None = Field(description="When the login ends if it is not used.")
    csrf: str | None = Field(
        default=None, description="To be sent as X-CSRF-Token with every change by a browser."
    )


class SetupState(Answer):
    """Whether the gateway waits for its first setup."""

    needed: bool


class Token(Answer):
    """A bearer token, without what it is."""

    id: str
    name: str
    role: str
    created_at: str
    created_by: str
    expires_at: str | None
    expired: bool
    last_used_at: str | None
    last_used_from: str | None


class MadeToken(Token):
    """A token that was just made."""

    token: str = Field(description="The token itself; it is never shown again.")


class TokenPage(Answer):
    """A page of tokens."""

    items: list[Token]
    next: str | None
    total: int


class Administrator(Answer):
    """Somebody who can log in."""

    name: str
    role: str
    version: int
    created_at: str
    changed_at: str
    last_login_at: str | None


class AdministratorPage(Answer):
    """A page of administrators."""

    items: list[Administrator]
    next: str | None
    total: int


class Removed(Answer):
    """What was removed."""

    deleted: str


class AuditEntry(Answer):
    """Something that somebody did."""

    id: str
    at: str
    actor: str
    remote: str = Field(description="The address that it came from, or `local`.")
    action: str = Field(description="Name of the operation.")
    target: str
    outcome: str = Field(description="done, refused or failed.")
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    detail: str | None


class AuditPage(Answer):
    """A page of the audit."""

    items: list[AuditEntry]
    next: str | None
    total: int
