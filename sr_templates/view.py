"""The report's volume as it is shown: upright, in square pixels, with places and evidence in picture pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inference.grades import Finding, is_abnormal
from inference.report import DiscGrading, EvidenceMap, Report
from inference.volume import FloatArray, SagittalVolume, upright
from sr_templates import overlay
from sr_templates.phrases import Phrases
from sr_templates.tone import spine_tone

DOUBTFUL_LEVEL = 0.5
"""Below this confidence a level is shown with a question mark."""
SHOWN_FROM = 0.25
"""A slice shows a disc's evidence where the map reaches this share of its maximum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Head up, front to the left; sources that lie so already are shown as they are."""

    volume: SagittalVolume
    """Upright; slices in the source's order."""
    heat: NDArray[np.float32]
    """(slices, rows, columns) of ``volume``: the strongest evidence of the abnormal findings of all discs, 0-1."""
    tone: overlay.Tone
    pixels_per_mm: float
    width: int
    height: int

    def picture(self, slice_index: int, *, heat: bool) -> overlay.Pixels:
        """One slice in grey, with or without its evidence."""
        picture = overlay.grey_picture(self.volume.voxels[slice_index], self.tone, self.width, self.height)
        return overlay.with_heat(picture, self.heat[slice_index]) if heat else picture

    def part(self, slice_index: int, left: int, top: int, size: tuple[int, int]) -> overlay.Pixels:
        """(width, height) pixels of ``picture`` with its evidence from (left, top); black beyond the image."""
        _, row_mm, column_mm = self.volume.spacing_mm
        steps = (1.0 / (column_mm * self.pixels_per_mm), 1.0 / (row_mm * self.pixels_per_mm))
        picture = overlay.cutting(self.volume.voxels[slice_index], self.tone, (left, top), steps, size)
        return overlay.with_heat(picture, overlay.heat_cutting(self.heat[slice_index], (left, top), steps, size))

    def pixels(self, position_lps_mm: FloatArray) -> FloatArray:
        """(..., 3) LPS mm -> (..., 2) x, y in picture pixels, from the picture's top left corner."""
        voxel = self.volume.to_voxel(position_lps_mm)
        spacing_mm = self.volume.spacing_mm
        x = (voxel[..., 2] + 0.5) * spacing_mm[2] * self.pixels_per_mm
        y = (voxel[..., 1] + 0.5) * spacing_mm[1] * self.pixels_per_mm
        return np.stack([x, y], axis=-1)

    def position_lps_mm(self, slice_index: int, x: float, y: float) -> FloatArray:
        """The inverse of ``pixels``: (3,) LPS mm of a place x, y in picture pixels on a slice."""
        _, row_mm, column_mm = self.volume.spacing_mm
        row = y / (row_mm * self.pixels_per_mm) - 0.5
        column = x / (column_mm * self.pixels_per_mm) - 0.5
        return self.volume.to_patient(np.array([slice_index, row, column]))


def make_view(report: Report, max_width: int, max_height: int) -> View:
    """The largest view of the report's volume that fits into ``max_width`` x ``max_height`` pixels."""
    volume = upright(report.volume)
    _, rows, columns = volume.voxels.shape
    _, row_mm, column_mm = volume.spacing_mm
    scale = min(max_width / (columns * column_mm), max_height / (rows * row_mm))
    return View(
        volume=volume,
        heat=heat_of(report.volume, [evidence for disc in report.discs for evidence in explained(disc)]),
        tone=spine_tone(report, volume),
        pixels_per_mm=scale,
        width=max(1, round(columns * column_mm * scale)),
        height=max(1, round(rows * row_mm * scale)),
    )


def is_level_doubtful(disc: DiscGrading) -> bool:
    """Whether a reader must count the levels before using this disc's gradings."""
    return disc.level_confidence < DOUBTFUL_LEVEL


def has_marrow_change(disc: DiscGrading) -> bool:
    """Whether one is reported on either side of the disc."""
    sides = (Finding.UPPER_MARROW_CHANGE, Finding.LOWER_MARROW_CHANGE)
    return any(side in disc.grades and is_abnormal(side, disc.grades[side]) for side in sides)


def shown_level(disc: DiscGrading, words: Phrases) -> str:
    """The level's name, questioned where it is doubtful; the disc's place where the level is withheld."""
    if disc.withheld_place is not None:
        return words.pages["withheld"].format(place=disc.withheld_place)
    return f"{disc.name}?" if is_level_doubtful(disc) else disc.name


def explained(disc: DiscGrading) -> tuple[EvidenceMap, ...]:
    """The maps that are shown: those of the disc's abnormal findings."""
    return tuple(
        evidence
        for evidence in disc.evidence
        if evidence.finding in disc.grades and is_abnormal(evidence.finding, disc.grades[evidence.finding])
    )


def explained_on(disc: DiscGrading, slice_index: int) -> tuple[Finding, ...]:
    """Findings whose evidence reaches ``SHOWN_FROM`` on this slice."""
    return tuple(
        evidence.finding
        for evidence in explained(disc)
        if 0 <= slice_index - evidence.first_voxel[0] < evidence.values.shape[0]
        and float(evidence.values[slice_index - evidence.first_voxel[0]].max(initial=0.0)) >= SHOWN_FROM
    )


def heat_of(volume: SagittalVolume, maps: Sequence[EvidenceMap]) -> NDArray[np.float32]:
    """(slices, rows, columns) of the upright volume: the strongest of the maps; what lies outside is left out."""
    heat = np.zeros(volume.voxels.shape, np.float32)
    for evidence in maps:
        starts = np.array(evidence.first_voxel)
        low = np.maximum(starts, 0)
        high = np.minimum(starts + evidence.values.shape, heat.shape)
        if np.any(high <= low):
            continue
        here = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        there = tuple(slice(int(a), int(b)) for a, b in zip(low - starts, high - starts, strict=True))
        np.maximum(heat[here], evidence.values[there], out=heat[here])
    return upright(replace(volume, voxels=heat)).voxels
