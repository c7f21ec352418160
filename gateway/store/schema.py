"""The tables. SQLite and PostgreSQL have the same.

Times are seconds since the epoch, UTC. What is secret is sealed (:mod:`gateway.store.sealing`);
what is only compared is stored as a SHA-256 hash. ``migrations/`` makes these tables; a test
demands that both agree.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()

_ROW = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts rows up only in a column of this very type."""

_NAME = String(63).with_variant(String(63, collation="C"), "postgresql")
"""Sorted octet by octet, as SQLite and Python do, whatever the server's language."""

OBJECTS = Table(
    "object",
    METADATA,
    Column("kind", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", JSON, nullable=False),
    Column("secrets", LargeBinary),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
)
"""Configured objects: ``document`` as in gateway.toml, its secrets sealed apart from it."""
Index("object_changed", OBJECTS.c.kind, OBJECTS.c.changed_at, OBJECTS.c.name)

TOKENS = Table(
    "token",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("role", String(16), nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(253), nullable=False),
    Column("expires_at", Float),
    Column("last_used_at", Float),
    Column("last_used_from", String(45)),
)
"""Bearer tokens of the REST interface."""

ADMINISTRATORS = Table(
    "administrator",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("last_login_at", Float),
)
"""Who logs in to the dashboard; ``password`` is a scrypt hash."""

WEB_SESSIONS = Table(
    "web_session",
    METADATA,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("administrator", String(63), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("remote", String(45), nullable=False),
)
"""Logins of the dashboard that are open."""

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False, index=True),
    Column("actor", String(253), nullable=False, index=True),
    Column("remote", String(45), nullable=False),
    Column("action", String(63), nullable=False, index=True),
    Column("target", String(253), nullable=False, index=True),
    Column("outcome", String(16), nullable=False),
    Column("before", JSON),
    Column("after", JSON),
    Column("detail", Text),
    sqlite_autoincrement=True,
)
"""Append-only: who did what to what. ``outcome`` is done, refused or failed. No secrets."""

IDEMPOTENCY = Table(
    "idempotency",
    METADATA,
    Column("actor", String(253), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("at", Float, nullable=False, index=True),
)
"""Answers to requests with an idempotency key; sealed, for they may hold a new token."""

SESSIONS = Table(
    "session",
    METADATA,
    Column("kind", String(127), primary_key=True),
    Column("key", String(253), primary_key=True),
    Column("record", LargeBinary, nullable=False),
    Column("boot", String(36), nullable=False),
    Column("changed_at", Float, nullable=False),
)
"""Sealed records of what a restart takes over: IKE SAs, bindings, visitors, NAR sessions; ``boot``
is the boot id of the machine when it was written."""

NAR_AUDIT = Table(
    "nar_lease",
    METADATA,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("server", String(63), nullable=False),
    Column("client", String(45), nullable=False, index=True),
    Column("client_port", Integer, nullable=False),
    Column("user", String(253), nullable=False, index=True),
    Column("protocol", Integer, nullable=False),
    Column("address", String(45), nullable=False),
    Column("value", BigInteger, nullable=False),
    Column("remote", String(45), nullable=False),
    Column("remote_port", Integer, nullable=False),
    Column("peer", String(45), nullable=False),
    Column("delivery", String(31), nullable=False),
    Column("opened_at", Float, nullable=False, index=True),
    Column("closed_at", Float, index=True),
    Column("reason", String(253), nullable=False),
    sqlite_autoincrement=True,
)
"""Who held which part of an address when (document 004). ``remote`` and ``peer`` are empty, and
``remote_port`` is -1, where any will do."""
Index("nar_lease_held", NAR_AUDIT.c.address, NAR_AUDIT.c.protocol, NAR_AUDIT.c.value)
Index(
    "nar_lease_open",
    NAR_AUDIT.c.address,
    NAR_AUDIT.c.protocol,
    NAR_AUDIT.c.value,
    sqlite_where=NAR_AUDIT.c.closed_at.is_(None),
    postgresql_where=NAR_AUDIT.c.closed_at.is_(None),
)

LEASE_HISTORY = Table(
    "lease_history",
    METADATA,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("pool", String(63), nullable=False),
    Column("address", String(45), nullable=False),
    Column("identity", String(256), nullable=False, index=True),
    Column("user", String(253), nullable=False),
    Column("session", String(63), nullable=False),
    Column("connection", String(63), nullable=False),
    Column("opened_at", Float, nullable=False, index=True),
    Column("closed_at", Float, index=True),
    Column("reason", String(63), nullable=False),
    sqlite_autoincrement=True,
)
"""Which session had which inner address when; ``pool`` is empty where another server gave it."""
Index("lease_history_of_address", LEASE_HISTORY.c.address, LEASE_HISTORY.c.id)
Index(
    "lease_history_open",
    LEASE_HISTORY.c.session,
    LEASE_HISTORY.c.address,
    sqlite_where=LEASE_HISTORY.c.closed_at.is_(None),
    postgresql_where=LEASE_HISTORY.c.closed_at.is_(None),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("device", String(253), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("packets_in", BigInteger, nullable=False),
    Column("packets_out", BigInteger, nullable=False),
    Column("connected_s", Float, nullable=False),
    Column("handovers", Integer, nullable=False),
)
"""Traffic of a device (its identity) and day (days since the epoch, UTC)."""

HISTORY = Table(
    "history",
    METADATA,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False, index=True),
    Column("device", String(253), nullable=False),
    Column("session", String(63), nullable=False),
    Column("what", String(31), nullable=False),
    Column("text", Text, nullable=False),
    Column("fields", JSON, nullable=False),
    sqlite_autoincrement=True,
)
"""What happened to a device: connected, moved, failed, disconnected; the oldest go first."""
Index("history_of_device", HISTORY.c.device, HISTORY.c.id)

CERTIFICATES = Table(
    "certificate",
    METADATA,
    Column("serial", String(40), primary_key=True),
    Column("purpose", String(15), nullable=False),
    Column("device", String(63), index=True),
    Column("identity", String(253), nullable=False),
    Column("pem", Text, nullable=False),
    Column("key", LargeBinary),
    Column("not_before", Float, nullable=False),
    Column("not_after", Float, nullable=False),
    Column("issued_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("reason", String(31)),
)
"""Certificates of the built-in CA. ``purpose`` is ca, gateway or device; the key of a CA and of the
gateway is sealed here, a device's key is never kept."""

LINKS = Table(
    "link",
    METADATA,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("device", String(63), nullable=False, index=True),
    Column("file_name", String(253), nullable=False),
    Column("media_type", String(127), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(253), nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float),
    Column("used_from", String(45)),
)
"""Bundles that wait for their one download, sealed; ``content`` is emptied when it was taken."""

SETTINGS = Table(
    "setting",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("value", JSON, nullable=False),
)
"""What the gateway itself remembers: the first-run code's hash, the serial of the last CRL."""
