"""A graded lumbar study made up for tests: source MR instances and the Report that grading them might give.

The anatomy is a drawing (bodies, discs and a bright canal on arcs) whose every position follows from the
numbers at the head of this file, so that expected coordinates can be worked out by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from itertools import pairwise

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from inference.anatomy import Canal, Disc, DiscLevel, Spine, Vertebra, VertebralBody
from inference.grades import Basis, Doubt, Finding, Grade
from inference.report import DiscGrading, EvidenceMap, Method, ModelIdentity, RejectedSeries, Report, Segments
from inference.volume import SagittalVolume, SliceSource
from sr_templates.render import Run

SLICES, ROWS, COLUMNS = 15, 256, 224
SPACING_MM = (4.0, 1.2, 1.2)
DISC_STEP_MM = 37.0
DISC_DEPTH_MM, DISC_HEIGHT_MM = 34.0, 9.0
LEVELS = tuple(DiscLevel)[3:]

STUDY_UID = "2.25.1001"
SERIES_UID = "2.25.1002"
FRAME_OF_REFERENCE_UID = "2.25.1003"
MULTIFRAME_SOP_UID = "2.25.1004"

MODEL = ModelIdentity(name="spinenode-spider", version="0.1.0", sha256="5a" * 32)
RUN = Run(
    study_digest="d" * 64,
    created_at=datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC),
    software_version="0.1.0",
    station_name="GRADER1",
    institution_name="St. Elsewhere",
)


class Layout(Enum):
    """How the source images lie in the patient."""

    STRAIGHT = "straight"
    """Rows run to the feet, columns to the back."""
    OBLIQUE = "oblique"
    """As straight, turned by 12 degrees about the body axis and tilted by 7 degrees."""
    FLIPPED = "flipped"
    """Rows run to the head, columns to the front."""


@dataclass(frozen=True, kw_only=True)
class GradedStudy:
    report: Report
    source: tuple[Dataset, ...]


def graded_study(layout: Layout = Layout.STRAIGHT, *, multiframe: bool = False) -> GradedStudy:
    """Six discs, T12/L1 to L5/S1; the two lowest abnormal, with saliency."""
    upright = _drawn_volume(_upright_affine(layout), multiframe)
    centers = disc_centers_voxel()
    spine_discs = [_disc(upright, level, center, index) for index, (level, center) in enumerate(centers.items())]
    volume = _flip(upright) if layout is Layout.FLIPPED else upright
    gradings = tuple(_grading(volume, disc, index) for index, disc in enumerate(spine_discs))
    report = Report(
        study_instance_uid=STUDY_UID,
        volume=volume,
        spine=Spine(bodies=_bodies(upright), discs=tuple(spine_discs), doubts=("The sacrum is only partly in view.",)),
        discs=gradings,
        segments=_segments(volume, layout),
        quality=("Slice gap of 8.0 mm between slices 9 and 10.",),
        rejected=(RejectedSeries(series_instance_uid="2.25.1009", reason="T1-weighted (TE 11 ms, TR 560 ms)"),),
        model=MODEL,
        timing_s={"total": 1.0},
        measurements={"lumbar_lordosis_deg": 47.3},
    )
    return GradedStudy(report=report, source=source_instances(volume, multiframe=multiframe))


def _segments(volume: SagittalVolume, layout: Layout) -> Segments:
    """Discs, L1 to L5 and the canal as they are drawn, on the five slices about each disc's (the body's) own."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS].astype(np.float64)
    centers = list(disc_centers_voxel().values())
    labels = np.zeros(volume.voxels.shape, np.uint8)
    for number, (middle, row, column) in enumerate(centers, start=1):
        labels[middle - 2 : middle + 3, _ellipse(rows - row, columns - column)] = number
    for number, (upper, lower) in enumerate(pairwise(centers), start=len(centers) + 1):
        row, column = (upper[1] + lower[1]) / 2, (upper[2] + lower[2]) / 2
        labels[5:10, (abs(rows - row) <= 11) & (abs(columns - column) <= 14)] = number
    center_columns = np.interp(rows[:, 0], [c[1] for c in centers], [c[2] for c in centers])
    labels[6:9, abs(columns - center_columns[:, None] - 22.0) < 5.0] = 2 * len(centers)
    if layout is Layout.FLIPPED:
        labels = np.ascontiguousarray(labels[:, ::-1, ::-1])
    return Segments(labels=labels, structures=(*LEVELS, *tuple(Vertebra)[4:9], Canal.SPINAL_CANAL))


