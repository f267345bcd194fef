"""A Report as the JSON contract ``spinenode.report/2`` (docs/report_json.md). Pure.

Rows and columns are 0-based with pixel centres at whole numbers, in the source image that is named beside them.
"""

from __future__ import annotations

from typing import Any

from inference.report import Declined, DiscGrading, ModelIdentity, RejectedSeries, Report
from inference.volume import FloatArray, SagittalVolume

SCHEMA = "spinenode.report/2"


def of_report(report: Report, given_input: str) -> dict[str, Any]:
    """A graded study; ``given_input`` is the folder as the caller named it."""
    return {
        "schema": SCHEMA,
        "input": given_input,
        "status": "graded",
        "reason": None,
        "series": {
            "series_instance_uid": report.volume.series_instance_uid,
            "description": report.volume.series_description,
        },
        "rejected_series": _rejected(report.rejected),
        "model": _model(report.model),
        "quality": list(report.quality),
        "discs": [_disc(disc, report.volume) for disc in report.discs],
        "vertebrae": [
            {
                "level": None if body.level in report.withheld else body.level.value,
                **_source(report.volume, body.center_lps_mm),
                "center": _point(report.volume, body.center_lps_mm),
                "corners": _polygon(report.volume, body.corners_lps_mm),
            }
            for body in report.spine.bodies
        ],
        "measurements": {name: round(value, 3) for name, value in report.measurements.items()},
        "timing_s": {name: round(seconds, 4) for name, seconds in report.timing_s.items()},
    }


def of_declined(declined: Declined, given_input: str) -> dict[str, Any]:
    """A study that was not graded, with the reason."""
    return {
        **_empty(given_input),
        "status": "declined",
        "reason": declined.reason,
        "rejected_series": _rejected(declined.rejected),
        "model": _model(declined.model),
    }


def of_failure(message: str, given_input: str) -> dict[str, Any]:
    """A folder that could not be dealt with by a fault (the command then exits with 1)."""
    return {**_empty(given_input), "status": "failed", "reason": message}


def _empty(given_input: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "input": given_input,
        "status": "",
        "reason": None,
        "series": None,
        "rejected_series": [],
        "model": None,
        "quality": [],
        "discs": [],
        "vertebrae": [],
        "measurements": {},
        "timing_s": {},
    }


def _disc(disc: DiscGrading, volume: SagittalVolume) -> dict[str, Any]:
    source = volume.sources[disc.slice_index]
    return {
        "level": disc.level.value if disc.withheld_place is None else None,
        "level_confidence": round(disc.level_confidence, 4),
        **({"place_from_below": disc.withheld_place} if disc.withheld_place is not None else {}),
        "sop_instance_uid": source.sop_instance_uid,
        "frame": source.frame,
        "center": _point(volume, disc.center_lps_mm),
        "center_lps_mm": [round(float(value), 3) for value in disc.center_lps_mm],
        "outline": _polygon(volume, disc.outline_lps_mm),
        "slices_used": [
            {"sop_instance_uid": volume.sources[index].sop_instance_uid, "frame": volume.sources[index].frame}
            for index in disc.slices_used
        ],
        "grades": {
            finding.value: {
                **_grade(grade),
                **({"modic_type": _grade(disc.modic_types[finding])} if finding in disc.modic_types else {}),
            }
            for finding, grade in disc.grades.items()
        },
        "measurements": {name: round(value, 3) for name, value in disc.measurements.items()},
    }


def _grade(grade: Any) -> dict[str, Any]:
    """An ``inference.grades.Grade``."""
    return {
        "value": grade.value,
        "probabilities": {str(value): round(p, 4) for value, p in grade.probabilities.items()},
        "basis": grade.basis.value,
        **({"criterion": grade.criterion} if grade.criterion else {}),
        "uncertain": grade.doubt is not None,
        **({"doubt": grade.doubt.value} if grade.doubt else {}),
    }


def _source(volume: SagittalVolume, position_lps_mm: FloatArray) -> dict[str, Any]:
    index = round(float(volume.to_voxel(position_lps_mm)[0]))
    source = volume.sources[min(max(index, 0), len(volume.sources) - 1)]
    return {"sop_instance_uid": source.sop_instance_uid, "frame": source.frame}


def _point(volume: SagittalVolume, position_lps_mm: FloatArray) -> dict[str, float]:
    _, row, column = volume.to_voxel(position_lps_mm)
    return {"row": round(float(row), 2), "column": round(float(column), 2)}


def _polygon(volume: SagittalVolume, points_lps_mm: FloatArray) -> list[list[float]]:
    return [[round(float(row), 2), round(float(column), 2)] for _, row, column in volume.to_voxel(points_lps_mm)]


def _rejected(rejected: tuple[RejectedSeries, ...]) -> list[dict[str, str]]:
    return [{"series_instance_uid": item.series_instance_uid, "reason": item.reason} for item in rejected]


def _model(model: ModelIdentity) -> dict[str, str]:
    return {"name": model.name, "version": model.version, "sha256": model.sha256}
