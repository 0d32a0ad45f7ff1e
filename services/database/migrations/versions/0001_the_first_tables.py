"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "foundations",
        sa.Column("workspace_id", sa.String(length=64), nullable=False),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.Column("brand_voice", sa.JSON(), nullable=True),
        sa.Column("messaging_guardrails", sa.JSON(), nullable=True),
        sa.Column("soundbite_library", sa.JSON(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("workspace_id", name=op.f("pk_foundations")),
    )
    op.create_table(
        "icp_profiles",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("workspace_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("attributes", sa.JSON(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_icp_profiles")),
    )
    with op.batch_alter_table("icp_profiles", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_icp_profiles_workspace_id"), ["workspace_id"], unique=False
        )

    op.create_table(
        "organisations",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("plan", sa.String(length=64), nullable=True),
        sa.Column("budget_limit_monthly_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("token_limit_daily", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "budget_limit_monthly_micro_usd >= 0 AND token_limit_daily >= 0",
            name=op.f("ck_organisations_limits"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organisations")),
    )
    op.create_table(
        "usage_batches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_batches")),
    )
    op.create_table(
        "usage_events",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("workspace_id", sa.String(length=64), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("agent", sa.String(length=128), server_default="", nullable=False),
        sa.Column("model", sa.String(length=128), server_default="", nullable=False),
        sa.Column("tokens_input", sa.BigInteger(), nullable=False),
        sa.Column("tokens_output", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("batch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("entry", sa.String(length=48), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_usage_events")),
    )
    with op.batch_alter_table("usage_events", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_usage_events_user_id_date"), ["user_id", "date"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_usage_events_workspace_id_date"), ["workspace_id", "date"], unique=False
        )

    op.create_table(
        "usage_records",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("workspace_id", sa.String(length=64), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("agent", sa.String(length=128), server_default="", nullable=False),
        sa.Column("model", sa.String(length=128), server_default="", nullable=False),
        sa.Column("tokens_input", sa.BigInteger(), nullable=False),
        sa.Column("tokens_output", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "user_id",
            "workspace_id",
            "organisation_id",
            "date",
            "agent",
            "model",
            name=op.f("pk_usage_records"),
        ),
    )
    with op.batch_alter_table("usage_records", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_usage_records_organisation_id_date"),
            ["organisation_id", "date"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_usage_records_workspace_id_date"), ["workspace_id", "date"], unique=False
        )

    op.create_table(
        "users",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("plan", sa.String(length=64), nullable=True),
        sa.Column("budget_limit_monthly_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("token_limit_daily", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "budget_limit_monthly_micro_usd >= 0 AND token_limit_daily >= 0",
            name=op.f("ck_users_limits"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_table(
        "workspaces",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("plan", sa.String(length=64), nullable=True),
        sa.Column("budget_limit_monthly_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("token_limit_daily", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "budget_limit_monthly_micro_usd >= 0 AND token_limit_daily >= 0",
            name=op.f("ck_workspaces_limits"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspaces")),
    )
    with op.batch_alter_table("workspaces", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_workspaces_organisation_id"), ["organisation_id"], unique=False
        )


def downgrade() -> None:
    """Change them back."""
    with op.batch_alter_table("workspaces", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_workspaces_organisation_id"))

    op.drop_table("workspaces")
    op.drop_table("users")
    with op.batch_alter_table("usage_records", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_records_workspace_id_date"))
        batch_op.drop_index(batch_op.f("ix_usage_records_organisation_id_date"))

    op.drop_table("usage_records")
    with op.batch_alter_table("usage_events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_events_workspace_id_date"))
        batch_op.drop_index(batch_op.f("ix_usage_events_user_id_date"))

    op.drop_table("usage_events")
    op.drop_table("usage_batches")
    op.drop_table("organisations")
    with op.batch_alter_table("icp_profiles", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_icp_profiles_workspace_id"))

    op.drop_table("icp_profiles")
    op.drop_table("foundations")
