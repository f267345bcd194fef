"""The evidence as numbers: a Parametric Map (PS3.3 A.75) for each abnormal finding, on the source slices."""

from __future__ import annotations

import numpy as np
from highdicom import VOILUTTransformation, pm
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ParametricMapStorage

from inference.grades import TITLES, Finding
from inference.report import EvidenceMap, Method, Report
from sr_templates import codes, provenance, stand_ins
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.segmentation import CREATOR
from sr_templates.source_study import SourceStudy
from sr_templates.view import explained


def parametric_maps(report: Report, source: SourceStudy, run: Run) -> tuple[Rendered, ...]:
    """One object for each (finding, method) that has evidence at some abnormal disc, with a frame for every slice.

    Frames without evidence are written too: see ``_put_in_viewers_order``.
    Each is a series of its own under the same number: viewers (OHIF 3) show the first map of a series only.
    """
    by_finding: dict[tuple[Finding, Method], list[EvidenceMap]] = {}
    for disc in report.discs:
        for evidence in explained(disc):
            by_finding.setdefault((evidence.finding, evidence.method), []).append(evidence)
    rendered: list[Rendered] = []
    for (finding, method), maps in sorted(by_finding.items()):
        values = values_of(report, maps)
        if values.max(initial=0.0) > 0.0:
            rendered.append(_parametric_map(report, source, run, finding, method, values, len(rendered) + 1))
    return tuple(rendered)


def values_of(report: Report, maps: list[EvidenceMap]) -> NDArray[np.float32]:
    """(slices, rows, columns) of the report's volume: the stronger where the boxes of two discs meet."""
    values = np.zeros(report.volume.voxels.shape, np.float32)
    for evidence in maps:
        starts = np.array(evidence.first_voxel)
        low = np.maximum(starts, 0)
        high = np.minimum(starts + evidence.values.shape, values.shape)
        if np.all(high > low):
            here = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
            there = tuple(slice(int(a), int(b)) for a, b in zip(low - starts, high - starts, strict=True))
            np.maximum(values[here], evidence.values[there], out=values[here])
    return values


def _parametric_map(  # noqa: PLR0913, PLR0917 - what the map is of, and whose
    report: Report,
    source: SourceStudy,
    run: Run,
    finding: Finding,
    method: Method,
    values: NDArray[np.float32],
    index: int,
) -> Rendered:
    envelope = provenance.envelope(
        kind=OutputKind.PARAMETRIC_MAP,
        index=index,
        sop_class_uid=ParametricMapStorage,
        description=f"Evidence: {TITLES[finding]}",
        source=source,
        model=report.model,
        run=run,
    )
    concept = codes.EVIDENCE_METHOD[method]
    mapping = pm.RealWorldValueMapping(
        lut_label=finding.name[:16],
        lut_explanation=f"{TITLES[finding]}: {concept.meaning.lower()}"[:64],
        unit=codes.ZERO_TO_ONE,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept,
    )
    built = pm.ParametricMap(
        **stand_ins.for_highdicom(report, source, range(len(values)), values),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="EVIDENCE",
        content_description=f"Evidence of {TITLES[finding]}"[:64],
        content_creator_name=CREATOR,
        derived_pixel_contrast=pm.DerivedPixelContrastValues.NONE,
        **stand_ins.identity(envelope),
    )
    _put_in_viewers_order(built)
    envelope.SeriesInstanceUID = provenance.uid("map", envelope.SeriesInstanceUID, finding.value, method.value)
    envelope.Modality, envelope.BodyPartExamined = "OT", "LSPINE"
    title = f"Evidence of {TITLES[finding]}"
    return Rendered(kind=OutputKind.PARAMETRIC_MAP, title=title, dataset=provenance.dressed(built, envelope))


def _put_in_viewers_order(built: Dataset) -> None:
    """Frames by their position along the normal (row x column direction), ascending.

    The Standard leaves the order to the dimension indices. OHIF 3 asks neither for them nor for the positions: it
    lays frame n of a map over slice n of the source series, which it has sorted so; any other order would show the
    evidence on a wrong slice.
    """
    shared = built.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    along_row, along_column = np.array(shared, np.float64).reshape(2, 3)
    frames = list(built.PerFrameFunctionalGroupsSequence)
    normal = np.cross(along_row, along_column)
    along = [float(np.array(f.PlanePositionSequence[0].ImagePositionPatient, np.float64) @ normal) for f in frames]
    order = np.argsort(along)
    planes = np.frombuffer(built.FloatPixelData, np.float32).reshape(len(frames), -1)
    built.FloatPixelData = planes[order].tobytes()
    built.PerFrameFunctionalGroupsSequence = [frames[index] for index in order]