def _bodies(upright: SagittalVolume) -> tuple[VertebralBody, ...]:
    """L1 to L5: 28 x 26.4 mm rectangles midway between the discs, on slice 8 (counted from 0: 7)."""
    rows = [row for _, row, _ in disc_centers_voxel().values()]
    columns = [column for _, _, column in disc_centers_voxel().values()]
    bodies = []
    for index, level in enumerate(tuple(Vertebra)[4:9]):
        row, column = (rows[index] + rows[index + 1]) / 2, (columns[index] + columns[index + 1]) / 2
        corners = [
            (7, row - 11, column - 14),
            (7, row - 11, column + 14),
            (7, row + 11, column + 14),
            (7, row + 11, column - 14),
        ]
        bodies.append(VertebralBody(level=level, corners_lps_mm=upright.to_patient(np.array(corners, np.float64))))
    return tuple(bodies)


def disc_centers_voxel() -> Mapping[DiscLevel, tuple[int, float, float]]:
    """(slice, row, column) of each disc in the upright frame: a gentle lordosis, a scoliosis of two slices."""
    centers = {}
    for index, level in enumerate(LEVELS):
        bend = 14.0 * np.sin(np.pi * index / 5.0)
        centers[level] = (6 + index // 3, 30.0 + index * DISC_STEP_MM / SPACING_MM[1], 110.0 - bend)
    return centers


def source_instances(volume: SagittalVolume, *, multiframe: bool = False) -> tuple[Dataset, ...]:
    """MR instances whose pixels are ``volume``: one per slice, or one Enhanced MR with a frame per slice."""
    if multiframe:
        instance = _patient_and_study()
        instance.SOPClassUID, instance.SOPInstanceUID = EnhancedMRImageStorage, MULTIFRAME_SOP_UID
        instance.NumberOfFrames = volume.voxels.shape[0]
        return (instance,)
    return tuple(_single_frame(volume, index) for index in range(volume.voxels.shape[0]))


def with_grades(study: GradedStudy, level: DiscLevel, grades: Mapping[Finding, Grade]) -> GradedStudy:
    """The same study with other grades at one level."""
    discs = tuple(replace(disc, grades=grades) if disc.level is level else disc for disc in study.report.discs)
    return replace(study, report=replace(study.report, discs=discs))


def with_volume(study: GradedStudy, voxels: np.ndarray) -> GradedStudy:
    return replace(study, report=replace(study.report, volume=replace(study.report.volume, voxels=voxels)))


def _upright_affine(layout: Layout) -> np.ndarray:
    directions = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # columns: slice, row, column in LPS
    if layout is Layout.OBLIQUE:
        directions = _turned(np.deg2rad(12.0), 2) @ _turned(np.deg2rad(7.0), 0) @ directions
    affine = np.eye(4)
    affine[:3, :3] = directions * SPACING_MM
    affine[:3, 3] = -affine[:3, :3] @ (np.array([SLICES, ROWS, COLUMNS]) / 2.0)
    return affine


def _turned(angle: float, axis: int) -> np.ndarray:
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def _drawn_volume(affine: np.ndarray, multiframe: bool) -> SagittalVolume:
    rows, columns = np.mgrid[:ROWS, :COLUMNS].astype(np.float64)
    picture = 60.0 + 20.0 * np.sin(rows / 9.0) * np.cos(columns / 7.0)
    centers = list(disc_centers_voxel().values())
    for _, row, column in centers:
        body = (abs(rows - row - 15.4) < 11.0) & (abs(columns - column) < 14.0)
        picture[body] = 150.0
    for _, row, column in centers:
        inside = _ellipse(rows - row, columns - column)
        picture[inside] = 220.0
    center_columns = np.interp(rows[:, 0], [c[1] for c in centers], [c[2] for c in centers])
    picture[abs(columns - center_columns[:, None] - 22.0) < 5.0] = 255.0
    brightness = 1.0 - 0.06 * abs(np.arange(SLICES) - 7.0)
    sources = tuple(
        SliceSource(sop_instance_uid=MULTIFRAME_SOP_UID, frame=index + 1)
        if multiframe
        else SliceSource(sop_instance_uid=f"{SERIES_UID}.{index + 1}", frame=1)
        for index in range(SLICES)
    )
    return SagittalVolume(
        voxels=(brightness[:, None, None] * picture).astype(np.float32),
        voxel_to_patient=affine,
        sources=sources,
        series_instance_uid=SERIES_UID,
        series_description="T2 TSE SAG",
    )


def _ellipse(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return (rows / (DISC_HEIGHT_MM / 2 / 1.2)) ** 2 + (columns / (DISC_DEPTH_MM / 2 / 1.2)) ** 2 <= 1.0


def _flip(volume: SagittalVolume) -> SagittalVolume:
    affine = volume.voxel_to_patient.copy()
    affine[:3, 3] += affine[:3, 1] * (ROWS - 1) + affine[:3, 2] * (COLUMNS - 1)
    affine[:3, 1:3] *= -1
    return replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, ::-1, ::-1]), voxel_to_patient=affine)


