"""Who had which inner address when."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """From before there was remote access by address."""
    op.create_table(
        "lease_history",
        sa.Column("id", _ROW, autoincrement=True, nullable=False),
        sa.Column("pool", sa.String(length=63), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("identity", sa.String(length=256), nullable=False),
        sa.Column("user", sa.String(length=253), nullable=False),
        sa.Column("session", sa.String(length=63), nullable=False),
        sa.Column("connection", sa.String(length=63), nullable=False),
        sa.Column("opened_at", sa.Float(), nullable=False),
        sa.Column("closed_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_lease_history_identity"), "lease_history", ["identity"])
    op.create_index(op.f("ix_lease_history_opened_at"), "lease_history", ["opened_at"])
    op.create_index(op.f("ix_lease_history_closed_at"), "lease_history", ["closed_at"])
    op.create_index("lease_history_of_address", "lease_history", ["address", "id"])
    op.create_index(
        "lease_history_open",
        "lease_history",
        ["session", "address"],
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
