"""The tables. Money is integer micro-USD, times are UTC, days those of the billing time zone.

Limits that are NULL are the application's defaults (``services/budgets``); 0 allows nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = [
    "FOUNDATIONS",
    "ICP_PROFILES",
    "METADATA",
    "ORGANISATIONS",
    "USAGE_BATCHES",
    "USAGE_EVENTS",
    "USAGE_RECORDS",
    "USERS",
    "WORKSPACES",
]

#: Constraints have names, so that migrations can speak of them on every database.
METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = String(64)
#: Of an agent, a model: as long as a name may be in an event.
_NAME = String(128)


def _limits() -> tuple[Column[int], Column[int], CheckConstraint]:
    return (
        Column("budget_limit_monthly_micro_usd", BigInteger),
        Column("token_limit_daily", BigInteger),
        CheckConstraint(
            "budget_limit_monthly_micro_usd >= 0 AND token_limit_daily >= 0", name="limits"
        ),
    )


#: People. ``plan`` chooses the limits of the rate limiter.
USERS = Table(
    "users",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("email", String(320)),
    Column("plan", String(64)),
    *_limits(),
    Column("created_at", DateTime(timezone=True)),
)

WORKSPACES = Table(
    "workspaces",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("organisation_id", _ID, index=True),
    Column("name", String(200)),
    Column("plan", String(64)),
    *_limits(),
    Column("created_at", DateTime(timezone=True)),
)

ORGANISATIONS = Table(
    "organisations",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", String(200)),
    Column("plan", String(64)),
    *_limits(),
    Column("created_at", DateTime(timezone=True)),
)

#: What an agent must know of a workspace before it writes anything; one a workspace.
FOUNDATIONS = Table(
    "foundations",
    METADATA,
    Column("workspace_id", _ID, primary_key=True),
    Column("summary", Text),
    Column("brand_voice", JSON),
    Column("messaging_guardrails", JSON),
    Column("soundbite_library", JSON),
    Column("updated_at", DateTime(timezone=True)),
)

#: Ideal customer profiles of a workspace, in the order of ``position``.
ICP_PROFILES = Table(
    "icp_profiles",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("workspace_id", _ID, nullable=False, index=True),
    Column("position", Integer, nullable=False, server_default="0"),
    Column("name", String(200), nullable=False),
    Column("description", Text),
    Column("attributes", JSON),
    Column("updated_at", DateTime(timezone=True)),
)

#: Everything that was used, once each; ids are the user's own. ``kind`` is ``usage``, or
#: ``correction`` for what was added or (negative) taken away later. ``batch`` is the
#: transaction that inserted it, ``entry`` what it was in Redis (services/usage/writer.py).
USAGE_EVENTS = Table(
    "usage_events",
    METADATA,
    Column("user_id", _ID, primary_key=True),
    Column("id", _ID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("workspace_id", _ID, nullable=False),
    Column("organisation_id", _ID, nullable=False, server_default=""),
    Column("agent", _NAME, nullable=False, server_default=""),
    Column("model", _NAME, nullable=False, server_default=""),
    Column("tokens_input", BigInteger, nullable=False),
    Column("tokens_output", BigInteger, nullable=False),
    Column("cost_micro_usd", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("date", Date, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("batch", BigInteger, nullable=False, server_default="0"),
    Column("entry", String(48), nullable=False, server_default=""),
    Index(None, "user_id", "date"),
    Index(None, "workspace_id", "date"),
)

#: One row: the number of the last transaction that added usage. They commit in its order.
USAGE_BATCHES = Table(
    "usage_batches",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

#: The same, summed by day: each event adds to its row in the transaction that inserts it.
USAGE_RECORDS = Table(
    "usage_records",
    METADATA,
    Column("user_id", _ID, primary_key=True),
    Column("workspace_id", _ID, primary_key=True),
    Column("organisation_id", _ID, primary_key=True, server_default=""),
    Column("date", Date, primary_key=True),
    Column("agent", _NAME, primary_key=True, server_default=""),
    Column("model", _NAME, primary_key=True, server_default=""),
    Column("tokens_input", BigInteger, nullable=False),
    Column("tokens_output", BigInteger, nullable=False),
    Column("cost_micro_usd", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Index(None, "workspace_id", "date"),
    Index(None, "organisation_id", "date"),
)