def _disc(upright: SagittalVolume, level: DiscLevel, center: tuple[int, float, float], index: int) -> Disc:
    angles = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    half_height, half_depth = DISC_HEIGHT_MM / 2 / 1.2, DISC_DEPTH_MM / 2 / 1.2
    slice_index, row, column = center
    ring = np.stack(
        [np.full(24, slice_index), row + half_height * np.sin(angles), column + half_depth * np.cos(angles)], axis=1
    )
    ends = np.array([[slice_index, row, column - half_depth], [slice_index, row, column + half_depth]])
    ends_lps_mm = upright.to_patient(ends)
    return Disc(
        level=level,
        level_confidence=0.99 - 0.01 * index,
        slice_index=slice_index,
        outline_lps_mm=upright.to_patient(ring),
        center_lps_mm=upright.to_patient(np.array(center)),
        anterior_lps_mm=ends_lps_mm[0],
        posterior_lps_mm=ends_lps_mm[1],
        canal_lps_mm=None,
    )


def binary(value: int, sure: float) -> Grade:
    return Grade(value=value, probabilities={value: sure, 1 - value: 1 - sure}, basis=Basis.LEARNED)


NARROWING_CRITERION = "none or narrowed: learned; how much: disc height index (Griffith 2007)"


def pfirrmann(value: int) -> Grade:
    chances = {grade: 0.7 if grade == value else 0.075 for grade in range(1, 6)}
    return Grade(value=value, probabilities=chances, basis=Basis.LEARNED)


def narrowing(value: int, sure: float = 0.8, doubt: Doubt | None = None) -> Grade:
    chances = {step: sure if step == value else (1 - sure) / 3 for step in range(1, 5)}
    return Grade(value=value, probabilities=chances, basis=Basis.MEASURED, criterion=NARROWING_CRITERION, doubt=doubt)


def _grading(volume: SagittalVolume, disc: Disc, index: int) -> DiscGrading:
    abnormal = index >= 4
    grades = {finding: binary(int(abnormal and n % 3 == 0), 0.8) for n, finding in enumerate(tuple(Finding)[1:])}
    grades[Finding.PFIRRMANN] = pfirrmann((1, 2, 2, 2, 4, 5)[index])
    grades[Finding.DISC_NARROWING] = narrowing(3 if abnormal else 1)
    grades[Finding.CENTRAL_CANAL_STENOSIS] = Grade(
        value=int(index == 5),
        probabilities={},
        basis=Basis.MEASURED,
        criterion="midsagittal AP diameter of the thecal sac at disc level < 10 mm (Steurer 2011)",
    )
    if index == 0:
        del grades[Finding.SPONDYLOLISTHESIS]
    return DiscGrading(
        level=disc.level,
        level_confidence=disc.level_confidence,
        slice_index=disc.slice_index,
        center_lps_mm=disc.center_lps_mm,
        outline_lps_mm=disc.outline_lps_mm,
        grades={finding: grades[finding] for finding in Finding if finding in grades},
        measurements={
            "disc_height_mm": 9.0 - index,
            "disc_height_anterior_mm": 9.5 - index,
            "disc_depth_mm": 34.0,
            "disc_height_index": (9.0 - index) / 34.0,
            "slip_mm": 0.4 * index,
            "slip_percent": 1.2 * index,
            "meyerding_grade": 0.0,
            "segmental_lordosis_deg": 5.0 + 4 * index,
            "canal_ap_mm": 14.0 - index,
            "disc_to_csf_signal_ratio": 0.6 - 0.1 * index,
            "upper_vertebra_to_csf_signal_ratio": 0.45,
            "lower_vertebra_to_csf_signal_ratio": 0.4,
        },
        evidence=tuple(_evidence(volume, disc, finding) for finding in (Finding.PFIRRMANN, Finding.DISC_NARROWING)),
    )


