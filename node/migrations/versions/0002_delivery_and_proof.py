"""Priorities, the history and the proof of deliveries, archives' health, workers' heartbeats, notices, retention."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from node.ledger_schema import UtcTime

revision = "0002"
down_revision = "0001"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _add_columns()
    _create_delivery_event()
    _create_archive()
    _create_commitment()
    _create_worker_lease_and_spool()
    _create_notice()


def _add_columns() -> None:
    op.add_column("study", sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
    op.add_column("study", sa.Column("proven_at", UtcTime))
    op.add_column("instance", sa.Column("purged_at", UtcTime))
    op.add_column("result", sa.Column("purged_at", UtcTime))
    op.add_column("delivery", sa.Column("listed_at", UtcTime))
    op.add_column("delivery", sa.Column("due_since", UtcTime))
    op.add_column("delivery", sa.Column("arrived_at", UtcTime))
    op.add_column("delivery", sa.Column("prove_not_before", UtcTime))
    op.add_column("delivery", sa.Column("proof_attempts", sa.Integer, nullable=False, server_default="0"))
    op.add_column("delivery", sa.Column("sent_again", sa.Integer, nullable=False, server_default="0"))
    op.add_column("delivery", sa.Column("proven_at", UtcTime))
    op.create_index("delivery_by_proof", "delivery", ["archive", "state", "prove_not_before"])
    op.add_column("study_history", sa.Column("steps", sa.Text, nullable=False, server_default=""))
    op.create_index("delivery_by_archive", "delivery", ["archive", "state", "not_before"])
    delivery = sa.table("delivery", sa.column("due_since", UtcTime))
    # from now on: what waits must not be given up for the days before anybody counted them
    op.execute(delivery.update().values(due_since=datetime.now(UTC)))
    op.execute(sa.text("UPDATE delivery SET arrived_at = changed_at WHERE state = 'delivered'"))


def _create_delivery_event() -> None:
    op.create_table(
        "delivery_event",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("delivery_id", _ROW_ID, sa.ForeignKey("delivery.id"), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
    )
    op.create_index("ix_delivery_event_delivery_id", "delivery_event", ["delivery_id"])


def _create_archive() -> None:
    op.create_table(
        "archive",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("breaker", sa.String(16), nullable=False),
        sa.Column("since", UtcTime, nullable=False),
        sa.Column("down_since", UtcTime),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("probe_at", UtcTime),
        sa.Column("last_answer", sa.Text, nullable=False),
        sa.Column("last_success_at", UtcTime),
        sa.Column("changed_at", UtcTime, nullable=False),
    )


def _create_commitment() -> None:
    op.create_table(
        "commitment",
        sa.Column("transaction_uid", sa.String(64), primary_key=True),
        sa.Column("archive", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("requested_at", UtcTime, nullable=False),
        sa.Column("overdue_at", UtcTime, nullable=False),
        sa.Column("answered_at", UtcTime),
    )
    op.create_index("commitment_by_state", "commitment", ["state", "overdue_at"])
    op.create_table(
        "commitment_item",
        sa.Column("transaction_uid", sa.String(64), sa.ForeignKey("commitment.transaction_uid"), primary_key=True),
        sa.Column("delivery_id", _ROW_ID, sa.ForeignKey("delivery.id"), primary_key=True),
        sa.Column("answer", sa.Text, nullable=False),
    )
    op.create_index("ix_commitment_item_delivery_id", "commitment_item", ["delivery_id"])


def _create_worker_lease_and_spool() -> None:
    op.create_table(
        "worker",
        sa.Column("executor", sa.String(128), primary_key=True),
        sa.Column("started_at", UtcTime, nullable=False),
        sa.Column("beat_at", UtcTime, nullable=False),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("until", UtcTime, nullable=False),
    )
    op.create_table(
        "spool",
        sa.Column("only", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(32), nullable=False),
    )


def _create_notice() -> None:
    op.create_table(
        "notice",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("occasion", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", UtcTime, nullable=False),
        sa.Column("last_status", sa.Text, nullable=False),
        sa.Column("made_at", UtcTime, nullable=False),
        sa.Column("sent_at", UtcTime),
        sa.UniqueConstraint("occasion", "channel", name="notice_once"),
    )
    op.create_index("notice_by_subject", "notice", ["subject", "channel"])
    op.create_index("notice_by_state", "notice", ["state", "not_before"])
