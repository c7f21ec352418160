"""The tables of what administrators do: the store, and devices."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, SecretStr

from gateway.config.fields import (
    FilePath,
    Flag,
    IdentityText,
    Name,
    Number,
    Secret,
    Section,
    UserName,
    refused,
    text_of,
)
from gateway.config.remote_access import Bandwidth

MAX_NOTE_CHARACTERS = 1000
Platform = Literal[
    "gateway-mn", "strongswan", "android", "apple", "windows", "networkmanager", "other"
]


def _store_url(value: object) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    text = text_of(value, '"postgresql://gateway@db.example.com/gateway"')
    scheme = text.partition("://")[0]
    if scheme == "sqlite":
        if not text.removeprefix("sqlite://").startswith("/") or len(text) <= len("sqlite:///"):
            raise refused(
                'names no file; give one such as "sqlite:////var/lib/gateway/gateway.sqlite"'
            )
    elif scheme not in ("postgresql", "postgresql+psycopg") or "://" not in text:
        raise refused('begins with neither "sqlite:///" nor "postgresql://"; give one of them')
    return SecretStr(text)


def _note(value: object) -> str:
    text = text_of(value, '"lent to Ann"')
    if len(text) > MAX_NOTE_CHARACTERS:
        raise refused(f"too long; give at most {MAX_NOTE_CHARACTERS} characters")
    if not all(c.isprintable() or c == "\n" for c in text):
        raise refused("has control characters; remove them")
    return text


StoreUrl = Annotated[SecretStr, PlainValidator(_store_url, json_schema_input_type=str)]
NoteText = Annotated[str, PlainValidator(_note, json_schema_input_type=str)]


class StoreSection(Section):
    """``[store]``: where everything is kept that outlives the process."""

    url: StoreUrl | None = None
    """Of the database; without it, the SQLite file ``gateway.sqlite`` in ``state_dir``."""
    key_file: FilePath | None = None
    """Seals the secrets in the database; without it, ``store.key`` in ``state_dir``."""
    state_dir: FilePath = Path("/var/lib/gateway")
    history_days: Number = Field(default=90.0, ge=1, le=3660)
    """How long it is remembered what happened to devices, and their traffic."""
    audit_days: Number = Field(default=365.0, ge=1, le=3660)
    """How long it is remembered what administrators did."""


class UserSection(Section):
    """A user of the store. Without a table in the file, whose users have a file of their own."""

    groups: tuple[UserName, ...] = Field(default=(), max_length=64)
    enabled: Flag = True
    password: Secret | None = None
    """Only its hash is kept."""
    mschapv2: Flag | None = None
    """Keep an NT hash for EAP-MSCHAPv2, too; without it, if a connection asks for that."""


class DeviceSection(Section):
    """``[devices.NAME]``: what is known of a device that logs in."""

    identity: IdentityText
    """The IKE identity that it proves; no two devices have the same."""
    connection: Name | None = None
    """The connection that it was set up for."""
    user: UserName | None = None
    """Who has it."""
    platform: Platform = "other"
    note: NoteText = ""
    blocked: Flag = False
    """Its logins are refused."""
    bandwidth_up_kbit_s: Bandwidth | None = None
    bandwidth_down_kbit_s: Bandwidth | None = None
    """These two replace what its profile or connection says."""
    mobile_node: Name | None = None
    """The ``[mobile_nodes.NAME]`` that it is in Mobile IPv4."""
