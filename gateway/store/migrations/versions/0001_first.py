"""All tables, as they were at first."""

import sqlalchemy as sa
from alembic import op

from gateway.store.triggers import AUDIT_V1

revision = "0001"
down_revision = None

_NAME = sa.String(length=63).with_variant(sa.String(length=63, collation="C"), "postgresql")
_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "administrator",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("last_login_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "audit",
        sa.Column("id", _ROW, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=253), nullable=False),
        sa.Column("remote", sa.String(length=45), nullable=False),
        sa.Column("action", sa.String(length=63), nullable=False),
        sa.Column("target", sa.String(length=253), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_action"), "audit", ["action"])
    op.create_index(op.f("ix_audit_actor"), "audit", ["actor"])
    op.create_index(op.f("ix_audit_at"), "audit", ["at"])
    op.create_index(op.f("ix_audit_target"), "audit", ["target"])
    op.create_table(
        "certificate",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("purpose", sa.String(length=15), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=True),
        sa.Column("identity", sa.String(length=253), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("not_after", sa.Float(), nullable=False),
        sa.Column("issued_at", sa.Float(), nullable=False),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.String(length=31), nullable=True),
        sa.PrimaryKeyConstraint("serial"),
    )
    op.create_index(op.f("ix_certificate_device"), "certificate", ["device"])
    op.create_table(
        "history",
        sa.Column("id", _ROW, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("device", sa.String(length=253), nullable=False),
        sa.Column("session", sa.String(length=63), nullable=False),
        sa.Column("what", sa.String(length=31), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("history_of_device", "history", ["device", "id"])
    op.create_index(op.f("ix_history_at"), "history", ["at"])
    op.create_table(
        "idempotency",
        sa.Column("actor", sa.String(length=253), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "key"),
    )
    op.create_index(op.f("ix_idempotency_at"), "idempotency", ["at"])
    op.create_table(
        "link",
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("file_name", sa.String(length=253), nullable=False),
        sa.Column("media_type", sa.String(length=127), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=253), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=True),
        sa.Column("used_from", sa.String(length=45), nullable=True),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index(op.f("ix_link_device"), "link", ["device"])
    op.create_table(
        "nar_lease",
        sa.Column("id", _ROW, autoincrement=True, nullable=False),
        sa.Column("server", sa.String(length=63), nullable=False),
        sa.Column("client", sa.String(length=45), nullable=False),
        sa.Column("client_port", sa.Integer(), nullable=False),
        sa.Column("user", sa.String(length=253), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("remote", sa.String(length=45), nullable=False),
        sa.Column("remote_port", sa.Integer(), nullable=False),
        sa.Column("peer", sa.String(length=45), nullable=False),
        sa.Column("delivery", sa.String(length=31), nullable=False),
        sa.Column("opened_at", sa.Float(), nullable=False),
        sa.Column("closed_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.String(length=253), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_nar_lease_client"), "nar_lease", ["client"])
    op.create_index(op.f("ix_nar_lease_closed_at"), "nar_lease", ["closed_at"])
    op.create_index(op.f("ix_nar_lease_opened_at"), "nar_lease", ["opened_at"])
    op.create_index(op.f("ix_nar_lease_user"), "nar_lease", ["user"])
    op.create_index("nar_lease_held", "nar_lease", ["address", "protocol", "value"])
    op.create_index(
        "nar_lease_open",
        "nar_lease",
        ["address", "protocol", "value"],
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "object",
        sa.Column("kind", _NAME, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name"),
    )
    op.create_index("object_changed", "object", ["kind", "changed_at", "name"])
    op.create_table(
        "session",
        sa.Column("kind", sa.String(length=127), nullable=False),
        sa.Column("key", sa.String(length=253), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("boot", sa.String(length=36), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key"),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=253), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("last_used_from", sa.String(length=45), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
    )
    op.create_table(
        "usage",
        sa.Column("device", sa.String(length=253), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("packets_in", sa.BigInteger(), nullable=False),
        sa.Column("packets_out", sa.BigInteger(), nullable=False),
        sa.Column("connected_s", sa.Float(), nullable=False),
        sa.Column("handovers", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device", "day"),
    )
    op.create_table(
        "web_session",
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("administrator", sa.String(length=63), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("remote", sa.String(length=45), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index(op.f("ix_web_session_administrator"), "web_session", ["administrator"])
    for statement in AUDIT_V1[op.get_bind().dialect.name]:
        op.execute(sa.text(statement))
