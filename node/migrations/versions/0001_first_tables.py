"""The first tables: studies, what was received, what was made, where it goes, what happened."""

import sqlalchemy as sa
from alembic import op

from node.ledger_schema import UtcTime

revision = "0001"
down_revision = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _create_study()
    _create_instance()
    _create_result_and_delivery()
    _create_history()


def _create_study() -> None:
    op.create_table(
        "study",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("instance_count", sa.Integer, nullable=False),
        sa.Column("last_instance_id", _ROW_ID),
        sa.Column("first_received_at", UtcTime, nullable=False),
        sa.Column("last_received_at", UtcTime, nullable=False),
        sa.Column("closed_at", UtcTime),
        sa.Column("changed_at", UtcTime, nullable=False),
        sa.UniqueConstraint("study_instance_uid", "generation", name="study_generation_once"),
    )
    op.create_index("study_by_state", "study", ["state"])


def _create_instance() -> None:
    op.create_table(
        "instance",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_at", UtcTime, nullable=False),
        sa.UniqueConstraint("sop_instance_uid", "sha256", name="instance_bytes_once"),
    )
    images_only = sa.text("role = 'new'")
    op.create_index(
        "instance_image_once",
        "instance",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=images_only,
        postgresql_where=images_only,
    )
    op.create_index("instance_by_study", "instance", ["study_instance_uid", "role", "id"])


def _create_result_and_delivery() -> None:
    op.create_table(
        "result",
        sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
        sa.Column("study_id", _ROW_ID, sa.ForeignKey("study.id"), nullable=False, index=True),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("made_at", UtcTime, nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("study_id", _ROW_ID, sa.ForeignKey("study.id"), nullable=False, index=True),
        sa.Column("archive", sa.String(64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), sa.ForeignKey("result.sop_instance_uid"), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", UtcTime, nullable=False),
        sa.Column("last_status", sa.Text, nullable=False),
        sa.Column("changed_at", UtcTime, nullable=False),
        sa.UniqueConstraint("archive", "sop_instance_uid", name="delivery_once"),
    )
    op.create_index("delivery_by_state", "delivery", ["state", "not_before"])


def _create_history() -> None:
    op.create_table(
        "study_history",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("study_id", _ROW_ID, sa.ForeignKey("study.id"), nullable=False, index=True),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
