"""From settings and history to what is rendered: forms, predecessors, the secret behind Tracking UIDs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from threading import Barrier

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from node import rendition
from node.records import ResultObject, StudyRecord, StudyState
from node.settings import ResultSettings, Settings
from node.spool import Spool
from sr_templates.render import CaptureForm, OutputKind, Run, SrClass
from tests.unit.node.graded_studies import study_record

SR = "1.2.840.10008.5.1.4.1.1.88.34"


def study(study_id: int) -> StudyRecord:
    return study_record(study_id, generation=2, state=StudyState.GRADING)


def kept(spool: Spool, uid: str, kind: str, made_at: str = "20260301 123300") -> ResultObject:
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID, item.SeriesInstanceUID = SR, uid, f"{uid}.9"
    item.ContentDate, item.ContentTime = made_at.split(" ")
    item.ensure_file_meta()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    encoded = BytesIO()
    item.save_as(encoded, enforce_file_format=True)
    stored = spool.store_result(encoded.getvalue())
    return ResultObject(sop_instance_uid=uid, sop_class_uid=SR, kind=kind, path=stored.path, sha256=stored.sha256)


def test_the_newest_earlier_generation_s_documents_are_the_predecessors(tmp_path: Path) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=0)
    earlier = [
        (1, kept(spool, "2.25.11", "measurement_report")),
        (2, kept(spool, "2.25.21", "measurement_report")),
        (2, kept(spool, "2.25.22", "text_report")),
        (2, kept(spool, "2.25.23", "secondary_capture")),
        (3, kept(spool, "2.25.31", "measurement_report")),
    ]
    found = rendition.predecessors(earlier, study(3), spool)
    assert [(item.sop_instance_uid, item.series_instance_uid) for item in found] == [
        ("2.25.21", "2.25.21.9"),
        ("2.25.22", "2.25.22.9"),
    ]


def test_a_predecessor_whose_file_is_gone_is_passed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=0)
    result = kept(spool, "2.25.11", "measurement_report")
    spool.absolute(result.path).unlink()
    assert rendition.predecessors([(1, result)], study(2), spool) == ()


def test_a_first_generation_has_none(tmp_path: Path) -> None:
    assert rendition.predecessors([], study(1), Spool(tmp_path, minimum_free_bytes=0)) == ()


def test_every_sop_class_is_made_and_single_frames_stand_behind_multi_frame() -> None:
    made = rendition.wanted(ResultSettings.model_validate({"capture_form": "multi_frame", "language": "de"}))
    assert made.kinds == {OutputKind.MEASUREMENT_REPORT, OutputKind.TEXT_REPORT, OutputKind.SECONDARY_CAPTURE}
    assert set(made.sr_classes) == set(SrClass)
    assert made.capture_forms == (CaptureForm.MULTI_FRAME, CaptureForm.SINGLE_FRAME)
    assert made.language == "de"


def test_workers_that_start_at_once_agree_on_the_tracking_key(tmp_path: Path) -> None:
    settings = Settings.model_validate({"node": {"data_dir": tmp_path}})
    together = Barrier(8)

    def one(_: int) -> str:
        together.wait()
        return rendition.tracking_key(settings)

    with ThreadPoolExecutor(8) as workers:
        assert len(set(workers.map(one, range(8)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == [rendition.KEY_FILE]


def test_the_tracking_key_is_made_once_and_only_for_the_node_s_eyes(tmp_path: Path) -> None:
    settings = Settings.model_validate({"node": {"data_dir": tmp_path}})
    first = rendition.tracking_key(settings)
    assert len(first) == 64
    assert rendition.tracking_key(settings) == first
    assert (tmp_path / "tracking.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_was_cut_off_while_it_was_written_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "tracking.new").write_text("half", encoding="ascii")
    settings = Settings.model_validate({"node": {"data_dir": tmp_path}})
    assert len(rendition.tracking_key(settings)) == 64


def test_the_settings_key_wins_so_that_nodes_can_share_one(tmp_path: Path) -> None:
    settings = Settings.model_validate({"node": {"data_dir": tmp_path}, "results": {"tracking_key": "shared"}})
    assert rendition.tracking_key(settings) == "shared"
    assert not list(tmp_path.iterdir())


def run(spool: Spool, *earlier: tuple[int, ResultObject]) -> Run:
    return rendition.run_of(study(9), ResultSettings(), earlier, spool, tracking_key="k")


def test_an_attempt_again_is_the_same_run(tmp_path: Path) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=0)
    earlier = (1, kept(spool, "2.25.11", "text_report"))
    assert run(spool, earlier) == run(spool, earlier)


def test_a_first_result_replaces_nothing(tmp_path: Path) -> None:
    first = run(Spool(tmp_path, minimum_free_bytes=0))
    assert (first.number, first.replaces_earlier, first.replaced_at) == (1, False, None)


def test_a_later_result_knows_its_number_and_when_the_one_before_it_was_made(tmp_path: Path) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=0)
    third = run(
        spool,
        (1, kept(spool, "2.25.11", "secondary_capture", "20260301 080000")),
        (4, kept(spool, "2.25.41", "measurement_report", "20260301 123307.5")),
        (4, kept(spool, "2.25.42", "text_report", "20260301 123307.5")),
        (5, kept(spool, "2.25.51", "declined_report", "20260301 150000")),
        (9, kept(spool, "2.25.91", "declined_report", "20260301 160000")),
    )
    assert third.number == 3
    assert third.replaced_at == datetime(2026, 3, 1, 12, 33, 7, tzinfo=UTC)


@pytest.mark.parametrize("said", [" ", "20260301 "])
def test_a_result_that_does_not_say_when_it_was_made_is_replaced_all_the_same(tmp_path: Path, said: str) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=0)
    second = run(spool, (1, kept(spool, "2.25.11", "text_report", said)))
    assert (second.number, second.replaced_at) == (2, None)


def test_a_result_whose_file_is_gone_is_replaced_all_the_same(tmp_path: Path) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=0)
    result = kept(spool, "2.25.11", "text_report")
    spool.absolute(result.path).unlink()
    assert (run(spool, (1, result)).number, run(spool, (1, result)).replaced_at) == (2, None)


def test_the_time_of_a_result_is_read_in_its_own_zone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=0)
    result = kept(spool, "2.25.11", "text_report")
    path = spool.absolute(result.path)
    item = pydicom.dcmread(path)
    item.TimezoneOffsetFromUTC = "-0500"
    path.chmod(0o600)
    item.save_as(path)
    assert run(spool, (1, result)).replaced_at == datetime(2026, 3, 1, 17, 33, tzinfo=UTC)


@pytest.mark.parametrize("name", list(OutputKind))
def test_every_kind_but_the_declined_report_can_be_asked_for(name: OutputKind) -> None:
    if name is OutputKind.DECLINED_REPORT:
        with pytest.raises(ValueError, match="outputs"):
            ResultSettings.model_validate({"outputs": [name.value]})
    else:
        assert rendition.wanted(ResultSettings.model_validate({"outputs": [name.value]})).kinds == {name}
