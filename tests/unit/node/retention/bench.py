"""A node's spool and ledger with studies in them, and a clock in days, for tests of what is deleted."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

from node.ledger import Ledger
from node.ledger_retention import GONE
from node.records import ReceivedInstance, Recorded, ResultObject
from node.retention import Keeper
from node.settings import Settings
from node.spool import Spool
from tests.unit.node.received_instances import NOON

STUDY, OTHER = "1.2.3", "1.2.4"


class Bench:
    """A spool, a ledger and a clock in days after noon."""

    def __init__(self, folder: Path, ledger: Ledger, **retention: object) -> None:
        self.ledger = ledger
        self.spool = Spool(folder / "spool", minimum_free_bytes=0)
        self.day = 0.0
        archives = [
            {"name": "pacs", "ae_title": "A", "host": "127.0.0.1", "port": 104},
            {"name": "viewer", "ae_title": "B", "host": "127.0.0.1", "port": 105, "proof": "none"},
        ]
        self.settings = Settings.model_validate({"archives": archives, "retention": retention})
        self.keeper = self.new_keeper()

    def new_keeper(self) -> Keeper:
        """As after a start of the dispatcher."""
        return Keeper(self.settings, self.ledger, self.spool, lambda: self.now)

    @property
    def now(self) -> datetime:
        return NOON + timedelta(days=self.day)

    def look_on_day(self, day: float) -> None:
        self.day = day
        self.keeper.look()

    def receive(self, *numbers: int, study: str = STUDY, content: str = "") -> list[Recorded]:
        kept = []
        for number in numbers:
            file = self.spool.store_received([f"{study} {number} {content}".encode()])
            instance = ReceivedInstance(
                study_instance_uid=study,
                series_instance_uid=f"{study}.1",
                sop_instance_uid=f"{study}.1.{number}",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                modality="MR",
                calling_ae_title="MODALITY",
                path=file.path,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                received_at=self.now,
            )
            kept.append(self.ledger.record_instance(instance))
            if kept[-1] is Recorded.SAME_AGAIN:
                self.spool.remove(file.path)
        return kept

    def take(self, study: str = STUDY) -> int:
        """The study that receives is closed and in the worker's hands."""
        (number,) = [item.study_id for item in self.ledger.open_studies() if item.study_instance_uid == study]
        self.ledger.close_study(number, last_received_at=self.now, reason="quiet", now=self.now)
        assert self.ledger.take_study(number, maximum_attempts=9, now=self.now) is not None
        return number

    def grade(self, study: str = STUDY, archives: tuple[str, ...] = ("pacs",)) -> int:
        number = self.take(study)
        results = [self.result(f"{number}.{kind}") for kind in ("report", "capture")]
        uids = [result.sop_instance_uid for result in results]
        self.ledger.finish_graded(
            number, results=results, archives=dict.fromkeys(archives, uids), reason="graded", now=self.now
        )
        return number

    def result(self, name: str) -> ResultObject:
        stored = self.spool.store_result(name.encode())
        uid = f"2.25.{int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)}"
        return ResultObject(
            sop_instance_uid=uid, sop_class_uid="1.2", kind="text_report", path=stored.path, sha256=stored.sha256
        )

    def deliver(self) -> None:
        for delivery in self.ledger.due_deliveries(self.now, limit=99):
            self.ledger.delivery_delivered(delivery.delivery_id, status="0x0000 success", now=self.now)

    def prove(self) -> None:
        numbers = [item.delivery_id for item in self.ledger.proofs.due("pacs", self.now, limit=99)]
        self.ledger.proofs.found(numbers, how="C-FIND", now=self.now)

    def proven_study(self, *numbers: int, study: str = STUDY) -> int:
        self.receive(*(numbers or (1, 2)), study=study)
        study_id = self.grade(study)
        self.deliver()
        self.prove()
        return study_id

    @property
    def images(self) -> int:
        """Files of them."""
        return len(list((self.spool.absolute(Path("received"))).glob("??/*.dcm")))

    @property
    def results(self) -> int:
        return len(list((self.spool.absolute(Path("results"))).glob("??/*.dcm")))

    def assert_rows_and_files_agree(self) -> None:
        """Every file that a row claims is there, and every file that is there is claimed."""
        claimed = {Path(path) for path in claims(self.ledger)}
        there = {path.relative_to(self.spool.absolute(Path())) for path in self.spool.absolute(Path()).rglob("*.dcm")}
        assert claimed == there


def claims(ledger: Ledger) -> list[str]:
    from sqlalchemy import select

    from node.ledger_schema import INSTANCE, RESULT

    def paths(connection):  # type: ignore[no-untyped-def]
        rows = [*connection.execute(select(INSTANCE.c.path)), *connection.execute(select(RESULT.c.path))]
        return [path for (path,) in rows if path != GONE]

    return ledger._database.read(paths)
