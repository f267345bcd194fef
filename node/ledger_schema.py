"""The tables of the ledger. ``migrations/`` makes them; a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

REVISION = "0002"
"""The newest migration, which is the one these tables describe."""

VERSION_TABLE = "ledger_version"
"""Where alembic keeps the revision; a name of our own, for the database may be shared with the job engine."""


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time on every database. SQLite keeps it as text that sorts by time; a naive time is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot enter the ledger")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA = MetaData()
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself only on INTEGER

STUDY = Table(
    "study",
    METADATA,
    Column("id", _ROW_ID, primary_key=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),  # the higher is served first
    Column("instance_count", Integer, nullable=False),
    Column("last_instance_id", _ROW_ID),
    Column("first_received_at", UtcTime, nullable=False),
    Column("last_received_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    Column("changed_at", UtcTime, nullable=False),
    Column("proven_at", UtcTime),  # when the last archive had proved that it holds every result
    UniqueConstraint("study_instance_uid", "generation", name="study_generation_once"),
    Index("study_by_state", "state"),
)

INSTANCE = Table(
    "instance",
    METADATA,
    Column("id", _ROW_ID, primary_key=True),
    Column("role", String(16), nullable=False),  # the Recorded value it was kept as: new, conflict or own_result
    Column("study_instance_uid", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("purged_at", UtcTime),  # when retention took its file away
    UniqueConstraint("sop_instance_uid", "sha256", name="instance_bytes_once"),
    Index(
        "instance_image_once",
        "sop_instance_uid",
        unique=True,
        sqlite_where=text("role = 'new'"),
        postgresql_where=text("role = 'new'"),
    ),
    Index("instance_by_study", "study_instance_uid", "role", "id"),
)

RESULT = Table(
    "result",
    METADATA,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("made_at", UtcTime, nullable=False),
    Column("purged_at", UtcTime),
)

DELIVERY = Table(
    "delivery",
    METADATA,
    Column("id", _ROW_ID, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("archive", String(64), nullable=False),
    Column("sop_instance_uid", ForeignKey("result.sop_instance_uid"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("last_status", Text, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("listed_at", UtcTime),  # none where it was listed before revision 0002
    Column("due_since", UtcTime),  # when it was listed, or last set going again
    Column("arrived_at", UtcTime),
    Column("prove_not_before", UtcTime),  # when proof is asked for, or asked for again
    Column("proof_attempts", Integer, nullable=False, server_default="0"),  # that brought no answer, since it arrived
    Column("sent_again", Integer, nullable=False, server_default="0"),  # because the archive did not hold it after all
    Column("proven_at", UtcTime),
    UniqueConstraint("archive", "sop_instance_uid", name="delivery_once"),
    Index("delivery_by_state", "state", "not_before"),
    Index("delivery_by_proof", "archive", "state", "prove_not_before"),
    Index("delivery_by_archive", "archive", "state", "not_before"),
)

DELIVERY_EVENT = Table(
    "delivery_event",
    METADATA,
    Column("id", _ROW_ID, primary_key=True),
    Column("delivery_id", ForeignKey("delivery.id"), nullable=False, index=True),
    Column("at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),  # the DeliveryState it had from then on
    Column("status", Text, nullable=False),
)

ARCHIVE = Table(
    "archive",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("breaker", String(16), nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("down_since", UtcTime),  # the first failure since it last took something
    Column("failures", Integer, nullable=False),  # in a row
    Column("probe_at", UtcTime),
    Column("last_answer", Text, nullable=False),
    Column("last_success_at", UtcTime),
    Column("changed_at", UtcTime, nullable=False),
)

COMMITMENT = Table(
    "commitment",
    METADATA,
    Column("transaction_uid", String(64), primary_key=True),
    Column("archive", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("requested_at", UtcTime, nullable=False),
    Column("overdue_at", UtcTime, nullable=False),
    Column("answered_at", UtcTime),
    Index("commitment_by_state", "state", "overdue_at"),
)

COMMITMENT_ITEM = Table(
    "commitment_item",
    METADATA,
    Column("transaction_uid", ForeignKey("commitment.transaction_uid"), primary_key=True),
    Column("delivery_id", ForeignKey("delivery.id"), primary_key=True, index=True),
    Column("answer", Text, nullable=False),  # empty until the archive has reported on it
)

WORKER = Table(
    "worker",
    METADATA,
    Column("executor", String(128), primary_key=True),
    Column("started_at", UtcTime, nullable=False),
    Column("beat_at", UtcTime, nullable=False),  # by the database's clock
)

LEASE = Table(
    "lease",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("until", UtcTime, nullable=False),  # by the database's clock
)

SPOOL = Table(
    "spool",
    METADATA,
    Column("only", Integer, primary_key=True),  # always 1: a ledger names the files of one spool
    Column("id", String(32), nullable=False),
)

NOTICE = Table(
    "notice",
    METADATA,
    Column("id", _ROW_ID, primary_key=True),
    Column("occasion", String(200), nullable=False),  # says once what it is about, so that it is told once
    Column("subject", String(128), nullable=False),  # what it speaks of: an archive, a disk, a check of the health
    Column("event", String(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("channel", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("last_status", Text, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime),
    UniqueConstraint("occasion", "channel", name="notice_once"),
    Index("notice_by_subject", "subject", "channel"),
    Index("notice_by_state", "state", "not_before"),
)

HISTORY = Table(
    "study_history",
    METADATA,
    Column("id", _ROW_ID, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("steps", Text, nullable=False, server_default=""),  # JSON: when each step of the attempt ended, in order
)