def _evidence(volume: SagittalVolume, disc: Disc, finding: Finding) -> EvidenceMap:
    """A hot spot in the posterior half of the disc, 9 slices thick, strongest on the disc's mid-slice."""
    along_mm = 1.0 if finding is Finding.DISC_NARROWING else 0.5
    hot_lps_mm = disc.center_lps_mm + along_mm * (disc.posterior_lps_mm - disc.center_lps_mm) * 0.8
    first = np.round(volume.to_voxel(hot_lps_mm)).astype(int) - (4, 12, 16)
    cells = np.moveaxis(np.mgrid[:9, :25, :33], 0, -1) + first
    away = volume.to_voxel(hot_lps_mm) - cells  # in voxels, so that an oblique volume has the same spot
    squared = (away[..., 0] / 2.0) ** 2 + (away[..., 1] / 4.0) ** 2 + (away[..., 2] / 5.0) ** 2
    return EvidenceMap(
        finding=finding,
        method=Method.GRADIENT_SALIENCY,
        first_voxel=(int(first[0]), int(first[1]), int(first[2])),
        values=np.exp(-squared / 2).astype(np.float32),
    )


def _patient_and_study() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Müller^Jörg"
    dataset.PatientID = "TEST-1"
    dataset.PatientBirthDate = "19610412"
    dataset.PatientSex = "M"
    dataset.PatientAge = "064Y"
    dataset.StudyInstanceUID = STUDY_UID
    dataset.StudyDate, dataset.StudyTime = "20260313", "101500"
    dataset.StudyID, dataset.AccessionNumber = "7", "A-7"
    dataset.StudyDescription = "MR LWS"
    dataset.ReferringPhysicianName = "Weiß^Änne"
    dataset.SeriesInstanceUID = SERIES_UID
    dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE_UID
    dataset.Modality = "MR"
    return dataset


def _single_frame(volume: SagittalVolume, index: int) -> Dataset:
    dataset = _patient_and_study()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = volume.sources[index].sop_instance_uid
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.SeriesNumber, dataset.InstanceNumber = 3, index + 1
    dataset.SeriesDescription, dataset.BodyPartExamined = volume.series_description, "LSPINE"
    dataset.Manufacturer, dataset.PositionReferenceIndicator, dataset.PatientPosition = "Drawn", "", "HFS"
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "SK", ""
    dataset.MRAcquisitionType, dataset.EchoTrainLength = "2D", 16
    dataset.EchoTime, dataset.RepetitionTime = 100.0, 3500.0
    spacing_mm = volume.spacing_mm
    dataset.SliceThickness, dataset.PixelSpacing = spacing_mm[0], [round(s, 6) for s in spacing_mm[1:]]
    axes = volume.voxel_to_patient[:3, :3] / spacing_mm
    dataset.ImageOrientationPatient = [round(float(v), 6) for v in (*axes[:, 2], *axes[:, 1])]
    position = volume.to_patient(np.array([index, 0, 0]))
    dataset.ImagePositionPatient = [round(float(v), 4) for v in position]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = volume.voxels.shape[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = volume.voxels[index].clip(0, 4095).astype(np.uint16).tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def with_header(study: GradedStudy, change: Mapping[str, object], remove: Sequence[str] = ()) -> GradedStudy:
    """The same study whose source instances carry other header values."""
    for instance in study.source:
        for keyword, value in change.items():
            setattr(instance, keyword, value)
        for keyword in remove:
            if keyword in instance:
                delattr(instance, keyword)
    return study
