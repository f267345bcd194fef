"""Selection: the sagittal T2 lumbar series is found by its physics, and every other one is told why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, SecondaryCaptureImageStorage

from inference.selection import Choice, choose
from tests.dicom_factories import AXIAL, CORONAL, SAGITTAL, T1_TIMES, enhanced, mr_series, poison, uid


def t2(**changes: Any) -> list[Dataset]:
    """A usual sagittal T2 lumbar series: 15 slices, 400 x 300 pixels of 0.8 mm."""
    return mr_series(**{"series": "T2", **changes})


def reason_for(choice: Choice, series: str) -> str:
    return next(item.reason for item in choice.rejected if item.series_instance_uid == uid("study", series))


def taken(*series: list[Dataset]) -> str | None:
    return choose([image for images in series for image in images]).series_instance_uid


class TestOneSeries:
    def test_a_sagittal_t2_series_is_taken_and_described(self) -> None:
        choice = choose(t2())
        assert choice.reason is None
        assert len(choice.instances) == 15
        assert choice.why == (
            "sagittal, T2-weighted (TE 102 ms, TR 3800 ms), 15 slices, 320 mm along the body, pixels of 0.80 mm"
        )
        assert choice.notes == ()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            (T1_TIMES, "T1-weighted (TE 11 ms, TR 560 ms)"),
            ({"EchoTime": "25", "RepetitionTime": "3000"}, "proton-density-weighted (TE 25 ms, TR 3000 ms)"),
            (
                {"EchoTime": "52", "RepetitionTime": "4200", "InversionTime": "160"},
                "STIR (TE 52 ms, TR 4200 ms, TI 160 ms)",
            ),
            (
                {"EchoTime": "70", "RepetitionTime": "4200", "ScanningSequence": ["SE", "IR"]},
                "STIR (TE 70 ms, TR 4200 ms)",
            ),
            (
                {"EchoTime": "110", "RepetitionTime": "9000", "InversionTime": "2500"},
                "fluid-attenuated (TE 110 ms, TR 9000 ms, TI 2500 ms)",
            ),
            (
                {"EchoTime": "9", "RepetitionTime": "2000", "InversionTime": "860"},
                "T1-weighted (TE 9 ms, TR 2000 ms, TI 860 ms)",
            ),
            (
                {"EchoTime": "900", "RepetitionTime": "8000"},
                "so heavily T2-weighted that only fluid shows (TE 900 ms, TR 8000 ms)",
            ),
            ({"ScanningSequence": "GR"}, "gradient echo (TE 102 ms, TR 3800 ms)"),
            ({"ScanningSequence": ["EP", "SE"]}, "echo-planar (TE 102 ms, TR 3800 ms)"),
            ({"orientation": AXIAL}, "axial"),
            ({"orientation": CORONAL}, "coronal"),
            ({"ImageOrientationPatient": None}, "no image orientation in the headers"),
            ({"PixelSpacing": None}, "no image position or no pixel spacing in the headers"),
            ({"spacing": (0.3, 0.3)}, "shows only 120 mm along the body: too little for a lumbar spine"),
            ({"spacing": (2.0, 2.0)}, "pixels of 2.0 mm are too coarse to grade discs"),
            ({"step_mm": 10.0}, "slices 10 mm apart are too far apart: a localizer"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
            ({"ImageType": ["DERIVED", "PRIMARY", "MIP"]}, "intensity projection"),
            ({"ImageType": ["DERIVED", "PRIMARY", "M", "SUB"]}, "subtraction image"),
            ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "made from other images (image type SECONDARY)"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "phase image"),
            ({"ImageType": ["DERIVED", "PRIMARY", "FAT"]}, "fat image"),
            ({"Modality": "CT"}, "not MR but CT"),
            ({"Modality": "SECRET NAME"}, "not MR"),
            ({"SOPClassUID": SecondaryCaptureImageStorage}, "not an MR image object"),
            ({"Rows": None}, "no image in it"),
            ({"BodyPartExamined": "BRAIN"}, "the header says brain, not lumbar spine"),
            ({"SeriesDescription": "t2_tse_sag_HWS"}, "the header says neck, not lumbar spine"),
            ({"StudyDescription": "MRI PROSTATE W/O"}, "the header says pelvis, not lumbar spine"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_each_kind_of_unsuitable_series_has_its_sentence(self, changes: dict[str, Any], reason: str) -> None:
        choice = choose(t2(**changes))
        assert [item.reason for item in choice.rejected] == [reason]
        assert choice.reason == f"No sagittal T2-weighted series of the lumbar spine: {reason}."
        assert choice.frames == ()

    @pytest.mark.parametrize(
        "changes",
        [
            {"EchoTime": "80", "RepetitionTime": "2500"},
            {"EchoTime": "124", "RepetitionTime": "1000", "MRAcquisitionType": "3D", "step_mm": 1.0},
            {"InversionTime": "0"},
            {"ImageType": ["DERIVED", "PRIMARY", "M"], "LossyImageCompression": "01"},
            {"ImageType": None},
            {"BodyPartExamined": "TSPINE"},
            {"BodyPartExamined": "BRAIN", "SeriesDescription": "T2 SAG L-SPINE"},
            {"SeriesDescription": "T2 SAG BACKBONE"},
            {"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)},
            {"orientation": (-0.3420, 0.9397, 0.0, 0.0, 0.0, -1.0)},
        ],
        ids=str,
    )
    def test_variants_of_a_sagittal_t2_series_are_taken(self, changes: dict[str, Any]) -> None:
        assert taken(t2(**changes)) == uid("study", "T2")

    def test_without_times_the_name_decides_and_a_note_says_so(self) -> None:
        choice = choose(t2(EchoTime=None, RepetitionTime=None, SeriesDescription="Sag T2 FSE"))
        assert choice.reason is None
        assert "by its name only" in choice.notes[0]

    def test_without_times_and_without_a_telling_name_nothing_is_guessed(self) -> None:
        assert choose(t2(EchoTime=None, SeriesDescription="Series 4")).reason is not None

    def test_a_thoracic_label_is_told_but_refuses_nothing(self) -> None:
        assert "thoracic" in choose(t2(BodyPartExamined="TSPINE")).notes[0]

    def test_headers_that_disagree_about_the_body_part_are_told(self) -> None:
        assert "another body part" in choose(t2(BodyPartExamined="KNEE", ProtocolName="LWS")).notes[0]

    def test_a_brain_with_the_wrong_contrast_is_first_of_all_a_brain(self) -> None:
        choice = choose(t2(BodyPartExamined="BRAIN", **T1_TIMES))
        assert choice.rejected[0].reason == (
            "the header says brain, not lumbar spine; T1-weighted (TE 11 ms, TR 560 ms)"
        )


class TestMixedSeries:
    def test_a_three_plane_localizer_is_named_with_its_counts(self) -> None:
        localizer = [
            image
            for index, plane in enumerate((SAGITTAL, CORONAL, AXIAL))
            for image in mr_series(3, orientation=plane, series="scout", study=f"part{index}")
        ]
        for image in localizer:
            image.SeriesInstanceUID = uid("study", "scout")
        choice = choose(localizer)
        assert reason_for(choice, "scout") == "localizer or mixed planes (3 sagittal, 3 coronal, 3 axial)"

    def test_a_stray_image_of_another_plane_is_left_out_with_a_note(self) -> None:
        series = [*t2(), *t2(count=1, orientation=CORONAL, study="stray")]
        series[-1].SeriesInstanceUID = series[0].SeriesInstanceUID
        choice = choose(series)
        assert len(choice.frames) == 15
        assert choice.notes == ("1 image(s) of another orientation in the series were left out.",)

    def test_a_stray_localizer_image_does_not_spoil_its_series(self) -> None:
        series = [*t2(count=1, study="stray", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), *t2()]
        series[0].SeriesInstanceUID = series[-1].SeriesInstanceUID
        choice = choose(series)
        assert len(choice.frames) == 15
        assert reason_for(choice, "T2") == "localizer"

    def test_a_stray_image_of_another_matrix_does_not_spoil_its_series(self) -> None:
        stray = t2(count=1, study="stray", pixels=np.zeros((256, 256), np.uint16))
        stray[0].SeriesInstanceUID = uid("study", "T2")
        choice = choose([*stray, *t2()])
        assert len(choice.frames) == 15
        assert reason_for(choice, "T2") == "256 x 256 pixels: only 1 slice(s); a fuller series was taken"

    def test_echoes_that_share_a_series_are_told_apart(self) -> None:
        echoes = [*t2(EchoTime="12"), *t2(EchoTime="96")]
        choice = choose(echoes)
        assert {frame.echo_time_ms for frame in choice.frames} == {96.0}
        assert reason_for(choice, "T2") == "echo time 12 ms: proton-density-weighted (TE 12 ms, TR 3800 ms)"

    def test_of_a_dixon_series_the_in_phase_image_is_taken(self) -> None:
        dixon = [
            image
            for component in ("FAT", "WATER", "IN_PHASE", "OPP_PHASE")
            for image in t2(ImageType=["DERIVED", "PRIMARY", "DIXON", component])
        ]
        choice = choose(dixon)
        assert {frame.image_type[3] for frame in choice.frames} == {"IN_PHASE"}
        assert [item.reason.split(":")[0] for item in choice.rejected] == [
            "fat image",
            "water images",
            "opposed-phase image",
        ]

    def test_multi_frame_objects_are_judged_by_their_functional_groups(self) -> None:
        assert choose([enhanced(t2())]).reason is None
        choice = choose([enhanced(t2(**T1_TIMES))])
        assert choice.rejected[0].reason == "T1-weighted (TE 11 ms, TR 560 ms)"
        assert choose([enhanced(t2())]).frames[3].number == 4


class TestSeveralSeries:
    def test_a_whole_lumbar_study_gives_the_t2_and_a_reason_for_each_other_series(self) -> None:
        study = [
            *t2(),
            *mr_series(series="T1", **T1_TIMES),
            *mr_series(series="axial", orientation=AXIAL),
            *mr_series(1, series="report", Modality="SR"),
        ]
        choice = choose(study)
        assert choice.series_instance_uid == uid("study", "T2")
        assert reason_for(choice, "T1") == "T1-weighted (TE 11 ms, TR 560 ms)"
        assert reason_for(choice, "axial") == "axial"
        assert reason_for(choice, "report") == "not MR but SR"

    @pytest.mark.parametrize(
        ("better", "worse", "reason"),
        [
            ({}, {"ScanOptions": "FS"}, "a series without fat suppression was taken"),
            ({}, {"SeriesDescription": "T2 SAG FS"}, "a series without fat suppression was taken"),
            ({}, {"ImageType": ["DERIVED", "PRIMARY", "MPR"]}, "derived images; an original series was taken"),
            ({}, {"BodyPartExamined": "TSPINE"}, "the header says thoracic spine; another series was taken"),
            ({}, {"start": (0, 0, 250)}, "shows a higher part of the spine than the series taken"),
            ({}, {"count": 3}, "only 3 slice(s); a fuller series was taken"),
            ({}, {"spacing": (0.5, 0.8)}, "shows 200 mm along the body; a larger field was taken"),
            ({}, {"spacing": (1.4, 1.4)}, "coarser pixels (1.40 mm) than the series taken (0.80 mm)"),
            ({"BodyPartExamined": "LSPINE"}, {}, "the header does not name the lumbar spine"),
            ({}, {"count": 11}, "fewer slices (11) than the series taken (15)"),
            ({"SeriesNumber": 7}, {"SeriesNumber": 3}, "like the series taken, but acquired before it"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_the_better_of_two_is_taken_whatever_comes_first(
        self, better: dict[str, Any], worse: dict[str, Any], reason: str
    ) -> None:
        good, poor = t2(**better), mr_series(**{"series": "other", **worse})
        assert taken(good, poor) == taken(poor, good) == uid("study", "T2")
        assert reason in reason_for(choose([*good, *poor]), "other")

    def test_fat_suppressed_alone_is_taken_with_a_note(self) -> None:
        choice = choose(t2(ScanOptions="FS"))
        assert choice.reason is None
        assert "fat-suppressed" in choice.notes[0]

    def test_every_series_is_either_taken_or_has_a_reason(self) -> None:
        study = [
            *t2(),
            *mr_series(series="b", **T1_TIMES),
            *mr_series(series="c"),
            *mr_series(series="d", Modality="US"),
        ]
        choice = choose(study)
        named = {item.series_instance_uid for item in choice.rejected} | {choice.series_instance_uid}
        assert named == {image.SeriesInstanceUID for image in study}

    def test_an_empty_study(self) -> None:
        assert choose([]).reason == "There are no images in the study."


HOSTILE = [
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "Rows",
    "ImageType",
    "SeriesDescription",
    "Modality",
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "ScanningSequence",
    "SpecificCharacterSet",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "AnatomicRegionSequence",
]


class TestHostileHeaders:
    @settings(max_examples=100, deadline=None)
    @given(keyword=st.sampled_from(HOSTILE), garbage=st.binary(max_size=40), vr=st.sampled_from(["same", "UN", "LT"]))
    def test_no_bytes_in_any_header_crash_the_choice(self, keyword: str, garbage: bytes, vr: str) -> None:
        series = t2(count=3)
        for image in series:
            poison(image, keyword, garbage, vr)
        choice = choose(series)
        assert (choice.reason is None) == bool(choice.frames)
        assert all(item.reason for item in choice.rejected)

    @pytest.mark.parametrize("number", ["nan", "inf", "1e400", "-", "102,5", ""])
    def test_numbers_that_are_none_count_as_missing(self, number: str) -> None:
        series = t2(count=8)
        for image in series:
            poison(image, "EchoTime", number.encode(), "same")
        assert choose(series).rejected[0].reason.startswith("of unknown weighting")

    def test_header_text_never_reaches_a_reason(self) -> None:
        secret = "DOE JANE"
        series = t2(SeriesDescription=secret, PatientName=secret, ImageType=["ORIGINAL", "PRIMARY", secret], **T1_TIMES)
        choice = choose([*series, *mr_series(series="other", Modality=secret)])
        told = f"{choice.reason} {choice.why} {choice.notes} {[item.reason for item in choice.rejected]}"
        assert "DOE" not in told

    def test_an_object_without_anything(self) -> None:
        assert choose([Dataset()]).rejected[0].reason == "not MR"

    def test_a_multi_frame_object_without_frames(self) -> None:
        empty = enhanced(t2(count=2))
        assert empty.SOPClassUID == EnhancedMRImageStorage
        del empty.PerFrameFunctionalGroupsSequence
        assert choose([empty]).reason is not None
